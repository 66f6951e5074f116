"""The one object of demonstrations: its rules, its views and its subsets."""

import dataclasses

import jax
import numpy as np
import pytest
from demonstrations_examples import SPEC, arrays_of, assert_same_arrays, make_demonstrations

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.findings import DatasetError
from steelyard.types import RewardFreeTransition


def changed(demonstrations, **changes):
    return dataclasses.replace(demonstrations, **changes)


def spoilt(demonstrations, name, index, value):
    array = np.array(getattr(demonstrations, name))
    array[index] = value
    return {name: array}


def test_next_observation_is_the_following_row_of_the_same_episode():
    demonstrations = make_demonstrations()
    steps = demonstrations.transitions()
    observation, after = np.asarray(steps.observation), np.asarray(steps.next_observation)
    start = 0
    for episode in demonstrations.episodes():
        stop = start + len(episode.actions)
        np.testing.assert_array_equal(observation[start:stop], episode.observations[:-1])
        np.testing.assert_array_equal(after[start:stop], episode.observations[1:])
        start = stop
    assert start == demonstrations.num_steps == 9


def test_transitions_are_reward_free_by_type_and_normalised_by_hand():
    spec = dataclasses.replace(SPEC, observation_size=1)
    episode = Episode(
        np.zeros((2, 1), np.float32), np.array([[1.0, 3.0]], np.float32), None, True, False
    )
    demonstrations = Demonstrations.from_episodes([episode], spec, make_demonstrations().provenance)
    steps = demonstrations.transitions()
    assert type(steps) is RewardFreeTransition
    np.testing.assert_array_equal(steps.action, [[0.5, 1.0]])  # (1 - 0) / 2 and (3 - 1) / 2
    np.testing.assert_array_equal(steps.terminated, [True])


def test_transitions_with_reward_carry_the_rewards_in_order():
    demonstrations = make_demonstrations()
    steps = demonstrations.transitions_with_reward()
    np.testing.assert_array_equal(steps.reward, demonstrations.rewards)


def test_actions_at_the_bounds_normalise_to_one_exactly():
    demonstrations = make_demonstrations()
    actions = np.tile(np.float32([2.0, -1.0]), (demonstrations.num_steps, 1))
    actions[0, 0] = np.nextafter(np.float32(2), np.float32(3))
    steps = changed(demonstrations, actions=actions).transitions()
    np.testing.assert_array_equal(steps.action, np.tile([1.0, -1.0], (9, 1)))


def test_returns_are_the_sums_of_the_rewards_of_each_episode():
    demonstrations = changed(make_demonstrations(), rewards=np.arange(9, dtype=np.float32))
    np.testing.assert_array_equal(demonstrations.returns(), [0 + 1 + 2, 3, 4 + 5 + 6 + 7 + 8])


def test_statistics_are_those_of_the_arrays():
    demonstrations = make_demonstrations()
    numbers = demonstrations.statistics()
    np.testing.assert_allclose(
        numbers.observation_mean, demonstrations.observations.mean(0), atol=1e-6
    )
    np.testing.assert_allclose(numbers.action_std, demonstrations.actions.std(0), atol=1e-6)
    assert (numbers.episodes, numbers.steps, numbers.shortest, numbers.longest) == (3, 9, 1, 5)
    assert numbers.terminated_share == pytest.approx(2 / 3)
    assert numbers.return_max == demonstrations.returns().max()


def test_statistics_of_reward_free_data_have_no_return():
    numbers = make_demonstrations(rewards=False).statistics()
    assert numbers.return_mean is None


def test_the_same_content_has_the_same_hash_and_any_change_another():
    demonstrations = make_demonstrations()
    assert demonstrations.sha256 == make_demonstrations().sha256
    spoils = [
        spoilt(demonstrations, "observations", (0, 0), 1.5),
        spoilt(demonstrations, "actions", (0, 0), 0.5),
        spoilt(demonstrations, "rewards", 0, 0.5),
        spoilt(demonstrations, "start_seeds", 0, 7),
        {"rewards": None},
    ]
    hashes = {changed(demonstrations, **spoil).sha256 for spoil in spoils}
    assert len(hashes | {demonstrations.sha256}) == len(spoils) + 1


def test_arrays_can_be_changed_neither_directly_nor_through_their_source():
    columns = {name: np.array(column) for name, column in arrays_of(make_demonstrations()).items()}
    demonstrations = changed(make_demonstrations(), **columns)
    columns["observations"][:] = 0
    assert np.any(demonstrations.observations != 0)
    with pytest.raises(ValueError, match="read-only"):
        demonstrations.actions[0] = 0


# -- subsets ---------------------------------------------------------------------------------------


def test_first_keeps_the_first_episodes_and_notes_it():
    subset = make_demonstrations().first(2)
    np.testing.assert_array_equal(subset.start_seeds, [100, 101])
    assert subset.provenance.notes[-1] == "first 2 of 3 episodes"


def test_best_orders_by_return_and_keeps_the_order_of_ties():
    rewards = np.array([1, 1, 1, 9, 0, 0, 0, 0, 3], np.float32)
    demonstrations = changed(make_demonstrations(), rewards=rewards)
    np.testing.assert_array_equal(demonstrations.best(3).start_seeds, [101, 100, 102])


def test_stride_keeps_every_kth_episode_from_the_first():
    subset = make_demonstrations((1,) * 7).stride(3)
    np.testing.assert_array_equal(subset.start_seeds, [100, 103, 106])


@pytest.mark.parametrize("method", ["first", "best", "stride"])
@pytest.mark.parametrize("count", [0, 4])
def test_asking_for_more_or_fewer_episodes_than_present_names_both_numbers(method, count):
    with pytest.raises(DatasetError, match=rf"{method}\({count}\): between 1 and 3 .* 3 episodes"):
        getattr(make_demonstrations(), method)(count)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("best", lambda d: d.best(1)),
        ("returns", lambda d: d.returns()),
        ("transitions_with_reward", lambda d: d.transitions_with_reward()),
    ],
)
def test_what_needs_rewards_says_so_on_reward_free_data(name, call):
    with pytest.raises(DatasetError, match=rf"{name}\(\) needs the field `rewards`"):
        call(make_demonstrations().without_rewards())


def test_without_rewards_changes_nothing_else():
    full = make_demonstrations()
    bare = full.without_rewards()
    assert bare.rewards is None
    np.testing.assert_array_equal(bare.observations, full.observations)
    np.testing.assert_array_equal(bare.actions, full.actions)


@pytest.mark.parametrize("key", [7, jax.random.key(7), jax.random.PRNGKey(7)])
def test_split_parts_are_disjoint_whole_and_the_same_for_the_same_key(key):
    demonstrations = make_demonstrations((2, 1, 3) * 7)
    rest, held = demonstrations.split(0.29, key)
    assert (len(rest), len(held)) == (15, 6)
    seeds = np.concatenate([rest.start_seeds, held.start_seeds])
    np.testing.assert_array_equal(np.sort(seeds), demonstrations.start_seeds)
    assert demonstrations.split(0.29, key)[1].sha256 == held.sha256


def test_a_split_of_less_than_one_episode_holds_nothing_out():
    demonstrations = make_demonstrations((1,) * 9)
    rest, held = demonstrations.split(0.1, 0)
    assert rest is demonstrations
    assert held is None


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_split_share_out_of_range_is_refused(share):
    with pytest.raises(DatasetError, match=r"must lie in \[0, 1\)"):
        make_demonstrations().split(share, 0)


def test_every_prefix_of_a_mixture_holds_its_share_to_within_one_episode():
    ours, theirs = make_demonstrations((1,) * 10), make_demonstrations((2,) * 10, seed=1)
    mixture = ours.mix(theirs, 0.3)
    taken = np.cumsum(mixture.lengths == 2)
    assert taken[-1] == 3
    assert np.all(np.abs(taken - 0.3 * np.arange(1, 11)) < 1)


def test_a_mixture_share_of_zero_or_one_is_either_part_whole():
    ours, theirs = make_demonstrations(), make_demonstrations(seed=1)
    assert_same_arrays(ours.mix(theirs, 0.0), ours)
    assert_same_arrays(ours.mix(theirs, 1.0), theirs)


def test_a_mixture_with_reward_free_data_is_reward_free():
    theirs = make_demonstrations(seed=1, rewards=False)
    assert make_demonstrations().mix(theirs, 0.5).rewards is None


def test_a_mixture_needs_enough_episodes_and_the_same_task():
    ours = make_demonstrations((1,) * 10)
    with pytest.raises(DatasetError, match=r"are 5; the other dataset has 1"):
        ours.mix(make_demonstrations((1,)), 0.5)
    other = dataclasses.replace(SPEC, id="Other-v1")
    with pytest.raises(DatasetError, match=r"dataset Point-v1 +\| +environment Other-v1"):
        ours.mix(make_demonstrations((1,) * 10, spec=other), 0.5)


# -- rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["observations", "actions", "rewards"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named_by_episode_and_row(name, value):
    demonstrations = make_demonstrations()
    # Row 2 of episode 2 (lengths 3, 1, 5): six steps, or eight observations, from the start.
    index = 8 if name == "observations" else 6
    spoil = spoilt(demonstrations, name, index, value)
    with pytest.raises(DatasetError, match=rf"`{name}` must be finite; episode 2, row 2 holds"):
        changed(demonstrations, **spoil)


def test_an_action_out_of_bounds_names_the_worst_row_the_share_and_the_remedy():
    demonstrations = make_demonstrations()
    actions = np.array(demonstrations.actions)
    actions[0, 0], actions[5, 1] = 2.5, -4.0
    expected = (
        r"worst is episode 2, row 1, component 1: -4 outside \[-1, 3\]; 22\.2% of the rows"
        r".*--action-units normalised"
    )
    with pytest.raises(DatasetError, match=expected):
        changed(demonstrations, actions=actions)


@pytest.mark.parametrize(("excess", "legal"), [(5e-7, True), (1e-5, False)])
def test_actions_may_leave_the_bounds_by_a_millionth_of_the_half_width(excess, legal):
    demonstrations = make_demonstrations()
    spoil = spoilt(demonstrations, "actions", (0, 0), 2.0 * (1 + excess))
    if legal:
        assert len(changed(demonstrations, **spoil)) == 3
    else:
        with pytest.raises(DatasetError, match="outside"):
            changed(demonstrations, **spoil)


def test_an_empty_episode_is_named():
    demonstrations = make_demonstrations()
    with pytest.raises(DatasetError, match="at least 1 step; episode 1 has 0"):
        changed(demonstrations, lengths=np.array([4, 0, 5]))


def test_a_dataset_without_episodes_is_refused():
    with pytest.raises(DatasetError, match="at least 1 episode; got 0"):
        Demonstrations.from_episodes([], SPEC, make_demonstrations().provenance)


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "terminations"])
def test_lengths_that_disagree_give_both_shapes(name):
    demonstrations = make_demonstrations()
    shorter = getattr(demonstrations, name)[:-1]
    got = r"got \(" + str(len(shorter))
    with pytest.raises(DatasetError, match=rf"lengths must agree.*`{name}`.*{got}"):
        changed(demonstrations, **{name: shorter})


def test_a_wrong_dtype_is_named_and_not_converted_silently():
    demonstrations = make_demonstrations()
    with pytest.raises(DatasetError, match="`actions` must be float32; got float64"):
        changed(demonstrations, actions=demonstrations.actions.astype(np.float64))


def test_an_episode_that_ends_before_its_last_row_is_refused():
    demonstrations = make_demonstrations()
    with pytest.raises(DatasetError, match=r"episode 2 has 5 steps and ends at row 1"):
        changed(demonstrations, **spoilt(demonstrations, "terminations", 5, True))


def test_an_episode_that_does_not_end_is_refused():
    demonstrations = make_demonstrations()
    with pytest.raises(DatasetError, match="episode 1, row 0 is neither"):
        changed(demonstrations, **spoilt(demonstrations, "truncations", 3, False))


def test_bounds_that_are_not_finite_are_refused():
    spec = dataclasses.replace(SPEC, action_high=(2.0, float("inf")))
    with pytest.raises(DatasetError, match=r"finite and low < high; component 1 has \[-1.0, inf\]"):
        changed(make_demonstrations(), env_spec=spec)


def test_episodes_with_and_without_rewards_do_not_join():
    episodes = list(make_demonstrations().episodes())
    episodes[1] = dataclasses.replace(episodes[1], rewards=None)
    with pytest.raises(DatasetError, match="1 of 3 have none, first episode 1"):
        Demonstrations.from_episodes(episodes, SPEC, make_demonstrations().provenance)
