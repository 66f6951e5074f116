"""No two environments ever share a seed, over runs, generations, and training and evaluation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.envs.seeding import (
    EVALUATION_START,
    EVALUATION_STOP,
    MAX_RUN,
    check_disjoint,
    evaluation_seeds,
    training_seeds,
)

runs = st.one_of(st.integers(0, 200), st.integers(0, MAX_RUN))
places = st.tuples(runs, st.integers(0, 99))


@given(places, places, st.integers(1, 100), st.integers(1, 100))
def test_runs_and_generations_share_no_seed(one, other, num_envs, other_num_envs):
    a = training_seeds(one[0], num_envs, one[1])
    b = training_seeds(other[0], other_num_envs, other[1])
    assert len(set(a)) == num_envs
    assert one == other or not set(a) & set(b)


@given(places, st.integers(1, 100))
def test_no_training_seed_is_an_evaluation_seed_and_all_fit_in_int32(place, num_envs):
    seeds = training_seeds(place[0], num_envs, place[1])
    assert all(s < EVALUATION_START or s >= EVALUATION_STOP for s in seeds)
    assert all(0 <= s < 2**31 for s in seeds)
    check_disjoint(seeds, evaluation_seeds())


@given(places, st.integers(1, 99))
def test_an_environment_keeps_its_seed_when_others_are_added(place, num_envs):
    fewer = training_seeds(place[0], num_envs, place[1])
    assert training_seeds(place[0], num_envs + 1, place[1])[:num_envs] == fewer


def test_the_layout_by_hand():
    assert training_seeds(0, 3) == [10_000, 10_001, 10_002]
    assert training_seeds(4, 2) == [50_000, 50_001]
    assert training_seeds(4, 2, generation=7) == [50_700, 50_701]
    assert training_seeds(98, 1, generation=99) == [999_900]
    assert training_seeds(99, 1) == [2_000_000]
    assert evaluation_seeds() == list(range(1_000_000, 1_000_100))


def test_generations_of_many_environments_share_no_seed_with_each_other_or_the_next_run():
    seeds = [s for g in range(9) for s in training_seeds(3, 1_024, g)]
    assert len(set(seeds)) == 9 * 1_024
    assert not set(seeds) & set(training_seeds(4, 1_024))


def test_the_last_run_is_the_last_that_fits():
    assert training_seeds(MAX_RUN, 100, 99)[-1] < 2**31
    assert training_seeds(MAX_RUN, 100, 99)[-1] + 10_000 >= 2**31


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 1, 0), r"run lies in \[0, \d+\]: got -1"),
        ((MAX_RUN + 1, 1, 0), "run lies in"),
        ((0, 0, 0), r"num_envs lies in \[1, 10000\]: got 0"),
        ((0, 10_001, 0), r"num_envs lies in \[1, 10000\]: got 10001"),
        ((0, 1_024, 9), r"generation lies in \[0, 8\]: got 9"),
        ((0, 1, 100), r"generation lies in \[0, 99\]: got 100"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        training_seeds(*arguments)


@pytest.mark.parametrize("arguments", [(0,), (1_000_001,), (100, 1_999_950), (1, 5)])
def test_evaluation_stays_in_its_range(arguments):
    with pytest.raises(ValueError, match=r"(count|start) lies in"):
        evaluation_seeds(*arguments)


def test_an_overlap_is_refused_with_both_ranges():
    with pytest.raises(
        ValueError, match=r"10000…10003 \(4 seeds\).*10002…10004 .*10002 and 1 more"
    ):
        check_disjoint(training_seeds(0, 4), [10_002, 10_003, 10_004])
