"""The smallest runs that still exercise everything: 8 hidden units, batches of 8, 320 frames.

Their task is a pendulum with a time limit of 20 steps, so that episodes end within a segment.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from steelyard.agents.bc import BCConfig
from steelyard.agents.ipmd import IPMDConfig
from steelyard.agents.sac import SACConfig
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.provenance import Provenance
from steelyard.envs.base import Step, VectorEnv
from steelyard.envs.registry import env_spec, make_env, register_env
from steelyard.evaluation.evaluator import random_policies
from steelyard.evaluation.rollouts import record_episodes
from steelyard.training.group import RunGroup
from steelyard.training.metrics import CLOCK_KEYS, read_rows
from steelyard.training.off_policy import OffPolicyConfig
from steelyard.training.recipes import BCRun, IPMDRun, SACRun
from steelyard.training.run_folder import RunFolder

TASK = "short-pendulum"
LIMIT = 20
NETWORK = {"hidden": (8,), "batch_size": 8}
LOOP = OffPolicyConfig(
    frames=320, num_envs=4, random_frames=80, log_interval=40, checkpoint_interval=80
)
SAC_RUN = SACRun(TASK, SACConfig(**NETWORK), LOOP)
IPMD_RUN = IPMDRun(TASK, IPMDConfig(**NETWORK, reward_num_cells=(8,), expert_batch_size=8), LOOP)
BC_RUN = BCRun(TASK, BCConfig(**NETWORK), epochs=1, min_steps=1_000, checkpoint_interval=250)

Poison = Callable[[np.ndarray], np.ndarray]
POISONS: dict[str, Poison] = {
    "nan": lambda reward: np.full_like(reward, np.nan),
    "million": lambda reward: np.full_like(reward, 1e6),
    "negated": lambda reward: -reward,
    "random": lambda reward: np.random.default_rng(0).normal(size=reward.shape),
}


class ShortPendulum:
    """Pendulum with a time limit of 20 steps, whose reward column may be spoilt.

    Args:
        seeds: One per environment.
        poison: What becomes of the rewards.
        run: The one run whose rewards are spoilt; none spoils all of them.
    """

    def __init__(self, seeds: Sequence[int], poison: Poison | None = None, run: int | None = None):
        self._env = make_env("Pendulum-v1", seeds, max_episode_steps=LIMIT)
        self.spec = dataclasses.replace(self._env.spec, id=TASK)
        self.num_envs, self._poison = self._env.num_envs, poison
        self._spoilt = np.array([run in (None, seed // 10_000 - 1) for seed in seeds])

    def reset(self) -> np.ndarray:
        return self._env.reset()

    def step(self, action: np.ndarray) -> Step:
        step = self._env.step(action)
        if self._poison is None:
            return step
        spoilt = np.where(self._spoilt, self._poison(step.reward), step.reward)
        return step._replace(reward=spoilt.astype(np.float32))

    def close(self) -> None:
        self._env.close()


def _register() -> None:
    register_env(TASK, ShortPendulum)
    register_env("nan-in-run-1", lambda seeds: ShortPendulum(seeds, POISONS["nan"], run=1))
    for name, poison in POISONS.items():
        register_env(f"poisoned-{name}", lambda seeds, poison=poison: ShortPendulum(seeds, poison))


_register()


def make_short(seeds: Sequence[int]) -> VectorEnv:
    """The tiny runs' task."""
    return ShortPendulum(seeds)


def group(root: Path, seeds: Sequence[int] = (0, 1), arm: str = "tiny", **options) -> RunGroup:
    """A group whose run of seed ``s`` lies in ``root/s``."""
    return RunGroup(list(seeds), [RunFolder(root / str(seed)) for seed in seeds], arm, **options)


def demonstrations(episodes: int = 10, seed: int = 0) -> Demonstrations:
    """Recorded random play: nothing to learn from, but real rows."""
    spec = env_spec(TASK)
    starts = [500_000_000 + 100 * seed + i for i in range(episodes)]
    recorded = record_episodes(random_policies(spec, [seed], episodes), TASK, starts, 1)[0]
    return Demonstrations.from_episodes(recorded, spec, Provenance(TASK, "random", seed))


def state_of(root: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """The one checkpoint a run has kept: parameters, optimisers, replay, statistics."""
    (path,) = (root / str(seed) / "checkpoints").iterdir()
    return {"file": np.array(path.name)} | load_file(path)


def rows_of(root: Path, seed: int = 0) -> list[dict]:
    """Rows of ``metrics.jsonl`` without the wall time."""
    rows = read_rows(root / str(seed) / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in CLOCK_KEYS} for row in rows]


def assert_same_bits(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype, name
        assert array.tobytes() == right[name].tobytes(), name


def assert_same_runs(left: Path, right: Path, seeds: Sequence[int] = (0, 1)) -> None:
    """Rows (but for the wall time) and final state are equal to the last bit."""
    for seed in seeds:
        assert rows_of(left, seed) == rows_of(right, seed)
        assert_same_bits(state_of(left, seed), state_of(right, seed))


def silent(step: int, note: str = "") -> None:
    """A ticker that shows nothing."""


class Killed(BaseException):
    """Stands for whatever ends a process at once."""


def dying_at(step: int):
    """A ticker that ends the run when it reaches ``step``."""

    def tick(now: int, note: str = "") -> None:
        if now >= step:
            raise Killed

    return tick
