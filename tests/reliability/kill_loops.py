"""Every study is killed (``-9``) again and again and resumed, and must end as if it never was.

    python tests/reliability/kill_loops.py --kills 200

A study at its smallest runs once to its end. Then it runs anew, in processes that end by SIGKILL:
half of the kills fall right before a file operation that is drawn (a file is opened for writing,
renamed, removed, a folder made), half at a time that is drawn. When it has ended, every file of the
first run must be there with the same content, and no other; clocks do not count. What a kill left
half written must be gone.

Processes are forked from one that has imported everything but computed nothing.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors.numpy import load_file

CLOCKS = ("seconds", "frames_per_s", "updates_per_s", "updated", "at", "created", "speed")
CLOCKS += ("together",)  # of those that were left, and none of them has other numbers for it
SPEEDS = ("training/SPS", "training/share_", "cupid/compute_time_s")
STAMP = re.compile(r"\d{4}-?\d\d-?\d\d[T_-]?\d\d[-:]?\d\d[-:]?\d\d[^/]*?(?=[/_.]|$)")
"""A time as a part of a file's name."""
IGNORED = ("run.log", ".hold", "given.json")
WRITES = set("wax+")
FOLDERS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")


@contextlib.contextmanager
def quiet(description: str, total: int) -> Iterator[Callable[..., None]]:
    yield lambda step, note="": None


def _study(name: str, config: Any, root: Path, **options: Any) -> None:
    from steelyard.studies import get_study
    from steelyard.studies.cells import Store
    from steelyard.studies.engine import Options, run_study

    study = get_study(name)
    run_study(study, config, "smoke", "cmd", Options(root, executor="inline", **options), quiet)
    store = Store(root, name)
    states = {store.folder(c).status()["state"] for c in study.plan(config, store)}
    assert states == {"done"}, states


def imitation(root: Path) -> None:
    """SAC, demonstrations, IPMD, BC."""
    from steelyard.studies.imitation.config import configure

    config = configure("smoke")
    expert = dataclasses.replace(config, seeds=(0, 1), ipmd_frames=600, expert_frames=600)
    _study("imitation", expert, root)


def car(root: Path) -> None:
    """Dynamics models, several in one program, an ensemble, simulated data."""
    from steelyard.studies.car.config import SimulatedData, configure

    config = configure("smoke")
    agent = dataclasses.replace(config.learner.agent, groups=4, windows_per_group=2)
    learner = dataclasses.replace(config.learner, agent=agent, steps=20, eval_every=10)
    data = SimulatedData("car-single-track", train=12, validation=4, test=6)
    arms = ("structured", "structured_cvar0p2", "naive", "ensemble")
    config = dataclasses.replace(config, simulated=data, learner=learner, arms=arms, seeds=(0, 1))
    _study("car", config, root)


def assembly(root: Path) -> None:
    """Base policies, residual PPO with and without importance."""
    from steelyard.studies.assembly.config import configure

    config = configure("smoke")
    plane = dataclasses.replace(config.plane, arms=("uniform", "influence"))
    _study("assembly", dataclasses.replace(config, plane=plane), root)


def offline2online(root: Path) -> None:
    """Data, clusters, ACFQL offline, ACFQL online."""
    from steelyard.studies.offline2online.config import configure

    _study("offline2online", configure("smoke"), root)


def piano(root: Path) -> None:
    """SAC whose policies are kept, segments, judgements, CPL."""
    from steelyard.studies.piano.config import configure

    _study("piano", configure("smoke"), root)


def toy(root: Path) -> None:
    """Walkers, which learn nothing: what the engine does, without the time that learning takes."""
    from toy_study import ToyConfig

    _study("toy", ToyConfig(), root)


LOOPS = {f.__name__: f for f in (imitation, car, assembly, offline2online, piano, toy)}
SIMULATED = ("imitation", "assembly", "offline2online", "piano")


def die_at_operation(number: int, root: Path) -> Callable[[], int]:
    """Kill this process right before its ``number``-th file operation below a folder.

    Returns:
        A function that tells how many there were.
    """
    below, count, lock = str(root), 0, threading.Lock()

    def hook(event: str, values: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, mode, _ = values
            writes = isinstance(mode, str) and WRITES & set(mode)
        elif event in FOLDERS:
            path, writes = values[0], True
        else:
            return
        if not writes or not isinstance(path, (str, os.PathLike)):
            return
        if not os.fspath(path).startswith(below):
            return
        with lock:
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: count


def in_child(work: Callable[[Path], None], root: Path, kill: dict[str, float], log: Path) -> int:
    """Run ``work`` in a fork that ``kill`` ends; its exit status, or minus the signal's number."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            with log.open("a") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            operations = die_at_operation(int(kill.get("operation", 0)), root)
            if "after_s" in kill:
                ender = threading.Timer(kill["after_s"], os.kill, (os.getpid(), signal.SIGKILL))
                ender.daemon = True
                ender.start()
            work(root)
            (log.parent / "operations").write_text(str(operations()))
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@dataclasses.dataclass
class Tally:
    """What became of one study's kills."""

    kills: int = 0
    before_writes: int = 0
    rounds: int = 0
    differences: list[str] = dataclasses.field(default_factory=list)
    lost: list[str] = dataclasses.field(default_factory=list)
    left_over: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)


def kill_often(name: str, kills: int, seed: int, scratch: Path, told: bool = True) -> Tally:
    """Run a study to its end again and again, in processes that are killed, ``kills`` in all."""
    work, draw, tally = LOOPS[name], random.Random(f"{name} {seed}"), Tally()
    clean, log = scratch / "clean", scratch / "log"
    scratch.mkdir(parents=True, exist_ok=True)
    for root in (clean, scratch / "warm"):  # the first compiles; the second is timed
        start = time.monotonic()
        assert in_child(work, root, {}, log) == 0, log.read_text()[-3000:]
        seconds = time.monotonic() - start
    operations = int((scratch / "operations").read_text())
    expected = Contents(clean)
    tally.differences += expected.compare(Contents(scratch / "warm"))[0]
    while tally.kills < kills:
        root = scratch / f"round{tally.rounds}"
        while True:
            kill: dict[str, float] = {"operation": draw.randint(1, max(operations // 4, 2))}
            if draw.random() < 0.5:
                kill = {"after_s": draw.uniform(0.2, 0.5) * seconds}
            if tally.kills >= kills:
                kill = {}
            code = in_child(work, root, kill, log)
            if code != -signal.SIGKILL:
                break
            tally.kills += 1
            tally.before_writes += "operation" in kill
        tally.rounds += 1
        if code != 0:
            tally.failed.append(f"{root.name}: exit {code}: {log.read_text()[-1500:]}")
        else:
            differences, lost, left = expected.compare(Contents(root))
            tally.differences += [f"{root.name}: {x}" for x in differences]
            tally.lost += [f"{root.name}: {x}" for x in lost]
            tally.left_over += [f"{root.name}: {x}" for x in left]
        if told:
            print(f"{name}: {tally.kills} kills in {tally.rounds} rounds, {_bad(tally)} findings")
        if not _bad(tally):
            shutil.rmtree(root)
    return tally


def _bad(tally: Tally) -> int:
    return sum(map(len, (tally.differences, tally.lost, tally.left_over, tally.failed)))


class Contents:
    """Files below a folder, by name without times, and what is in them, without clocks."""

    def __init__(self, root: Path):
        self.root = root
        self.files: dict[str, list[Path]] = {}
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.name not in IGNORED:
                name = STAMP.sub("<time>", str(path.relative_to(root)))
                self.files.setdefault(name, []).append(path)

    def compare(self, other: "Contents") -> tuple[list[str], list[str], list[str]]:
        """Names of files whose content differs, that the other lacks, that it has besides."""
        shared = self.files.keys() & other.files.keys()
        differing = [
            f"{name}: {told}"
            for name in sorted(shared)
            if (
                told := difference(
                    self.files[name][-1], other.files[name][-1], (self.root, other.root)
                )
            )
        ]
        lost = sorted(self.files.keys() - other.files.keys())
        more = sorted(other.files.keys() - self.files.keys())
        # A figure of one run of each group may be of another run, where not all were left to do.
        return differing, lost, [name for name in more if not name.endswith(".png")]


def difference(a: Path, b: Path, roots: tuple[Path, Path]) -> str | None:
    """How the contents of two files differ, clocks and roots aside; none where they do not."""
    if a.suffix in (".png", ".html", ".csv"):
        return None  # made of the others
    read = READERS.get(a.suffix, _digest)
    first, second = (_at("<root>", r, read(path)) for path, r in zip((a, b), roots, strict=True))
    if first == second:
        return None
    if isinstance(first, dict) and isinstance(second, dict):
        names = [n for n in first.keys() | second.keys() if first.get(n) != second.get(n)]
        return ", ".join(f"{n} {first.get(n)!s:.60} / {second.get(n)!s:.60}" for n in names[:4])
    return f"{len(first)} / {len(second)} items" if len(first) != len(second) else "items differ"


def _at(word: str, root: Path, value: Any) -> Any:
    """A value with a word in the place of a root."""
    if isinstance(value, dict):
        return {k: _at(word, root, v) for k, v in value.items()}
    if isinstance(value, list):
        return [_at(word, root, v) for v in value]
    return value.replace(str(root), word) if isinstance(value, str) else value


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if not _is_clock(k)}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return STAMP.sub("<time>", value) if isinstance(value, str) else value


def _is_clock(name: str) -> bool:
    return name in CLOCKS or name.startswith(SPEEDS)


def _json(path: Path) -> Any:
    return _plain(json.loads(path.read_text()))


def _rows(path: Path) -> list[Any]:
    return [_plain(json.loads(line)) for line in path.read_text().splitlines()]


def _arrays(path: Path) -> dict[str, str]:
    arrays = load_file(path) if path.suffix == ".safetensors" else dict(np.load(path))
    return {name: f"{x.dtype}{x.shape} {_hash(x)}" for name, x in arrays.items()}


def _hdf5(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    with h5py.File(path) as file:

        def look(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = f"{item.dtype}{item.shape} {_hash(np.asarray(item[()]))}"

        file.visititems(look)
    return found


def _hash(x: np.ndarray) -> str:
    content = x.tobytes() if x.dtype != object else repr(x.tolist()).encode()
    return hashlib.sha256(content).hexdigest()[:12]


READERS: dict[str, Callable[[Path], Any]] = {
    ".json": _json,
    ".jsonl": _rows,
    ".safetensors": _arrays,
    ".npz": _arrays,
    ".hdf5": _hdf5,
    ".h5": _hdf5,
}


def prepare(loops: Sequence[str], cache: Path) -> None:
    """Import what they need; compile into a cache that all processes share, without optimising."""
    import jax

    from steelyard import studies

    sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))
    studies.STUDIES["toy"] = "toy_study"
    for name in loops:
        studies.get_study(name)
    if set(SIMULATED) & set(loops):
        import envpool  # noqa: F401
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_disable_most_optimizations", True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument(
        "--loops", nargs="*", default=[n for n in LOOPS if n != "toy"], choices=list(LOOPS)
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    options = parser.parse_args()
    place = options.keep or Path(tempfile.mkdtemp(prefix="kills-"))
    prepare(options.loops, place / "compiled")
    share, found = -(-options.kills // len(options.loops)), {}
    for name in options.loops:
        found[name] = dataclasses.asdict(kill_often(name, share, options.seed, place / name))
        print(json.dumps({name: found[name]}, indent=1), flush=True)
    keys = ("kills", "before_writes", "rounds")
    table = {
        name: {k: tally[k] for k in keys}
        | {k: len(tally[k]) for k in ("differences", "lost", "left_over", "failed")}
        for name, tally in found.items()
    }
    if options.out:
        command = f"python tests/reliability/kill_loops.py --kills {options.kills}"
        told = {"command": command, "seed": options.seed, "loops": table}
        options.out.write_text(json.dumps(told, indent=1) + "\n")
    if not options.keep:
        shutil.rmtree(place)
    bad = sum(t[k] for t in table.values() for k in ("differences", "lost", "left_over", "failed"))
    print(json.dumps(table, indent=1))
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
