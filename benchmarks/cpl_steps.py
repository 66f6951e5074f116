"""Success of CPL along its gradient steps, for three biases λ: how soon it overshoots.

    python benchmarks/cpl_steps.py

Plays, judges and pretrains as the study `piano` does in `quick`, on its tuning seeds, and writes
results/benchmarks/cpl_steps.json: success on 30 fixed starts after so many steps, mean over seeds,
beside held-out accuracy, which does not show it.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

import jax
import numpy as np

from steelyard.envs.registry import env_spec
from steelyard.envs.seeding import evaluation_seeds
from steelyard.evaluation.success import play
from steelyard.studies.hardware import hardware
from steelyard.studies.piano.config import TUNING_SEEDS, configure
from steelyard.studies.piano.execute import stacked_preferences
from steelyard.studies.piano.judgements import judge_segments
from steelyard.studies.piano.plan import cloning, judged_of
from steelyard.training.checkpoint import take_run
from steelyard.training.group import RunGroup
from steelyard.training.metrics import read_rows
from steelyard.training.preferences import (
    CPLRun,
    preference_data,
    segment_normaliser,
    train_cpl,
)
from steelyard.training.progress import progress
from steelyard.training.run_folder import RunFolder
from steelyard.training.segment_generation import record_scripted

OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "cpl_steps.json"
LAMBDAS = (0.5, 0.75, 1.0)
STEPS, EVERY, EPISODES = 400, 50, 30


def main() -> None:
    found = {
        "command": "python benchmarks/cpl_steps.py",
        "seeds": list(TUNING_SEEDS),
        "episodes": EPISODES,
        "hardware": hardware(),
        "tasks": {},
    }
    for task in ("sweep", "press"):
        found["tasks"][task] = of_task(task)
        OUT.write_text(json.dumps(found, indent=1) + "\n")
    print(OUT)


def of_task(name: str) -> dict:
    """Curves of one task by λ."""
    part = getattr(configure("quick"), name)
    spec, seeds = env_spec(part.env), TUNING_SEEDS
    with progress(f"segments of {part.env}", len(seeds)) as tick:
        segments = []
        for number, seed in enumerate(seeds):
            segments.append(record_scripted(part.env, part.generation, seed))
            tick(number + 1)
    told = [
        judge_segments(s, judged_of(part), seed) for s, seed in zip(segments, seeds, strict=True)
    ]
    normalisers = [segment_normaliser(s) for s in segments]

    def group(label: str) -> RunGroup:
        root = Path(tempfile.mkdtemp())
        folders = [RunFolder(root / str(s)).open({"arm": label, "seed": s}) for s in seeds]
        return RunGroup(seeds, folders, label)

    pretraining = CPLRun(cloning(part, part.base_learning_rate), steps=part.base_steps)
    every = [
        preference_data(s, None, n, cloned=np.ones(len(s)))
        for s, n in zip(segments, normalisers, strict=True)
    ]
    base = train_cpl(pretraining, spec, group("pretrained"), every)
    actors = [take_run(base, i).actor for i in range(len(seeds))]
    act = jax.jit(jax.vmap(lambda a, o: a.act(o, jax.random.key(0), True)))

    def evaluate(agents):
        modes = lambda o: np.asarray(act(agents, o))  # noqa: E731
        outcome = play(modes, part.env, evaluation_seeds(EPISODES), len(seeds), part.eval_steps)
        return {"eval/success_rate": outcome.success.mean(1)}

    data = stacked_preferences(segments, told, normalisers)
    curves = {"0": {"success": float(evaluate(base)["eval/success_rate"].mean())}}
    for bias in LAMBDAS:
        agent = dataclasses.replace(part.cpl.agent, lambda_=bias)
        run = CPLRun(agent, STEPS, EVERY, EVERY)
        runs = group(f"lambda {bias}")
        with progress(f"{part.env}, λ {bias}", STEPS) as tick:
            train_cpl(run, spec, runs, data, actors, tick, evaluate)
        curves[str(bias)] = curve([read_rows(folder.metrics) for folder in runs.folders])
    return curves


def curve(rows: list[list[dict]]) -> list[dict]:
    """Means over seeds by step."""
    steps = sorted({row["step"] for own in rows for row in own})
    names = {
        "eval/success_rate": "success",
        "heldout/accuracy": "heldout_accuracy",
        "train/distance_to_reference": "distance",
    }
    found = []
    for step in steps:
        point: dict = {"step": step}
        for name, short in names.items():
            values = [r[name] for own in rows for r in own if r["step"] == step and r.get(name)
                      is not None]  # fmt: skip
            if values:
                point[short] = round(float(np.mean(values)), 4)
        found.append(point)
    return found


if __name__ == "__main__":
    main()
