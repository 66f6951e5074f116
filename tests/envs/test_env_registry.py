"""Tasks are found by name, one's own among them."""

import pytest

from steelyard.envs.check import check_env
from steelyard.envs.gymnasium import GymnasiumEnv
from steelyard.envs.probes import ProbeEnv
from steelyard.envs.registry import env_spec, list_envs, make_env, register_env


def test_an_unknown_task_is_refused_with_the_nearest_names():
    for ask in (env_spec, lambda id: make_env(id, [0])):
        with pytest.raises(ValueError, match=r"no task 'HalfCheeta-v5'; nearest: HalfCheetah-v5"):
            ask("HalfCheeta-v5")
        with pytest.raises(ValueError, match=r"nearest: probe/two-step"):
            ask("prob/two-step")


def test_the_list_names_what_can_be_built_by_name():
    ids = list_envs()
    assert {"Pendulum-v1", "HalfCheetah-v5", "probe/two-step", "MetaWorld/Reach-v3"} <= set(ids)
    assert len(ids) == len(set(ids))


def test_a_registered_task_is_built_described_listed_and_checked():
    id = "test-registry/short-pendulum"

    def factory(seeds, max_episode_steps=9):
        return GymnasiumEnv(
            "Pendulum-v1", seeds, max_episode_steps=max_episode_steps, can_terminate=False, id=id
        )

    register_env(id, factory)
    assert id in list_envs()
    assert env_spec(id).max_episode_steps == 9
    assert make_env(id, [1, 2], max_episode_steps=4).spec == env_spec(id, max_episode_steps=4)
    check_env(lambda seeds: make_env(id, seeds))
    with pytest.raises(ValueError, match="not taken: got 'test-registry/short-pendulum'"):
        register_env(id, factory)


@pytest.mark.parametrize("id", ["", "Pendulum-v1", "probe/mine", "gymnasium/mine"])
def test_a_name_that_is_taken_cannot_be_registered(id):
    with pytest.raises(ValueError, match="not taken"):
        register_env(id, lambda seeds: ProbeEnv("two-step", seeds))
