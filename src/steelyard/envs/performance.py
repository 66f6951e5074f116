"""What was played on a piano: keys and pedal by control step, and strokes by physics step."""

import dataclasses
from typing import Any

import numpy as np

from steelyard.numerics.notes import KEYS, LOUDEST, NoteEvent

PEDAL = -1
"""What stands for the sustain pedal in the place of a key."""
LOUDEST_SPEED = 6.0
"""Speed of a key, rad/s, from which on a note is as loud as can be. On Twinkle the median stroke
has 3.8 in random play and 1.5 in that of a trained policy (measured)."""
VELOCITIES = ("constant", "key_speed")


@dataclasses.dataclass(frozen=True)
class Stroke:
    """A key that went down or came up.

    Attributes:
        time_s: Seconds since the episode began.
        key: 0 (A0) to 87 (C8), or `PEDAL`.
        down: Whether it went down.
        speed: How fast the key turned then, rad/s; 0 for the pedal.
    """

    time_s: float
    key: int
    down: bool
    speed: float = 0.0


@dataclasses.dataclass(frozen=True)
class Performance:
    """An episode, or its part so far; axes ``step`` and ``key``.

    Attributes:
        control_timestep: Seconds between steps.
        keys: ``[step, 88]`` bool, which keys were down after each step.
        pedal: ``[step]`` bool, whether the pedal was.
        goal_keys: ``[step, 88]`` bool, which keys should have been.
        goal_pedal: ``[step]`` bool, whether the pedal should have been.
        strokes: All that went down or came up, in order, to the physics step.
    """

    control_timestep: float
    keys: np.ndarray
    pedal: np.ndarray
    goal_keys: np.ndarray
    goal_pedal: np.ndarray
    strokes: tuple[Stroke, ...]

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.keys) * self.control_timestep


class Recorder:
    """Writes down what is played in one of RoboPianist's tasks.

    Attributes:
        goal: ``[step, 89]`` bool, keys and pedal of the whole song.
    """

    def __init__(self, task: Any, control_timestep: float):
        """Listen to a task.

        Args:
            task: RoboPianist's.
            control_timestep: Seconds between steps.
        """
        self._task, self._piano, self._dt = task, task.piano, control_timestep
        self.goal = np.zeros((len(task._notes), KEYS + 1), np.bool_)
        for step, notes in enumerate(task._notes):
            self.goal[step, [note.key for note in notes]] = True
            self.goal[step, KEYS] = bool(task._sustains[step])
        self._midi = self._piano.midi_module
        self._heard = self._midi.after_substep
        self._midi.after_substep = self._listen
        self.begin()

    def begin(self) -> None:
        """Start a new episode."""
        self._down: list[np.ndarray] = []
        self._strokes: list[Stroke] = []
        self._before = np.zeros(KEYS + 1, np.bool_)

    def add(self) -> None:
        """Write a step down."""
        self._down.append(np.append(self._piano.activation, self._piano.sustain_activation))

    @property
    def steps(self) -> int:
        """Steps of the episode so far."""
        return len(self._down)

    def performance(self) -> Performance:
        """What was played since the episode began."""
        down = np.array(self._down, np.bool_).reshape(-1, KEYS + 1)
        goal = self.goal[: len(down)]
        return Performance(
            self._dt, down[:, :KEYS], down[:, KEYS], goal[:, :KEYS], goal[:, KEYS],
            tuple(self._strokes),
        )  # fmt: skip

    def _listen(self, physics: Any, keys: np.ndarray, pedal: np.ndarray) -> None:
        now = np.append(keys, pedal)
        if np.array_equal(now, self._before):
            return
        for index in np.flatnonzero(now != self._before):
            is_key, speed = index < KEYS, 0.0
            if is_key:
                speed = float(physics.bind(self._piano.joints[index]).qvel[0])
            self._strokes.append(
                Stroke(
                    float(physics.data.time),
                    int(index) if is_key else PEDAL,
                    bool(now[index]),
                    speed,
                )
            )
        self._before = now


def played_notes(performance: Performance, velocity: str = "constant") -> tuple[NoteEvent, ...]:
    """Notes of a performance: a note sounds while its key is down, and on while the pedal is.

    A key that is struck again ends the note before. What still sounds at the end, ends there.

    Args:
        performance: What was played.
        velocity: ``constant``, as RoboPianist sounds, or ``key_speed``: the faster a key turned
            where it came down, the louder, in a straight line up to ``LOUDEST_SPEED``.

    Returns:
        Notes by onset, then key; seconds from the episode's start.

    Raises:
        ValueError: ``velocity`` is none of these.
    """
    if velocity not in VELOCITIES:
        raise ValueError(f"velocity is one of {', '.join(VELOCITIES)}: got {velocity!r}")
    struck: dict[int, Stroke] = {}
    held: set[int] = set()
    pedal, notes = False, []

    def end(key: int, time_s: float) -> None:
        stroke = struck.pop(key)
        if time_s > stroke.time_s:
            loud = LOUDEST if velocity == "constant" else _loudness(stroke.speed)
            notes.append(NoteEvent(stroke.time_s, key, time_s, loud))

    for stroke in performance.strokes:
        if stroke.key == PEDAL:
            pedal = stroke.down
            for key in [] if pedal else [key for key in struck if key not in held]:
                end(key, stroke.time_s)
        elif stroke.down:
            if stroke.key in struck:
                end(stroke.key, stroke.time_s)
            struck[stroke.key] = stroke
            held.add(stroke.key)
        else:
            held.discard(stroke.key)
            if stroke.key in struck and not pedal:
                end(stroke.key, stroke.time_s)
    for key in list(struck):
        end(key, performance.duration_s)
    return tuple(sorted(notes))


def _loudness(speed: float) -> int:
    return int(np.clip(round(LOUDEST * abs(speed) / LOUDEST_SPEED), 1, LOUDEST))
