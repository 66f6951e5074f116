"""``steelyard data film`` on a small data set."""

import numpy as np
import pytest

from steelyard.cli import main
from steelyard.data.segments import PlayedEpisodes, Segments, save_segments
from steelyard.envs.registry import make_env
from steelyard.evaluation.media import ffmpeg, probe_webm

STEPS, LENGTH = 12, 6


@pytest.fixture(scope="module", autouse=True)
def _encoder():
    try:
        ffmpeg()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture
def dataset(tmp_path):
    """One episode of the pendulum, pushed to one side, in two segments."""
    return save_segments(tmp_path / "set", pushed("Pendulum-v1", 0.05))


def pushed(env, control_timestep):
    task = make_env(env, [3])
    action = np.full((1, STEPS, task.spec.action_size), 0.5, np.float32)
    seen = [task.reset()[0]]
    for step in range(STEPS):
        seen.append(task.step(task.spec.to_env_units(action[:, step])).next_observation[0])
    task.close()
    pieces = STEPS // LENGTH
    zeros, never = np.zeros((pieces, LENGTH), np.float32), np.zeros((pieces, LENGTH), bool)
    observation = np.stack(seen[:-1]).reshape(pieces, LENGTH, -1)
    return Segments(
        env, {}, control_timestep, observation, action[0].reshape(pieces, LENGTH, -1), zeros,
        never, never, ~never, never, zeros, np.stack(seen[LENGTH::LENGTH]),
        np.zeros(pieces, np.int64), np.arange(pieces) * LENGTH, np.zeros(pieces, np.int64),
        np.zeros(pieces, np.float32), ("checkpoint_000001",),
        PlayedEpisodes(np.array([3]), action, np.array([STEPS])),
    )  # fmt: skip


def film(*words):
    main(["data", "film", *map(str, words)])


def refused(capsys, *words):
    """The one message of a command that is refused."""
    with pytest.raises(SystemExit) as stopped:
        film(*words)
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    return " ".join((shown.err + shown.out).split())


def test_a_data_set_is_filmed_once_and_mended(dataset, capsys):
    film(dataset, "--sound", "--episodes", "--size", 64, 48, "--instrument", "additive")
    shown = capsys.readouterr()
    assert "3 films made" in shown.out
    assert "24 of 24 pictures" in shown.err
    names = sorted(path.name for path in (dataset / "videos").iterdir())
    assert names == ["episode_000_noise_0.00.webm", "segment_000000.webm", "segment_000001.webm"]
    made = probe_webm(dataset / "videos" / "segment_000001.webm")
    assert (made.frames, made.width, made.height, made.has_audio) == (LENGTH, 64, 48, True)
    again = (dataset, "--sound", "--episodes", "--size", 64, 48, "--instrument", "additive")
    film(*again)
    assert "0 films made" in (shown := capsys.readouterr().out)
    assert "3 were there" in shown
    # A labelling program names this command where it finds a clip cut off.
    clip = dataset / "videos" / "segment_000001.webm"
    whole = clip.read_bytes()
    clip.write_bytes(whole[:-100])
    film(*again, "--only", 1)
    assert "1 films made" in capsys.readouterr().out
    assert clip.read_bytes() == whole


def test_what_cannot_be_filmed_is_one_line(dataset, capsys, tmp_path):
    assert "there is no 7" in refused(capsys, dataset, "--only", 0, 7)
    assert "no data set of segments" in refused(capsys, tmp_path / "nothing")
    assert "at least 16 x 16" in refused(capsys, dataset, "--size", 4, 4)


def test_a_task_without_sound_is_not_made_to_sound(tmp_path, capsys):
    folder = save_segments(tmp_path / "set", pushed("dense/SweepInto-v3", 0.0125))
    assert "makes no sound" in refused(capsys, folder, "--sound")
    assert not (folder / "videos").exists()


def test_help_of_data_names_the_command(capsys):
    main(["data", "--help"])
    assert "steelyard data film DATASET" in capsys.readouterr().out
