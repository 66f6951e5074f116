"""``steelyard study list|run|status|report``."""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from steelyard.cli import choose
from steelyard.reports import write_report, write_results
from steelyard.studies import STUDIES, get_study
from steelyard.studies.cells import Store, load
from steelyard.studies.engine import Options, run_study, settle, study_folder
from steelyard.studies.status import study_status, table, watch
from steelyard.training.progress import progress


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Where a report goes besides the study's own folder."""

    save_dir: Path | None = None
    """Also write the report to SAVE_DIR/ENV (the reference code's `comparison_results`)."""
    results: Path | None = None
    """Also write raw scores and summary to RESULTS/STUDY/PRESET, to be committed."""
    watch: float | None = None
    """`study status` only: show it anew every so many seconds, until nobody works on it."""


def main(arguments: list[str]) -> None:
    """Dispatch ``study`` commands."""
    commands = {"list": _list, "run": _run, "status": _status, "report": _report}
    rest = arguments[1:]
    if not rest or rest[0] in ("-h", "--help"):
        print("usage: steelyard study list | run NAME | status NAME | report NAME")
        print("       steelyard study run NAME --help lists every option")
        return
    commands[choose(rest[0], commands)](rest[1:])


def _list(_: list[str]) -> None:
    for name in STUDIES:
        study = get_study(name)
        print(f"{name}: {study.summary}")
        for preset, text in study.presets.items():
            print(f"    --preset {preset:16s} {text}")


def _run(rest: list[str]) -> None:
    study, preset, config, options, outputs = _parse(rest)
    _refuse_watch(outputs)
    command = shlex.join(["steelyard", "study", "run", *rest])
    folder = run_study(study, config, preset, command, options, progress)
    _write(study, folder, options.runs, outputs)


def _status(rest: list[str]) -> None:
    study, preset, config, options, outputs = _parse(rest)
    store = Store(options.runs, study.name)
    cells = study.plan(settle(study, config, preset, store), store)
    folder = study_folder(store, preset, config)
    if outputs.watch is not None:
        watch(cells, store, folder, outputs.watch)
    else:
        print("\n".join(table(study_status(cells, store))))
    print(f"report: {folder / 'report.html'}")


def _report(rest: list[str]) -> None:
    study, preset, config, options, outputs = _parse(rest)
    _refuse_watch(outputs)
    folder = study_folder(Store(options.runs, study.name), preset, config)
    if not (folder / "study.json").exists():
        raise ValueError(
            f"nothing was run with these options: {folder} does not exist. "
            f"`steelyard study run {study.name}` with the same options makes it."
        )
    _write(study, folder, options.runs, outputs)


def _refuse_watch(outputs: Outputs) -> None:
    if outputs.watch is not None:
        raise ValueError("--watch is an option of `study status`; give it in another terminal")


def _write(study: Any, folder: Path, runs: Path, outputs: Outputs) -> None:
    saved = load(folder, study.config_type)
    store = Store(runs, study.name)
    records, spec = study.records(saved.config, store, saved.preset, saved.command)
    paths = write_report(records, spec, folder)
    write_results(records, spec, folder)
    if outputs.save_dir is not None:
        write_report(records, spec, outputs.save_dir / getattr(saved.config, "env", study.name))
    if outputs.results is not None:
        write_results(records, spec, outputs.results / study.name / records[0].preset)
    print(paths["results.txt"].read_text())
    print(f"report: {paths['report.html']}")


def _parse(rest: list[str]) -> tuple[Any, str, Any, Options, Outputs]:
    """Study, preset, config, options and outputs: a preset for a task, then single options."""
    if not rest or rest[0].startswith("-"):
        raise ValueError(f"which study? There are {', '.join(STUDIES)}.")
    study = get_study(rest[0])
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="quick")
    first.add_argument("--env")
    chosen, others = first.parse_known_args(rest[1:])
    base = study.configure(chosen.preset, chosen.env)
    known = {field.name for field in dataclasses.fields(study.config_type)}
    given = rest[1:] if "env" in known else [f"--preset={chosen.preset}", *others]
    plain = tyro.conf.arg(name="")
    grammar = dataclasses.make_dataclass(
        f"{rest[0]} study",
        [
            ("preset", Annotated[str, tyro.conf.arg(help=_presets(study))], chosen.preset),
            ("options", Annotated[Options, plain], dataclasses.field(default=Options())),
            ("outputs", Annotated[Outputs, plain], dataclasses.field(default=Outputs())),
            ("config", Annotated[study.config_type, plain], dataclasses.field(default=base)),
        ],
        frozen=True,
    )
    parsed: Any = tyro.cli(
        grammar, args=given, prog=f"steelyard study run {rest[0]}", description=study.summary
    )
    return study, parsed.preset, parsed.config, parsed.options, parsed.outputs


def _presets(study: Any) -> str:
    return "; ".join(f"`{name}`: {text}" for name, text in study.presets.items())


if __name__ == "__main__":
    main(sys.argv)
