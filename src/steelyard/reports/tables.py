"""The results as text, CSV, Markdown and JSON."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence

from steelyard.numerics.statistics import LEVEL, RESAMPLES, Estimate
from steelyard.reports.files import json_text
from steelyard.reports.model import ArmSummary, ComparisonSummary, Summary
from steelyard.reports.records import Number, Record, label
from steelyard.reports.schema import as_json
from steelyard.reports.spec import Metric, Panel, StudyReport
from steelyard.reports.tail_tables import (
    tail_arm_table,
    tail_notes,
    tail_sentences,
    tail_table,
    tails_json,
)
from steelyard.reports.words import (
    ABSENT,
    caveats,
    headline,
    interval,
    judge,
    number,
    pair_title,
)

DIGITS = 6
Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def summary_json(summary: Summary) -> str:
    """Write ``summary.json``, to 6 significant digits: every machine writes the same bytes."""
    content = {
        "study": summary.spec.study,
        "preset": summary.preset,
        "command": "; ".join(summary.commands),
        "seeds": summary.seeds,
        "hardware": "; ".join(summary.hardware),
        "arms": {arm.label: _estimates_json(arm.means) for arm in summary.arms},
        "comparisons": [_comparison_json(comparison) for comparison in summary.comparisons],
        **({} if summary.tails is None else tails_json(summary.tails)),
        "iqm": {arm.label: _iqms_json(arm, summary.spec) for arm in summary.arms},
        "diverged": {arm.label: arm.diverged for arm in summary.arms if arm.diverged},
        "missing": summary.missing,
        "interval": {"level": LEVEL, "method": "percentile bootstrap", "resamples": RESAMPLES},
        "versions": summary.versions,
        "seconds": summary.seconds,
    }
    return json_text(_rounded(as_json(content)))


def results_json(records: Sequence[Record], summary: Summary) -> str:
    """Write ``results.json``: each run's final metrics and its return from every start."""
    axes = summary.spec.primary_axes
    runs = [
        {
            "arm": label(record, axes),
            "seed": record.seed,
            "status": record.status,
            "metrics": record.metrics,
            "per_start_returns": record.per_start_returns,
            "seconds": record.seconds,
            "run_id": record.run_id,
        }
        for record in sorted(records, key=lambda r: (label(r, axes), r.seed))
    ]
    content = {"study": summary.spec.study, "preset": summary.preset, "runs": runs}
    return json.dumps(as_json(content), indent=1, allow_nan=False) + "\n"


def results_csv(summary: Summary) -> str:
    """Write ``results.csv``, tidy: one line an arm and metric, empty cells for absent numbers."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    axes = sorted({axis for arm in summary.arms for axis in arm.axes})
    ends = ["mean", "low", "high", "iqm", "iqm_low", "iqm_high"]
    writer.writerow(["label", "arm", *axes, "metric", *ends, "seeds", "diverged"])
    for arm in summary.arms:
        for name, mean in arm.means.items():
            numbers = [*_numbers(mean), *_numbers(arm.iqms[name])]
            cells = ["" if x is None else f"{x:.{DIGITS}g}" for x in numbers]
            values = [arm.axes.get(axis, "") for axis in axes]
            count = 0 if mean is None else mean.n
            writer.writerow([arm.label, arm.arm, *values, name, *cells, count, len(arm.diverged)])
    return file.getvalue()


def results_text(summary: Summary) -> str:
    """Write ``results.txt``: the table for the terminal, comparisons, caveats and the command."""
    claim, proof = headline(summary)
    head, rows = arm_table(summary)
    title = f"{summary.spec.title} ({summary.spec.study}, preset {summary.preset})"
    blocks = [f"{title}\n{'=' * len(title)}", f"{claim}\n{proof}"]
    blocks += [*_tail_blocks(summary, _aligned), _aligned(head, rows)]
    blocks += [f"{panel.title}\n\n{_aligned(*rest)}" for panel, rest in panel_tables(summary)]
    blocks += [_aligned(*table) for _, table in comparison_tables(summary)]
    blocks.append("\n".join(f"- {text}" for text in caveats(summary)))
    blocks.append("\n".join(f"{name}: {text}" for name, text in provenance(summary)))
    return "\n\n".join(blocks) + "\n"


def results_markdown(summary: Summary) -> str:
    """Write ``results.md``: the same tables for a page that renders Markdown."""
    claim, proof = headline(summary)
    blocks = [f"**{claim}** {proof}", *_tail_blocks(summary, _markdown)]
    blocks.append(_markdown(*arm_table(summary)))
    blocks += [f"{panel.title}:\n\n{_markdown(*rest)}" for panel, rest in panel_tables(summary)]
    blocks += [_markdown(*table) for _, table in comparison_tables(summary)]
    blocks.append("\n".join(f"- {text}" for text in caveats(summary)))
    lines = [
        f"- {name}: {_code(text) if name == 'Command' else text}"
        for name, text in provenance(summary)
    ]
    return "\n\n".join([*blocks, "\n".join(lines)]) + "\n"


def tails_markdown(summary: Summary) -> str:
    """Write what there is about tails at the primary axis values, for a page with little room."""
    if summary.tails is None:
        raise ValueError(f"study {summary.spec.study!r} compares no tails")
    head, rows = tail_table(summary.tails)
    primary = [row for row, told in zip(rows, summary.tails.rows, strict=True) if told.primary]
    blocks = [
        "\n".join(f"- {text}" for text in tail_sentences(summary.tails)),
        _markdown(head, primary),
        "\n".join(f"- {text}" for text in tail_notes(summary)[:3]),
        "\n".join(f"- Command: {_code(text)}" for text in summary.commands),
    ]
    return "\n\n".join(blocks) + "\n"


def arm_table(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the arms: raw metric, training, primary metric, then the rest."""
    spec = summary.spec
    rest = [m for m in spec.metrics if m.name not in (spec.raw_metric, spec.primary_metric)]
    head = ["Method", spec.raw.heading, "Training", spec.primary.heading, "95 % interval", "IQM"]
    head += [*(metric.heading for metric in rest), "Seeds"]
    head.append(f"{spec.items[:1].upper()}{spec.items[1:]}" if spec.tails else "Episodes")
    rows = []
    for arm in summary.arms:
        means, primary = arm.means, spec.primary
        row = [arm.title, _mean(means[spec.raw_metric], spec.raw.decimals), arm.training]
        row += [_mean(means[primary.name], primary.decimals)]
        row += [interval(means[primary.name], primary.decimals)]
        row += [_mean(arm.iqms[primary.name], primary.decimals)]
        row += [_mean(means[metric.name], metric.decimals) for metric in rest]
        row += [seed_count(arm), f"{arm.episodes}/seed" if arm.episodes else ABSENT]
        rows.append(row)
    return head, rows


def panel_tables(summary: Summary) -> list[tuple[Panel, tuple[list[str], list[list[str]]]]]:
    """Return every panel that any arm is in, with header and rows."""
    found = []
    for panel in summary.spec.panels:
        arms = [arm for arm in summary.arms if panel.axes.items() <= arm.axes.items()]
        rows = [
            [arm.name, *(_mean(arm.means[m.name], m.decimals) for m in panel.metrics)]
            for arm in arms
            if any(arm.means[m.name] for m in panel.metrics)
        ]
        if rows:
            found.append((panel, (["Method", *(m.heading for m in panel.metrics)], rows)))
    return found


def comparison_tables(summary: Summary) -> list[tuple[Metric, tuple[list[str], list[list[str]]]]]:
    """Return header and rows of the comparisons, in the primary metric and in others to tell."""
    spec = summary.spec
    found = []
    for metric in (spec.primary, *map(spec.metric, spec.also_compared)):
        rows = [c for c in summary.comparisons if c.metric == metric]
        if not rows:
            continue
        title = "Comparison" if metric == spec.primary else f"Comparison in {metric.title}"
        head = [title, "Difference", "95 % interval", "Pairs", "Better in", "P(better)"]
        head += ["Test", "Verdict"]
        found.append((metric, (head, [_comparison_row(c) for c in rows])))
    return found


def _tail_blocks(summary: Summary, table: Table) -> list[str]:
    """Lay out what there is about tails: verdicts, ratios, arms, and how to read them."""
    if summary.tails is None or not summary.tails.arms:
        return []
    blocks = [table(*tail_table(summary.tails))] if summary.tails.rows else []
    sentences = tail_sentences(summary.tails)
    if len(sentences) > 1:  # a single one is the headline
        blocks.insert(0, "\n".join(f"- {text}" for text in sentences))
    blocks.append(table(*tail_arm_table(summary)))
    return [*blocks, "\n".join(f"- {text}" for text in tail_notes(summary))]


def _comparison_row(comparison: ComparisonSummary) -> list[str]:
    decimals, pairs = comparison.metric.decimals, len(comparison.seeds)
    p_value = comparison.p_value
    return [
        pair_title(comparison),
        number(comparison.difference.value, decimals, True),
        interval(comparison.difference, decimals, True),
        str(pairs) if comparison.paired else "unpaired",
        f"{comparison.wins} of {pairs}" if comparison.paired else ABSENT,
        number(comparison.improvement.value, 2),
        ABSENT if p_value is None else f"p = {p_value:.2g}",
        judge(comparison),
    ]


def provenance(summary: Summary) -> list[tuple[str, str]]:
    """Return what is needed to repeat the results, as name and text."""
    return [
        *(("Command", command) for command in summary.commands),
        ("Seeds", ", ".join(map(str, summary.seeds))),
        ("Hardware", "; ".join(summary.hardware)),
        ("Versions", ", ".join(f"{name} {text}" for name, text in summary.versions.items())),
        ("Wall time of all runs, one after another", duration(summary.seconds)),
    ]


def duration(seconds: Number) -> str:
    """Write a duration in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def seed_count(arm: ArmSummary) -> str:
    """Write the number of seeds and how many of them diverged."""
    return str(len(arm.seeds)) + (f" ({len(arm.diverged)} diverged)" if arm.diverged else "")


def _mean(estimate: Estimate | None, decimals: int) -> str:
    return number(None if estimate is None else estimate.value, decimals)


def _numbers(estimate: Estimate | None) -> tuple[float | None, ...]:
    return (None,) * 3 if estimate is None else (estimate.value, estimate.low, estimate.high)


def _estimates_json(estimates: Mapping[str, Estimate | None]) -> dict:
    return {
        name: dict(zip(("mean", "low", "high"), _numbers(e), strict=True)) | {"n": e.n if e else 0}
        for name, e in estimates.items()
    }


def _iqms_json(arm: ArmSummary, spec: StudyReport) -> dict:
    """Interquartile means of what is compared; those of the other metrics are in the CSV."""
    names = dict.fromkeys((spec.primary_metric, spec.raw_metric))
    return _estimates_json({name: arm.iqms[name] for name in names})


def _comparison_json(comparison: ComparisonSummary) -> dict:
    difference, improvement = comparison.difference, comparison.improvement
    return {
        "arm": comparison.arm.label,
        "baseline": comparison.baseline.label,
        "metric": comparison.metric.name,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "paired": comparison.paired,
        "n": difference.n,
        "wins": comparison.wins,
        "p_value": comparison.p_value,
        "least_p": comparison.least_p,
        "probability_of_improvement": {
            "mean": improvement.value,
            "low": improvement.low,
            "high": improvement.high,
        },
        "verdict": judge(comparison),
    }


def _rounded(value: object) -> object:
    """Round every float of a JSON value to ``DIGITS`` significant digits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table with spaces: the first column to the left, the others to the right."""
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(w) if i else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join(line.rstrip() for line in [lines[0], rule, *lines[1:]])


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a pipe table; pipes inside cells are escaped."""
    align = ["---", *["---:"] * (len(head) - 1)]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [escaped[0], align, *escaped[1:]])


def _code(text: str) -> str:
    """Quote a command as Markdown code, whatever backticks it holds."""
    return f"`{text}`" if "`" not in text else f"`` {text} ``"
