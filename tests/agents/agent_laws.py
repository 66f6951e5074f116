"""The contract of a learner, as functions that raise AssertionError where it is broken.

A law receives an ``Example`` and nothing else, so that it judges the library's learners and the
deliberately broken ones that prove the laws bite. A new learner enters the battery by one line in
``EXAMPLES``; without it the battery fails.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import steelyard.agents
from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.agents.bc import BC, BCConfig
from steelyard.agents.chunked_bc import ChunkedBC, ChunkedBCConfig
from steelyard.agents.cpl import CPL, CPLConfig
from steelyard.agents.ipmd import IPMD, IPMDConfig
from steelyard.agents.piql import PIQL, PIQLConfig
from steelyard.agents.ppo import PPO, PPOConfig
from steelyard.agents.sac import SAC, SACConfig
from steelyard.data.chunks import ActionRange
from steelyard.data.normalisation import Statistics
from steelyard.types import (
    ActionChunk,
    ChunkBatch,
    ChunkTransition,
    EnvSpec,
    ImitationBatch,
    PreferenceBatch,
    RewardFreeTransition,
    RolloutBatch,
    RolloutItems,
    Segment,
    Transition,
)

OBS, ACT = 3, 2
SPEC = EnvSpec("example", OBS, (-1.0,) * ACT, (1.0,) * ACT, 50, can_terminate=True)
NORMALISER = Statistics.of(jnp.asarray([[1.0, -2.0, 0.0], [3.0, 2.0, 1.0]])).normaliser()


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """A learner, a batch for it, and what it says of itself.

    Attributes:
        create: ``(key, **config fields)`` to a new learner.
        batch: What one update consumes.
        items: Size of each per-item output.
        weights: Number of weights that an update accepts.
        weighted: The part of a batch whose rows the weights count.
        only_weighted: Config under which that part is felt through the weighted losses alone.
    """

    create: Callable[..., Any]
    batch: Any
    items: dict[str, int]
    weights: int
    weighted: Callable[[Any], Any] = lambda batch: batch
    only_weighted: dict[str, Any] = dataclasses.field(default_factory=dict)


def transitions(seed: int, rows: int, kind: type = Transition) -> Any:
    """Random rows, some of which end."""
    rng = np.random.default_rng(seed)
    arrays = {
        "observation": rng.normal(size=(rows, OBS)),
        "action": rng.uniform(-1, 1, (rows, ACT)),
        "reward": rng.normal(size=rows),
        "next_observation": rng.normal(size=(rows, OBS)),
    }
    values = {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}
    values["terminated"] = jnp.asarray(rng.random(rows) < 0.3)
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)})


def _sac() -> Example:
    def create(key, **changes):
        config = SACConfig(hidden=(8,), batch_size=5, policy_delay=2, **changes)
        return SAC.create(key, SPEC, config, NORMALISER)

    return Example(create, transitions(0, 10), {"td_error": 5}, weights=10)


def _ipmd() -> Example:
    def create(key, **changes):
        settings = {"hidden": (8,), "reward_num_cells": (6,), "batch_size": 5} | changes
        settings |= {"expert_batch_size": 4, "learn_alpha": True, "mirror_step": 2.0}
        return IPMD.create(key, SPEC, IPMDConfig(**settings), NORMALISER)

    policy, expert = (transitions(i, n, RewardFreeTransition) for i, n in ((0, 5), (1, 4)))
    return Example(
        create,
        ImitationBatch(policy, expert),
        {"td_error": 5, "expert_reward": 4},
        weights=4,
        weighted=lambda batch: batch.demonstration,
        only_weighted={"demonstration_share": 0.0, "reward_gradient_penalty": 0.0},
    )


def _bc() -> Example:
    def create(key, **changes):
        config = BCConfig(hidden=(8,), batch_size=5, loss="nll", **changes)
        return BC.create(key, SPEC, config, NORMALISER, total_steps=100)

    return Example(create, transitions(0, 5, RewardFreeTransition), {"loss": 5}, weights=5)


def chunks(seed: int, rows: int, chunk: int) -> ActionChunk:
    """Random chunks, of which every other one runs past the end of its episode."""
    rng = np.random.default_rng(seed)
    real = np.where(np.arange(rows) % 2, chunk, rng.integers(1, chunk, rows))
    return ActionChunk(
        observation=jnp.asarray(rng.normal(size=(rows, OBS)), jnp.float32),
        actions=jnp.asarray(rng.uniform(-1, 1, (rows, chunk, ACT)), jnp.float32),
        mask=jnp.asarray(np.arange(chunk) < real[:, None]),
    )


def _chunked_bc() -> Example:
    action_range = ActionRange.of(jnp.asarray([[-1.0, -0.5], [0.5, 1.0]]))

    def create(key, **changes):
        config = ChunkedBCConfig(hidden=(8,), batch_size=5, chunk=3, executed=2, **changes)
        return ChunkedBC.create(key, SPEC, config, NORMALISER, action_range, total_steps=100)

    return Example(create, chunks(0, 5, 3), {"loss": 5}, weights=5)


def rollout_items(seed: int, rows: int, inputs: int) -> RolloutItems:
    """Random on-policy items."""
    rng = np.random.default_rng(seed)
    sizes = {"features": (rows, inputs), "action": (rows, ACT)}
    return RolloutItems(
        **{
            field.name: jnp.asarray(rng.normal(size=sizes.get(field.name, rows)), jnp.float32)
            for field in dataclasses.fields(RolloutItems)
        }
    )


def _ppo() -> Example:
    def create(key, **changes):
        settings = {"hidden": (8,), "residual": False, "n_iterations_train_only_value": 0}
        return PPO.create(key, SPEC, PPOConfig(**settings | changes), NORMALISER, 10)

    return Example(
        create,
        RolloutBatch(rollout_items(0, 5, OBS)),
        {"policy_loss": 5, "value_loss": 5},
        weights=5,
        weighted=lambda batch: batch.actor,
    )


def chunk_transitions(seed: int, rows: int, chunk: int) -> ChunkTransition:
    """Random chunks with what came of them, of which some ended the task."""
    rng, start = np.random.default_rng(seed), chunks(seed, rows, chunk)
    return ChunkTransition(
        observation=start.observation,
        actions=start.actions,
        mask=start.mask,
        reward=jnp.asarray(rng.normal(size=rows), jnp.float32),
        discount=jnp.asarray(np.where(start.mask.all(1), 0.9, 0.0), jnp.float32),
        next_observation=jnp.asarray(rng.normal(size=(rows, OBS)), jnp.float32),
    )


def _acfql() -> Example:
    def create(key, **changes):
        settings = {"hidden": (8,), "horizon_length": 3, "num_qs": 2, "flow_steps": 2}
        return ACFQL.create(key, SPEC, ACFQLConfig(**settings | changes), NORMALISER)

    # Critic and actor draw apart, so that the weights of the one do not reach the other.
    batch = ChunkBatch(chunk_transitions(0, 6, 3), chunk_transitions(1, 4, 3))
    return Example(
        create,
        batch,
        {"td_error": 6, "critic_loss": 6, "actor_loss": 4},
        weights=6,
        weighted=lambda batch: batch.critic,
        only_weighted={"tail_actions": "zero"},
    )


def judged_pieces(seed: int, count: int, steps: int) -> Segment:
    """Random segments."""
    rng = np.random.default_rng(seed)
    return Segment(
        observation=jnp.asarray(rng.normal(size=(count, steps, OBS)), jnp.float32),
        action=jnp.asarray(rng.uniform(-1, 1, (count, steps, ACT)), jnp.float32),
        valid=jnp.ones((count, steps), bool),
        behaviour_logp=jnp.zeros((count, steps)),
    )


def _cpl() -> Example:
    def create(key, **changes):
        config = CPLConfig(**{"hidden": (8,), "batch_size": 3, "reduction": "mean"} | changes)
        return CPL.create(key, SPEC, config, NORMALISER)

    winner, loser = jnp.array([0, 1, 2, 0]), jnp.array([3, 4, 5, 2])
    batch = PreferenceBatch(judged_pieces(0, 6, 4), winner, loser, jnp.ones(4), jnp.ones(6))
    return Example(create, batch, {"loss": 4}, weights=4, weighted=lambda batch: batch.label)


def _piql() -> Example:
    def create(key, **changes):
        config = PIQLConfig(hidden=(8,), batch_size=5, **changes)
        return PIQL.create(key, SPEC, config, NORMALISER)

    return Example(create, transitions(0, 5), {"td_error": 5}, weights=5)


EXAMPLES: dict[type, Callable[[], Example]] = {
    SAC: _sac,
    IPMD: _ipmd,
    BC: _bc,
    ChunkedBC: _chunked_bc,
    PPO: _ppo,
    ACFQL: _acfql,
    CPL: _cpl,
    PIQL: _piql,
}


def registered() -> list[type]:
    """Every learner of the library: the classes of ``steelyard.agents`` that learn and act.

    A reward that is learned acts on nothing, and has tests of its own.
    """
    found = []
    for module in pkgutil.iter_modules(steelyard.agents.__path__, "steelyard.agents."):
        for value in vars(importlib.import_module(module.name)).values():
            own = inspect.isclass(value) and value.__module__ == module.name
            if own and issubclass(value, eqx.Module) and hasattr(value, "update"):
                if hasattr(value, "reward"):
                    continue
                found.append(value)
    return found


@functools.cache
def example_of(learner: type) -> Example:
    """Return the example of a learner; none is a failure, not a skip."""
    assert learner in EXAMPLES, f"learner {learner.__name__} has no entry in EXAMPLES"
    return EXAMPLES[learner]()


@functools.cache
def made(example: Example) -> Any:
    """The example's learner at the battery's key."""
    return example.create(KEY)


KEY = jax.random.key(11)
EXTREMES = (1e6, -1e6, 1e30)


@jax.jit
def update(agent, batch, key, weights=None):
    """One compiled update; learners of one structure share the program."""
    return agent.update(batch, key, weights)


def leaves(tree: Any) -> list[np.ndarray]:
    """Every array of a tree on the host."""
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def equal(left: Any, right: Any) -> bool:
    """Whether two trees hold the same bits."""
    return all(np.array_equal(a, b) for a, b in zip(leaves(left), leaves(right), strict=True))


def close(left: Any, right: Any, tolerance: float = 1e-5) -> bool:
    """Whether two trees agree to a tolerance."""
    pairs = zip(leaves(left), leaves(right), strict=True)
    return all(np.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs)


def assert_only_moved(before: Any, after: Any, names: set[str]) -> None:
    """The named fields differ, all others hold the same bits."""
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if jax.tree.leaves(old):
            assert equal(old, new) != (field.name in names), field.name


def observations(example: Example) -> jax.Array:
    """Some observations to act on."""
    return transitions(5, 7).observation


def with_observations(batch: Any, value: float) -> Any:
    """The batch with an extreme value in every observation, of alternating sign."""

    def put(path, x):
        if path[-1].name not in ("observation", "next_observation"):
            return x
        return value * (-1.0) ** jnp.arange(x.size, dtype=x.dtype).reshape(x.shape)

    return jax.tree_util.tree_map_with_path(put, batch)


def is_immutable(example: Example) -> None:
    """No field can be set, and an update leaves the learner it started from as it was."""
    agent = made(example)
    field = dataclasses.fields(agent)[0].name
    try:
        setattr(agent, field, None)
    except (AttributeError, dataclasses.FrozenInstanceError):
        pass
    else:
        raise AssertionError(f"{field} could be set")
    before = [x.copy() for x in leaves(agent)]
    agent.update(example.batch, KEY)
    assert all(np.array_equal(a, b) for a, b in zip(before, leaves(agent), strict=True))


def create_depends_on_its_key_alone(example: Example) -> None:
    """The same key gives the same bits, another key others."""
    assert equal(example.create(KEY), example.create(KEY))
    assert not equal(example.create(KEY), example.create(jax.random.key(12)))


def update_depends_on_its_arguments_alone(example: Example) -> None:
    """Called twice it gives the same bits, and it moves parameters."""
    agent = made(example)
    first, second = (agent.update(example.batch, KEY) for _ in range(2))
    assert equal(first, second)
    assert not equal(first[0], agent)


def update_keeps_structure(example: Example) -> None:
    """Structure, shapes and types stay, so that updates scan."""
    agent = jax.eval_shape(example.create, KEY)
    after, _ = jax.eval_shape(lambda a, b: a.update(b, KEY), agent, example.batch)
    assert jax.tree.structure(after) == jax.tree.structure(agent)
    described = (
        [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(t)] for t in (after, agent)
    )
    assert next(described) == next(described)


def metrics_are_finite_scalars(example: Example) -> None:
    """There are metrics, each one finite number."""
    _, info = update(made(example), example.batch, KEY)
    assert info.metrics
    for name, value in info.metrics.items():
        assert value.shape == (), f"{name} has shape {value.shape}"
        assert np.isfinite(value), f"{name} is {value}"


def items_are_per_item(example: Example) -> None:
    """One finite number per item, not an average repeated."""
    _, info = update(made(example), example.batch, KEY)
    assert {name: value.shape for name, value in info.items.items()} == {
        name: (size,) for name, size in example.items.items()
    }
    for name, value in info.items.items():
        assert np.isfinite(value).all(), name
        assert np.std(value) > 0, f"{name} is the same for every item"


def actions_are_in_bounds(example: Example) -> None:
    """One action per observation, in [-1, 1], deterministic or not."""
    agent = made(example)
    for deterministic in (True, False):
        action = np.asarray(agent.act(observations(example), KEY, deterministic))
        assert action.shape == (7, ACT)
        assert (np.abs(action) <= 1).all()


def only_stochastic_actions_use_the_key(example: Example) -> None:
    """A deterministic action ignores the key; a stochastic one does not."""
    agent, other = made(example), jax.random.key(12)
    for deterministic in (True, False):
        one, two = (agent.act(observations(example), k, deterministic) for k in (KEY, other))
        assert np.array_equal(one, two) == deterministic


def jit_equals_eager(example: Example) -> None:
    """Compiled and uncompiled updates agree."""
    agent = made(example)
    assert close(update(agent, example.batch, KEY), agent.update(example.batch, KEY))


def seeds_together_equal_each_alone(example: Example) -> None:
    """Two seeds under vmap, three updates in one scan, buffers donated: as each seed by itself."""
    agents = [made(example), example.create(jax.random.key(12))]
    steps = jax.random.split(jax.random.key(4), 3)
    together = jax.tree.map(lambda *xs: jnp.stack(xs), *agents)

    def train(agent):
        body = lambda a, k: (a.update(example.batch, k)[0], None)  # noqa: E731
        return jax.lax.scan(body, agent, steps)[0]

    together = jax.jit(jax.vmap(train), donate_argnums=0)(together)
    for i, agent in enumerate(agents):
        for step in steps:
            agent, _ = update(agent, example.batch, step)
        assert close(jax.tree.map(lambda x, i=i: x[i], together), agent)


def extreme_observations_do_no_harm(example: Example) -> None:
    """Parameters, metrics, items and actions stay finite; actions stay in bounds."""
    for value in EXTREMES:
        agent, batch = made(example), with_observations(example.batch, value)
        for i in range(2):
            agent, info = update(agent, batch, jax.random.key(i))
            assert all(np.isfinite(x).all() for x in leaves((agent, info)))
        seen = jnp.full((2, OBS), value)
        for deterministic in (True, False):
            assert (np.abs(agent.act(seen, KEY, deterministic)) <= 1).all()


def a_row_of_weight_zero_moves_nothing(example: Example) -> None:
    """Whatever it holds, while the same row with weight one does move parameters."""
    agent = example.create(KEY, reduction="weighted_mean", **example.only_weighted)
    poison = jax.tree.map(
        lambda x: x.at[0].set(~x[0] if x.dtype == bool else 0.77), example.weighted(example.batch)
    )
    poisoned = eqx.tree_at(example.weighted, example.batch, poison)
    for first, same in ((0.0, True), (1.0, False)):
        weights = jnp.ones(example.weights).at[0].set(first)
        clean, _ = update(agent, example.batch, KEY, weights)
        other, _ = update(agent, poisoned, KEY, weights)
        assert equal(clean, other) == same, f"first row's weight is {first}"


def the_tail_of_everything_is_the_mean(example: Example) -> None:
    """``cvar`` at share 1 equals ``mean`` bit for bit."""
    mean, _ = made(example).update(example.batch, KEY)
    tail, _ = example.create(KEY, reduction="cvar", cvar_alpha=1.0).update(example.batch, KEY)
    assert equal(mean, tail)


LAWS: dict[str, Callable[[Example], None]] = {
    law.__name__: law
    for law in (
        is_immutable,
        create_depends_on_its_key_alone,
        update_depends_on_its_arguments_alone,
        update_keeps_structure,
        metrics_are_finite_scalars,
        items_are_per_item,
        actions_are_in_bounds,
        only_stochastic_actions_use_the_key,
        jit_equals_eager,
        seeds_together_equal_each_alone,
        extreme_observations_do_no_harm,
        a_row_of_weight_zero_moves_nothing,
        the_tail_of_everything_is_the_mean,
    )
}
