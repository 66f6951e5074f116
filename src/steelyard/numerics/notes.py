"""Notes of a keyboard: what was played, as a program for sound or for scores reads it."""

import dataclasses
import math

KEYS = 88
LOWEST_MIDI = 21
"""MIDI number of key 0, A0."""
LOUDEST = 127


@dataclasses.dataclass(frozen=True, order=True)
class NoteEvent:
    """One note: a key that was struck, held and let go.

    Attributes:
        onset_s: When it was struck, seconds from the start of the episode.
        key: 0 … 87 from the left, 0 is A0 and 39 is middle C.
        offset_s: When its sound ends, later than ``onset_s``; with the sustain pedal down, when
            that is let go.
        velocity: How hard it was struck, 1 … 127 as in MIDI.

    Raises:
        ValueError: A value is outside its range; names it.
    """

    onset_s: float
    key: int
    offset_s: float
    velocity: int = 100

    def __post_init__(self):
        if not 0 <= self.key < KEYS:
            raise ValueError(f"a note's key lies in 0 … {KEYS - 1}, got {self.key}")
        if not 1 <= self.velocity <= LOUDEST:
            raise ValueError(f"a note's velocity lies in 1 … {LOUDEST}, got {self.velocity}")
        if not 0 <= self.onset_s < self.offset_s < math.inf:
            raise ValueError(
                f"a note is struck at or after 0 and ends later, got {self.onset_s} … "
                f"{self.offset_s} s"
            )

    @property
    def midi(self) -> int:
        """Its number in MIDI."""
        return LOWEST_MIDI + self.key

    @property
    def frequency_hz(self) -> float:
        """Of its fundamental, equal temperament, A4 = 440 Hz."""
        return 440.0 * 2 ** ((self.midi - 69) / 12)
