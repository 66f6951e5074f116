"""SAC's speed beside Stable-Baselines3's and CleanRL's, in one run on one machine.

    python benchmarks/sac_speed.py --python-peers peers/bin/python

The peers live in an environment of their own, so that Steelyard never depends on PyTorch:

    python -m venv peers
    peers/bin/pip install torch "stable-baselines3>=2.9" "gymnasium[mujoco]>=1.2" "mujoco<4"

Every contender runs in a process of its own, one at a time, in turn (A B C A B C ...), and times
its own steady state: a window of ``--seconds`` that opens after ``--warmup`` random and as many
learning frames, so nothing that is compiled or allocated first counts. Ratios are taken within a
round and then summarised, so a slow spell of the machine hits both sides. PyTorch's number of
threads is found first, per peer, by a short run with each of ``--threads``; the faster is kept.
PyTorch's idle threads sleep instead of spinning (``OMP_WAIT_POLICY=PASSIVE``), which is faster on a
shared machine. Steelyard's threads are left to JAX and EnvPool.

Writes ``raw.jsonl`` (one line a process), ``summary.json`` and ``summary.md``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CONTENDERS = Path(__file__).parent / "contenders"


class Contender(NamedTuple):
    label: str
    script: str
    arguments: tuple[str, ...] = ()
    is_peer: bool = False


ALL = {
    "ours": Contender(
        "Steelyard, 16 environments",
        "ours.py",
        ("--num-envs", "16", "--policy-delay", "1"),
    ),
    "ours_1_env": Contender(
        "Steelyard, 1 environment",
        "ours.py",
        ("--num-envs", "1", "--policy-delay", "1"),
    ),
    "ours_shipped": Contender(
        "Steelyard, shipped recipe (actor step every second frame), 16 environments",
        "ours.py",
        ("--num-envs", "16", "--policy-delay", "2"),
    ),
    "sb3": Contender("Stable-Baselines3", "sb3.py", (), True),
    "cleanrl_recipe": Contender(
        "CleanRL's recipe (our PyTorch re-implementation)",
        "cleanrl_recipe.py",
        (),
        True,
    ),
}


def run_once(
    contender: Contender, python: str, env: str, seconds: float, warmup: int, seed: int
) -> dict[str, Any]:
    """Run one contender to its end and return what it measured."""
    shared = ["--env", env, "--seconds", seconds, "--warmup", warmup, "--seed", seed]
    command = [python, CONTENDERS / contender.script, *contender.arguments, *shared]
    started = time.perf_counter()
    # Threads that spin while they wait cost PyTorch a factor of ten where other work shares the
    # cores, and gain nothing where none does.
    environ = os.environ | ({"OMP_WAIT_POLICY": "PASSIVE"} if contender.is_peer else {})
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environ)
    if finished.returncode:
        raise RuntimeError(f"{contender.script} failed:\n{finished.stderr[-2000:]}")
    measured = json.loads(finished.stdout.strip().splitlines()[-1])
    return measured | {
        "frames_per_s": measured["frames"] / measured["seconds"],
        "frames_per_cpu_s": measured["frames"] / measured["cpu_seconds"],
        "process_s": time.perf_counter() - started,
    }


def hardware() -> dict[str, Any]:
    """What the machine is, as far as it tells."""
    model = platform.processor()
    described = Path("/proc/cpuinfo")
    if described.exists():
        names = [x for x in described.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {"cpu": model, "cores": os.cpu_count(), "load_average": os.getloadavg()[0]}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and extremes."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def summarise(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Speeds per contender and, within each round, ratios of ours to every peer."""
    measured = [line for line in lines if line["phase"] == "round"]
    names = list(dict.fromkeys(line["contender"] for line in measured))
    own = {name: [x for x in measured if x["contender"] == name] for name in names}
    speeds = {
        name: {
            "label": ALL[name].label,
            "threads": own[name][0]["threads"],
            "rounds": len(own[name]),
            "frames": sum(x["frames"] for x in own[name]),
            "compile_s": statistics.median(x["compile_s"] for x in own[name]),
            "frames_per_s": spread([x["frames_per_s"] for x in own[name]]),
            "frames_per_cpu_s": spread([x["frames_per_cpu_s"] for x in own[name]]),
        }
        for name in names
    }
    ratios = [
        {
            "contender": name,
            "peer": peer,
            **{
                key: spread([a[key] / b[key] for a, b in zip(own[name], own[peer], strict=True)])
                for key in ("frames_per_s", "frames_per_cpu_s")
            },
        }
        for name in names
        for peer in names
        if ALL[peer].is_peer and not ALL[name].is_peer
    ]
    return {
        "benchmark": "sac_speed",
        "command": lines[0]["command"],
        "hardware": lines[0]["hardware"],
        "versions": {k: v for name in names for k, v in own[name][0]["versions"].items()},
        "contenders": speeds,
        "ratios": ratios,
    }


def as_markdown(summary: dict[str, Any]) -> str:
    """The tables of ``summary.md``."""

    def shown(x: dict[str, float], digits: int) -> str:
        return f"{x['median']:.{digits}f} ({x['low']:.{digits}f} to {x['high']:.{digits}f})"

    machine = summary["hardware"]
    text = [
        "# SAC on HalfCheetah-v5: frames per second",
        "",
        f"`{summary['command']}` on {machine['cpu']}, {machine['cores']} cores, load average "
        f"{machine['load_average']:.1f} at the start. Networks 256x256, batch 256, one critic step "
        "per frame; the peers and Steelyard take one actor step per frame unless the row says "
        "otherwise; the peers step one environment. Medians over rounds, extremes in brackets. CPU "
        "seconds are those of all threads of a process; other work on the same cores changes wall "
        "time far more.",
        "",
        "| contender | PyTorch threads | frames/s | frames/CPU-s | compilation, s |",
        "|---|---|---|---|---|",
    ]
    for row in summary["contenders"].values():
        speed, cpu = shown(row["frames_per_s"], 0), shown(row["frames_per_cpu_s"], 0)
        threads = row["threads"] or "–"
        text.append(f"| {row['label']} | {threads} | {speed} | {cpu} | {row['compile_s']:.1f} |")
    text += [
        "",
        "Ratios, paired within each round:",
        "",
        "| ours | peer | by wall time | by CPU time |",
        "|---|---|---|---|",
    ]
    for row in summary["ratios"]:
        wall, cpu = shown(row["frames_per_s"], 2), shown(row["frames_per_cpu_s"], 2)
        text.append(
            f"| {ALL[row['contender']].label} | {ALL[row['peer']].label} | {wall} | {cpu} |"
        )
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return "\n".join([*text, "", f"Versions: {versions}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--contenders", nargs="+", choices=list(ALL), default=list(ALL))
    parser.add_argument("--python-peers", default=sys.executable, help="interpreter of the peers")
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each window")
    parser.add_argument("--warmup", type=int, default=200, help="random frames before learning")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}),
        help="numbers of PyTorch threads to try",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/sac_speed"))
    args = parser.parse_args()

    lines: list[dict[str, Any]] = []
    facts = {
        "env": args.env,
        "hardware": hardware(),
        "command": "python benchmarks/sac_speed.py "
        f"--rounds {args.rounds} --seconds {args.seconds:g} --warmup {args.warmup} "
        f"--contenders {' '.join(args.contenders)}",
    }

    def measure(name: str, contender: Contender, phase: str, number: int, seconds: float) -> float:
        python = args.python_peers if contender.is_peer else sys.executable
        measured = run_once(contender, python, args.env, seconds, args.warmup, number)
        lines.append({"contender": name, "phase": phase, "round": number, **measured, **facts})
        print(
            f"{phase} {number}  {name:16} {measured['frames_per_s']:6.1f} frames/s  "
            f"{measured['frames_per_cpu_s']:6.1f} frames/CPU-s  "
            f"{measured['process_s']:5.1f} s in all",
            flush=True,
        )
        return measured["frames_per_s"]

    chosen = {name: ALL[name] for name in args.contenders}
    for name, contender in chosen.items():
        if contender.is_peer:
            tried = [
                contender._replace(arguments=("--threads", str(count))) for count in args.threads
            ]
            short = args.seconds / 3
            rates = [measure(name, one, "threads", i, short) for i, one in enumerate(tried)]
            chosen[name] = tried[rates.index(max(rates))]
    for number in range(args.rounds):
        for name, contender in chosen.items():
            measure(name, contender, "round", number, args.seconds)

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "raw.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = summarise(lines)
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (args.out / "summary.md").write_text(as_markdown(summary))
    print(as_markdown(summary))


if __name__ == "__main__":
    main()
