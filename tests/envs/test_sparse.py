"""MetaWorld's tasks as sparse ones, and the operators that do them well or badly."""

import numpy as np
import pytest

from steelyard.envs.envpool import Pool
from steelyard.envs.scripted.operators import (
    TASKS,
    check_operators,
    operator_names,
    operator_policies,
)
from steelyard.envs.sparse import LIMITS, SparseTaskEnv, sparse_spec, task_view
from steelyard.evaluation.rollouts import record_episodes

PRESS = "HandlePress-v3"


def test_what_is_seen_are_hand_gripper_object_and_a_goal_that_shows():
    env = SparseTaskEnv(PRESS, [5, 6])
    pool = Pool(f"MetaWorld/{PRESS}", [5, 6], 60, 1, {"partially_observable": False})
    raw = pool.reset()
    np.testing.assert_allclose(env.reset(), task_view(raw), rtol=1e-6)
    view = task_view(raw)
    np.testing.assert_allclose(view[:, 4:7], raw[:, 4:7], rtol=1e-6)
    np.testing.assert_allclose(view[:, 7:], raw[:, 36:39], rtol=1e-6)
    assert np.abs(view[:, 7:]).max() > 0.1


def played(task, operators, seed=0, first=0):
    starts = list(range(100 + first, 100 + first + len(operators)))
    policies = operator_policies(task, operators, seed, first)
    return record_episodes(policies, f"sparse/{task}", starts, 1)[0]


@pytest.mark.parametrize("task", [t for t in TASKS if t != "Fork-v0"])
def test_the_skilled_operator_does_its_task_and_success_ends_it_with_nothing_to_pay(task):
    for episode in played(task, ["better"] * 4):
        assert episode.terminated
        assert len(episode.actions) < LIMITS[task]
        assert episode.rewards[-1] == 0.0
        assert (episode.rewards[:-1] == -1.0).all()


def test_the_others_do_it_as_badly_as_they_say():
    operators = ["better", "okay", "hover", "miss", "wander"]
    episodes = played(PRESS, [o for o in operators for _ in range(8)])
    won = np.array([e.terminated for e in episodes]).reshape(5, 8).mean(1)
    assert won[0] == 1.0
    assert won[1] >= 0.75
    assert won[2] == 0.0
    assert won[3:].max() <= 0.5
    assert all(len(e.actions) == LIMITS[PRESS] for e in episodes if not e.terminated)


def test_an_operator_hovers_where_it_says():
    episode = played(PRESS, ["hover"])[0]
    hand, handle = episode.observations[-1, :3], episode.observations[-1, 4:7]
    assert np.linalg.norm((hand - handle)[:2]) < 0.05
    assert 0.05 < hand[2] - handle[2] < 0.15


def test_an_episode_depends_on_its_place_and_not_on_its_neighbours():
    whole = played(PRESS, ["okay", "wander", "miss", "better"])
    part = played(PRESS, ["miss", "better"], first=2)
    for one, other in zip(whole[2:], part, strict=True):
        np.testing.assert_array_equal(one.observations, other.observations)
        np.testing.assert_array_equal(one.actions, other.actions)


def test_what_is_unknown_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no sparse task 'HandelPress-v3'.*'HandlePress-v3'"):
        sparse_spec("HandelPress-v3")
    with pytest.raises(ValueError, match="max_episode_steps is at least 1, got 0"):
        sparse_spec(PRESS, max_episode_steps=0)
    with pytest.raises(ValueError, match=r"no operator 'beter' of HandlePress-v3; did you"):
        check_operators(PRESS, ["beter"])
    with pytest.raises(ValueError, match="no operator knows 'PickPlace-v3'"):
        check_operators("PickPlace-v3", [])
    assert operator_names("Fork-v0") == ("through-a", "through-b")
