"""``steelyard train dynamics``: one model of a car, one seed."""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from steelyard.agents.dynamics import Dynamics, DynamicsConfig, parameter_count
from steelyard.cli.dynamics_runs import DATA_FILE, Scored, Source, score, score_line
from steelyard.data.dart import dart_split
from steelyard.data.mushr import mushr_split
from steelyard.data.splits import Split, random_split, write_split
from steelyard.data.trajectories import Trajectories
from steelyard.evaluation.motion_metrics import motion_metrics
from steelyard.studies.car.sources import Test
from steelyard.studies.cells import Cell, Store, open_folders
from steelyard.studies.hardware import hardware, use_device
from steelyard.training.dynamics import DynamicsRun, take_learner, train_dynamics
from steelyard.training.dynamics_files import keep_losses, write_run_files
from steelyard.training.dynamics_windows import Cut
from steelyard.training.group import RunGroup
from steelyard.training.holds import hold_to_the_end
from steelyard.training.metrics import SinkOptions
from steelyard.training.progress import progress
from steelyard.training.reference_car import (
    ReferenceConfig,
    as_reference,
    load_reference_config,
    reference_steps,
    refuse_checkpoint,
    settle_tail,
)
from steelyard.training.run_folder import RunFolder, run_id, write_json

PLAIN = tyro.conf.arg(name="")
DART_STEPS = 40  # 2 s
LARGE = 250  # trajectories from which on 50 test


@dataclasses.dataclass(frozen=True)
class Division:
    """What trains, what chooses the kept model, what tests; whole trajectories."""

    split: Literal["random", "reference"] = "random"
    """`random`, or the reference's shuffled list; DART is always split by file."""
    split_seed: int = 0
    """What draws it; the same for all seeds of the training, so that they can be compared."""
    validation_share: float = 0.1
    """Share of the trajectories that do not test."""
    test: int | None = None
    """Trajectories that test; none takes 50, or a fifth of fewer than 250."""
    fold: int | None = None
    """Free-driving file of DART that chooses the kept model; none takes the seed."""
    held_out_steps: int | None = None
    """Length of the rollouts of validation and test; none: whole trajectories, on DART 2 s."""

    def of(self, data: Trajectories, dart: bool, seed: int) -> Split:
        """Divide some trajectories."""
        if dart:
            return dart_split(data, seed if self.fold is None else self.fold)
        count = data.num_trajectories
        test = self.test if self.test is not None else _default_test(count)
        if not 0 < self.validation_share < 1:
            raise ValueError(f"validation_share must be in (0, 1), got {self.validation_share}")
        if self.split == "reference":
            return mushr_split(data, test)
        validation = max(1, round(self.validation_share * (count - test)))
        return random_split(data, test, validation, self.split_seed)


@dataclasses.dataclass(frozen=True)
class TrainDynamics:
    """Learn the dynamics of a car from recorded motion, by the mean or the tail of its losses."""

    data: Annotated[str | None, tyro.conf.Positional]
    """Folder of trajectories, `dart`, or a simulated set such as `car-mujoco:mixed`."""
    agent: Annotated[DynamicsConfig, PLAIN]
    source: Annotated[Source, PLAIN] = Source()
    division: Annotated[Division, PLAIN] = Division()
    steps: int = DynamicsRun.steps
    """Gradient steps."""
    eval_every: int = DynamicsRun.eval_every
    """Steps between validations, from which the kept model is chosen."""
    vehicle: Literal["mushr", "dart"] = DynamicsRun.vehicle
    """The car that physics starts from."""
    stride: int = DynamicsRun.stride
    """Steps from one training window to the next."""
    block: int | None = DynamicsRun.block
    """Steps of a recording whose windows belong together; none: whole trajectories."""
    min_speed: float = DynamicsRun.min_speed
    """Windows slower than this throughout are left out, m/s."""
    config: Path | None = None
    """A config file of the reference code; single options change it."""
    as_reference: bool = False
    """Also switch off what the reference does not have: grouped tails, warm-up, scale matching,
    the trapezoid, averaged weights, noise; with --config its epochs count, not --steps."""
    seed: int = 0
    """Seed of networks and batches."""
    figures: int | None = None
    """Test trajectories that get a figure of their own; none: all."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    sinks: Annotated[SinkOptions, PLAIN] = SinkOptions()
    """Where metrics go besides `metrics.jsonl`."""

    def run(self) -> DynamicsRun:
        """The settings of the training."""
        return DynamicsRun(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(DynamicsRun)}
        )


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the outcome of a run, besides its seed."""

    run: DynamicsRun
    data: str
    split: str
    held_out_steps: int | None


def train(rest: list[str]) -> None:
    """Run ``train dynamics``."""
    options, config = _options(rest)
    run, notes = settle_tail(options.run())
    for note in dict.fromkeys((*notes, *(config.names.notes if config else ()))):
        print(f"note: {note}", file=sys.stderr)
    name = _data_name(options.data, config)
    use_device(options.device)
    data = options.source.load(name)
    split = options.division.of(data, name == "dart", options.seed)
    parts = split.apply(data)
    if options.as_reference:
        run = as_reference(run)
        if config:
            rows, size = parts[0].num_steps, run.agent.batch_size
            steps = reference_steps(config.names.epochs, rows, size)
            run = dataclasses.replace(run, steps=steps)
    held_out_steps = options.division.held_out_steps or (DART_STEPS if name == "dart" else None)
    settings = Settings(run, data.sha256, run_id(split.parts()), held_out_steps)
    arm = config.names.experiment if config else _arm(run)
    cell = Cell("train_dynamics", arm, options.seed, settings, size=run.steps)
    (folder,) = open_folders([cell], Store(options.runs, cell.study))
    hold_to_the_end(folder.path)
    state = folder.status()
    if state["state"] == "diverged":
        raise FloatingPointError(state["error"])
    write_split(split, data, folder.path)
    write_json(folder.path / DATA_FILE, {"data": _place(name), "source": options.source})
    if state["state"] != "done":
        with _status_kept(folder):
            learner = _train(cell, run, parts, folder, held_out_steps, options.sinks)
            tests = {name: Test(part, _cut(run, held_out_steps)) for name, part in parts[2].items()}
            errors = score(learner, tests, folder.path, options.figures)
            _finish(folder, run, learner, errors)
    _show(folder)


def _arm(run: DynamicsRun) -> str:
    tail = run.agent.loss.rollout_cvar
    return run.agent.model.type + (f"_cvar{tail.alpha:g}" if tail.enabled else "")


def _place(name: str) -> str:
    """A source's name, from whatever folder it is read."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _options(rest: list[str]) -> tuple[TrainDynamics, ReferenceConfig | None]:
    """Defaults of the data and of a config file, which single options then change."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    chosen, _ = first.parse_known_args(rest)
    data = rest[0] if rest and not rest[0].startswith("-") else None
    if data is not None:
        refuse_checkpoint(Path(data))
    names = None if chosen.config is None else load_reference_config(chosen.config)
    run = names.run if names else _dart_run() if data == "dart" else DynamicsRun()
    fields = {f.name: getattr(run, f.name) for f in dataclasses.fields(DynamicsRun)}
    default = TrainDynamics(None, **fields)
    if names:
        division = Division(
            test=names.names.num_eval_trajectories, validation_share=names.names.val_ratio
        )
        default = dataclasses.replace(default, seed=names.seed, division=division)
    return tyro.cli(
        TrainDynamics, default=default, args=rest, prog="steelyard train dynamics"
    ), names


def _dart_run() -> DynamicsRun:
    """What suits the real car: 1 s at 0.05 s, past commands, blocks of 5 s."""
    run = DynamicsRun(vehicle="dart", stride=4, block=100, min_speed=0.1)
    loss = run.agent.loss
    loss = dataclasses.replace(loss, rollout_mse=dataclasses.replace(loss.rollout_mse, horizon=20))
    model = dataclasses.replace(run.agent.model, history=5)
    return dataclasses.replace(run, agent=dataclasses.replace(run.agent, loss=loss, model=model))


def _data_name(data: str | None, names: ReferenceConfig | None) -> str:
    found = data or (names.names.data_dir if names else None)
    if found is None:
        raise ValueError(
            "which trajectories? They come first: `steelyard train dynamics DATA ...`, where DATA "
            "is a folder, `dart`, or a simulated set such as `car-mujoco:mixed`"
        )
    return found


def _default_test(count: int) -> int:
    return 50 if count >= LARGE else max(1, round(0.2 * count))


def _train(
    cell: Cell,
    run: DynamicsRun,
    parts: tuple[Trajectories, Trajectories, Any],
    folder: RunFolder,
    held_out_steps: int | None,
    sinks: SinkOptions,
) -> Dynamics:
    """Train, or go on training, and write the run's files."""
    training, held_out, _ = parts
    group = RunGroup([cell.seed], [folder], cell.arm, sinks)
    batch = run.agent.batch_size
    with (
        contextlib.closing(group),
        progress(f"{cell.arm}, seed {cell.seed}", run.steps) as tick,
    ):
        kept = keep_losses([folder], training.num_steps, batch, tick)
        cut = _cut(run, held_out_steps)
        agents = train_dynamics([run], group, training, held_out, kept, cut=cut)
        learner = take_learner(agents, 0)
        write_run_files(folder.path, run, learner, training)
        return learner


def _cut(run: DynamicsRun, steps: int | None) -> Cut | None:
    """Rollouts of some steps, with just the past before them that the model reads."""
    return None if steps is None else Cut(steps, lead=run.agent.model.history)


@contextlib.contextmanager
def _status_kept(folder: RunFolder) -> Iterator[None]:
    """Leave in a run's status what ended it early."""
    try:
        yield
    except KeyboardInterrupt:
        folder.set_status("interrupted")
        raise
    except Exception as error:
        if folder.status()["state"] != "diverged":
            folder.set_status("failed", error=f"{type(error).__name__}: {error}")
        raise


def _finish(folder: RunFolder, run: DynamicsRun, learner: Dynamics, errors: Scored) -> None:
    seconds = folder.status().get("seconds")
    result = {
        "updates": run.steps,
        "kept_at_step": int(learner.step),
        "parameters": parameter_count(learner.average),
        "seconds": seconds,
        "hardware": hardware(),
        "tests": {
            group: {
                "metrics": str(place.relative_to(folder.path)),
                "ate_m": motion_metrics(found)["ate_m"].tolist(),
                "line": score_line(group, found, place.relative_to(folder.path)),
            }
            for (group, place), found in errors.items()
        },
    }
    write_json(folder.path / "result.json", result)
    folder.set_status("done")


def _show(folder: RunFolder) -> None:
    result = folder.read("result.json") or {}
    print(f"{result['parameters']:,} parameters, kept at step {result['kept_at_step']:,}")
    for test in result["tests"].values():
        print(test["line"])
    print(f"run folder: {folder.path}")
