"""Judgements from files: what the labelling program exports, and the formats of the CPL code.

``export/pairs.jsonl`` and ``export/ratings.jsonl``: see ``steelyard.labelling.export``.
``pairs.npz`` holds ``obs_1, action_1, obs_2, action_2, label`` (label 1: the second wins);
a comparison file holds ``obs, action, rl_sum``, row ``i`` against row ``i + N/2``. Nothing is
unpickled; the reference's ``preference_data.pkl`` is not read.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.data.findings import DatasetError
from steelyard.data.preferences import Pairs, Ratings
from steelyard.files import read_arrays, read_json_lines, reading

EXPORT = "export"


def read_judgements(dataset: Path) -> tuple[Ratings, Pairs]:
    """Read what was judged of a data set, ratings and comparisons; either may be empty.

    Args:
        dataset: Its folder, with ``export/`` in it.

    Raises:
        FileNotFoundError: Nothing was exported; says how to.
        DatasetError: A line is not what it should be; names file and line.
    """
    folder = Path(dataset) / EXPORT
    if (Path(dataset) / "preference_data.pkl").exists() and not folder.exists():
        raise DatasetError(
            f"{dataset}/preference_data.pkl is not read: a pickle can run any code. In the program "
            "that wrote it, save the arrays with numpy.savez(obs_1=…, action_1=…, obs_2=…, "
            "action_2=…, label=…) and pass that file"
        )
    files = folder / "ratings.jsonl", folder / "pairs.jsonl"
    if not any(file.exists() for file in files):
        raise FileNotFoundError(
            f"{folder} has no judgements; make them with `steelyard label serve {dataset}` and "
            f"export them with `steelyard label export {dataset}`"
        )
    rated, compared = (_rows(file) if file.exists() else [] for file in files)
    with reading(files[0], "ratings that are none", DatasetError):
        ratings = _ratings(rated)
    with reading(files[1], "comparisons that are none", DatasetError):
        return ratings, _pairs(compared)


def _rows(file: Path) -> list[dict[str, Any]]:
    rows, wanted = [], _FIELDS[file.name]
    for number, row in read_json_lines(file, DatasetError):
        missing = [name for name in wanted if name not in row]
        if missing:
            raise DatasetError(f"{file}, line {number} has no {missing[0]!r}; it needs {wanted}")
        for name in wanted[:-1]:
            value, whole = row[name], name in _NUMBERS_OF_SEGMENTS
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                kind = "a whole number" if isinstance(value, float) else "a number"
                raise DatasetError(f"{file}, line {number}: {name} is {kind}, got {value!r:.80}")
            if not (0 <= value < 2**63 if whole else abs(value) < math.inf):
                raise DatasetError(f"{file}, line {number}: {name} is out of range: {value}")
        rows.append(row)
    return rows


_NUMBERS_OF_SEGMENTS = ("segment", "a", "b")


_FIELDS = {
    "ratings.jsonl": ("segment", "rating", "annotator"),
    "pairs.jsonl": ("a", "b", "label", "strength", "annotator"),
}


def _names(rows: list[dict[str, Any]]) -> tuple[tuple[str, ...], np.ndarray]:
    names = tuple(dict.fromkeys(str(row["annotator"]) for row in rows))
    return names, np.array([names.index(str(row["annotator"])) for row in rows], int)


def _ratings(rows: list[dict[str, Any]]) -> Ratings:
    names, who = _names(rows)
    segment = np.array([row["segment"] for row in rows], int)
    return Ratings(segment, np.array([row["rating"] for row in rows], float), who, names)


def _pairs(rows: list[dict[str, Any]]) -> Pairs:
    """Turn ``label = P(b wins)`` into our orientation."""
    names, who = _names(rows)
    first, second = (np.array([row[k] for row in rows], int) for k in ("a", "b"))
    label = np.array([row["label"] for row in rows], float)
    turned = label > 0.5
    return Pairs(
        np.where(turned, second, first),
        np.where(turned, first, second),
        np.where(turned, label, 1.0 - label),
        np.array([row["strength"] for row in rows], float),
        who,
        names,
    )


def read_comparisons(file: Path) -> dict[str, np.ndarray]:
    """Read pairs of segments from an ``.npz`` file in either of the CPL code's forms.

    Returns:
        ``obs``, ``action`` ``[2 · pair, time, …]``, better and other segment of each pair
        (``winner``, ``loser``) and ``label``, probability that the first is better.

    Raises:
        DatasetError: Arrays are missing, have unlike lengths, or are pickled.
    """
    held = read_arrays(file, error=DatasetError)
    with reading(file, "its arrays do not belong together", DatasetError):
        return _comparisons(file, held)


def _comparisons(file: Path, held: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if {"obs_1", "action_1", "obs_2", "action_2", "label"} <= set(held):
        label = np.asarray(held["label"], float)
        count = len(label)
        arrays = {
            name: np.concatenate([held[f"{name}_1"], held[f"{name}_2"]])
            for name in ("obs", "action")
        }
    elif {"obs", "action", "rl_sum"} <= set(held):
        count = len(held["obs"]) // 2
        worth = np.asarray(held["rl_sum"], float)
        first, second = worth[:count], worth[count : 2 * count]
        label = np.where(first == second, 0.5, (second > first).astype(float))
        arrays = {name: held[name][: 2 * count] for name in ("obs", "action")}
    else:
        raise DatasetError(
            f"{file} holds {sorted(held)}; needed are obs_1, action_1, obs_2, action_2 and label, "
            "or obs, action and rl_sum"
        )
    for name, values in arrays.items():
        if len(values) != 2 * count:
            raise DatasetError(
                f"{file}: `{name}` has {len(values)} segments, {count} pairs need {2 * count}"
            )
    turned, places = label > 0.5, np.arange(count)
    return {
        **arrays,
        "winner": np.where(turned, count + places, places),
        "loser": np.where(turned, places, count + places),
        "label": np.where(turned, label, 1.0 - label),
    }
