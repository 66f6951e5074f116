"""From the lines that ``peers.py`` measured to what its table shows."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peer_rows import ROWS, Measure, Row

Lines = Sequence[dict[str, Any]]


def summarise(lines: Lines, results: Path) -> dict[str, Any]:
    """Values by contender and, within each round, ratios of ours to the peer's.

    Args:
        lines: Of all rows.
        results: Folder of what other benchmarks wrote, some of which is cited.
    """
    rows = {}
    for name, row in ROWS.items():
        own = [line for line in lines if line["row"] == name]
        if own:
            rows[name] = _row(row, own)
    cited = results / "acfql_cost.json"
    if cited.exists():
        rows["acfql"] = acfql(json.loads(cited.read_text()))
    return {"benchmark": "peers", "rows": rows}


def _row(row: Row, lines: Lines) -> dict[str, Any]:
    by = {name: {} for name in row.contenders}
    absent, versions = {}, {}
    for line in lines:
        if "absent" in line:
            absent[row.contenders[line["contender"]].title] = line["absent"]
        else:
            by[line["contender"]][line["round"]] = line["metrics"]
            versions |= line["versions"]
    return {
        "title": row.title,
        "same": row.same,
        "differs": row.differs,
        "command": lines[0]["command"],
        "hardware": lines[0]["hardware"],
        "versions": versions,
        "absent": absent,
        "lines": [
            {"ours": row.contenders[ours].title, "peer": row.contenders[peer].title, **compared}
            for ours, peer in row.pairs
            for key, measure in row.measures.items()
            if (compared := _compared(measure, key, by[ours], by[peer]))
        ],
    }


def _compared(measure: Measure, key: str, ours: dict, peer: dict) -> dict[str, Any] | None:
    # A contender of fewer rounds stands beside the other's same rounds.
    rounds = [n for n in ours if n in peer and key in ours[n] and key in peer[n]]
    if not rounds:
        return None
    own, other = ([side[n][key] for n in rounds] for side in (ours, peer))
    line = {
        "measure": measure.title,
        "better": measure.better,
        "digits": measure.digits,
        "rounds": len(rounds),
        "ours_value": spread(own),
        "peer_value": spread(other),
    }
    pairs = list(zip(own, other, strict=True))
    if measure.better == "score":
        return line | {"difference": spread([a - b for a, b in pairs])}
    turned = pairs if measure.better == "higher" else [(b, a) for a, b in pairs]
    return line | {"ratio": spread([a / b for a, b in turned])}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and extremes."""
    found = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def acfql(found: dict[str, Any]) -> dict[str, Any]:
    """The line that ``acfql_cost.py`` measured: its peer is no package, so it is cited."""
    lines = []
    for way, told in (("1", "one update a call"), ("scan", "five updates in a scan")):
        for suffix, unit, digits in (("", "ms an update", 0), ("_cpu_s", "CPU-s an update", 2)):
            keys = [f"{side}_{way}{suffix}" for side in ("ours", "qc")]
            sides = [{n: {"x": row[key]} for n, row in enumerate(found["update"])} for key in keys]
            compared = _compared(Measure(f"{unit}, {told}", "lower", digits), "x", *sides)
            lines.append({"ours": "Steelyard ACFQL", "peer": "QC's own code", **compared})
    return {
        "title": "QC-FQL update",
        "same": "networks 512x4, two critics, batch 256 chunks of five actions, ten flow steps",
        "differs": "the peer is a checkout of its authors' repository, which is no package: cited "
        "from acfql_cost.json. CPU-s of a first round hold the compilation",
        "command": "python benchmarks/acfql_cost.py --qc PATH",
        "hardware": {"cpu": found["hardware"]},
        "versions": {},
        "absent": {},
        "lines": lines,
    }


def shown(value: dict[str, float], digits: int, sign: str = "") -> str:
    """Median and extremes as text."""
    texts = [f"{value[key]:{sign},.{digits}f}" for key in ("median", "low", "high")]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def verdict(line: dict[str, Any]) -> str:
    """Ratio, or difference of scores, as text."""
    if "ratio" in line:
        return "× " + shown(line["ratio"], 2)
    return shown(line["difference"], 2, "+")


def printed(summary: dict[str, Any]) -> str:
    """A table for the terminal."""
    told = []
    for name, row in summary["rows"].items():
        told.append(f"{name}: {row['title']}")
        for line in row["lines"]:
            values = [shown(line[key], line["digits"]) for key in ("ours_value", "peer_value")]
            told.append(f"  {line['measure']:45} {verdict(line):24} {line['ours']}: {values[0]}")
            told.append(f"  {'':45} {'':24} {line['peer']}: {values[1]}")
        told += [f"  {title}: {reason}" for title, reason in row["absent"].items()]
    return "\n".join(told)
