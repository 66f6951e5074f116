"""Films as files: real ones, written, decoded again and measured."""

import subprocess
import sys

import numpy as np
import pytest
from film_samples import needs_encoder

from steelyard.evaluation.media import ffmpeg, probe_webm, read_frames, read_sound, write_webm

RATE = 44_100


@pytest.fixture(autouse=True)
def _encoder():
    needs_encoder()


def pictures(count, height=48, width=64):
    """A bright bar that moves from left to right."""
    for number in range(count):
        picture = np.full((height, width, 3), 40, np.uint8)
        picture[:, number % width : number % width + 12] = (220, 120, 40)
        yield picture


def beep(onset_s, duration_s, seconds):
    """A tone of 440 Hz in silence."""
    time = np.arange(round(seconds * RATE)) / RATE
    on = (time >= onset_s) & (time < onset_s + duration_s)
    return (0.5 * on * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def onsets(sound, rate):
    """Where silence ends, seconds."""
    loud = np.abs(sound) > 0.05
    quiet_before = np.convolve(loud, np.ones(rate // 20), "full")[: len(loud)] == loud
    return np.flatnonzero(loud & quiet_before) / rate


@pytest.mark.parametrize("rate", [20, 12.5, 30.0, 80.0])
def test_a_film_lasts_its_frames_over_their_rate(rate, tmp_path):
    film = probe_webm(write_webm(tmp_path / "a.webm", pictures(30), rate))
    assert (film.frames, film.width, film.height, film.has_audio) == (30, 64, 48, False)
    assert film.duration_s == pytest.approx(30 / rate, abs=2e-3)


def test_pictures_come_back_in_order_with_their_colours(tmp_path):
    shown = np.stack(list(pictures(30)))
    read = read_frames(write_webm(tmp_path / "a.webm", shown, 20))
    assert read.shape == shown.shape
    assert np.abs(read.astype(int) - shown).mean() < 6
    left = np.array([(frame[:, :, 0].mean(axis=0) > 130).argmax() for frame in read])
    assert np.abs(left - np.arange(30)).max() <= 1


def test_a_key_frame_comes_at_least_every_second(tmp_path):
    path = write_webm(tmp_path / "a.webm", pictures(50), 10)
    command = [ffmpeg(), "-v", "error", "-skip_frame", "nokey", "-i", str(path)]
    shown = subprocess.run(
        [*command, "-fps_mode", "passthrough", "-f", "framecrc", "-"],
        capture_output=True,
        check=True,
    )
    lines = shown.stdout.decode().splitlines()
    moments = [int(line.split(",")[2]) for line in lines if line.startswith("0,")]
    unit = next(line for line in lines if line.startswith("#tb 0: ")).split(": ")[1]
    seconds = np.array(moments) * int(unit.split("/")[0]) / int(unit.split("/")[1])
    assert seconds[0] == 0
    assert np.diff(seconds).max() <= 1.0 + 1e-6
    assert len(seconds) >= 5


def test_sound_is_as_long_as_the_pictures_and_where_it_was(tmp_path):
    sound = beep(0.5, 0.2, 4.0) + beep(1.1, 0.2, 4.0)
    path = write_webm(tmp_path / "a.webm", pictures(40), 20, sound, RATE)
    assert probe_webm(path).has_audio
    heard = read_sound(path)
    assert len(heard) / 48_000 == pytest.approx(2.0, abs=0.01)
    np.testing.assert_allclose(onsets(heard, 48_000), [0.5, 1.1], atol=0.01)
    assert np.sqrt((heard[24_500:33_000] ** 2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


def test_sound_that_is_too_short_is_followed_by_silence(tmp_path):
    heard = read_sound(write_webm(tmp_path / "a.webm", pictures(20), 20, beep(0.1, 0.3, 0.5), RATE))
    assert len(heard) / 48_000 == pytest.approx(1.0, abs=0.01)
    assert np.abs(heard[30_000:]).max() < 1e-3


def test_sound_may_be_made_once_the_pictures_are_used_up(tmp_path):
    seen = []

    def counted():
        for picture in pictures(20):
            seen.append(1)
            yield picture

    def sound():
        assert len(seen) == 20
        return beep(0.3, 0.2, 1.0)

    heard = read_sound(write_webm(tmp_path / "a.webm", counted(), 20, sound, RATE))
    np.testing.assert_allclose(onsets(heard, 48_000), [0.3], atol=0.01)


def test_the_same_film_has_the_same_bytes(tmp_path):
    films = [
        write_webm(tmp_path / name, pictures(20), 20, beep(0.1, 0.2, 1.0), RATE).read_bytes()
        for name in ("a.webm", "b.webm")
    ]
    assert films[0] == films[1]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_film_that_is_cut_off_is_no_film(share, tmp_path):
    path = write_webm(tmp_path / "a.webm", pictures(40), 20)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"a\.webm"):
        probe_webm(path)


def test_pictures_that_fail_leave_the_old_film_and_nothing_beside_it(tmp_path):
    path = write_webm(tmp_path / "a.webm", pictures(20), 20)
    before = path.read_bytes()

    def failing():
        yield from pictures(5)
        raise RuntimeError("the simulator broke")

    with pytest.raises(RuntimeError, match="the simulator broke"):
        write_webm(path, failing(), 20)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def sized(*heights):
    return [np.full((height, 32, 3), 9, np.uint8) for height in heights]


@pytest.mark.parametrize(
    ("frames", "sound", "name", "said"),
    [
        ([], None, "a.webm", "at least one frame"),
        ([np.zeros((32, 32, 3))], None, "a.webm", "frame 0 is float64"),
        ([np.zeros((32, 32), np.uint8)], None, "a.webm", "frame 0 is uint8"),
        (sized(32, 34), None, "a.webm", "frames have one size"),
        (sized(32), np.full(9, 1.5, np.float32), "a.webm", "largest amplitude 1.5"),
        (sized(32), np.full(9, np.nan, np.float32), "a.webm", "finite"),
        (sized(32), None, "a.mp4", "ends in .webm"),
    ],
)
def test_what_is_no_film_is_refused_and_not_written(frames, sound, name, said, tmp_path):
    # Straight from the undecorated function: its own words, not the type checker's.
    write = getattr(write_webm, "__wrapped__", write_webm)
    with pytest.raises(ValueError, match=said):
        write(tmp_path / name, frames, 20, sound)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_encoder_is_named_with_the_line_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImportError, match="pip install imageio-ffmpeg"):
        write_webm(tmp_path / "a.webm", pictures(5), 20)
    assert list(tmp_path.iterdir()) == []
