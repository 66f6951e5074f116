"""MetaWorld's peg insertion and nut assembly, as the assembly study uses them.

What a learner sees are 20 of MetaWorld's 39 numbers, said without waste:

=======  ==========================================================================
0:3      hand x, y, z, m
3        opening of the gripper, 1 open
4:7      object x, y, z, m: the grasp point of the peg, the handle of the nut
7:13     rotation of the object, the first two columns of its matrix
13:17    how much 0:4 changed since the frame before; 0 at the start of an episode
17:20    goal x, y, z, m: the hole of the peg, the top of the assembly's rod
=======  ==========================================================================

Departures from EnvPool's own behaviour, beyond those of ``steelyard.envs.envpool``:

- Reaching success ends the episode, and the reward is 1 then and 0 otherwise. EnvPool's episode
  runs on to its time limit, with a dense reward.
- The goal is visible. EnvPool hides it unless told otherwise, and the task cannot then be solved
  from what is seen.
- The time limit is 150 steps, not 500: the slowest scripted expert needs fewer.
- Its quaternions have the scalar last for the peg and first for the nut; both become columns here.
"""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from steelyard.envs.base import Step, checked_action, checked_seeds
from steelyard.envs.envpool import Pool
from steelyard.numerics.rotations import quaternion_to_6d
from steelyard.types import EnvSpec

OBSERVATION_SIZE = 20
ACTION_SIZE = 4
REWARDS = ("sparse", "dense")
ON_SUCCESS = ("terminate", "continue")
DENSE_REWARD_SCALE = 10.0

SCALARS = {"PegInsertSide-v3": "last", "Assembly-v3": "first"}
"""By task: where the scalar of its quaternion stands."""


@dataclasses.dataclass(frozen=True)
class AssemblyOptions:
    """How an episode runs and what it pays.

    Attributes:
        max_episode_steps: Time limit in steps, at least 1.
        reward: ``"sparse"``, 1 in the step in which the episode first succeeds and 0 otherwise, or
            ``"dense"``, EnvPool's own divided by 10, which is 1 in every successful step.
        on_success: ``"terminate"``, success ends the episode, or ``"continue"``, it runs on to the
            time limit.
        partially_observable: Must be False.

    Raises:
        ValueError: If a value is none of these, or a dense reward would end with success: the sum
            of rewards would then be larger the later it comes.
    """

    max_episode_steps: int = 150
    reward: str = "sparse"
    on_success: str = "terminate"
    partially_observable: bool = False

    def __post_init__(self):
        if self.max_episode_steps < 1:
            raise ValueError(f"max_episode_steps is at least 1, got {self.max_episode_steps}")
        for name, legal in (("reward", REWARDS), ("on_success", ON_SUCCESS)):
            value = getattr(self, name)
            if value not in legal:
                near = difflib.get_close_matches(str(value), legal, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{name} is one of {', '.join(legal)}, got {value!r}{hint}")
        if self.reward == "dense" and self.on_success != "continue":
            raise ValueError(
                f"reward='dense' needs on_success='continue', got on_success={self.on_success!r}: "
                "an episode that success ends would earn less by it"
            )
        if self.partially_observable:
            raise ValueError(
                "partially_observable must be False: goal is hidden; observation 36:39 is zero"
            )


def assembly_spec(id: str, **options: Any) -> EnvSpec:
    """Describe one of the tasks without building a simulator.

    Args:
        id: ``"PegInsertSide-v3"`` or ``"Assembly-v3"``.
        **options: Fields of :class:`AssemblyOptions`.

    Raises:
        ValueError: If the task or an option is refused; names what is legal.
    """
    return _described(id, options)[0]


class AssemblyTaskEnv:
    """A pool of one of the tasks, one seed per environment; implements ``VectorEnv``.

    Where an environment's episodes start depends on its seed and on how many it began before, not
    on what was done in them, so that learners that are compared share their starts.

    Attributes:
        spec: The task; it can terminate unless ``on_success="continue"``.
        num_envs: Number of environments, one per seed.
        succeeded: ``[env]`` bool, whether the episode that the last step belonged to has reached
            success; also where the reward does not tell.
    """

    succeeded: Bool[np.ndarray, "env"]

    def __init__(self, id: str, seeds: Sequence[int], *, num_threads: int = 0, **options: Any):
        """Build the pool.

        Args:
            id: ``"PegInsertSide-v3"`` or ``"Assembly-v3"``.
            seeds: One seed per environment, distinct (see ``training_seeds``).
            num_threads: Simulator threads; 0 for one per core. Changes no result.
            **options: Fields of :class:`AssemblyOptions`.

        Raises:
            ValueError: As ``assembly_spec``, or if the seeds are refused.
        """
        seeds = checked_seeds(seeds)
        self.spec, self._options = _described(id, options)
        self.num_envs = len(seeds)
        self._scalar = SCALARS[id]
        self._pool = Pool(
            f"MetaWorld/{id}",
            seeds,
            self.spec.max_episode_steps,
            num_threads,
            {"partially_observable": False},
        )
        self.succeeded = np.zeros(self.num_envs, np.bool_)
        self._won = self.succeeded  # of the episode that is on, where `succeeded` looks back

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, 20]``."""
        self.succeeded = self._won = np.zeros(self.num_envs, np.bool_)
        return observe(self._pool.reset(), self._scalar)

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, 4]``, clipped to ``[-1, 1]`` by the simulator.

        Raises:
            ValueError: If ``action`` has another shape or is not finite.
        """
        moved = self._pool.step(checked_action(action, self.spec, self.num_envs))
        assert moved.success is not None, "MetaWorld says whether a step succeeds"
        first = moved.success & ~self._won
        terminated = first & (self._options.on_success == "terminate")
        truncated = moved.at_limit & ~terminated
        dense = self._options.reward == "dense"
        reward = moved.reward / DENSE_REWARD_SCALE if dense else first
        self.succeeded = self._won | moved.success
        ended = terminated | truncated
        self._won = self.succeeded & ~ended
        next_observation = observe(moved.observation, self._scalar)
        observation = next_observation.copy()
        if ended.any():
            observation[ended] = observe(self._pool.reset(np.flatnonzero(ended)), self._scalar)
        return Step(observation, next_observation, reward.astype(np.float32), terminated, truncated)

    def close(self) -> None:
        """Release the simulator."""
        self._pool.close()


def observe(raw: Float[np.ndarray, "env 39"], scalar: str) -> Float32[np.ndarray, "env 20"]:
    """Return what a learner sees of MetaWorld's observation; see the module's table.

    Args:
        raw: 0:18 this frame (hand, opening, object, quaternion 7:11, zeros), 18:36 the frame
            before, 36:39 the goal.
        scalar: Whether the scalar of the quaternion is its ``"first"`` or ``"last"`` component.
    """
    rotation = quaternion_to_6d(raw[:, 7:11], scalar)
    parts = (raw[:, :7], rotation, raw[:, :4] - raw[:, 18:22], raw[:, 36:39])
    return np.concatenate(parts, axis=1).astype(np.float32)


def _described(id: str, options: dict[str, Any]) -> tuple[EnvSpec, AssemblyOptions]:
    """Return the task's spec and its options, checked."""
    if id not in SCALARS:
        near = difflib.get_close_matches(id, SCALARS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no assembly task {id!r}: legal are {', '.join(SCALARS)}{hint}")
    legal = [field.name for field in dataclasses.fields(AssemblyOptions)]
    for name in options:
        if name not in legal:
            near = difflib.get_close_matches(name, legal, n=1)
            hint = f"; did you mean {near[0]!r}" if near else ""
            raise ValueError(f"{id} has no option {name!r}{hint}. Legal: {', '.join(legal)}")
    try:
        chosen = AssemblyOptions(**options)
    except ValueError as error:
        raise ValueError(f"assembly/{id}: {error}") from None
    low, high = (-1.0,) * ACTION_SIZE, (1.0,) * ACTION_SIZE
    can_terminate = chosen.on_success == "terminate"
    limit = chosen.max_episode_steps
    return EnvSpec(f"assembly/{id}", OBSERVATION_SIZE, low, high, limit, can_terminate), chosen
