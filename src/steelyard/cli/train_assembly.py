"""``steelyard train base`` and ``train residual-ppo``: the steps of the assembly study."""

import argparse
import dataclasses
import difflib
import hashlib
import re
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from steelyard.agents.chunked_bc import ChunkedBCConfig
from steelyard.agents.ppo import PPOConfig
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.specs import compare_specs
from steelyard.emphasis.demonstrations import EmphasisConfig
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.envs.registry import env_spec
from steelyard.envs.seeding import evaluation_seeds, training_seeds
from steelyard.files import field, read_json
from steelyard.numerics.tail_statistics import wilson
from steelyard.studies.assembly.config import configure
from steelyard.studies.assembly.execute import clone, learn
from steelyard.studies.assembly.plan import Cloned, Residual
from steelyard.studies.assembly.policies import BASE_FILE, OWN_BASE, load_base
from steelyard.studies.hardware import use_device
from steelyard.studies.imitation.sources import find_dataset
from steelyard.training.base_policy import BaseRun
from steelyard.training.group import RunGroup
from steelyard.training.holds import hold_to_the_end
from steelyard.training.metrics import SinkOptions
from steelyard.training.on_policy import OnPolicyConfig
from steelyard.training.on_policy_update import UpdateConfig
from steelyard.training.plain import from_plain
from steelyard.training.progress import progress
from steelyard.training.residual import PLANE, ResidualRun
from steelyard.training.residual_console import lines, opening
from steelyard.training.run_folder import RunFolder, run_id

PLAIN = tyro.conf.arg(name="")
PROG = "steelyard train residual-ppo"


@dataclasses.dataclass(frozen=True)
class Shared:
    """Options of both commands."""

    seed: int = 0
    """Seed of the run."""
    eval_episodes: int = 200
    """Fixed start states on which the policy is scored."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    sinks: Annotated[SinkOptions, PLAIN] = SinkOptions()
    """Where metrics go besides `metrics.jsonl`."""


@dataclasses.dataclass(frozen=True)
class TrainBase:
    """Clone a base policy that plans chunks of actions, and freeze it."""

    demonstrations: Annotated[Path, tyro.conf.Positional]
    """Demonstrations, in any format of `steelyard data`."""
    agent: Annotated[ChunkedBCConfig, PLAIN]
    emphasis: EmphasisConfig
    """How much each demonstration counts."""
    epochs: int
    """Passes over the training steps."""
    min_steps: int
    """Least number of gradient steps, for small datasets."""
    validation_share: float
    """Share of episodes held out; none where that is less than five."""
    shared: Annotated[Shared, PLAIN] = Shared()
    strict: bool = False
    """Stop where the base never succeeds, or in more than 98 %."""


@dataclasses.dataclass(frozen=True)
class TrainResidual:
    """Learn a residual by PPO on a frozen base; `--use-cupid` lets some items count more."""

    agent: Annotated[PPOConfig, PLAIN]
    update: Annotated[UpdateConfig, PLAIN]
    loop: Annotated[OnPolicyConfig, PLAIN]
    cupid: Annotated[CupidConfig, PLAIN]
    env: str
    """Task."""
    base: Path | None = None
    """Run folder of a base; none takes the plane's own, or learns without one (plain PPO)."""
    config: Path | None = None
    """JSON file with any of these settings, by their names in the reference; options win."""
    preset: str = "task"
    """`task`: sizes for two cores; `resip`: the reference's."""
    shared: Annotated[Shared, PLAIN] = Shared()


def train_base(rest: list[str]) -> None:
    """Run ``train base``."""
    run = BaseRun()
    parts = (run.agent, run.emphasis, run.epochs, run.min_steps, run.validation_share)
    default = TrainBase(Path("."), *parts)
    options = tyro.cli(TrainBase, default=default, args=rest, prog="steelyard train base")
    data = Demonstrations.load(find_dataset(options.demonstrations))
    compare_specs(data.env_spec, env_spec(data.env_spec.id))
    run = BaseRun(
        env=data.env_spec.id,
        agent=options.agent,
        epochs=options.epochs,
        min_steps=options.min_steps,
        validation_share=options.validation_share,
        emphasis=options.emphasis,
    )
    shared = options.shared
    _check(shared)
    settings = Cloned(run.env, run, None, len(data), shared.eval_episodes)
    folder = _open("train_base", "base", shared, settings, {"dataset": data.sha256})
    if folder.status()["state"] != "done":
        group = RunGroup([shared.seed], [folder], "base", shared.sinks)
        try:
            with progress(f"base, seed {shared.seed}", run.steps(data.num_steps)) as tick:
                clone(settings, group, [data], tick, options.strict)
        finally:
            group.close()
    _tell(folder, f"base of {run.env}")


def train_residual_ppo(rest: list[str]) -> None:
    """Run ``train residual-ppo``."""
    _refuse_assignments(rest)
    options = tyro.cli(TrainResidual, default=_defaults(rest), args=rest, prog=PROG)
    agent, base = options.agent, None
    if options.base is not None:
        base = load_base(options.base)
        identity = RunFolder(options.base).read("config.json")
        made_for = field(identity, "config", "env", kind=str, place=options.base / "config.json")
        if made_for != options.env:
            raise ValueError(
                f"the base of {options.base} is of {made_for}, the residual's task is {options.env}"
            )
    elif options.env != PLANE and agent.residual:
        print(f"note: no --base, so {options.env} is learned from nothing", file=sys.stderr)
        agent = dataclasses.replace(agent, residual=False)
    run = ResidualRun(options.env, agent, options.update, options.loop, options.cupid)
    shared = options.shared
    _check(shared, run.loop)
    below = None if base is None or options.base is None else _hash(options.base)
    settings = Residual(run, shared.eval_episodes)
    folder = _open("train_residual-ppo", "residual-ppo", shared, settings, {"base": below})
    if below is not None and options.base is not None:
        _keep_base(options.base, folder)
    if folder.status()["state"] not in ("done", "diverged"):
        print(opening(run))
        group = RunGroup([shared.seed], [folder], "residual-ppo", shared.sinks)

        def tell(iteration: int, metrics: dict[str, np.ndarray]) -> None:
            row = {name: float(values[0]) for name, values in metrics.items()}
            print("\n".join(lines(run, iteration, row)))

        try:
            with progress(f"residual-ppo, seed {shared.seed}", run.loop.frames) as tick:
                learn(settings, group, [base], tick, tell)
        finally:
            group.close()
    _tell(folder, f"residual-ppo on {run.env}")


def _open(
    study: str, arm: str, shared: Shared, settings: Any, more: dict[str, str | None]
) -> RunFolder:
    """The run's folder; what was run before with the same settings is found again."""
    use_device(shared.device)
    identity = {"study": study, "arm": arm, "seed": shared.seed, "config": settings, **more}
    folder = RunFolder(shared.runs / study / run_id(identity)).open(identity)
    hold_to_the_end(folder.path)
    return folder


def _check(shared: Shared, loop: OnPolicyConfig | None = None) -> None:
    """Refuse numbers that would stop a run only after it has worked.

    Raises:
        ValueError: Names the rule and the value.
    """
    evaluation_seeds(shared.eval_episodes)
    if loop is not None:
        training_seeds(shared.seed, loop.num_envs, loop.last_generation)


def _tell(folder: RunFolder, what: str) -> None:
    status, result = folder.status(), folder.read("result.json")
    if result is None:
        raise FloatingPointError(status.get("error", f"{folder.path} has no result"))
    won = np.asarray(result["success"])
    rate = wilson(int(won.sum()), len(won))
    print(
        f"{what}: {won.sum()} of {len(won)} episodes succeed, {rate.value:.1%} "
        f"[{rate.low:.1%}, {rate.high:.1%}] (95 %, Wilson)"
    )
    print(f"run folder: {folder.path}")


def _keep_base(base: Path, folder: RunFolder) -> None:
    """Put the base beside the residual, so that the run folder can be moved."""
    for name in ("config.json", BASE_FILE):
        target = folder.path / OWN_BASE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base / name, target)


def _hash(base: Path) -> str:
    return hashlib.sha256((base / BASE_FILE).read_bytes()).hexdigest()


def _refuse_assignments(rest: list[str]) -> None:
    """Answer the reference's ``key=value`` with our spelling.

    Raises:
        ValueError: There is such an argument.
    """
    found = [re.fullmatch(r"(\w[\w.]*)=(.*)", argument) for argument in rest]
    spelled = []
    for match in filter(None, found):
        name, value = match[1].replace("_", "-"), match[2]
        switches = {"true": f"--{name}", "false": f"--no-{name}"}
        spelled.append(switches.get(value.lower(), f"--{name} {value}"))
    if spelled:
        raise ValueError(
            f"options are written `--key value`; here: {PROG} … {' '.join(spelled)}. A file of "
            "settings is `--config FILE.json`"
        )


def _defaults(rest: list[str]) -> TrainResidual:
    """What the options change: the preset's settings, with those of ``--config`` in them."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--env", default=PLANE)
    first.add_argument("--preset", default="task")
    first.add_argument("--config", type=Path)
    chosen, _ = first.parse_known_args(rest)
    if chosen.preset not in ("task", "resip"):
        raise ValueError(f"preset is task or resip, got {chosen.preset!r}")
    env_spec(chosen.env)  # refuses an unknown task, with the nearest ones
    config = configure("resip" if chosen.preset == "resip" else "quick")
    runs = {part.run.env: part.run for part in (config.nut, config.peg, config.plane)}
    run = config.plane.run if chosen.preset == "resip" else runs.get(chosen.env, config.peg.run)
    found = TrainResidual(run.agent, run.update, run.loop, run.cupid, chosen.env)
    return found if chosen.config is None else _with_file(found, chosen.config)


def _with_file(found: TrainResidual, path: Path) -> TrainResidual:
    """Settings with a file's in them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON object, a key is unknown, or a value is refused.
    """
    given = read_json(path)
    groups: dict[str, Any] = {
        name: getattr(found, name) for name in ("agent", "update", "loop", "cupid")
    }
    known = {f.name: group for group, part in groups.items() for f in dataclasses.fields(part)}
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{path}: unknown key {key!r}{hint} Legal: {', '.join(known)}")
    for name, part in groups.items():
        own = {key: value for key, value in given.items() if known[key] == name}
        checked = from_plain(type(part), dataclasses.asdict(part) | own, str(path))
        groups[name] = checked
    return dataclasses.replace(found, config=path, **groups)
