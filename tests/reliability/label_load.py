"""Many annotators at once on the real labelling server, and what its database holds afterwards.

``python tests/reliability/label_load.py --out results/benchmarks/label_load.json`` starts
``steelyard label serve`` as a user does, lets 50 people answer 40 questions each, once without a
moment's thought and once with some, and compares every acknowledged answer with the database. A
share of the answers is sent twice, as a page does whose connection broke.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np

WEBM = b"\x1a\x45\xdf\xa3webm" + b"\x23\xe3\x83\x84\x02\xfa\xf0\x80" + b"A_OPUS"
SENT_TWICE = 0.05
"""Share of answers that are sent a second time."""


@dataclasses.dataclass
class Outcome:
    """What the annotators saw."""

    task_s: list[float] = dataclasses.field(default_factory=list)
    answer_s: list[float] = dataclasses.field(default_factory=list)
    acknowledged: dict[str, int] = dataclasses.field(default_factory=dict)
    failures: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


def make_dataset(folder: Path, segments: int) -> Path:
    """A data set whose films are heads of films: nobody looks at them here."""
    (folder / "videos").mkdir(parents=True)
    entries = [
        {
            "id": i,
            "episode": i // 5,
            "window": i % 5,
            "start_time": 2.0 * (i % 5),
            "duration": 2.0,
            "video_path": f"videos/{i}.webm",
        }
        for i in range(segments)
    ]
    info = {"schema": 1, "sha256": "a" * 64, "segments": entries}
    (folder / "segment_info.json").write_text(json.dumps(info))
    for i in range(segments):
        (folder / "videos" / f"{i}.webm").write_bytes(WEBM + i.to_bytes(4, "big") + bytes(2**16))
    return folder


@contextlib.contextmanager
def serving(dataset: Path, *options: str) -> Iterator[str]:
    """The address of a server in a process of its own, stopped at the end as Ctrl+C does."""
    command = [sys.executable, "-m", "steelyard.cli", "label", "serve", str(dataset)]
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115
    server = subprocess.Popen(
        [*command, "--port", "0", *options], stdout=subprocess.PIPE, stderr=log, text=True
    )
    assert server.stdout is not None
    try:
        for line in server.stdout:
            if line.startswith("open "):
                yield line.split()[1].rstrip("/")
                break
        else:
            log.seek(0)
            raise RuntimeError(f"the server did not start: {log.read()}")
    finally:
        ended = server.poll()
        if ended is None:
            server.send_signal(signal.SIGINT)
        server.wait(30)
        server.stdout.close()
        log.seek(0)
        said = log.read()
        log.close()
        if "Traceback" in said and "KeyboardInterrupt" not in said:
            raise RuntimeError(f"the server said: {said[-2000:]}")
        if ended is not None:
            raise RuntimeError(f"the server ended by itself, status {ended}: {said[-2000:]}")


async def annotate(
    http: httpx.AsyncClient, name: str, answers: int, think_s: float, outcome: Outcome
) -> None:
    """One annotator: the first question, then an answer to each, whose reply holds the next."""
    rng = random.Random(name)
    await asyncio.sleep(rng.uniform(0, min(1.0, think_s)))
    reply = await timed(http.get("/api/task", params={"annotator": name}), outcome.task_s)
    for _ in range(answers):
        if reply.status_code != 200 or not reply.json()["tasks"]:
            outcome.failures.append(f"{name}: {reply.status_code} {reply.text[:200]}")
            return
        if think_s:
            await asyncio.sleep(rng.expovariate(1 / think_s))
        choice = rng.choice(("left", "right", "tie", "both_bad"))
        answer = {
            "client_uuid": str(uuid.UUID(int=rng.getrandbits(128))),
            "annotator": name,
            "task": reply.json()["tasks"][0]["id"],
            "answer": choice,
            "strength": 1 if choice in ("left", "right") else 0,
            "response_ms": 900,
            "watched_left_s": 1.0,
            "watched_right_s": 1.0,
        }
        reply = await timed(http.post("/api/judgements", json=answer), outcome.answer_s)
        if reply.status_code != 200:
            outcome.failures.append(f"{name}: {reply.status_code} {reply.text[:200]}")
            return
        outcome.acknowledged[answer["client_uuid"]] = reply.json()["judgement"]
        if rng.random() < SENT_TWICE:
            again = await http.post("/api/judgements", json=answer)
            same = again.status_code == 200 and again.json()["repeated"]
            if not same or again.json()["judgement"] != reply.json()["judgement"]:
                outcome.failures.append(
                    f"{name}: sent twice: {again.status_code} {again.text[:200]}"
                )
        if rng.random() < 0.1:  # another look at the page, as a reload does
            reply = await timed(http.get("/api/task", params={"annotator": name}), outcome.task_s)


async def timed(request: Any, times: list[float]) -> httpx.Response:
    """The reply to a request, and how long it took; a broken connection is a reply of its own."""
    began = time.perf_counter()
    try:
        reply = await request
    except httpx.HTTPError as error:
        return httpx.Response(599, text=f"{error!r} after {time.perf_counter() - began:.2f} s")
    times.append(time.perf_counter() - began)
    return reply


async def all_at_once(base: str, annotators: int, answers: int, think_s: float) -> Outcome:
    """Let every annotator answer at the same time."""
    outcome = Outcome()
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=annotators, keepalive_expiry=300
    )
    headers = {"Origin": base}
    began = time.perf_counter()
    async with httpx.AsyncClient(base_url=base, headers=headers, limits=limits, timeout=60) as http:
        people = [f"person{i}" for i in range(annotators)]
        await asyncio.gather(*(annotate(http, p, answers, think_s, outcome) for p in people))
    outcome.seconds = time.perf_counter() - began
    return outcome


def check(dataset: Path, outcome: Outcome) -> None:
    """Raise unless the database holds each acknowledged answer once, and no other."""
    if outcome.failures:
        raise AssertionError(f"{len(outcome.failures)} requests failed: {outcome.failures[:3]}")
    with contextlib.closing(sqlite3.connect(dataset / "labels.sqlite")) as db:
        rows = db.execute("SELECT client_uuid, id FROM judgements").fetchall()
        states = db.execute(
            "SELECT count(*) FROM judgements j JOIN tasks t ON t.id = j.task WHERE t.state = 'done'"
        ).fetchone()[0]
        tasks = db.execute("SELECT count(DISTINCT task) FROM judgements").fetchone()[0]
        whole = db.execute("PRAGMA integrity_check").fetchone()[0]
    assert dict(rows) == outcome.acknowledged, "acknowledged answers are not those in the database"
    assert len(rows) == len(outcome.acknowledged) == tasks == states, "an answer stands twice"
    assert whole == "ok", whole


def percentiles(times: list[float]) -> dict[str, float]:
    """Milliseconds."""
    found = np.percentile(np.asarray(times) * 1e3, [50, 95, 99])
    return {name: round(float(x), 1) for name, x in zip(("p50", "p95", "p99"), found, strict=True)}


def measure(annotators: int, answers: int, think_s: float, segments: int) -> dict[str, Any]:
    """Run one load on a fresh data set and check it."""
    with tempfile.TemporaryDirectory(prefix="steelyard-load-") as place:
        dataset = make_dataset(Path(place) / "data", segments)
        with serving(dataset, "--mode", "pair", "--pair-scope", "all") as base:
            outcome = asyncio.run(all_at_once(base, annotators, answers, think_s))
        check(dataset, outcome)
    return {
        "think_s": think_s,
        "answers": len(outcome.acknowledged),
        "answers_per_s": round(len(outcome.acknowledged) / outcome.seconds, 1),
        "task_ms": percentiles(outcome.task_s),
        "answer_ms": percentiles(outcome.answer_s),
        "lost": 0,
        "doubled": 0,
        "errors": 0,
        "seconds": round(outcome.seconds, 1),
    }


def synced_ms() -> float:
    """What it costs to have a few bytes on the disk, median of 50, ms."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"some bytes")
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--answers", type=int, default=40)
    parser.add_argument("--segments", type=int, default=500)
    parser.add_argument("--think", type=float, nargs="*", default=[0.0, 3.0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    runs = []
    for think in options.think:
        runs.append(measure(options.annotators, options.answers, think, options.segments))
        print(json.dumps(runs[-1]), flush=True)
    load = os.getloadavg()[0]
    result = {
        "command": "python tests/reliability/label_load.py",
        "version": version("steelyard"),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "annotators": options.annotators,
        "segments": options.segments,
        "runs": runs,
        "note": f"Load of the machine {load:.0f}, a write to its disk {synced_ms():.1f} ms.",
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
