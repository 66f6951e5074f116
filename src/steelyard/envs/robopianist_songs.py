"""RoboPianist's songs by id, and the options of playing them; needs no package.

An id may carry options behind a question mark, so that they reach a run by its task's name alone:
``RoboPianist-debug-TwinkleTwinkleLittleStar-v0?disable_fingering_reward=false&shift_factor=2``.
"""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PREFIX = "RoboPianist-"
SONGS = (
    "TwinkleTwinkleLittleStar",
    "CMajorScaleOneHand",
    "CMajorScaleTwoHands",
    "DMajorScaleOneHand",
    "DMajorScaleTwoHands",
    "CMajorChordProgressionTwoHands",
    "TwinkleTwinkleRousseau",
    "NocturneRousseau",
)
TASKS = tuple(f"debug-{song}-v0" for song in SONGS)
"""Ids without the family's prefix: the songs that the package holds."""
MIDI_SUFFIXES = (".mid", ".proto")


@dataclasses.dataclass(frozen=True)
class PianoOptions:
    """How the song is set and what is seen, paid and moved; defaults are the reference code's."""

    midi_file: str | Path | None = None
    """A song of your own (`.mid` or `.proto`) in the place of the task's."""
    control_timestep: float = 0.05
    """Length of a step, s; a whole number of physics steps of 0.005 s."""
    n_steps_lookahead: int = 10
    """Steps of the goal that are seen ahead, besides the present one."""
    trim_silence: bool = True
    """Begin with the first note and end with the last."""
    stretch_factor: float = 1.0
    """More than 1 plays the song slower."""
    shift_factor: int = 0
    """Semitones by which the song is transposed."""
    initial_buffer_time: float = 0.0
    """Silence before the first note, s."""
    gravity_compensation: bool = True
    """Whether the hands weigh nothing."""
    reduced_action_space: bool = True
    """Leave joints out that playing needs least: 39 actions in the place of 45."""
    primitive_fingertip_collisions: bool = True
    """Fingertips are capsules, which are faster than meshes."""
    disable_fingering_reward: bool = True
    """No reward for the finger that the sheet says; its ten numbers are not seen, either."""
    disable_forearm_reward: bool = False
    """No reward for forearms that do not touch."""
    disable_hand_collisions: bool = False
    """Let the hands pass through each other."""
    action_reward_observation: bool = True
    """See the last action, in the simulator's units, and the last reward."""
    wrong_press_termination: bool = False
    """A wrong key ends the episode."""
    randomize_hand_positions: bool = False
    """Draw where the forearms are mounted, which is not seen; nothing else is random."""

    def __post_init__(self) -> None:
        steps = self.control_timestep / 0.005
        if not steps >= 1 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                "control_timestep is a whole multiple of the physics' 0.005 s: got "
                f"{self.control_timestep}"
            )
        if self.n_steps_lookahead < 0:
            raise ValueError(f"n_steps_lookahead is at least 0: got {self.n_steps_lookahead}")
        if not self.stretch_factor > 0:
            raise ValueError(f"stretch_factor is above 0: got {self.stretch_factor}")
        if self.midi_file is not None:
            path = Path(self.midi_file)
            if path.suffix not in MIDI_SUFFIXES:
                legal = ", ".join(MIDI_SUFFIXES)
                raise ValueError(f"midi_file ends in one of {legal}: got {path}")
            if not path.is_file():
                raise ValueError(f"midi_file {path} is not there")


def parse_id(id: str, options: Mapping[str, Any] | None = None) -> tuple[str, PianoOptions]:
    """Split a task's id into its song and its options.

    Args:
        id: Such as ``debug-CMajorScaleOneHand-v0?stretch_factor=1.5``, with or without prefix.
        options: More options; they count more than those of the id.

    Raises:
        ValueError: There is no such song or option, or a value is refused.
    """
    task, _, query = id.removeprefix(PREFIX).partition("?")
    song = _checked_song(task)
    given: dict[str, Any] = {}
    for pair in filter(None, query.split("&")):
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"an option in a task's id is name=value: got {pair!r} in {id!r}")
        given[name] = _parsed(text)
    return song, checked_options({**given, **(options or {})})


def _parsed(text: str) -> Any:
    """A number or truth value, or the text itself."""
    try:
        return json.loads(text.lower())
    except ValueError:
        return text


def _checked_song(task: str) -> str:
    """The song's name of a task's id."""
    if task in TASKS:
        return task.removeprefix("debug-").removesuffix("-v0")
    playable = ", ".join(PREFIX + known for known in TASKS)
    if task.startswith(("etude-12-", "repertoire-150-")):
        raise ValueError(
            f"{PREFIX}{task} plays notes of the PIG data set, which may not be redistributed, so "
            f"the package does not hold it. Songs that work: {playable}; or any song of yours "
            "with the option midi_file"
        )
    near = difflib.get_close_matches(task, TASKS, 1)
    hint = f"; did you mean {PREFIX + near[0]!r}?" if near else ""
    raise ValueError(f"there is no task {PREFIX}{task}: legal are {playable}{hint}")


def checked_options(options: dict[str, Any]) -> PianoOptions:
    """Options by name, or an error that names the nearest.

    Raises:
        ValueError: There is no such option, or its value is refused.
    """
    legal = [field.name for field in dataclasses.fields(PianoOptions)]
    for name in options:
        if name not in legal:
            near = difflib.get_close_matches(name, legal, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"RoboPianist has no option {name!r}: legal are {', '.join(legal)}{hint}"
            )
    return PianoOptions(**options)
