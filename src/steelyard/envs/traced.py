"""Tasks that are a formula: all environments in one compiled step.

A task says how an episode begins, what is seen, how a step moves it, and what success pays;
:class:`TracedEnv` does the rest.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from steelyard.envs.base import Step, checked_action, checked_seeds
from steelyard.types import EnvSpec


class TracedTask(NamedTuple):
    """The functions of one task, of one environment each; a state has `seed` and `episode`.

    Attributes:
        begin: Seed and number of the episode to a state; what it draws follows from the two alone.
        observe: State to what is seen.
        move: State and action to the state, whether it succeeded, and whether time is up.
        pay: Success to reward.
    """

    begin: Callable[[Int[Array, ""], Int[Array, ""]], Any]
    observe: Callable[[Any], Float[Array, " obs"]]
    move: Callable[[Any, Float[Array, " act"]], tuple[Any, Array, Array]]
    pay: Callable[[Array], Array]


class TracedEnv:
    """A task, one seed per environment; implements ``VectorEnv``. Success ends an episode."""

    def __init__(self, spec: EnvSpec, task: TracedTask, seeds: Sequence[int]):
        """Build it.

        Args:
            spec: The task's sizes.
            task: Its functions.
            seeds: One per environment, distinct.

        Raises:
            ValueError: A seed is refused.
        """
        self.spec, self._task = spec, task
        self._seeds = jnp.asarray(checked_seeds(seeds), jnp.int32)
        self.num_envs = len(seeds)
        self._state: Any = None
        self._episodes = jnp.zeros(self.num_envs, jnp.int32)

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, obs]``."""
        if self._state is not None:
            self._episodes = self._state.episode + 1
        self._state, observation = _start(self._task, self._seeds, self._episodes)
        return np.asarray(observation)

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere; see ``VectorEnv``."""
        action = checked_action(action, self.spec, self.num_envs)
        self._state, results = _advance(self._task, self._state, jnp.asarray(action, jnp.float32))
        return Step(*(np.asarray(x) for x in results))

    def close(self) -> None:
        """Nothing to release."""


@functools.partial(jax.jit, static_argnums=0)
def _start(task: TracedTask, seeds: Array, episodes: Array) -> tuple[Any, Array]:
    state = jax.vmap(task.begin)(seeds, episodes)
    return state, jax.vmap(task.observe)(state)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _advance(task: TracedTask, state: Any, action: Array) -> tuple[Any, tuple]:
    def one(state: Any, action: Array) -> tuple:
        moved, success, late = task.move(state, action)
        fresh = task.begin(state.seed, state.episode + 1)
        ended = success | late
        following = jax.tree.map(lambda a, b: jnp.where(ended, a, b), fresh, moved)
        seen = task.observe(following), task.observe(moved)
        return following, (*seen, task.pay(success), success, late)

    return jax.vmap(one)(state, action)
