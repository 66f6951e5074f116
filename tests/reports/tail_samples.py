"""A small study of errors per test item, with values that can be checked by hand."""

import numpy as np

from steelyard.reports import Arm, Metric, Record, StudyReport, TailComparison

SPEC = StudyReport(
    study="pushes",
    title="Where a pushed box ends",
    primary_metric="error",
    raw_metric="error",
    metrics=(Metric("error", "position error", "Position error, m", higher_is_better=False),),
    arms=(
        Arm("mean", "Mean loss", role="baseline"),
        Arm("mild", "Tail 0.5"),
        Arm("sharp", "Tail 0.2"),
        Arm("huber", "Huber", role="control"),
    ),
    primary_axes={"floor": "wood"},
    tails=(
        TailComparison("sharp", "mean", "Sharp"),
        TailComparison("mild", "mean"),
        TailComparison("huber", "mean", declared=False),
    ),
    item="pushes",
    item_heading="Position error, m",
    frontier=("mean", "mild", "sharp"),
    controls=("huber",),
)


def errors(seed, items=10):
    """The numbers 1 … items, in an order of the seed's own and a little larger with the seed."""
    order = np.random.default_rng(seed).permutation(items)
    return (1.0 + order) * (1.0 + 0.1 * seed)


def run(arm, seed, values, floor="wood", **changes):
    """One finished run with the given errors."""
    fields = {
        "study": "pushes",
        "preset": "quick",
        "arm": arm,
        "seed": seed,
        "axes": {"floor": floor},
        "metrics": {"error": None if len(values) == 0 else float(np.mean(values))},
        "per_start_returns": tuple(map(float, values)),
        "curve": (),
        "seconds": 1,
        "frames": None,
        "epochs": 10,
        "hardware": "2 cores",
        "command": "steelyard study run pushes",
        "version": "0.1.0",
        "versions": {},
        "run_id": f"{arm}-{floor}-{seed}",
        "parent": None,
        "status": "done",
        "notes": (),
    }
    return Record(**(fields | changes))


def arm(name, factor, seeds=6, floor="wood", items=10):
    """The runs of an arm whose errors are ``factor`` times those of the baseline."""
    return [run(name, seed, factor * errors(seed, items), floor) for seed in range(seeds)]


def study(seeds=6):
    """``sharp`` halves every error on wood and doubles it on felt; the others change it by 10 %."""
    return [
        *arm("mean", 1.0, seeds),
        *arm("mean", 1.0, seeds, "felt"),
        *arm("sharp", 0.5, seeds),
        *arm("sharp", 2.0, seeds, "felt"),
        *arm("mild", 0.9, seeds),
        *arm("huber", 1.1, seeds),
    ]
