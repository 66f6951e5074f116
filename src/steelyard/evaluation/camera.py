"""Play recorded actions again and take pictures, in a process of its own.

A simulator that renders without a current OpenGL context ends its process, so pictures are never
taken in the process that trains. The two ends speak lines of JSON, some followed by raw bytes:

=================  =============================================================================
to the camera      the task; then, for each episode, seed, spans and shape, and the actions
from the camera    ``picture``: the step, ``seen``: the task's observation, and the pixels; after
                   the last of a span ``notes``
=================  =============================================================================
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from steelyard.evaluation.opengl import missing_opengl
from steelyard.evaluation.scenes import Scene, open_scene
from steelyard.numerics.notes import NoteEvent

Span = tuple[int, int]
"""First step, and the one after the last."""


@dataclasses.dataclass
class Shot:
    """Pictures of a span of steps, taken while they are asked for.

    Attributes:
        span: First step, and the one after the last.
        pictures: One before each step, in order; to be used up before the next shot begins.
        seen: The task's observations at the pictures that were taken so far.
        notes: What was played from the episode's start to the span's end, known once the pictures
            are used up.
    """

    span: Span
    pictures: Iterator[UInt8[np.ndarray, "height width 3"]]
    seen: list[Float32[np.ndarray, " obs"]] = dataclasses.field(default_factory=list)
    notes: tuple[NoteEvent, ...] = ()


class Camera:
    """A process that takes pictures of one task; a context manager.

    Example: ``with Camera("dense/SweepInto-v3", {}) as camera: ...``
    """

    def __init__(self, env: str, options: dict[str, Any], width: int = 480, height: int = 360):
        """Start the process.

        Args:
            env: Name of the task, as ``make_env`` knows it.
            options: What it is built with, JSON values.
            width: Of pictures, pixels.
            height: Of pictures, pixels.
        """
        self.env, self.width, self.height = env, width, height
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        command = [sys.executable, "-m", "steelyard.evaluation.camera"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, stderr=self._said, **pipes)
        task = {"env": env, "options": options, "width": width, "height": height}
        self._send(json.dumps(task))

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def play(
        self,
        seed: int,
        actions: Float32[np.ndarray, "time act"],
        spans: Sequence[Span],
        every: int = 1,
        env_units: bool = False,
    ) -> Iterator[Shot]:
        """Play the first episode of a seed again and take pictures of some of its steps.

        Args:
            seed: Of the environment.
            actions: What was done, in [-1, 1], from the first step on.
            spans: Which steps, in order and without overlap. One that reaches one step past the
                last action also shows where the episode ended.
            every: Take one picture in so many steps of a span, and the one at the end.
            env_units: Whether the actions are in environment units.

        Yields:
            A shot a span. Use up its pictures before the next.

        Raises:
            ValueError: Spans overlap or lie outside the episode, the task cannot be drawn, or its
                pictures are empty; says what is missing.
        """
        _check_spans(spans, len(actions))
        job = {
            "seed": seed, "shape": actions.shape, "spans": spans, "every": every,
            "env_units": env_units,
        }  # fmt: skip
        self._send(json.dumps(job), np.ascontiguousarray(actions, np.float32).tobytes())
        for span in spans:
            shot = Shot(span, iter(()))
            shot.pictures = self._pictures(shot)
            yield shot
            for _ in shot.pictures:
                pass  # whoever used only some of them gets the next shot all the same

    def _pictures(self, shot: Shot) -> Iterator[np.ndarray]:
        while "picture" in (message := self._receive()):
            shot.seen.append(np.array(message["seen"], np.float32))
            yield message["pixels"]
        shot.notes = tuple(NoteEvent(*note) for note in message["notes"])

    def _send(self, line: str, payload: bytes = b"") -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n" + payload)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._refuse()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._refuse()
        message = json.loads(line)
        if "picture" in message:
            size = self.height * self.width * 3
            raw = self._process.stdout.read(size)
            if len(raw) < size:
                self._refuse()
            pixels = np.frombuffer(raw, np.uint8).reshape(self.height, self.width, 3)
            message["pixels"] = pixels
        return message

    def _refuse(self) -> None:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        raise ValueError(f"{self.env} could not be filmed: {(lines or [f'exit {code}'])[-1]}")


def _check_spans(spans: Sequence[Span], steps: int) -> None:
    reached = 0
    for first, end in spans:
        if not reached <= first < end <= steps + 1:
            raise ValueError(
                f"spans of steps are in order, without overlap and within {steps} steps and the "
                f"end, got {list(spans)}"
            )
        reached = end


def main() -> None:
    """The process: take pictures until there is nothing more to read."""
    # Whatever a simulator prints must not end up between the pictures.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    asked = sys.stdin.buffer
    with _refusals_as_last_line():
        scene = open_scene(**json.loads(asked.readline()))
        while line := asked.readline():
            job = json.loads(line)
            count, size = job["shape"]
            raw = asked.read(4 * count * size)
            actions = np.frombuffer(raw, np.float32).reshape(count, size)
            _replay(scene, actions, job, pipe)


@contextlib.contextmanager
def _refusals_as_last_line() -> Iterator[None]:
    """End the process with a refusal's message as the only line."""
    try:
        yield
    except (ValueError, ImportError) as error:
        raise SystemExit(" ".join(str(error).split())) from None


def _replay(scene: Scene, actions: np.ndarray, job: dict[str, Any], pipe: Any) -> None:
    """Play one episode again and send what was asked for."""

    def send(message: dict[str, Any], pixels: bytes = b"") -> None:
        pipe.write(json.dumps(message).encode() + b"\n" + pixels)

    env = scene.begin(job["seed"], len(actions))
    seen = env.reset()[0]
    if not job["env_units"]:
        actions = env.spec.to_env_units(actions)

    def play(step: int) -> np.ndarray:
        scene.follow(actions[step])
        return env.step(actions[step, None]).observation[0]

    done = 0
    for first, end in job["spans"]:
        for step in range(done, first):
            seen = play(step)
        for step in range(first, end):
            if (step - first) % job["every"] == 0 or step == len(actions):
                send({"picture": step, "seen": seen.tolist()}, _checked(scene.draw()))
            if step < len(actions):
                seen = play(step)
        done = end
        send({"notes": scene.notes()})
        pipe.flush()
    env.close()


def _checked(picture: np.ndarray) -> bytes:
    """A picture's bytes; drawing without a working library makes empty ones without an error."""
    if picture.min() == picture.max():
        what = f"pictures are empty, every pixel is {picture.flat[0]}"
        raise ValueError(missing_opengl(os.environ.get("MUJOCO_GL", "none"), what))
    return np.ascontiguousarray(picture).tobytes()


if __name__ == "__main__":
    main()
