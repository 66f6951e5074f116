"""Scores of a trained dynamics model on test trajectories: ``metrics.json`` and figures."""

import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float

from steelyard.agents.dynamics import Dynamics
from steelyard.data.trajectories import Trajectories
from steelyard.evaluation.metrics_file import EvaluationInfo, metrics_json, write_metrics
from steelyard.evaluation.model_rollout import (
    Prediction,
    Recordings,
    floor,
    naive,
    timed,
)
from steelyard.evaluation.motion_metrics import MotionErrors, motion_metrics
from steelyard.evaluation.motion_plots import draw_all, draw_trajectory, file_stem
from steelyard.training.dynamics import model_of
from steelyard.training.dynamics_files import MODEL_FILE
from steelyard.training.dynamics_windows import Cut, recordings_of


def evaluate_model(
    learner: Dynamics,
    trajectories: Trajectories,
    folder: Path,
    *,
    name: str | None = None,
    cut: Cut | None = None,
    requested: int | None = None,
    random: bool = False,
    seed: int | None = None,
    figures: int | None = None,
    bias: Float[Array, "rollout 3"] | None = None,
) -> MotionErrors:
    """Roll a model out open-loop and write ``eval/<name>/``.

    It holds ``metrics.json`` (see :mod:`steelyard.evaluation.metrics_file`), ``traj_<id>.png`` and
    ``traj_all.png``.

    Args:
        learner: The model; its average is evaluated.
        trajectories: What to predict.
        folder: Of the run.
        name: Of this evaluation; none takes the time.
        cut: How rollouts are cut from the trajectories, one after the other, to be called
            ``<trajectory>@<first state>``; none predicts every trajectory whole.
        requested: How many trajectories were asked for; none: these.
        random: Whether they were drawn at random from the test set.
        seed: Seed of that draw.
        figures: How many get a figure of their own, the first ones, besides that of all; none: all
            of them; 0: no figure is drawn.
        bias: Added to the twist after every step of each rollout; none: nothing.

    Returns:
        Errors of every rollout, in the order of ``metrics.json``.

    Raises:
        ValueError: A trajectory is too short for the model's history.
    """
    name = name or evaluation_name(folder)
    recordings, ids = rollouts(trajectories, learner.config.model.history, cut)
    integrator = learner.config.integrator
    model = model_of(learner, bias)
    prediction, speed = timed(model, recordings, integrator)
    errors, least, constant = (
        MotionErrors.of(p, recordings)
        for p in (prediction, floor(recordings, integrator), naive(recordings, integrator))
    )
    info = EvaluationInfo(
        experiment_dir=str(folder),
        config_path=str(folder / "config.json"),
        checkpoint_path=str(folder / MODEL_FILE),
        device=next(iter(prediction.pose.devices())).platform,
        eval_run_name=name,
        num_eval_trajs_requested=requested or trajectories.num_trajectories,
        random_select=random,
        seed=seed,
        selected_ids=trajectories.ids,
    )
    place = folder / "eval" / name
    write_metrics(place / "metrics.json", metrics_json(info, ids, errors, least, constant, speed))
    if figures != 0:
        _draw(place, ids, prediction, recordings, errors, len(ids) if figures is None else figures)
    return errors


def evaluation_name(folder: Path) -> str:
    """The present time, to the second, as the name of a new evaluation of a run."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H-%M-%S")
    taken = sum(1 for _ in (folder / "eval").glob(f"{stamp}*"))
    return f"{stamp}-{taken + 1}" if taken else stamp


def rollouts(
    trajectories: Trajectories, history: int, cut: Cut | None = None
) -> tuple[Recordings, tuple[str, ...]]:
    """What to predict, as one batch, and what its items are called.

    Args:
        trajectories: Recorded motion.
        history: Past commands that the model reads.
        cut: How they are cut; none takes every trajectory whole.
    """
    recordings = recordings_of(trajectories, history, cut)
    if cut is None:
        return recordings, trajectories.ids
    windows = cut.windows(trajectories)
    first = windows.start - trajectories.offsets[windows.trajectory]
    ids = tuple(
        f"{trajectories.ids[t]}@{row}" for t, row in zip(windows.trajectory, first, strict=True)
    )
    return recordings, ids


def _draw(
    place: Path,
    ids: Sequence[str],
    prediction: Prediction,
    recordings: Recordings,
    errors: MotionErrors,
    figures: int,
) -> None:
    pose, predicted = np.asarray(recordings.window.pose), np.asarray(prediction.pose)
    shown = errors.valid & errors.alive
    pairs = [(pose[i, errors.valid[i], :2], predicted[i, shown[i], :2]) for i in range(len(ids))]
    mean_m = motion_metrics(errors)["ate_m"]
    for (recorded, path), name, error in list(zip(pairs, ids, mean_m, strict=True))[:figures]:
        draw_trajectory(place / f"traj_{file_stem(name)}.png", recorded, path, name, float(error))
    headings = pose[:, 0, 2].tolist()
    draw_all(place / "traj_all.png", [r for r, _ in pairs], [p for _, p in pairs], headings)
