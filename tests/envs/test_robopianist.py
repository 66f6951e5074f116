"""RoboPianist's tasks: sizes, ends, determinism, songs, options; played where it is installed."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from steelyard.envs.performance import PEDAL, Performance, Stroke, played_notes
from steelyard.envs.registry import FAMILIES, list_envs, make_env
from steelyard.envs.robopianist import RoboPianistEnv, robopianist_spec
from steelyard.envs.robopianist_import import INSTALL, PACKAGES
from steelyard.envs.robopianist_songs import PREFIX, SONGS, parse_id
from steelyard.numerics.notes import NoteEvent

TWINKLE = "RoboPianist-debug-TwinkleTwinkleLittleStar-v0"
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_piano = pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} missing: {INSTALL}")


def random_actions(steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 1, 39)).astype(np.float32)


def play(env: RoboPianistEnv, actions: np.ndarray) -> tuple[np.ndarray, float]:
    first, total = env.reset(), 0.0
    for action in actions:
        step = env.step(action)
        total += float(step.reward[0])
    return first, total


def test_the_eight_songs_are_listed_with_and_without_the_package():
    assert [id for id in list_envs() if id.startswith(PREFIX)] == [
        f"RoboPianist-debug-{song}-v0" for song in SONGS
    ]
    assert len(SONGS) == 8
    assert PREFIX in FAMILIES


@pytest.mark.parametrize("song", ["etude-12-WaltzOp64No1-v0", "repertoire-150-GymnopedieNo1-v0"])
def test_songs_whose_notes_may_not_be_redistributed_are_refused_with_what_works(song):
    with pytest.raises(ValueError, match=r"not be redistributed.*Nocturne.*midi_file"):
        make_env(PREFIX + song, [0])


def test_unknown_songs_and_options_name_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean 'RoboPianist-debug-NocturneRousseau-v0'"):
        make_env("RoboPianist-debug-NocturneRouseau-v0", [0])
    with pytest.raises(ValueError, match=r"no option 'lookahead'.*did you mean 'n_steps_lookahead"):
        make_env(TWINKLE, [0], lookahead=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control_timestep": 0.012}, "multiple of the physics' 0.005 s: got 0.012"),
        ({"stretch_factor": 0.0}, "stretch_factor is above 0"),
        ({"n_steps_lookahead": -1}, "n_steps_lookahead is at least 0"),
        ({"midi_file": "song.wav"}, r"\.mid, \.proto: got song\.wav"),
        ({"midi_file": "no/such/song.mid"}, "is not there"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_env(TWINKLE, [0], **options)


def test_an_id_carries_options_and_arguments_count_more():
    song, options = parse_id(f"{TWINKLE}?disable_fingering_reward=false&shift_factor=2")
    assert song == "TwinkleTwinkleLittleStar"
    assert (options.disable_fingering_reward, options.shift_factor) == (False, 2)
    assert parse_id(f"{TWINKLE}?shift_factor=2", {"shift_factor": -1})[1].shift_factor == -1
    with pytest.raises(ValueError, match="is name=value: got 'shift_factor'"):
        parse_id(f"{TWINKLE}?shift_factor")


@pytest.mark.skipif(not MISSING, reason="robopianist is installed")
def test_what_is_missing_is_named_with_the_script():
    with pytest.raises(ImportError, match=r"not installed: run scripts/install_piano\.sh"):
        make_env(TWINKLE, [0])


def performance(*strokes: Stroke, steps: int = 20) -> Performance:
    keys, pedal = np.zeros((steps, 88), np.bool_), np.zeros(steps, np.bool_)
    return Performance(0.05, keys, pedal, keys, pedal, strokes)


def test_a_note_sounds_while_its_key_or_the_pedal_is_down():
    played = performance(
        Stroke(0.1, 40, True, 3.0),
        Stroke(0.2, PEDAL, True),
        Stroke(0.3, 40, False),  # held on by the pedal
        Stroke(0.4, 50, True, 9.0),
        Stroke(0.5, PEDAL, False),
        Stroke(0.6, 60, True, 0.001),  # held to the end
        Stroke(0.7, 50, False),
    )
    assert played_notes(played) == (
        NoteEvent(0.1, 40, 0.5, 127),
        NoteEvent(0.4, 50, 0.7, 127),
        NoteEvent(0.6, 60, 1.0, 127),
    )
    assert [note.velocity for note in played_notes(played, "key_speed")] == [64, 127, 1]


def test_a_key_struck_again_under_the_pedal_ends_the_note_before():
    played = performance(
        Stroke(0.0, PEDAL, True),
        Stroke(0.1, 40, True),
        Stroke(0.2, 40, False),
        Stroke(0.3, 40, True),
    )
    assert [(n.onset_s, n.offset_s) for n in played_notes(played)] == [(0.1, 0.3), (0.3, 1.0)]


def test_loudness_is_constant_or_of_the_keys_speed():
    with pytest.raises(ValueError, match="constant, key_speed: got 'loud'"):
        played_notes(performance(), "loud")


@needs_piano
def test_sizes_are_those_of_the_reference():
    spec = robopianist_spec(TWINKLE)
    assert (spec.observation_size, spec.action_size, spec.max_episode_steps) == (1154, 39, 161)
    assert not spec.can_terminate
    assert robopianist_spec(TWINKLE, action_reward_observation=False).observation_size == 1114
    assert robopianist_spec(TWINKLE, disable_fingering_reward=False).observation_size == 1164
    assert robopianist_spec(f"{TWINKLE}?n_steps_lookahead=1").observation_size == 1154 - 9 * 89
    assert robopianist_spec(TWINKLE, stretch_factor=2.0).max_episode_steps == 321


@needs_piano
def test_the_songs_end_truncates_and_the_same_actions_earn_the_same():
    env = RoboPianistEnv(TWINKLE, [3])
    actions = random_actions(161)
    first, total = play(env, actions[:-1])
    assert len(env.performance().keys) == 160
    last = env.step(actions[-1])
    total += float(last.reward[0])
    assert last.truncated.all()
    assert not last.terminated.any()
    assert len(env.performance().keys) == 161  # of the episode that has ended
    assert first.dtype == np.float32
    np.testing.assert_array_equal(last.observation, first)  # nothing of the task is random
    assert not np.array_equal(last.next_observation, first)
    notes = env.played_notes()
    assert len(notes) > 5
    again = RoboPianistEnv(TWINKLE, [3])
    assert play(again, actions)[1] == total
    assert again.played_notes() == notes
    assert again.played_notes() == notes  # asking changes nothing
    env.close()
    again.close()


@needs_piano
def test_a_wrong_key_terminates_only_where_it_shall():
    env = RoboPianistEnv(TWINKLE, [3], wrong_press_termination=True)
    env.reset()
    steps = [env.step(action) for action in random_actions(20)]
    ended = next(step for step in steps if step.ended.any())
    assert ended.terminated.all()
    assert not ended.truncated.any()
    assert env.spec.can_terminate
    env.close()


@needs_piano
def test_the_appended_action_and_reward_are_the_last_ones():
    env = RoboPianistEnv(TWINKLE, [0])
    env.reset()
    step = env.step(np.ones((1, 39), np.float32))
    bare = RoboPianistEnv(TWINKLE, [0], action_reward_observation=False)
    bare.reset()
    without = bare.step(np.ones((1, 39), np.float32)).next_observation[0]
    seen = step.next_observation[0]
    assert seen[38] == 1.0  # the pedal's upper bound; actions come first, in raw units
    assert np.isclose(seen[-24], step.reward[0])  # before the right hand's 23 joints
    np.testing.assert_array_equal(np.delete(seen[39:], -24), without)
    env.close()
    bare.close()


@needs_piano
def test_hands_are_mounted_by_the_seed_where_it_is_asked_for():
    def places(seed: int) -> list[np.ndarray]:
        env, found = make_env(TWINKLE, [seed], randomize_hand_positions=True), []
        for _ in range(2):
            env.reset()
            found.append(np.array(env._pianos[0]._env.physics.data.xpos))
        env.close()
        return found

    first, second = places(1)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(places(1), [first, second])
    assert np.abs(places(2)[0] - first).max() > 1e-3


@needs_piano
def test_a_song_of_ones_own_has_its_onsets_where_the_file_has_them(tmp_path):
    import mido

    song = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    song.tracks.append(track)
    for pitch, wait in ((60, 0), (64, 480)):  # 120 beats a minute: 480 ticks are 0.5 s
        track.append(mido.Message("note_on", note=pitch, velocity=80, time=wait))
        track.append(mido.Message("note_off", note=pitch, velocity=0, time=480))
    path = tmp_path / "two.mid"
    song.save(path)
    env = RoboPianistEnv(TWINKLE, [0], midi_file=path)
    env.reset()
    while not env.step(np.zeros((1, 39), np.float32)).ended.any():
        pass
    goal, dt = env.performance().goal_keys, env.control_timestep
    onsets = [float(np.flatnonzero(goal[:, pitch - 21])[0] * dt) for pitch in (60, 64)]
    np.testing.assert_allclose(onsets, [0.0, 1.0], atol=0.01)
    env.close()


@needs_piano
def test_a_picture_is_neither_black_nor_white_and_drawing_changes_nothing():
    env = RoboPianistEnv(TWINKLE, [3])
    actions = random_actions(10)
    _, total = play(env, actions)
    drawn = RoboPianistEnv(TWINKLE, [3])
    drawn.reset()
    earned = 0.0
    for action in actions:
        earned += float(drawn.step(action).reward[0])
        try:
            picture = drawn.draw(160, 120)
        except ImportError as error:
            pytest.skip(str(error))
    assert picture.shape == (120, 160, 3)
    assert 5 < picture.mean() < 250
    assert earned == total
    with pytest.raises(ValueError, match="camera_id is one of piano/back"):
        drawn.draw(camera_id="front")
    env.close()
    drawn.close()


@needs_piano
def test_stand_ins_for_unused_packages_are_gone_after_the_import():
    code = (
        "import sys\n"
        "from steelyard.envs.robopianist_import import UNUSED, import_robopianist\n"
        "import_robopianist()\n"
        "assert not {name.split('.')[0] for name in sys.modules} & set(UNUSED), 'left behind'\n"
        "assert sys.meta_path[0].__class__.__name__ != '_EmptyFinder'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
