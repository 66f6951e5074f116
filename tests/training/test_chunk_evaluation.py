"""Scores of chunked policies: plans are made once a chunk, on starts that all runs share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.envs.registry import env_spec
from steelyard.training import chunk_evaluation
from steelyard.training.checkpoint import stack_runs
from steelyard.training.chunk_evaluation import ChunkEvaluator, told

FORK = "sparse/Fork-v0"


def agents(count, **settings):
    config = ACFQLConfig(hidden=(8,), num_qs=2, flow_steps=2, **settings)
    keys = jax.random.split(jax.random.key(0), count)
    return stack_runs([ACFQL.create(key, env_spec(FORK), config) for key in keys])


@pytest.mark.parametrize("horizon", [5, 7])
def test_actor_calls_equal_ceil_T_over_H(horizon):
    evaluator = ChunkEvaluator(FORK, 2, 6)
    outcome = evaluator.outcome(agents(2, horizon_length=horizon))
    longest = int(outcome.length.max())
    assert longest == 60
    assert outcome.plans == -(-longest // horizon)
    single = ChunkEvaluator(FORK, 1, 3)
    assert single.outcome(agents(1, horizon_length=5, action_chunking=False)).plans == 60


def test_equal_runs_have_equal_scores_and_parts_do_not_matter(monkeypatch):
    same = jax.tree.map(lambda x: jnp.concatenate([x, x, x]), agents(1))
    whole = ChunkEvaluator(FORK, 3, 10).outcome(same)
    np.testing.assert_array_equal(whole.length[0], whole.length[1])
    monkeypatch.setattr(chunk_evaluation, "AT_ONCE", 10)
    evaluator = ChunkEvaluator(FORK, 3, 10)
    parts = evaluator.outcome(same)
    np.testing.assert_array_equal(whole.success, parts.success)
    np.testing.assert_array_equal(whole.length, parts.length)
    assert evaluator.last is parts
    assert set(told(parts)) == {"eval/success_rate", "eval/success", "eval/length"}
