"""Demonstrations that live in other libraries' buffers.

The names and signatures are those of the reference (``ExpertReplayManager`` of
ImitationLearningTools, ``ExpertReplayBuffer`` of RLOpt), so its snippet runs with the import lines
changed::

    manager = ExpertReplayManager(buffer_dir="path/to/buffer", env=env, batch_size=256)
    expert_buffer = ExpertReplayBuffer(manager)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.findings import DatasetError
from steelyard.data.foreign import KeyMap, Rows, rows_of
from steelyard.data.formats import load_demonstrations, load_with_report
from steelyard.data.raw import ActionUnits
from steelyard.data.sources import copy_whole, drawer_of, innermost, is_table
from steelyard.data.specs import UNKNOWN_TASK, compare_specs
from steelyard.types import EnvSpec, RewardFreeTransition


@runtime_checkable
class DemonstrationSource(Protocol):
    """What can give demonstrations, one batch at a time.

    A source may also have ``__len__`` and ``__getitem__``, and can then be copied whole, and
    ``buffer``, another source that is used in its place.
    """

    def sample(self, size: int) -> Mapping[Any, Any]:
        """Draw ``size`` steps: ``observation``, ``action`` and ``("next", "observation")``."""
        ...


class ExpertReplayBuffer:
    """Demonstrations of any source as transitions without reward, actions in ``[-1, 1]``.

    Args:
        source: :class:`Demonstrations`; a mapping of arrays; anything with ``.buffer.sample()``,
            ``.sample()`` or ``.sample(batch_size)``; an iterator or iterable of batches; a sequence
            of batches or steps. Arrays may be torch's, JAX's or NumPy's, batches tensordicts.
        key_map: The source's key for each of ``observation``, ``action``, ``next_observation``,
            ``terminated`` that it calls otherwise; a tuple names a nested key.
        env_spec: The task; taken from the source where that has an ``env_spec``.
        action_units: Units of the source's actions: ``"env"`` needs ``env_spec`` and is the default
            where it is known; ``"normalised"`` is the default otherwise.
        seed: Seed of the draws from sources that do not draw themselves.

    Raises:
        DatasetError: The source is none of these, or ``"env"`` units lack ``env_spec``.
    """

    def __init__(
        self,
        source: Any,
        key_map: KeyMap | None = None,
        env_spec: EnvSpec | None = None,
        action_units: ActionUnits | None = None,
        seed: int = 0,
    ):
        held = getattr(source, "env_spec", None)
        self.env_spec = env_spec or (held if isinstance(held, EnvSpec) else None)
        self.action_units = action_units or ("normalised" if self.env_spec is None else "env")
        if self.action_units == "env" and self.env_spec is None:
            raise DatasetError('action_units="env" needs `env_spec=`, which holds the bounds')
        self._source = innermost(source)
        self._key_map = key_map
        self._random = np.random.default_rng(seed)
        self._next_batch = drawer_of(self._source)
        self._table: Rows | None = None
        self._left_over: Rows | None = None
        if self._next_batch is None and not self.can_materialise:
            raise DatasetError(
                "a demonstration source is Demonstrations, a mapping of arrays, an object with "
                "`.sample(size)`, `.sample()` or `.buffer`, an iterator of batches or a sequence; "
                f"got {type(source).__name__}"
            )

    @property
    def can_materialise(self) -> bool:
        """Whether the source has a length and can be copied whole."""
        source = self._source
        if isinstance(source, Demonstrations) or is_table(source):
            return True
        return hasattr(source, "__len__") and hasattr(source, "__getitem__")

    def __len__(self) -> int:
        return len(self._rows().action)

    def as_transitions(self) -> RewardFreeTransition:
        """Return all steps of a source that can be copied whole.

        Raises:
            DatasetError: The source has no length, or its data break a rule.
        """
        return _transitions(self._rows())

    def draw(self, size: int) -> RewardFreeTransition:
        """Draw ``size`` steps: by the source itself if it can, else uniformly with replacement.

        A source that gives batches of its own size is asked as often as needed; what is left over
        is kept for the next call.

        Args:
            size: Number of steps, at least 1.

        Raises:
            DatasetError: ``size`` is below 1, the source has run dry, or its data break a rule.
        """
        if size < 1:
            raise DatasetError(f"draw(): `size` must be at least 1; got {size}")
        if self._next_batch is None:
            rows = self._rows()
            chosen = self._random.integers(len(rows.action), size=size)
            return _transitions(Rows(*(column[chosen] for column in rows)))
        parts = [] if self._left_over is None else [self._left_over]
        have = sum(len(part.action) for part in parts)
        while have < size:
            part = self._convert(self._next_batch(size - have))
            if len(part.action) == 0:
                raise DatasetError(f"draw({size}): the source returned an empty batch")
            parts.append(part)
            have += len(part.action)
        rows = Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        rest = Rows(*(column[size:] for column in rows))
        self._left_over = rest if len(rest.action) else None
        return _transitions(Rows(*(column[:size] for column in rows)))

    def _convert(self, batch: Any) -> Rows:
        normalised = self.action_units == "normalised"
        return rows_of(batch, self._key_map, self.env_spec, normalised)

    def _rows(self) -> Rows:
        if self._table is None:
            if not self.can_materialise:
                raise DatasetError(
                    f"{type(self._source).__name__} has no length and no indexing, so it cannot be "
                    "copied whole: use draw(size)"
                )
            source = self._source
            if isinstance(source, Demonstrations):
                source = DemonstrationBuffer(source)
            self._table = self._convert(source if is_table(source) else copy_whole(source))
        return self._table


class DemonstrationBuffer:
    """Demonstrations with the interface of a replay buffer; actions in environment units.

    Args:
        demonstrations: What to serve.
        batch_size: Steps that :meth:`sample` draws when it is not told.
        seed: Seed of the draws.
    """

    def __init__(self, demonstrations: Demonstrations, batch_size: int = 256, seed: int = 0):
        self.batch_size = batch_size
        self._random = np.random.default_rng(seed)
        frames = np.arange(demonstrations.num_steps) + demonstrations.step_episodes()
        ended = demonstrations.terminations | demonstrations.truncations
        self._columns = {
            ("observation",): demonstrations.observations[frames],
            ("action",): demonstrations.actions,
            ("next", "observation"): demonstrations.observations[frames + 1],
            ("next", "terminated"): demonstrations.terminations,
            ("next", "done"): ended,
        }

    def __len__(self) -> int:
        return len(self._columns[("action",)])

    def __getitem__(self, index: Any) -> dict[tuple[str, ...], np.ndarray]:
        """Return the steps that ``index`` selects, keyed as TorchRL's buffers are."""
        return {key: column[index] for key, column in self._columns.items()}

    def sample(self, batch_size: int | None = None) -> dict[tuple[str, ...], np.ndarray]:
        """Draw steps uniformly with replacement."""
        return self[self._random.integers(len(self), size=batch_size or self.batch_size)]


class ExpertReplayManager:
    """A dataset on disk behind the reference's interface.

    Args:
        buffer_dir: A dataset in any known format.
        env: The environment it must fit: one of ours, a Gymnasium environment (single or vector),
            an ``EnvSpec``, or ``None`` for no check.
        batch_size: Steps that ``sample()`` draws when it is not told.

    Raises:
        DatasetNotFoundError: No dataset lies there.
        DatasetError: The dataset breaks a rule, or its spaces are not those of ``env``.
    """

    def __init__(self, buffer_dir: str | Path, env: Any = None, batch_size: int = 256):
        if batch_size < 1:
            raise DatasetError(f"ExpertReplayManager: `batch_size` must be >= 1; got {batch_size}")
        spec = spec_of(env)
        demonstrations, report = load_with_report(buffer_dir)
        told = demonstrations is not None and all(f.rule != "env_spec" for f in report.findings)
        if demonstrations is not None and (told or spec is None):
            if spec is not None:
                compare_specs(demonstrations.env_spec, spec)
            self.demonstrations = demonstrations
        else:
            self.demonstrations = load_demonstrations(buffer_dir, spec)
        self.batch_size = batch_size
        self.buffer = DemonstrationBuffer(self.demonstrations, batch_size)

    @property
    def env_spec(self) -> EnvSpec:
        """The task of the dataset."""
        return self.demonstrations.env_spec

    def sample(self, batch_size: int | None = None) -> dict[tuple[str, ...], np.ndarray]:
        """Draw steps uniformly with replacement, actions in environment units."""
        return self.buffer.sample(batch_size)


def spec_of(env: Any) -> EnvSpec | None:
    """Return the specification of an environment: ours, Gymnasium's, an ``EnvSpec`` or ``None``.

    Raises:
        DatasetError: It is none of these, or its spaces are not bounded vectors.
    """
    if env is None or isinstance(env, EnvSpec):
        return env
    spec = getattr(env, "spec", None)
    if isinstance(spec, EnvSpec):
        return spec
    observations: Any = getattr(
        env, "single_observation_space", getattr(env, "observation_space", None)
    )
    actions: Any = getattr(env, "single_action_space", getattr(env, "action_space", None))
    if len(getattr(observations, "shape", None) or ()) != 1 or not hasattr(actions, "low"):
        raise DatasetError(
            "`env` must be an environment with vector (Box) observations and actions, an EnvSpec "
            f"or None; got {type(env).__name__} with {observations} and {actions}"
        )
    return EnvSpec(
        id=getattr(spec, "id", UNKNOWN_TASK),
        observation_size=observations.shape[0],
        action_low=tuple(float(x) for x in np.ravel(actions.low)),
        action_high=tuple(float(x) for x in np.ravel(actions.high)),
        # Gymnasium says neither whether a task can terminate nor, always, when it is cut.
        max_episode_steps=getattr(spec, "max_episode_steps", None) or 0,
        can_terminate=True,
    )


def _transitions(rows: Rows) -> RewardFreeTransition:
    return RewardFreeTransition(**{name: jnp.asarray(x) for name, x in rows._asdict().items()})
