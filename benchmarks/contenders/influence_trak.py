"""TRAK (``traker``) with its projector for CPUs, one checkpoint; prints one JSON line.

Started by ``benchmarks/peers.py`` with the interpreter of the peers. An item's score is its mean
over the targets.
"""

import argparse
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from flips_task import Task
from measured import report, took
from torch import nn
from trak import TRAKer

BATCH = 1_000
"""Large, since the projector draws its matrix anew for every batch."""


def network(task: Task) -> nn.Sequential:
    parts: list[nn.Module] = []
    for w, b in task.layers:
        linear = nn.Linear(*w.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.as_tensor(w.T))
            linear.bias.copy_(torch.as_tensor(b))
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1]).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--width", type=int, required=True, help="dimensions of the projection")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    task = Task(args.task)
    model = network(task)

    def batches(pair: tuple[np.ndarray, np.ndarray]):
        x, y = map(torch.as_tensor, pair)
        return zip(x.split(BATCH), y.split(BATCH), strict=True)

    def scores(folder: str) -> np.ndarray:
        traker = TRAKer(
            model=model,
            task="image_classification",
            train_set_size=len(task.items[1]),
            save_dir=folder,
            device="cpu",
            proj_dim=args.width,
            projector_seed=args.seed,
            use_half_precision=False,
            logging_level=logging.ERROR,
        )
        traker.load_checkpoint(model.state_dict(), model_id=0)
        for batch in batches(task.items):
            traker.featurize(batch=batch, num_samples=len(batch[1]))
        traker.finalize_features()
        count = len(task.targets[1])
        traker.start_scoring_checkpoint("flips", model.state_dict(), 0, num_targets=count)
        for batch in batches(task.targets):
            traker.score(batch=batch, num_samples=len(batch[1]))
        return np.asarray(traker.finalize_scores("flips")).mean(1)

    with tempfile.TemporaryDirectory() as folder:
        found, time = took(scores, folder)
    metrics = {"seconds": time.wall, "cpu_seconds": time.cpu, "auroc": task.auroc(found)}
    report(metrics, ("traker", "torch"), threads=args.threads)


if __name__ == "__main__":
    main()
