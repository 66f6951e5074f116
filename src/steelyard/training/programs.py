"""The compiled programs of the off-policy loop: act, digest, create; each traced once a run."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PRNGKeyArray

from steelyard.data.normalisation import Statistics
from steelyard.data.replay import Replay
from steelyard.envs.base import Step
from steelyard.training.sharding import spread
from steelyard.types import EnvSpec

CREATE, ACT, LEARN, WARM_START = range(4)  # purposes that a run's key is folded with


class Sources(NamedTuple):
    """What one run draws its batches from: its replay, and demonstrations where it has any."""

    replay: Replay
    demonstrations: Any


class OffPolicyProblem(NamedTuple):
    """The factories that tie one learner to its data.

    Attributes:
        create: Key to a new learner.
        record: ``(observation, action in [-1, 1], step)``, numpy rows, to what replay keeps. A
            learner that must not see rewards gets a record without them here.
        draw: ``(sources, key, rows) -> batch`` of one update.
        normaliser: ``fixed`` leaves the learner's own, ``frozen`` sets it once from demonstrations
            and random frames, ``running`` follows all frames.
        warm_start: ``(learner, sources, key) -> learner``, once, before the first update.
    """

    create: Callable[[PRNGKeyArray], Any]
    record: Callable[[np.ndarray, np.ndarray, Step], Any]
    draw: Callable[[Sources, PRNGKeyArray, int], Any]
    normaliser: Literal["fixed", "frozen", "running"] = "fixed"
    warm_start: Callable[[Any, Sources, PRNGKeyArray], Any] | None = None


class State(NamedTuple):
    """All that a group of runs needs to go on, every array stacked ``[seed, ...]``."""

    agent: Any
    replay: Replay
    statistics: Statistics


class Programs:
    """Jitted functions over a whole group; ``traces`` counts how often each was traced."""

    def __init__(
        self, problem: OffPolicyProblem, spec: EnvSpec, rows: int, demonstrations: Any | None
    ):
        self.problem, self.spec, self.rows = problem, spec, rows
        self.demonstrations = demonstrations
        self.traces: dict[str, int] = {}
        self.act = jax.jit(self._act, static_argnames="random")
        self.store = jax.jit(self._store, donate_argnums=0)
        self.begin = jax.jit(self._begin)
        self._update = jax.jit(self._updated, donate_argnums=0, static_argnames="updates")

    def initial(self, keys: Key[Array, " seed"], capacity: int) -> State:
        """New learners, empty replay, statistics of the demonstrations' observations."""
        num, size = keys.shape[0], self.spec.observation_size
        agent = eqx.filter_jit(eqx.filter_vmap(lambda k: self.problem.create(fold(k, CREATE, 0))))(
            keys
        )
        blank = np.zeros((1, size), np.float32)
        flags, none = np.zeros(1, bool), np.zeros((1, self.spec.action_size), np.float32)
        step = Step(blank, blank, np.zeros(1, np.float32), flags, flags)
        example = jax.tree.map(lambda x: x[0], self.problem.record(blank, none, step))
        if self.demonstrations is None:
            statistics = jax.vmap(lambda _: Statistics.empty(size))(jnp.arange(num))
        else:
            statistics = self.demonstrations.statistics
        return State(agent, Replay.create(example, num, capacity, self.rows), statistics)

    def _act(
        self,
        agent: Any,
        observation: Array,
        keys: Key[Array, " seed"],
        frames: Array | int,
        random: bool,
    ) -> Array:
        """Actions in ``[-1, 1]``, ``[seed, env, act]``."""
        self._count("explore" if random else "act")

        def one(agent: Any, observation: Array, key: PRNGKeyArray) -> Array:
            key = fold(key, ACT, frames)
            if random:
                shape = (self.rows, self.spec.action_size)
                return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
            return agent.act(observation, key, deterministic=False)

        return jax.vmap(one)(agent, observation, keys)

    def _store(self, state: State, records: Any) -> State:
        """Put ``[seed, env, ...]`` records into replay and their observations into statistics."""
        self._count("store")
        statistics = jax.vmap(lambda s, o: s.merge(Statistics.of(o)))(
            state.statistics, records.observation
        )
        return State(state.agent, state.replay.insert(records), statistics)

    def _begin(self, state: State, keys: Key[Array, " seed"]) -> Any:
        """The learners as random play ends: normaliser set from what was seen, warmed up."""
        self._count("begin")
        agent = self._normalised(state.agent, state.statistics)
        warm_start = self.problem.warm_start
        if warm_start is None:
            return agent

        def one(agent: Any, replay: Replay, demonstrations: Any, key: PRNGKeyArray) -> Any:
            return warm_start(agent, Sources(replay, demonstrations), fold(key, WARM_START, 0))

        return jax.vmap(one)(agent, state.replay, self.demonstrations, keys)

    def learn(
        self,
        state: State,
        records: Any,
        keys: Key[Array, " seed"],
        frames: Array | int,
        updates: int,
    ) -> tuple[State, dict[str, Array]]:
        """Store records, then take ``updates`` updates; metrics are their means, ``[seed]``.

        Two programs, because one that both writes the replay and reads it again copies it: at
        500,000 rows that took five times as long as the update itself.
        """
        state = self.store(state, records)
        agent, metrics = self._update(
            state.agent, state.replay, state.statistics, keys, frames, updates=updates
        )
        return state._replace(agent=agent), metrics

    def _updated(
        self,
        agent: Any,
        replay: Replay,
        statistics: Statistics,
        keys: Key[Array, " seed"],
        frames: Array | int,
        updates: int,
    ) -> tuple[Any, dict[str, Array]]:
        self._count("update")
        if self.problem.normaliser == "running":
            agent = self._normalised(agent, statistics)

        def one(agent: Any, replay: Replay, demonstrations: Any, key: PRNGKeyArray) -> tuple:
            sources = Sources(replay, demonstrations)

            def body(agent: Any, key: PRNGKeyArray) -> tuple[Any, dict[str, Array]]:
                draw_key, update_key = jax.random.split(key)
                batch = self.problem.draw(sources, draw_key, agent.batch_rows)
                agent, info = agent.update(spread(batch), update_key)
                return agent, info.metrics

            keys = jax.random.split(fold(key, LEARN, frames), updates)
            agent, metrics = jax.lax.scan(body, agent, keys)
            return agent, jax.tree.map(jnp.mean, metrics)

        return jax.vmap(one)(agent, replay, self.demonstrations, keys)

    def _normalised(self, agent: Any, statistics: Statistics) -> Any:
        if self.problem.normaliser == "fixed":
            return agent
        return eqx.tree_at(
            lambda a: a.normaliser, agent, jax.vmap(Statistics.normaliser)(statistics)
        )

    def _count(self, name: str) -> None:
        self.traces[name] = self.traces.get(name, 0) + 1


def fold(key: PRNGKeyArray, purpose: int, step: Array | int) -> PRNGKeyArray:
    """A key for one purpose at one step; nothing but these two and the run's seed enters."""
    return jax.random.fold_in(jax.random.fold_in(key, purpose), step)
