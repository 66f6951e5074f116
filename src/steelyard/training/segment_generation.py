"""Segments from policies: who plays, how noisily, and where episodes are cut.

Data flow: modes of policies + noise → episodes → pieces of equal length, each with the likelihood
of its actions. Generators: ``graded`` (an expert's graded failures), ``mixture`` (demonstrators who
aim at different places) and ``checkpoints`` (policies of a training run).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from steelyard.data.segments import PlayedEpisodes, Segments
from steelyard.envs.dense import CONTROL_TIMESTEP
from steelyard.envs.registry import env_spec
from steelyard.envs.scripted.graded import GRADED, expert_action
from steelyard.envs.seeding import start_seeds
from steelyard.evaluation.rollouts import rollout
from steelyard.evaluation.success import reached
from steelyard.numerics.contrastive import clipped_gaussian
from steelyard.training.checkpoint import stack_runs
from steelyard.training.group import Ticker

Generator = Literal["graded", "mixture", "checkpoints"]
Modes = Callable[[np.ndarray], np.ndarray]
"""Observations ``[episode, obs]`` to actions before noise ``[episode, act]`` in ``[-1, 1]``."""

AT_ONCE = 64
"""Episodes played together; a simulated arm takes some 30 MB."""
MIXTURE_SPREAD_M, MIXTURE_RIGHT = 0.08, 0.3


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """How segments are made."""

    generator: Generator = "graded"
    """Who plays."""
    episodes: int = 32
    """Episodes of each grade and noise, or of all demonstrators of `mixture`."""
    episode_steps: int = 128
    """Steps played of each episode."""
    segment_steps: int = 64
    """Steps of a segment; what is left of an episode makes none."""
    noise_scales: tuple[float, ...] = (0.1, 0.3)
    """Standard deviations of the noise on actions."""

    def __post_init__(self) -> None:
        if not 1 <= self.segment_steps <= self.episode_steps:
            raise ValueError(
                "segment_steps lies in 1 … episode_steps: got "
                f"{self.segment_steps} of {self.episode_steps}"
            )
        if self.episodes < 1 or not self.noise_scales:
            raise ValueError("episodes is at least 1, and there is a noise scale")
        if min(self.noise_scales) < 0:
            raise ValueError(f"noise_scales are at least 0: got {self.noise_scales}")


@dataclasses.dataclass(frozen=True)
class Player:
    """Who plays an episode.

    Attributes:
        checkpoint: Place of its name.
        noise: Standard deviation of the noise on its actions.
    """

    checkpoint: int
    noise: float


def record_scripted(
    env: str, config: GenerationConfig, seed: int, tick: Ticker = lambda step, note="": None
) -> Segments:
    """Play ``graded`` or ``mixture`` episodes of one of MetaWorld's dense tasks.

    Args:
        env: Task, such as ``dense/SweepInto-v3``.
        config: What to play.
        seed: Of start states, noise and, for ``mixture``, aims.
        tick: Progress display, in steps of :func:`generation_steps`.

    Raises:
        ValueError: The task has no expert; names those that have.
    """
    task = env.removeprefix("dense/")
    check_scripted(env)
    random = np.random.default_rng([seed, 0x5E6])
    if config.generator == "graded":
        grades = GRADED[task].defects_m
        players = [
            Player(grade, noise)
            for grade in range(len(grades))
            for noise in config.noise_scales
            for _ in range(config.episodes)
        ]
        direction = np.asarray(GRADED[task].direction)
        displaced = np.array([grades[p.checkpoint] for p in players])[:, None] * direction
        names = tuple(f"displaced_{1000 * m:.0f}mm" for m in grades)
    else:
        scales = config.noise_scales
        players = [Player(0, scales[i % len(scales)]) for i in range(config.episodes)]
        aims = random.normal(0.0, MIXTURE_SPREAD_M, (config.episodes, 3)) * [1.0, 1.0, 0.0]
        right = random.random(config.episodes) < MIXTURE_RIGHT
        displaced = np.where(right[:, None], 0.0, aims)
        names = ("mixture",)

    def modes(first: int, number: int) -> Modes:
        own = displaced[first : first + number]
        return lambda observation: expert_action(task, observation, own)

    seeds = start_seeds(seed, len(players))
    return record_segments(
        env, seeds, players, modes, names, config, CONTROL_TIMESTEP, random, tick
    )


def record_checkpoints(
    env: str,
    policies: Sequence[tuple[str, Any]],
    config: GenerationConfig,
    seed: int,
    control_timestep: float,
    tick: Ticker = lambda step, note="": None,
) -> Segments:
    """Play episodes of several policies, each with every noise.

    Args:
        env: Task.
        policies: Names, and what has ``mode(observation) -> action`` for one observation.
        config: ``episodes`` are those of each policy and noise.
        seed: Of start states and noise.
        control_timestep: Seconds of a step.
        tick: Progress display.
    """
    players = [
        Player(number, noise)
        for number in range(len(policies))
        for noise in config.noise_scales
        for _ in range(config.episodes)
    ]
    mode = jax.jit(jax.vmap(lambda policy, o: policy.mode(o)))

    def modes(first: int, number: int) -> Modes:
        own = [policies[p.checkpoint][1] for p in players[first : first + number]]
        stacked = stack_runs(own)
        return lambda observation: np.asarray(mode(stacked, observation))

    return record_segments(
        env,
        start_seeds(seed, len(players)),
        players,
        modes,
        tuple(name for name, _ in policies),
        config,
        control_timestep,
        np.random.default_rng([seed, 0x5E6]),
        tick,
    )


def generation_players(config: GenerationConfig, checkpoints: int = 4) -> int:
    """Episodes that are played.

    Args:
        config: What to play.
        checkpoints: Policies that play, where they are those of a training run.
    """
    if config.generator == "mixture":
        return config.episodes
    return checkpoints * len(config.noise_scales) * config.episodes


def check_scripted(env: str) -> None:
    """Refuse a task that has no scripted expert.

    Raises:
        ValueError: Names those that have.
    """
    if not env.startswith("dense/") or env.removeprefix("dense/") not in GRADED:
        legal = ", ".join(f"dense/{name}" for name in GRADED)
        raise ValueError(
            f"{env} has no scripted expert to play it: legal are {legal}; for other tasks use "
            "checkpoints of a training run"
        )


def generation_steps(players: int, config: GenerationConfig) -> int:
    """Most steps that recording ticks."""
    return config.episode_steps * -(-players // AT_ONCE)


def record_segments(
    env: str,
    seeds: Sequence[int],
    players: Sequence[Player],
    modes: Callable[[int, int], Modes],
    checkpoints: tuple[str, ...],
    config: GenerationConfig,
    control_timestep: float,
    random: np.random.Generator,
    tick: Ticker = lambda step, note="": None,
    at_once: int = AT_ONCE,
) -> Segments:
    """Play one episode for each player and cut it.

    The action is ``clip(mode + noise · ε, -1, 1)``, whose likelihood is known exactly; with noise 0
    it has none, and NaN stands there.

    Args:
        env: Task.
        seeds: One an episode.
        players: Likewise.
        modes: Place of the first episode of a part, and their number, to their policies.
        checkpoints: Names that players refer to.
        config: Lengths.
        control_timestep: Seconds of a step.
        random: Of the noise.
        tick: Progress display.
        at_once: Episodes played together.

    Returns:
        Segments in order of episodes and time; those that an episode's end cuts are masked.
    """
    parts = []
    for number, first in enumerate(range(0, len(seeds), at_once)):
        own = slice(first, first + at_once)
        before = number * config.episode_steps
        parts.append(
            _play(
                env,
                seeds[own],
                np.array([player.noise for player in players[own]], np.float32),
                modes(first, len(seeds[own])),
                config.episode_steps,
                random,
                lambda step, before=before: tick(before + step),
            )
        )
    played = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return _cut(env, seeds, players, checkpoints, config, control_timestep, played)


def _play(
    env: str,
    seeds: Sequence[int],
    noise: np.ndarray,
    modes: Modes,
    steps: int,
    random: np.random.Generator,
    tick: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Play episodes together; columns ``[episode, step, ...]``."""
    chosen: list[tuple[np.ndarray, np.ndarray]] = []

    def policies(observation: np.ndarray) -> np.ndarray:
        mode = modes(observation[0])
        drawn = random.standard_normal(mode.shape).astype(np.float32)
        action = np.clip(mode + noise[:, None] * drawn, -1.0, 1.0).astype(np.float32)
        chosen.append((mode.astype(np.float32), action))
        return action[None]

    rows: list[dict[str, np.ndarray]] = []
    for moment in rollout(policies, env, seeds, 1, steps):
        mode, action = chosen[-1]
        step = moment.step
        rows.append(
            {
                "observation": moment.observation[0],
                "mode": mode,
                "action": action,
                "reward": step.reward[0],
                "terminated": step.terminated[0],
                "truncated": step.truncated[0],
                "success": reached(moment)[0],
                "next_observation": step.next_observation[0],
                "valid": moment.alive[0],
            }
        )
        tick(len(rows))
    columns = {name: np.stack([row[name] for row in rows], 1) for name in rows[0]}
    missing = min(steps, env_spec(env).max_episode_steps) - len(rows)
    if missing:
        columns = {
            name: np.pad(x, [(0, 0), (0, missing), *[(0, 0)] * (x.ndim - 2)])
            for name, x in columns.items()
        }
    for name, values in columns.items():
        if name != "valid":
            values[~columns["valid"]] = 0
    return columns


def _cut(
    env: str,
    seeds: Sequence[int],
    players: Sequence[Player],
    checkpoints: tuple[str, ...],
    config: GenerationConfig,
    control_timestep: float,
    played: dict[str, np.ndarray],
) -> Segments:
    length, count = config.segment_steps, played["action"].shape[1] // config.segment_steps

    def pieces(values: np.ndarray) -> np.ndarray:
        kept = values[:, : count * length]
        return kept.reshape(-1, length, *values.shape[2:])

    columns = {name: pieces(values) for name, values in played.items()}
    episode = np.repeat(np.arange(len(seeds)), count)
    noise = np.array([player.noise for player in players], np.float32)[episode]
    last = np.maximum(columns["valid"].sum(1) - 1, 0)
    segments = Segments(
        env=env,
        env_options={},
        control_timestep=control_timestep,
        observation=columns["observation"],
        action=columns["action"],
        reward=columns["reward"],
        terminated=columns["terminated"],
        truncated=columns["truncated"],
        valid=_with_one_valid(columns["valid"]),
        success=columns["success"],
        behaviour_logp=_likelihood(columns["mode"], columns["action"], noise),
        last_observation=columns["next_observation"][np.arange(len(last)), last],
        episode=episode,
        start=np.tile(np.arange(count) * length, len(seeds)),
        checkpoint=np.array([player.checkpoint for player in players])[episode],
        noise=noise,
        checkpoints=checkpoints,
        played=PlayedEpisodes(
            np.asarray(seeds, np.int64), played["action"], played["valid"].sum(1)
        ),
    )
    return segments.take(columns["valid"].any(1))


def _with_one_valid(valid: np.ndarray) -> np.ndarray:
    """Let pieces that lie after an episode's end pass the check; they are dropped at once."""
    return np.where(valid.any(1, keepdims=True), valid, True)


def _likelihood(mode: np.ndarray, action: np.ndarray, noise: np.ndarray) -> np.ndarray:
    std = jnp.asarray(np.where(noise > 0, noise, 1.0))[:, None, None]
    value = np.asarray(clipped_gaussian(jnp.asarray(mode), jnp.asarray(action), std))
    return np.where(noise[:, None] > 0, value, np.nan).astype(np.float32)
