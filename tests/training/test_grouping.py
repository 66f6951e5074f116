"""Seeds that train together: each as if it were alone, and never disturbed by a neighbour."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import (
    IPMD_RUN,
    LOOP,
    SAC_RUN,
    TASK,
    Killed,
    assert_same_bits,
    assert_same_runs,
    demonstrations,
    dying_at,
    group,
    rows_of,
    silent,
    state_of,
)

from steelyard.evaluation.evaluator import Evaluator
from steelyard.training.recipes import train_ipmd, train_sac


def train(root: Path, seeds: tuple[int, ...]) -> Path:
    """Train until 160 updates lie in the checkpoint of step 240."""
    data = [demonstrations(seed=s) for s in seeds]
    with pytest.raises(Killed):
        train_ipmd(IPMD_RUN, group(root, seeds), data, dying_at(280))
    return root


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return train(tmp_path_factory.mktemp("together"), (0, 1))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_ends_together_with_another_as_it_ends_alone(seed, together, tmp_path):
    alone, beside = state_of(train(tmp_path, (seed,)), seed), state_of(together, seed)
    assert alone[".agent.critic_state[0].count"] == 160
    assert alone.keys() == beside.keys()
    for name, array in alone.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(array, beside[name], rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(array, beside[name], err_msg=name)
    for left, right in zip(rows_of(tmp_path, seed), rows_of(together, seed), strict=True):
        assert left == pytest.approx(right, rel=1e-4, abs=1e-4)


def test_the_same_group_ends_in_the_same_bits(together, tmp_path):
    assert_same_runs(together, train(tmp_path, (0, 1)))


def test_two_seeds_of_a_group_do_not_share_episodes_or_parameters(together):
    left, right = state_of(together, 0), state_of(together, 1)
    for name in (".agent.actor.net.weights[0]", ".replay.storage.observation"):
        assert not np.allclose(left[name], right[name]), name


@pytest.fixture(scope="module")
def beside_a_bad_one(tmp_path_factory):
    """Run 0 as ever; run 1 receives rewards that are not a number, from its first step on."""
    root = tmp_path_factory.mktemp("bad")
    runs = group(root)
    loop = dataclasses.replace(LOOP, eval_interval=160)
    run = dataclasses.replace(SAC_RUN, env="nan-in-run-1", loop=loop)
    agents = train_sac(run, runs, silent, Evaluator(TASK, 2, 3))
    return root, runs, agents


def test_a_run_that_turns_non_finite_stops_within_one_scan_and_is_named(beside_a_bad_one):
    root, runs, _ = beside_a_bad_one
    status = runs.folders[1].status()
    first_scan = LOOP.random_frames + LOOP.num_envs
    assert status["state"] == "diverged"
    assert (
        status["diverged_at"] == first_scan + LOOP.num_envs
    )  # found while the next step is simulated
    message = f"loss_qvalue is nan, .* in arm 'tiny', seed 1, at step {status['diverged_at']}"
    assert re.search(message, status["error"]), status["error"]
    assert runs.failures == {1: status["error"]}
    assert runs.alive == [0]
    assert max(row["step"] for row in rows_of(root, 1)) <= first_scan
    assert (
        not runs.folders[1].checkpoints.exists() or status["checkpoint"] == "state_80.safetensors"
    )


def test_the_others_go_on_as_if_their_bad_neighbour_were_not_there(beside_a_bad_one, sac_root):
    root, runs, _ = beside_a_bad_one
    assert runs.folders[0].status()["state"] == "running"
    training = [row for row in rows_of(root, 0) if "eval/reward_mean" not in row]
    assert training == rows_of(sac_root, 0)
    assert_same_bits(state_of(root, 0), state_of(sac_root, 0))


def test_a_run_that_turned_non_finite_is_evaluated_to_nan_and_the_others_as_ever(beside_a_bad_one):
    root, _, agents = beside_a_bad_one
    returns = Evaluator(TASK, 2, 3).returns(agents)
    assert np.isfinite(returns[0]).all()
    assert np.isnan(returns[1]).all()
    scores = [row["eval/reward_mean"] for row in rows_of(root, 0) if "eval/reward_mean" in row]
    assert len(scores) == 2
    assert np.isfinite(scores).all()


def test_where_no_run_is_left_the_group_fails_and_names_all(tmp_path):
    run = dataclasses.replace(SAC_RUN, env="poisoned-nan")
    with pytest.raises(FloatingPointError, match=r"seed 0, at step 88.*seed 1, at step 88"):
        train_sac(run, group(tmp_path), silent)
