"""The online phase of ACFQL: a chunk of steps in every run's environment, then as many updates.

Data flow: offline learner and trajectories, and an environment a run → chunks of steps → the store
→ draws of each run's own emphasis → learner.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.envs.base import Step, VectorEnv
from steelyard.envs.seeding import MAX_GENERATIONS
from steelyard.training.checkpoint import stack_runs
from steelyard.training.chunk_player import ChunkPlayer, Finished
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.off_policy import EpisodeReturns, Speed, as_numpy
from steelyard.training.offline import crossed
from steelyard.training.online_rl_programs import (
    DrawSettings,
    OnlinePrograms,
    OnlineState,
    Record,
    RunEmphasis,
    fresh_part,
    needs_scores,
    with_fresh_part,
)


@dataclasses.dataclass(frozen=True)
class OnlineRLConfig:
    """How much is played and learned online, and when it is evaluated and kept."""

    online_steps: int = 1_000_000
    """Environment steps of a run, of its one environment."""
    start_training: int = 5_000
    """Steps before the first update."""
    utd_ratio: int = 1
    """Updates per environment step."""
    buffer_size: int = 2_000_000
    """Steps kept, offline ones included; those are never given up."""
    ptr_warmup_steps: int = 20_000
    """Steps before ranks count."""
    rerank_interval: int = 50
    """Updates between two rankings."""
    ptr_init: str = "pass"
    """`pass` scores every offline trajectory once before the first step, `max` ranks all alike."""
    ptr_refresh_every: int | None = None
    """Steps between further passes over all starts; none makes none."""
    importance_exponent: tuple[float, float] = (0.4, 1.0)
    """Power of the correction of ranked draws, at the first step and at the last."""
    log_interval: int = 5_000
    """Steps between rows of metrics."""
    eval_interval: int = 100_000
    """Steps between evaluations."""
    save_interval: int = 100_000
    """Steps between checkpoints. The open episode is cut there."""
    draws: DrawSettings = DrawSettings()
    """What all draws share."""

    def __post_init__(self) -> None:
        if self.ptr_init not in ("pass", "max"):
            raise ValueError(f"ptr_init is pass or max, got {self.ptr_init!r}")
        if self.online_steps and self.ptr_warmup_steps >= self.online_steps:
            raise ValueError(
                f"T-PER would never start: ptr_warmup_steps = {self.ptr_warmup_steps} must be "
                f"below online_steps = {self.online_steps}"
            )
        if self.online_steps > MAX_GENERATIONS * self.save_interval:
            raise ValueError(
                f"a run has at most {MAX_GENERATIONS} checkpoints, each of which starts fresh "
                f"environments: got online_steps {self.online_steps}, save_interval "
                f"{self.save_interval}"
            )
        for name in ("utd_ratio", "rerank_interval", "log_interval", "eval_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def train_online(
    agent: ACFQLConfig,
    config: OnlineRLConfig,
    group: RunGroup,
    start: ACFQL,
    stores: Sequence[TrajectoryStore],
    labels: Sequence[Int[np.ndarray, " item"]],
    emphases: Sequence[RunEmphasis],
    make_env: Callable[[int], VectorEnv],
    evaluate: Callable[[ACFQL], dict[str, np.ndarray]] | None = None,
    tick: Ticker = lambda step, note="": None,
    assign: Callable[[int, np.ndarray], int] | None = None,
) -> OnlineState:
    """Train a group of runs online and return their stacked state.

    Args:
        agent: Hyper-parameters of the learners.
        config: Sizes and intervals.
        group: Seeds and folders; a group that was killed goes on from its last checkpoint.
        start: Learners of the offline phase, stacked.
        stores: Trajectories of each run, with room for new ones, of equal shapes.
        labels: Cluster of each place of a store, new ones included.
        emphases: What each run draws.
        make_env: Builds the group's environments, one a run, for a generation; they are rebuilt
            after each checkpoint, so that a resumed run sees the same episodes.
        evaluate: ``stacked learner -> {metric: [seed]}``.
        tick: Progress display.
        assign: Run and observations ``[frame, obs]`` of a finished trajectory to its cluster; none
            leaves it that of its place.
    """
    num, total, window = len(group.seeds), config.online_steps, agent.horizon_length
    keys = jnp.stack([jax.random.key(seed) for seed in group.seeds])
    programs = OnlinePrograms(agent, emphases, config.draws)
    offline = stack_runs(list(stores))
    state = programs.initial(start, offline, jnp.asarray(np.stack(labels)))
    kept = jax.tree.map(lambda x: x[0], state._replace(store=fresh_part(offline)))
    restored, steps, generation = group.restore(kept)
    if restored is not None:
        state = restored._replace(store=with_fresh_part(offline, restored.store))
    elif config.ptr_init == "pass" and needs_scores(emphases):
        state = state._replace(priorities=programs.score_all(state.agent, state.store, keys))
    speed = Speed(num)
    while steps < total:
        player = ChunkPlayer(make_env(generation), agent.chunk)
        episodes, learner = EpisodeReturns(num, 1), Learner(programs, config, keys)
        segment_ends = False
        while not segment_ends:
            rows = min(window, total - steps)
            record, played = player.play(programs.planner(state.agent, keys, steps), rows)
            for step in played:
                episodes.add(Step(*(x[:, None] for x in step)))
            steps += rows
            state = _stored(programs, state, record, player.take_finished(), assign)
            metrics: dict[str, jax.Array] = {}
            if steps > config.start_training:
                state, metrics = learner.learn(state, steps, rows)
                speed.updates += rows * config.utd_ratio
            speed.frames += rows
            done = steps >= total
            segment_ends = done or crossed(steps, rows, config.save_interval)
            if done or crossed(steps, rows, config.log_interval):
                values = as_numpy(metrics)
                group.freeze_non_finite(steps, values)
                group.log(steps, values | _played(episodes) | speed.take())
                tick(steps, episodes.note)
            if evaluate and (done or crossed(steps, rows, config.eval_interval)):
                with speed.paused():
                    group.log(steps, evaluate(state.agent))
        player.close()
        generation += 1
        state = state._replace(store=programs.close(state.store))
        with speed.paused():
            group.save(state._replace(store=fresh_part(state.store)), steps, generation)
    return state


class Learner:
    """Ranks and updates of a stretch between two checkpoints; each begins with a ranking."""

    def __init__(self, programs: OnlinePrograms, config: OnlineRLConfig, keys: jax.Array):
        self._programs, self._config, self._keys = programs, config, keys
        self._due = 0

    def learn(
        self, state: OnlineState, steps: int, rows: int
    ) -> tuple[OnlineState, dict[str, jax.Array]]:
        """Take the updates that ``rows`` steps up to ``steps`` pay for."""
        programs, config = self._programs, self._config
        if crossed(steps, rows, config.ptr_refresh_every):
            found = programs.score_all(state.agent, state.store, self._keys)
            state = state._replace(priorities=found)
        if self._due <= 0:
            warm = jnp.full(len(self._keys), steps > config.ptr_warmup_steps)
            critic, actor = programs.rank(state, warm)
            state = state._replace(critic_ratio=critic, actor_ratio=actor)
            self._due = config.rerank_interval
        updates = rows * config.utd_ratio
        self._due -= updates
        first, last = config.importance_exponent
        exponent = first + (last - first) * steps / config.online_steps
        return programs.update(state, self._keys, steps, exponent, updates)


def _stored(
    programs: OnlinePrograms,
    state: OnlineState,
    record: Record,
    finished: Sequence[Finished],
    assign: Callable[[int, np.ndarray], int] | None,
) -> OnlineState:
    """Put steps into the stores, and finished trajectories into clusters."""
    before = None if assign is None else np.asarray(state.store.next_place)
    ratios = state.critic_ratio, state.actor_ratio
    store, priorities, ratios = programs.append(state.store, state.priorities, ratios, record)
    state = state._replace(
        store=store, priorities=priorities, critic_ratio=ratios[0], actor_ratio=ratios[1]
    )
    if before is None or assign is None or not finished:
        return state
    labels, places = np.array(state.labels), before.copy()
    for trajectory in finished:
        run = trajectory.run
        labels[run, places[run]] = assign(run, trajectory.observations)
        following = places[run] + 1
        places[run] = following if following < labels.shape[1] else store.offline_items
    return state._replace(labels=jnp.asarray(labels))


def _played(episodes: EpisodeReturns) -> dict[str, np.ndarray]:
    """Training episodes since the last row."""
    return {f"env/{name}": value for name, value in episodes.take().items()}
