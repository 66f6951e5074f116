"""Per-environment queues of planned actions, so that single environments reset and replan.

One invariant: the head of the queue is the base action for the observation in hand. Acting and
bootstrapping read the same head, and nothing is taken out to look at it. Host side, immutable.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from steelyard.agents.chunked_bc import ChunkedBC

Planner: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""``(observations [k, obs], environments [k], plans [k]) -> chunks [k, chunk, act]``: the chunk of
each named environment that has made so many plans before."""


class ChunkQueue(NamedTuple):
    """What every environment has planned, and how far it has played it; arrays are read-only.

    Attributes:
        actions: The plan in play, learner units.
        cursor: Index of its head, ``0 <= cursor < chunk``.
        plans: Plans made so far; the number of the next one, which seeds its noise.
    """

    actions: Float[np.ndarray, "env chunk act"]
    cursor: Int[np.ndarray, " env"]
    plans: Int[np.ndarray, " env"]


def on_host(actions: object, cursor: object, plans: object) -> ChunkQueue:
    """Build a queue of read-only arrays, e.g. from those that a checkpoint gave back.

    Args:
        actions: ``[env, chunk, act]``.
        cursor: ``[env]``.
        plans: ``[env]``.
    """
    arrays = (np.array(actions, np.float32), np.array(cursor, np.int32), np.array(plans, np.int32))
    for array in arrays:
        array.setflags(write=False)
    return ChunkQueue(*arrays)


def start(observation: Float[np.ndarray, "env obs"], planner: Planner) -> ChunkQueue:
    """Plan the first chunk of every environment.

    Args:
        observation: Where the environments stand.
        planner: What plans.
    """
    envs = np.arange(len(observation), dtype=np.int32)
    none = np.zeros(len(observation), np.int32)
    return on_host(planner(observation, envs, none), none, none + 1)


def head(queue: ChunkQueue) -> Float[np.ndarray, "env act"]:
    """The base action of every environment for the observation in hand, learner units."""
    return queue.actions[np.arange(len(queue.cursor)), queue.cursor]


def advance(
    queue: ChunkQueue,
    next_observation: Float[np.ndarray, "env obs"],
    discard: Bool[np.ndarray, " env"],
    planner: Planner,
    executed: int,
) -> ChunkQueue:
    """Move every queue to the next observation, and replan where it ran out or is stale.

    ``cursor + 1``; where that is `executed`, or `discard`, a new chunk is planned from
    `next_observation` and the cursor is 0.

    Args:
        queue: What was in play for the observation before.
        next_observation: The observation in hand from now on; after a reset, the reset one.
        discard: Where `next_observation` starts an episode: a chunk that was planned in the last
            one must not survive into it.
        planner: What plans; it is asked for the due environments only, in ascending order.
        executed: Actions of a chunk that are played, ``1 <= executed <= chunk``.

    Raises:
        ValueError: `executed` is out of range.
    """
    chunk = queue.actions.shape[1]
    if not 1 <= executed <= chunk:
        raise ValueError(
            f"executed must lie between 1 and the chunk's {chunk} actions, got {executed}"
        )
    moved = on_host(queue.actions, queue.cursor + 1, queue.plans)
    return replan(moved, next_observation, discard | (moved.cursor >= executed), planner)


def replan(
    queue: ChunkQueue,
    observation: Float[np.ndarray, "env obs"],
    due: Bool[np.ndarray, " env"],
    planner: Planner,
) -> ChunkQueue:
    """Plan anew where it is due, the cursor 0 there; all other queues stay as they are.

    Args:
        queue: What is in play.
        observation: The observation in hand.
        due: Which environments plan.
        planner: What plans; it is asked for these alone, in ascending order.
    """
    rows = np.flatnonzero(due).astype(np.int32)
    if len(rows) == 0:
        return queue
    actions, cursor, plans = (np.array(x) for x in queue)
    actions[rows] = planner(observation[rows], rows, plans[rows])
    cursor[rows] = 0
    plans[rows] += 1
    return on_host(actions, cursor, plans)


class BasePlanner:
    """A :data:`Planner` of one frozen policy, compiled for at most four sizes of batch.

    Environments fall out of step, and then some of them replan in nearly every step. The due rows
    are gathered into the smallest batch of an eighth, a quarter, half or all of the environments
    that holds them; what fills it up is planned too and thrown away. The noise of a plan comes from
    ``fold_in(fold_in(key, environment), plans)``, so a plan depends on neither batch nor time.

    Attributes:
        sizes: Rows of the batches, ascending.
        traces: How often the program was traced, at most once a size.
    """

    def __init__(self, base: ChunkedBC, key: PRNGKeyArray, num_envs: int):
        """Prepare; nothing is compiled before the first plan.

        Args:
            base: One policy (not a stack of several).
            key: Random key of all its plans.
            num_envs: Number of environments ``N``.

        Raises:
            ValueError: ``num_envs`` is below 1.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.sizes = tuple(sorted({-(-num_envs // part) for part in (8, 4, 2, 1)}))
        self.traces = 0
        self._base, self._key = base, key
        self._plan = jax.jit(self._traced)

    def __call__(
        self,
        observation: Float[np.ndarray, "due obs"],
        envs: Int[np.ndarray, " due"],
        plans: Int[np.ndarray, " due"],
    ) -> Float[np.ndarray, "due chunk act"]:
        """Plan for the due environments; see :data:`Planner`.

        Raises:
            ValueError: There are none, or more than there are environments.
        """
        count = len(envs)
        if not 1 <= count <= self.sizes[-1]:
            raise ValueError(f"between 1 and {self.sizes[-1]} rows can be planned, got {count}")
        size = next(size for size in self.sizes if size >= count)
        rows = np.minimum(np.arange(size), count - 1)
        seeds = (envs[rows].astype(np.int32), plans[rows].astype(np.int32))
        chunks = self._plan(self._base, self._key, observation[rows], *seeds)
        return np.asarray(chunks)[:count]

    def _traced(
        self,
        base: ChunkedBC,
        key: PRNGKeyArray,
        observation: Float[Array, "row obs"],
        envs: Int[Array, " row"],
        plans: Int[Array, " row"],
    ) -> Float[Array, "row chunk act"]:
        self.traces += 1
        return base.plan(observation, plan_keys(key, envs, plans))


def run_by_run(planners: Sequence[Planner], rows: int) -> Planner:
    """One planner of a group of runs, each with a base policy of its own.

    Args:
        planners: One per run.
        rows: Environments of one run; environment ``i`` belongs to run ``i // rows`` and is to its
            planner environment ``i % rows``.
    """

    def plan(observation: np.ndarray, envs: np.ndarray, plans: np.ndarray) -> np.ndarray:
        parts = []
        for run in np.unique(envs // rows):  # rows come in ascending order, so parts do too
            own = envs // rows == run
            parts.append(planners[run](observation[own], envs[own] % rows, plans[own]))
        return np.concatenate(parts)

    return plan


def plan_keys(
    key: PRNGKeyArray, envs: Int[Array, " row"], plans: Int[Array, " row"]
) -> Key[Array, " row"]:
    """Key of each environment's next plan, ``fold_in(fold_in(key, environment), plans)``."""
    return jax.vmap(lambda e, n: jax.random.fold_in(jax.random.fold_in(key, e), n))(envs, plans)


def make_planner(base: ChunkedBC, key: PRNGKeyArray, num_envs: int) -> BasePlanner:
    """Return a planner of a frozen policy; see :class:`BasePlanner`."""
    return BasePlanner(base, key, num_envs)
