"""A small supervised task with planted wrong labels, and a network trained on it.

    python flips_task.py FILE.npz

20,000 items (noisy copies of scikit-learn's digits), a tenth of the labels drawn anew from the
wrong ones, 500 clean items to be judged by, and the weights of a network of 85,002 parameters after
three epochs. All contenders read the same file, so they judge the same network.
"""

import itertools
import sys
from pathlib import Path

import numpy as np

ITEMS, TARGETS, FLIPPED, EPOCHS, BATCH = 20_000, 500, 0.1, 3, 256
SIZES = (64, 256, 256, 10)


class Task:
    """What is in the file.

    Attributes:
        items: ``[item, 64]``, and their labels, some of which are wrong.
        targets: ``[target, 64]``, and their true labels.
        layers: Weights ``[in, out]`` and biases of each layer.
    """

    def __init__(self, path: Path):
        with np.load(path) as file:
            self.items = (file["x"], file["y"])
            self.targets = (file["target_x"], file["target_y"])
            self.layers = [(file[f"w{i}"], file[f"b{i}"]) for i in range(len(SIZES) - 1)]
            self._flipped = file["flipped"]

    def auroc(self, scores: np.ndarray) -> float:
        """Probability that a wrongly labelled item scores below a rightly labelled one."""
        ranks = np.empty(len(scores))
        ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
        wrong = int(self._flipped.sum())
        above = ranks[self._flipped].sum() - wrong * (wrong + 1) / 2
        return float(1.0 - above / (wrong * (len(scores) - wrong)))


def write(path: Path) -> None:
    import jax
    import jax.numpy as jnp
    import optax
    from sklearn.datasets import load_digits

    random = np.random.default_rng(0)
    digits = load_digits()
    order = random.permutation(len(digits.data))
    x, y = digits.data[order].astype(np.float32) / 16, digits.target[order]
    target_x, target_y, x, y = x[:TARGETS], y[:TARGETS], x[TARGETS:], y[TARGETS:]
    rows = random.integers(0, len(x), ITEMS)
    x = x[rows] + random.normal(0, 0.2, (ITEMS, SIZES[0])).astype(np.float32)
    flipped = random.random(ITEMS) < FLIPPED
    y = np.where(flipped, (y[rows] + random.integers(1, 10, ITEMS)) % 10, y[rows])
    layers = [
        (random.normal(0, (2 / a) ** 0.5, (a, b)).astype(np.float32), np.zeros(b, np.float32))
        for a, b in itertools.pairwise(SIZES)
    ]
    optimiser = optax.adam(1e-3)

    @jax.jit
    def epoch(layers, state, order):
        def step(carry, rows):
            layers, state = carry
            grads = jax.grad(
                lambda p: jnp.mean(losses(p, jnp.asarray(x)[rows], jnp.asarray(y)[rows]))
            )(layers)
            updates, state = optimiser.update(grads, state)
            return (optax.apply_updates(layers, updates), state), None

        return jax.lax.scan(step, (layers, state), order)[0]

    state = optimiser.init(layers)
    for _ in range(EPOCHS):
        order = random.permutation(ITEMS)[: ITEMS // BATCH * BATCH].reshape(-1, BATCH)
        layers, state = epoch(layers, state, order)
    found = {
        f"{n}{i}": np.asarray(v)
        for i, layer in enumerate(layers)
        for n, v in zip("wb", layer, strict=True)
    }
    more = {"target_x": target_x, "target_y": target_y.astype(np.int64), "flipped": flipped}
    np.savez(path, x=x, y=y.astype(np.int64), **more, **found)


def losses(layers, x, y):
    """Cross-entropy of each item; needs JAX."""
    import jax
    import jax.numpy as jnp

    for w, b in layers[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = layers[-1]
    return -jnp.take_along_axis(jax.nn.log_softmax(x @ w + b), y[:, None], 1)[:, 0]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
