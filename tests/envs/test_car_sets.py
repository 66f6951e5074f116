"""Command laws and sets: bounds, shares, independence of the random streams."""

import dataclasses

import numpy as np
import pytest

from steelyard.envs.car.commands import LAWS
from steelyard.envs.car.sets import CAR_SETS, CarSet, car_set

TIME = np.arange(100) * 0.1
LOW, HIGH = np.array([-3.0, -0.38]), np.array([3.0, 0.38])


@pytest.mark.parametrize("law", LAWS)
def test_every_law_stays_within_its_bounds_and_uses_them(law):
    commands = np.stack([LAWS[law](np.random.default_rng(i), TIME, LOW, HIGH) for i in range(300)])
    assert commands.shape == (300, 100, 2)
    assert (commands >= LOW).all()
    assert (commands <= HIGH).all()
    assert (commands.min(axis=(0, 1)) < 0.9 * LOW).all()
    assert (commands.max(axis=(0, 1)) > 0.9 * HIGH).all()
    assert np.abs(commands.mean(axis=(0, 1)) / HIGH).max() < 0.12


@pytest.mark.parametrize("law", LAWS)
def test_only_the_constant_law_is_constant(law):
    commands = LAWS[law](np.random.default_rng(3), TIME, LOW, HIGH)
    assert (np.ptp(commands[:, 1]) > 0.0) == (law != "constant")


def test_constant_levels_are_uniform():
    first = np.stack(
        [LAWS["constant"](np.random.default_rng(i), TIME, LOW, HIGH)[0] for i in range(2000)]
    )
    shares = np.histogram(first[:, 0], bins=6, range=(-3.0, 3.0))[0] / 2000
    np.testing.assert_allclose(shares, 1 / 6, atol=0.035)


def test_chirp_ends_faster_than_it_begins():
    turns = np.zeros(2)
    for i in range(50):
        steering = LAWS["chirp"](np.random.default_rng(i), TIME, LOW, HIGH)[:, 1]
        reversals = np.diff(np.sign(np.diff(steering))) != 0
        turns += [reversals[:49].sum(), reversals[49:].sum()]
    assert turns[1] > 1.7 * turns[0]


def test_brake_and_steer_turns_only_where_it_slows_down():
    low, high = np.array([1.0, -0.38]), np.array([2.0, 0.38])
    for seed in range(20):
        speed, steering = LAWS["brake_and_steer"](np.random.default_rng(seed), TIME, low, high).T
        turning = np.abs(steering) > 0.2 * 0.38
        assert (speed[turning] == 1.0).all()  # 40 % of at most 2 m/s is below the least speed
        assert (speed[~turning] > 1.0).any()


@pytest.mark.parametrize("name", CAR_SETS)
def test_every_set_draws_within_its_fields(name):
    chosen = car_set(name)
    draws = [chosen.draw(0, i) for i in range(200)]
    commands = np.stack([draw.command for draw in draws])
    assert commands.shape == (200, 100, 2)
    assert commands[..., 0].min() >= chosen.velocity[0]
    assert commands[..., 0].max() <= chosen.velocity[1]
    assert {draw.kind for draw in draws} == set(chosen.laws)
    lows = min(chosen.friction[0], chosen.rare_friction[0] if chosen.rare_share else 1.0)
    assert lows <= min(draw.friction for draw in draws)
    noise = np.stack([draw.noise for draw in draws]).std(axis=(0, 1))
    np.testing.assert_allclose(noise, chosen.twist_noise, rtol=0.05)


def test_the_sets_are_those_of_the_study():
    assert set(CAR_SETS) == {"reference", "mixed", "lowgrip", "fast", "reverse", "noisy"}
    assert CAR_SETS["reference"].velocity == (-0.6, 0.6)
    assert CAR_SETS["reference"].laws == {"constant": 1.0}
    assert CAR_SETS["fast"].velocity == (-4.0, 4.0)
    assert CAR_SETS["lowgrip"].draw(0, 0).friction == 0.3
    assert CAR_SETS["noisy"].twist_noise == (0.02, 0.02, 0.05)


def test_mixed_is_a_third_constant_and_a_tenth_slippery():
    draws = [CAR_SETS["mixed"].draw(0, i) for i in range(2000)]
    slippery = np.array([draw.friction < 0.5 for draw in draws])
    constant = np.array([draw.kind == "constant" for draw in draws])
    assert slippery.mean() == pytest.approx(0.1, abs=0.03)
    assert constant.mean() == pytest.approx(1 / 3, abs=0.05)
    assert constant[slippery].mean() == pytest.approx(1 / 3, abs=0.12)
    friction = np.array([draw.friction for draw in draws])
    assert ((friction >= 0.7) & (friction <= 0.9))[~slippery].all()
    assert ((friction >= 0.25) & (friction <= 0.4))[slippery].all()


def test_a_draw_follows_from_seed_set_and_index_alone():
    mixed = CAR_SETS["mixed"]
    again, other = mixed.draw(3, 7), mixed.draw(3, 8)
    np.testing.assert_array_equal(mixed.draw(3, 7).command, again.command)
    assert not np.array_equal(again.command, other.command)
    assert not np.array_equal(again.command, mixed.draw(4, 7).command)
    assert again.friction != CAR_SETS["fast"].draw(3, 7).friction


def test_the_order_in_which_laws_are_named_does_not_matter():
    mixed = CAR_SETS["mixed"]
    turned = dataclasses.replace(mixed, laws=dict(reversed(mixed.laws.items())))
    assert [turned.draw(0, i).kind for i in range(20)] == [mixed.draw(0, i).kind for i in range(20)]


def test_noise_changes_neither_commands_nor_friction():
    noisy = CAR_SETS["noisy"]
    quiet = dataclasses.replace(noisy, twist_noise=(0.0, 0.0, 0.0))
    np.testing.assert_array_equal(noisy.draw(0, 1).command, quiet.draw(0, 1).command)
    assert noisy.draw(0, 1).friction == quiet.draw(0, 1).friction


def test_unknown_set_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="no car set is named 'lowgrp'.*did you mean lowgrip"):
        car_set("lowgrp")


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("velocity", (1.0, -1.0), "is (least, largest) in m/s"),
        ("steering", (-0.5, 0.38), "within ±0.38"),
        ("laws", {"constant": 0.5}, "shares that sum to 1"),
        ("laws", {"zigzag": 1.0}, "maps names among constant"),
        ("friction", (0.0, 0.9), "> 0"),
        ("rare_share", 1.5, "lies in [0, 1]"),
        ("twist_noise", (-0.1, 0.0, 0.0), ">= 0"),
        ("steps", 0, "is at least 1"),
        ("dt", 0.0, "is positive"),
    ],
)
def test_bad_field_is_refused_with_rule_and_value(field, value, rule):
    with pytest.raises(ValueError, match="car set 'mine': " + field) as error:
        dataclasses.replace(CarSet("mine"), **{field: value})
    assert rule in str(error.value)
    assert repr(value) in str(error.value)
