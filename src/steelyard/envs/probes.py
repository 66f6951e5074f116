"""Small tasks whose solution is known, each of which fails for one reason.

A learner that passes them learns rewards, delays, observations and the two kinds of ending right;
one that fails is told by the probe's name where to look. ``PROBES[name].predicted`` holds what must
be found: at each of ``observations``, the best action and the optimal value (without an entropy
bonus, so the value of a soft learner approaches it as its temperature goes to 0).

===================  ================================================================  =============
name                 task                                                              optimum
===================  ================================================================  =============
action-reward        one step, ``r = a``                                               a = 1, V = 1
action-cost          one step, ``r = -a²``; a soft learner whose temperature is tuned  a = 0, V = 0
                     holds its entropy *at* the target H̄: ``log σ = H̄ - ½ log 2πe``,
                     temperature ``2σ²`` (one action, target well below ``log 2``)
zero-reward          one step, ``r = 0``; nothing holds the entropy down, so it stays  V = 0
                     *at or above* the target and a tuned temperature goes to 0
two-step             two steps, ``r = 0`` then ``r = 1``, whatever the action          V = γ, 1
observation-reward   one step, random ``o = ±1``, ``r = o``                            V = o
observation-action   one step, random ``o = ±1``, ``r = o·a``                          a = o, V = 1
truncation           constant observation, ``r = 1``, time limit 5                     V = 1/(1-γ)
termination          ``o = t/5``, ``r = 1``, terminates after 5 steps                  Σ γᵏ, k < 5-t
===================  ================================================================  =============

All have one observation and one action in ``[-1, 1]``. The idea is from Andy Jones, "Debugging RL,
without the agonizing pain" (2021).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int

from steelyard.envs.base import Step, checked_action, checked_seeds
from steelyard.types import EnvSpec

Vector = Float32[np.ndarray, " env"]
_LENGTH = 5


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a learner must find.

    Attributes:
        observations: The observations that a policy acts on, each a single number.
        best_actions: The best action at each, in ``[-1, 1]``; None where no action matters.
        values: Maps a discount in ``[0, 1)`` to the optimal value at each observation.
    """

    observations: tuple[float, ...]
    best_actions: tuple[float, ...] | None
    values: Callable[[float], tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class Probe:
    """The rules of one probe.

    Attributes:
        length: Steps of every episode.
        terminates: Whether episodes end by termination rather than by the time limit.
        observe: Maps steps taken and the episode's random sign to observations.
        reward: Maps steps taken before the step, sign and action to rewards.
        random_start: Whether the sign is drawn; otherwise it is 1 in each episode.
        predicted: What a learner must find.
    """

    length: int
    terminates: bool
    observe: Callable[[Int[np.ndarray, " env"], Vector], Vector]
    reward: Callable[[Int[np.ndarray, " env"], Vector, Vector], Vector]
    random_start: bool
    predicted: Prediction


def _zero(elapsed, sign):
    return np.zeros_like(sign)


def _sign(elapsed, sign):
    return sign


def _one(elapsed, sign, action):
    return np.ones_like(sign)


def _finite_sum(gamma: float) -> tuple[float, ...]:
    return tuple(sum(gamma**k for k in range(_LENGTH - t)) for t in range(_LENGTH))


def _one_step(reward, best_action: float | None, value: float) -> Probe:
    best = None if best_action is None else (best_action,)
    return Probe(1, True, _zero, reward, False, Prediction((0.0,), best, lambda gamma: (value,)))


PROBES: dict[str, Probe] = {
    "action-reward": _one_step(lambda elapsed, sign, action: action, 1.0, 1.0),
    "action-cost": _one_step(lambda elapsed, sign, action: -(action**2), 0.0, 0.0),
    "zero-reward": _one_step(lambda elapsed, sign, action: np.zeros_like(sign), None, 0.0),
    "two-step": Probe(
        length=2,
        terminates=True,
        observe=lambda elapsed, sign: elapsed.astype(np.float32),
        reward=lambda elapsed, sign, action: (elapsed == 1).astype(np.float32),
        random_start=False,
        predicted=Prediction((0.0, 1.0), None, lambda gamma: (gamma, 1.0)),
    ),
    "observation-reward": Probe(
        length=1,
        terminates=True,
        observe=_sign,
        reward=lambda elapsed, sign, action: sign.copy(),
        random_start=True,
        predicted=Prediction((-1.0, 1.0), None, lambda gamma: (-1.0, 1.0)),
    ),
    "observation-action": Probe(
        length=1,
        terminates=True,
        observe=_sign,
        reward=lambda elapsed, sign, action: sign * action,
        random_start=True,
        predicted=Prediction((-1.0, 1.0), (-1.0, 1.0), lambda gamma: (1.0, 1.0)),
    ),
    "truncation": Probe(
        length=_LENGTH,
        terminates=False,
        observe=_zero,
        reward=_one,
        random_start=False,
        predicted=Prediction((0.0,), None, lambda gamma: (1 / (1 - gamma),)),
    ),
    "termination": Probe(
        length=_LENGTH,
        terminates=True,
        observe=lambda elapsed, sign: (elapsed / _LENGTH).astype(np.float32),
        reward=_one,
        random_start=False,
        predicted=Prediction(tuple(t / _LENGTH for t in range(_LENGTH)), None, _finite_sum),
    ),
}


class ProbeEnv:
    """One probe, vectorised in numpy; implements ``VectorEnv``.

    Attributes:
        spec: The task; its time limit is the probe's length, plus one where it terminates.
        num_envs: Number of environments, one per seed.
        predicted: What a learner must find.
    """

    def __init__(self, name: str, seeds: Sequence[int]):
        """Build the environments.

        Args:
            name: A key of ``PROBES``.
            seeds: One seed per environment, distinct.

        Raises:
            ValueError: If there is no such probe, or the seeds are refused.
        """
        self.spec = probe_spec(name)
        self._probe = PROBES[name]
        self.predicted = self._probe.predicted
        self._rngs = [np.random.default_rng(seed) for seed in checked_seeds(seeds)]
        self.num_envs = len(self._rngs)
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._sign = np.ones(self.num_envs, np.float32)

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, obs]``."""
        self._start(np.ones(self.num_envs, np.bool_))
        return self._observation()

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, act]``, clipped to ``[-1, 1]``.

        Raises:
            ValueError: If ``action`` has another shape or is not finite.
        """
        action = checked_action(action, self.spec, self.num_envs)
        clipped = np.clip(action[:, 0], -1, 1).astype(np.float32)
        reward = self._probe.reward(self._elapsed, self._sign, clipped)
        self._elapsed += 1
        next_observation = self._observation()
        ended = self._elapsed >= self._probe.length
        self._start(ended)
        terminated = ended & self._probe.terminates
        return Step(self._observation(), next_observation, reward, terminated, ended & ~terminated)

    def close(self) -> None:
        """Do nothing: there is no simulator to release."""

    def _start(self, which: Bool[np.ndarray, " env"]) -> None:
        self._elapsed[which] = 0
        if self._probe.random_start:
            for index in np.flatnonzero(which):
                self._sign[index] = self._rngs[index].choice([-1.0, 1.0])

    def _observation(self) -> Float32[np.ndarray, "env obs"]:
        return self._probe.observe(self._elapsed, self._sign)[:, None].copy()


def probe_spec(name: str) -> EnvSpec:
    """Describe the probe ``name``.

    Raises:
        ValueError: If there is no such probe.
    """
    if name not in PROBES:
        raise ValueError(f"there is no probe {name!r}; legal: {', '.join(PROBES)}")
    probe = PROBES[name]
    limit = probe.length + probe.terminates
    return EnvSpec(f"probe/{name}", 1, (-1.0,), (1.0,), limit, probe.terminates)
