"""Dynamics runs that train together are, each of them, the run that trains alone."""

import dataclasses

import numpy as np
import pytest
from tiny_car import HELD_OUT, RUN, SHARP, TRAIN, run_of
from tiny_runs import (
    Killed,
    assert_same_bits,
    assert_same_runs,
    dying_at,
    group,
    rows_of,
    silent,
    state_of,
)

from steelyard.agents.dynamics import DynamicsConfig, RegularizationConfig
from steelyard.training import dynamics
from steelyard.training.dynamics import DynamicsRun, program_of, train_dynamics

OTHER = run_of(
    weights={"w": 5.0},
    pose_mse={"components": ("x", "y", "theta"), "weight": 0.02},
    rollout_mse={"teacher_forcing_prob": 0.3, "detach_between_steps": True, "weight": 0.7},
    rollout_cvar={"apply_to": "rollout", "scale_match": False, "trim": 0.1},
    input_noise=0.02,
    factor=2.0,
    huber=0.5,
)
OTHER = dataclasses.replace(
    OTHER,
    agent=dataclasses.replace(
        OTHER.agent, regularization=RegularizationConfig(residual_l2_weight=0.01)
    ),
)
PACK = (run_of(**SHARP), OTHER)
SEEDS = (0, 1)


def train(root, tick=silent, runs=PACK, seeds=SEEDS, pack="map"):
    return train_dynamics(runs, group(root, seeds), TRAIN, HELD_OUT, tick, pack=pack)


@pytest.fixture(scope="module")
def packed(tmp_path_factory, compiler, optimised_throughout):
    """Two runs of all kinds of differences, one after the other in one program; its traces."""
    root, traces = tmp_path_factory.mktemp("packed"), []
    real = dynamics.validation

    def counted(*given):
        traces.append(given)
        return real(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamics, "validation", counted)
        train(root)
    return root, len(traces)


def test_a_group_is_traced_once_although_alpha_anneals(packed):
    root, traces = packed
    assert traces == 1
    alphas = [row["alpha_now"] for row in rows_of(root, 0)]
    assert alphas[0] == 1.0
    assert sorted(alphas, reverse=True) == alphas
    assert alphas[-1] == pytest.approx(0.25)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_packed_run_is_bit_equal_to_the_same_run_alone(seed, packed, tmp_path):
    train(tmp_path, runs=PACK[seed : seed + 1], seeds=(seed,))
    assert_same_runs(packed[0], tmp_path, (seed,))


@pytest.mark.slow
def test_packing_in_one_batch_changes_rounding_only(packed, tmp_path):
    train(tmp_path, pack="vmap")
    for seed in SEEDS:
        alone, together = state_of(packed[0], seed), state_of(tmp_path, seed)
        names = [name for name in alone if name.startswith((".agent.model", ".agent.average"))]
        assert len(names) > 10
        for name in names:
            np.testing.assert_allclose(alone[name], together[name], atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_kill_and_resume_equals_uninterrupted(packed, tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, dying_at(60))
    assert group(tmp_path).folders[0].status()["step"] == 40
    train(tmp_path)
    assert_same_runs(packed[0], tmp_path, SEEDS)


def test_the_runs_of_a_pack_do_differ(packed):
    left, right = (state_of(packed[0], seed) for seed in SEEDS)
    with pytest.raises(AssertionError):
        assert_same_bits(left, right)


# -- what may train together -----------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        run_of(rollout_mse={"horizon": 4}),
        run_of(rollout_mse={"horizon_reduction": "max"}),
        run_of(rollout_cvar={"group": "item"}),
        run_of(rollout_cvar={"estimator": "running"}),
        run_of(rollout_cvar={"min_k": 2}),
        dataclasses.replace(RUN, steps=200),
        dataclasses.replace(RUN, stride=2),
        dataclasses.replace(RUN, agent=dataclasses.replace(RUN.agent, groups=4)),
        dataclasses.replace(RUN, agent=dataclasses.replace(RUN.agent, integrator="next")),
        dataclasses.replace(RUN, agent=DynamicsConfig()),
    ],
)
def test_a_group_of_unequal_programs_is_refused(other, tmp_path):
    with pytest.raises(ValueError, match="Runs that train together must share their program"):
        train(tmp_path, runs=(RUN, other))
    assert not (tmp_path / "0").exists()


def test_a_program_leaves_out_all_that_is_an_array_and_nothing_else():
    assert program_of(RUN.agent) == program_of(PACK[0].agent) == program_of(PACK[1].agent)
    program = program_of(RUN.agent)
    assert program_of(program) == program
    assert program.model == RUN.agent.model
    assert program.loss.rollout_mse.horizon == RUN.agent.loss.rollout_mse.horizon
    assert DynamicsRun(program) != DynamicsRun(program_of(DynamicsConfig()))
