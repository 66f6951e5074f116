"""Tasks by name: one function that builds any of them, and one that describes it cheaply.

========================  ======================================================================
id                        task
========================  ======================================================================
``Pendulum-v1``, ...      EnvPool's, the default
``gymnasium/<id>``        gymnasium's, one environment after the other
``probe/<name>``          a probe with a known solution (``steelyard.envs.probes``)
``assembly/<name>``       insertion and assembly by a robot arm (``ASSEMBLY_TASKS``)
``dense/<id>``            MetaWorld's own reward, all of the scene in sight
``sparse/<name>``         -1 a step, 0 at success, which ends the episode (``SPARSE_TASKS``)
``robosuite/<name>``      the same in robosuite: ``lift``, ``can``, ``square``; an extra
``ogbench/<id>``          OGBench's single manipulation tasks; an extra
``RoboPianist-<id>``      songs for two hands at a piano; the extra ``piano``
a name of your own        what you registered with ``register_env``
========================  ======================================================================
"""

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from typing import Any

from steelyard.envs.base import VectorEnv
from steelyard.envs.dense import DenseTaskEnv, dense_ids, dense_spec
from steelyard.envs.envpool import EnvPoolEnv, envpool_ids, envpool_spec
from steelyard.envs.fork import ForkEnv, fork_spec
from steelyard.envs.gymnasium import GymnasiumEnv
from steelyard.envs.metaworld import AssemblyTaskEnv, assembly_spec
from steelyard.envs.ogbench import TASKS as OGBENCH_TASKS
from steelyard.envs.ogbench import OGBenchEnv, ogbench_spec
from steelyard.envs.pegplane import PegPlaneEnv, peg_plane_spec
from steelyard.envs.probes import PROBES, ProbeEnv, probe_spec
from steelyard.envs.robopianist import RoboPianistEnv, robopianist_spec
from steelyard.envs.robopianist_songs import PREFIX as PIANO
from steelyard.envs.robopianist_songs import TASKS as PIANO_TASKS
from steelyard.envs.robosuite import NAMES as ROBOSUITE_TASKS
from steelyard.envs.robosuite import RobosuiteEnv, robosuite_spec
from steelyard.envs.sparse import LIMITS, SparseTaskEnv, sparse_spec
from steelyard.types import EnvSpec


@dataclasses.dataclass(frozen=True)
class Family:
    """Tasks that are built the same way.

    Attributes:
        make: Maps an id, without the family's prefix, seeds and options to an environment.
        describe: Maps such an id and options to a spec.
        ids: Returns the ids that can be listed, without the prefix.
    """

    make: Callable[..., VectorEnv]
    describe: Callable[..., EnvSpec]
    ids: Callable[[], Sequence[str]]


def _describe_by_building(make: Callable[..., VectorEnv]) -> Callable[..., EnvSpec]:
    def describe(id: str, **options: Any) -> EnvSpec:
        env = make(id, [0], **options)
        env.close()
        return env.spec

    return describe


Task = tuple[Callable[..., VectorEnv], Callable[..., EnvSpec]]
"""How one task of a family is built and described; both are given its name."""

ASSEMBLY_TASKS: dict[str, Task] = {
    "PegInsertSide-v3": (AssemblyTaskEnv, assembly_spec),
    "Assembly-v3": (AssemblyTaskEnv, assembly_spec),
    "PegPlane-v0": (PegPlaneEnv, peg_plane_spec),
}
SPARSE_TASKS: dict[str, Task] = {
    "Fork-v0": (ForkEnv, fork_spec),
    **{name: (SparseTaskEnv, sparse_spec) for name in LIMITS},
}


def _family_of(prefix: str, tasks: dict[str, Task]) -> Family:
    """Make a family of tasks that are built each in its own way."""

    def find(name: str) -> Task:
        if name not in tasks:
            near = difflib.get_close_matches(name, tasks, n=1)
            hint = f"; did you mean {prefix + near[0]!r}?" if near else ""
            legal = ", ".join(prefix + task for task in tasks)
            raise ValueError(f"there is no task {prefix + name!r}: legal are {legal}{hint}")
        return tasks[name]

    return Family(
        make=lambda name, seeds, **options: find(name)[0](name, seeds, **options),
        describe=lambda name, **options: find(name)[1](name, **options),
        ids=lambda: tuple(tasks),
    )


FAMILIES: dict[str, Family] = {
    "": Family(EnvPoolEnv, envpool_spec, envpool_ids),
    "gymnasium/": Family(GymnasiumEnv, _describe_by_building(GymnasiumEnv), lambda: ()),
    "probe/": Family(ProbeEnv, probe_spec, lambda: tuple(PROBES)),
    "assembly/": _family_of("assembly/", ASSEMBLY_TASKS),
    "sparse/": _family_of("sparse/", SPARSE_TASKS),
    "dense/": Family(DenseTaskEnv, dense_spec, dense_ids),
    "robosuite/": Family(RobosuiteEnv, robosuite_spec, lambda: tuple(ROBOSUITE_TASKS)),
    "ogbench/": Family(OGBenchEnv, ogbench_spec, lambda: OGBENCH_TASKS),
    PIANO: Family(RoboPianistEnv, robopianist_spec, lambda: PIANO_TASKS),
}

_registered: dict[str, Callable[..., VectorEnv]] = {}


def make_env(id: str, seeds: Sequence[int], **options: Any) -> VectorEnv:
    """Build the task ``id`` with one environment per seed.

    Args:
        id: Name of the task; see the module's table.
        seeds: One seed per environment, distinct, e.g. ``training_seeds(run=0, num_envs=4)``.
        **options: Passed to the task's adapter, e.g. ``max_episode_steps=500``.

    Raises:
        ValueError: If the task, a seed or an option is refused; the message names what is legal.
    """
    if id in _registered:
        return _registered[id](seeds, **options)
    prefix = _prefix(id)
    return FAMILIES[prefix].make(id.removeprefix(prefix), seeds, **options)


def env_spec(id: str, **options: Any) -> EnvSpec:
    """Describe the task ``id``, as ``make_env`` with the same options would build it.

    Cheap, except that gymnasium's and registered tasks are built once to be asked.

    Raises:
        ValueError: As ``make_env``.
    """
    if id in _registered:
        return _describe_by_building(lambda _, seeds, **o: make_env(id, seeds, **o))(id, **options)
    prefix = _prefix(id)
    return FAMILIES[prefix].describe(id.removeprefix(prefix), **options)


def list_envs() -> list[str]:
    """Return the ids of registered tasks, probes, assembly tasks and EnvPool's, in this order.

    Gymnasium's are not listed; any of them works as ``gymnasium/<id>``.
    """
    listed = [*_registered]
    for prefix in sorted(FAMILIES, reverse=True):
        listed.extend(prefix + id for id in FAMILIES[prefix].ids())
    return listed


def register_env(id: str, factory: Callable[..., VectorEnv]) -> None:
    """Make a task of your own known under ``id``, for this process.

    Run ``steelyard.envs.check.check_env(factory)`` on it once.

    Args:
        id: A name that no other task has.
        factory: Maps a sequence of seeds, and options, to an environment.

    Raises:
        ValueError: If the name is taken.
    """
    taken = id in _registered or not id or id.startswith(tuple(filter(None, FAMILIES)))
    if taken or id in envpool_ids():
        raise ValueError(f"a registered task needs a name that is not taken: got {id!r}")
    _registered[id] = factory


def _prefix(id: str) -> str:
    """Return the prefix of the id's family, the longest that fits."""
    prefix = max((p for p in FAMILIES if id.startswith(p)), key=len)
    if not prefix and id not in envpool_ids():
        near = difflib.get_close_matches(id, list_envs(), n=3, cutoff=0.5)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"there is no task {id!r}{hint} (list_envs() names all)")
    return prefix
