"""The report as one HTML page that needs nothing else: no script, no request, no second file."""

import html
import importlib.resources
from collections.abc import Sequence

from steelyard.numerics.statistics import LEAST_PAIRS_FOR_TEST
from steelyard.reports.markup import (
    Picture,
    bullets,
    definitions,
    element,
    figure,
    section,
    table,
    wrap,
)
from steelyard.reports.model import Summary
from steelyard.reports.records import Record, label
from steelyard.reports.tables import (
    arm_table,
    comparison_tables,
    duration,
    panel_tables,
    provenance,
)
from steelyard.reports.tail_tables import (
    WORST,
    tail_arm_table,
    tail_notes,
    tail_sentences,
    tail_table,
)
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
_COLOURS = {"success": "better", "worse": "worse", "failing": "worse"}


def report_html(
    records: Sequence[Record],
    summary: Summary,
    pictures: Sequence[Picture],
    tail_pictures: Sequence[Picture] = (),
) -> str:
    """Write the page: verdict, caveats, tables, figures, every run, how to repeat it, glossary.

    Every text is escaped. A content policy forbids the browser any request.

    Args:
        records: The runs.
        summary: What follows from them.
        pictures: The figures about metrics.
        tail_pictures: The figures about errors per test item.
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
        section("What to keep in mind", bullets(caveats(summary), "caveats")),
        *_tails(summary, tail_pictures),
        section("Results", table("Means over seeds.", *arm_table(summary))),
        *(
            section(panel.title, table("Means over seeds.", *rest))
            for panel, rest in panel_tables(summary)
        ),
        section("Comparisons", _comparisons(summary)),
        section("Figures", *(figure(picture) for picture in pictures)),
        section("Every run", _runs(records, summary)),
        section("How to repeat it", _repeat(summary)),
        section("What the words mean", definitions(_glossary(summary))),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(spec.title)}</title>\n<style>\n{css}</style>\n</head>\n"
        "<body>\n<main>\n" + "\n".join(filter(None, body)) + "\n</main>\n</body>\n</html>\n"
    )


def _verdict(summary: Summary) -> str:
    """Write the headline box; its colour follows the verdict, and the words say it too."""
    statement, proof = headline(summary)
    style = "verdict"
    if summary.tails and summary.tails.rows:
        style += f" {_COLOURS.get(summary.tails.rows[0].verdict.outcome, 'unclear')}"
    elif summary.primary_comparisons:
        style += f" {judge(summary.primary_comparisons[0])}"
    return wrap("div", element("strong", statement) + element("p", proof), style)


def _tails(summary: Summary, pictures: Sequence[Picture]) -> list[str]:
    """Write verdicts, ratios and levels of the errors per item, how to read them, and figures."""
    tails, spec = summary.tails, summary.spec
    if tails is None or not tails.arms:
        return []
    caption = f"Ratios of the errors, tail being the {WORST} of the {spec.items}."
    ratios = table(caption, *tail_table(tails)) if tails.rows else ""
    levels = table(f"Errors over {spec.items}.", *tail_arm_table(summary))
    return [
        section(
            f"Tails of the errors over {spec.items}",
            bullets(tail_sentences(tails), "caveats"),
            ratios,
            levels,
            bullets(tail_notes(summary), "caveats"),
            *(figure(picture) for picture in pictures),
        )
    ]


def _comparisons(summary: Summary) -> str:
    """Write each comparison in words, then all of them as a table."""
    if not summary.primary_comparisons:
        return ""
    sentences = [f"{claim(c)} {evidence(c)}" for c in summary.primary_comparisons]
    differences = "".join(
        table(f"Differences in {metric.title}.", *rows)
        for metric, rows in comparison_tables(summary)
    )
    return bullets(sentences, "caveats") + "\n" + differences


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
    every = table("One row a run.", head, rows)
    return wrap("details", element("summary", f"All {len(rows)} runs, one row each") + every)


def _repeat(summary: Summary) -> str:
    """Write commands in full, then machine, seeds and versions."""
    commands = element("pre", "\n".join(summary.commands))
    return commands + definitions([p for p in provenance(summary) if p[0] != "Command"])


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
