"""robosuite's Lift, Can and Square as sparse tasks; needs ``pip install 'steelyard[robosuite]'``.

What is seen is what robomimic's low-dimensional data hold: place of the hand (3), its quaternion
(4, scalar last), the fingers (2), then the object: place, quaternion, and how it lies from the hand
(``lift`` 10 numbers, ``can`` and ``square`` 14). Actions are the seven of the operational-space
controller. Reward is -1 a step and 0 at success, which ends the episode.

robosuite draws start states from numpy's global generator; here each environment's follow from its
seed and the number of its episode.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from steelyard.envs.base import Step, checked_action, checked_seeds
from steelyard.envs.extras import require
from steelyard.types import EnvSpec

NAMES = {"lift": "Lift", "can": "PickPlaceCan", "square": "NutAssemblySquare"}
LIMITS = {"lift": 300, "can": 300, "square": 400}
SIZES = {"lift": 19, "can": 23, "square": 23}
OBJECTS = {"lift": "cube", "can": "Can", "square": "SquareNut"}
ACTION_SIZE = 7
CONTROL_HZ = 20


def robosuite_spec(id: str) -> EnvSpec:
    """Describe a task without building a simulator.

    Raises:
        ValueError: There is no such task.
    """
    if id not in NAMES:
        near = difflib.get_close_matches(id, NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no robosuite task {id!r}: legal are {', '.join(NAMES)}{hint}")
    low, high = (-1.0,) * ACTION_SIZE, (1.0,) * ACTION_SIZE
    return EnvSpec(f"robosuite/{id}", SIZES[id], low, high, LIMITS[id], can_terminate=True)


def observe(raw: dict[str, np.ndarray], task: str) -> np.ndarray:
    """Join robosuite's named parts in robomimic's order."""
    name = OBJECTS[task]
    hand = [raw["robot0_eef_pos"], raw["robot0_eef_quat"], raw["robot0_gripper_qpos"]]
    thing = [raw[f"{name}_pos"], raw[f"{name}_quat"]]
    if task == "lift":
        thing.append(raw["gripper_to_cube_pos"])
    else:
        thing += [raw[f"{name}_to_robot0_eef_pos"], raw[f"{name}_to_robot0_eef_quat"]]
    return np.concatenate([*hand, *thing]).astype(np.float32)


class RobosuiteEnv:
    """Environments of one task, one after the other; implements ``VectorEnv``."""

    def __init__(self, id: str, seeds: Sequence[int]):
        """Build them.

        Args:
            id: ``lift``, ``can`` or ``square``.
            seeds: One per environment, distinct.

        Raises:
            ValueError: There is no such task, or the seeds are refused.
            ImportError: The package is missing.
        """
        self.spec, self._task = robosuite_spec(id), id
        self._seeds = checked_seeds(seeds)
        self.num_envs = len(seeds)
        self._envs = [_drawn([seed], lambda: _build(id)) for seed in self._seeds]
        self._episodes = np.zeros(self.num_envs, np.int64)
        self._elapsed = np.zeros(self.num_envs, np.int64)

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, obs]``."""
        return np.stack([self._first(index) for index in range(self.num_envs)])

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, 7]``.

        Raises:
            ValueError: If ``action`` has another shape or is not finite.
        """
        action = checked_action(action, self.spec, self.num_envs).astype(np.float64)
        shape = (self.num_envs, self.spec.observation_size)
        next_observation = np.empty(shape, np.float32)
        terminated = np.zeros(self.num_envs, np.bool_)
        for index, env in enumerate(self._envs):
            raw, reward, _, _ = env.step(np.clip(action[index], -1.0, 1.0))
            next_observation[index] = observe(raw, self._task)
            terminated[index] = reward > 0
        self._elapsed += 1
        truncated = (self._elapsed >= self.spec.max_episode_steps) & ~terminated
        observation = next_observation.copy()
        for index in map(int, np.flatnonzero(terminated | truncated)):
            observation[index] = self._first(index)
        reward = terminated.astype(np.float32) - 1.0
        return Step(observation, next_observation, reward, terminated, truncated)

    def close(self) -> None:
        """Release the simulators."""
        for env in self._envs:
            env.close()

    def _first(self, index: int) -> np.ndarray:
        place = [self._seeds[index], int(self._episodes[index]) + 1]
        raw = _drawn(place, self._envs[index].reset)
        self._episodes[index] += 1
        self._elapsed[index] = 0
        return observe(raw, self._task)


def _drawn(seeds: list[int], make: Callable[[], Any]) -> Any:
    """Call what draws from numpy's global generator; what it draws follows from the seeds."""
    before = np.random.get_state()
    np.random.seed(np.random.SeedSequence(seeds).generate_state(1)[0])
    try:
        return make()
    finally:
        np.random.set_state(before)


def _build(task: str) -> Any:
    robosuite = require("robosuite", "robosuite")
    from robosuite.controllers import load_composite_controller_config

    return robosuite.make(
        NAMES[task],
        robots="Panda",
        controller_configs=load_composite_controller_config(controller="BASIC", robot="Panda"),
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        use_object_obs=True,
        reward_shaping=False,
        control_freq=CONTROL_HZ,
        horizon=LIMITS[task] + 1,
        ignore_done=True,
        hard_reset=False,
    )
