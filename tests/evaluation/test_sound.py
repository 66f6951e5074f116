"""Sound: by-hand onsets, levels and pitches of the synthesisers that are installed."""

import copy
import sys

import numpy as np
import pytest

from steelyard.evaluation.sound import (
    SAMPLE_RATE,
    additive,
    clip_notes,
    clip_sound,
    resolve_instrument,
    synthesiser,
    tone,
)
from steelyard.evaluation.soundfont import SoundFont
from steelyard.numerics.notes import NoteEvent

DT = 0.05


@pytest.fixture(params=["additive", "soundfont"])
def play(request):
    """Each synthesiser."""
    try:
        return synthesiser(request.param)
    except ImportError as error:
        pytest.skip(str(error))


def rms(sound):
    return float(np.sqrt((sound.astype(np.float64) ** 2).mean()))


def onsets(sound, floor=0.15, quiet_s=0.2):
    """Where it gets loud after a time of quiet, seconds."""
    loud = np.flatnonzero(np.abs(sound) > floor * np.abs(sound).max())
    first = np.r_[True, np.diff(loud) > quiet_s * SAMPLE_RATE]
    return loud[first] / SAMPLE_RATE


def test_two_notes_begin_where_they_were_struck(play):
    notes = [NoteEvent(0.3, 39, 0.6, 100), NoteEvent(1.25, 46, 1.5, 100)]
    sound = clip_sound(notes, 0, 40, DT, play)
    assert sound.shape == (2 * SAMPLE_RATE,)
    assert sound.dtype == np.float32
    np.testing.assert_allclose(onsets(sound), [0.3, 1.25], atol=0.01)


def test_a_harder_stroke_is_louder(play):
    levels = [
        rms(play([NoteEvent(0.0, 39, 0.9, velocity)], SAMPLE_RATE))
        for velocity in (20, 50, 80, 110, 127)
    ]
    assert np.all(np.diff(levels) > 0)
    assert levels[-1] > 4 * levels[0]


def test_notes_have_their_pitch(play):
    for key in (27, 39, 51):
        note = NoteEvent(0.0, key, 1.0, 100)
        sound = play([note], SAMPLE_RATE)
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
        near = slice(round(note.frequency_hz * 0.9), round(note.frequency_hz * 1.1))
        peak = near.start + int(spectrum[near].argmax())
        assert peak == pytest.approx(note.frequency_hz, rel=0.01)
        assert spectrum[near].max() > 10 * np.median(spectrum)


def test_playing_changes_no_note_and_is_the_same_again(play):
    notes = [NoteEvent(0.1, 39, 0.4, 60), NoteEvent(0.2, 50, 0.4, 90)]
    before = copy.deepcopy(notes)
    first = clip_sound(notes, 0, 20, DT, play)
    assert notes == before
    np.testing.assert_array_equal(clip_sound(notes, 0, 20, DT, play), first)


def test_a_clip_is_not_brought_to_full_loudness(play):
    soft = NoteEvent(0.0, 39, 0.5, 40)
    alone = play([soft], SAMPLE_RATE)
    with_loud = play([soft, NoteEvent(0.6, 51, 0.9, 127)], SAMPLE_RATE)
    until = round(0.5 * SAMPLE_RATE)
    np.testing.assert_allclose(alone[:until], with_loud[:until], atol=2e-4)
    assert np.abs(alone).max() < 0.5


def test_twelve_notes_at_once_stay_in_range(play):
    sound = play([NoteEvent(0.0, key, 1.0, 127) for key in range(30, 42)], SAMPLE_RATE)
    assert 0.2 < np.abs(sound).max() <= 1.0


def test_where_no_note_sounds_there_are_zeros(play):
    notes = [NoteEvent(1.2, 39, 1.6, 127)]
    assert not clip_sound([], 0, 10, DT, play).any()
    assert not clip_sound(notes, 0, 24, DT, play).any()
    assert not clip_sound(notes, 32, 10, DT, play).any()
    assert clip_sound(notes, 20, 10, DT, play).any()


def test_a_note_that_sounds_when_the_clip_begins_is_struck_again(play):
    notes = [NoteEvent(0.2, 39, 1.5, 100)]
    restruck = clip_sound(notes, 20, 20, DT, play)
    np.testing.assert_allclose(
        onsets(np.r_[np.zeros(4410, np.float32), restruck]), [0.1], atol=0.01
    )
    alone = clip_sound([NoteEvent(0.0, 39, 0.5, 100)], 0, 20, DT, play)
    np.testing.assert_array_equal(restruck, alone)


def test_notes_of_a_stretch_by_hand():
    notes = [
        NoteEvent(0.0, 10, 0.9),  # over before
        NoteEvent(0.5, 11, 1.5, 70),  # reaches in
        NoteEvent(1.2, 12, 1.4),  # within
        NoteEvent(1.8, 13, 2.6),  # reaches out
        NoteEvent(2.0, 14, 2.2),  # after
    ]
    heard = clip_notes(notes, 1.0, 1.0)
    assert [(note.key, note.velocity) for note in heard] == [(11, 70), (12, 100), (13, 100)]
    np.testing.assert_allclose([note.onset_s for note in heard], [0.0, 0.2, 0.8])
    np.testing.assert_allclose([note.offset_s for note in heard], [0.5, 0.4, 1.0])


def test_clips_end_to_end_are_as_long_as_the_whole(play):
    notes = [NoteEvent(0.1, 39, 0.2, 90)]
    parts = [clip_sound(notes, first, 7, DT, play) for first in (0, 7, 14)]
    assert sum(map(len, parts)) == len(clip_sound(notes, 0, 21, DT, play))


def test_a_note_dies_away_when_it_is_let_go():
    sound = additive([NoteEvent(0.0, 39, 0.5, 127)], SAMPLE_RATE)
    held, after = sound[20_000:22_000], sound[30_000:32_000]
    assert rms(after) < 0.01 * rms(held)


def test_a_tone_glides_with_height_and_swells_with_effort():
    height = np.r_[np.full(20, -1.0), np.full(20, 1.0)]
    sound = tone(height, np.r_[np.full(20, 0.2), np.full(20, 1.0)], DT)
    assert sound.shape == (2 * SAMPLE_RATE,)
    low, high = sound[: 8 * 4410], sound[-8 * 4410 :]
    crossings = [int((np.diff(np.sign(part)) > 0).sum() / 0.8) for part in (low, high)]
    np.testing.assert_allclose(crossings, [220, 880], rtol=0.02)
    assert rms(high) / rms(low) == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.0, 88, 1.0), "key lies in 0 … 87"),
        ((0.0, 3, 1.0, 0), "velocity"),
        ((1.0, 3, 1.0), "1.0"),
    ],
)
def test_a_note_that_cannot_be_is_refused(values, said):
    with pytest.raises(ValueError, match=said):
        NoteEvent(*values)


def test_an_empty_stretch_is_refused():
    with pytest.raises(ValueError, match="0 steps"):
        clip_sound([], 0, 0, DT, additive)


def test_a_missing_library_is_named_and_the_simple_synthesis_takes_its_place(monkeypatch):
    monkeypatch.setitem(sys.modules, "fluidsynth", None)
    with pytest.raises(ImportError, match="apt install libfluidsynth3"):
        SoundFont()
    instrument, remark = resolve_instrument("auto")
    assert instrument == "additive"
    assert "apt install libfluidsynth3" in remark
    assert synthesiser("auto") is additive


def test_a_soundfont_that_is_not_there_is_named(tmp_path):
    try:
        SoundFont()
    except ImportError as error:
        pytest.skip(str(error))
    with pytest.raises(FileNotFoundError, match=r"none\.sf2"):
        SoundFont(tmp_path / "none.sf2")
