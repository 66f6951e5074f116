"""Draws by priority of torchrl (segment trees in C++) or cpprb; prints one JSON line.

Started by ``benchmarks/peers.py`` with the interpreter of the peers.
"""

import argparse
import importlib
import warnings
from importlib import metadata

import numpy as np
from measured import Moment, report

DRAWS, ALPHA, BETA = 256, 0.6, 0.4
WRONG_TORCH = (
    "torchrl {}'s compiled segment tree does not load beside torch {}: it is built for another one"
)


def milliseconds(function, calls: int = 200, repeats: int = 5) -> float:
    """Median wall milliseconds a call, a first round left out."""
    found = []
    for _ in range(repeats + 1):
        begin = Moment.now()
        for _ in range(calls):
            function()
        found.append(Moment.now().since(begin).wall * 1e3 / calls)
    return float(np.median(found[1:]))


def torchrl(count: int, random: np.random.Generator):
    import torch
    from torchrl.data import LazyTensorStorage
    from torchrl.data.replay_buffers.samplers import PrioritizedSampler

    storage = LazyTensorStorage(count)
    storage.set(range(count), torch.zeros(count, 1))
    sampler = PrioritizedSampler(count, ALPHA, BETA)
    sampler.extend(torch.arange(count))
    priorities = torch.as_tensor(random.exponential(size=count), dtype=torch.float32)
    sampler.update_priority(torch.arange(count), priorities)
    errors = torch.as_tensor(random.exponential(size=DRAWS), dtype=torch.float32)
    rows = torch.as_tensor(random.integers(0, count, DRAWS))

    def draw():
        return sampler.sample(storage, DRAWS)[0]

    return draw, lambda index: sampler.update_priority(index, errors), rows


def cpprb(count: int, random: np.random.Generator):
    from cpprb import PrioritizedReplayBuffer

    buffer = PrioritizedReplayBuffer(count, {"x": {}}, alpha=ALPHA)
    buffer.add(x=np.zeros(count), priorities=random.exponential(size=count))
    errors, rows = random.exponential(size=DRAWS), random.integers(0, count, DRAWS)

    def draw():
        return buffer.sample(DRAWS, beta=BETA)["indexes"]

    return draw, lambda index: buffer.update_priorities(index, errors), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("peer", choices=("torchrl", "cpprb"))
    parser.add_argument("--items", type=int, nargs="+", default=(100_000, 1_000_000))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.peer == "torchrl":
        import torch

        try:
            importlib.import_module("torchrl._torchrl")
        except ImportError:
            versions = metadata.version("torchrl"), torch.__version__
            raise SystemExit(WRONG_TORCH.format(*versions)) from None
        torch.set_num_threads(args.threads)
    make, metrics = {"torchrl": torchrl, "cpprb": cpprb}[args.peer], {}
    for count in args.items:
        draw, update, rows = make(count, np.random.default_rng(args.seed))
        found = {
            "cycle_ms": milliseconds(lambda draw=draw, update=update: update(draw())),
            "draw_ms": milliseconds(draw),
            "update_ms": milliseconds(lambda update=update, rows=rows: update(rows)),
        }
        metrics |= {f"{name}_{count}": value for name, value in found.items()}
    packages = {"torchrl": ("torchrl", "torch"), "cpprb": ("cpprb",)}[args.peer]
    report(metrics, packages, threads=args.threads)


if __name__ == "__main__":
    main()
