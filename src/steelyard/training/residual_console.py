"""Console lines of a residual run: those of the reference code, in its order and with its fields.

Data flow: settings and an iteration's metrics → lines.
"""

from collections.abc import Mapping

from steelyard.training.cupid import is_due
from steelyard.training.residual import ResidualRun

BAR = 10
"""Width of the bar of passes."""


def opening(run: ResidualRun) -> str:
    """Say what the emphasis is, before the first iteration."""
    cupid = run.cupid
    return (
        f"CUPID settings: use_cupid={cupid.use_cupid}, "
        f"compute_interval={cupid.cupid_compute_interval}"
    )


def lines(run: ResidualRun, iteration: int, metrics: Mapping[str, float]) -> list[str]:
    """Tell of one iteration.

    Args:
        run: Settings.
        iteration: Counted from 1.
        metrics: Its row.
    """
    cupid, told = run.cupid, [f"Iteration: {iteration}/{run.loop.iterations}"]
    if is_due(cupid, iteration, has_scorer=iteration > 1):
        told.append(f"Computing CUPID importance scores at iteration {iteration}...")
    if cupid.use_cupid:
        told.append(f"CUPID computation took {metrics['cupid/compute_time_s']:.2f}s")
    suffix = "_actor" if "cupid/importance_min_actor" in metrics else ""
    if f"cupid/importance_min{suffix}" in metrics:
        low, high, mean, effective = (
            metrics[f"cupid/{name}{suffix}"]
            for name in ("importance_min", "importance_max", "importance_mean", "ess_share")
        )
        told.append(
            f"Importance stats: min={low:.1e}, max={high:.1e}, mean={mean:.1e}, ESS={effective:.2f}"
        )
    told.append(
        f"SR: {metrics['charts/success_rate']:.2%}, SPS: {metrics['training/SPS']:.2f}, "
        f"STS: {metrics['charts/success_timesteps_share']:.2%}, "
        f"MSEL: {metrics['charts/mean_success_episode_length']:.2f}"
    )
    told.append(_passes(run, metrics))
    return told


def _passes(run: ResidualRun, metrics: Mapping[str, float]) -> str:
    total, done = run.update.update_epochs, round(metrics["losses/epochs"])
    seconds = metrics["training/share_update"] * run.loop.items / max(metrics["training/SPS"], 1e-9)
    full = round(BAR * done / total)
    bar = "█" * full + " " * (BAR - full)
    clock = f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
    rate = done / max(seconds, 1e-9)
    return (
        f"Policy update: {done / total:4.0%}|{bar}| {done}/{total} [{clock}<00:00, {rate:.2f}it/s]"
    )
