"""Every family of tasks keeps the contract; a family without an example here fails."""

import importlib.util

import numpy as np
import pytest

from steelyard.envs.base import VectorEnv
from steelyard.envs.check import check_env
from steelyard.envs.probes import PROBES
from steelyard.envs.registry import FAMILIES, env_spec, make_env

RANDOM_START = {name for name, probe in PROBES.items() if probe.random_start}
# By prefix: id, options, whether all episodes start alike.
EXAMPLES = {
    "": [
        ("Pendulum-v1", {}, False),
        ("Hopper-v5", {"max_episode_steps": 100}, False),
        ("HalfCheetah-v5", {"max_episode_steps": 120}, False),
        ("MetaWorld/Reach-v3", {"max_episode_steps": 20}, False),
    ],
    "gymnasium/": [("gymnasium/Pendulum-v1", {"max_episode_steps": 30}, False)],
    "probe/": [(f"probe/{name}", {}, name not in RANDOM_START) for name in PROBES],
    "assembly/": [
        ("assembly/PegInsertSide-v3", {"max_episode_steps": 40}, False),
        ("assembly/Assembly-v3", {"max_episode_steps": 40, "on_success": "continue"}, False),
    ],
    "sparse/": [
        ("sparse/HandlePress-v3", {"max_episode_steps": 40}, False),
        ("sparse/Fork-v0", {}, False),
    ],
    "dense/": [("dense/SweepInto-v3", {"max_episode_steps": 20}, False)],
    # Extras: played where they are installed.
    "ogbench/": [("ogbench/cube-single-singletask-v0", {}, False)],
    "robosuite/": [("robosuite/lift", {}, False)],
    "RoboPianist-": [
        ("RoboPianist-debug-CMajorChordProgressionTwoHands-v0", {"stretch_factor": 0.1}, True)
    ],
}
EXTRAS = {"ogbench/": "ogbench", "robosuite/": "robosuite", "RoboPianist-": "robopianist"}
for prefix, package in EXTRAS.items():
    if importlib.util.find_spec(package) is None:
        EXAMPLES[prefix] = []
ALL = [example for examples in EXAMPLES.values() for example in examples]
IDS = [example[0] for example in ALL]


def test_every_family_has_an_example():
    assert set(EXAMPLES) == set(FAMILIES)
    assert all(EXAMPLES[prefix] for prefix in set(EXAMPLES) - set(EXTRAS))


@pytest.mark.parametrize(("id", "options", "one_start"), ALL, ids=IDS)
def test_the_contract_holds(id, options, one_start, optimised):
    steps = 60 if id.startswith("probe/") else None
    check_env(lambda seeds: make_env(id, seeds, **options), one_start=one_start, steps=steps)


@pytest.mark.parametrize(("id", "options", "one_start"), ALL, ids=IDS)
def test_a_task_is_described_as_it_is_built(id, options, one_start):
    env = make_env(id, [5], **options)
    assert isinstance(env, VectorEnv)
    assert env.spec == env_spec(id, **options)
    assert env.spec.id == id
    env.close()


@pytest.mark.parametrize(("id", "options"), [(id, o) for id, o, one_start in ALL if not one_start])
def test_a_second_reset_does_not_repeat_the_first_episode(id, options):
    env = make_env(id, list(range(8)), **options)
    assert not np.array_equal(env.reset(), env.reset())
    env.close()


@pytest.mark.parametrize(("id", "options", "one_start"), ALL, ids=IDS)
def test_actions_that_are_not_finite_are_refused_with_their_place(id, options, one_start):
    env = make_env(id, [5, 6], **options)
    env.reset()
    action = np.zeros((2, env.spec.action_size), np.float32)
    action[1] = np.nan
    with pytest.raises(ValueError, match=r"finite, got .* for environment 1"):
        env.step(action)
    env.close()


@pytest.mark.parametrize("seeds", [[], [3, 3], [-1], [2**31]])
@pytest.mark.parametrize("id", [examples[0][0] for examples in EXAMPLES.values() if examples])
def test_seeds_that_cannot_be_are_refused(id, seeds):
    with pytest.raises(ValueError, match="seed"):
        make_env(id, seeds)
