"""Optional simulators: one line that says what is missing and how to get it."""

import importlib.util

import mujoco
import pytest

from steelyard.envs.extras import require
from steelyard.envs.ogbench import TASKS, OGBenchEnv, base_name
from steelyard.envs.registry import env_spec, make_env
from steelyard.envs.robosuite import robosuite_spec
from steelyard.envs.scripted.lifters import OPERATORS, lifter_policies

HAS = {name: importlib.util.find_spec(name) is not None for name in ("ogbench", "robosuite")}


@pytest.mark.skipif(HAS["ogbench"] or HAS["robosuite"], reason="the extras are installed")
def test_what_is_missing_is_named_with_the_command():
    with pytest.raises(ImportError, match=r"ogbench is not installed: pip install 'steelyard\[ogb"):
        make_env("ogbench/cube-single-singletask-v0", [0])
    with pytest.raises(ImportError, match=r"robosuite is not installed: pip install 'steelyard\["):
        make_env("robosuite/lift", [0])


def test_a_mujoco_that_does_not_fit_is_named_with_its_range(monkeypatch):
    monkeypatch.setattr(mujoco, "__version__", "3.10.1")
    with pytest.raises(ImportError, match=r"mujoco >=3.8,<3.9, found 3.10.1: pip install"):
        require("robosuite", "robosuite")


def test_unknown_tasks_name_the_nearest():
    with pytest.raises(ValueError, match=r"no robosuite task 'lfit'.*did you mean 'lift'"):
        robosuite_spec("lfit")
    with pytest.raises(ValueError, match="no single task 'cube-single-v0'; did you mean"):
        OGBenchEnv("cube-single-v0", [0])
    assert base_name("puzzle-4x4-singletask-task3-v0") == "puzzle-4x4"
    assert len(TASKS) == 60
    assert env_spec("robosuite/can").observation_size == 23


def test_operators_of_robosuite_are_six_of_three_tiers():
    assert sorted({o.tier for o in OPERATORS.values()}) == ["better", "okay", "worse"]
    assert len(OPERATORS) == 6
    with pytest.raises(ValueError, match="no operator 'best'"):
        lifter_policies("lift", ["best"], 0)


@pytest.mark.skipif(not HAS["robosuite"], reason="needs steelyard[robosuite]")
def test_a_lift_succeeds_and_starts_follow_from_seeds():
    from steelyard.evaluation.rollouts import record_episodes

    policies = lifter_policies("lift", ["better-1"] * 2, 0)
    episodes = record_episodes(policies, "robosuite/lift", [3, 4], 1)[0]
    assert all(e.terminated and e.rewards[-1] == 0 for e in episodes)
    again = record_episodes(lifter_policies("lift", ["better-1"], 0, 0), "robosuite/lift", [3], 1)
    assert (again[0][0].observations == episodes[0].observations).all()
