"""Steelyard's influence of items on the likelihood of clean ones: a direction, then one JVP.

Started by ``benchmarks/peers.py``. ``plain`` goes by the gradient itself, ``cg`` by ten steps of
conjugate gradients through the empirical Fisher matrix of 4,096 items.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flips_task import Task, losses
from measured import Moment, report

from steelyard.emphasis.influence import conjugate_gradient, influence, target_gradient

FISHER_ITEMS, STEPS, DAMPING = 4_096, 10, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("direction", choices=("plain", "cg"))
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    task = Task(args.task)
    given = jax.tree.map(jnp.asarray, (task.layers, task.items, task.targets))

    def scores(layers, items, targets):
        (x, y), (target_x, target_y) = items, targets
        count = target_y.shape[0]
        weights = jnp.full(count, 1.0 / count)
        direction = target_gradient(lambda p: -losses(p, target_x, target_y), layers, weights)
        if args.direction == "cg":

            def own(p):
                return losses(p, x[:FISHER_ITEMS], y[:FISHER_ITEMS])

            _, pull = jax.vjp(own, layers)

            def product(v):
                return pull(jax.jvp(own, (layers,), (v,))[1] / FISHER_ITEMS)[0]

            direction, _ = conjugate_gradient(product, direction, jnp.asarray(DAMPING), STEPS)
        return influence(lambda p: losses(p, x, y), layers, direction)

    compiled = jax.jit(scores).lower(*given).compile()
    jax.block_until_ready(compiled(*given))
    begin = Moment.now()
    found = jax.block_until_ready(compiled(*given))
    time = Moment.now().since(begin)
    metrics = {
        "seconds": time.wall,
        "cpu_seconds": time.cpu,
        "auroc": task.auroc(np.asarray(found)),
    }
    report(metrics, ("steelyard", "jax"))


if __name__ == "__main__":
    main()
