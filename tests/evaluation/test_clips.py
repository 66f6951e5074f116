"""Clips: recorded segments played again, drawn and decoded, on the simulators that are here."""

import dataclasses
import importlib.util
import shutil

import numpy as np
import pytest
from film_samples import needs_encoder, played_segments

from steelyard.data.segments import clip_path, save_segments
from steelyard.evaluation.camera import Camera
from steelyard.evaluation.clips import film_segments
from steelyard.evaluation.films import Recording, film_before_after, film_recorded, frames_per_s
from steelyard.evaluation.media import probe_webm, read_frames, read_sound
from steelyard.evaluation.scenes import copy_assets

SIZE = (96, 72)
SWEEP = "dense/SweepInto-v3"
SONG = "RoboPianist-debug-TwinkleTwinkleLittleStar-v0"


@pytest.fixture(autouse=True, scope="module")
def _encoder():
    needs_encoder()


def or_skip(film):
    """Film, where this machine can draw at all."""
    try:
        return film()
    except ValueError as error:
        if "no OpenGL context" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def pendulum():
    """Two episodes of 32 steps in four segments, the last of which ends 4 steps early."""
    return played_segments("Pendulum-v1", [5, 9], 32, 16, short=4)


@pytest.fixture(scope="module")
def filmed(pendulum, tmp_path_factory):
    folder = save_segments(tmp_path_factory.mktemp("pendulum") / "set", pendulum)
    done = film_segments(folder, sound=True, episodes=True, size=SIZE)
    assert (done.made, done.found) == (6, 0)
    return folder


@pytest.fixture
def copy(filmed, tmp_path):
    """The filmed data set, to spoil."""
    return shutil.copytree(filmed, tmp_path / "copy")


def clip(folder, item):
    return folder / clip_path(item)


def test_each_segment_has_a_clip_as_long_as_its_steps(filmed):
    for item, steps in enumerate((16, 16, 16, 12)):
        film = probe_webm(clip(filmed, item))
        assert (film.frames, film.frames_per_s) == (steps, 20.0)
        assert (film.width, film.height) == SIZE
        assert film.duration_s == pytest.approx(steps * 0.05)
        assert len(read_sound(clip(filmed, item))) / 48_000 == pytest.approx(steps * 0.05, abs=0.01)


def test_pictures_show_something_that_moves(filmed):
    pictures = read_frames(clip(filmed, 0)).astype(float)
    assert 1 < pictures.mean() < 254
    assert np.abs(pictures[0] - pictures[-1]).mean() > 1


def test_a_clip_shows_its_part_of_the_episode(filmed):
    names = sorted(path.name for path in (filmed / "videos").glob("episode*"))
    assert names == ["episode_000_noise_0.10.webm", "episode_001_noise_0.10.webm"]
    whole = read_frames(filmed / "videos" / names[0]).astype(float)
    assert len(whole) == 32
    second = read_frames(clip(filmed, 1)).astype(float)
    apart = [np.abs(second[3] - picture).mean() for picture in whole]
    assert int(np.argmin(apart)) == 16 + 3


def test_what_sounds_is_the_pendulums_height_and_speed(filmed, pendulum):
    heard = read_sound(clip(filmed, 0))
    steps = heard[: 16 * 2400].reshape(16, 2400)
    level = np.sqrt((steps**2).mean(axis=1))
    speed = np.abs(pendulum.observation[0, :, 2])
    middle = (speed[:-1] + speed[1:]) / 2
    assert np.corrcoef(level[:15], middle)[0, 1] > 0.95


def test_filming_goes_on_after_an_interruption_with_what_is_missing_or_cut_off(filmed, copy):
    shutil.rmtree(copy / "videos")
    pictures = []

    def interrupt(done, total):
        pictures.append((done, total))
        if done >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film_segments(copy, sound=True, size=SIZE, tick=interrupt)
    assert pictures == [(0, 60), (16, 60), (32, 60)]
    names = [f"segment_00000{item}.webm" for item in (0, 1)]
    assert sorted(path.name for path in (copy / "videos").iterdir()) == names
    clip(copy, 1).write_bytes(clip(copy, 1).read_bytes()[:-200])
    time = clip(copy, 0).stat().st_mtime_ns
    done = film_segments(copy, sound=True, size=SIZE)
    assert (done.made, done.found) == (3, 1)
    assert clip(copy, 0).stat().st_mtime_ns == time
    for item in range(4):
        assert clip(copy, item).read_bytes() == clip(filmed, item).read_bytes()


def test_films_that_are_there_need_nothing_drawn(filmed, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nothing")
    done = film_segments(filmed, sound=True, episodes=True, size=SIZE)
    assert (done.made, done.found) == (0, 6)


def test_segments_that_are_not_there_are_refused(filmed):
    with pytest.raises(ValueError, match="segments are 0 … 3, there is no 4"):
        film_segments(filmed, only=(1, 4), size=SIZE)


def test_what_is_played_otherwise_than_recorded_is_refused(pendulum, tmp_path):
    seen = pendulum.observation.copy()
    seen[1, 7, 2] += 0.5
    folder = save_segments(tmp_path / "set", dataclasses.replace(pendulum, observation=seen))
    with pytest.raises(ValueError, match="segment 1: played again, step 7.*component 2"):
        film_segments(folder, size=SIZE)
    assert [path.name for path in (folder / "videos").iterdir()] == ["segment_000000.webm"]


def test_spans_of_one_playing_are_parts_of_the_whole():
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 1)).astype(np.float32)
    with Camera("Pendulum-v1", {}, *SIZE) as camera:
        (whole,) = (list(shot.pictures) for shot in camera.play(3, actions, [(0, 12)]))
        parts = [list(shot.pictures) for shot in camera.play(3, actions, [(2, 5), (9, 12)])]
        # Who looks at some pictures only still gets the next shot.
        first = [next(shot.pictures) for shot in camera.play(3, actions, [(0, 4), (4, 8)])]
        for spans in ([(0, 5), (4, 6)], [(3, 3)], [(0, 14)], [(5, 6), (0, 2)]):
            with pytest.raises(ValueError, match="in order, without overlap and within 12 steps"):
                next(camera.play(3, actions, spans))
    np.testing.assert_array_equal(np.concatenate(parts), np.stack(whole)[[2, 3, 4, 9, 10, 11]])
    np.testing.assert_array_equal(np.stack(first), np.stack(whole)[[0, 4]])


def test_a_policy_is_filmed_before_and_after(tmp_path):
    pushed = [Recording(3, np.full((steps, 1), 0.5, np.float32)) for steps in (9, 6)]
    paths = film_before_after("Pendulum-v1", {}, 0.05, *pushed, tmp_path, size=SIZE)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "videos/before.webm",
        "videos/after.webm",
    ]
    assert [(probe_webm(path).frames, probe_webm(path).has_audio) for path in paths] == [
        (9, True),
        (6, True),
    ]


def test_a_task_that_cannot_be_drawn_or_heard_is_named(tmp_path):
    recording = {tmp_path / "a.webm": Recording(0, np.zeros((4, 1), np.float32))}
    with pytest.raises(ValueError, match=r"gymnasium/Pendulum-v1 could not be filmed: tasks of"):
        film_recorded("gymnasium/Pendulum-v1", {}, 0.05, recording)
    with pytest.raises(ValueError, match="makes no sound"):
        film_recorded(SWEEP, {}, 0.0125, recording, sound=True)
    assert list(tmp_path.iterdir()) == []


def test_without_opengl_the_error_says_what_was_tried_and_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("MUJOCO_GL", "nothing")
    recording = {tmp_path / "a.webm": Recording(0, np.zeros((4, 4), np.float32))}
    with pytest.raises(ValueError, match="tried MUJOCO_GL=nothing.*libegl1.*libosmesa6"):
        film_recorded(SWEEP, {}, 0.0125, recording)


def test_metaworld_is_shown_at_a_quarter_of_its_speed(tmp_path):
    assert frames_per_s(0.05) == pytest.approx(20.0)
    assert frames_per_s(0.0125) == 20.0
    segments = played_segments(SWEEP, [5], 16, 8, 0.0125, max_episode_steps=30)
    folder = save_segments(tmp_path / "set", segments)
    or_skip(lambda: film_segments(folder, only=(1,), size=SIZE))
    assert list((folder / "videos").iterdir()) == [clip(folder, 1)]
    film = probe_webm(clip(folder, 1))
    assert (film.frames, film.frames_per_s, film.has_audio) == (8, 20.0, False)
    pictures = read_frames(clip(folder, 1)).astype(float)
    assert 20 < pictures.mean() < 235
    assert pictures.std() > 20


def test_lighter_scenes_of_metaworld_move_as_the_others_do(tmp_path):
    import envpool

    from steelyard.envs.spaces import without_precision_remarks

    copy_assets(tmp_path)
    with without_precision_remarks():
        pools = [
            envpool.make(
                "MetaWorld/PegInsertSide-v3",
                env_type="gymnasium",
                num_envs=1,
                seed=[4],
                max_episode_steps=50,
                **settings,
            )
            for settings in ({}, {"base_path": str(tmp_path)})
        ]
        actions = np.random.default_rng(1).uniform(-1, 1, (40, 1, 4))
        seen = [[pool.reset()[0]] + [pool.step(action)[0] for action in actions] for pool in pools]
    np.testing.assert_array_equal(seen[0], seen[1])


def test_a_piano_is_filmed_with_the_notes_that_were_played(tmp_path):
    if importlib.util.find_spec("robopianist") is None:
        pytest.skip("robopianist is not installed: scripts/install_piano.sh")
    action = np.random.default_rng(0).uniform(-1, 1, (4, 39)).repeat(4, 0).astype(np.float32)
    path = tmp_path / "piano.webm"
    or_skip(lambda: film_recorded(SONG, {}, 0.05, {path: Recording(3, action)}, size=SIZE))
    film = probe_webm(path)
    assert (film.frames, film.frames_per_s, film.has_audio) == (16, 20.0, True)
    pictures = read_frames(path).astype(float)
    assert 20 < pictures.mean() < 235
    assert np.abs(pictures[0] - pictures[-1]).mean() > 1
    heard = read_sound(path)
    assert np.abs(heard[: 48_000 * 4 // 10]).max() < 1e-3  # the hands have yet to come down
    assert np.abs(heard).max() > 0.02
