"""Writes what learners read, and reads the full log back.

``export/judgements.jsonl``: every event in order, one JSON object a line::

    {"id": 7, "client_uuid": str, "annotator": str, "task": 7, "kind": "pair" | "rate",
     "scale": 0, "a": segment, "b": segment | null, "left_is_a": bool, "reason": str,
     "state": str, "answer": str, "strength": 0 | 1 | 2, "response_ms": int,
     "watched_left_s": s, "watched_right_s": s, "created": iso, "undone": iso | null}

``export/pairs.jsonl``: standing answers to pairs::

    {"a": segment, "b": segment, "label": P(b wins) in {0, 0.5, 1}, "strength": 0 | 0.5 | 1,
     "annotator": str, "both_bad": bool, "created": iso}

``export/ratings.jsonl``: standing ratings::

    {"segment": segment, "rating": 1 … scale, "scale": int, "annotator": str, "created": iso}

What was taken back or skipped is in neither of these two, nor is the second answer to a repeated
question: it measures consistency and would count an opinion twice.

``export/pairs.npz`` holds the same pairs under CPL's names (``obs_1 [pair, time, obs]``,
``action_1 [pair, time, act]``, ``obs_2``, ``action_2``, ``label [pair]``; label 1: the second
wins) with ``valid_1``, ``valid_2 [pair, time]`` beside them; ``export/ratings.npz`` holds ``obs``,
``action``, ``valid``, ``score [rating]`` and ``annotator [rating]``. Actions lie in [-1, 1].
Reading these needs ``numpy.load(..., allow_pickle=False)`` only.
"""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from steelyard.files import clipped, field, read_json_lines, reading
from steelyard.labelling.dataset import LabelDataset
from steelyard.labelling.records import (
    Answer,
    Judgement,
    LabellingError,
    Question,
    Task,
    check_event,
)
from steelyard.labelling.store import Store

FOLDER = "export"


def export(store: Store, dataset: LabelDataset) -> list[Path]:
    """Write all exports of a data set; each file appears whole or not at all.

    The npz files need ``segments.h5``; without it they are left out.

    Returns:
        The files written.
    """
    events = store.judgements()
    pairs, ratings = pair_rows(events), rating_rows(events)
    folder = dataset.folder / FOLDER
    written = [
        _write(folder / "judgements.jsonl", _lines(judgement_row(event) for event in events)),
        _write(folder / "pairs.jsonl", _lines(pairs)),
        _write(folder / "ratings.jsonl", _lines(ratings)),
    ]
    if (dataset.folder / "segments.h5").is_file():
        written += _arrays(dataset.folder, folder, pairs, ratings)
    return written


def judgement_row(event: Judgement) -> dict[str, Any]:
    """Flatten an event; :func:`read_judgements` is the inverse."""
    question, answer = event.task.question, event.answer
    return {
        "id": event.id,
        "client_uuid": answer.client_uuid,
        "annotator": event.task.annotator,
        "task": event.task.id,
        "kind": question.kind,
        "scale": question.scale,
        "a": question.a,
        "b": question.b,
        "left_is_a": question.left_is_a,
        "reason": question.reason,
        "state": event.task.state,
        "answer": answer.answer,
        "strength": answer.strength,
        "response_ms": answer.response_ms,
        "watched_left_s": answer.watched_left_s,
        "watched_right_s": answer.watched_right_s,
        "created": event.created,
        "undone": event.undone,
    }


def pair_rows(events: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Return the standing answers to pairs, as ``pairs.jsonl`` holds them."""
    return [
        {
            "a": event.task.question.a,
            "b": event.task.question.b,
            "label": event.preference,
            "strength": event.answer.strength / 2,
            "annotator": event.task.annotator,
            "both_bad": event.answer.answer == "both_bad",
            "created": event.created,
        }
        for event in _standing(events)
        if event.preference is not None
    ]


def rating_rows(events: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Return the standing ratings, as ``ratings.jsonl`` holds them."""
    return [
        {
            "segment": event.task.question.a,
            "rating": event.rating,
            "scale": event.task.question.scale,
            "annotator": event.task.annotator,
            "created": event.created,
        }
        for event in _standing(events)
        if event.rating is not None
    ]


def read_judgements(path: Path) -> list[Judgement]:
    """Read ``judgements.jsonl`` back.

    Raises:
        FileNotFoundError: It is not there.
        LabellingError: A line is broken, or two have the same number; says which.
    """
    events: list[Judgement] = []
    for number, row in read_json_lines(path, LabellingError):
        place = f"{path}, line {number}"
        with reading(place, "is no judgement", LabellingError):
            events.append(_event(row, place))
    for what, found in (
        ("number", [event.id for event in events]),
        ("client_uuid", [event.answer.client_uuid for event in events]),
    ):
        if len(set(found)) < len(found):
            raise LabellingError(f"{path}: two judgements have the same {what}")
    return events


def _event(row: dict[str, Any], place: str) -> Judgement:
    def get(name: str, *kinds: type) -> Any:
        value = field(row, name, kind=kinds, place=place, error=LabellingError)
        if isinstance(value, int) and abs(value) >= 2**63:
            raise LabellingError(
                f"{place}: `{name}` lies in (-2⁶³, 2⁶³), got {clipped(str(value))}"
            )
        return value

    question = Question(
        get("kind", str),
        get("a", int),
        get("b", int, NoneType),
        get("left_is_a", bool),
        get("reason", str),
        get("scale", int),
    )
    task = Task(get("task", int), get("annotator", str), question, get("state", str))
    answer = Answer(
        get("client_uuid", str),
        task.id,
        get("answer", str),
        get("strength", int),
        get("response_ms", int),
        get("watched_left_s", int, float),
        get("watched_right_s", int, float),
    )
    event = Judgement(
        get("id", int), task, answer, get("created", str), get("undone", str, NoneType)
    )
    check_event(event)
    return event


def _standing(events: Sequence[Judgement]) -> list[Judgement]:
    return [e for e in events if e.counts and e.task.question.reason != "repeat"]


def _arrays(
    dataset: Path, folder: Path, pairs: Sequence[dict], ratings: Sequence[dict]
) -> list[Path]:
    from steelyard.data.segments import load_segments  # HDF5, which the app itself never needs

    segments = load_segments(dataset)
    columns = {"obs": segments.observation, "action": segments.action, "valid": segments.valid}
    first, second = (np.array([row[side] for row in pairs], dtype=np.int64) for side in "ab")
    rated = np.array([row["segment"] for row in ratings], dtype=np.int64)
    pair_arrays = {f"{name}_1": array[first] for name, array in columns.items()}
    pair_arrays |= {f"{name}_2": array[second] for name, array in columns.items()}
    label = np.array([row["label"] for row in pairs], dtype=np.float32)
    strength = np.array([row["strength"] for row in pairs], dtype=np.float32)
    rating_arrays = {name: array[rated] for name, array in columns.items()} | {
        "score": np.array([row["rating"] for row in ratings], dtype=np.float32),
        "annotator": np.array([row["annotator"] for row in ratings], dtype=np.str_),
    }
    return [
        _write(folder / "pairs.npz", _npz({**pair_arrays, "label": label, "strength": strength})),
        _write(folder / "ratings.npz", _npz(rating_arrays)),
    ]


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row, allow_nan=False)}\n" for row in rows).encode()


def _write(path: Path, content: bytes) -> Path:
    from steelyard.data.formats.base import atomic_path

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_bytes(content)
    return path
