"""``steelyard train LEARNER``: one learner, one seed; here those of the imitation study."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from steelyard.agents.bc import BCConfig
from steelyard.agents.ipmd import IPMDConfig
from steelyard.agents.sac import SACConfig
from steelyard.cli import choose
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.formats.native import BUFFER_FILE
from steelyard.data.specs import compare_specs
from steelyard.emphasis.demonstrations import EmphasisConfig
from steelyard.envs.registry import env_spec
from steelyard.envs.robopianist_songs import PREFIX as PIANO
from steelyard.studies.cells import Cell, Saved, Store
from steelyard.studies.executors import run_group
from steelyard.studies.hardware import use_device
from steelyard.studies.imitation import STUDY
from steelyard.studies.imitation.config import PRESETS, ImitationConfig, configure
from steelyard.studies.imitation.plan import Expert, Learner
from steelyard.studies.imitation.sources import expert_data_folder, find_dataset
from steelyard.training.metrics import SinkOptions
from steelyard.training.off_policy import OffPolicyConfig
from steelyard.training.progress import progress
from steelyard.training.recipes import BCRun, IPMDRun, SACRun, bc_steps
from steelyard.training.tasks import task_runs

PLAIN = tyro.conf.arg(name="")
PROJECTS = {"sac": "RLOpt-ExpertData", "ipmd": "RLOpt-IPMD", "bc": "RLOpt-BC"}
"""Weights & Biases projects of the reference code, used under its preset."""
PRESET_HELP = (
    f"Sizes of a preset of the study: {', '.join(f'`{name}`' for name in PRESETS)}; "
    "none takes the task's own. `reference` takes the reference code's."
)


@dataclasses.dataclass(frozen=True)
class Common:
    """Options of every learner."""

    env: str | None = None
    """Task; an imitator reads it from the dataset."""
    preset: Annotated[str | None, tyro.conf.arg(help=PRESET_HELP)] = None
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    eval_episodes: int = 100
    """Fixed start states on which the policy is scored."""
    sinks: Annotated[SinkOptions, PLAIN] = SinkOptions()
    """Where metrics go besides `metrics.jsonl`."""
    compile: bool = True
    """Accepted for users of the reference code; JAX always compiles."""
    cudagraphs: bool = False
    """Accepted for users of the reference code; JAX needs no such thing."""


@dataclasses.dataclass(frozen=True)
class TrainSAC:
    """Train a SAC expert on the task's reward, then record demonstrations."""

    agent: Annotated[SACConfig, PLAIN]
    loop: Annotated[OffPolicyConfig, PLAIN]
    common: Annotated[Common, PLAIN] = Common()
    observation_scale: tuple[float, ...] | None = None
    """Fixed factor per observation component, or one for all; none normalises by running
    statistics."""
    keep_policies: bool = False
    """Keep the policy of every checkpoint; also what `--checkpoint-every N` says."""
    seed: int = 42
    """Seed of the run."""
    num_episodes: int = 100
    """Episodes to record with the trained policy's mean."""
    save_dir: Path | None = None
    """Also put the demonstrations into SAVE_DIR/ENV/seedN; none keeps them in the run folder."""
    overwrite: bool = False
    """Replace other demonstrations that are in SAVE_DIR/ENV/seedN."""


@dataclasses.dataclass(frozen=True)
class TrainIPMD:
    """Learn a reward and a policy from demonstrations; the task's reward is never read."""

    expert_data: Annotated[Path, tyro.conf.Positional]
    """Demonstrations, in any format of `steelyard data`."""
    agent: Annotated[IPMDConfig, PLAIN]
    loop: Annotated[OffPolicyConfig, PLAIN]
    emphasis: EmphasisConfig
    """How much each demonstration counts."""
    common: Annotated[Common, PLAIN] = Common()
    seed: int = 43
    """Seed of the run."""
    bc_pretrain_updates: int = 0
    """Behaviour-cloning steps of the actor before the first update."""
    demonstrations: int | None = None
    """Use the first N episodes only."""
    arm: str = "ipmd"
    """Name of the arm; with a positive env_reward_weight it must be `mixed_reward`."""


@dataclasses.dataclass(frozen=True)
class TrainBC:
    """Regress the demonstrated actions, offline."""

    expert_data: Annotated[Path, tyro.conf.Positional]
    """Demonstrations, in any format of `steelyard data`."""
    agent: Annotated[BCConfig, PLAIN]
    emphasis: EmphasisConfig
    """How much each demonstration counts."""
    epochs: int
    """Passes over the training rows."""
    min_steps: int
    """Least number of gradient steps, for small datasets."""
    validation_share: float
    """Share of episodes held out; rounded down."""
    common: Annotated[Common, PLAIN] = Common()
    seed: int = 44
    """Seed of the run."""
    demonstrations: int | None = None
    """Use the first N episodes only."""


def main(arguments: list[str]) -> None:
    """Dispatch ``train`` commands."""
    commands = {
        "sac": _sac,
        "ipmd": _ipmd,
        "bc": _bc,
        "dynamics": _dynamics,
        "base": _base,
        "residual-ppo": _residual_ppo,
        "acfql": _acfql,
        "cpl": _cpl,
    }
    rest = arguments[1:]
    if not rest or rest[0] in ("-h", "--help"):
        print("usage: steelyard train sac | ipmd DATA | bc DATA | dynamics DATA [options]")
        print("       steelyard train base DATA | residual-ppo --base RUN [options]")
        print("       steelyard train acfql --env-name TASK [options]")
        print("       steelyard train cpl --sac-checkpoint RUN --preference-data DATA [options]")
        print("       each has --help")
        return
    learner = choose(rest[0], commands)
    if learner in ("sac", "ipmd", "bc") and {"-h", "--help"} & set(rest):  # help needs no dataset
        runs = task_runs("Pendulum-v1")
        shown = {"sac": _sac_options, "ipmd": _ipmd_options, "bc": _bc_options}[learner]
        shown(getattr(runs, learner), ["--help"])
    commands[learner](rest[1:])


def _dynamics(rest: list[str]) -> None:
    from steelyard.cli import dynamics  # brings the car's modules, which no other learner needs

    dynamics.train(rest)


def _base(rest: list[str]) -> None:
    from steelyard.cli import train_assembly

    train_assembly.train_base(rest)


def _residual_ppo(rest: list[str]) -> None:
    from steelyard.cli import train_assembly

    train_assembly.train_residual_ppo(rest)


def _acfql(rest: list[str]) -> None:
    from steelyard.cli.train_acfql import train_acfql

    train_acfql(rest)


def _cpl(rest: list[str]) -> None:
    from steelyard.cli import train_cpl

    train_cpl.train(rest)


def _sac_options(run: SACRun, rest: list[str]) -> TrainSAC:
    default = TrainSAC(
        run.agent,
        run.loop,
        observation_scale=run.observation_scale,
        keep_policies=run.keep_policies,
    )
    if run.env.startswith(PIANO):  # all its episodes start alike
        common = dataclasses.replace(default.common, eval_episodes=1)
        default = dataclasses.replace(default, common=common, num_episodes=1)
    return tyro.cli(TrainSAC, default=default, args=_expanded(rest), prog="steelyard train sac")


def _expanded(rest: list[str]) -> list[str]:
    """Options of the reference's names in the place of their shorthands."""
    shorthands = {
        "--discount": ["--gamma"],
        "--checkpoint-every": ["--keep-policies", "--checkpoint-interval"],
    }
    words = [word for given in rest for word in _split(given, shorthands)]
    return [new for word in words for new in shorthands.get(word.replace("_", "-"), [word])]


def _split(word: str, shorthands: Mapping[str, Any]) -> list[str]:
    """``--discount=0.8`` as two words; all other words as they are."""
    name, equals, value = word.partition("=")
    return [name, value] if equals and name.replace("_", "-") in shorthands else [word]


def _ipmd_options(run: IPMDRun, rest: list[str]) -> TrainIPMD:
    default = TrainIPMD(Path("."), run.agent, run.loop, run.emphasis)
    return tyro.cli(TrainIPMD, default=default, args=rest, prog="steelyard train ipmd")


def _bc_options(run: BCRun, rest: list[str]) -> TrainBC:
    parts = (run.agent, run.emphasis, run.epochs, run.min_steps, run.validation_share)
    default = TrainBC(Path("."), *parts)
    return tyro.cli(TrainBC, default=default, args=rest, prog="steelyard train bc")


def _sac(rest: list[str]) -> None:
    base = _settings(rest, None).sac
    options = _sac_options(base, rest)
    run = dataclasses.replace(
        base,
        agent=options.agent,
        loop=options.loop,
        observation_scale=options.observation_scale,
        keep_policies=options.keep_policies,
    )
    settings = Expert(run, options.num_episodes, options.common.eval_episodes)
    cell = Cell("train_sac", "expert", options.seed, settings, size=run.loop.frames)
    config = ImitationConfig(env=run.env, seeds=(options.seed,), sac=run)
    own = expert_data_folder(Store(options.common.runs, cell.study), cell, run.env)
    target = options.save_dir and options.save_dir / run.env / f"seed{options.seed}"
    if target is not None and not options.overwrite:
        _refuse_others(target, own)
    _warn_if_short(run.env, run.loop)
    _train(cell, config, options.common, "sac")
    data = Demonstrations.load(own)
    print(
        f"demonstrations: {own} (mean return {data.returns().mean():.1f} over {len(data)} episodes)"
    )
    if target is not None:
        print(f"copied to: {data.save(target, overwrite=True)}")


def _refuse_others(target: Path, own: Path) -> None:
    """Refuse to write where there is anything but what this very run has left.

    Raises:
        FileExistsError: There is; names the place and the option.
    """
    files = [folder / BUFFER_FILE for folder in (target, own)]
    same = all(file.exists() for file in files) and len({file.read_bytes() for file in files}) == 1
    if target.exists() and not same:
        raise FileExistsError(
            f"{target} exists and is not what this run has recorded. Choose another --save-dir, or "
            "replace it with --overwrite."
        )


def _ipmd(rest: list[str]) -> None:
    data, env = _dataset(rest, "ipmd")
    base = _settings(rest, env).ipmd
    options = _ipmd_options(base, rest)
    if options.agent.env_reward_weight > 0 and options.arm != "mixed_reward":
        raise ValueError(
            "arm 'ipmd' never sees the task's reward, got env_reward_weight = "
            f"{options.agent.env_reward_weight}; a mixed reward is `--arm mixed_reward`"
        )
    run = dataclasses.replace(
        base,
        agent=options.agent,
        loop=options.loop,
        emphasis=options.emphasis,
        bc_pretrain_updates=options.bc_pretrain_updates,
    )
    _warn_if_short(run.env, run.loop)
    _imitate(data, run, options, options.arm, run.loop.frames)


def _bc(rest: list[str]) -> None:
    data, env = _dataset(rest, "bc")
    base = _settings(rest, env).bc
    options = _bc_options(base, rest)
    run = dataclasses.replace(
        base,
        agent=options.agent,
        emphasis=options.emphasis,
        epochs=options.epochs,
        min_steps=options.min_steps,
        validation_share=options.validation_share,
    )
    used = data.first(options.demonstrations or len(data))
    _imitate(data, run, options, "bc", bc_steps(run, [used], [options.seed]))


def _imitate(data: Demonstrations, run: Any, options: Any, arm: str, size: int) -> None:
    count = len(data) if options.demonstrations is None else options.demonstrations
    data.first(count)  # refuses more than there are
    axes = {"demonstrations": count, "quality": "expert"}
    settings = Learner(run, options.common.eval_episodes, data.sha256)
    cell = Cell(f"train_{arm}", arm, options.seed, settings, axes, None, size)
    config = ImitationConfig(
        env=run.env, seeds=(options.seed,), expert_data=str(find_dataset(options.expert_data))
    )
    _train(cell, config, options.common, "bc" if arm == "bc" else "ipmd")
    if data.rewards is not None:
        print(f"demonstrations' mean return: {data.returns().mean():.2f}")


def _train(cell: Cell, config: ImitationConfig, common: Common, learner: str) -> Store:
    use_device(common.device)
    store, sinks = Store(common.runs, cell.study), common.sinks
    if common.preset == "reference" and sinks.wandb_project == SinkOptions.wandb_project:
        sinks = dataclasses.replace(sinks, wandb_project=PROJECTS[learner])
    folder = store.folder(cell)
    if folder.status()["state"] not in ("done", "diverged"):
        saved = Saved("imitation", common.preset or "task", shown(sys.argv), sinks, config)
        with progress(f"{cell.label}, seed {cell.seed}", cell.size) as tick:
            run_group(STUDY, [cell], saved, store, tick)
    status = folder.status()
    if status["state"] == "diverged":
        raise FloatingPointError(status["error"])
    returns = np.asarray((folder.read("result.json") or {})["per_start_returns"])
    print(f"{cell.label}, seed {cell.seed}: return {returns.mean():.2f} over {len(returns)} starts")
    print(f"run folder: {folder.path}")
    return store


def _settings(rest: list[str], env: str | None) -> Any:
    """Defaults of the task (or the reference) that the options then change."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--env", default=env or "Pendulum-v1")
    first.add_argument("--preset")
    chosen, _ = first.parse_known_args(rest)
    if chosen.preset is None:
        env_spec(chosen.env)
        return task_runs(chosen.env)
    return configure(chosen.preset, chosen.env)


def _dataset(rest: list[str], learner: str) -> tuple[Demonstrations, str]:
    """The dataset that the options name, and its task; refuses a task that it is not of."""
    if not rest or rest[0].startswith("-"):
        raise ValueError(
            f"which demonstrations? They come first: `steelyard train {learner} DATA ...`"
        )
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--env")
    chosen, _ = first.parse_known_args(rest)
    spec = None if chosen.env is None else env_spec(chosen.env)
    data = Demonstrations.load(find_dataset(Path(rest[0])), spec)
    task = chosen.env or data.env_spec.id
    compare_specs(data.env_spec, env_spec(task))
    return data, task


def _warn_if_short(env: str, loop: OffPolicyConfig) -> None:
    least = env_spec(env).max_episode_steps * loop.num_envs
    if loop.frames < least:
        print(
            f"note: no training episode can end within {loop.frames} frames of {loop.num_envs} "
            f"environments; {least} are the least. Evaluation does not need them.",
            file=sys.stderr,
        )


def shown(arguments: list[str]) -> str:
    """The command line as a user would type it."""
    import shlex

    return shlex.join(["steelyard", *arguments[1:]])
