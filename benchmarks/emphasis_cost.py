"""Cost of an emphasis at the reference's own size: 1,024 environments × 700 steps = 716,800 items.

Plays one rollout of the plane with networks of 256 × 256, then times, once compiled: scoring and
drawing for every mode, and the passes of the update with them. Writes JSON.

    python benchmarks/emphasis_cost.py [--steps 700] [--out results/benchmarks/emphasis_cost.json]
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from steelyard.agents.ppo import PPOConfig
from steelyard.emphasis.samplers import Systematic
from steelyard.studies.assembly.arms import ARMS
from steelyard.studies.hardware import hardware
from steelyard.training.cupid import feel
from steelyard.training.cupid_scorer import Scorer
from steelyard.training.episode_window import EpisodeWindow
from steelyard.training.on_policy import OnPolicyConfig, OnPolicyProblem, Programs, Simulation
from steelyard.training.on_policy_update import UpdateConfig, pass_over
from steelyard.training.residual import (
    PLANE,
    ResidualRun,
    base_of,
    create_agent,
    environments,
)
from steelyard.training.rollout_items import prepare

MODES = ("uniform", "heuristic", "gradnorm", "influence", "influence-trajectory", "iif")
REPEATS = 3


def seconds(function, *arguments):
    """Median over repeats, the first call (which compiles) left out."""
    jax.block_until_ready(function(*arguments))
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envs", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = options.envs * options.steps
    loop = OnPolicyConfig(rows, options.envs, options.steps)
    run = ResidualRun(PLANE, PPOConfig(n_iterations_train_only_value=0), loop=loop)
    create = create_agent(run, None)
    problem = OnPolicyProblem(create, run.update, run.cupid, base_of(PLANE, None))
    keys = jnp.stack([jax.random.key(0)])
    agents = jax.vmap(create)(keys, jnp.arange(1))
    env = environments(run, (0,))(0)
    base = problem.base(options.envs)
    world = Simulation(env, base, 1, "terminate", EpisodeWindow.empty(1))
    start = time.perf_counter()
    rollout = world.rollout(Programs(problem), agents, keys, options.steps, 0)
    played = time.perf_counter() - start
    agent, rollout = (jax.tree.map(lambda x: x[0], tree) for tree in (agents, rollout))
    prepared = jax.block_until_ready(jax.jit(prepare)(agent, rollout))
    found = {}
    update = UpdateConfig(update_epochs=options.epochs, num_minibatches=1, target_kl=1e9)
    for name in MODES:
        cupid, key = ARMS[name].cupid, jax.random.key(1)

        def score_and_draw(agent, prepared, due, cupid=cupid, key=key):
            felt, scorer, _ = feel(cupid, agent, prepared, Scorer.none(agent), key, due)
            size = int(rows * cupid.cupid_draw_fraction)
            return Systematic().draw(felt.actor, key, size), felt, scorer

        scoring = {
            due: jax.jit(lambda a, p, due=due: score_and_draw(a, p, due)) for due in (True, False)
        }
        cost = {
            "score_and_draw_s": seconds(scoring[True], agent, prepared),
            "score_and_draw_kept_scorer_s": seconds(scoring[False], agent, prepared),
        }
        felt = scoring[True](agent, prepared)[1]
        passes = jax.jit(lambda a, p, f, cupid=cupid: pass_over(a, p, f, keys[0], update, cupid)[0])
        cost["epoch_s"] = seconds(passes, agent, prepared, felt) / options.epochs
        cost["items_per_s"] = rows * max(cupid.cupid_draw_fraction, 0) / cost["epoch_s"]
        found[name] = {key: round(value, 5) for key, value in cost.items()}
        print(name, found[name], flush=True)
    content = {
        "items": rows,
        "hardware": hardware(),
        "actor_parameters": sum(x.size for x in jax.tree.leaves(agent.actor)),
        "rollout_s": round(played, 2),
        "modes": found,
        "settings": dataclasses.asdict(update),
    }
    if options.out:
        options.out.write_text(json.dumps(content, indent=2) + "\n")
    else:
        print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
