"""Feed damaged and hostile files to every reader of the package, and count what happens.

``python tests/reliability/fuzz.py --inputs 100000 --out results/benchmarks/fuzz.json`` is the long
run; with ``--part 0 10`` a tenth of it, and so on, which the file adds up.
``--replay "TARGET" SEED INDEX`` makes one input again and reads it here, with its traceback.
"""

import argparse
import collections
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
HANG_S = 120.0
"""Seconds of silence after which a worker is ended; 5 s of its own computing count as slow."""
GOOD = ("read", "refused")


def shares(inputs: int, names: list[str]) -> dict[str, int]:
    """Inputs of each target, at least one."""
    from fuzz_targets import TARGETS

    total = sum(TARGETS[name].share for name in names)
    return {name: max(1, round(inputs * TARGETS[name].share / total)) for name in names}


class Run:
    """Outcomes of inputs, by target, and all findings."""

    def __init__(self, seed: int):
        self.seed = seed
        self.counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        self.findings: list[dict[str, Any]] = []
        self.seconds = 0.0

    def add(self, name: str, index: int, kind: str, told: str, detail: str) -> None:
        self.counts[name][kind] += 1
        if kind not in GOOD:
            found = {"target": name, "seed": self.seed, "index": index, "kind": kind}
            self.findings.append(found | {"input": told, "detail": detail})

    def go(self, wanted: dict[str, tuple[int, int]], tick: Any = None) -> None:
        """Read a range of inputs of each target, in a worker process after another."""
        began = time.perf_counter()
        jobs = [(name, *ends) for name, ends in wanted.items() if ends[0] < ends[1]]
        parent = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
        root = Path(tempfile.mkdtemp(prefix="steelyard-fuzz-", dir=parent))
        try:
            while jobs:
                jobs = self._one_worker(jobs, root, tick)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        self.seconds += time.perf_counter() - began

    def _one_worker(self, jobs: list, root: Path, tick: Any) -> list:
        """Run a worker to its end; the jobs that are left where it did not reach it."""
        reader, writer = os.pipe()
        worker_jobs = json.dumps([jobs, self.seed, str(root), writer])
        command = [sys.executable, __file__, "--worker", worker_jobs]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
        with tempfile.TemporaryFile() as log:
            worker = subprocess.Popen(
                command, pass_fds=(writer,), env=environment, stderr=log, stdout=log
            )
            os.close(writer)
            current, silent, done = self._listen(reader, tick)
            if silent:
                worker.kill()
            code = worker.wait()
            log.seek(0)
            said = log.read().decode(errors="replace")[-1500:]
        if done:
            return []
        if current is None:
            raise RuntimeError(f"the worker ended before its first input ({code}): {said}")
        name, index = current
        self.add(name, index, "hang" if silent else "crash", "", f"exit {code}: {said}")
        if tick:
            tick(self)
        place = [job[0] for job in jobs].index(name)
        rest = [(name, index + 1, jobs[place][2]), *jobs[place + 1 :]]
        return [job for job in rest if job[1] < job[2]]

    def _listen(self, reader: int, tick: Any) -> tuple[list | None, bool, bool]:
        """Note what a worker says; its last input, whether it fell silent, whether it is done."""
        buffer, current = b"", None
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while True:
                # Its first word comes after the imports and the samples.
                ready, _, _ = select.select([pipe], [], [], HANG_S if current else 10 * HANG_S)
                if not ready:
                    return current, True, False
                part = pipe.read(65536)
                if not part:
                    return current, False, False
                *lines, buffer = (buffer + part).split(b"\n")
                for line in lines:
                    word, *rest = json.loads(line)
                    if word == "done":
                        return None, False, True
                    current = rest if word == "begin" else None
                    if word == "end":
                        self.add(*rest[:5])
                        if tick:
                            tick(self)

    def result(self, command: str) -> dict[str, Any]:
        rows = {name: dict(sorted(counts.items())) for name, counts in self.counts.items()}
        return {
            "command": command,
            "version": version("steelyard"),
            "seed": self.seed,
            "inputs": sum(sum(counts.values()) for counts in self.counts.values()),
            "findings": len(self.findings),
            "seconds": round(self.seconds, 1),
            "targets": rows,
        }


def merge(path: Path, result: dict[str, Any]) -> None:
    """Write results; what the file holds of an earlier part of the run is added."""
    if path.exists():
        before = json.loads(path.read_text())
        result["seconds"] = round(result["seconds"] + before["seconds"], 1)
        rows = result["targets"]
        for name, counts in before["targets"].items():
            added = collections.Counter(counts) + collections.Counter(rows.get(name, {}))
            rows[name] = dict(sorted(added.items()))
        result["inputs"] = sum(sum(row.values()) for row in rows.values())
        result["findings"] += before["findings"]
    path.write_text(json.dumps(result, indent=1) + "\n")


def replay(name: str, seed: int, index: int) -> None:
    """Make one input again and read it in this process."""
    from fuzz_targets import TARGETS
    from fuzz_worker import Sample, input_of

    root = Path(tempfile.mkdtemp(prefix="steelyard-replay-"))
    sample = Sample(TARGETS[name], root / "samples")
    given, told = input_of(sample, seed, index, root / "scratch" / "input")
    print(f"{given}\n{told}", flush=True)
    print(TARGETS[name].read(given))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("PART", "OF"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--replay", nargs=3, metavar=("TARGET", "SEED", "INDEX"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        from fuzz_worker import work

        jobs, seed, root, out = json.loads(options.worker)
        work(jobs, seed, Path(root), out)
        return 0
    if options.replay:
        name, seed, index = options.replay
        replay(name, int(seed), int(index))
        return 0
    from fuzz_targets import TARGETS

    run, shown = Run(options.seed), [0]

    def tick(run: Run) -> None:
        for found in run.findings[shown[0] :]:
            print(json.dumps(found), flush=True)
        shown[0] = len(run.findings)

    part, parts = options.part
    wanted = shares(options.inputs, options.only or list(TARGETS))
    run.go({n: (c * part // parts, c * (part + 1) // parts) for n, c in wanted.items()}, tick)
    tick(run)
    result = run.result(f"python tests/reliability/fuzz.py --inputs {options.inputs}")
    print(json.dumps({k: v for k, v in result.items() if k != "targets"}))
    if options.out:
        merge(options.out, result)
    return int(bool(run.findings))


if __name__ == "__main__":
    sys.exit(main())
