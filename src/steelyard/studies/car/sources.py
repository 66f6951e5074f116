"""The trajectories of the car study: simulated ones, made once and kept, and the real car's."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from steelyard.data.car import car_trajectories
from steelyard.data.dart import dart_split, load_dart
from steelyard.data.dart_files import find_dart
from steelyard.data.trajectories import Trajectories
from steelyard.envs.car.generate import generate
from steelyard.envs.car.single_track import generate_single_track
from steelyard.files import field, read_json
from steelyard.studies.car.config import RealData, SimulatedData
from steelyard.studies.cells import Store
from steelyard.training.dynamics_windows import Cut
from steelyard.training.plain import ConfigError, from_plain

HOLD_OUT = "dart hold-out"
DART_STEP_S = 0.05
DART_LEAD = 25  # steps before a rollout: a second of context, and past commands


class Test(NamedTuple):
    """What a model is scored on.

    Attributes:
        trajectories: What to predict.
        cut: How rollouts are cut from them; none for whole trajectories.
    """

    trajectories: Trajectories
    cut: Cut | None = None


class Source(NamedTuple):
    """What one run learns from, is chosen by, and is scored on.

    Attributes:
        train: To learn from.
        validation: To choose the kept model by.
        tests: To score on, by name.
        cut: How rollouts are cut in validation; none for whole trajectories.
    """

    train: Trajectories
    validation: Trajectories
    tests: dict[str, Test]
    cut: Cut | None


@dataclasses.dataclass(frozen=True)
class Fold:
    """One split of the real car's recordings by file."""

    fold: int
    sha256: str
    """Of the recordings."""
    rollout_s: float = 2.0
    """Length of a rollout, s."""
    long_rollout_s: float = 5.0
    """Length of the rollouts of a second round of tests, s."""
    lead: int = DART_LEAD
    """Steps before one."""

    def cut(self, length_s: float) -> Cut:
        """How rollouts of a length are cut."""
        return Cut(round(length_s / DART_STEP_S), self.lead)


def data_folder(store: Store) -> Path:
    """Where simulated trajectories are kept, beside the runs."""
    return store.path / "data"


def simulate(
    data: SimulatedData, name: str, count: int, seed: int, store: Store, tick: Callable = print
) -> Trajectories:
    """The first trajectories of a set, from the cache where they are there."""
    if data.simulator == "car-single-track":
        recordings = generate_single_track(name, count, seed)
    else:
        recordings = generate(
            name, count, seed, cache=data_folder(store), threads=2, tick=lambda done: tick(done)
        )
    return car_trajectories(recordings, name, {"simulator": data.simulator, "seed": seed})


def simulated_parts(data: SimulatedData) -> list[tuple[str, str, int, int]]:
    """Part, set, trajectories and seed of everything that is simulated."""
    parts = [
        ("train", data.set, data.train, data.seed),
        ("validation", data.set, data.validation, data.seed + 1),
        (data.set, data.set, data.test, data.seed + 2),
    ]
    return parts + [(name, name, data.shift_test, data.seed + 2) for name in data.shifts]


def simulated_source(data: SimulatedData, store: Store, tick: Callable = lambda _: None) -> Source:
    """Simulate, or read, all parts."""
    made: dict[str, Trajectories] = {}
    done = 0
    for part, name, count, seed in simulated_parts(data):
        made[part] = simulate(
            data, name, count, seed, store, lambda n, before=done: tick(before + n)
        )
        done += count
        tick(done)
    tests = {n: Test(t) for n, t in made.items() if n not in ("train", "validation")}
    return Source(made["train"], made["validation"], tests, None)


@functools.cache
def dart_sha256(folder: Path) -> str:
    """sha-256 of all recordings in a folder, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.csv")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def pinned(real: RealData) -> RealData:
    """The real car's data with the content that is there now; without arms where there is none."""
    folder = find_dart(real.dart_dir)
    if folder is None:
        return dataclasses.replace(real, arms=(), sha256=None)
    return dataclasses.replace(real, sha256=dart_sha256(folder))


@functools.cache
def _dart(folder: Path) -> Trajectories:
    return load_dart(folder)


def real_source(real: RealData, fold: Fold) -> Source:
    """One fold of the real car's recordings; ``hold-out`` is the file that selects.

    Every group of tests is there twice: in short rollouts, and in long ones (``<name>, 5 s``).

    Raises:
        FileNotFoundError: The recordings are not there any more.
    """
    folder = find_dart(real.dart_dir)
    if folder is None:
        raise FileNotFoundError("the DART recordings are not there any more; see --real.dart-dir")
    train, validation, tests = dart_split(_dart(folder), fold.fold).apply(_dart(folder))
    named = {f"dart {group}": part for group, part in tests.items()} | {HOLD_OUT: validation}
    short, long = fold.cut(fold.rollout_s), fold.cut(fold.long_rollout_s)
    scored = {name: Test(part, short) for name, part in named.items()}
    scored |= {long_name(name, fold): Test(part, long) for name, part in named.items()}
    return Source(train, validation, scored, short)


def long_name(name: str, fold: Fold) -> str:
    """Name of a group of tests in its long rollouts."""
    return f"{name}, {fold.long_rollout_s:g} s"


def source_of_run(path: Path) -> Source:
    """The trajectories of a finished run of the study, from what its folder says.

    Args:
        path: ``<runs>/car/<run id>``.

    Raises:
        ConfigError: Its ``config.json`` is not one of this study's.
    """
    place = str(path / "config.json")
    content = read_json(place, ConfigError)
    saved = field(content, "config", "data", kind=dict, place=place, error=ConfigError)
    if saved.get("kind") == "Fold":
        return real_source(RealData(), from_plain(Fold, saved, place, "data"))
    data = from_plain(SimulatedData, saved, place, "data")
    return simulated_source(data, Store(path.resolve().parent.parent, "car"))
