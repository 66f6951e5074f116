"""From records of runs to statistics, tables, figures and one HTML page; knows no learner."""

from steelyard.reports.model import Summary
from steelyard.reports.records import Record, dump_records, label, load_records
from steelyard.reports.report import write_report, write_results
from steelyard.reports.spec import (
    Arm,
    Comparison,
    Line,
    Metric,
    Panel,
    StudyReport,
    TailComparison,
    dump_spec,
    load_spec,
)
from steelyard.reports.summary import summarise

__all__ = [
    "Arm",
    "Comparison",
    "Line",
    "Metric",
    "Panel",
    "Record",
    "StudyReport",
    "Summary",
    "TailComparison",
    "dump_records",
    "dump_spec",
    "label",
    "load_records",
    "load_spec",
    "summarise",
    "write_report",
    "write_results",
]
