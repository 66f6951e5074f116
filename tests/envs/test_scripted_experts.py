"""Scripted experts: they succeed, and each tier is as good as it is said to be."""

import numpy as np
import pytest

from steelyard.envs.metaworld import AssemblyTaskEnv
from steelyard.envs.scripted import TIERS, ScriptedExpert, Tier, nut, peg, scripted_policies
from steelyard.envs.scripted.policies import EXPERTS
from steelyard.envs.scripted.tiers import MEASURED_EPISODES
from steelyard.envs.seeding import evaluation_seeds
from steelyard.evaluation.rollouts import record_episodes
from steelyard.numerics.tail_statistics import wilson

PEG, NUT = "PegInsertSide-v3", "Assembly-v3"
ALL = [(task, tier) for task, tiers in TIERS.items() for tier in tiers]
AT_ONCE = 16
STARTS = 1_500_000  # those that the tables were measured on begin at 1,000,000


def record(task, tier, count, seed=1, first=0):
    """Episodes ``first`` to ``first + count`` of an expert, a few at once."""
    episodes = []
    for place in range(first, first + count, AT_ONCE):
        number = min(AT_ONCE, first + count - place)
        policies = scripted_policies(task, tier, seed, number, place)
        starts = evaluation_seeds(number, STARTS + place)
        episodes += record_episodes(policies, ScriptedExpert(task, tier).env_id, starts, 1)[0]
    return episodes


def successes(episodes):
    return sum(episode.terminated for episode in episodes)


@pytest.fixture(scope="module")
def recorded():
    """By task and tier: 16 episodes of the experts that are not made worse."""
    experts = [(PEG, "good"), (PEG, "stalling"), (NUT, "good")]
    return {expert: record(*expert, 16) for expert in experts}


def test_the_experts_succeed_in_time(recorded):
    for expert, episodes in recorded.items():
        assert successes(episodes) >= 15, expert
        lengths = [len(e.actions) for e in episodes if e.terminated]
        assert abs(np.mean(lengths) - TIERS[expert[0]][expert[1]].steps) < 10


@pytest.mark.slow
@pytest.mark.parametrize(("task", "tier"), ALL)
def test_each_tier_is_as_good_as_its_table_says(task, tier):
    episodes = record(task, tier, 64)
    here, settings = wilson(successes(episodes), 64), TIERS[task][tier]
    table = wilson(round(settings.success * MEASURED_EPISODES), MEASURED_EPISODES)
    assert here.low <= table.high
    assert here.high >= table.low
    if tier in ("good", "stalling"):
        assert successes(episodes) >= 62


def test_quality_falls_with_noise_and_with_bias():
    for tiers in TIERS.values():
        for kind in ("noise", "bias"):
            own = [tier.success for name, tier in tiers.items() if name.startswith(f"{kind}-")]
            assert own == sorted(own, reverse=True)
        assert tiers["good"].success == 1


def test_a_biased_expert_fails_where_a_good_one_succeeds(recorded):
    biased = record(PEG, "biased", 16)
    assert 3 <= successes(biased) <= 14
    for episode, good in zip(biased, recorded[PEG, "good"], strict=True):
        np.testing.assert_array_equal(episode.observations[0], good.observations[0])


def closing_speeds(episodes):
    """How fast the hand moves where the gripper is first told to close, mm a step."""
    speeds = []
    for episode in episodes:
        first = int(np.argmax(episode.actions[:, 3] > 0))
        speeds.append(1000 * np.linalg.norm(episode.observations[first, 13:16]))
    return np.array(speeds)


def test_the_good_expert_closes_while_it_descends_and_the_stalling_one_after_it_stopped(recorded):
    assert (closing_speeds(recorded[PEG, "good"]) > 1.5).all()
    assert (closing_speeds(recorded[PEG, "stalling"]) < 0.2001).all()
    for episode in recorded[PEG, "stalling"]:
        first = int(np.argmax(episode.actions[:, 3] > 0))
        seen = episode.observations[first - 3 : first]
        assert np.ptp(seen[:, 2]) < 0.001  # it waits
        np.testing.assert_allclose(seen[:, 2] - seen[:, 6], 0.0215, atol=0.002)  # 21 mm above


def test_a_bias_moves_the_peg_by_as_much():
    tips = []
    for tier in ("good", "bias-5mm"):
        last = np.stack([episode.observations[-2] for episode in record(PEG, tier, 8)])
        tips.append(1000 * (last[:, 5] - last[:, 18]))
    np.testing.assert_allclose(np.mean(tips[1] - tips[0]), 5, atol=2)


def test_actions_are_those_of_a_learner_and_without_noise_depend_on_nothing_else(recorded):
    for episodes in recorded.values():
        for episode in episodes:
            assert episode.actions.dtype == np.float32
            assert np.abs(episode.actions).max() <= 1
    again = record(PEG, "good", 2, seed=99)
    for one, other in zip(again, recorded[PEG, "good"], strict=False):
        np.testing.assert_array_equal(one.actions, other.actions)


def test_an_episode_does_not_depend_on_those_beside_it():
    together = record(PEG, "noise-0.6", 3)
    (alone,) = record(PEG, "noise-0.6", 1, first=2)
    np.testing.assert_array_equal(together[2].actions, alone.actions)
    assert not np.array_equal(together[0].actions[:5], together[1].actions[:5])
    (other,) = record(PEG, "noise-0.6", 1, seed=2, first=2)
    assert not np.array_equal(other.actions[:5], alone.actions[:5])


def test_an_expert_starts_anew_where_an_episode_begins():
    env = AssemblyTaskEnv(PEG, evaluation_seeds(4, STARTS))
    expert = scripted_policies(PEG, "good", 0, 4)
    observation, wins = env.reset(), np.zeros(4, int)
    for _ in range(300):
        step = env.step(expert(observation[None])[0])
        wins += step.terminated
        assert not step.truncated.any()
        observation = step.observation
    env.close()
    assert (wins >= 2).all()


@pytest.mark.parametrize(
    ("expert", "phases", "far"),
    [(peg.peg_expert, peg.Phase, 0.08), (nut.nut_expert, nut.Phase, 0.1)],
)
def test_what_was_lost_is_picked_up_again(expert, phases, far):
    seen = np.zeros((2, 20), np.float32)
    seen[:, 7], seen[:, 11] = 1, 1
    seen[:, 2] = 0.2
    seen[:, 6] = 0.2 - far, 0.18  # the first has fallen out of the hand
    _, phase = expert(seen, np.full(2, phases.LIFT), Tier())
    assert phase[0] <= phases.DESCEND
    assert phase[1] >= phases.LIFT


def test_a_command_points_from_the_hand_to_its_target():
    seen = np.zeros((1, 20), np.float32)
    seen[:, 7], seen[:, 11], seen[:, 3] = 1, 1, 1
    seen[:, :3], seen[:, 4:7] = (0.0, 0.6, 0.2), (0.1, 0.65, 0.03)
    command, phase = peg.peg_expert(seen, np.zeros(1, np.int64), Tier())
    assert phase.tolist() == [peg.Phase.HOVER]
    np.testing.assert_allclose(command[0], [2.0, 1.0, -1.8, -1.0], rtol=1e-5)


def test_every_task_has_an_expert_and_every_tier_a_table():
    assert set(EXPERTS) == set(TIERS)
    for tiers in TIERS.values():
        assert "good" in tiers
        for tier in tiers.values():
            assert 0 <= tier.success <= 1
            assert (tier.steps is None) == (tier.success == 0)


def test_names_are_completed_and_unknown_ones_refused_with_the_nearest():
    short, full = ScriptedExpert("PegInsertSide", "good"), ScriptedExpert(f"assembly/{PEG}")
    assert short == full
    assert short.env_id == "assembly/PegInsertSide-v3"
    with pytest.raises(ValueError, match=r"task 'PegInsrt'; nearest: PegInsertSide\. Legal: Peg"):
        ScriptedExpert("PegInsrt")
    with pytest.raises(ValueError, match=r"tier 'noise-0\.5' of Assembly-v3; nearest: noise-"):
        ScriptedExpert("Assembly", "noise-0.5")


def test_an_expert_keeps_to_the_episodes_it_was_made_for():
    with pytest.raises(ValueError, match="episodes is at least 1, got 0"):
        scripted_policies(PEG, "good", 0, 0)
    with pytest.raises(ValueError, match=r"\[1, 2, 20\], got \[1, 3, 20\]"):
        scripted_policies(PEG, "good", 0, 2)(np.zeros((1, 3, 20), np.float32))
