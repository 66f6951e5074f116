"""Models of the car: smooth everywhere, exact where their networks are zero, sized as published."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dynamics_examples import (
    KEY,
    awake,
    model_of,
    plant_of,
    small,
    windows,
)

from steelyard.agents.dynamics import (
    AdapterConfig,
    DynamicsConfig,
    FrictionConfig,
    ModelConfig,
    Scales,
    fit_kinematic,
    make_model,
    make_plant,
    parameter_count,
    predict,
)
from steelyard.agents.dynamics.models import PlantModel, friction_factor
from steelyard.numerics.vehicle import DART, MUSHR, kinematic_step
from steelyard.types import Window

# -- smoothness ------------------------------------------------------------------------------

AT = np.array(
    [
        # vx, vy, w, velocity, steering: at rest, without acceleration, both ways, without yaw.
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.05, 0.4, 1.0, 0.2],
        [0.0, -0.05, -0.4, -1.0, 0.2],
        [0.5, 0.02, 0.0, 0.5, 0.0],
        [0.5, 0.02, 0.6, 0.5, 0.3],
        [-1.0, 0.02, 0.6, -1.0, -0.3],
        [0.4, 0.0, 0.1, 0.4, 0.1],
    ]
)


@pytest.mark.parametrize(
    ("physics", "kind"), [("kinematic", "velocity"), ("single_track", "throttle")]
)
def test_step_is_continuous_through_zero_acceleration_and_speed(physics, kind):
    config = small(physics=physics, learn_friction=True)
    model, reach = awake(config, kind), 1e-6
    with jax.enable_x64(True):
        model = jax.tree.map(lambda x: x.astype(jnp.float64), model)

        def following(row):
            carry = model.start(jnp.zeros((0, 2)), row[3:])
            return model.step(row[:3], row[3:], jnp.asarray(0.1), carry)[0]

        moves = reach * np.concatenate([-2 * np.eye(5), -np.eye(5), np.eye(5), 2 * np.eye(5)])
        rows = jnp.asarray((AT[:, None] + moves[None]).reshape(-1, 5))
        there = jax.jit(jax.vmap(following))(rows)
        there = np.asarray(there).reshape(len(AT), 4, 5, 3)
    far_left, left, right, far_right = np.moveaxis(there, 1, 0)
    slope_left, slope_right = (left - far_left) / reach, (far_right - right) / reach
    assert np.abs(right - left).max() < 1e-3
    np.testing.assert_allclose(slope_left, slope_right, atol=2e-3, rtol=2e-3)
    assert (np.abs(slope_left).max(axis=(0, 2)) > 1e-3).all(), "an input that nothing feels"


def test_braking_gently_does_not_turn_the_direction_of_travel():
    # The reference took the direction of travel from the sign of the acceleration.
    window, command = windows(), np.tile([0.499, 0.0], (6, 3, 1))
    window = dataclasses.replace(
        window,
        twist=jnp.asarray(np.tile([0.5, 0.0, 0.0], (6, 4, 1)), jnp.float32),
        command=jnp.asarray(command, jnp.float32),
    )
    following = _predicted(model_of(small()), window)
    np.testing.assert_allclose(following[:, 1], np.tile([0.499, 0, 0], (6, 1)), atol=1e-6)


# -- sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (ModelConfig(), 10_821),
        (ModelConfig(type="direct", control_adapter=AdapterConfig(enabled=False)), 17_795),
        (ModelConfig(type="direct"), 17_795 + 2 * 4_737),
        (ModelConfig(learn_friction=True), 10_821 + 1_249),
        (ModelConfig(learn_residual=False), 2 * 4_737),
        (ModelConfig(type="kinematic"), 14),
        (ModelConfig(type="single_track"), 23),
    ],
    ids=lambda value: value.type if isinstance(value, ModelConfig) else str(value),
)
def test_models_have_the_published_number_of_parameters(config, count):
    assert parameter_count(awake(config)) == count


def test_turned_off_features_take_their_inputs_with_them():
    off = AdapterConfig(
        include_speed_mag_steer=False,
        include_speed_sign_steer=False,
        include_speed_mag_acc=False,
        include_speed_sign_acc=False,
        include_vy_acc=False,
        include_w_acc=False,
    )
    config = ModelConfig(
        control_adapter=off,
        learn_friction=True,
        friction_use_delta=False,
        friction_use_vy=False,
        friction_use_dt=False,
        history=2,
    )
    model = awake(config)
    nets = (model.steer_net, model.drive_net, model.residual_net, model.friction_net)
    assert [net.weights[0].shape[0] for net in nets] == [5 + 4, 3 + 4, 5 + 4, 1 + 4]
    window = windows(1, 2, history=2)
    assert np.isfinite(_predicted(model, window, 2)).all()


# -- zero networks ---------------------------------------------------------------------------


run = jax.jit(predict, static_argnames="history")


def _predicted(model, window, history=0, bias=(0.0, 0.0, 0.0)):
    start, bias = window.twist[:, 0], np.tile(np.float32(bias), (len(window.twist), 1))
    twist = run(model, start, window.command, window.dt, history=history, bias=jnp.asarray(bias))
    return np.asarray(twist)


@pytest.mark.parametrize("physics", ["kinematic", "single_track"])
def test_a_structured_model_begins_as_its_plant(physics):
    config, command = small(physics=physics), jnp.array([1.0, 0.2])
    twist, past, dt = jnp.array([0.8, 0.05, 0.3]), jnp.zeros((0, 2)), jnp.asarray(0.1)
    # One operation at a time: a compiler may contract them, and so round, differently.
    with jax.disable_jit():
        following = [
            model.step(twist, command, dt, model.start(past, command))[0]
            for model in (model_of(config), PlantModel(plant_of(config)))
        ]
    assert (following[0] == following[1]).all()
    assert not np.allclose(following[0], twist, atol=0.01)


def test_friction_begins_as_none_and_networks_that_are_awake_matter():
    window, config = windows(), small(learn_friction=True)
    plant = _predicted(PlantModel(plant_of(config)), window)
    np.testing.assert_allclose(_predicted(model_of(config), window), plant, atol=2e-5)
    assert not np.allclose(_predicted(awake(config), window), plant, atol=1e-3)


@pytest.mark.parametrize("adapter", [True, False])
def test_a_direct_model_begins_as_nothing_changes(adapter):
    window = windows()
    control = AdapterConfig(enabled=adapter, hidden=(4,))
    delta = small(type="direct", control_adapter=control)
    expected = np.repeat(np.asarray(window.twist[:, :1]), 4, axis=1)
    assert (_predicted(model_of(delta), window) == expected).all()
    # A bias is added after every step.
    moved = _predicted(model_of(delta), window, bias=(0.1, -0.2, 0.3))
    steps = np.arange(4)[None, :, None] * np.array([0.1, -0.2, 0.3])
    np.testing.assert_allclose(moved, expected + steps, atol=1e-5)
    # The reference's form begins as a random twist.
    drawn = _predicted(model_of(dataclasses.replace(delta, predict="next")), window)
    assert not np.allclose(drawn[:, 1:], expected[:, 1:], atol=0.1)


def test_the_adapter_keeps_commands_within_their_bounds():
    model = awake(small(), size=30.0)
    rng = np.random.default_rng(0)
    twist, command = (jnp.asarray(rng.normal(size=(50, n)) * 3, jnp.float32) for n in (3, 2))

    @jax.jit
    def targets(twist, command):
        correction = 1e3 * (twist[:2] - command)
        return model.plant.targets(twist, command, correction)

    steering, drive = map(np.asarray, jax.vmap(targets)(twist, command))
    bounds = model.plant.parameters
    for values, bound in ((steering, bounds.max_steering), (drive, bounds.max_acceleration)):
        assert (np.abs(values) <= bound * (1 + 1e-6)).all()
        assert np.abs(values).max() > 0.99 * bound
        assert values.min() < 0 < values.max()


# -- friction --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [("softplus_offset_1", 1 - np.log(2), np.inf), ("exp", 0.2, 2.0), ("sigmoid_range", 0.2, 2.0)],
)
def test_the_friction_factor_is_one_at_zero_and_keeps_its_range(mode, low, high):
    config = FrictionConfig(mode=mode)
    outputs = jnp.asarray(np.concatenate([[0.0], np.linspace(-40, 40, 81)]), jnp.float32)
    factors = np.asarray(jax.vmap(lambda x: friction_factor(x, config))(outputs), np.float64)
    assert factors[0] == pytest.approx(1.0, abs=1e-6)
    assert (factors[1:] >= low - 1e-6).all()
    assert (factors[1:] <= high + 1e-6).all()
    assert (np.diff(factors[1:]) >= 0).all()
    assert factors[1] == pytest.approx(low, abs=1e-5)
    if high == 2.0:
        assert factors[-1] == pytest.approx(high, abs=1e-5)


def test_friction_slows_how_the_yaw_rate_follows():
    car, twist = MUSHR.kinematic, jnp.array([1.0, 0.1, 0.4])
    half, full = (
        kinematic_step(car, twist, jnp.zeros(()), jnp.asarray(0.2), 0.1, k) for k in (0.5, 1.0)
    )
    assert float(half[2]) == pytest.approx((0.4 + float(full[2])) / 2, rel=1e-5)


# -- past commands ---------------------------------------------------------------------------


def test_past_commands_reach_the_network_and_shift_by_one_each_step():
    # One linear layer on (twist, command, dt, past): each output reads the velocity command of one
    # step: two before, one before, the present one. Without units the change is that number.
    config = small(
        type="direct", hidden_dims=(), history=2, control_adapter=AdapterConfig(enabled=False)
    )
    one, two = jnp.ones(3), jnp.ones(2)
    plain = Scales(0 * one, one, 0 * two, two, one)
    model = make_model(KEY, DynamicsConfig(model=config), plant_of(config), plain)
    weight = np.zeros((10, 3), np.float32)
    weight[[6, 8, 3], [0, 1, 2]] = 1.0
    model = eqx.tree_at(lambda m: m.net.weights[0], model, jnp.asarray(weight))
    window = windows(1, 3, history=2)
    command = np.array(window.command)
    command[0, :, 0] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0]
    moved = dataclasses.replace(
        window, command=jnp.asarray(command), twist=0 * window.twist, dt=0 * window.dt + 1.0
    )
    twist = _predicted(model, moved, history=2)[0]
    expected = [[0, 0, 0], [1, 10, 100], [11, 110, 1_100], [111, 1_110, 11_100]]
    assert twist.tolist() == expected


@pytest.mark.parametrize("type", ["structured", "direct"])
def test_every_network_sees_the_past(type):
    config = small(type=type, history=2, learn_friction=True)
    model, window = awake(config), windows(1, 1, history=2)

    nets = [f.name for f in dataclasses.fields(model) if f.name.endswith("net")]

    def deafened(net):
        """The network without its last four inputs, which are the past."""
        return eqx.tree_at(lambda n: n.weights[0], net, net.weights[0].at[-4:].set(0.0))

    @jax.jit
    def slopes(command):
        found = {}
        for name in nets:
            others = [other for other in nets if other != name]
            only = eqx.tree_at(
                lambda m, others=others: [getattr(m, other) for other in others],
                model,
                [deafened(getattr(model, other)) for other in others],
            )

            def last(command, only=only):
                twist = predict(only, window.twist[:, 0], command, window.dt, 2, jnp.zeros((1, 3)))
                return jnp.sum(twist[:, -1])

            found[name] = jax.grad(last)(command)
        return found

    for name, slope in slopes(window.command).items():
        assert (np.asarray(slope)[0, :2] != 0).all(), name


# -- physics ---------------------------------------------------------------------------------


def driven(steering_sign: float = 1.0) -> Window:
    """Windows of a car of other parameters than MUSHR's, in numpy."""
    rng = np.random.default_rng(0)
    twist = np.zeros((100, 6, 3))
    twist[:, 0] = rng.normal(size=(100, 3)) * [1.5, 0.2, 2.0]
    command = rng.uniform(-1, 1, (100, 5, 2)) * [3.0, 0.38]
    dt = rng.uniform(0.02, 0.12, (100, 5))
    for k in range(5):
        wanted = (command[:, k, 0] - twist[:, k, 0]) / OTHER["lag"]
        acceleration = OTHER["bound"] * np.tanh(wanted / OTHER["bound"])
        speed = twist[:, k, 0] + dt[:, k] * acceleration
        angle = steering_sign * 0.6 * np.tanh(command[:, k, 1] / 0.6)
        yaw_rate = speed * np.tan(angle) / OTHER["wheelbase"]
        twist[:, k + 1] = np.stack([speed, OTHER["arm"] * yaw_rate, yaw_rate], axis=1)
    arrays = (twist, np.zeros((100, 6, 3)), command, dt)
    return Window(*(jnp.asarray(x, jnp.float32) for x in arrays))


OTHER = {"wheelbase": 0.25, "lag": 0.22, "arm": 0.12, "bound": 7.0}


def test_physics_recovers_wheelbase_lag_gain():
    found = fit_kinematic(MUSHR, driven()).kinematic
    assert float(found.wheelbase) == pytest.approx(OTHER["wheelbase"], rel=0.01)
    assert float(found.drive.tau_v) == pytest.approx(OTHER["lag"], rel=0.01)
    assert float(found.arm) == pytest.approx(OTHER["arm"], rel=0.01)
    assert float(found.max_acceleration) == pytest.approx(OTHER["bound"], rel=0.01)


def test_a_car_that_steers_the_wrong_way_is_refused():
    with pytest.raises(ValueError, match="does the steering of the data have the other sign"):
        fit_kinematic(MUSHR, driven(steering_sign=-1.0))


def test_plants_hold_what_is_known_of_their_car():
    config = ModelConfig(control_adapter=AdapterConfig(steer_output_scale=0.4))
    found = make_plant(config, MUSHR, "velocity").parameters
    assert float(found.wheelbase) == pytest.approx(0.2965)
    assert float(found.max_steering) == pytest.approx(0.4)
    assert float(found.max_acceleration) == pytest.approx(12.0)
    bounded = dataclasses.replace(config.control_adapter, acc_output_scale=3.0)
    found = make_plant(dataclasses.replace(config, control_adapter=bounded), MUSHR, "velocity")
    assert float(found.parameters.max_acceleration) == pytest.approx(3.0)
    found = make_plant(ModelConfig(type="single_track"), DART, "throttle")
    assert float(found.parameters.mass) == pytest.approx(1.58)
    assert found.command_kind == "throttle"


def test_scales_refuse_what_never_changes_and_name_it():
    rng = np.random.default_rng(0)
    twist, command = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    command[:, 1] = 0.1
    with pytest.raises(ValueError, match=r"command 2 \(steering\) is constant in the training"):
        Scales.of(twist, twist + 0.1, command, np.full(20, 0.1))
    command[3, 1] = 0.2
    found = Scales.of(twist, twist + 0.1 * command[:, :1], command, np.full(20, 0.1))
    np.testing.assert_allclose(found.twist_std, twist.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.acceleration_std, [command[:, 0].std()] * 3, rtol=1e-4)
    standard = np.asarray(found.standard_command(jnp.asarray(command, jnp.float32)))
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(standard.std(axis=0), 1, rtol=1e-5)
