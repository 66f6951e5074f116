"""Residual PPO bound to a task: without a residual it is its base, and the base never changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import silent

from steelyard.agents.chunked_bc import ChunkedBC, ChunkedBCConfig
from steelyard.agents.ppo import PPOConfig
from steelyard.data.chunks import ActionRange
from steelyard.data.normalisation import Normaliser
from steelyard.envs.pegplane import BASE_SUCCESS, peg_plane_spec
from steelyard.training.group import RunGroup
from steelyard.training.on_policy import OnPolicyConfig
from steelyard.training.on_policy_update import UpdateConfig
from steelyard.training.residual import (
    PLANE,
    ResidualRun,
    SuccessEvaluator,
    base_of,
    create_agent,
    train_residual,
)
from steelyard.training.run_folder import RunFolder

RUN = ResidualRun(
    PLANE,
    PPOConfig(hidden=(8,), n_iterations_train_only_value=0),
    UpdateConfig(update_epochs=1, num_minibatches=2),
    OnPolicyConfig(total_timesteps=2 * 4 * 16, num_envs=4, num_env_steps=16),
)
KEY = jax.random.key(0)


def cloned(spec=None, key=KEY):
    """A cloned policy that has learned nothing yet; its chunks differ from each other."""
    spec = spec or peg_plane_spec()
    config = ChunkedBCConfig(hidden=(8,), chunk=3, executed=2)
    ends = jnp.stack([-jnp.ones(spec.action_size), jnp.ones(spec.action_size)])
    return ChunkedBC.create(
        key, spec, config, Normaliser.identity(spec.observation_size), ActionRange.of(ends), 10
    )


def train(root, run=RUN, policy=None, seeds=(0, 1), **options):
    folders = [RunFolder(root / str(seed)).open({"seed": seed}) for seed in seeds]
    group = RunGroup(seeds, folders, "ppo")
    try:
        return train_residual(run, group, policy, tick=silent, **options)
    finally:
        group.close()


def stacked(agent, runs=2):
    return jax.tree.map(lambda x: jnp.stack([x] * runs), agent)


def test_without_training_and_at_a_scale_of_zero_success_is_the_bases(compiler, tmp_path):
    evaluator = SuccessEvaluator(PLANE, base_of(PLANE, None, KEY), 2, 300)
    untrained = evaluator.outcome(stacked(create_agent(RUN, None)(KEY)))
    still = dataclasses.replace(RUN, agent=dataclasses.replace(RUN.agent, action_scale=0.0))
    trained = evaluator.outcome(train(tmp_path, still).agent)
    np.testing.assert_array_equal(untrained.success, trained.success)
    np.testing.assert_array_equal(untrained.length, trained.length)
    error = np.sqrt(BASE_SUCCESS * (1 - BASE_SUCCESS) / 300)
    assert abs(untrained.success[0].mean() - BASE_SUCCESS) < 3 * error


def test_a_base_of_chunks_is_played_as_it_is_and_is_bit_identical_after_training(
    compiler, tmp_path
):
    policy = cloned()
    before = [np.asarray(x).copy() for x in jax.tree.leaves(policy) if hasattr(x, "shape")]
    state = train(tmp_path, policy=policy)
    after = [np.asarray(x) for x in jax.tree.leaves(policy) if hasattr(x, "shape")]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert int(state.agent.iteration[0]) == 2
    evaluator = SuccessEvaluator(PLANE, base_of(PLANE, policy, KEY), 2, 4)
    first, again = (evaluator.outcome(state.agent) for _ in range(2))
    np.testing.assert_array_equal(first.length, again.length)


def test_evaluation_during_training_is_on_starts_that_training_never_sees(compiler, tmp_path):
    evaluator = SuccessEvaluator(PLANE, base_of(PLANE, None, KEY), 2, 20)
    assert min(evaluator.starts) >= 1_000_000
    state = train(tmp_path, evaluate=evaluator)
    assert 0.0 <= float(state.best_score[0]) <= 1.0


def test_each_run_of_a_group_plays_its_own_base_and_scores_do_not_depend_on_the_group(
    compiler, monkeypatch
):
    """The last part of the starts is smaller than the others; noise goes by the start."""
    from steelyard.training import residual

    monkeypatch.setattr(residual, "AT_ONCE", 6)
    monkeypatch.setattr(residual, "AT_ONCE_ON_PLANE", 6)
    first, second = cloned(), jax.tree.map(lambda x: x, cloned(key=jax.random.key(9)))
    run = dataclasses.replace(RUN, env=PLANE)

    def lengths(policies):
        evaluator = SuccessEvaluator(PLANE, base_of(PLANE, policies, KEY), len(policies), 7)
        keys = jnp.stack([KEY] * len(policies))
        agents = jax.vmap(create_agent(run, policies))(keys, jnp.arange(len(policies)))
        played = evaluator.outcome(agents)
        return np.asarray(played.length), np.asarray(played.success)

    together, alone = lengths([first, second]), [lengths([p]) for p in (first, second)]
    for both, each in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(both, np.concatenate(each))


def test_a_base_of_other_sizes_is_refused_with_both():
    with pytest.raises(ValueError, match=r"sees 8 numbers and has 3 actions, .* has 3 and 1"):
        base_of("Pendulum-v1", cloned(), KEY)


def test_items_that_do_not_divide_into_minibatches_are_refused():
    with pytest.raises(ValueError, match=r"= 64 items must be divisible by num_minibatches, got 3"):
        dataclasses.replace(RUN, update=UpdateConfig(num_minibatches=3))


@pytest.mark.slow
def test_uniform_items_solve_the_plane(tmp_path):
    run = ResidualRun(
        PLANE, PPOConfig(hidden=(64, 64)), loop=OnPolicyConfig(total_timesteps=200_000)
    )
    evaluator = SuccessEvaluator(PLANE, base_of(PLANE, None, KEY), 3, 500)
    state = train(tmp_path, run, seeds=(0, 1, 2))
    assert (evaluator.outcome(state.agent).success.mean(1) >= 0.95).all()
