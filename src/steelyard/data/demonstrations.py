"""Demonstrations: the episodes of an expert, on the host, as one immutable object.

Each episode keeps ``T + 1`` observations for its ``T`` actions, so the observation that an action
led to is always the next row and cannot be wrong. Actions keep environment units; only
:meth:`Demonstrations.transitions` gives learners' units.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from steelyard.data.episode import Episode, join_episodes, read_only
from steelyard.data.findings import DatasetError, raise_first_error
from steelyard.data.provenance import DatasetStatistics, Provenance
from steelyard.data.rules import dataset_findings
from steelyard.data.specs import compare_specs
from steelyard.types import EnvSpec, RewardFreeTransition, Transition

_ARRAYS = ("observations", "actions", "rewards", "terminations", "truncations")


@dataclasses.dataclass(frozen=True, eq=False)
class Demonstrations:
    """Episodes end to end, their task and their origin; checked when built, read-only after.

    Attributes:
        observations: ``[sum(T + 1), obs]`` float32, the last one of an episode being what its last
            action led to.
        actions: ``[sum T, act]`` float32, environment units, within the bounds of ``env_spec``.
        rewards: ``[sum T]`` float32, or ``None`` for reward-free data.
        terminations: ``[sum T]`` bool, the task ended here; at most on the last step of an episode.
        truncations: ``[sum T]`` bool, the episode was cut here; likewise. The last step of an
            episode is one of the two, or both.
        lengths: ``[episode]`` integers, steps ``T`` of each episode, at least 1.
        start_seeds: ``[episode]`` integers, seed of each start state; ``-1`` where unknown.
        env_spec: The task.
        provenance: The origin.

    Raises:
        DatasetError: An array breaks one of these rules, has another dtype or is not finite; the
            message names episode, row and both numbers.
    """

    # The axes are unchecked here (`_`): the rules below check them, and the dtypes, with a better
    # error.
    observations: Shaped[np.ndarray, "_frame _obs"]
    actions: Shaped[np.ndarray, "_step _act"]
    rewards: Shaped[np.ndarray, "_step"] | None
    terminations: Shaped[np.ndarray, "_step"]
    truncations: Shaped[np.ndarray, "_step"]
    lengths: Int[np.ndarray, "_episode"]
    start_seeds: Int[np.ndarray, "_episode"]
    env_spec: EnvSpec
    provenance: Provenance

    def __post_init__(self):
        for name in (*_ARRAYS, "lengths", "start_seeds"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, read_only(getattr(self, name), name))
        findings = dataset_findings(
            *(getattr(self, name) for name in _ARRAYS),
            lengths=self.lengths,
            start_seeds=self.start_seeds,
            env_spec=self.env_spec,
        )
        raise_first_error(findings, "demonstrations")

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_steps(self) -> int:
        """Number of steps, all episodes together."""
        return len(self.actions)

    @functools.cached_property
    def sha256(self) -> str:
        """sha-256 of all arrays (names, dtypes, shapes and bytes); the identity of the content."""
        digest = hashlib.sha256()
        for name in (*_ARRAYS, "lengths", "start_seeds"):
            array = getattr(self, name)
            if array is not None:
                digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
                digest.update(array.tobytes())
        return digest.hexdigest()

    # -- views -------------------------------------------------------------------------------

    def transitions(self) -> RewardFreeTransition:
        """Return all steps flat, actions normalised to ``[-1, 1]``, without the reward.

        Returns:
            A batch of ``sum T`` transitions in the order of the dataset, as JAX arrays on the
            default device. Actions that leave the bounds by less than the tolerance are clipped.
        """
        before, after = self._frames_around_steps()
        return RewardFreeTransition(
            observation=jnp.asarray(self.observations[before]),
            action=jnp.asarray(np.clip(self.env_spec.to_learner_units(self.actions), -1, 1)),
            terminated=jnp.asarray(self.terminations),
            next_observation=jnp.asarray(self.observations[after]),
        )

    def transitions_with_reward(self) -> Transition:
        """Return all steps flat as :meth:`transitions` does, with the task's reward.

        Raises:
            DatasetError: The dataset has no rewards.
        """
        rewards = self._rewards_or_raise("transitions_with_reward()")
        steps = self.transitions()
        return Transition(
            observation=steps.observation,
            action=steps.action,
            reward=jnp.asarray(rewards),
            terminated=steps.terminated,
            next_observation=steps.next_observation,
        )

    def step_episodes(self) -> Int[np.ndarray, "step"]:
        """Return the episode that each step belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def episodes(self) -> Iterator[Episode]:
        """Yield the episodes in order, as views of the arrays."""
        ends = np.cumsum(self.lengths)
        for index, (end, length) in enumerate(zip(ends, self.lengths, strict=True)):
            steps = slice(end - length, end)
            yield Episode(
                observations=self.observations[end - length + index : end + index + 1],
                actions=self.actions[steps],
                rewards=None if self.rewards is None else self.rewards[steps],
                terminated=bool(self.terminations[end - 1]),
                truncated=bool(self.truncations[end - 1]),
                start_seed=int(self.start_seeds[index]),
            )

    def returns(self) -> Float[np.ndarray, "episode"]:
        """Return the undiscounted return of each episode, float64.

        Raises:
            DatasetError: The dataset has no rewards.
        """
        rewards = self._rewards_or_raise("returns()").astype(np.float64)
        return np.add.reduceat(rewards, np.cumsum(self.lengths) - self.lengths)

    def statistics(self) -> DatasetStatistics:
        """Return means, standard deviations and counts; see :class:`DatasetStatistics`."""
        observations, actions = self.observations.astype(np.float64), self.actions.astype(float)
        returns = None if self.rewards is None else self.returns()
        return DatasetStatistics(
            observation_mean=observations.mean(0).astype(np.float32),
            observation_std=observations.std(0).astype(np.float32),
            action_mean=actions.mean(0).astype(np.float32),
            action_std=actions.std(0).astype(np.float32),
            episodes=len(self),
            steps=self.num_steps,
            shortest=int(self.lengths.min()),
            longest=int(self.lengths.max()),
            terminated_share=float(self.terminations.sum() / len(self)),
            return_mean=None if returns is None else float(returns.mean()),
            return_std=None if returns is None else float(returns.std()),
            return_min=None if returns is None else float(returns.min()),
            return_max=None if returns is None else float(returns.max()),
        )

    # -- subsets and mixtures ----------------------------------------------------------------

    def select(self, indices: Sequence[int] | Int[np.ndarray, "n"], note: str) -> "Demonstrations":
        """Return the episodes ``indices``, in that order; ``note`` goes into the provenance."""
        all_episodes = list(self.episodes())
        chosen = [all_episodes[index] for index in indices]
        return Demonstrations.from_episodes(chosen, self.env_spec, self.provenance.noting(note))

    def first(self, n: int) -> "Demonstrations":
        """Return the first ``n`` episodes.

        Raises:
            DatasetError: ``n`` is below 1 or above the number of episodes.
        """
        self._check_count("first", n)
        return self.select(range(n), f"first {n} of {len(self)} episodes")

    def best(self, n: int) -> "Demonstrations":
        """Return the ``n`` episodes of highest return, best first; ties keep their order.

        Raises:
            DatasetError: The dataset has no rewards, or ``n`` is out of range.
        """
        self._rewards_or_raise("best()")
        self._check_count("best", n)
        order = np.argsort(-self.returns(), kind="stable")[:n]
        return self.select(order, f"best {n} of {len(self)} episodes by return")

    def stride(self, k: int) -> "Demonstrations":
        """Return every ``k``-th episode, beginning with the first.

        Raises:
            DatasetError: ``k`` is below 1 or above the number of episodes.
        """
        self._check_count("stride", k)
        return self.select(range(0, len(self), k), f"every {k}. of {len(self)} episodes")

    def split(
        self, share: float, key: int | Array | np.ndarray
    ) -> "tuple[Demonstrations, Demonstrations | None]":
        """Split by episode into the rest and a held-out part, e.g. for validation.

        Args:
            share: Share of the episodes to hold out, in ``[0, 1)``; rounded down.
            key: What draws them: an integer seed or a JAX key.

        Returns:
            The rest and the held-out part, both in the order of the dataset. The second is
            ``None`` where ``share`` of the episodes is less than one.

        Raises:
            DatasetError: ``share`` is out of range.
        """
        if not 0 <= share < 1:
            raise DatasetError(f"split(): `share` must lie in [0, 1); got {share}")
        count = _whole(share * len(self))
        if count == 0:
            return self, None
        order = _generator(key).permutation(len(self))
        held, rest = np.sort(order[:count]), np.sort(order[count:])
        return (
            self.select(rest, f"split: {len(rest)} of {len(self)} episodes kept"),
            self.select(held, f"split: {len(held)} of {len(self)} episodes held out"),
        )

    def mix(self, other: "Demonstrations", share: float) -> "Demonstrations":
        """Replace a share of the episodes by the first ones of ``other``, evenly interleaved.

        The number of episodes stays, and every prefix holds ``share`` of ``other`` to within one
        episode, so ``mix`` then ``first`` keeps the mixture.

        Args:
            other: Demonstrations of the same task, e.g. of a random policy.
            share: Share of the episodes that come from ``other``, in ``[0, 1]``; rounded down.

        Returns:
            The mixture, reward-free if either part is.

        Raises:
            DatasetError: The tasks differ, ``share`` is out of range, or ``other`` has too few
                episodes.
        """
        compare_specs(self.env_spec, other.env_spec)
        if not 0 <= share <= 1:
            raise DatasetError(f"mix(): `share` must lie in [0, 1]; got {share}")
        total, needed = len(self), _whole(share * len(self))
        if needed > len(other):
            raise DatasetError(
                f"mix(): {share:g} of {total} episodes are {needed}; the other dataset has "
                f"{len(other)}"
            )
        theirs = [_whole(share * (e + 1)) > _whole(share * e) for e in range(total)]
        sources = (iter(self.episodes()), iter(other.episodes()))
        chosen = [next(sources[taken]) for taken in theirs]
        if self.rewards is None or other.rewards is None:
            chosen = [dataclasses.replace(episode, rewards=None) for episode in chosen]
        note = f"{needed} of {total} episodes from {other.provenance.algorithm} {other.sha256[:12]}"
        return Demonstrations.from_episodes(chosen, self.env_spec, self.provenance.noting(note))

    def without_rewards(self) -> "Demonstrations":
        """Return the same demonstrations with the reward column absent."""
        return dataclasses.replace(self, rewards=None)

    # -- construction and files --------------------------------------------------------------

    @classmethod
    def from_episodes(
        cls, episodes: Sequence[Episode], env_spec: EnvSpec, provenance: Provenance
    ) -> "Demonstrations":
        """Join episodes end to end.

        Args:
            episodes: At least one; all with rewards, or all without.
            env_spec: Their task.
            provenance: Their origin.

        Raises:
            DatasetError: There is none, only some have rewards, or a rule of the class is broken.
        """
        return cls(**join_episodes(episodes), env_spec=env_spec, provenance=provenance)

    @classmethod
    def load(cls, path: str | Path, env_spec: EnvSpec | None = None) -> "Demonstrations":
        """Read a dataset in any format; see :func:`steelyard.data.formats.load_demonstrations`."""
        from steelyard.data.formats import load_demonstrations  # formats build on this class

        return load_demonstrations(path, env_spec)

    def save(self, path: str | Path, format: str = "native", overwrite: bool = False) -> Path:
        """Write the dataset; see :func:`steelyard.data.formats.save_demonstrations`."""
        from steelyard.data.formats import save_demonstrations  # formats build on this class

        return save_demonstrations(self, path, format, overwrite)

    # -- helpers -----------------------------------------------------------------------------

    def _frames_around_steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the observation before and after each step: one extra row per episode."""
        before = np.arange(self.num_steps) + self.step_episodes()
        return before, before + 1

    def _rewards_or_raise(self, caller: str) -> np.ndarray:
        if self.rewards is None:
            raise DatasetError(
                f"{caller} needs the field `rewards`, and these demonstrations of "
                f"{self.env_spec.id} are reward-free"
            )
        return self.rewards

    def _check_count(self, method: str, n: int) -> None:
        if not 1 <= n <= len(self):
            raise DatasetError(
                f"{method}({n}): between 1 and {len(self)} can be asked for; the dataset has "
                f"{len(self)} episodes"
            )


def _whole(count: float) -> int:
    """Round down, taking 28.999999999999996 (0.29 · 100 in floating point) for 29."""
    return int(np.floor(count + 1e-9))


def _generator(key: int | Array | np.ndarray) -> np.random.Generator:
    """Return NumPy's generator for an integer seed or a JAX key, old or new style."""
    if isinstance(key, int):
        return np.random.default_rng(key)
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    data = jax.random.key_data(key) if typed else key
    return np.random.default_rng(np.asarray(data).ravel().tolist())
