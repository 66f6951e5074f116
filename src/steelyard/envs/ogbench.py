"""OGBench's single-task manipulation as online tasks, and its oracles as sources of play data.

Needs ``pip install 'steelyard[ogbench]'``. Reward is minus the number of sub-goals that are not
met, or with ``sparse`` -1 until all are; meeting them all ends the episode. What is seen is
OGBench's own state vector; actions are its own ``[-1, 1]`` ones.

Source: Park et al. 2025, "OGBench: Benchmarking Offline Goal-Conditioned RL", arXiv:2410.20092. The
package holds tasks and oracles, but not how data are collected with them; the settings of that are
the paper's.
"""

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from steelyard.envs.base import Step
from steelyard.envs.extras import require
from steelyard.envs.gymnasium import GymnasiumEnv
from steelyard.envs.spaces import without_precision_remarks
from steelyard.types import EnvSpec

LIMITS = {
    "cube-single": 200,
    "cube-double": 500,
    "cube-triple": 1000,
    "cube-quadruple": 1000,
    "cube-octuple": 1500,
    "scene": 750,
    "puzzle-3x3": 500,
    "puzzle-4x4": 500,
    "puzzle-4x5": 1000,
    "puzzle-4x6": 1000,
}
"""Time limit of each task, steps."""
_SUFFIXES = ("", *(f"-task{number}" for number in range(1, 6)))
TASKS = tuple(f"{name}-singletask{task}-v0" for name in LIMITS for task in _SUFFIXES)
COLLECT_STEPS = 1001
STACKING = {
    "cube-single": (0.0, 0.0),
    "cube-double": (0.0, 0.25),
    "cube-triple": (0.05, 0.35),
    "cube-quadruple": (0.1, 0.5),
    "cube-octuple": (0.1, 0.5),
}
"""Bounds of the chance that a target lies on another cube, drawn once an episode."""
ACTION_NOISE = np.array([1.0, 1.0, 1.0, 3.0, 10.0])
NOISY_MOST, NOISY_RANDOM, NOISY_MIN_NORM = 0.1, 0.1, 0.4
PLAY_NOISE, PLAY_SMOOTHING = 0.1, 0.5


def require_ogbench() -> Any:
    """The package.

    Raises:
        ImportError: It is not installed; says how.
    """
    return require("ogbench", "ogbench")


def make_ogbench(id: str, **options: Any) -> Any:
    """Build one of OGBench's own environments by its name.

    Raises:
        ImportError: The package is missing.
    """
    require_ogbench()
    import gymnasium

    with without_precision_remarks():
        return gymnasium.make(id, disable_env_checker=True, **options)


def base_name(id: str) -> str:
    """The task without what comes after it: ``cube-double`` of ``cube-double-singletask-v0``.

    Raises:
        ValueError: There is no such task.
    """
    for name in sorted(LIMITS, key=len, reverse=True):
        if id == name or id.startswith(f"{name}-"):
            return name
    near = difflib.get_close_matches(id, [*LIMITS, *TASKS], 3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ValueError(f"OGBench has no task {id!r}{hint} Legal: {', '.join(LIMITS)}")


class OGBenchEnv(GymnasiumEnv):
    """A single task of OGBench, one environment after the other; implements ``VectorEnv``."""

    def __init__(self, id: str, seeds: Sequence[int], *, sparse: bool = False):
        """Build it.

        Args:
            id: One of ``TASKS``.
            seeds: One seed per environment, distinct.
            sparse: Whether reward is -1 until all sub-goals are met.

        Raises:
            ValueError: There is no such task, or the seeds are refused.
            ImportError: The package is missing.
        """
        limit = LIMITS[_checked(id)]

        def build() -> Any:
            return make_ogbench(id)

        with without_precision_remarks():
            super().__init__(build, seeds, max_episode_steps=limit, id=f"ogbench/{id}")
        self._sparse = sparse

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, obs]``."""
        with without_precision_remarks():  # OGBench makes its spaces anew in every episode
            return super().reset()

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, 5]``."""
        with without_precision_remarks():
            step = super().step(action)
        return step._replace(reward=sparse_reward(step.reward)) if self._sparse else step


def sparse_reward(reward: np.ndarray) -> np.ndarray:
    """-1 where a reward is not 0.

    Raises:
        ValueError: A reward is positive; shows it and its row.
    """
    if (reward > 0).any():
        row = int(np.argmax(reward > 0))
        raise ValueError(
            f"sparse rewards are -1 and 0, made of rewards that are at most 0: row {row} has "
            f"{reward.flat[row]:g}"
        )
    return np.where(reward != 0, np.float32(-1.0), np.float32(0.0))


def _checked(id: str) -> str:
    if id not in TASKS:
        near = difflib.get_close_matches(id, TASKS, 3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"OGBench has no single task {id!r}{hint}")
    return base_name(id)


def ogbench_spec(id: str, sparse: bool = False) -> EnvSpec:
    """Describe a task; one environment is built to be asked."""
    env = OGBenchEnv(id, [0], sparse=sparse)
    env.close()
    return env.spec


class PlayEpisode(NamedTuple):
    """A recorded episode; columns lead with time, and the last row has no successor.

    Attributes:
        columns: ``observations``, ``actions``, ``qpos``, ``qvel``, and ``button_states`` where the
            task has buttons.
        healthy: Whether nothing fell out of reach.
    """

    columns: dict[str, np.ndarray]
    healthy: bool


def play_episode(name: str, kind: str, seed: int, steps: int = COLLECT_STEPS) -> PlayEpisode:
    """Let an oracle play with the objects of a task, from one random target to the next.

    Args:
        name: A key of ``LIMITS``.
        kind: ``play``, planned motions with correlated noise, or ``noisy``, reactive ones with
            Gaussian noise and some random actions.
        seed: Of everything in the episode.
        steps: Rows of it.

    Raises:
        ValueError: Task or kind is unknown.
        ImportError: The package is missing.
    """
    name = base_name(name)
    if kind not in ("play", "noisy"):
        raise ValueError(f"kind is play or noisy, got {kind!r}")
    env = make_ogbench(
        f"{name}-v0", terminate_at_goal=False, mode="data_collection", max_episode_steps=steps
    )
    # The oracles draw from numpy's global generator.
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        with without_precision_remarks():
            return _play(env, name, kind, np.random.default_rng([seed, 1]), seed, steps)
    finally:
        np.random.set_state(before)
        env.close()


def _play(
    env: Any, name: str, kind: str, random: np.random.Generator, seed: int, steps: int
) -> PlayEpisode:
    oracles = _oracles(env, kind)
    stack = random.uniform(*STACKING.get(name, (0.5, 0.5)))
    noise = random.uniform(0.0, NOISY_MOST) if kind == "noisy" else 0.0
    observation, info = env.reset(seed=seed)
    oracle = oracles[info["privileged/target_task"]]
    oracle.reset(observation, info)
    rows: dict[str, list[np.ndarray]] = {}
    healthy = True
    for _ in range(steps):
        if kind == "noisy" and random.uniform() < NOISY_RANDOM:
            action = env.action_space.sample()
        else:
            action = np.asarray(oracle.select_action(observation, info))
            action = action + noise * ACTION_NOISE * random.standard_normal(5)
        action = np.clip(action, -1.0, 1.0).astype(np.float32)
        following, _, _, _, after = env.step(action)
        row = {
            "observations": observation,
            "actions": action,
            "qpos": after["prev_qpos"],
            "qvel": after["prev_qvel"],
        }
        if "prev_button_states" in after:
            row["button_states"] = after["prev_button_states"]
        for key, value in row.items():
            rows.setdefault(key, []).append(np.array(value))
        observation, info = following, after
        if oracle.done:
            observation, info = env.unwrapped.set_new_target(p_stack=stack)
            oracle = oracles[info["privileged/target_task"]]
            oracle.reset(observation, info)
        cube = info.get("privileged/block_0_pos")
        # A cube that the drawer or the window has thrown off the table is out of reach.
        healthy &= cube is None or bool(np.all(np.abs(cube[:2]) < 1.0) and cube[2] > -0.1)
    kinds = {"observations": np.float32, "actions": np.float32, "qpos": np.float32}
    kinds |= {"qvel": np.float32, "button_states": np.int64}
    columns = {key: np.stack(values).astype(kinds[key]) for key, values in rows.items()}
    return PlayEpisode(columns, healthy)


def _oracles(env: Any, kind: str) -> dict[str, Any]:
    """An oracle for each object that a target can be of."""
    if kind == "play":
        from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
        from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
        from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
        from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

        types: dict[str, Any] = {
            "cube": CubePlanOracle,
            "button": ButtonPlanOracle,
            "drawer": DrawerPlanOracle,
            "window": WindowPlanOracle,
        }
        smooth = {"noise": PLAY_NOISE, "noise_smoothing": PLAY_SMOOTHING}
        return {task: make(env=env, **smooth) for task, make in types.items()}
    from ogbench.manipspace.oracles.markov.button_markov import ButtonMarkovOracle
    from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle
    from ogbench.manipspace.oracles.markov.drawer_markov import DrawerMarkovOracle
    from ogbench.manipspace.oracles.markov.window_markov import WindowMarkovOracle

    types = {
        "cube": CubeMarkovOracle,
        "button": ButtonMarkovOracle,
        "drawer": DrawerMarkovOracle,
        "window": WindowMarkovOracle,
    }
    return {task: make(env=env, min_norm=NOISY_MIN_NORM) for task, make in types.items()}
