"""A planner's step is the model's, its Jacobians are the step's, an export gives our numbers."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_dynamics_files import learner_of

from steelyard.training.dynamics_export import (
    ONNX_TOLERANCE,
    export_onnx,
    pack_state,
    planner_step,
    unpack_state,
)

HAS_ONNX = importlib.util.find_spec("jax2onnx") is not None
TWIST, COMMAND, DT = jnp.array([0.8, 0.1, 0.4]), jnp.array([1.1, 0.15]), jnp.asarray(0.1)


@pytest.fixture(scope="module")
def learner():
    """A structured model with friction and one past command."""
    return learner_of("structured", learn_friction=True, history=1)


@pytest.fixture(scope="module")
def planner(learner):
    return planner_step(learner)


def test_planner_steps_are_the_rollout_of_the_model(learner, planner):
    past = jnp.array([[0.9, 0.1]])
    commands = jnp.array([[1.1, 0.15], [1.0, -0.2], [0.2, 0.3]])
    rows = jnp.concatenate([past, commands])[None]
    expected = learner.predict(TWIST[None], rows, jnp.full((1, 3), 0.1))[0]
    twist, carry = TWIST, planner.start(past, commands[0])
    for k, command in enumerate(commands):
        twist, carry = planner.step(twist, command, DT, carry)
        np.testing.assert_allclose(twist, expected[k + 1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(carry.past, commands[-1:])


def test_jacobians_are_finite_differences(planner):
    carry = planner.start(jnp.array([[0.9, 0.1]]), COMMAND)
    state = pack_state(TWIST, carry)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, unpack_state(state, 1), (TWIST, carry)))

    def advance(state, command):
        twist, carry = unpack_state(jnp.asarray(state, jnp.float32), 1)
        command = jnp.asarray(command, jnp.float32)
        return np.asarray(pack_state(*planner.step(twist, command, DT, carry)), np.float64)

    def differences(function, point, width=5e-3):
        point = np.asarray(point, np.float64)
        moves = width * np.eye(len(point))
        return np.stack(
            [(function(point + m) - function(point - m)) / (2 * width) for m in moves], 1
        )

    found = planner.linearise(TWIST, COMMAND, DT, carry)
    by_state = differences(lambda s: advance(s, COMMAND), state)
    by_command = differences(lambda c: advance(state, c), COMMAND)
    assert found.a.shape == (7, 7)
    assert found.b.shape == (7, 2)
    np.testing.assert_allclose(found.a, by_state, atol=2e-3)
    np.testing.assert_allclose(found.b, by_command, atol=2e-3)
    assert np.abs(by_command[:3]).max() > 0.1  # the command moves the twist
    np.testing.assert_array_equal(found.b[3:5], np.eye(2))  # and becomes the past one


def test_planners_run_many_states_at_once(planner):
    carry = planner.start(jnp.zeros((1, 2)), COMMAND)
    twists = jnp.tile(TWIST, (5, 1)) * jnp.linspace(0.8, 1.2, 5)[:, None]
    batched, _ = jax.vmap(planner.step, (0, None, None, None))(twists, COMMAND, DT, carry)
    np.testing.assert_allclose(
        batched[3], planner.step(twists[3], COMMAND, DT, carry)[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.skipif(HAS_ONNX, reason="the extra is installed")
def test_a_missing_extra_is_named_with_its_install_command(learner, tmp_path):
    with pytest.raises(ImportError, match=r"pip install 'steelyard\[onnx\]'"):
        export_onnx(learner, tmp_path / "model.onnx")


@pytest.mark.skipif(not HAS_ONNX, reason="needs pip install 'steelyard[onnx]'")
@pytest.mark.filterwarnings("ignore")  # of packages that the extra brings
def test_an_exported_model_gives_our_numbers(learner, planner, tmp_path):
    import onnxruntime

    path = export_onnx(learner, tmp_path / "deep" / "model.onnx")
    session = onnxruntime.InferenceSession(str(path))
    assert [given.name for given in session.get_inputs()] == ["twist", "command", "dt", "past"]
    past = np.array([[0.9, 0.1]], np.float32)
    given = {"twist": TWIST, "command": COMMAND, "dt": DT, "past": past}
    found = session.run(None, {name: np.asarray(value) for name, value in given.items()})
    expected, carry = planner.step(TWIST, COMMAND, DT, planner.start(jnp.asarray(past), COMMAND))
    np.testing.assert_allclose(found[0], expected, atol=ONNX_TOLERANCE)
    np.testing.assert_allclose(found[1], carry.past, atol=ONNX_TOLERANCE)
    assert path.with_suffix(".json").exists()
