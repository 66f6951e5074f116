"""The adapter's episodes are EnvPool's own, without the rows that no one lived through."""

import warnings

import envpool
import numpy as np
import pytest

from steelyard.envs.envpool import EnvPoolEnv, envpool_spec

SEEDS = [40_000, 7, 13]
CASES = [
    ("Pendulum-v1", {}, 450),
    ("HalfCheetah-v5", {}, 2010),
    ("Hopper-v5", {}, 700),
    ("MetaWorld/Reach-v3", {"max_episode_steps": 25}, 60),
]


def random_actions(spec, steps):
    rng = np.random.default_rng(1)
    shape = (steps, len(SEEDS), spec.action_size)
    return rng.uniform(spec.action_low, spec.action_high, shape).astype(np.float32)


def adapter_episodes(id, options, actions):
    """By environment, the episodes as lists of (action, observation after, reward, end)."""
    env = EnvPoolEnv(id, SEEDS, **options)
    starts = env.reset()
    episodes = [[[row]] for row in starts]
    for action in actions:
        step = env.step(action)
        for i in range(len(SEEDS)):
            flags = (bool(step.terminated[i]), bool(step.truncated[i]))
            episodes[i][-1].append((action[i], step.next_observation[i], step.reward[i], flags))
            if step.ended[i]:
                episodes[i].append([step.observation[i]])
    env.close()
    return episodes


def replay_in_a_plain_pool(id, options, episodes):
    """Play the same actions in an EnvPool pool as it comes, with its reset rows, and compare."""
    if id.startswith("MetaWorld/"):
        options = options | {"partially_observable": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        pool = envpool.make(
            id, env_type="gymnasium", num_envs=len(SEEDS), seed=SEEDS, num_threads=1, **options
        )
        observed, _ = pool.reset()
        dtype = pool.action_space.dtype
    # Each environment walks through its own list: a start, then the steps of that episode.
    todo = [[row for episode in own for row in episode][1:] for own in episodes]
    firsts = [own[0][0] for own in episodes]
    np.testing.assert_array_equal(observed.astype(np.float32), np.stack(firsts))
    compared = 0
    for _ in range(min(map(len, todo))):
        rows = [own.pop(0) for own in todo]
        ignored = np.zeros(pool.action_space.shape, np.float32)
        action = np.stack([row[0] if isinstance(row, tuple) else ignored for row in rows])
        observed, reward, terminated, truncated, info = pool.step(action.astype(dtype))
        for i, row in enumerate(rows):
            got = observed[i].astype(np.float32)
            if not isinstance(row, tuple):  # the plain pool spends a row on its reset
                assert info["elapsed_step"][i] == 0
                np.testing.assert_array_equal(got, row)
                continue
            np.testing.assert_array_equal(got, row[1])
            assert np.float32(reward[i]) == row[2]
            assert (bool(terminated[i]), bool(truncated[i])) == row[3]
            compared += 1
    pool.close()
    return compared


@pytest.mark.parametrize(("id", "options", "steps"), CASES, ids=[case[0] for case in CASES])
def test_episodes_equal_those_of_a_plain_pool_without_its_reset_rows(id, options, steps):
    spec = envpool_spec(id, **options)
    episodes = adapter_episodes(id, options, random_actions(spec, steps))
    compared = replay_in_a_plain_pool(id, options, episodes)
    assert compared > 0.9 * steps * len(SEEDS)
    for own in episodes:
        assert len(own) > 2  # two ends at least were seen
        lengths = [len(episode) - 1 for episode in own[:-1]]
        if not spec.can_terminate:
            assert set(lengths) == {spec.max_episode_steps}
        assert sum(lengths) + len(own[-1]) - 1 == steps


def hopper_falls_after():
    env = EnvPoolEnv("Hopper-v5", [11])
    env.reset()
    for step in range(1, 500):
        if env.step(np.zeros((1, 3), np.float32)).terminated[0]:
            env.close()
            return step
    raise AssertionError("the hopper stands")


def test_a_termination_that_falls_on_the_time_limit_is_a_termination():
    fall = hopper_falls_after()
    ends = {}
    for limit in (fall - 1, fall, fall + 1):
        env = EnvPoolEnv("Hopper-v5", [11], max_episode_steps=limit)
        env.reset()
        for step in range(1, limit + 1):
            got = env.step(np.zeros((1, 3), np.float32))
            if got.ended[0]:
                ends[limit - fall] = (step - fall, bool(got.terminated[0]), bool(got.truncated[0]))
                break
        env.close()
    assert ends == {-1: (-1, False, True), 0: (0, True, False), 1: (0, True, False)}


def test_neighbouring_seeds_share_no_environment():
    # A pool seeded s as a whole gives environment i the seed s + i.
    one, other = EnvPoolEnv("Pendulum-v1", [7, 100]), EnvPoolEnv("Pendulum-v1", [8, 101])
    assert len(np.unique(np.concatenate([one.reset(), other.reset()]), axis=0)) == 4
    one.close()
    other.close()


def test_the_number_of_threads_changes_nothing():
    actions = random_actions(envpool_spec("Hopper-v5"), 60)
    played = []
    for threads in (1, 2):
        env = EnvPoolEnv("Hopper-v5", SEEDS, num_threads=threads)
        env.reset()
        played.append([env.step(action).observation for action in actions])
        env.close()
    np.testing.assert_array_equal(*played)


def test_metaworld_shows_its_goal():
    env = EnvPoolEnv("MetaWorld/Reach-v3", SEEDS)
    assert np.abs(env.reset()[:, -3:]).min() > 0
    env.close()


def test_specs_by_hand():
    pendulum = envpool_spec("Pendulum-v1")
    assert (pendulum.observation_size, pendulum.action_low, pendulum.action_high) == (
        3,
        (-2,),
        (2,),
    )
    assert (pendulum.max_episode_steps, pendulum.can_terminate) == (200, False)
    cheetah = envpool_spec("HalfCheetah-v5", max_episode_steps=7)
    assert (cheetah.observation_size, cheetah.action_size) == (17, 6)
    assert (cheetah.max_episode_steps, cheetah.can_terminate) == (7, False)
    assert envpool_spec("Hopper-v5").can_terminate
    assert not envpool_spec("Hopper-v5", can_terminate=False).can_terminate
    assert not envpool_spec("MetaWorld/Reach-v3").can_terminate


def test_an_option_reaches_the_task():
    actions = random_actions(envpool_spec("HalfCheetah-v5"), 1)[0]
    rewards = []
    for weight in (0.1, 5.0):
        env = EnvPoolEnv("HalfCheetah-v5", SEEDS, ctrl_cost_weight=weight)
        env.reset()
        rewards.append(env.step(actions).reward)
        env.close()
    np.testing.assert_allclose(rewards[0] - rewards[1], 4.9 * (actions**2).sum(1), rtol=1e-4)


@pytest.mark.parametrize(
    ("id", "options", "message"),
    [
        ("Pendulm-v1", {}, "no task 'Pendulm-v1'; did you mean Pendulum-v1"),
        ("HalfCheetah-v5", {"ctrl_cost_wieght": 1.0}, "did you mean 'ctrl_cost_weight'"),
        ("Pendulum-v1", {"max_episode_steps": 0}, "max_episode_steps is at least 1, got 0"),
        ("CartPole-v1", {}, "actions are one vector of numbers, got Discrete"),
        ("Pong-v5", {}, "observations are one vector of numbers"),
    ],
)
def test_what_cannot_be_built_is_refused(id, options, message):
    with pytest.raises(ValueError, match=message):
        envpool_spec(id, **options)
