"""Terms of the dynamics loss: what each feels, and what each is, by hand."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dynamics_examples import KEY, SCALES, awake, leaves_of, model_of, small, windows

from steelyard.agents.dynamics import AdapterConfig, DynamicsConfig, LossConfig, RolloutConfig
from steelyard.agents.dynamics.learner import trainable
from steelyard.agents.dynamics.losses import (
    ItemLosses,
    Settings,
    item_losses,
    rollout,
    scored,
    unscored,
)
from steelyard.agents.dynamics.models import Parts
from steelyard.types import Window

FACTORS = (
    "one_step",
    "rollout",
    "pose",
    "adapter_identity",
    "residual_l2",
    "friction_prior",
    "teacher_forcing",
    "detach",
    "input_noise",
)
NONE = dataclasses.replace(
    Settings.of(DynamicsConfig()), **{name: jnp.zeros(()) for name in FACTORS}
)


def settings(**changes) -> Settings:
    """Settings in which every term is off but the named ones."""
    changes = {name: jnp.asarray(np.float32(value)) for name, value in changes.items()}
    return dataclasses.replace(NONE, **changes)


def stacked(many: list[Settings]) -> Settings:
    return jax.tree.map(lambda *x: np.stack(x), *many)


def config_of(reduction: str = "mean", model=None) -> DynamicsConfig:
    loss = LossConfig(rollout_mse=RolloutConfig(horizon_reduction=reduction))
    return DynamicsConfig(model=small() if model is None else model, loss=loss)


@functools.partial(jax.jit, static_argnames="config")
def losses_of(model, window, many, key, config):
    """Losses of every window (second axis) under every one of the settings (first axis)."""
    keys = jax.random.split(key, window.dt.shape[0])

    def under(settings):
        return jax.vmap(item_losses, (None, 0, 0, None, None, None))(
            model, window, keys, settings, config, SCALES.twist_std
        )

    return jax.vmap(under)(many)


def losses(model, window, *many, config=None) -> ItemLosses:
    """On the host; always of five settings, so that tests share compiled programs."""
    padded = [*many, *[settings()] * (5 - len(many))]
    found = losses_of(model, window, stacked(padded), KEY, config or config_of())
    return jax.tree.map(lambda x: np.asarray(x)[: len(many)], found)


# -- gradients -------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="config")
def gradients_of(model, window, many, config):
    """The gradient of the whole objective under every one of the settings."""
    learned, rest = eqx.partition(model, trainable(model))
    keys = jax.random.split(KEY, window.dt.shape[0])

    def under(settings):
        def objective(learned):
            one = functools.partial(item_losses, eqx.combine(learned, rest))
            items = jax.vmap(one, (0, 0, None, None, None))(
                window, keys, settings, config, SCALES.twist_std
            )
            return jnp.mean(scored(items, settings) + unscored(items, settings))

        return jax.grad(objective)(learned)

    return jax.vmap(under)(many)


X, Y, THETA = np.eye(3)
TERMS = {
    "one_step": {"one_step": 1},
    "rollout": {"rollout": 1},
    "pose x": {"pose": 1, "pose_components": X},
    "pose y": {"pose": 1, "pose_components": Y},
    "pose theta": {"pose": 1, "pose_components": THETA},
    "adapter_identity": {"adapter_identity": 1},
    "residual_l2": {"residual_l2": 1},
    "friction_prior": {"friction_prior": 1},
}
STEER, DRIVE, RESIDUAL, FRICTION = "steer_net", "drive_net", "residual_net", "friction_net"
DATA_TERMS = tuple(TERMS)[:5]
STRUCTURED = {name: {STEER, DRIVE, RESIDUAL, FRICTION} for name in DATA_TERMS} | {
    "adapter_identity": {STEER, DRIVE},
    # Both networks look at the adapted steering, the residual also at the adapted drive.
    "residual_l2": {STEER, DRIVE, RESIDUAL},
    "friction_prior": {STEER, FRICTION},
}
DIRECT = {name: {STEER, DRIVE, "net"} for name in DATA_TERMS} | {
    "adapter_identity": {STEER, DRIVE},
    "residual_l2": set(),
    "friction_prior": set(),
}
WITH_FRICTION = small(learn_friction=True)


def gradients(model, window, config, *many):
    return gradients_of(model, window, stacked(list(many)), config)


def felt_by(gradient, index: int) -> set[str]:
    """Names of the model's parts whose gradient is not exactly zero."""
    names = [field.name for field in dataclasses.fields(gradient)]
    parts = {name: leaves_of(getattr(gradient, name)) for name in names if name != "config"}
    return {name for name, part in parts.items() if any((x[index] != 0).any() for x in part)}


@pytest.mark.parametrize(
    ("model_config", "expected"), [(WITH_FRICTION, STRUCTURED), (small(type="direct"), DIRECT)]
)
def test_every_loss_term_has_gradient(model_config, expected):
    config, model = config_of(model=model_config), awake(model_config)
    assert [name for name in expected] == list(TERMS)
    off = [settings()]
    # Without gradients between the steps, a term is felt by what makes it and by nothing else.
    apart = [settings(detach=1, **term) for term in TERMS.values()]
    through = [settings(**term) for term in TERMS.values()]
    found = gradients(model, windows(), config, *off, *apart, *through)
    assert felt_by(found, 0) == set()
    for i, (name, parts) in enumerate(expected.items()):
        assert felt_by(found, 1 + i) == parts, name
        together = felt_by(found, 1 + len(TERMS) + i)
        assert together >= parts, name
    # The plant and the scales are no parameters.
    assert {"plant", "scales"}.isdisjoint(felt_by(found, len(TERMS) + 2))


@pytest.mark.parametrize("still", ["vx", "w", "all"])
def test_every_gradient_is_finite_at_rest_and_without_yaw(still):
    model, config = awake(WITH_FRICTION), config_of(model=WITH_FRICTION)
    window = windows()
    column = {"vx": [0, 1], "w": [2], "all": [0, 1, 2]}[still]
    command = window.command if still == "w" else jnp.zeros_like(window.command)
    twist = np.array(window.twist)
    twist[..., column] = 0.0
    window = dataclasses.replace(window, twist=jnp.asarray(twist), command=command)
    many = [settings(detach=d, **term) for d in (1, 0) for term in TERMS.values()]
    found = gradients(model, window, config, settings(), *many)
    assert all(np.isfinite(x).all() for x in leaves_of(found))
    assert felt_by(found, 1 + len(TERMS)) >= {DRIVE, RESIDUAL}


@pytest.mark.slow
def test_gradients_through_tyres_and_actuators_are_finite_at_rest():
    model_config = small(physics="single_track", learn_friction=True)
    model, config = awake(model_config), config_of(model=model_config)
    moving = windows(4, 2)
    still = jnp.asarray(np.array([0, 0, 1, 1], np.float32)[:, None, None])
    window = dataclasses.replace(moving, twist=still * moving.twist, command=still * moving.command)
    found = gradients(model, window, config, settings(rollout=1, pose=1, friction_prior=1))
    assert all(np.isfinite(x).all() for x in leaves_of(found))
    assert felt_by(found, 0) == {STEER, DRIVE, RESIDUAL, FRICTION}


def test_xy_and_xytheta_differ():
    model, config = awake(WITH_FRICTION), config_of(model=WITH_FRICTION)
    names = (X + Y, X + Y + THETA, X, Y, THETA)
    many = [settings(pose=1, pose_components=chosen) for chosen in names]
    padding = [settings()] * (1 + 2 * len(TERMS) - len(many))  # shares the compiled program
    found = gradients(model, windows(), config, *many, *padding)
    for gradient in leaves_of(found):
        xy, xytheta, x, y, theta = gradient[:5]
        assert not np.array_equal(xy, xytheta)
        # Each is the mean over its components.
        scale = np.abs(gradient[:5]).max()
        np.testing.assert_allclose(xy, (x + y) / 2, atol=1e-5 * scale)
        np.testing.assert_allclose(xytheta, (x + y + theta) / 3, atol=1e-5 * scale)


# -- what the terms are ----------------------------------------------------------------------

CONSTANT = small(type="direct", control_adapter=AdapterConfig(enabled=False))


@pytest.fixture(scope="module")
def constant():
    """A model that predicts that the twist never changes."""
    return model_of(CONSTANT)


@pytest.mark.parametrize(("reduction", "of"), [("mean", np.mean), ("final", None), ("max", np.max)])
def test_horizon_reductions_are_those_of_their_names(reduction, of, constant):
    window = windows()
    twist = np.asarray(window.twist, np.float64)
    error = (twist[:, :1] - twist[:, 1:]) / np.asarray(SCALES.twist_std)
    per_step = (np.array([1.0, 1.0, 2.0]) * error**2).sum(-1) / 3
    found = losses(constant, window, settings(), config=config_of(reduction, CONSTANT))
    expected = per_step[:, -1] if of is None else of(per_step, axis=1)
    np.testing.assert_allclose(found.rollout[0], expected, rtol=1e-5)
    np.testing.assert_allclose(found.one_step[0], per_step[:, 0], rtol=1e-5)


def straight_window() -> Window:
    """Three seconds at (1, 0.2, 0) in a world turned by 90 degrees; recorded poses are off."""
    recorded = [[2.0, 3.0], [1.8, 4.0], [1.6, 5.5], [2.4, 6.0]]
    pose = np.column_stack([recorded, np.pi / 2 + np.array([0.0, 0.0, 0.5, 0.5])])
    twist = np.tile([1.0, 0.2, 0.0], (4, 1))
    arrays = (twist, pose, np.zeros((3, 2)), np.ones(3))
    return Window(*(jnp.asarray(np.stack([x] * 6), jnp.float32) for x in arrays))


def test_pose_errors_are_in_metres_and_radians_of_the_windows_frame(constant):
    many = [settings(pose_components=c) for c in (X, Y, THETA, X + Y, X + Y + THETA)]
    found = losses(constant, straight_window(), *many, config=config_of(model=CONSTANT)).pose[:, 0]
    # Predicted (k, 0.2 k, 0); recorded, as seen from the start: (1, .2), (2.5, .4), (3, -.4).
    x, y, theta = 0.25 / 3, 1.0 / 3, 0.5 / 3
    expected = [x, y, theta, (x + y) / 2, (x + y + theta) / 3]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_no_motion_of_the_world_changes_a_loss():
    model, window = awake(small()), windows()
    x, y, theta = np.moveaxis(np.asarray(window.pose), -1, 0)
    cos, sin = np.cos(2.5), np.sin(2.5)
    moved = np.stack([20 + cos * x - sin * y, -7 + sin * x + cos * y, theta + 2.5], axis=-1)
    many = [settings(pose_components=c) for c in (X, Y, THETA)]
    here = losses(model, window, *many)
    there = losses(model, dataclasses.replace(window, pose=jnp.asarray(moved)), *many)
    np.testing.assert_allclose(here.pose, there.pose, rtol=1e-4)
    assert (here.rollout == there.rollout).all()


def test_whole_turns_of_the_heading_change_no_loss():
    model, window = awake(small()), windows()
    turned = np.array(window.pose)
    turned[:, 1:, 2] += np.array([1, -1, 2]) * 2 * np.pi
    many = [settings(pose_components=c) for c in (X, Y, THETA)]
    here = losses(model, window, *many).pose
    there = losses(model, dataclasses.replace(window, pose=jnp.asarray(turned)), *many).pose
    np.testing.assert_allclose(here, there, rtol=1e-4)
    assert (here[2] <= np.pi**2 + 1e-5).all()


def test_weights_reach_rollout():
    model, window = awake(small()), windows()
    weights = [X, Y, THETA, np.array([1.0, 1.0, 2.0])]
    found = losses(model, window, *(settings(twist_weights=w) for w in weights))
    for term in (found.one_step, found.rollout):
        vx, vy, w, all_three = np.asarray(term, np.float64)
        assert (w > 0).all()
        np.testing.assert_allclose(all_three, vx + vy + 2 * w, rtol=1e-5)


# -- teacher forcing, noise, gradients between steps -----------------------------------------


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_teacher_forcing_rate(rate, constant):
    # vx is 0, 1, 10, 0: the last step starts from 10 if it is forced, from 1 if only the step
    # before was, and from 0 if none was.
    count = 4_000
    twist = np.zeros((count, 4, 3), np.float32)
    twist[..., 0] = [0.0, 1.0, 10.0, 0.0]
    window = dataclasses.replace(windows(count), twist=jnp.asarray(twist))
    config = config_of("final", CONSTANT)
    found = losses(constant, window, settings(teacher_forcing=rate), config=config).rollout[0]
    start = np.sqrt(3 * np.asarray(found)) * 1.5
    shares = {10.0: rate, 1.0: (1 - rate) * rate, 0.0: (1 - rate) ** 2}
    for value, share in shares.items():
        spread = np.sqrt(share * (1 - share) / count)
        assert abs(np.isclose(start, value, atol=1e-3).mean() - share) < 3 * spread


def test_teacher_forcing_at_one_is_one_step_prediction():
    model, window = awake(small()), windows()
    found = losses(model, window, settings(teacher_forcing=1), settings())
    window = jax.tree.map(np.asarray, window)
    twist, command = window.twist[:, :-1].reshape(-1, 3), window.command.reshape(-1, 1, 2)

    def step(twist, command):
        carry = model.start(command[:0], command[0])
        return model.step(twist, command[0], jnp.asarray(0.1), carry)[0]

    following = jax.jit(jax.vmap(step))(twist, command).reshape(6, 3, 3)
    error = (np.asarray(following) - window.twist[:, 1:]) / np.asarray(SCALES.twist_std)
    expected = np.mean(np.sum(np.array([1.0, 1.0, 2.0]) * error**2, -1) / 3, 1)
    np.testing.assert_allclose(found.rollout[0], expected, rtol=1e-4)
    assert not np.allclose(found.rollout[1], expected, rtol=0.01)


def test_the_first_step_is_never_forced_and_starts_with_noise(constant):
    count = 4_000
    still = dataclasses.replace(windows(count), twist=jnp.zeros((count, 4, 3)))
    many = [settings(input_noise=0.1, teacher_forcing=p) for p in (0, 1)]
    config = config_of("final", CONSTANT)
    free, forced = losses(constant, still, *many, config=config).one_step
    assert (np.asarray(free) == np.asarray(forced)).all()
    # Mean of the three weights times the variance, in standard deviations.
    assert np.mean(free) == pytest.approx(4 / 3 * 0.01, rel=0.1)


@pytest.mark.parametrize("physics", ["kinematic", "single_track"])
def test_detaching_stops_every_gradient_between_steps(physics):
    model = awake(small(physics=physics), size=0.1)
    window = jax.tree.map(lambda x: x[0], windows(1, 2))

    @jax.jit
    def slopes(detach):
        def last(twist, command):
            moved = dataclasses.replace(window, twist=twist, command=command)
            return jnp.sum(rollout(model, moved, 0, None, detach)[0][-1])

        return jax.grad(last, (0, 1))(window.twist, window.command)

    for detach in (1.0, 0.0):
        by_twist, by_command = map(np.asarray, slopes(jnp.asarray(detach)))
        assert (by_twist[0] != 0).any() == (detach == 0)
        assert (by_command[0] != 0).any() == (detach == 0)
        assert (by_command[1] != 0).any()


# -- score -----------------------------------------------------------------------------------


def some_losses() -> ItemLosses:
    one = jnp.array([1.0, 2.0])
    return ItemLosses(one, 10 * one, 100 * one, Parts(3 * one, 5 * one, 7 * one))


@pytest.mark.parametrize(
    ("by_score", "expected"), [((1, 1), 0.5 + 0.2), ((1, 0), 0.5), ((0, 1), 0.2)]
)
def test_the_score_holds_the_terms_that_are_named_and_the_rest_counts_by_its_mean(
    by_score, expected
):
    factors = {
        "one_step": 4.0,
        "rollout": 0.05,
        "pose": 0.002,
        "adapter_identity": 0.1,
        "residual_l2": 0.2,
        "friction_prior": 0.3,
    }
    rollout_by, pose_by = by_score
    given = settings(rollout_by_score=rollout_by, pose_by_score=pose_by, factor=3.0, **factors)
    np.testing.assert_allclose(
        scored(some_losses(), given), 3 * expected * np.array([1.0, 2.0]), rtol=1e-6
    )
    rest = 4.0 + 0.7 - expected + 0.3 + 1.0 + 2.1
    np.testing.assert_allclose(unscored(some_losses(), given), rest * np.array([1, 2]), rtol=1e-6)


def test_huber_turns_large_item_losses_into_twice_their_root():
    item = jnp.array([0.25, 1.0, 4.0, 9.0])
    zero = jnp.zeros(4)
    found = ItemLosses(zero, item, zero, Parts(zero, zero, zero))

    def under(bound):
        return scored(found, settings(rollout=1, huber=bound))

    np.testing.assert_allclose(under(1.0), [0.25, 1.0, 3.0, 5.0], rtol=1e-6)
    np.testing.assert_allclose(under(4.0), [0.25, 1.0, 4.0, 8.0], rtol=1e-6)
    assert (scored(found, settings(rollout=1)) == item).all()
    assert not np.isfinite(scored(found, settings(rollout=jnp.inf))).any()


def test_huber_is_continuously_differentiable():
    def total(item):
        zero = jnp.zeros_like(item)
        found = ItemLosses(zero, item, zero, Parts(zero, zero, zero))
        return jnp.sum(scored(found, settings(rollout=1, huber=1.0)))

    slope = jax.jit(jax.grad(total))(jnp.array([0.0, 1.0, 1.0001, 4.0]))
    np.testing.assert_allclose(slope, [1, 1, 1, 0.5], rtol=1e-3)
