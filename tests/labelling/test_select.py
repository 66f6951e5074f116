"""The chooser is pure, lazy and fair."""

import dataclasses
import itertools
import time

import numpy as np
import pytest

from steelyard.labelling.records import LabellingError
from steelyard.labelling.select import Asked, Choosing, Pool, choose, default_target

PLAIN = Choosing("pair", repeat=0.0, overlap=0.0, target=10**9, seed="s")


def pool(segments: int, windows: int = 1, scores=None) -> Pool:
    numbers = np.arange(segments) * 3  # numbers of segments are not positions
    return Pool(numbers, np.arange(segments) % windows, scores)


def asked(rows: list[tuple]) -> Asked:
    """Rows of (a, b, left_is_a, repeat, preference)."""
    columns = list(zip(*rows, strict=True)) or [()] * 5
    a, b, left, repeat, preference = columns
    return Asked(
        np.array(a, dtype=int),
        np.array(b, dtype=int),
        np.array(left, dtype=bool),
        np.array(repeat, dtype=bool),
        np.ones(len(a), dtype=bool),
        np.zeros(len(a), dtype=bool),
        np.array(preference, dtype=float),
    )


def ask_all(choosing: Choosing, items: Pool, judge=lambda a, b: 0.5, name="ana", limit=10**6):
    """Ask and answer until nothing is left."""
    rows, questions = [], []
    while len(rows) < limit:
        question = choose(choosing, items, asked(rows), name, [])
        if question is None:
            break
        b = -1 if question.b is None else question.b
        preference = 0.5 if question.b is None else judge(question.a, question.b)
        rows.append((question.a, b, question.left_is_a, question.reason == "repeat", preference))
        questions.append(question)
    return questions


@pytest.mark.parametrize("select", ["uniform", "balanced"])
def test_every_pair_of_a_window_is_asked_once_and_no_other(select):
    items = pool(12, windows=3)
    questions = ask_all(dataclasses.replace(PLAIN, select=select), items)
    pairs = [(q.a, q.b) for q in questions]
    expected = {(3 * i, 3 * j) for i, j in itertools.combinations(range(12), 2) if i % 3 == j % 3}
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected


def test_pairs_across_windows_are_asked_where_everything_may_be_compared():
    questions = ask_all(dataclasses.replace(PLAIN, pair_scope="all"), pool(8, windows=4))
    assert len({(q.a, q.b) for q in questions}) == 28


def test_the_same_history_gives_the_same_question():
    history = asked([(0, 3, True, False, 1.0)])
    questions = {choose(PLAIN, pool(50), history, "ana", []) for _ in range(5)}
    assert len(questions) == 1
    assert choose(PLAIN, pool(50), history, "ben", []) not in questions


def test_a_uniform_choice_draws_every_unasked_pair_equally_often():
    counts = np.zeros((6, 6))
    done = [(0, 3, True, False, 0.5), (0, 6, True, False, 0.5), (9, 12, True, False, 0.5)]
    uniform = dataclasses.replace(PLAIN, select="uniform")
    for seed in range(2400):
        question = choose(
            dataclasses.replace(uniform, seed=str(seed)), pool(6), asked(done), "x", []
        )
        assert question is not None
        assert question.b is not None
        counts[question.a // 3, question.b // 3] += 1
    drawn = counts[counts > 0]
    assert len(drawn) == 12
    chi_square = ((drawn - 200) ** 2 / 200).sum()
    assert chi_square < 31.3  # 0.1 % of 11 degrees of freedom


def test_a_balanced_choice_keeps_the_numbers_of_comparisons_together():
    questions = ask_all(PLAIN, pool(20), limit=60)
    counts = np.bincount([x // 3 for q in questions for x in (q.a, q.b)], minlength=20)
    assert counts.max() - counts.min() <= 2  # a partner that is least, too, may be used up


def test_sides_are_a_fair_coin_fixed_by_annotator_and_pair():
    ana, ben = ask_all(PLAIN, pool(40), name="ana"), ask_all(PLAIN, pool(40), name="ben")
    share = np.mean([q.left_is_a for q in ana])
    assert 0.43 < share < 0.57
    sides = {(q.a, q.b): q.left_is_a for q in ana}
    assert all(sides[q.a, q.b] == q.left_is_a for q in ask_all(PLAIN, pool(40), name="ana"))
    same = np.mean([sides[q.a, q.b] == q.left_is_a for q in ben])
    assert 0.43 < same < 0.57


def test_repetitions_swap_the_sides_come_once_and_not_at_once():
    choosing = dataclasses.replace(PLAIN, repeat=0.3, target=200)
    questions = ask_all(choosing, pool(60))
    again = [(n, q) for n, q in enumerate(questions) if q.reason == "repeat"]
    assert len(questions) - len(again) == 200  # repetitions come on top of the target
    assert 0.2 < len(again) / len(questions) < 0.4
    first = {(q.a, q.b): (n, q) for n, q in enumerate(questions) if q.reason != "repeat"}
    for number, question in again:
        earlier, other = first[question.a, question.b]
        assert question.left_is_a != other.left_is_a
        assert number - earlier >= 10
    assert len({(q.a, q.b) for _, q in again}) == len(again)


def test_shared_questions_of_others_come_first_and_at_the_wanted_share():
    choosing = dataclasses.replace(PLAIN, overlap=0.2)
    number = 0
    for seed in range(500):
        each = dataclasses.replace(choosing, seed=str(seed))
        question = choose(each, pool(30), asked([]), "ben", [(6, 9)])
        assert question is not None
        if question.reason == "shared":
            number += 1
            assert (question.a, question.b) == (6, 9)
    assert 70 < number < 130


def test_sixty_clips_are_ranked_in_at_most_297_questions():
    worth = np.random.default_rng(0).permutation(60)
    insertion = dataclasses.replace(PLAIN, select="insertion")
    items = pool(60)
    assert default_target(insertion, items) == 297
    questions = ask_all(insertion, items, judge=lambda a, b: float(worth[b // 3] > worth[a // 3]))
    assert len(questions) <= 297
    beaten = {}
    for question in questions:
        assert question.b is not None
        a, b = question.a // 3, question.b // 3
        beaten.setdefault(max(a, b, key=lambda x: worth[x]), set()).add(
            min(a, b, key=lambda x: worth[x])
        )
    order = np.argsort(worth)
    # A sort has asked about every neighbour, so that the answers fix the whole order.
    assert all(int(low) in beaten[int(high)] for low, high in itertools.pairwise(order))


def test_insertion_ends_with_ties_too():
    insertion = dataclasses.replace(PLAIN, select="insertion")
    assert len(ask_all(insertion, pool(20))) <= 69


def test_an_active_choice_asks_where_the_heads_disagree():
    scores = np.zeros((30, 5))
    scores[7] = [-3, 3, -3, 3, 0]  # nobody knows how good the eighth segment is
    scores += np.linspace(0, 0.1, 30)[:, None]
    items = pool(30, scores=scores)
    active = dataclasses.replace(PLAIN, select="active")
    questions = ask_all(active, items, limit=20)
    assert all(21 in (q.a, q.b) for q in questions)
    with pytest.raises(LabellingError, match="--scores"):
        choose(active, pool(30), asked([]), "ana", [])


@pytest.mark.parametrize("select", ["uniform", "balanced"])
def test_ratings_ask_every_segment_once(select):
    rate = dataclasses.replace(PLAIN, kind="rate", scale=5, select=select)
    questions = ask_all(rate, pool(25, windows=5))
    assert sorted(q.a for q in questions) == [3 * n for n in range(25)]
    if select == "balanced":
        windows = [q.a // 3 % 5 for q in questions[:10]]
        assert sorted(windows) == sorted([*range(5), *range(5)])


def test_fifty_million_pairs_are_never_listed():
    items = pool(10_000)
    rows = [(3 * n, 3 * n + 3, True, False, 0.5) for n in range(3000)]
    start = time.perf_counter()
    for select in ("uniform", "balanced"):
        assert choose(dataclasses.replace(PLAIN, select=select), items, asked(rows), "ana", [])
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"repeat": 1.0}, r"\[0, 1\)"),
        ({"overlap": 1.2}, r"\[0, 1\]"),
        ({"kind": "rate", "select": "insertion"}, "--mode pair"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, text):
    with pytest.raises(LabellingError, match=text):
        dataclasses.replace(PLAIN, **options)
