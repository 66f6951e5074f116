"""Scores of playing by hand, and against RoboPianist's own where it is installed."""

import importlib.util

import numpy as np
import pytest

from steelyard.envs.performance import Performance, Stroke
from steelyard.envs.registry import make_env
from steelyard.envs.robopianist_import import INSTALL, PACKAGES, import_robopianist
from steelyard.evaluation.evaluator import Evaluator
from steelyard.evaluation.music import MusicEvaluator, make_evaluator, music_metrics, onset_f1

TWINKLE = "RoboPianist-debug-TwinkleTwinkleLittleStar-v0"
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_piano = pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} missing: {INSTALL}")


def roll(*steps: tuple[int, ...]) -> np.ndarray:
    """Keys that are down, one tuple a step."""
    keys = np.zeros((len(steps), 88), np.bool_)
    for row, down in zip(keys, steps, strict=True):
        row[list(down)] = True
    return keys


def performance(played, goal, strokes=(), pedal=None) -> Performance:
    steps = len(played)
    none = np.zeros(steps, np.bool_)
    return Performance(
        0.05, roll(*played), none if pedal is None else pedal, roll(*goal), none, tuple(strokes)
    )


def test_scores_by_hand():
    # TP, FP, FN by step: (1, 0, 1), (0, 1, 1), silence, (1, 0, 0)
    scores = music_metrics(performance([(3,), (5,), (), (7,)], [(3, 4), (6,), (), (7,)]))
    assert scores["precision"] == pytest.approx((1 + 0 + 1 + 1) / 4)
    assert scores["recall"] == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    assert scores["f1"] == pytest.approx((2 / 3 + 0 + 1 + 1) / 4)
    assert scores["f1_micro"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert scores["f1_active"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert scores["sustain_f1"] == 1.0


def test_doing_nothing_scores_by_the_share_of_silent_steps_but_not_in_micro():
    scores = music_metrics(performance([()] * 4, [(3,), (3,), (3,), ()]))
    assert (scores["precision"], scores["recall"], scores["f1"]) == (1.0, 0.25, 0.25)
    assert (scores["f1_micro"], scores["f1_active"], scores["onset_f1"]) == (0.0, 0.0, 0.0)


def test_perfect_playing_scores_one_everywhere():
    song = [(3,), (3, 8), (), (5,)]
    strokes = [Stroke(0.01, 3, True), Stroke(0.06, 8, True), Stroke(0.2, 5, True)]
    assert set(music_metrics(performance(song, song, strokes)).values()) == {1.0}


def test_a_pedal_that_should_be_up_counts_step_by_step():
    pedal = np.array([True, False, False, True])
    scores = music_metrics(performance([()] * 4, [()] * 4, pedal=pedal))
    assert (scores["sustain_precision"], scores["sustain_recall"]) == (0.5, 1.0)
    assert scores["sustain_f1"] == 0.5


@pytest.mark.parametrize(
    ("strokes", "expected"),
    [
        ([Stroke(0.05, 3, True)], 1.0),  # at the tolerance
        ([Stroke(0.06, 3, True)], 0.0),  # beyond it
        ([Stroke(0.0, 4, True)], 0.0),  # another key
        ([Stroke(0.0, 3, True), Stroke(0.04, 3, True)], 2 / 3),  # one onset, one match
        ([Stroke(0.0, 3, False), Stroke(0.0, -1, True)], 0.0),  # no strokes of keys
        ([], 0.0),
    ],
)
def test_an_onset_is_met_by_one_stroke_of_its_key_within_the_tolerance(strokes, expected):
    played = performance([()] * 4, [(3,), (3,), (3,), ()], strokes)
    assert onset_f1(played) == pytest.approx(expected)


def test_a_repeated_note_has_two_onsets():
    goal = [(3,), (3,), (), (3,)]
    both = [Stroke(0.0, 3, True), Stroke(0.15, 3, True)]
    assert onset_f1(performance([()] * 4, goal, both)) == 1.0
    assert onset_f1(performance([()] * 4, goal, both[1:])) == pytest.approx(2 / 3)


def test_songs_are_scored_as_music_and_other_tasks_by_return():
    assert type(make_evaluator("Pendulum-v1", 1, 2)) is Evaluator
    assert type(make_evaluator(TWINKLE, 1, 2)) is MusicEvaluator


@needs_piano
@pytest.mark.parametrize("kind", ["nothing", "random", "goal"])
def test_scores_are_those_of_robopianists_own_wrapper(kind):
    import_robopianist()
    from robopianist.wrappers import MidiEvaluationWrapper

    env = make_env(TWINKLE, [0])
    piano = env._pianos[0]
    wrapper = piano._env = MidiEvaluationWrapper(piano._env)
    random = np.random.default_rng(0)
    env.reset()
    ended = False
    while not ended:
        if kind == "goal":  # the goal's own keys, in the place of what the hands pressed
            heard = wrapper._environment.task.piano
            now = piano._recorder.goal[len(wrapper._key_presses)]
            heard._update_key_state = lambda physics: None
            heard._activation[:], heard._sustain_activation[:] = now[:88], now[88:]
        action = random.uniform(-1, 1, (1, 39)) if kind == "random" else np.zeros((1, 39))
        if kind == "nothing":
            action[0, -1] = -1.0  # pedal up, hands in mid-air
        ended = env.step(action.astype(np.float32)).ended.any()
    scores = music_metrics(env.performance())
    theirs = wrapper.get_musical_metrics()
    assert {name: scores[name] for name in theirs} == pytest.approx(theirs, abs=1e-12)
    if kind == "nothing":
        assert scores["f1"] == pytest.approx(7 / 161)
        assert scores["f1_micro"] == 0.0
    if kind == "goal":
        assert scores["f1"] == scores["f1_micro"] == 1.0
    env.close()
