"""Steelyard beside the libraries that people use for the same, measured in one run on one machine.

    python benchmarks/peers.py [--rows sac ppo bc ...] [--rounds 3]

Makes the environments of the peers (``peers/NAME``, from ``peers-NAME.txt``) where they are not
there, then runs every contender of every row in a process of its own, one at a time and in turn (A
B A B ...). Each process warms up before it times itself; ratios are taken within a round, so a slow
spell of the machine hits both sides. ``peer_rows.py`` says what is compared.

Writes ``raw.jsonl`` (one line a process; a row that is measured again replaces its own lines) and
``summary.json``, which ``tools/fill_docs.py`` makes the table of ``docs/benchmarks.md`` from.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from peer_rows import ENVIRONMENTS, OURS, ROWS, Contender, Row
from peer_summary import printed, summarise
from sac_speed import hardware

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LONGEST_S = 900
SAC = "sac"
SAC_CONTENDERS = ("ours", "ours_1_env", "sb3", "cleanrl_recipe")


class AbsentError(Exception):
    """A contender could not be measured here; says why in one line."""


class Interpreters:
    """Where each environment's Python is; environments are made when they are first asked for."""

    def __init__(self, folder: Path, given: Mapping[str, str]):
        self._folder, self._found = folder, {OURS: sys.executable, **given}
        self._failed: dict[str, str] = {}

    def of(self, name: str) -> str:
        if name in self._failed:
            raise AbsentError(self._failed[name])
        if name not in self._found:
            try:
                self._found[name] = self._made(name)
            except subprocess.CalledProcessError as error:
                said = [x for x in error.stdout.splitlines() if x.startswith("ERROR")]
                self._failed[name] = f"not installed: {said[0] if said else error}"
                raise AbsentError(self._failed[name]) from None
        return self._found[name]

    def _made(self, name: str) -> str:
        folder, requirements = self._folder / name, HERE / ENVIRONMENTS[name]
        python, stamp = folder / "bin" / "python", folder / "requirements.sha256"
        wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text() == wanted:
            return str(python)
        print(f"making {folder} from {requirements.name} …", flush=True)
        install = [python, "-m", "pip", "install", "--quiet", "--requirement", requirements]
        for command in ([sys.executable, "-m", "venv", "--clear", folder], install):
            subprocess.run(
                list(map(str, command)),
                check=True,
                cwd=ROOT,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        stamp.write_text(wanted)
        return str(python)


def child(command: list[Any], is_peer: bool) -> tuple[str, dict[str, float]]:
    """Run a process to its end; what it printed, and what it cost."""
    # Threads that spin while they wait cost PyTorch a factor of ten where other work shares the
    # cores, and gain nothing where none does.
    environ = os.environ | {"JAX_PLATFORMS": "cpu"}
    environ |= {"OMP_WAIT_POLICY": "PASSIVE"} if is_peer else {}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=environ, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        raise AbsentError(f"not done within {LONGEST_S} s") from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise AbsentError(f"failed: {said[:200]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, {"process_s": time.perf_counter() - begin, "process_cpu_s": cpu}


def measured(contender: Contender, python: str, seed: int, file: Path | None) -> dict[str, Any]:
    """What one run of a contender reports."""
    given = [] if file is None else ["--task", file]
    script = HERE / "contenders" / contender.script
    command = [python, script, *contender.arguments, *given, "--seed", seed]
    printed, cost = child(command, contender.is_peer)
    return json.loads(printed.strip().splitlines()[-1]) | cost


def lines_of(name: str, rounds: int, interpreters: Interpreters) -> Iterator[dict[str, Any]]:
    """Measure a row, contender by contender and round by round."""
    row, absent = ROWS[name], set()
    with tempfile.TemporaryDirectory() as folder:
        file = _prepared(row, Path(folder))
        for number in range(rounds):
            for key, contender in row.contenders.items():
                if key in absent or number >= (contender.rounds or rounds):
                    continue
                line = {"row": name, "contender": key, "round": number}
                try:
                    python = interpreters.of(contender.environment)
                    line |= {"load_average": os.getloadavg()[0]}
                    line |= measured(contender, python, number, file)
                except AbsentError as error:
                    absent.add(key)
                    line["absent"] = str(error)
                yield line


def _prepared(row: Row, folder: Path) -> Path | None:
    if row.prepare is None:
        return None
    file = folder / "task.npz"
    child([sys.executable, HERE / "contenders" / row.prepare, file], False)
    return file


def sac_lines(rounds: int, interpreters: Interpreters) -> Iterator[dict[str, Any]]:
    """The rounds of ``sac_speed.py``, which measures this row itself."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, HERE / "sac_speed.py", "--out", folder, "--rounds", rounds]
        command += ["--seconds", 8, "--contenders", *SAC_CONTENDERS]
        command += ["--python-peers", interpreters.of("current")]
        child(command, False)
        written = (Path(folder) / "raw.jsonl").read_text().splitlines()
    for found in map(json.loads, written):
        if found["phase"] == "round":
            metrics = {key: found[key] for key in ROWS[SAC].measures}
            more = {key: found[key] for key in ("threads", "versions", "frames", "round")}
            yield {"row": SAC, "contender": found["contender"], "metrics": metrics, **more}


def run(names: list[str], rounds: int, interpreters: Interpreters) -> list[dict[str, Any]]:
    """Measure some rows; one line a process."""
    lines = []
    for name in names:
        source = sac_lines if name == SAC else None
        found = source(rounds, interpreters) if source else lines_of(name, rounds, interpreters)
        command = f"python benchmarks/peers.py --rows {name} --rounds {rounds}"
        facts = {"command": command, "hardware": hardware()}
        for line in found:
            lines.append(line | facts)
            told = line.get("absent") or ", ".join(
                f"{key} {value:.4g}" for key, value in line["metrics"].items()
            )
            print(f"{name} {line['round']}  {line['contender']:20} {told}", flush=True)
    return lines


def pairs(given: list[str]) -> dict[str, str]:
    """``NAME=PATH`` of interpreters that are there already."""
    found = dict(text.partition("=")[::2] for text in given)
    for name, path in found.items():
        if name not in ENVIRONMENTS or not path:
            legal = ", ".join(f"{key}=PATH" for key in ENVIRONMENTS)
            raise SystemExit(f"--python-peers takes {legal}; got {name!r}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--python-peers", nargs="+", default=[], metavar="NAME=PATH",
        help=f"interpreters to take instead of making environments: {', '.join(ENVIRONMENTS)}",
    )  # fmt: skip
    parser.add_argument("--peers", type=Path, default=ROOT / "peers", help="their environments")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "peers")
    args = parser.parse_args()

    interpreters = Interpreters(args.peers, pairs(args.python_peers))
    args.out.mkdir(parents=True, exist_ok=True)
    raw = args.out / "raw.jsonl"
    for name in args.rows:
        own = run([name], args.rounds, interpreters)
        kept = raw.read_text().splitlines() if raw.exists() else []
        lines = [x for x in map(json.loads, kept) if x["row"] != name] + own
        raw.write_text("".join(json.dumps(line) + "\n" for line in lines))
        summary = summarise(lines, args.out.parent)
        (args.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(printed(summary))


if __name__ == "__main__":
    main()
