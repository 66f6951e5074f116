"""Splits by trajectory: what trains, what selects, what tests; written down and checked."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from steelyard.data.findings import DatasetError
from steelyard.data.trajectories import Trajectories
from steelyard.files import read_json, reading

SPLIT_FILE = "split.json"
SCHEMA = "steelyard-split-1"


@dataclasses.dataclass(frozen=True)
class Split:
    """Names of trajectories by what they are for; no name occurs twice.

    Attributes:
        name: How the split was made.
        train: For fitting and scaling.
        validation: For selection.
        test: For scores, by group; never pooled across groups.

    Raises:
        DatasetError: A part is empty, or a name occurs twice.
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: Mapping[str, tuple[str, ...]]

    def __post_init__(self):
        seen: dict[str, str] = {}
        for part, names in self.parts().items():
            if not names:
                raise DatasetError(f"split {self.name!r}: part {part!r} must not be empty")
            for name in names:
                if name in seen:
                    raise DatasetError(
                        f"split {self.name!r}: trajectory {name!r} is in {seen[name]!r} and in "
                        f"{part!r}; each belongs to one part, once"
                    )
                seen[name] = part

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Return all parts; test groups are called ``test/<group>``."""
        tests = {f"test/{group}": names for group, names in self.test.items()}
        return {"train": self.train, "validation": self.validation, **tests}

    def apply(
        self, trajectories: Trajectories
    ) -> tuple[Trajectories, Trajectories, dict[str, Trajectories]]:
        """Return training, validation and test trajectories, the last by group.

        Raises:
            DatasetError: A trajectory is missing, or the same recording is in two parts.
        """
        check_split(self, trajectories)
        chosen = {part: take(trajectories, names) for part, names in self.parts().items()}
        return (
            chosen["train"],
            chosen["validation"],
            {group: chosen[f"test/{group}"] for group in self.test},
        )


def take(trajectories: Trajectories, names: Sequence[str]) -> Trajectories:
    """Return the trajectories called ``names``, in that order.

    Raises:
        DatasetError: One does not exist.
    """
    index = {name: i for i, name in enumerate(trajectories.ids)}
    missing = [name for name in names if name not in index]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(names)} trajectories are not in the data, first "
            f"{missing[0]!r}; the data have {trajectories.num_trajectories}, first "
            f"{trajectories.ids[0]!r}"
        )
    return trajectories.select([index[name] for name in names])


def check_split(split: Split, trajectories: Trajectories) -> None:
    """Check that all trajectories exist and that no recording is in two parts under two names.

    Raises:
        DatasetError: One is missing, or two parts hold the same numbers; names both.
    """
    digests = dict(zip(trajectories.ids, trajectories.content_hashes, strict=True))
    seen: dict[str, tuple[str, str]] = {}
    for part, names in split.parts().items():
        take(trajectories, names)
        for name in names:
            before, other = seen.setdefault(digests[name], (part, name))
            if before != part:
                raise DatasetError(
                    f"split {split.name!r}: {other!r} in {before!r} and {name!r} in {part!r} are "
                    f"the same recording (sha-256 {digests[name][:12]}…)"
                )


def random_split(
    trajectories: Trajectories, test: int, validation: int, seed: int, group: str = "test"
) -> Split:
    """Draw whole trajectories for testing and selection; the rest trains.

    Args:
        trajectories: What to split.
        test: Number of test trajectories.
        validation: Number of those for selection.
        seed: What draws them.
        group: What the test set is called.

    Raises:
        DatasetError: Nothing would be left to train on, or a part would be empty.
    """
    count = trajectories.num_trajectories
    if test < 1 or validation < 1 or test + validation >= count:
        raise DatasetError(
            f"`test` and `validation` must be at least 1 and leave at least 1 of {count} "
            f"trajectories to train on; got {test} and {validation}"
        )
    order = np.random.default_rng(seed).permutation(count)
    parts = np.split(np.asarray(trajectories.ids, object)[order], [test, test + validation])
    return Split(
        f"random-{seed}", train=tuple(parts[2]), validation=tuple(parts[1]),
        test={group: tuple(parts[0])},
    )  # fmt: skip


def reference_split(
    order: Sequence[str], test: int = 50, validation_share: float = 0.1, seed: int = 42
) -> Split:
    """Split as the reference does: the last of a shuffled list test, a share of the rest selects.

    Args:
        order: All names, shuffled (the lines of ``shuffled_indices.txt``).
        test: How many at its end test.
        validation_share: Share of the others that selects, rounded down, at least one.
        seed: What draws these.

    Raises:
        DatasetError: Nothing would be left to train on.
    """
    if not 1 <= test <= len(order) - 2:
        raise DatasetError(
            f"`test` must be at least 1 and leave 2 of {len(order)} trajectories; got {test}"
        )
    if not 0 < validation_share < 1:
        raise DatasetError(f"`validation_share` must lie in (0, 1); got {validation_share}")
    rest = list(order[:-test])
    shuffled = list(rest)
    np.random.default_rng(seed).shuffle(shuffled)
    held = set(shuffled[: max(1, int(len(rest) * validation_share))])
    return Split(
        f"reference-{seed}",
        train=tuple(name for name in rest if name not in held),
        validation=tuple(name for name in rest if name in held),
        test={"test": tuple(order[-test:])},
    )


def choose(names: Sequence[str], count: int, random: bool = False, seed: int = 0) -> list[str]:
    """Choose test trajectories to evaluate: the first ones, or a draw without repetition.

    Raises:
        DatasetError: ``count`` is below 1 or above the size of the set.
    """
    if not 1 <= count <= len(names):
        raise DatasetError(
            f"the number of trajectories to evaluate must lie in [1, {len(names)}], the size of "
            f"the test set; got {count}"
        )
    if not random:
        return list(names)[:count]
    chosen = np.random.default_rng(seed).choice(len(names), count, replace=False)
    return [names[int(i)] for i in chosen]


def write_split(split: Split, trajectories: Trajectories, path: str | Path) -> Path:
    """Write ``split.json``: the names and the content hash of each trajectory.

    Args:
        split: What to write.
        trajectories: The data it is about; checked first.
        path: A folder, or the file.

    Raises:
        DatasetError: See :func:`check_split`.
    """
    check_split(split, trajectories)
    digests = dict(zip(trajectories.ids, trajectories.content_hashes, strict=True))
    fields = {
        "schema": SCHEMA,
        "name": split.name,
        "parts": {
            part: {name: digests[name] for name in names} for part, names in split.parts().items()
        },
    }
    path = _file(path)
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    return path


def read_split(path: str | Path, trajectories: Trajectories | None = None) -> Split:
    """Read a split and, given the data, verify that each trajectory is the one it was made for.

    Raises:
        DatasetError: The file is no split, a trajectory is missing, or its content has changed.
    """
    path = _file(path)
    fields = read_json(path, DatasetError)
    with reading(path, f"not a split ({SCHEMA})", DatasetError):
        if fields["schema"] != SCHEMA:
            raise DatasetError(f"`schema` is {fields['schema']!r:.80}; this reads {SCHEMA!r}")
        parts = {part: tuple(names) for part, names in fields["parts"].items()}
        prefix = "test/"
        split = Split(
            name=fields["name"],
            train=parts["train"],
            validation=parts["validation"],
            test={p.removeprefix(prefix): n for p, n in parts.items() if p.startswith(prefix)},
        )
        digests = {name: told for part in fields["parts"].values() for name, told in part.items()}
    if trajectories is not None:
        check_split(split, trajectories)
        for name, digest in zip(trajectories.ids, trajectories.content_hashes, strict=True):
            if name in digests and digests[name] != digest:
                raise DatasetError(
                    f"{path}: trajectory {name!r} must be the one that was split; its sha-256 "
                    f"is {digest[:12]}…, the file says {digests[name]!s:.12}…"
                )
    return split


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path / SPLIT_FILE if path.is_dir() else path
