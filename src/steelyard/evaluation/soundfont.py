"""Notes played by FluidSynth on the piano of RoboPianist's SoundFont; in the extra ``piano``."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from steelyard.numerics.notes import NoteEvent

SAMPLE_RATE = 44_100
GAIN = 0.8
"""FluidSynth's own unit, fixed for all clips."""
INSTALL = "pip install pyfluidsynth, and on Debian: apt install libfluidsynth3"
SOUND_FONT = "TimGM6mb.sf2"


class SoundFont:
    """Plays notes; call it with notes and a number of samples.

    A synthesiser is made for every call, so that nothing of one clip is heard in the next, and the
    notes themselves are left as they are.
    """

    def __init__(self, path: Path | None = None):
        """Find FluidSynth and the SoundFont.

        Args:
            path: A SoundFont (``.sf2``); none takes the one that RoboPianist ships.

        Raises:
            ImportError: The package, its system library or RoboPianist is missing; names the line
                that installs it.
            FileNotFoundError: There is no such file.
        """
        self._fluidsynth = _fluidsynth()
        self.path = path or _robopianists()
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no SoundFont {self.path}")

    def __call__(self, notes: Sequence[NoteEvent], size: int) -> Float32[np.ndarray, " sample"]:
        """Play notes from time 0 on, ``size`` samples of one channel."""
        moments = [(round(note.offset_s * SAMPLE_RATE), 0, note) for note in notes]
        moments += [(round(note.onset_s * SAMPLE_RATE), 1, note) for note in notes]
        moments.sort(key=lambda moment: moment[:2])  # a key that is struck again comes up first
        synth = self._fluidsynth.Synth(
            gain=GAIN, samplerate=float(SAMPLE_RATE), **{"synth.chorus.active": 0}
        )
        try:
            synth.program_select(0, synth.sfload(str(self.path)), 0, 0)
            parts, done = [], 0
            for moment, down, note in moments:
                if done < min(moment, size):
                    parts.append(synth.get_samples(min(moment, size) - done))
                    done = min(moment, size)
                if down:
                    synth.noteon(0, note.midi, note.velocity)
                else:
                    synth.noteoff(0, note.midi)
            if done < size:
                parts.append(synth.get_samples(size - done))
        finally:
            synth.delete()
        stereo = np.concatenate(parts).reshape(-1, 2).astype(np.float32)
        return stereo.mean(axis=1) / 32_768


def _fluidsynth() -> Any:
    try:
        return importlib.import_module("fluidsynth")
    except (ImportError, OSError) as error:  # the package, or the library that it loads
        raise ImportError(f"sound needs FluidSynth ({error}): {INSTALL}") from None


def _robopianists() -> Path:
    found = importlib.util.find_spec("robopianist")
    if found is None or not found.submodule_search_locations:
        raise ImportError(
            "the SoundFont comes with robopianist, which is not installed: run "
            "scripts/install_piano.sh"
        )
    return Path(found.submodule_search_locations[0]) / "soundfonts" / SOUND_FONT
