"""The records that pass between the database, the chooser, the server and the exports."""

import dataclasses
import re
from typing import Literal, get_args

Kind = Literal["rate", "pair"]
STATES = ("open", "done", "skipped", "dropped")

PAIR_ANSWERS = ("left", "right", "tie", "both_bad", "skip")
"""What may be answered to two clips; ratings are the digits of the scale, or ``skip``."""

SKIP = "skip"
UNDECIDED = ("tie", "both_bad")
STRENGTH = {"slight": 1, "strong": 2}
"""The key pressed: an arrow, or an arrow with Shift; ties and ratings have strength 0."""

MOST_SCALE = 100
ANNOTATOR = re.compile(r"[A-Za-z0-9_-]{1,32}")


class LabellingError(ValueError):
    """A request or file that cannot be used; the message is one line for the user."""


class StorageError(LabellingError):
    """The file of judgements cannot be read or written: damaged, locked, or the disk is full."""


class ConflictError(LabellingError):
    """The task was answered already, by another window for instance; a reload helps."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """A segment that can be shown.

    Attributes:
        id: Number of the segment in the data set.
        episode: Recorded episode it was cut from.
        window: Place in its episode, in segment lengths; only equal windows are compared.
        start_s: Its first moment within the episode, s.
        duration_s: Its length in the robot's time, s; the film may run slower.
        clip: Path of the film, relative to the data set.
    """

    id: int
    episode: int
    window: int
    start_s: float
    duration_s: float
    clip: str


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked: which segments, on which side, and why.

    Attributes:
        kind: ``"rate"`` or ``"pair"``.
        a: Segment; of a pair the one with the smaller number.
        b: Second segment of a pair, none for a rating.
        left_is_a: Whether ``a`` stands on the left.
        reason: ``"uniform"``, ``"balanced"``, ``"active"``, ``"insertion"``, ``"shared"`` (also
            asked of the other annotators) or ``"repeat"`` (asked a second time).
        scale: Highest rating, 0 for a pair.
    """

    kind: Kind
    a: int
    b: int | None
    left_is_a: bool
    reason: str
    scale: int = 0


@dataclasses.dataclass(frozen=True)
class Task:
    """A question put to one annotator.

    Attributes:
        id: Number of the task.
        annotator: Name.
        question: What is asked.
        state: ``"open"``, ``"done"``, ``"skipped"`` (comes back once) or ``"dropped"``.
    """

    id: int
    annotator: str
    question: Question
    state: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a page sends.

    Attributes:
        client_uuid: Made by the page once for each answer; a repetition changes nothing.
        task: Number of the task.
        answer: One of :data:`PAIR_ANSWERS`, or a rating as digits.
        strength: 0, 1 (slightly) or 2 (much).
        response_ms: From the first frame to the key, without the time the page was hidden.
        watched_left_s: Seconds of film seen on the left, or of the one clip.
        watched_right_s: The same on the right; 0 for a rating.
    """

    client_uuid: str
    task: int
    answer: str
    strength: int
    response_ms: int
    watched_left_s: float
    watched_right_s: float


@dataclasses.dataclass(frozen=True)
class Judgement:
    """One event of the log: an answer to a task, and whether it was taken back.

    Attributes:
        id: Number of the event, in the order of arrival.
        task: The task, as it was asked.
        answer: What was answered.
        created: When the answer was committed, ISO 8601 in UTC.
        undone: When it was taken back, none if it stands.
    """

    id: int
    task: Task
    answer: Answer
    created: str
    undone: str | None

    @property
    def counts(self) -> bool:
        """Whether it stands and decides something: neither taken back nor skipped."""
        return self.undone is None and self.answer.answer != SKIP

    @property
    def preference(self) -> float | None:
        """Return P(b wins) of a pair in {0, 0.5, 1}; none for a rating or a skip."""
        question, answer = self.task.question, self.answer.answer
        if question.kind != "pair" or answer == SKIP:
            return None
        if answer in UNDECIDED:
            return 0.5
        return float((answer == "right") == question.left_is_a)

    @property
    def rating(self) -> int | None:
        """The rating, from 1 to the scale; none for a pair or a skip."""
        if self.task.question.kind != "rate" or self.answer.answer == SKIP:
            return None
        return int(self.answer.answer)


def check_annotator(name: str) -> str:
    """Return a legal name of an annotator.

    Raises:
        LabellingError: It is not 1 to 32 letters, digits, ``_`` or ``-``.
    """
    if not ANNOTATOR.fullmatch(name):
        raise LabellingError(
            f"an annotator's name is 1 to 32 of A-Z a-z 0-9 _ -, got {name[:40]!r}"
        )
    return name


def check_answer(question: Question, answer: Answer) -> None:
    """Raise where an answer does not fit its question.

    Raises:
        LabellingError: Unknown answer, rating off the scale, or a strength that means nothing.
    """
    legal: tuple[str, ...]
    if question.kind == "pair":
        legal = PAIR_ANSWERS
        strengths = (1, 2) if answer.answer in ("left", "right") else (0,)
    else:
        legal = (*(str(value) for value in range(1, question.scale + 1)), SKIP)
        strengths = (0,)
    if answer.answer not in legal:
        shown = ", ".join(legal) if question.kind == "pair" else f"1 to {question.scale} or skip"
        raise LabellingError(
            f"an answer to task {answer.task} is {shown}; got {answer.answer[:40]!r}"
        )
    if answer.strength not in strengths:
        raise LabellingError(
            f"the strength of {answer.answer[:40]!r} is one of {strengths}, got {answer.strength}"
        )


def check_event(event: Judgement) -> None:
    """Raise where an event from a file is none that the app could have written.

    Raises:
        LabellingError: Says what is wrong.
    """
    question = event.task.question
    check_annotator(event.task.annotator)
    if question.kind not in get_args(Kind) or event.task.state not in STATES:
        raise LabellingError(
            f"the kind is one of {get_args(Kind)} and the state one of {STATES}; got "
            f"{question.kind[:40]!r} and {event.task.state[:40]!r}"
        )
    if (question.b is None) != (question.kind == "rate"):
        raise LabellingError(f"a pair has two segments, a rating one; got {question.b} as second")
    if not 0 <= question.scale <= MOST_SCALE:
        raise LabellingError(f"the scale lies in [0, {MOST_SCALE}], got {question.scale}")
    check_answer(question, event.answer)
