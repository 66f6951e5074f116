"""The contract of a learner.

A learner is an immutable pytree. ``create`` makes it, ``update`` returns a new one, ``act`` is a
pure function of it. ``jit``, ``scan`` and ``vmap`` belong to the training loop, never to a learner.
Learners share mathematics (``numerics``) and networks (``nets``), never a base implementation.
"""

from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Array, Float, PRNGKeyArray

from steelyard.emphasis.reductions import Reduction, make_reduction
from steelyard.types import UpdateInfo

ReductionName = Literal["mean", "weighted_mean", "self_normalised_mean", "cvar"]


@runtime_checkable
class ReducingConfig(Protocol):
    """A learner's config that names its reduction."""

    @property
    def reduction(self) -> ReductionName:
        """Name of the reduction."""
        ...

    @property
    def cvar_alpha(self) -> float:
        """Share of the worst items, for ``cvar``."""
        ...


def loss_reduction(config: ReducingConfig) -> Reduction:
    """The reduction that a learner's config names."""
    options = {"alpha": config.cvar_alpha} if config.reduction == "cvar" else {}
    return make_reduction(config.reduction, **options)


@runtime_checkable
class Agent(Protocol):
    """What every learner offers to the loops; see ``tests/agents`` for the battery it must pass.

    Besides these methods a learner has a class method
    ``create(key, spec, config, normaliser)`` of its own type.
    """

    def update(
        self, batch: object, key: PRNGKeyArray, weights: Float[Array, " batch"] | None = None
    ) -> "tuple[Agent, UpdateInfo]":
        """Learn from one batch; ``weights`` say how much each of its items counts."""
        ...

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """Choose actions in ``[-1, 1]``."""
        ...
