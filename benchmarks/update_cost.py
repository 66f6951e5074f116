"""What one SAC update costs, by network and by how many seeds train together under ``vmap``.

    python benchmarks/update_cost.py

Every case is compiled first, then all cases are timed in turn, ``--rounds`` times, so that a busy
moment of the machine hits them alike. Writes ``results/benchmarks/update_cost/raw.jsonl`` (one line
a case and round) and prints the medians.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from steelyard.agents.sac import SAC, SACConfig
from steelyard.data.replay import take
from steelyard.emphasis.samplers import draw_uniform
from steelyard.envs.registry import env_spec
from steelyard.types import EnvSpec, Transition

REPLAY_ROWS = 20_000
UPDATES = 16


class Size(NamedTuple):
    env: str
    width: int
    batch: int


SIZES = (Size("HalfCheetah-v5", 256, 256), Size("Pendulum-v1", 64, 128))


def random_rows(key: PRNGKeyArray, spec: EnvSpec) -> Transition:
    before, action, reward, after = jax.random.split(key, 4)
    shape = (REPLAY_ROWS, spec.observation_size)
    return Transition(
        observation=jax.random.normal(before, shape),
        action=jax.random.uniform(action, (REPLAY_ROWS, spec.action_size), minval=-1.0),
        reward=jax.random.normal(reward, (REPLAY_ROWS,)),
        terminated=jnp.zeros(REPLAY_ROWS, bool),
        next_observation=jax.random.normal(after, shape),
    )


def learner(size: Size, seeds: int) -> tuple[SAC, Callable[[SAC, Array], SAC]]:
    """A group of learners, and the program that takes ``UPDATES`` updates of each."""
    spec = env_spec(size.env)
    config = SACConfig(hidden=(size.width, size.width), batch_size=size.batch)
    keys = jax.random.split(jax.random.key(0), seeds)
    agents = jax.jit(jax.vmap(lambda key: SAC.create(key, spec, config)))(keys)
    rows = jax.vmap(lambda key: random_rows(key, spec))(keys)

    def one(agent: SAC, rows: Transition, key: PRNGKeyArray) -> SAC:
        def body(agent: SAC, key: PRNGKeyArray) -> tuple[SAC, None]:
            draw_key, update_key = jax.random.split(key)
            indices = draw_uniform(jnp.asarray(REPLAY_ROWS), draw_key, size.batch).indices
            return agent.update(take(rows, indices), update_key)[0], None

        return jax.lax.scan(body, agent, jax.random.split(key, UPDATES))[0]

    advance = jax.jit(jax.vmap(one), donate_argnums=0)
    return agents, lambda agents, keys: advance(agents, rows, keys)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 5, 10])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/update_cost"))
    args = parser.parse_args()

    cases = [(size, seeds) for size in SIZES for seeds in args.seeds]
    running = {case: learner(*case) for case in cases}
    lines = []
    for number in range(args.rounds + 1):
        for case, (agents, advance) in running.items():
            size, seeds = case
            keys = jax.random.split(jax.random.key(number), seeds)
            wall, cpu = time.perf_counter(), time.process_time()
            agents = jax.block_until_ready(advance(agents, keys))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            running[case] = agents, advance
            if number == 0:
                continue  # compilation
            per_update = 1e3 / (UPDATES * seeds)
            lines.append(
                {
                    "env": size.env,
                    "hidden": [size.width, size.width],
                    "batch": size.batch,
                    "seeds": seeds,
                    "round": number,
                    "ms": wall * per_update,
                    "cpu_ms": cpu * per_update,
                    "backend": jax.default_backend(),
                    "jax": metadata.version("jax"),
                }
            )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "raw.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    print("network     batch  seeds  ms/update/seed  (CPU ms)   median, least")
    for size, seeds in cases:
        own = [x for x in lines if (x["env"], x["seeds"]) == (size.env, seeds)]
        ms, cpu = [x["ms"] for x in own], [x["cpu_ms"] for x in own]
        print(
            f"{size.width}x{size.width:<7} {size.batch:5} {seeds:6} "
            f"{statistics.median(ms):9.2f} {min(ms):6.2f}   "
            f"({statistics.median(cpu):.2f}, {min(cpu):.2f})"
        )


if __name__ == "__main__":
    main()
