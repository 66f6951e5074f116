"""``steelyard data inspect|check|convert|generate|cluster|segments|film|import``."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from steelyard.cli import choose, data_assembly, data_car
from steelyard.data.checks import check_dataset, inspect
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.formats import FORMATS, load_demonstrations
from steelyard.envs.registry import env_spec
from steelyard.studies.imitation.sources import find_dataset
from steelyard.types import EnvSpec

GENERATED = ("operators", "robosuite", "ogbench")
"""Sources of the offline-to-online study's data."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset on disk, and what its file may not say."""

    path: Annotated[Path, tyro.conf.Positional]
    """Dataset: a native folder, a Minari folder, or a robomimic or D4RL file."""
    env: str | None = None
    """Task, where the file does not name it or its action bounds."""
    action_units: Literal["env", "normalised"] | None = None
    """Units of the actions in the file; none takes the format's own rule."""

    def spec(self) -> EnvSpec | None:
        """The named task's spec."""
        return None if self.env is None else env_spec(self.env)

    def load(self) -> Demonstrations:
        """Read the dataset, checked."""
        return load_demonstrations(find_dataset(self.path), self.spec(), self.action_units)


@dataclasses.dataclass(frozen=True)
class Convert:
    """Write a dataset in another format; the source stays as it is."""

    source: Annotated[Source, tyro.conf.arg(name="")]
    to: Literal["native", "minari", "robomimic", "d4rl"] = "minari"
    """Format to write."""
    out: Path | None = None
    """Where to; none puts it beside the source."""
    overwrite: bool = False
    """Replace what is there."""


def main(arguments: list[str]) -> None:
    """Dispatch ``data`` commands."""
    commands = {
        "inspect": _inspect,
        "check": _check,
        "convert": _convert,
        "generate": _generate,
        "import": data_car.import_raw,
        "cluster": _cluster,
        "film": _film,
        "segments": _segments,
    }
    rest = arguments[1:]
    if not rest or rest[0] in ("-h", "--help"):
        print("usage: steelyard data inspect | check | convert PATH [options]")
        print("       steelyard data inspect | check dart")
        print("       steelyard data generate car-mujoco | car-single-track --out DIR [options]")
        print("       steelyard data generate metaworld TASK [--tier TIER] [options]")
        print("       steelyard data generate operators | robosuite | ogbench TASK [options]")
        print("       steelyard data cluster PATH [options]")
        print("       steelyard data segments --checkpoints RUN | --env TASK [options]")
        print("       steelyard data film DATASET [--sound] [--only ID ...] [options]")
        print("       steelyard data import mushr DIR --out DIR [options]")
        return
    commands[choose(rest[0], commands)](rest[1:])


def _generate(rest: list[str]) -> None:
    if rest and rest[0] == "metaworld":
        data_assembly.generate_assembly(rest[1:])
        return
    if rest and rest[0] in GENERATED:
        from steelyard.cli import data_offline  # brings a study's modules

        data_offline.GENERATORS[rest[0]](rest[1:])
        return
    if rest and not rest[0].startswith("-"):
        choose(rest[0], dict.fromkeys((*data_car.SIMULATORS, "metaworld", *GENERATED)))
    elif {"-h", "--help"} & set(rest):
        print("demonstrations of scripted experts: steelyard data generate metaworld --help")
        print("of uneven operators: steelyard data generate operators | robosuite --help")
        print("play data of oracles: steelyard data generate ogbench --help")
    data_car.generate_car(rest)


def _cluster(rest: list[str]) -> None:
    from steelyard.cli import data_offline

    data_offline.cluster(rest)


def _segments(rest: list[str]) -> None:
    from steelyard.cli import data_segments

    data_segments.segments(rest)


def _film(rest: list[str]) -> None:
    from steelyard.cli import data_film

    data_film.film(rest)


def _inspect(rest: list[str]) -> None:
    if rest and data_car.is_trajectories(rest[0]):
        data_car.inspect_trajectories(rest)
        return
    print(inspect(tyro.cli(Source, args=rest, prog="steelyard data inspect").load()))


def _check(rest: list[str]) -> None:
    if rest and data_car.is_trajectories(rest[0]):
        data_car.check_trajectories(rest)
        return
    source = tyro.cli(Source, args=rest, prog="steelyard data check")
    report = check_dataset(find_dataset(source.path), source.spec(), source.action_units)
    print(report)
    if not report.ok:
        raise SystemExit(1)


def _convert(rest: list[str]) -> None:
    options = tyro.cli(Convert, args=rest, prog="steelyard data convert")
    data = options.source.load()
    path = find_dataset(options.source.path)
    out = options.out or FORMATS[options.to].path_for(path.with_name(f"{path.name}_{options.to}"))
    print(data.save(out, options.to, options.overwrite))
    for loss in FORMATS[options.to].loses:
        print(f"not kept by {options.to}: {loss}")
