"""``steelyard evaluate`` and ``export`` of dynamics runs, and what training shares with them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from steelyard.agents.dynamics import Dynamics
from steelyard.cli.data_car import load_trajectories
from steelyard.data.findings import DatasetNotFoundError
from steelyard.data.splits import SPLIT_FILE, choose, read_split, take
from steelyard.data.trajectories import Trajectories
from steelyard.evaluation.motion_metrics import MotionErrors, motion_metrics
from steelyard.evaluation.motion_plots import file_stem
from steelyard.numerics.tail_statistics import summarise_tail
from steelyard.studies.car.reference_tree import write_reference_tree
from steelyard.studies.car.sources import Test, source_of_run
from steelyard.training.dynamics_export import export_onnx
from steelyard.training.dynamics_files import MODEL_FILE, load_model
from steelyard.training.dynamics_scores import evaluate_model, evaluation_name
from steelyard.training.dynamics_windows import Cut
from steelyard.training.reference_car import refuse_checkpoint
from steelyard.training.run_folder import RunFolder

DATA_FILE = "data.json"
"""Where a run's data came from: not part of its identity, since data may move."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the trajectories come from, besides their name."""

    trajectories: int = 200
    """How many to simulate, where DATA is `car-mujoco:SET` or `car-single-track:SET`."""
    data_seed: int = 1
    """Seed of the simulated set."""
    dart_dir: str | None = None
    """Folder of the DART recordings; none looks in $STEELYARD_DART_DIR and beside the checkout."""
    cache: Path | None = None
    """Where simulated parts are kept; none takes $STEELYARD_CACHE, else `~/.cache/steelyard`."""

    @classmethod
    def of(cls, saved: dict[str, Any]) -> "Source":
        """The one that a run has saved."""
        given = {name: value for name, value in saved.items() if name != "kind"}
        return cls(**{**given, "cache": Path(given["cache"]) if given.get("cache") else None})

    def load(self, data: str) -> Trajectories:
        """Read or simulate."""
        return load_trajectories(data, self.trajectories, self.data_seed, self.dart_dir, self.cache)


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Roll a trained model out on test trajectories and write metrics and figures."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, e.g. runs/train_dynamics/0123456789ab."""
    num_eval_trajs: int | None = None
    """How many test trajectories, of each group; none: all."""
    random: bool = False
    """Draw them; from the test set only."""
    seed: int = 0
    """Seed of that draw."""
    data: str | None = None
    """Where the run's data lie now; none: where they lay."""
    held_out_steps: int | None = None
    """Length of the rollouts; none: as in training."""
    figures: int | None = None
    """Trajectories that get a figure of their own; none: all."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a trained model, or a study's runs, for other programs."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, e.g. runs/train_dynamics/0123456789ab; with `--to reference` a study's folder,
    e.g. runs/car/study_matrix_01234567."""
    to: Literal["onnx", "reference"] = "onnx"
    """`onnx`: one step of a model. `reference`: the tree of files that the scripts of the MuSHR
    experiments read."""
    out: Path | None = None
    """File or folder to write; none puts it into the `export` of the run, or of the study."""


def evaluate(rest: list[str]) -> None:
    """Run ``evaluate`` on a run of a dynamics model, of its own or of the car study."""
    options = tyro.cli(Evaluate, args=rest, prog="steelyard evaluate")
    folder = RunFolder(options.run)
    learner = _kept(folder)
    settings = folder.read("config.json") or {}
    if settings.get("study") == "car":
        whole = source_of_run(options.run).tests
    else:
        data, names = _test_data(folder, options)
        steps = settings.get("config", {}).get("held_out_steps")
        cut = None if steps is None else Cut(steps, lead=learner.config.model.history)
        whole = {group: Test(take(data, ids), cut) for group, ids in names.items()}
    errors = score(
        learner,
        {group: _chosen(test, options, learner) for group, test in whole.items()},
        options.run,
        options.figures,
        requested=options.num_eval_trajs,
        random=options.random,
        seed=options.seed if options.random else None,
    )
    for (group, place), found in errors.items():
        print(score_line(group, found, place))


def _chosen(test: Test, options: Evaluate, learner: Dynamics) -> Test:
    """The part of a test set that was asked for, in rollouts of the length asked for."""
    ids = test.trajectories.ids
    count = len(ids) if options.num_eval_trajs is None else options.num_eval_trajs
    ids = choose(ids, count, options.random, options.seed)
    cut = test.cut
    if options.held_out_steps is not None:
        lead = learner.config.model.history if cut is None else cut.lead
        cut = Cut(options.held_out_steps, lead)
    return Test(take(test.trajectories, ids), cut)


def _test_data(
    folder: RunFolder, options: Evaluate
) -> tuple[Trajectories, Mapping[str, Sequence[str]]]:
    """The data of a run of its own, and the names of its test trajectories by group."""
    saved = folder.read(DATA_FILE)
    if options.data is None and saved is None:
        raise DatasetNotFoundError(f"{options.run} does not say where its data lie: pass --data")
    saved = saved or {"data": options.data, "source": {}}
    data = Source.of(saved["source"]).load(options.data or saved["data"])
    return data, read_split(options.run, data).test


def export(arguments: list[str]) -> None:
    """Run ``export``."""
    options = tyro.cli(Export, args=arguments[1:], prog="steelyard export")
    if options.to == "reference":
        out = options.out or options.run / "export" / "experiments-v2"
        folders = write_reference_tree(options.run, out)
        print(f"written: {len(folders)} runs → {out}")
        return
    learner = _kept(RunFolder(options.run))
    out = options.out or options.run / "export" / f"model.{options.to}"
    print(f"written: {export_onnx(learner, out)} (and {out.with_suffix('.json').name} about it)")


main = export


def is_dynamics_run(words: list[str]) -> bool:
    """Whether one of some words is the folder of a dynamics run, or a checkpoint of one.

    Raises:
        ValueError: One is a pickled checkpoint.
    """
    paths = [Path(word) for word in words if not word.startswith("-")]
    for path in paths:
        refuse_checkpoint(path)
    return any((path / SPLIT_FILE).exists() or (path / MODEL_FILE).exists() for path in paths)


Scored = dict[tuple[str, Path], MotionErrors]


def score(
    learner: Dynamics, tests: dict[str, Test], folder: Path, figures: int | None, **how: Any
) -> Scored:
    """Evaluate on each group of test trajectories; groups are never pooled."""
    stamp, found = evaluation_name(folder), {}
    for group, (part, cut) in tests.items():
        name = stamp if len(tests) == 1 else f"{stamp}_{file_stem(group)}"
        errors = evaluate_model(learner, part, folder, name=name, cut=cut, figures=figures, **how)
        found[group, folder / "eval" / name / "metrics.json"] = errors
    return found


def score_line(group: str, errors: MotionErrors, place: Path) -> str:
    """What a group of rollouts amounts to, on one line."""
    metrics = motion_metrics(errors)
    tail = summarise_tail(np.asarray(metrics["ate_m"]))
    diverged = int(np.sum(metrics["diverged"]))
    return (
        f"{group}: {tail.n} rollouts, mean position error {tail.mean:.3g} m, median "
        f"{tail.median:.3g}, worst fifth {tail.cvar20:.3g}, worst {tail.max:.3g}"
        + (f", {diverged} diverged" if diverged else "")
        + f"  → {place}"
    )


def _kept(folder: RunFolder) -> Dynamics:
    """The kept model of a finished run.

    Raises:
        FileNotFoundError: There is none.
    """
    if not (folder.path / MODEL_FILE).exists():
        raise FileNotFoundError(
            f"{folder.path} has no {MODEL_FILE} (state {folder.status()['state']}). Run the same "
            "command again to finish it."
        )
    return load_model(folder.path)
