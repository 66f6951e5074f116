"""The records that pass between packages, and the axis letters, defined once.

Axis names used in every shape of the library:

==========  =====================================================================
``batch``   items of one update
``seed``    runs that train together under ``vmap``
``env``     parallel environments
``time``    steps of an episode or a rollout
``step``    steps of a dataset, all episodes end to end
``chunk``   actions that are planned at once and played one after the other
``episode`` episodes of a dataset
``obs``     observation components
``act``     action components
``feat``    components of what a policy's network sees
``item``    things that are scored and weighted
==========  =====================================================================

Learners act in ``[-1, 1]`` (``Transition.action``); data at rest keep environment units.
:class:`EnvSpec` converts between the two, and nothing else does.
"""

import dataclasses
from typing import TypeVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int

T = TypeVar("T")
LATE = "late"
"""Mark of a config's field that was added later; see ``late``."""


def late(default: T) -> T:
    """A config's field that was added later: at its default it is no part of a run's name.

    So runs that were made before there was such a field keep their folders.

    Args:
        default: What the field was worth before it could be set.
    """
    return dataclasses.field(default=default, metadata={LATE: True})


class Transition(eqx.Module):
    """A batch of environment steps, actions normalised to ``[-1, 1]``.

    ``next_observation`` is the true final observation of the step, also where the episode ends.
    Only ``terminated`` stops bootstrapping; a time limit is no part of a transition.
    """

    observation: Float[Array, "*batch obs"]
    action: Float[Array, "*batch act"]
    reward: Float[Array, "*batch"]
    terminated: Bool[Array, "*batch"]
    next_observation: Float[Array, "*batch obs"]


class RewardFreeTransition(eqx.Module):
    """A batch of environment steps from which the task's reward is absent by type.

    Imitators receive this and nothing else, so no code path can leak the reward to them.
    """

    observation: Float[Array, "*batch obs"]
    action: Float[Array, "*batch act"]
    terminated: Bool[Array, "*batch"]
    next_observation: Float[Array, "*batch obs"]


class ActionChunk(eqx.Module):
    """A batch of observations and the actions that followed, in ``[-1, 1]``.

    Attributes:
        observation: What was seen before the first action.
        actions: The next actions of the same episode; its last one repeated where it is over.
        mask: False where an action is such padding; the first one never is.
    """

    observation: Float[Array, "*batch obs"]
    actions: Float[Array, "*batch chunk act"]
    mask: Bool[Array, "*batch chunk"]


class ChunkTransition(eqx.Module):
    """A batch of action chunks and what came of them; actions in ``[-1, 1]``.

    Attributes:
        observation: What was seen before the first action.
        actions: The chunk; what stands in slots that were not played is no action of the data.
        mask: Slots that were played before anything ended, so that they can be imitated.
        reward: Discounted sum of the rewards of the steps that were played.
        discount: What the value of ``next_observation`` counts: ``γ^n``, 0 where the task ended.
        next_observation: What the last of the steps led to: the true final observation.
        next_actions: The chunk of the data that starts there; none where no target needs it.
        next_known: Where that chunk is whole, or the task ended before it.
    """

    observation: Float[Array, "*batch obs"]
    actions: Float[Array, "*batch chunk act"]
    mask: Bool[Array, "*batch chunk"]
    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    next_observation: Float[Array, "*batch obs"]
    next_actions: Float[Array, "*batch chunk act"] | None = None
    next_known: Bool[Array, "*batch"] | None = None


class ChunkBatch(eqx.Module):
    """Chunks of one gradient step; critic and actor may each have a draw of their own.

    Attributes:
        critic: Chunks for the critic.
        actor: Chunks for the policy; none takes the critic's, and their weights.
        actor_weights: How much each of them counts, mean one; none for all the same.
    """

    critic: ChunkTransition
    actor: ChunkTransition | None = None
    actor_weights: Float[Array, "*batch"] | None = None


class ImitationBatch(eqx.Module):
    """One batch from each of the two sources that an imitator with interaction sees.

    Attributes:
        policy: Rows of the policy's own experience; with rewards only where a mixed reward is
            wanted.
        demonstration: Rows of the expert's.
        fresh: Rows that stand for the policy in the reward's loss where they differ from
            ``policy``.
    """

    policy: RewardFreeTransition | Transition
    demonstration: RewardFreeTransition
    fresh: RewardFreeTransition | Transition | None = None


class Window(eqx.Module):
    """A batch of pieces of recorded motion, ``H`` steps long, in SI units.

    Attributes:
        twist: ``(vx, vy, w)`` in the body frame of the tracked point, at ``H + 1`` states; m/s,
            m/s, rad/s.
        pose: ``(x, y, theta)`` in the world at the same states; m, m, rad, theta unwrapped.
        command: What was asked of the vehicle and held over each step: some past ones, then the
            ``H`` of the window; velocity (m/s) or throttle, and steering (rad, positive left).
        dt: Length of each of the ``H`` steps in seconds.
    """

    twist: Float[Array, "*batch states 3"]
    pose: Float[Array, "*batch states 3"]
    command: Float[Array, "*batch commands 2"]
    dt: Float[Array, "*batch steps"]


class RolloutItems(eqx.Module):
    """A batch of on-policy items: single steps, with what was known when they were taken.

    Attributes:
        features: What the policy saw, as it saw it (normalised; the base action behind it).
        action: What the policy drew, before it was scaled, added and clipped.
        log_prob: Its log-probability under the policy that drew it.
        advantage: Estimated advantage, normalised over the whole rollout.
        value: The critic's value then.
        value_target: What the critic shall say.
    """

    features: Float[Array, "*batch feat"]
    action: Float[Array, "*batch act"]
    log_prob: Float[Array, "*batch"]
    advantage: Float[Array, "*batch"]
    value: Float[Array, "*batch"]
    value_target: Float[Array, "*batch"]


class RolloutBatch(eqx.Module):
    """Items of one gradient step; actor and critic may each have a draw of their own.

    Attributes:
        actor: Items for the policy.
        critic: Items for the critic; none takes the policy's, and their weights.
        critic_weights: How much each of them counts, mean one; none for all the same.
    """

    actor: RolloutItems
    critic: RolloutItems | None = None
    critic_weights: Float[Array, "*batch"] | None = None


class Segment(eqx.Module):
    """A batch of pieces of episodes, actions in ``[-1, 1]``.

    Attributes:
        observation: What was seen before each action.
        action: What was done.
        valid: Steps that count; what stands in the others is ignored.
        behaviour_logp: Log-probability of each action under the policy that did it; NaN where that
            policy has no density.
    """

    observation: Float[Array, "*batch time obs"]
    action: Float[Array, "*batch time act"]
    valid: Bool[Array, "*batch time"]
    behaviour_logp: Float[Array, "*batch time"]


class PreferenceBatch(eqx.Module):
    """Segments, which of them were compared, and how.

    Attributes:
        segments: ``[item, time, ...]``.
        winner: Place of the better segment of each pair among them.
        loser: Place of the other.
        label: Probability that the first is better, 0.5 for a tie.
        cloned: How much each segment counts where segments are cloned; 0 for none of it.
    """

    segments: Segment
    winner: Int[Array, " pair"]
    loser: Int[Array, " pair"]
    label: Float[Array, " pair"]
    cloned: Float[Array, " item"]


class UpdateInfo(eqx.Module):
    """What one update of a learner reports.

    Attributes:
        metrics: Scalars for the log.
        items: What the update knew per item of its batch (losses, TD errors), never averaged, so
            that scores can be made of it.
    """

    metrics: dict[str, Float[Array, ""]]
    items: dict[str, Float[Array, "*items"]]


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What a learner, a dataset or a report must know of a task; hashable and JSON-serialisable.

    Attributes:
        id: Name of the task, e.g. ``"Pendulum-v1"``.
        observation_size: Number of observation components.
        action_low: Lower bound per action component, in environment units.
        action_high: Upper bound per action component, in environment units.
        max_episode_steps: Time limit in steps, after which an episode is truncated.
        can_terminate: Whether an episode can end before its time limit.
    """

    id: str
    observation_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    max_episode_steps: int
    can_terminate: bool

    @property
    def action_size(self) -> int:
        """Number of action components."""
        return len(self.action_low)

    @property
    def action_centre(self) -> np.ndarray:
        """Centre of the action box, ``(high + low) / 2``, ``[act]``, environment units."""
        low, high = np.asarray(self.action_low), np.asarray(self.action_high)
        return ((high + low) / 2).astype(np.float32)

    @property
    def action_scale(self) -> np.ndarray:
        """Half width of the action box, ``(high - low) / 2``, ``[act]``, environment units."""
        low, high = np.asarray(self.action_low), np.asarray(self.action_high)
        return ((high - low) / 2).astype(np.float32)

    def to_env_units(self, action: np.ndarray) -> np.ndarray:
        """Map learner actions in ``[-1, 1]`` to environment units, ``[*batch, act]`` float32."""
        return self.action_centre + self.action_scale * np.asarray(action, np.float32)

    def to_learner_units(self, action: np.ndarray) -> np.ndarray:
        """Map actions in environment units to ``[-1, 1]``, ``[*batch, act]`` float32."""
        return (np.asarray(action, np.float32) - self.action_centre) / self.action_scale
