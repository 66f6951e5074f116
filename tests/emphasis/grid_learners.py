"""Every learner that has items, as the grid sees it: rows to draw, losses to weigh, parameters.

A learner enters the battery by one line in ``LEARNERS``; without it the battery fails.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from agent_laws import (
    NORMALISER,
    OBS,
    SPEC,
    chunk_transitions,
    chunks,
    judged_pieces,
    rollout_items,
    transitions,
)
from dynamics_examples import DynamicsConfig, learner_of, small, windows
from weighting_laws import ITEMS

from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.agents.bc import BC, BCConfig
from steelyard.agents.chunked_bc import ChunkedBC, ChunkedBCConfig
from steelyard.agents.cpl import CPL, CPLConfig
from steelyard.agents.dynamics import Dynamics, DynamicsBatch
from steelyard.agents.ipmd import IPMD, IPMDConfig
from steelyard.agents.piql import PIQL, PIQLConfig, PreferenceReward, RewardConfig
from steelyard.agents.ppo import PPO, PPOConfig
from steelyard.agents.sac import SAC, SACConfig
from steelyard.data.chunks import ActionRange
from steelyard.emphasis import episode_return, gradient_norm, influence, own_loss
from steelyard.types import (
    ChunkBatch,
    ImitationBatch,
    PreferenceBatch,
    RewardFreeTransition,
    RolloutBatch,
)

KEY = jax.random.key(3)
MASKED = 4
"""The item that does not count, where one does not."""


@dataclasses.dataclass(frozen=True, eq=False)
class Learner:
    """A learner with as many items as the weightings' examples have labels.

    Attributes:
        agent: The learner, whose reduction feels weights.
        batch: What one update consumes.
        rows: The part of the batch of which each row is an item.
        moved: What an update with other weights moves otherwise.
        losses: Name of the per-item losses that the learner tells; none where it tells of none.
        rewards: Whether its items earn rewards, or lie in episodes that do.
    """

    agent: Any
    batch: Any
    rows: Callable[[Any], Any]
    moved: Callable[[Any], Any]
    losses: str | None = "loss"
    rewards: bool = False

    def poisoned(self) -> Any:
        """The batch with something else in the masked item."""

        def spoil(x: Any) -> Any:
            if x.dtype == bool:
                return x.at[MASKED].set(~x[MASKED])
            whole = jnp.issubdtype(x.dtype, jnp.integer)
            return x.at[MASKED].set((x[MASKED] + 1) % 8 if whole else 0.77)

        spoilt = jax.tree.map(spoil, self.rows(self.batch))
        return eqx.tree_at(self.rows, self.batch, spoilt)


def _itself(batch: Any) -> Any:
    return batch


def _bc() -> Learner:
    config = BCConfig(hidden=(8,), batch_size=ITEMS, loss="nll", reduction="weighted_mean")
    agent = BC.create(KEY, SPEC, config, NORMALISER, total_steps=9)
    rows = transitions(0, ITEMS, RewardFreeTransition)
    return Learner(agent, rows, _itself, lambda a: a.actor, rewards=True)


def _chunked_bc() -> Learner:
    config = ChunkedBCConfig(
        hidden=(8,), batch_size=ITEMS, chunk=3, executed=2, reduction="weighted_mean"
    )
    span = ActionRange.of(jnp.asarray([[-1.0, -0.5], [0.5, 1.0]]))
    agent = ChunkedBC.create(KEY, SPEC, config, NORMALISER, span, total_steps=9)
    return Learner(agent, chunks(0, ITEMS, 3), _itself, lambda a: a.policy, rewards=True)


def _dynamics() -> Learner:
    window, one = windows(ITEMS), jnp.arange(ITEMS)
    agent = learner_of(DynamicsConfig(model=small(type="direct"), groups=ITEMS), ITEMS)
    return Learner(agent, DynamicsBatch(window, one, one), lambda b: b.window, lambda a: a.model)


def _ppo() -> Learner:
    config = PPOConfig(hidden=(8,), residual=False, n_iterations_train_only_value=0)
    agent = PPO.create(KEY, SPEC, config, NORMALISER, 10)
    items = rollout_items(0, ITEMS, OBS)
    # Drawn by the agent itself: beyond the clip an item has no slope at all.
    own = agent.log_prob(items.features, items.action)
    batch = RolloutBatch(dataclasses.replace(items, log_prob=own))
    return Learner(agent, batch, lambda b: b.actor, lambda a: a.actor, "policy_loss", True)


def _acfql() -> Learner:
    config = ACFQLConfig(hidden=(8,), horizon_length=3, num_qs=2, flow_steps=2, tail_actions="zero")
    agent = ACFQL.create(KEY, SPEC, config, NORMALISER)
    batch = ChunkBatch(chunk_transitions(0, ITEMS, 3))
    return Learner(agent, batch, lambda b: b.critic, lambda a: a.critics, "critic_loss", True)


def _pairs() -> PreferenceBatch:
    places = np.random.default_rng(1).permuted(np.tile(np.arange(8), (ITEMS, 1)), axis=1)
    winner, loser = (jnp.asarray(places[:, i], jnp.int32) for i in (0, 1))
    return PreferenceBatch(judged_pieces(0, 8, 4), winner, loser, jnp.ones(ITEMS), jnp.ones(8))


def _judged(batch: PreferenceBatch) -> Any:
    return (batch.winner, batch.loser, batch.label)


def _cpl() -> Learner:
    config = CPLConfig(hidden=(8,), batch_size=ITEMS, reduction="weighted_mean")
    agent = CPL.create(KEY, SPEC, config, NORMALISER)
    return Learner(agent, _pairs(), _judged, lambda a: a.actor)


def _reward() -> Learner:
    config = RewardConfig(hidden=(8,), members=2, reduction="weighted_mean")
    agent = PreferenceReward.create(KEY, SPEC, config, NORMALISER)
    return Learner(agent, _pairs(), _judged, lambda a: a.nets)


def _piql() -> Learner:
    config = PIQLConfig(hidden=(8,), batch_size=ITEMS, reduction="weighted_mean")
    agent = PIQL.create(KEY, SPEC, config, NORMALISER)
    rows = transitions(0, ITEMS)
    return Learner(agent, rows, _itself, lambda a: a.critics, "td_error", True)


def _sac() -> Learner:
    config = SACConfig(hidden=(8,), batch_size=ITEMS, policy_delay=1, reduction="weighted_mean")
    agent = SAC.create(KEY, SPEC, config, NORMALISER)
    rows = transitions(0, ITEMS)
    return Learner(agent, rows, _itself, lambda a: a.critics, "td_error", True)


def _ipmd() -> Learner:
    config = IPMDConfig(
        hidden=(8,),
        reward_num_cells=(6,),
        batch_size=5,
        expert_batch_size=ITEMS,
        policy_delay=1,
        reduction="weighted_mean",
        demonstration_share=0.0,
        reward_gradient_penalty=0.0,
    )
    agent = IPMD.create(KEY, SPEC, config, NORMALISER)
    policy, expert = (transitions(i, n, RewardFreeTransition) for i, n in ((0, 5), (1, ITEMS)))
    batch = ImitationBatch(policy, expert)
    return Learner(agent, batch, lambda b: b.demonstration, lambda a: a.reward, None)


LEARNERS: dict[type, Callable[[], Learner]] = {
    BC: _bc,
    ChunkedBC: _chunked_bc,
    Dynamics: _dynamics,
    PPO: _ppo,
    ACFQL: _acfql,
    CPL: _cpl,
    PreferenceReward: _reward,
    PIQL: _piql,
    SAC: _sac,
    IPMD: _ipmd,
}


@functools.cache
def learner(kind: type) -> Learner:
    """The example of a learner; none is a failure, not a skip."""
    assert kind in LEARNERS, f"learner {kind.__name__} has items and no entry in LEARNERS"
    return LEARNERS[kind]()


@functools.partial(jax.jit, static_argnums=0)
def drawn_update(example: Learner, batch: Any, indices: Any, weights: Any) -> tuple[Any, Any]:
    """What an update on these of a batch's items moves, and whether all of it is finite.

    One program a learner: as the batch is, ``indices`` count up; unweighted, it is `plain_update`.
    """
    taken = jax.tree.map(lambda x: x[indices], example.rows(batch))
    drawn = eqx.tree_at(example.rows, batch, taken)
    agent, info = example.agent.update(drawn, KEY, weights)
    every = jax.tree.leaves(eqx.filter((agent, info), eqx.is_inexact_array))
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in every]))
    return example.moved(agent), finite


@functools.partial(jax.jit, static_argnums=0)
def plain_update(example: Learner, batch: Any) -> Any:
    """What an update without any weights moves."""
    return example.moved(example.agent.update(batch, KEY)[0])


@functools.cache
def scores_of(kind: type) -> dict[str, np.ndarray]:
    """Every score that applies to a learner's items, by name."""
    example = learner(kind)
    found = {"constant": np.ones(ITEMS, np.float32), "cluster": np.zeros(ITEMS, np.float32)}
    if example.rewards:
        rewards = jnp.asarray(np.random.default_rng(2).normal(size=2 * ITEMS), jnp.float32)
        found["episode_return"] = np.asarray(episode_return(rewards, jnp.full(ITEMS, 2)))
    if example.losses is None:
        return found
    name, which = example.losses, jnp.arange(ITEMS)

    @jax.jit
    def learned(agent: Any, batch: Any) -> dict[str, Any]:
        params, rest = eqx.partition(example.moved(agent), eqx.is_inexact_array)

        def losses(params: Any, items: Any = which) -> Any:
            whole = eqx.tree_at(example.moved, agent, eqx.combine(params, rest))
            return whole.update(batch, KEY)[1].items[name][items]

        # The slope of some target; which one makes no difference to what is tested.
        direction = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)
        return {
            "own_loss": own_loss(which, lambda items: losses(params, items)),
            "gradient_norm": gradient_norm(which, losses, params),
            "influence": influence(losses, params, direction),
        }

    return found | {k: np.asarray(v) for k, v in learned(example.agent, example.batch).items()}


def leaves(tree: Any) -> list[np.ndarray]:
    """Every array of a tree on the host."""
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


def same_bits(left: Any, right: Any) -> bool:
    """Whether two trees hold the same bits."""
    pairs = zip(leaves(left), leaves(right), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)
