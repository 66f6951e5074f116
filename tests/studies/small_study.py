"""The imitation study at a size that takes seconds, and how the tests run and report it."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.formats import load_demonstrations
from steelyard.reports import write_report, write_results
from steelyard.studies.cells import Store
from steelyard.studies.engine import Options, run_study
from steelyard.studies.imitation import STUDY
from steelyard.studies.imitation.config import ImitationConfig
from steelyard.training.metrics import CLOCK_KEYS

EXPERT_FRAMES = 3_000


@contextlib.contextmanager
def quiet(description, total):
    yield lambda step, note="": None


def smoke(**changes) -> ImitationConfig:
    """The smoke preset with a single seed and smaller imitators."""
    config = STUDY.configure("smoke")
    return dataclasses.replace(config, seeds=(0,), ipmd_frames=1_000, **changes)


def run(root: Path, config: ImitationConfig, progress=quiet, **options) -> Path:
    return run_study(STUDY, config, "smoke", "cmd", Options(root, **options), progress)


def without_clock(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in CLOCK_KEYS}


def report(root: Path, config: ImitationConfig, folder: Path):
    records, spec = STUDY.records(config, Store(root, "imitation"), "smoke", "cmd")
    write_report(records, spec, folder)
    write_results(records, spec, folder)
    return records, spec


class Finished:
    """A finished study: its folders, cells and records."""

    def __init__(self, root: Path):
        self.root, self.config = root, smoke()
        self.store = Store(root, "imitation")
        self.folder = run(root, self.config)
        self.records, self.spec = report(root, self.config, self.folder)
        self.cells = {c.arm: c for c in STUDY.plan(self.config, self.store)}

    def path(self, arm: str) -> Path:
        return self.store.folder(self.cells[arm]).path

    def record(self, arm: str):
        (found,) = (record for record in self.records if record.arm == arm)
        return found

    @property
    def expert_data(self) -> Path:
        return self.path("expert") / "expert_data" / "Pendulum-v1" / "seed0"


def shared(study, expert_data: str, **changes) -> ImitationConfig:
    return dataclasses.replace(
        study.config, expert_data=expert_data, arms=("random", "bc"), **changes
    )


def with_rewards_times(study, factor: float, folder: Path) -> Demonstrations:
    data = load_demonstrations(study.expert_data)
    scaled = dataclasses.replace(data, rewards=data.rewards * np.float32(factor))
    scaled.save(folder)
    return scaled
