"""The compiled programs of the online phase of ACFQL, each over a whole group of runs.

Data flow: steps → store; store, priorities and labels → density ratios; store and ratios → chunks →
learner → TD errors → priorities.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.data.normalisation import Normaliser
from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.emphasis.measures import length_base, mean_one
from steelyard.emphasis.samplers import Systematic, Table
from steelyard.emphasis.trajectory_draws import (
    TD_METRIC,
    TrajectoryEmphasis,
    TrajectoryItems,
    new_ratio,
    trajectory_ratio,
)
from steelyard.emphasis.trajectory_priorities import (
    REWARD_SCORES,
    TrajectoryPriorities,
    reward_scores,
)
from steelyard.training.backward_walk import BackwardWalk
from steelyard.training.offline_rl import ChunkDraw, Drawing, draw_chunks
from steelyard.training.programs import ACT, fold
from steelyard.training.sharding import spread
from steelyard.training.trajectory_metrics import draw_metrics
from steelyard.types import ChunkBatch

SCORE_ALL, LEARN_ONLINE = 17, 19
"""Purposes that a run's key is folded with: scoring every start, and updates of this phase."""
SCORED_AT_ONCE = 256
PriorityUpdate = Literal["each", "legacy"]
Backward = Literal["no", "walk", "endpoint"]


@dataclasses.dataclass(frozen=True)
class RunEmphasis:
    """What a run draws online: for its critic, and for its policy."""

    critic: TrajectoryEmphasis = TrajectoryEmphasis()
    """Trajectories for the critic."""
    actor: TrajectoryEmphasis = TrajectoryEmphasis()
    """Trajectories for the policy; without effect where it shares the critic's batch."""


class Record(NamedTuple):
    """Steps of all runs, ``[seed, time, ...]``; see ``TrajectoryStore.append``."""

    observation: Any
    action: Any
    reward: Any
    terminated: Any
    next_observation: Any
    ended: Any


class OnlineState(NamedTuple):
    """All that a group needs to go on online, every array stacked ``[seed, ...]``.

    Attributes:
        agent: Learners.
        store: Trajectories.
        priorities: Of trajectories, by TD error.
        labels: Cluster of each trajectory.
        critic_ratio: Density ratio of each trajectory in the critic's draws.
        actor_ratio: The same in the policy's.
        walk: Where backward draws stand.
    """

    agent: ACFQL
    store: TrajectoryStore
    priorities: TrajectoryPriorities
    labels: Int[Array, "seed item"]
    critic_ratio: Float[Array, "seed item"]
    actor_ratio: Float[Array, "seed item"]
    walk: BackwardWalk


@dataclasses.dataclass(frozen=True)
class DrawSettings:
    """What all runs of a group share about drawing; an arm's own choice is its emphasis."""

    shared: bool = False
    """Whether the policy gets the critic's batch."""
    priority_update: PriorityUpdate = "each"
    """`each` scores every trajectory by its own chunks; `legacy` is the reference's, to compare."""
    backward: Backward = "no"
    """`walk` goes from each trajectory's last start to its first, `endpoint` stays at the last."""
    backward_stride: int = 1
    """Starts between two draws of a walk."""


class OnlinePrograms:
    """Jitted functions over a group; ``traces`` counts how often each was traced."""

    def __init__(
        self, config: ACFQLConfig, emphases: Sequence[RunEmphasis], settings: DrawSettings
    ):
        self.config, self.settings, self.emphases = config, settings, tuple(emphases)
        self.traces: dict[str, int] = {}
        self.plan = jax.jit(self._plan)
        self.append = jax.jit(self._append, donate_argnums=0)
        self.rank = jax.jit(self._ranked)
        self.score_all = jax.jit(self._score_all)
        self.close = jax.jit(jax.vmap(TrajectoryStore.close))
        self._update = jax.jit(self._updated, donate_argnums=(0, 1, 2), static_argnames="updates")
        own = [(e.critic, e.actor) for e in self.emphases]
        self._kinds = tuple(dict.fromkeys(kind for pair in own for kind in pair))
        self._which = np.array([[self._kinds.index(kind) for kind in pair] for pair in own])

    def initial(
        self, agent: ACFQL, store: TrajectoryStore, labels: Int[Array, "seed item"]
    ) -> OnlineState:
        """The state in which the online phase begins; ``store`` and ``labels`` are stacked."""
        runs, items = labels.shape
        ones = jnp.ones((runs, items))
        empty = jax.vmap(lambda _: TrajectoryPriorities.empty(items))(jnp.arange(runs))
        walk = jax.vmap(lambda _: BackwardWalk.empty(self.config.batch_size))(jnp.arange(runs))
        return OnlineState(agent, store, empty, labels, ones, ones, walk)

    def _plan(
        self, agent: ACFQL, observation: Array, keys: Key[Array, " seed"], step: Array | int
    ) -> Float[Array, "seed chunk act"]:
        """A chunk of actions in ``[-1, 1]`` for every run's environment."""
        self._count("plan")
        return jax.vmap(lambda a, o, k: a.plan(o[None], fold(k, ACT, step))[0])(
            agent, observation, keys
        )

    def planner(
        self, agent: ACFQL, keys: Key[Array, " seed"], step: int
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Plans of a learner as it stands before ``step``; each has noise of its own."""
        asked = itertools.count()

        def plan(observation: np.ndarray) -> np.ndarray:
            # A window has at most as many plans as steps, so no two moments share a key.
            return np.asarray(self.plan(agent, observation, keys, step + next(asked)))

        return plan

    def _append(
        self, store: TrajectoryStore, priorities: TrajectoryPriorities, ratios: Any, record: Record
    ) -> tuple[TrajectoryStore, TrajectoryPriorities, Any]:
        """Put steps into the stores; trajectories that begin start with what new ones get."""
        self._count("append")

        def one(store: TrajectoryStore, record: Record) -> tuple:
            def add(store: TrajectoryStore, step: Record) -> tuple:
                return store.append(*step)

            store, gone = jax.lax.scan(add, store, record)
            return store, jnp.any(gone, axis=0)

        store, gone = jax.vmap(one)(store, record)

        def begun(ratio: Array) -> Array:
            return jax.vmap(lambda r, g, s: jnp.where(g, new_ratio(r, s.new & ~g), r))(
                ratio, gone, store
            )

        priorities = jax.vmap(TrajectoryPriorities.forget)(priorities, gone)
        return store, priorities, jax.tree.map(begun, ratios)

    def _ranked(
        self, state: OnlineState, warm: Bool[Array, " seed"]
    ) -> tuple[Float[Array, "seed item"], Float[Array, "seed item"]]:
        """Density ratios of critic and policy, each run's own; ranks only where ``warm``."""
        self._count("rank")
        horizon = self.config.horizon_length
        metrics = [k.metric for k in self._kinds if k.weighting == "rank"]
        rewards = sorted({m for m in metrics if m in REWARD_SCORES})

        def one(state: OnlineState, which: Array, warm: Array) -> tuple:
            store = state.store
            found = {
                m: reward_scores(m, store.reward, store.row_items(), store.length.shape[0])
                for m in rewards
            }

            def ratio(kind: TrajectoryEmphasis, starts: Array) -> Array:
                scores = state.priorities.scores(store.held)
                by_reward = found.get(kind.metric)
                items = TrajectoryItems.of(store, starts, state.labels, scores, by_reward)
                value = trajectory_ratio(kind, items)
                if kind.weighting != "rank":
                    return value
                return jnp.where(warm, value, (starts > 0).astype(value.dtype))

            critic, actor = store.critic_starts(horizon), store.length
            return tuple(
                jnp.stack([ratio(kind, starts) for kind in self._kinds])[which[place]]
                for place, starts in enumerate((critic, actor))
            )

        return jax.vmap(one)(state, jnp.asarray(self._which), warm)

    def update(
        self, state: OnlineState, keys: Array, step: int, exponent: float, updates: int
    ) -> tuple[OnlineState, dict[str, Array]]:
        """Take ``updates`` updates on the store as it stands; metrics are ``[seed]``."""
        corrected = np.array([[e.critic.corrected, e.actor.corrected] for e in self.emphases])
        agent, priorities, walk, metrics = self._update(
            state.agent,
            state.priorities,
            state.walk,
            state.store,
            (state.critic_ratio, state.actor_ratio),
            keys,
            step,
            jnp.asarray(exponent * corrected, jnp.float32),
            updates=updates,
        )
        return state._replace(agent=agent, priorities=priorities, walk=walk), metrics

    def _updated(
        self,
        agent: ACFQL,
        priorities: TrajectoryPriorities,
        walk: BackwardWalk,
        store: TrajectoryStore,
        ratios: tuple[Array, Array],
        keys: Key[Array, " seed"],
        step: Array | int,
        exponents: Float[Array, "seed 2"],
        updates: int,
    ) -> tuple:
        self._count("update")
        config, settings = self.config, self.settings

        def one(
            agent: ACFQL,
            priorities: TrajectoryPriorities,
            walk: BackwardWalk,
            store: TrajectoryStore,
            ratios: tuple[Array, Array],
            key: PRNGKeyArray,
            exponent: Array,
        ) -> tuple:
            critic = _table(store.critic_starts(config.horizon_length), ratios[0])
            unused = Normaliser.identity(store.observation.shape[-1])
            data = Drawing(store, critic, _table(store.length, ratios[1]), unused)

            def draw(walk: BackwardWalk, key: PRNGKeyArray) -> tuple[ChunkDraw, BackwardWalk]:
                found = draw_chunks(config, data, key, config.batch_size)
                if settings.backward == "no":
                    return found, walk
                return walk.draw(
                    found, data, key, config, settings.backward, settings.backward_stride
                )

            def body(carry: tuple, key: PRNGKeyArray) -> tuple:
                agent, priorities, walk = carry
                draw_key, update_key = jax.random.split(key)
                found, walk = draw(walk, draw_key)
                weights = found.owed ** exponent[0]
                if settings.shared:
                    batch = ChunkBatch(found.batch.critic)
                else:
                    owed = found.actor_owed ** exponent[1]
                    batch = dataclasses.replace(found.batch, actor_weights=owed)
                agent, info = agent.update(spread(batch), update_key, spread(weights))
                errors = info.items["td_error"]
                if settings.priority_update == "legacy":
                    priorities = priorities.seen_legacy(found.items, errors)
                else:
                    priorities = priorities.seen(found.items, errors)
                return (agent, priorities, walk), (info.metrics, found, errors, weights)

            keys = jax.random.split(fold(key, LEARN_ONLINE, step), updates)
            (agent, priorities, walk), (metrics, *last) = jax.lax.scan(
                body, (agent, priorities, walk), keys
            )
            found, errors, weights = jax.tree.map(lambda x: x[-1], tuple(last))
            shown = {f"online_agent/{n}": jnp.mean(x) for n, x in metrics.items()}
            scores = priorities.scores(store.held)
            shown |= draw_metrics(found, store, data.critic, scores, errors, weights)
            return agent, priorities, walk, shown

        return jax.vmap(one)(agent, priorities, walk, store, ratios, keys, exponents)

    def _score_all(
        self, agent: ACFQL, store: TrajectoryStore, keys: Key[Array, " seed"]
    ) -> TrajectoryPriorities:
        """Priorities from one pass over all starts that train the critic."""
        self._count("score_all")
        config = self.config

        def one(agent: ACFQL, store: TrajectoryStore, key: PRNGKeyArray) -> TrajectoryPriorities:
            rows, items = store.reward.shape[0], store.length.shape[0]
            item = store.row_items()
            place = jnp.minimum(item, items - 1)
            start = jnp.arange(rows) - store.offset[place]
            counts = (item < items) & (start < store.critic_starts(config.horizon_length)[place])
            start = jnp.where(counts, start, 0)
            size = min(SCORED_AT_ONCE, rows)
            parts = -(-rows // size)

            def part(number: Array, total: Array) -> Array:
                at = jnp.minimum(number * size + jnp.arange(size), rows - 1)
                steps = config.horizon_length, config.discount, config.use_weighted_target
                batch = store.chunks(place[at], start[at], *steps)
                found = agent.td_errors(batch, jax.random.fold_in(key, number))
                return total.at[at].set(found)

            errors = jax.lax.fori_loop(0, parts, part, jnp.zeros(rows))
            drawn = jnp.where(counts, item, items)
            return TrajectoryPriorities.empty(items).seen(drawn, errors)

        folded = jax.vmap(lambda key: fold(key, SCORE_ALL, 0))(keys)
        return jax.vmap(one)(agent, store, folded)

    def _count(self, name: str) -> None:
        self.traces[name] = self.traces.get(name, 0) + 1


def needs_scores(emphases: Sequence[RunEmphasis]) -> bool:
    """Whether any run ranks by TD error."""
    both = [part for emphasis in emphases for part in (emphasis.critic, emphasis.actor)]
    return any(part.weighting == "rank" and part.metric == TD_METRIC for part in both)


def _table(starts: Int[Array, " item"], ratio: Float[Array, " item"]) -> Table:
    base = length_base(starts)
    return Systematic().table(base * mean_one(ratio, base), base)


_ROWS = ("observation", "action", "reward", "terminated")
"""Fields of a store with a row a step."""


def fresh_part(store: TrajectoryStore) -> TrajectoryStore:
    """What a checkpoint keeps of stacked stores: all but the rows that never change."""
    rows = store.offline_rows
    return _with_rows(store, [getattr(store, name)[:, rows:] for name in _ROWS])


def with_fresh_part(store: TrajectoryStore, fresh: TrajectoryStore) -> TrajectoryStore:
    """Put such a part back behind the rows of stacked stores."""
    rows = store.offline_rows
    whole = [getattr(store, name).at[:, rows:].set(getattr(fresh, name)) for name in _ROWS]
    return _with_rows(fresh, whole)


def _with_rows(store: TrajectoryStore, values: list[Array]) -> TrajectoryStore:
    return eqx.tree_at(lambda s: [getattr(s, name) for name in _ROWS], store, values)
