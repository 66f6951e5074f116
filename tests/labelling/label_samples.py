"""Small data sets with real films, and a real server in a process of its own."""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np

from steelyard.evaluation.media import write_webm

FRAMES_PER_S = 20.0
LENGTH_S = 2.0
RATE = 44_100


def picture(step: int, steps: int, hue: int, height: int, width: int) -> np.ndarray:
    """A ball on a track; a bar across the top grows with time, so frames can be told apart."""
    frame = np.full((height, width, 3), (34, 40, 50), np.uint8)
    colours = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0))
    colour = colours[hue % len(colours)]
    frame[: max(4, height // 24), : width * (step + 1) // steps] = 200
    rows, columns = np.mgrid[:height, :width]
    frame[(rows > 0.79 * height) & (rows < 0.82 * height)] = (90, 98, 110)
    share = step / max(steps - 1, 1)
    x = width * (0.15 + 0.7 * share ** (0.5 + 0.35 * hue))
    y = 0.7 * height - 0.28 * height * abs(np.sin(np.pi * share * (1 + hue % 3)))
    frame[(rows - y) ** 2 + (columns - x) ** 2 < (0.09 * height) ** 2] = colour
    return frame


def film(path: Path, hue: int, seconds: float, sound: bool, size: tuple[int, int]) -> Path:
    """Write one clip; its tone tells it from the others."""
    steps = round(seconds * FRAMES_PER_S)
    frames = (picture(step, steps, hue, *size) for step in range(steps))
    times = np.arange(round(seconds * RATE)) / RATE
    tone = 0.4 * np.sin(2 * np.pi * 220 * (1 + hue / 4) * times).astype(np.float32)
    return write_webm(path, frames, FRAMES_PER_S, tone if sound else None, RATE)


@functools.cache
def films(seconds: float, sound: bool, size: tuple[int, int], kinds: int) -> list[Path]:
    """A few distinct clips, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="steelyard-films-"))
    return [film(folder / f"{hue}.webm", hue, seconds, sound, size) for hue in range(kinds)]


def make_dataset(
    folder: Path,
    segments: int = 6,
    windows: int = 1,
    filmed: bool = True,
    seconds: float = LENGTH_S,
    sound: bool = True,
    size: tuple[int, int] = (96, 128),
    kinds: int = 2,
) -> Path:
    """Write a data set as the labelling app reads it; clips repeat a few films."""
    (folder / "videos").mkdir(parents=True)
    info = {
        "schema": 1,
        "env": "Pendulum-v1",
        "control_timestep": 1 / FRAMES_PER_S,
        "sha256": hashlib.sha256(str(segments).encode()).hexdigest(),
        "segments": [
            {
                "id": number,
                "episode": number // windows,
                "window": number % windows,
                "start_time": number % windows * seconds,
                "duration": seconds,
                "checkpoint": "checkpoint_030000",
                "noise_scale": 0.1,
                "video_path": f"videos/segment_{number:06d}.webm",
            }
            for number in range(segments)
        ],
    }
    (folder / "segment_info.json").write_text(json.dumps(info))
    if filmed:
        made = films(seconds, sound, size, kinds)
        for number in range(segments):
            path = folder / f"videos/segment_{number:06d}.webm"
            # Links cost nothing, and are regular files of the data set all the same.
            with contextlib.suppress(OSError):
                os.link(made[number % kinds], path)
            if not path.exists():
                shutil.copy(made[number % kinds], path)
    return folder


class Server:
    """``steelyard label serve`` as a user runs it."""

    def __init__(self, dataset: Path, *options: str):
        command = [sys.executable, "-m", "steelyard.cli", "label", "serve", str(dataset)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if line.startswith("open "):
                self.url = line.split()[1]
                break
        else:
            assert self.process.stderr is not None
            raise AssertionError("".join(said) + self.process.stderr.read())
        self.base = self.url.partition("?")[0].rstrip("/")
        self.http = httpx.Client(base_url=self.base, headers={"Origin": self.base}, timeout=20)

    def kill(self) -> None:
        """SIGKILL: nothing in the process gets to say goodbye."""
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Stop it, gently unless it is dead already."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        self.http.close()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def tasks(self, annotator: str) -> dict:
        reply = self.http.get("/api/task", params={"annotator": annotator})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def judge(self, annotator: str, task: int, answer: str, strength: int = 0) -> dict:
        reply = self.http.post("/api/judgements", json=body(annotator, task, answer, strength))
        assert reply.status_code == 200, reply.text
        return reply.json()


def body(annotator: str, task: int, answer: str, strength: int = 0) -> dict:
    """An answer as the page sends it."""
    return {
        "client_uuid": str(uuid.uuid4()),
        "annotator": annotator,
        "task": task,
        "answer": answer,
        "strength": strength,
        "response_ms": 1500,
        "watched_left_s": 1.5,
        "watched_right_s": 1.5,
    }


@contextlib.contextmanager
def serving(dataset: Path, *options: str) -> Iterator[Server]:
    """A server that is stopped at the end."""
    server = Server(dataset, *options)
    try:
        yield server
    finally:
        server.close()
