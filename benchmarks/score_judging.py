"""What scores and draws are worth on real rollouts, before any learning curve is drawn.

A policy is trained half-way with uniform items, then plays rollouts of 4,096 items: one to judge,
others for the gradient that the judged one should have had. For every arm: variance of the
gradient at equal batches against uniform draws, its bias, agreement of its mean gradient with that
of the other rollouts, planted sign flips found, and whether influence predicts real updates.

    python benchmarks/score_judging.py [--tasks plane peg] [--seeds 0 1 2 3 4]

`peg` needs the bases of `steelyard study run assembly --preset full` in `runs/`. Writes
`results/benchmarks/score_judging/raw.jsonl`, a line a task and seed.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

from steelyard.envs.registry import env_spec, make_env
from steelyard.envs.seeding import training_seeds
from steelyard.studies.assembly import STUDY
from steelyard.studies.assembly.arms import ARMS
from steelyard.studies.assembly.plan import base_cell
from steelyard.studies.assembly.policies import load_base
from steelyard.studies.cells import Store
from steelyard.studies.hardware import hardware
from steelyard.training.cupid import feel, uniform
from steelyard.training.cupid_scorer import Scorer
from steelyard.training.episode_window import EpisodeWindow
from steelyard.training.group import RunGroup
from steelyard.training.on_policy import OnPolicyProblem, Programs, Simulation
from steelyard.training.progress import progress
from steelyard.training.residual import (
    base_of,
    create_agent,
    train_residual,
)
from steelyard.training.rollout_items import prepare
from steelyard.training.run_folder import RunFolder
from steelyard.training.score_judging import (
    agreement,
    felt_gradient,
    flips_found,
    gradient_spread,
    update_score,
)

FOLDER = Path("results/benchmarks/score_judging")
DRAWN = ("heuristic", "heuristic-mc", "heuristic-corrected", "gradnorm", "uniform-quarter")
SIGNED = ("influence", "influence-trajectory", "iif", "iif-cross-fit", "dtv", "random-drop")
BATCH, DRAWS, OTHERS, FLIPS, SUBSETS = 512, 200, 6, 0.1, 64


def half_trained(part, seed, base, root):
    """A learner that has seen half of its budget, with uniform items."""
    loop = dataclasses.replace(part.run.loop, total_timesteps=part.run.loop.total_timesteps // 2)
    run = dataclasses.replace(part.run, loop=loop)
    folder = RunFolder(root / f"{seed}").open({"seed": seed})
    group = RunGroup([seed], [folder], "uniform")
    state = train_residual(run, group, None if base is None else [base])
    group.close()
    agent = jax.tree.map(lambda x: x[0], state.agent)
    # Its own schedule has ended; that of the whole budget has not.
    return dataclasses.replace(agent, total_iterations=part.run.loop.iterations)


def rollouts(part, seed, base, agent, count):
    """Rollouts of a frozen learner, each in environments of its own seeds."""
    run, found = part.run, []
    below = base_of(run.env, base)
    problem = OnPolicyProblem(create_agent(run, base), run.update, run.cupid, below)
    programs, stacked = Programs(problem), jax.tree.map(lambda x: jnp.asarray(x)[None], agent)
    own = run.loop.num_env_steps
    # Before, the environments fall out of step, and failures, which take longest, have time to end.
    steps = 2 * env_spec(run.env).max_episode_steps + own
    for number in range(count):
        env = make_env(run.env, training_seeds(seed, run.loop.num_envs, 50 + number))
        window = EpisodeWindow.empty(1)
        world = Simulation(env, below(run.loop.num_envs), 1, "terminate", window)
        keys = jnp.stack([jax.random.key(1_000 + number)])
        played = world.rollout(programs, stacked, keys, steps, 0)
        env.close()
        found.append(jax.tree.map(lambda x: x[0, steps - own :], played))
    return found


def judged(part, seed, base, root):
    agent = half_trained(part, seed, base, root)
    own, *others = (
        jax.jit(prepare)(agent, rollout)
        for rollout in rollouts(part, seed, base, agent, 1 + OTHERS)
    )
    plain = uniform(own.valid)
    reference = sum(felt_gradient(agent, p, uniform(p.valid)) for p in others)
    none, key = Scorer.none(agent), jax.random.key(seed)
    count = own.valid.shape[0]
    baseline = gradient_spread(agent, own, plain, count, BATCH, DRAWS, key, reference)
    arms = {
        "uniform": {
            "variance_ratio": 1.0,
            "bias": baseline.bias,
            "batch_agreement": baseline.agreement,
            "agreement": agreement(felt_gradient(agent, own, plain), reference),
        }
    }
    for name in (*DRAWN, *SIGNED):
        cupid = ARMS[name].cupid
        felt, _, metrics = feel(cupid, agent, own, none, key, True)
        epoch = int(count * cupid.cupid_draw_fraction)
        spread = gradient_spread(agent, own, felt, epoch, BATCH, DRAWS, key, reference)
        mean = felt_gradient(agent, own, felt)
        found = {
            "variance_ratio": spread.variance / baseline.variance,
            "bias": spread.bias,
            "batch_agreement": spread.agreement,
            "agreement": agreement(mean, reference),
            "ess_share": float(metrics.get("cupid/ess_share", jnp.nan)),
            "predicted_gain": float(metrics.get("cupid/predicted_gain", jnp.nan)),
        }
        if cupid.cupid_mode != "gradnorm":
            found["flips_auroc"] = flips_found(cupid, agent, own, FLIPS, key)
        if cupid.cupid_mode == "influence" and cupid.cupid_level == "sample":
            found["update_score"] = update_score(cupid, agent, own, SUBSETS, key)
        arms[name] = {k: round(v, 5) for k, v in found.items() if v == v}
    return {
        "success_rate": float(jnp.sum(own.success * own.outcome_known))
        / max(float(jnp.sum(own.outcome_known)), 1.0),
        "items": int(own.valid.sum()),
        "arms": arms,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=["plane", "peg"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    config, store = STUDY.configure("full"), Store(options.runs, "assembly")
    parts = {"plane": config.plane, "peg": config.peg}
    lines = []
    total = len(options.tasks) * len(options.seeds)
    with progress("judging", total) as tick, tempfile.TemporaryDirectory() as root:
        for task in options.tasks:
            part = parts[task]
            name = next(n for n, p in config.parts().items() if p.run.env == part.run.env)
            settled = config.parts()[name]
            for seed in options.seeds:
                cell = base_cell(settled, {"task": name}, seed)
                base = None if task == "plane" else load_base(store.folder(cell).path)
                found = judged(part, seed, base, Path(root) / task)
                lines.append({"task": name, "seed": seed, "hardware": hardware(), **found})
                tick(len(lines), f"{task}, seed {seed}")
                FOLDER.mkdir(parents=True, exist_ok=True)
                text = "".join(json.dumps(line) + "\n" for line in lines)
                (FOLDER / "raw.jsonl").write_text(text)


if __name__ == "__main__":
    main()
