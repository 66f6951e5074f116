"""Writes a study's report: every table, figure and page that follows from its records."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from steelyard.reports import figures, tables
from steelyard.reports.curves import curves_figure
from steelyard.reports.files import write_atomic
from steelyard.reports.html import report_html
from steelyard.reports.markup import Picture
from steelyard.reports.model import Summary
from steelyard.reports.records import Record, dump_records
from steelyard.reports.spec import StudyReport, dump_spec
from steelyard.reports.summary import summarise
from steelyard.reports.tail_figures import tail_drawings
from steelyard.reports.theme import DARK, LIGHT, Theme, png
from steelyard.reports.words import difference_headline, headline, interval, number


def write_report(records: Sequence[Record], spec: StudyReport, folder: Path) -> dict[str, Path]:
    """Write the whole report of a study into a folder; each file appears complete or not at all.

    Args:
        records: The finished runs, in any order; arms and seeds may be missing.
        spec: What the study compares and how to name it.
        folder: Where to write; made if it does not exist.

    Returns:
        Path by file name: ``summary.json``, ``results.txt``, ``results.json``, ``results.csv``,
        ``results.md``, ``comparison.png``, ``curves.png``, ``report.html``, the figures of the
        spec's ``curve_sets`` and, for each axis with several values, ``<axis>.png``. Where the
        spec compares tails, also ``slopes.png``, ``exceedance_<axis value>.png``,
        ``quantile_ratio.png`` and, with a frontier, ``frontier.png``.

    Raises:
        ValueError: If the records do not make one comparison (see ``records.validate``).
    """
    summary = summarise(records, spec)
    contents: dict[str, str | bytes] = dict(texts(records, summary))
    pictures = draw(records, summary)
    of_tails = draw_tails(summary)
    contents |= {name: picture.light for name, picture in (pictures | of_tails).items()}
    contents["report.html"] = report_html(
        records, summary, list(pictures.values()), list(of_tails.values())
    )
    return {name: write_atomic(folder / name, content) for name, content in contents.items()}


def write_results(records: Sequence[Record], spec: StudyReport, folder: Path) -> dict[str, Path]:
    """Write what is committed under ``results/``: the records, the spec and the summary."""
    content = tables.summary_json(summarise(records, spec))
    return {
        "raw.jsonl": dump_records(records, folder / "raw.jsonl"),
        "report_spec.json": dump_spec(spec, folder / "report_spec.json"),
        "summary.json": write_atomic(folder / "summary.json", content),
    }


def texts(records: Sequence[Record], summary: Summary) -> Mapping[str, str]:
    """Return the report's text files by name; the same records give the same bytes."""
    return {
        "summary.json": tables.summary_json(summary),
        "results.txt": tables.results_text(summary),
        "results.json": tables.results_json(records, summary),
        "results.csv": tables.results_csv(summary),
        "results.md": tables.results_markdown(summary),
    }


def draw(records: Sequence[Record], summary: Summary) -> dict[str, Picture]:
    """Draw every figure about metrics in both themes, by file name."""
    metric = summary.spec.primary
    words = difference_headline if summary.primary_comparisons else headline
    pictures = {
        "comparison.png": _picture(
            lambda theme: figures.comparison_figure(summary, theme),
            f"Bar chart of {metric.title} for each arm. {_in_words(summary)}",
            " ".join(words(summary)),
        ),
        "curves.png": _picture(
            lambda theme: curves_figure(records, summary, theme),
            f"Two line charts of {metric.title} during training: against environment frames and "
            "against seconds. The final values are in the table of results.",
            "The mean is drawn where all seeds of an arm have been evaluated.",
        ),
    }
    for curves in summary.spec.curve_sets:
        pictures[curves.file] = _picture(
            lambda theme, curves=curves: curves_figure(records, summary, theme, curves),
            f"Line charts of {metric.title} during training of some arms: {curves.title}.",
            "",
        )
    for axis in figures.varying_axes(summary):
        title = summary.spec.axis_title(axis).lower()
        pictures[f"{axis}.png"] = _picture(
            lambda theme, axis=axis: figures.axis_figure(summary, axis, theme),
            f"Line chart of {metric.title} against {title}. The values are in the results table.",
            f"Points at the same value of {title} are moved apart a little to keep them readable.",
        )
    return pictures


def draw_tails(summary: Summary) -> dict[str, Picture]:
    """Draw every figure about errors per test item in both themes, by file name."""
    return {
        name: _picture(drawing.make, drawing.alt, drawing.caption)
        for name, drawing in tail_drawings(summary).items()
    }


def _picture(make: Callable[[Theme], Figure], alt: str, caption: str) -> Picture:
    """Draw one figure for light and for dark pages."""
    return Picture(png(make(LIGHT), alt), png(make(DARK), alt), alt, caption)


def _in_words(summary: Summary) -> str:
    """Say the bars of the comparison in words."""
    metric = summary.spec.primary
    return " ".join(
        f"{arm.title}: {number(mean.value, metric.decimals)} {interval(mean, metric.decimals)}."
        if (mean := arm.means[metric.name])
        else f"{arm.title}: no value."
        for arm in summary.arms
    )
