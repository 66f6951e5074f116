"""Steelyard's draws by priority: of trajectories, and of single items.

Started by ``benchmarks/peers.py``. Every way alternates a draw of 256 with an update of the 256
priorities drawn, as a learner does, in a scan as the loops run it; by themselves, draws and updates
are timed one call at a time. ``trajectories`` is the path of the offline2online study: ranks every
50 updates, tables every 5, running means of TD errors per trajectory. ``items`` is a table over all
items, made anew ``--every`` so many updates.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from measured import Moment, report

from steelyard.emphasis.measures import length_base
from steelyard.emphasis.samplers import Systematic, draw_starts_from
from steelyard.emphasis.trajectory_priorities import TrajectoryPriorities
from steelyard.emphasis.weightings import Rank

DRAWS, STEPS = 256, 200
"""Steps of a trajectory."""
RANKS, TABLES = 50, 5
POWER, CORRECTION = 0.6, 0.4


def milliseconds(function, *arguments, steps: int, repeats: int = 5) -> float:
    """Median wall milliseconds a step, the first call (which compiles) left out."""
    jax.block_until_ready(function(*arguments))
    found = []
    for _ in range(repeats):
        begin = Moment.now()
        jax.block_until_ready(function(*arguments))
        found.append(Moment.now().since(begin).wall * 1e3 / steps)
    return float(np.median(found))


def trajectories(count: int, key: jax.Array, cycles: int) -> dict[str, float]:
    sampler, starts = Systematic(), jnp.full(count, STEPS, jnp.int32)
    base, valid = length_base(starts), jnp.ones(count, bool)
    errors = jax.random.exponential(key, (DRAWS,))
    priorities = TrajectoryPriorities(jax.random.exponential(key, (count,)), jnp.ones(count, int))

    def ratio(priorities):
        return Rank(0.7, 0.05).ratio(priorities.scores(valid), base=base)

    def table(ratio):
        return sampler.table(base * ratio, base)

    def cycle(table, priorities, key):
        drawn = draw_starts_from(sampler, table, starts, key, DRAWS)
        told = errors * drawn.correction + 0.0 * drawn.starts
        return priorities.seen(drawn.trajectories, told)

    def whole(priorities, keys):
        def stretch(priorities, keys):
            held = ratio(priorities)

            def window(priorities, keys):
                now = table(held)
                return jax.lax.scan(lambda p, k: (cycle(now, p, k), None), priorities, keys)

            return jax.lax.scan(window, priorities, keys.reshape(-1, TABLES))[0], None

        return jax.lax.scan(stretch, priorities, keys.reshape(-1, RANKS))[0]

    keys = jax.random.split(key, cycles)
    ready = table(ratio(priorities))
    drawn = jax.random.randint(key, (DRAWS,), 0, count)
    draw = jax.jit(lambda t, k: draw_starts_from(sampler, t, starts, k, DRAWS))
    seen = jax.jit(lambda p: p.seen(drawn, errors))
    return {
        "cycle_ms": milliseconds(jax.jit(whole), priorities, keys, steps=cycles),
        "draw_ms": _calls(lambda: draw(ready, key)),
        "update_ms": _calls(lambda: seen(priorities)),
    }


def items(count: int, key: jax.Array, cycles: int, every: int) -> dict[str, float]:
    sampler = Systematic(exponent=CORRECTION)
    priorities = jax.random.exponential(key, (count,)) ** POWER
    errors = jax.random.exponential(key, (DRAWS,)) ** POWER

    def cycle(table, priorities, key):
        drawn = sampler.draw(table, key, DRAWS)
        return priorities.at[drawn.indices].set(errors + 0.0 * drawn.correction)

    def whole(priorities, keys):
        def window(priorities, keys):
            now = sampler.table(priorities)
            return jax.lax.scan(lambda p, k: (cycle(now, p, k), None), priorities, keys)

        return jax.lax.scan(window, priorities, keys.reshape(-1, every))[0]

    keys = jax.random.split(key, cycles)
    metrics = {"cycle_ms": milliseconds(jax.jit(whole), priorities, keys, steps=cycles)}
    if every == 1:
        # By themselves draws and updates are the same however old the table is.
        return metrics
    ready, drawn = sampler.table(priorities), jax.random.randint(key, (DRAWS,), 0, count)
    draw = jax.jit(lambda t, k: sampler.draw(t, k, DRAWS))
    # In place, as in a loop that hands its state on.
    update = jax.jit(lambda p, e: p.at[drawn].set(e), donate_argnums=0)
    held = priorities + 0.0

    def again():
        nonlocal held
        held = update(held, errors)
        return held

    return metrics | {"draw_ms": _calls(lambda: draw(ready, key)), "update_ms": _calls(again)}


def _calls(function, calls: int = 200) -> float:
    def many():
        for _ in range(calls - 1):
            jax.block_until_ready(function())
        return function()

    return milliseconds(many, steps=calls, repeats=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("way", choices=("trajectories", "items"))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--items", type=int, nargs="+", default=(100_000, 1_000_000))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    key, metrics = jax.random.key(args.seed), {}
    for count in args.items:
        if args.way == "trajectories":
            found = trajectories(count // STEPS, key, 500)
        else:
            found = items(count, key, 50, args.every)
        metrics |= {f"{name}_{count}": value for name, value in found.items()}
    report(metrics, ("steelyard", "jax"))


if __name__ == "__main__":
    main()
