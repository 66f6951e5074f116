"""Cost of drawing trajectories, and of an update of ACFQL beside the QC implementation.

    python benchmarks/acfql_cost.py [--qc PATH] [--rounds 3] [--out FILE.json]

`PATH` is a checkout of github.com/ColinQiyangLi/qc; its packages (flax, ml_collections) must be
installed beside Steelyard. Both learners have networks of 512 × 4, two critics, batches of 256
chunks of five actions, ten flow steps. Rounds alternate; ratios are of the same round.
"""

import argparse
import json
import statistics
import sys
import time
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.emphasis.measures import length_base
from steelyard.emphasis.samplers import Systematic, draw_starts_from
from steelyard.emphasis.weightings import Rank
from steelyard.studies.hardware import hardware
from steelyard.types import ChunkBatch, ChunkTransition, EnvSpec

DRAWS, RERANK, WINDOW = 256, 50, 5
TRAJECTORIES = (300, 2_000, 10_000)
OBSERVATION, ACTION, HORIZON, BATCH = 23, 7, 5, 256


def milliseconds(function, *arguments, repeats=5, steps=1):
    """Median milliseconds a step, the first call (which compiles) left out."""
    jax.block_until_ready(function(*arguments))
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        found.append((time.perf_counter() - start) * 1e3 / steps)
    return statistics.median(found)


def sampler_cost(count):
    """Milliseconds of 256 draws: from a ready table, with tables, and with ranks shared out."""
    random = np.random.default_rng(0)
    starts = jnp.asarray(random.integers(50, 400, count), jnp.int32)
    scores = jnp.asarray(random.exponential(size=count), jnp.float32)
    sampler, updates = Systematic(), 500

    def table(scores):
        base = length_base(starts)
        return sampler.table(base * Rank().ratio(scores, base=base), base)

    def draws(table, keys):
        def one(total, key):
            found = draw_starts_from(sampler, table, starts, key, DRAWS)
            return total + jnp.sum(found.starts) + jnp.sum(found.correction), None

        return jax.lax.scan(one, jnp.zeros(()), keys)[0]

    def with_ranks(scores, keys):
        def stretch(total, keys):
            ratio = Rank().ratio(scores + total * 0, base=length_base(starts))

            def window(total, keys):
                base = length_base(starts)
                return total + draws(sampler.table(base * ratio, base), keys), None

            return jax.lax.scan(window, total, keys)[0], None

        parts = keys.reshape(-1, RERANK // WINDOW, WINDOW)
        return jax.lax.scan(stretch, jnp.zeros(()), parts)[0]

    keys = jax.random.split(jax.random.key(0), updates)
    return {
        "trajectories": count,
        "ready_ms": milliseconds(jax.jit(draws), table(scores), keys, steps=updates),
        "with_ranks_ms": milliseconds(jax.jit(with_ranks), scores, keys, steps=updates),
    }


def ours(updates):
    """A function that takes ``updates`` updates of our learner, compiled."""
    spec = EnvSpec("cost", OBSERVATION, (-1.0,) * ACTION, (1.0,) * ACTION, 300, True)
    agent = ACFQL.create(jax.random.key(0), spec, ACFQLConfig(num_qs=2, q_agg="mean"))
    random = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(random.standard_normal(shape), jnp.float32)

    batch = ChunkTransition(
        normal(BATCH, OBSERVATION),
        jnp.clip(normal(BATCH, HORIZON, ACTION), -1, 1),
        jnp.ones((BATCH, HORIZON), bool),
        -jnp.ones(BATCH),
        jnp.full(BATCH, 0.95),
        normal(BATCH, OBSERVATION),
    )

    @jax.jit
    def run(agent, key):
        def one(agent, key):
            agent, info = agent.update(ChunkBatch(batch), key)
            return agent, info.metrics["critic_loss"]

        return jax.lax.scan(one, agent, jax.random.split(key, updates))

    return lambda: run(agent, jax.random.key(1))


def theirs(path, updates):
    """The same of the QC implementation, by its own ``update`` or ``batch_update``."""
    sys.path.insert(0, str(path))
    # Read by networks that this learner does not have.
    distributions = types.ModuleType("distrax")
    distributions.__getattr__ = lambda name: object
    sys.modules.setdefault("distrax", distributions)
    from agents.acfql import ACFQLAgent, get_config

    config = get_config()
    config.horizon_length = HORIZON
    random = np.random.default_rng(0)

    def normal(*shape):
        return random.standard_normal(shape).astype(np.float32)

    agent = ACFQLAgent.create(0, normal(OBSERVATION), normal(ACTION), config)
    batch = {
        "observations": normal(BATCH, OBSERVATION),
        "actions": np.clip(normal(BATCH, HORIZON, ACTION), -1, 1),
        "rewards": -np.ones((BATCH, HORIZON), np.float32),
        "masks": np.ones((BATCH, HORIZON), np.float32),
        "valid": np.ones((BATCH, HORIZON), np.float32),
        "next_observations": normal(BATCH, HORIZON, OBSERVATION),
    }
    batch = jax.tree.map(jnp.asarray, batch)
    if updates == 1:
        return lambda: agent.update(batch)
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (updates, *x.shape)), batch)
    return lambda: agent.batch_update(many)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--qc", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {"hardware": hardware(), "sampler": [sampler_cost(n) for n in TRAJECTORIES]}
    for row in found["sampler"]:
        print(row)
    contenders = {"ours_1": (ours(1), 1), "ours_scan": (ours(options.updates), options.updates)}
    if options.qc:
        contenders["qc_1"] = (theirs(options.qc, 1), 1)
        contenders["qc_scan"] = (theirs(options.qc, options.updates), options.updates)
    rounds = []
    for number in range(options.rounds):
        row = {}
        for name, (function, steps) in contenders.items():
            used = time.process_time()
            row[name] = milliseconds(function, repeats=3, steps=steps)
            row[f"{name}_cpu_s"] = (time.process_time() - used) / (4 * steps)
        rounds.append(row)
        print(number, {k: round(v, 3) for k, v in row.items()})
    found["update"] = rounds
    if options.qc:
        found["ratio_1"] = statistics.median(r["qc_1"] / r["ours_1"] for r in rounds)
        found["ratio_scan"] = statistics.median(r["qc_scan"] / r["ours_scan"] for r in rounds)
        print("QC over ours:", found["ratio_1"], found["ratio_scan"])
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
