"""The process that reads hostile files: what it does is watched, what it may use is limited."""

import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fuzz_mutators import CANARY, mutate

GROWTH = 2**30
"""Bytes of address space beyond what the imports and one read of every sample took."""
LONGEST_S = 5.0
LONGEST_MESSAGE = 4000
EXPLAINED = (ValueError, FileNotFoundError, FileExistsError)
"""What the command line turns into one line."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NEVER = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty",
          "pickle.find_class", "socket.connect", "ctypes.dlopen")  # fmt: skip
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.symlink",
    "os.link",
    "shutil.rmtree",
)


class Watch:
    """Notes what code does that no reader of a file should do."""

    def __init__(self, inside: Path):
        self.inside = str(inside)
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event in _NEVER:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and not self.allowed(path):
                self.seen.append(f"open to write {path!r:.200}")
        elif event in _CHANGES and not self.allowed(arguments[0]):
            self.seen.append(f"{event} {arguments!r:.200}")

    def allowed(self, path: Any) -> bool:
        if isinstance(path, int) or path == os.devnull:
            return True
        place = os.path.abspath(os.fsdecode(path))
        return place == self.inside or place.startswith(self.inside + "/")


class Sample:
    """Two valid samples of a target, kept as bytes."""

    def __init__(self, target: Any, folder: Path):
        self.target = target
        self.contents: list[dict[str, bytes]] = []
        for seed in (1, 2):
            place = folder / f"sample{seed}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            self.given = target.write(place, seed).relative_to(place)
            files = sorted(path for path in place.rglob("*") if path.is_file())
            self.contents.append({str(p.relative_to(place)): p.read_bytes() for p in files})
        self.names = [name for name in self.contents[0] if self.counts(name)]

    @property
    def base_names(self) -> set[str]:
        """What a message may name: a file, or a recording called after it."""
        names = {Path(name).name for name in self.contents[0]}
        return names | {f"{Path(name).stem}:" for name in names}

    def counts(self, name: str) -> bool:
        """Whether the reader looks at a file: not at one for people, or of another target."""
        return not name.endswith((".txt", ".lock", "versions.json")) or "raw/" in name

    def lay_out(self, folder: Path) -> Path:
        for name, data in self.contents[0].items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder / self.given


def input_of(sample: Sample, seed: int, index: int, folder: Path) -> tuple[Path, str]:
    """Write the input of a number: the same for the same target, seed and number."""
    rng = random.Random(f"{sample.target.name} {seed} {index}")
    given = sample.lay_out(folder)
    name = rng.choice(sample.names)
    told = mutate(rng, folder / name, sample.contents[1].get(name, b""))
    return given, f"{name}: {told}"


def outcome_of(
    target: Any, given: Path, folder: Path, missing: Collection[str] = ()
) -> tuple[str, str]:
    """Read, refused, or what went wrong."""
    try:
        target.read(given)
        return "read", ""
    except EXPLAINED as error:
        message = str(error)
        names = {given.name, *(path.name for path in folder.rglob("*")), *missing}
        if not any(name in message for name in names):
            return "unnamed", f"{type(error).__name__}: {message[:300]}\n{_trace(error)}"
        if len(message) > LONGEST_MESSAGE:
            return "long message", f"{len(message)}: {message[:200]}"
        return "refused", ""
    except BaseException as error:
        return "uncaught", f"{type(error).__name__}: {str(error)[:300]}\n{_trace(error)}"


def _trace(error: BaseException) -> str:
    places = traceback.extract_tb(error.__traceback__)
    own = [f"{Path(p.filename).name}:{p.lineno} {p.name}" for p in places][-6:]
    return " > ".join(own)


def work(jobs: list[tuple[str, int, int]], seed: int, root: Path, out: int) -> None:
    """Read the inputs of all jobs; a line before and a line after each."""
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    from fuzz_targets import PLANTED, TARGETS

    targets = TARGETS | PLANTED

    scratch = root / "scratch"
    # What a worker that was ended left there, a pipe for instance, would stop this one, too.
    shutil.rmtree(scratch, ignore_errors=True)
    home = root / "home"
    for place in (scratch, home):
        place.mkdir(parents=True, exist_ok=True)
    os.chdir(home)
    os.environ["HOME"] = os.environ["MINARI_DATASETS_PATH"] = str(home)
    samples = {}
    for name, _, _ in jobs:
        samples[name] = Sample(targets[name], root / "samples" / name.replace(" ", "_"))
        folder = scratch / "warm"
        targets[name].read(samples[name].lay_out(folder))
        shutil.rmtree(folder)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + GROWTH
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    watch = Watch(scratch)
    beside = _listing(root)

    def say(*values: Any) -> None:
        os.write(out, (json.dumps(values) + "\n").encode())

    for name, first, last in jobs:
        for index in range(first, last):
            say("begin", name, index)
            folder = scratch / "input"
            given, told = input_of(samples[name], seed, index, folder)
            began, cpu = time.perf_counter(), time.process_time()
            watch.seen, watch.on = [], True
            kind, detail = outcome_of(targets[name], given, folder, samples[name].base_names)
            watch.on = False
            spent = time.perf_counter() - began
            if time.process_time() - cpu > LONGEST_S:
                kind, detail = "slow", f"{spent:.1f} s"
            if watch.seen:
                kind, detail = "acted", "; ".join(watch.seen)[:600]
            if (root / CANARY).exists() or _listing(root) != beside:
                kind, detail = "escaped", str(_listing(root) - beside)
                (root / CANARY).unlink(missing_ok=True)
                beside = _listing(root)
            say("end", name, index, kind, told, detail, round(spent, 4))
            shutil.rmtree(folder, ignore_errors=True)
    say("done")


def _listing(root: Path) -> set[str]:
    """What lies beside the scratch folder."""
    found = {entry.path for entry in os.scandir(root)}
    return (
        found
        | {entry.path for entry in os.scandir(root / "home")}
        | {entry.path for entry in os.scandir(root / "scratch") if entry.name != "input"}
    )
