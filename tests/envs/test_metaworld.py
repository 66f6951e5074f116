"""The assembly tasks: what is seen, what is paid, and how an episode ends."""

import warnings

import envpool
import numpy as np
import pytest

from steelyard.envs.metaworld import SCALARS, AssemblyTaskEnv, assembly_spec, observe
from steelyard.envs.registry import env_spec, list_envs, make_env
from steelyard.envs.scripted import scripted_policies
from steelyard.envs.seeding import training_seeds
from steelyard.numerics.rotations import matrix_from_6d

PEG, NUT = "PegInsertSide-v3", "Assembly-v3"
TASKS = sorted(SCALARS)
SEEDS = [40_000, 7, 13]
BOXES = {  # lower and upper corners of what a start may look like: object, goal
    PEG: ([0.03, 0.50, 0.03, -0.32, 0.40, 0.129], [0.23, 0.70, 0.03, -0.22, 0.70, 0.131]),
    NUT: ([0.13, 0.60, 0.02, -0.10, 0.75, 0.10], [0.13, 0.60, 0.02, 0.10, 0.85, 0.10]),
}


def random_actions(steps, envs=len(SEEDS)):
    return np.random.default_rng(1).uniform(-1, 1, (steps, envs, 4)).astype(np.float32)


def plain_pool(task, **options):
    """EnvPool's task as it comes, with the goal in sight."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return envpool.make(
            f"MetaWorld/{task}",
            env_type="gymnasium",
            num_envs=len(SEEDS),
            seed=SEEDS,
            partially_observable=False,
            **options,
        )


def play(task, seeds, steps, **options):
    """Play the good expert; the observations acted on, the actions, and what came of them."""
    env = AssemblyTaskEnv(task, seeds, **options)
    expert = scripted_policies(task, "good", seed=0, episodes=len(seeds))
    observation, observations, actions, played = env.reset(), [], [], []
    for _ in range(steps):
        action = expert(observation[None])[0]
        step = env.step(action)
        observations.append(observation)
        actions.append(action)
        played.append((step, env.succeeded))
        observation = step.observation
    env.close()
    return np.stack(observations), np.stack(actions), played


@pytest.fixture(scope="module")
def solved():
    """By task: how many steps the expert needs from the first start of each seed, and the play."""
    found = {}
    for task in TASKS:
        observations, actions, played = play(task, SEEDS, 150)
        ends = np.argmax([step.terminated for step, _ in played], axis=0) + 1
        assert (ends > 1).all()
        found[task] = ends, observations, actions, played
    return found


@pytest.mark.parametrize("task", TASKS)
def test_what_is_seen_stands_in_the_simulator_s_own_observation(task):
    env, pool = AssemblyTaskEnv(task, SEEDS), plain_pool(task)
    seen, (raw, _) = env.reset(), pool.reset()
    for action in random_actions(30):
        np.testing.assert_array_equal(seen[:, :7], raw[:, :7].astype(np.float32))
        np.testing.assert_array_equal(seen[:, 17:], raw[:, 36:39].astype(np.float32))
        change = raw[:, :4] - raw[:, 18:22]
        np.testing.assert_array_equal(seen[:, 13:17], change.astype(np.float32))
        seen = env.step(action).observation
        raw = pool.step(action.astype(pool.action_space.dtype))[0]
    env.close()
    pool.close()


@pytest.mark.parametrize("task", TASKS)
def test_starts_lie_where_they_should_and_show_the_goal(task):
    env = AssemblyTaskEnv(task, training_seeds(0, 24))
    start = env.reset()
    env.close()
    low, high = (np.array(corner) for corner in BOXES[task])
    scene = start[:, [4, 5, 6, 17, 18, 19]]
    assert (scene >= low - 0.002).all(), scene.min(0)
    assert (scene <= high + 0.002).all(), scene.max(0)
    assert len(np.unique(start[:, 17:], axis=0)) == 24


@pytest.mark.parametrize(
    ("task", "columns"), [(PEG, (1, 0, 0, 0, 1, 0)), (NUT, (0, 1, 0, -1, 0, 0))]
)
def test_at_rest_the_peg_is_upright_and_the_nut_a_quarter_turned(task, columns):
    env = AssemblyTaskEnv(task, SEEDS)
    rotation = env.reset()[:, 7:13]
    env.close()
    np.testing.assert_allclose(rotation, np.tile(columns, (3, 1)), atol=2e-3)


@pytest.mark.parametrize("task", TASKS)
def test_rotations_stay_proper_while_the_object_is_carried(task, solved):
    matrices = matrix_from_6d(solved[task][1][..., 7:13])
    identity = np.broadcast_to(np.eye(3), matrices.shape)
    np.testing.assert_allclose(matrices @ matrices.swapaxes(-1, -2), identity, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-5)


def test_the_order_of_the_quaternion_is_the_task_s_own():
    raw = np.zeros((1, 39))
    raw[:, 7:11] = 0.0, 0.0, 0.0, 1.0
    assert observe(raw, "last")[0, 7:13].tolist() == [1, 0, 0, 0, 1, 0]
    assert observe(raw, "first")[0, 7:13].tolist() == [-1, 0, 0, 0, -1, 0]


@pytest.mark.parametrize("task", TASKS)
def test_every_row_continues_the_one_before_it(task):
    # The simulator's own row after an end shows the next start and has moved nothing.
    env = AssemblyTaskEnv(task, SEEDS, max_episode_steps=9)
    before = env.reset()
    assert not before[:, 13:17].any()
    for number, action in enumerate(random_actions(40), start=1):
        step = env.step(action)
        change = step.next_observation[:, 13:17]
        np.testing.assert_allclose(step.next_observation[:, :4] - change, before[:, :4], atol=1e-6)
        assert (change != 0).any(axis=1).all()
        assert (step.truncated == (number % 9 == 0)).all()
        assert (step.observation[:, 13:17] == 0).all() == (number % 9 == 0)
        assert not step.reward.any()
        before = step.observation
    env.close()


def test_success_ends_the_episode_and_pays_1_once(solved):
    for task in TASKS:
        ends, _, _, played = solved[task]
        for index, end in enumerate(ends):
            rewards = [step.reward[index] for step, _ in played[:end]]
            assert rewards == [0.0] * (end - 1) + [1.0]
            last, succeeded = played[end - 1]
            assert succeeded[index]
            assert not last.truncated[index]
            assert not last.observation[index, 13:17].any()  # the next episode's first
            assert last.next_observation[index, 13:17].any()


def test_a_reset_of_one_environment_leaves_its_neighbours_alone(solved):
    ends, _, actions, played = solved[PEG]
    assert len(set(ends)) > 1
    for index, seed in enumerate(SEEDS):
        env = AssemblyTaskEnv(PEG, [seed])
        env.reset()
        for action, (step, _) in zip(actions, played, strict=True):
            alone = env.step(action[index : index + 1])
            for together, single in zip(step, alone, strict=True):
                np.testing.assert_array_equal(together[index : index + 1], single)
        env.close()


def test_where_later_episodes_start_does_not_depend_on_what_was_done(solved):
    ends, _, _, played = solved[PEG]
    env = AssemblyTaskEnv(PEG, SEEDS, max_episode_steps=3)
    env.reset()
    for _ in range(3):
        second = env.step(np.zeros((3, 4), np.float32)).observation
    env.close()
    for index, end in enumerate(ends):
        np.testing.assert_array_equal(played[end - 1][0].observation[index], second[index])


def test_where_success_does_not_end_the_episode_it_is_paid_once_and_the_limit_cuts():
    _, _, played = play(PEG, SEEDS, 160, on_success="continue")
    rewards = np.stack([step.reward for step, _ in played])[:150]
    assert rewards.sum(0).tolist() == [1, 1, 1]
    assert set(np.unique(rewards)) == {0, 1}
    succeeded = np.stack([won for _, won in played])
    reached = np.maximum.accumulate(rewards, axis=0) > 0
    np.testing.assert_array_equal(succeeded[:150], reached)
    assert not succeeded[150:].any()
    assert not any(step.terminated.any() for step, _ in played)
    cut = np.stack([step.truncated for step, _ in played])
    np.testing.assert_array_equal(cut, np.repeat(np.arange(1, 161) == 150, 3).reshape(160, 3))


def test_success_comes_in_the_same_step_whether_it_ends_the_episode_or_not(solved):
    _, _, played = play(PEG, SEEDS, 150, on_success="continue")
    first = np.argmax([step.reward for step, _ in played], axis=0) + 1
    np.testing.assert_array_equal(first, solved[PEG][0])


def test_the_dense_reward_is_the_simulator_s_by_10_and_1_at_success():
    _, actions, played = play(PEG, SEEDS, 150, on_success="continue", reward="dense")
    pool = plain_pool(PEG)
    pool.reset()
    for action, (step, _) in zip(actions, played, strict=True):
        _, reward, _, _, info = pool.step(action.astype(pool.action_space.dtype))
        np.testing.assert_allclose(step.reward, reward / 10, rtol=1e-6)
        np.testing.assert_allclose(step.reward[info["success"] > 0], 1)
    pool.close()
    assert played[-1][1].all()


def test_an_idle_arm_is_cut_at_150_steps_without_reward():
    env = AssemblyTaskEnv(PEG, SEEDS)
    env.reset()
    for number in range(1, 151):
        step = env.step(np.zeros((3, 4), np.float32))
        assert (step.truncated == (number == 150)).all()
        assert not step.terminated.any()
        assert not step.reward.any()
    env.close()


def test_success_in_the_last_step_is_a_termination(solved):
    end = int(solved[PEG][0][0])
    kinds = {}
    for limit in (end - 1, end, end + 1):
        _, _, played = play(PEG, SEEDS[:1], min(limit, end), max_episode_steps=limit)
        last = played[-1][0]
        kinds[limit - end] = bool(last.terminated[0]), bool(last.truncated[0])
    assert kinds == {-1: (False, True), 0: (True, False), 1: (True, False)}


def test_two_study_seeds_share_no_start():
    starts = []
    for run in (0, 1):
        env = AssemblyTaskEnv(PEG, training_seeds(run, 16))
        starts.append(env.reset())
        env.close()
    assert len(np.unique(np.concatenate(starts), axis=0)) == 32
    assert not set(training_seeds(0, 64)) & set(training_seeds(1, 64))


def test_the_number_of_threads_changes_nothing():
    played = []
    for threads in (1, 2):
        env = AssemblyTaskEnv(PEG, SEEDS, num_threads=threads)
        env.reset()
        played.append([env.step(action).observation for action in random_actions(40)])
        env.close()
    np.testing.assert_array_equal(*played)


def test_the_tasks_are_listed_and_described_by_their_family():
    assert {f"assembly/{task}" for task in TASKS} <= set(list_envs())
    spec = env_spec(f"assembly/{PEG}")
    assert (spec.observation_size, spec.action_low, spec.action_high) == (20, (-1,) * 4, (1,) * 4)
    assert (spec.max_episode_steps, spec.can_terminate) == (150, True)
    assert not assembly_spec(NUT, on_success="continue").can_terminate
    with pytest.raises(ValueError, match="did you mean 'assembly/PegInsertSide-v3'"):
        make_env("assembly/PegInsertSide", [0])


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (PEG, {"partially_observable": True}, "goal is hidden; observation 36:39 is zero"),
        (PEG, {"max_episode_steps": 0}, "max_episode_steps is at least 1, got 0"),
        (PEG, {"reward": "sparce"}, "reward is one of sparse, dense, got 'sparce'; did you mean"),
        (PEG, {"on_success": "mask"}, "on_success is one of terminate, continue, got 'mask'"),
        (PEG, {"reward": "dense"}, "reward='dense' needs on_success='continue'"),
        (PEG, {"on_sucess": "continue"}, "did you mean 'on_success'"),
        ("Asembly-v3", {}, "legal are PegInsertSide-v3, Assembly-v3; did you mean 'Assembly-v3'"),
    ],
)
def test_what_cannot_be_built_is_refused(task, options, message):
    for ask in (assembly_spec, lambda task, **o: AssemblyTaskEnv(task, [0], **o)):
        with pytest.raises(ValueError, match=message):
            ask(task, **options)
