"""One labelling session: the data set, its store and how questions are chosen, put together."""

import dataclasses
import statistics
import threading
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.labelling.dataset import Film, LabelDataset, describe_film, file_sha256, film_path
from steelyard.labelling.records import Judgement, LabellingError, Question, Task
from steelyard.labelling.select import Asked, Choosing, Pool, choose, default_target
from steelyard.labelling.store import Store

AHEAD = 3
"""Tasks kept open for each annotator: the one shown, and two whose films load meanwhile."""
RECENT = 20
"""Answers that speed and remaining time are estimated from."""


class Session:
    """Serves questions and takes answers; usable from several threads."""

    def __init__(
        self,
        dataset: LabelDataset,
        store: Store,
        choosing: Choosing,
        scores: dict[int, list[float]] | None = None,
    ):
        """Enter the segments and fix the target.

        Raises:
            LabellingError: No film, or too few for pairs; or scores that miss a segment.
        """
        clips = sorted(dataset.filmed(), key=lambda clip: clip.id)
        if not clips:
            raise LabellingError(
                f"{dataset.folder} has no film yet: `steelyard data film {dataset.folder}` "
                "makes them"
            )
        store.add_segments(clips)
        pool = Pool(
            np.array([clip.id for clip in clips]),
            np.array([clip.window for clip in clips]),
            None if scores is None else _score_rows(scores, [clip.id for clip in clips]),
        )
        largest = default_target(choosing, pool)
        if largest == 0:
            raise LabellingError(
                f"no two of the {len(clips)} films show the same window: film more, rate them "
                "(--mode rate), or compare anything (--pair-scope all)"
            )
        if choosing.select == "active" and pool.scores is None:
            raise LabellingError("--select active needs --scores FILE, scores of an ensemble")
        target = choosing.target or largest
        self.dataset = dataset
        self.store = store
        self.choosing = dataclasses.replace(
            choosing, target=target, seed=choosing.seed or dataset.sha256
        )
        self.pool = pool
        self._known = frozenset(pool.segment.tolist())
        self._mutex = threading.RLock()

    def tasks(self, annotator: str) -> list[Task]:
        """Return what is open for an annotator, filling up to :data:`AHEAD` tasks."""
        kind, scale = self.choosing.kind, self.choosing.scale
        with self._mutex:
            self.store.add_annotator(annotator)
            tasks = [t for t in self.store.open_tasks(annotator, kind, scale) if self._shown(t)]
            while len(tasks) < AHEAD:
                question = self._next(annotator)
                if question is None:
                    break
                tasks.append(self.store.add_task(annotator, question))
            if not tasks:
                skipped = self.store.reopen_skipped(annotator, kind, scale)
                tasks = [] if skipped is None else [skipped]
            return tasks

    def progress(self, annotator: str) -> dict[str, Any]:
        """Return counts, speed and remaining time of an annotator, and the last answer."""
        kind, scale = self.choosing.kind, self.choosing.scale
        counts = self.store.counts(annotator, kind, scale)
        recent = self.store.recent(annotator, kind, scale, RECENT)
        times = [event.answer.response_ms / 1000 for event in recent]
        repeats = counts.pop("repeats")
        total = max(self.choosing.target + repeats, sum(counts.values()))
        left = total - counts["done"] - counts["dropped"]
        return {
            "done": counts["done"],
            "left": left,
            "total": total,
            "skipped": counts["skipped"] + counts["dropped"],
            "per_minute": round(60 / max(statistics.mean(times), 1e-3), 1) if times else None,
            "eta_s": round(left * statistics.median(times)) if times else None,
            "last": recent[0].id if recent else None,
        }

    def history(self, annotator: str, count: int) -> list[dict[str, Any]]:
        """Return the last answers of an annotator that stand; nothing that would unblind."""
        kind, scale = self.choosing.kind, self.choosing.scale
        return [_shown(event) for event in self.store.recent(annotator, kind, scale, count)]

    def describe(self, task: Task) -> dict[str, Any]:
        """Return what the page may know of a task: sides, and how to play them; it is blind."""
        question = task.question
        sides = [question.a]
        if question.b is not None:
            sides = [question.a, question.b] if question.left_is_a else [question.b, question.a]
        return {"id": task.id, "clips": [self._film(segment) for segment in sides]}

    def film(self, segment: int) -> tuple[str, str]:
        """Return path and hash of a segment's film, checked.

        Raises:
            LabellingError: Unknown, absent, outside the data set, or not the film that was judged.
        """
        row = self.store.clip(segment) if 0 <= segment < 2**63 else None
        path = film_path(self.dataset.folder, row[0]) if row else None
        if row is None or path is None:
            raise LabellingError(f"there is no film of segment {segment}")
        sha256 = file_sha256(path)
        if sha256 != row[1] and not self.store.record_hash(segment, sha256):
            raise LabellingError(
                f"the film of segment {segment} is not the one that was judged: "
                f"SHA-256 {sha256[:12]}…, judged {str(row[1])[:12]}…"
            )
        return str(path), sha256

    def verify(self) -> None:
        """Check every film against its known hash, and remember the hashes of new ones.

        Raises:
            LabellingError: Lists the segments whose film is absent or another.
        """
        broken = []
        for segment in self.pool.segment.tolist():
            try:
                self.film(segment)
            except LabellingError as error:
                broken.append(str(error))
        if broken:
            more = f" (and {len(broken) - 3} more)" if len(broken) > 3 else ""
            raise LabellingError(
                f"{'; '.join(broken[:3])}{more}. `steelyard data film "
                f"{self.dataset.folder} --only ID` makes a film again."
            )

    def _film(self, segment: int) -> dict[str, Any]:
        try:
            film = describe_film(Path(self.film(segment)[0]))
        except LabellingError:  # the page gets 404 for it, says so, and offers to skip
            film = Film(0.05, False)
        return {"media": segment, "frame_s": film.frame_s, "sound": film.sound}

    def _shown(self, task: Task) -> bool:
        question = task.question
        return question.a in self._known and (question.b is None or question.b in self._known)

    def _next(self, annotator: str) -> Question | None:
        kind, scale = self.choosing.kind, self.choosing.scale
        sorting = self.choosing.select == "insertion"
        asked = asked_so_far(self.store.task_log(annotator, kind, scale, answers=sorting))
        shared = self.store.shared(annotator, kind, scale) if self.choosing.overlap else []
        return choose(self.choosing, self.pool, asked, annotator, shared)


def asked_so_far(rows: list[tuple]) -> Asked:
    """Turn a store's task log into the arrays that the chooser reads."""
    a = np.array([row[1] for row in rows], dtype=np.int64)
    b = np.array([-1 if row[2] is None else row[2] for row in rows], dtype=np.int64)
    preference = [_preference(row[6], bool(row[3])) for row in rows]
    return Asked(
        a,
        b,
        np.array([bool(row[3]) for row in rows], dtype=bool),
        np.array([row[4] == "repeat" for row in rows], dtype=bool),
        np.array([row[5] == "done" for row in rows], dtype=bool),
        np.array([row[5] == "open" for row in rows], dtype=bool),
        np.array(preference, dtype=np.float64),
    )


def _preference(answer: str | None, left_is_a: bool) -> float:
    if answer in ("left", "right"):
        return float((answer == "right") == left_is_a)
    return 0.5


def _shown(event: Judgement) -> dict[str, Any]:
    answer = event.answer
    return {
        "judgement": event.id,
        "task": event.task.id,
        "answer": answer.answer,
        "strength": answer.strength,
        "created": event.created,
    }


def _score_rows(scores: dict[int, list[float]], segments: list[int]) -> np.ndarray:
    missing = [segment for segment in segments if segment not in scores]
    if missing:
        raise LabellingError(f"the scores miss {len(missing)} segments, the first is {missing[0]}")
    return np.array([scores[segment] for segment in segments], dtype=np.float64)
