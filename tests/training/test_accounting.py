"""What a run counts: frames, updates, stored transitions, and how often it compiles."""

import dataclasses

import numpy as np
import pytest
from tiny_runs import (
    IPMD_RUN,
    LIMIT,
    LOOP,
    SAC_RUN,
    Killed,
    demonstrations,
    dying_at,
    group,
    rows_of,
    silent,
    state_of,
)

from steelyard.envs.pendulum import pendulum_state, pendulum_step, wrap
from steelyard.training import off_policy
from steelyard.training.off_policy import OffPolicyConfig
from steelyard.training.programs import Programs
from steelyard.training.recipes import train_ipmd, train_sac


def stored(root, seed: int = 0) -> dict[str, np.ndarray]:
    """Replay of one run by environment, each array ``[time, env, ...]``."""
    prefix = ".replay.storage."
    arrays = {k.removeprefix(prefix): v for k, v in state_of(root, seed).items() if prefix in k}
    return {k: v.reshape(-1, LOOP.num_envs, *v.shape[1:]) for k, v in arrays.items()}


def test_every_frame_after_the_random_ones_pays_for_one_critic_update(sac_root):
    frames = LOOP.frames - LOOP.random_frames
    assert abs(state_of(sac_root)[".agent.critic_state[0].count"] - frames) <= LOOP.num_envs


def test_the_ratio_of_updates_to_data_is_held_and_actors_may_be_delayed(tmp_path):
    loop = dataclasses.replace(LOOP, utd_ratio=0.5)
    agent = dataclasses.replace(SAC_RUN.agent, policy_delay=2)
    train_sac(dataclasses.replace(SAC_RUN, loop=loop, agent=agent), group(tmp_path), silent)
    state = state_of(tmp_path)
    frames = LOOP.frames - LOOP.random_frames
    assert abs(state[".agent.critic_state[0].count"] - frames * 0.5) <= LOOP.num_envs * 0.5
    assert state[".agent.actor_state[0].count"] == state[".agent.critic_state[0].count"] / 2


def test_replay_keeps_every_frame_once(sac_root):
    state = state_of(sac_root)
    assert state[".replay.size"] == LOOP.frames
    rows = state[".replay.storage.next_observation"]
    assert len(np.unique(rows, axis=0)) == LOOP.frames


@pytest.mark.parametrize("seed", [0, 1])
def test_every_stored_transition_is_a_step_of_the_task_and_true_where_an_episode_ends(
    sac_root, seed
):
    rows = {k: v.reshape(LOOP.frames, *v.shape[2:]) for k, v in stored(sac_root, seed).items()}
    torque = 2.0 * rows["action"][:, 0].astype(np.float64)
    angle, speed, reward = pendulum_step(*pendulum_state(rows["observation"]), torque)
    next_angle, next_speed = pendulum_state(rows["next_observation"])
    np.testing.assert_allclose(wrap(next_angle - angle), 0, atol=1e-4)
    np.testing.assert_allclose(next_speed, speed, atol=1e-4)
    np.testing.assert_allclose(rows["reward"], reward, atol=1e-3)
    assert not rows["terminated"].any()  # a time limit is no termination


def test_each_transition_starts_where_the_last_one_led_but_after_an_ending(sac_root):
    replay = stored(sac_root)
    led, began = replay["next_observation"][:-1], replay["observation"][1:]
    follows = (led == began).all(axis=2)
    ends = np.arange(1, len(led) + 1) % LIMIT == 0  # a segment of 80 frames is one episode long
    assert follows[~ends].all()
    assert not follows[ends].any()


def test_training_episodes_are_counted_whole(sac_root):
    replay, rows = stored(sac_root), rows_of(sac_root)
    returns = replay["reward"].reshape(-1, LIMIT, LOOP.num_envs).sum(axis=1).mean(axis=1)
    logged = {row["step"]: row["episode/return"] for row in rows if "episode/return" in row}
    assert list(logged) == [80, 160, 240, 320]
    np.testing.assert_allclose(list(logged.values()), returns, rtol=1e-5)


def test_replay_of_a_smaller_capacity_keeps_the_latest_frames(sac_root, tmp_path):
    loop = dataclasses.replace(LOOP, replay_capacity=160, random_frames=320)
    train_sac(dataclasses.replace(SAC_RUN, loop=loop), group(tmp_path), silent)
    state = state_of(tmp_path)
    assert state[".replay.size"] == 160
    assert len(np.unique(state[".replay.storage.observation"], axis=0)) == 160
    assert state[".statistics.count"] == LOOP.frames


@pytest.fixture
def made(monkeypatch):
    """The programs that runs build, in order."""
    built = []

    class Watched(Programs):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            built.append(self)

    monkeypatch.setattr(off_policy, "Programs", Watched)
    return built


@pytest.mark.parametrize("learner", ["sac", "ipmd"])
def test_each_program_is_traced_once_in_a_whole_run_and_once_where_it_resumes(
    learner, made, tmp_path
):
    def train(tick):
        if learner == "sac":
            train_sac(SAC_RUN, group(tmp_path), tick)
        else:
            train_ipmd(IPMD_RUN, group(tmp_path), [demonstrations(seed=s) for s in (0, 1)], tick)

    with pytest.raises(Killed):
        train(dying_at(280))
    train(silent)
    whole, resumed = made
    assert whole.traces == {"explore": 1, "act": 1, "store": 1, "begin": 1, "update": 1}
    assert resumed.traces == {"act": 1, "store": 1, "update": 1}


def test_a_loop_without_random_frames_is_refused():
    with pytest.raises(ValueError, match=r"random_frames must be at least num_envs.* got 3 < 4"):
        OffPolicyConfig(random_frames=3, num_envs=4)


def test_updates_that_are_no_whole_number_are_refused():
    with pytest.raises(ValueError, match=r"whole number.* got 4 × 0.5 / 4 = 0.5"):
        OffPolicyConfig(num_envs=4, utd_ratio=0.5).updates_per_iteration(4)
    with pytest.raises(ValueError, match="whole number"):
        OffPolicyConfig(num_envs=3, utd_ratio=0.5).updates_per_iteration(1)


def test_more_checkpoints_than_there_are_seeds_for_are_refused_before_any_work():
    OffPolicyConfig(frames=1_000, checkpoint_interval=10)
    with pytest.raises(ValueError, match=r"at most 100 checkpoints.* frames 1000 / .* 9\."):
        OffPolicyConfig(frames=1_000, checkpoint_interval=9)
