"""Notes as sound: the same notes always make the same samples, at one loudness for all clips.

Four rules, so that clips can be compared by ear:

- notes are read, never changed;
- one fixed gain, not each clip brought to full loudness: a soft player sounds soft;
- where no note sounds there are zeros, also with the pedal down;
- a note that is sounding when a clip begins is struck again at its start.

Clips are cut between control steps, as their pictures are; what still sounds fades within 5 ms.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from steelyard.numerics.notes import LOUDEST, NoteEvent

SAMPLE_RATE = 44_100
GAIN = 0.28
"""Of our own synthesis: a note struck as hard as can be peaks at 0.2, a chord of twelve at 0.9."""
RELEASE_S = 0.08
"""In this time a note that is let go fades to a twentieth."""

Instrument = Literal["auto", "additive", "soundfont"]
Synthesiser = Callable[[Sequence[NoteEvent], int], np.ndarray]
"""Notes from 0 on and a number of samples, to ``[sample]`` float32 in [-1, 1]."""

_ATTACK_S = 0.003
_CUT_S = 0.005
_SHORTEST_S = 1e-6
_PARTIALS = np.arange(1, 13)


def clip_sound(
    notes: Iterable[NoteEvent],
    first_step: int,
    steps: int,
    control_timestep: float,
    synthesise: Synthesiser,
) -> Float32[np.ndarray, " sample"]:
    """Make the sound of a stretch of an episode.

    Args:
        notes: Of the episode, seconds from its start.
        first_step: Where the stretch begins.
        steps: How long it is, at least 1.
        control_timestep: Seconds of a step.
        synthesise: Who plays; see :func:`synthesiser`.

    Returns:
        Samples at ``SAMPLE_RATE``, as long as the steps are.

    Raises:
        ValueError: A number is out of range.
    """
    if first_step < 0 or steps < 1 or not control_timestep > 0:
        raise ValueError(
            "a clip begins at step 0 or later and is at least 1 step long, got first step "
            f"{first_step}, {steps} steps of {control_timestep} s"
        )
    size = round(steps * control_timestep * SAMPLE_RATE)
    heard = clip_notes(notes, first_step * control_timestep, steps * control_timestep)
    if not heard:
        return np.zeros(size, np.float32)
    samples = np.array(synthesise(heard, size))
    fade = min(size, round(_CUT_S * SAMPLE_RATE))
    samples[size - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return samples


def clip_notes(
    notes: Iterable[NoteEvent], start_s: float, duration_s: float
) -> tuple[NoteEvent, ...]:
    """Return the notes that sound in a stretch of time, in order, counted from its start.

    Those that were struck before begin with it; all end with it at the latest.
    """
    heard = []
    for note in notes:
        onset = max(0.0, note.onset_s - start_s)
        offset = min(duration_s, note.offset_s - start_s)
        if offset - onset > _SHORTEST_S:  # times are sums of steps, right to their last bits only
            heard.append(NoteEvent(onset, note.key, offset, note.velocity))
    return tuple(sorted(heard))


def resolve_instrument(instrument: Instrument) -> tuple[Instrument, str]:
    """Choose who plays where that is left open, and say so in one line if it is the simpler one.

    Args:
        instrument: ``additive`` needs nothing but NumPy, ``soundfont`` plays RoboPianist's with
            FluidSynth, and ``auto`` takes the second where it is installed.

    Returns:
        ``additive`` or ``soundfont``, and a remark, which may be empty.
    """
    from steelyard.evaluation.soundfont import SoundFont

    if instrument != "auto":
        return instrument, ""
    try:
        SoundFont()
    except ImportError as error:
        return "additive", f"notes are sums of sines: {error}"
    return "soundfont", ""


def synthesiser(instrument: Instrument = "auto") -> Synthesiser:
    """Build who plays; see :func:`resolve_instrument`.

    Raises:
        ImportError: ``soundfont`` and a part of it is missing; says how to install it.
    """
    from steelyard.evaluation.soundfont import SoundFont

    return additive if resolve_instrument(instrument)[0] == "additive" else SoundFont()


def additive(notes: Sequence[NoteEvent], size: int) -> Float32[np.ndarray, " sample"]:
    """Play notes as sums of sines that fade, the higher ones faster; harder strokes are brighter.

    Args:
        notes: From time 0 on.
        size: Number of samples.
    """
    total = np.zeros(size, np.float64)
    for note in notes:
        first = round(note.onset_s * SAMPLE_RATE)
        length = min(
            size - first, round((note.offset_s - note.onset_s + 5 * RELEASE_S) * SAMPLE_RATE)
        )
        if length > 0:
            total[first : first + length] += _struck(note, length)
    return np.clip(total, -1.0, 1.0).astype(np.float32)


def _struck(note: NoteEvent, length: int) -> Float[np.ndarray, " sample"]:
    """One note from its onset on."""
    time = np.arange(length) / SAMPLE_RATE
    hardness = note.velocity / LOUDEST
    # Strings are stiff: their partials lie a little wide.
    frequencies = note.frequency_hz * _PARTIALS * np.sqrt(1 + 4e-4 * _PARTIALS**2)
    audible = frequencies < 0.45 * SAMPLE_RATE
    strengths = _PARTIALS ** -(2.2 - hardness)
    strengths /= strengths[audible].sum()
    sound = np.zeros(length)
    for partial, frequency, strength in zip(
        _PARTIALS[audible], frequencies[audible], strengths[audible], strict=True
    ):
        fading = (0.4 + note.frequency_hz / 700) * partial**0.7
        sound += strength * np.exp(-fading * time) * np.sin(2 * np.pi * frequency * time)
    held = time <= note.offset_s - note.onset_s
    release = np.exp(-np.maximum(0.0, time - (note.offset_s - note.onset_s)) / (RELEASE_S / 3))
    attack = np.minimum(1.0, time / _ATTACK_S)
    return GAIN * hardness**1.5 * attack * np.where(held, 1.0, release) * sound


def tone(
    height: Float[np.ndarray, " step"], effort: Float[np.ndarray, " step"], control_timestep: float
) -> Float32[np.ndarray, " sample"]:
    """Make a gliding tone of what has no notes: pitch from one signal, loudness from another.

    Args:
        height: One value a step in [-1, 1]: two octaves from 220 Hz.
        effort: One value a step in [0, 1]: how loud.
        control_timestep: Seconds of a step.

    Returns:
        Samples at ``SAMPLE_RATE``, as long as the steps are.
    """
    size = round(len(height) * control_timestep * SAMPLE_RATE)
    step = np.arange(size) / (control_timestep * SAMPLE_RATE)
    moments = np.arange(len(height))
    octaves = np.interp(step, moments, np.clip(height, -1.0, 1.0) + 1.0)
    loudness = np.interp(step, moments, np.clip(effort, 0.0, 1.0))
    phase = 2 * np.pi * np.cumsum(220.0 * 2.0**octaves) / SAMPLE_RATE
    return (GAIN * loudness * np.sin(phase)).astype(np.float32)
