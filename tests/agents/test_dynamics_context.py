"""The recent past as a correction of a dynamics model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.agents.dynamics import (
    AdapterConfig,
    Dynamics,
    DynamicsConfig,
    ModelConfig,
    Scales,
    make_plant,
)
from steelyard.data.trajectories import Trajectories
from steelyard.emphasis.loss_emphasis import LossEmphasis
from steelyard.evaluation.motion_metrics import MotionErrors, motion_metrics
from steelyard.numerics.vehicle import MUSHR
from steelyard.training.dynamics import context_of, play
from steelyard.training.dynamics_windows import Cut, recordings_of

DRIFT = np.array([0.02, -0.01, 0.03], np.float32)  # of the twist, per step
CUT = Cut(steps=10, lead=8)


def learner(history: int = 2) -> Dynamics:
    """A direct model as it is drawn: it predicts that the twist stays."""
    config = DynamicsConfig(
        model=ModelConfig(
            type="direct",
            hidden_dims=(8,),
            history=history,
            control_adapter=AdapterConfig(enabled=False),
        ),
        groups=2,
    )
    ones = jnp.ones(3)
    scales = Scales(0 * ones, ones, jnp.zeros(2), jnp.ones(2), ones)
    plant = make_plant(config.model, MUSHR, "velocity")
    return Dynamics.create(jax.random.key(0), config, plant, scales, LossEmphasis())


def drifting(states: int = 40) -> Trajectories:
    """Motion whose twist changes by the same at every step."""
    steps = np.arange(states, dtype=np.float32)[:, None]
    twist = np.array([0.5, 0.0, 0.0], np.float32) + steps * DRIFT
    return Trajectories(
        twist=twist,
        pose=np.zeros((states, 3), np.float32),
        command=np.tile(np.array([0.5, 0.1], np.float32), (states, 1)),
        dt=np.full(states, 0.05, np.float32),
        lengths=np.array([states]),
        ids=("drift",),
        groups=("drift",),
        command_kind="velocity",
    )


def test_the_context_is_the_mean_error_of_the_last_single_steps():
    context = context_of(learner(), drifting(), CUT, steps=5)
    np.testing.assert_allclose(context, np.tile(DRIFT, (len(context), 1)), atol=1e-5)


def test_a_steady_error_is_corrected_completely_and_forwards_only():
    data, model = drifting(), learner()
    recordings = recordings_of(data, 2, CUT)
    plain = motion_metrics(MotionErrors.of(play(model, recordings), recordings))
    bias = context_of(model, data, CUT, steps=5)
    corrected = motion_metrics(MotionErrors.of(play(model, recordings, bias), recordings))
    assert float(np.max(corrected["rmse_vx"])) < 1e-5 < 0.05 < float(np.min(plain["rmse_vx"]))


def test_the_context_sees_nothing_from_the_start_of_the_rollout_on():
    data, model = drifting(), learner()
    start = int(CUT.windows(data).start[0])
    twist = data.twist.copy()
    twist[start + 1 :] += 5.0
    changed = dataclasses.replace(data, twist=twist)
    first = [context_of(model, d, CUT, steps=5)[0] for d in (data, changed)]
    np.testing.assert_array_equal(*first)


@pytest.mark.parametrize("steps", [7, 20])
def test_a_context_that_reaches_before_the_lead_is_refused(steps):
    with pytest.raises(ValueError, match="needs a lead of as many"):
        context_of(learner(), drifting(), CUT, steps=steps)


def test_a_history_longer_than_the_lead_is_refused():
    with pytest.raises(ValueError, match="shorter than a history"):
        recordings_of(drifting(), 9, CUT)
