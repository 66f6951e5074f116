"""What studies of several parts share: checks of arms and seeds, and the runs that are expected."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from steelyard.envs.seeding import MOST_SEED
from steelyard.reports.records import axes_suffix


@runtime_checkable
class Part(Protocol):
    """One task of a study."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms to run."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of each."""
        ...


def check_arm_names(names: Iterable[str], legal: Collection[str]) -> None:
    """Refuse what is no arm.

    Raises:
        ValueError: Names the nearest, and all there are.
    """
    for name in names:
        if name not in legal:
            near = difflib.get_close_matches(name, legal, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"There is no arm {name!r}; there are {list(legal)}.{hint}")


def check_runs(part: Part) -> None:
    """Refuse seeds that are out of range, and seeds or arms that come twice.

    Raises:
        ValueError: Names the rule and the values.
    """
    if not part.seeds or len(set(part.seeds)) < len(part.seeds):
        raise ValueError(f"seeds must be distinct and at least one, got {part.seeds}")
    for seed in part.seeds:
        if not 0 <= seed <= MOST_SEED:
            raise ValueError(f"seeds must lie between 0 and {MOST_SEED}, got {seed}")
    if len(set(part.arms)) < len(part.arms):
        raise ValueError(f"arms must be distinct, got {part.arms}")


def expected_seeds(
    parts: Mapping[str, Part],
    seeds: tuple[int, ...],
    used: Sequence[str],
    always: Collection[str] = (),
) -> dict[str, tuple[int, ...]]:
    """Seeds of arms by label, where they are not the study's own; none where an arm is not run.

    Args:
        parts: By the name of their task; the first is the primary one.
        seeds: The study's own.
        used: Arms that any part has.
        always: Arms that every part has without naming them.
    """
    found, primary = {}, {"task": next(iter(parts))}
    for task, part in parts.items():
        suffix = axes_suffix({"task": task}, primary)
        for name in (*always, *used):
            own = part.seeds if name in (*always, *part.arms) else ()
            if own != seeds:
                found[name + suffix] = own
    return found
