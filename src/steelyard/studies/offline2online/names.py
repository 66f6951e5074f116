"""Names of tasks as the reference writes them → tasks here, and where their data usually lie."""

import re
from pathlib import Path
from typing import NamedTuple

ROBOSUITE = ("lift", "can", "square", "transport")
_ROBOMIMIC = re.compile(rf"({'|'.join(ROBOSUITE)})-(mh|ph|mg)(-low(_dim)?)?")
_OGBENCH = re.compile(
    r"(?P<env>[a-z]+(?:-[a-z0-9]+)?)-(?P<kind>play|noisy)"
    r"(?P<task>-singletask(?:-task\d)?)(?:-v0)?"
)


class Task(NamedTuple):
    """A task and its data.

    Attributes:
        env: Name of the task here.
        dataset: Where its data lie unless told otherwise; none where they are made.
    """

    env: str
    dataset: Path | None


def find_task(name: str) -> Task:
    """Read a name: one of ours, `square-mh-low` (also `-low_dim`, or neither), or OGBench's.

    Args:
        name: E.g. ``sparse/HandlePress-v3``, ``square-mh``, ``cube-double-play-singletask-v0``.
    """
    human = _ROBOMIMIC.fullmatch(name)
    if human:
        task, kind = human[1], human[2]
        file = "low_dim_sparse_v15.hdf5" if kind == "mg" else "low_dim_v15.hdf5"
        return Task(f"robosuite/{task}", Path.home() / ".robomimic" / task / kind / file)
    play = _OGBENCH.fullmatch(name)
    if play:
        file = f"{play['env']}-{play['kind']}-v0.npz"
        env = f"ogbench/{play['env']}{play['task']}-v0"
        return Task(env, Path.home() / ".ogbench" / "data" / file)
    return Task(name, None)
