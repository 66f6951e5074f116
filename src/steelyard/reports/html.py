"""The report as one HTML page that needs nothing else: no script, no request, no second file."""

import base64
import dataclasses
import html
import importlib.resources
from collections.abc import Sequence

from steelyard.numerics.statistics import LEAST_PAIRS_FOR_TEST
from steelyard.reports.model import Summary
from steelyard.reports.records import Record, label
from steelyard.reports.tables import arm_table, comparison_table, duration, provenance
from steelyard.reports.words import (
    LEAST_SEEDS_FOR_CLAIM,
    caveats,
    claim,
    evidence,
    headline,
    judge,
    number,
)

CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure of the page, drawn for light and for dark pages, and the same in words."""

    light: bytes
    dark: bytes
    alt: str
    caption: str


def report_html(records: Sequence[Record], summary: Summary, pictures: Sequence[Picture]) -> str:
    """Write the page: verdict, caveats, tables, figures, every run, how to repeat it, glossary.

    Every text is escaped. A content policy forbids the browser any request.
    """
    spec = summary.spec
    css = (
        importlib.resources.files("steelyard.reports")
        .joinpath("templates/report.css")
        .read_text("utf-8")
    )
    seeds = f"{len(summary.seeds)} seed{'' if len(summary.seeds) == 1 else 's'}"
    body = [
        element("h1", spec.title),
        element("p", f"Study {spec.study}, preset {summary.preset}, {seeds}.", "muted"),
        _verdict(summary),
        *(element("p", paragraph) for paragraph in spec.description),
        _section("What to keep in mind", _list(caveats(summary), "caveats")),
        _section("Results", _table("Means over seeds.", *arm_table(summary))),
        _section("Comparisons", _comparisons(summary)),
        _section("Figures", *(_figure(picture) for picture in pictures)),
        _section("Every run", _runs(records, summary)),
        _section("How to repeat it", _repeat(summary)),
        _section("What the words mean", _definitions(_glossary(summary))),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(spec.title)}</title>\n<style>\n{css}</style>\n</head>\n"
        "<body>\n<main>\n" + "\n".join(filter(None, body)) + "\n</main>\n</body>\n</html>\n"
    )


def element(tag: str, text: str, style: str = "") -> str:
    """Write an element that holds escaped text."""
    return _wrap(tag, html.escape(text), style)


def _wrap(tag: str, inner: str, style: str = "") -> str:
    """Write an element around markup that is already safe."""
    return f'<{tag} class="{style}">{inner}</{tag}>' if style else f"<{tag}>{inner}</{tag}>"


def _section(title: str, *blocks: str) -> str:
    """Write a section, or nothing where it would be empty."""
    if not any(blocks):
        return ""
    return _wrap("section", element("h2", title) + "\n" + "\n".join(blocks))


def _verdict(summary: Summary) -> str:
    """Write the headline box; its colour follows the verdict, and the words say it too."""
    statement, proof = headline(summary)
    first = summary.primary_comparisons[:1]
    style = f"verdict {judge(first[0])}" if first else "verdict"
    return _wrap("div", element("strong", statement) + element("p", proof), style)


def _comparisons(summary: Summary) -> str:
    """Write each comparison in words, then all of them as a table."""
    if not summary.primary_comparisons:
        return ""
    sentences = [f"{claim(c)} {evidence(c)}" for c in summary.primary_comparisons]
    table = _table(f"Differences in {summary.spec.primary.title}.", *comparison_table(summary))
    return _list(sentences, "caveats") + "\n" + table


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table; the first cell of a row is its header, verdicts are coloured."""
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    lines = []
    for row in rows:
        first = f'<th scope="row">{html.escape(row[0])}</th>'
        cells = (
            element("td", cell, f"{cell}-cell" if cell in ("better", "worse") else "")
            for cell in row[1:]
        )
        lines.append(_wrap("tr", first + "".join(cells)))
    return (
        f'<div class="scroll"><table>{element("caption", caption)}\n'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"
    )


def _figure(picture: Picture) -> str:
    """Embed a figure; the browser picks the version for its colour scheme."""
    light, dark = (base64.b64encode(data).decode() for data in (picture.light, picture.dark))
    return (
        "<figure><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="data:image/png;base64,{dark}">'
        f'<img alt="{html.escape(picture.alt)}" src="data:image/png;base64,{light}">'
        f"</picture>{element('figcaption', picture.caption)}</figure>"
    )


def _runs(records: Sequence[Record], summary: Summary) -> str:
    """Write a row a run, in the order of the arms, diverged ones included."""
    spec = summary.spec
    head = ["Run", "Seed", *(m.heading for m in spec.metrics), "Status", "Wall time", "Run id"]
    rows = [
        [
            arm.title,
            str(record.seed),
            *(number(record.metric(m.name), m.decimals) for m in spec.metrics),
            record.status,
            duration(record.seconds),
            record.run_id,
        ]
        for arm in summary.arms
        for record in sorted(records, key=lambda r: r.seed)
        if label(record, spec.primary_axes) == arm.label
    ]
    table = _table("One row a run.", head, rows)
    return _wrap("details", element("summary", f"All {len(rows)} runs, one row each") + table)


def _repeat(summary: Summary) -> str:
    """Write commands in full, then machine, seeds and versions."""
    commands = element("pre", "\n".join(summary.commands))
    return commands + _definitions([p for p in provenance(summary) if p[0] != "Command"])


def _glossary(summary: Summary) -> list[tuple[str, str]]:
    """Explain arms, metrics and statistics in the words of the spec."""
    spec = summary.spec
    return [
        *((arm.title, arm.description) for arm in spec.arms if arm.description),
        *((metric.heading, metric.description) for metric in spec.metrics if metric.description),
        (
            "95 % interval",
            "Percentile bootstrap of the mean over seeds. The seeds are the evidence; the start "
            "states of one seed share its policy and are averaged first.",
        ),
        ("IQM", "Interquartile mean: the mean of the middle half of the seeds."),
        (
            "Paired",
            "Both arms ran the same seeds and the difference is taken seed by seed, which removes "
            "what the two have in common.",
        ),
        (
            "P(better)",
            "Probability that a run of the first arm is better than a run of the second, "
            "over all pairs of runs; a tie counts half.",
        ),
        (
            "Test",
            "Exact two-sided sign-flip test of the paired differences, reported from "
            f"{LEAST_PAIRS_FOR_TEST} pairs on; fewer could never give p < 0.05.",
        ),
        (
            "Verdict",
            f"better or worse: at least {LEAST_SEEDS_FOR_CLAIM} seeds, an interval that leaves "
            "out 0 and, where there is a test, p < 0.05. unclear: no difference shown, which is "
            "not the same as none. preliminary: too few seeds for a claim.",
        ),
    ]


def _definitions(items: Sequence[tuple[str, str]]) -> str:
    """Write a definition list."""
    return _wrap("dl", "\n".join(element("dt", n) + element("dd", t) for n, t in items))


def _list(items: Sequence[str], style: str) -> str:
    """Write a bullet list, or nothing where it would be empty."""
    return _wrap("ul", "\n".join(element("li", item) for item in items), style) if items else ""
