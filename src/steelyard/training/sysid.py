"""Identify a simulated car's numbers from recordings with ``mujoco.sysid``.

The peer of the learned models: structure by hand, numbers by nonlinear least squares over
simulated rollouts. The residuals of a recording are those of its whole open-loop rollout, at the
recorded instants: position over 1 m, twist over the standard deviation of the recorded twists. They
pass through ``soft_l1``, so that the few trajectories that no single friction explains do not rule
the fit.

``mujoco.sysid`` makes the models, the finite differences and the search; what it compares (a planar
twist in the heading frame) and where a rollout starts are ours. Its starts are fixed during a
search, although they follow from the numbers sought (lag and trim of the steering), so a fit is a
few searches, each from the starts of the one before.
"""

import contextlib
import functools
import io
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from steelyard.envs.car.scene import require_mujoco
from steelyard.evaluation.model_rollout import Recordings
from steelyard.training.sysid_plants import Plant
from steelyard.training.sysid_rollouts import held_commands, motion, start_states, substeps

BROKEN = 1e3
"""Residual where the physics broke down, and bound of all others."""
_DIFFERENCE = 1e-4
_MOTION = ("x", "y", "theta", "vx", "vy", "w")


class PlantFit(NamedTuple):
    """What a fit found.

    Attributes:
        values: Of every unknown.
        half_width: Half of each one's 95 % interval as ``mujoco.sysid`` computes it: as if residuals
            were independent, which along a trajectory they are not. Far too narrow, but wide where
            the recordings do not tell a number.
        cost: Half the sum of the robust squares at the first guess and after each search.
        evaluations: Calls of the residual function in all searches; a Jacobian counts as one per
            unknown.
        cpu_s: Process time.
        wall_s: Wall time.
    """

    values: dict[str, float]
    half_width: dict[str, float]
    cost: tuple[float, ...]
    evaluations: int
    cpu_s: float
    wall_s: float


def fit_plant(
    plant: Plant,
    recordings: Recordings,
    *,
    searches: int = 1,
    max_steps: int = 20,
    threads: int = 1,
) -> PlantFit:
    """Minimise the open-loop errors of a plant on recordings over its unknowns.

    Args:
        plant: The simulator.
        recordings: What to explain; whole trajectories or windows.
        searches: How often the starts are taken anew, at least 1. One is enough where all
            recordings start at rest.
        max_steps: Of the trust-region search, each time; at least 1.
        threads: Rollouts at once.

    Raises:
        ImportError: The extra is missing; names the command that installs it.
        ValueError: A count is below 1, or the recordings' step does not suit the simulator's.
    """
    for name, count in (("searches", searches), ("max_steps", max_steps), ("threads", threads)):
        if count < 1:
            raise ValueError(f"fit_plant: {name} must be at least 1, got {count}")
    sysid = require_sysid()
    wall, cpu = time.perf_counter(), time.process_time()
    parameters, ranges = _parameters(sysid, plant)
    costs, evaluations = [], 0
    result = None
    for _ in range(searches):
        residual, count = _residual_function(sysid, plant, parameters, ranges, recordings, threads)
        if not costs:
            costs.append(_robust_cost(np.concatenate(residual(parameters.as_vector(), parameters)[0])))
        # It prints its progress and offers no way to keep it quiet.
        with contextlib.redirect_stdout(io.StringIO()):
            parameters, result = sysid.optimize(
                parameters,
                residual,
                optimizer="scipy_parallel_fd",
                verbose=False,
                max_iters=max_steps,
                loss="soft_l1",
                diff_step=_DIFFERENCE,
                x_scale=1.0,
            )
        costs.append(float(result.cost))
        evaluations += count()
    _, half_width = sysid.calculate_intervals([result.fun], result.jac)
    return PlantFit(
        values=_values(parameters, ranges),
        half_width={
            name: float(width * (high - low))
            for (name, (low, high)), width in zip(ranges.items(), half_width, strict=True)
        },
        cost=tuple(costs),
        evaluations=evaluations,
        cpu_s=time.process_time() - cpu,
        wall_s=time.perf_counter() - wall,
    )


def require_sysid() -> Any:
    """Return the module ``mujoco.sysid``.

    Raises:
        ImportError: It or what it needs is not installed; names the command that installs it.
    """
    try:
        from mujoco import sysid
    except ImportError as error:
        raise ImportError(
            f"a fit by mujoco.sysid needs its extra ({error.name} is missing): "
            "pip install 'steelyard[sysid]'"
        ) from error
    return sysid


Ranges = Mapping[str, tuple[float, float]]


def _parameters(sysid: Any, plant: Plant) -> tuple[Any, Ranges]:
    """Unknowns between 0 and 1: the finite differences take one step for all of them."""
    parameters, ranges = sysid.ParameterDict(), {}
    for name, unknown in plant.unknowns.items():
        ranges[name] = (unknown.low, unknown.high)
        place = (unknown.start - unknown.low) / (unknown.high - unknown.low)
        parameters.add(sysid.Parameter(name, place, 0.0, 1.0))
    return parameters, ranges


def _values(parameters: Any, ranges: Ranges) -> dict[str, float]:
    return {
        name: low + float(parameters[name].value[0]) * (high - low)
        for name, (low, high) in ranges.items()
    }


def _residual_function(
    sysid: Any, plant: Plant, parameters: Any, ranges: Ranges, recordings: Recordings, threads: int
) -> tuple[Any, Any]:
    """``mujoco.sysid``'s residual function with starts as the present values have them, and a count
    of the points at which it was asked."""
    # The residual asks for the same models once per recording.
    cached = functools.lru_cache(len(ranges) + 2)(
        lambda items: plant.build(dict(items))
    )
    points = 0

    def build(parameters: Any, spec: Any) -> Any:
        return cached(tuple(_values(parameters, ranges).items()))

    model = build(parameters, None)
    every = substeps(model, recordings)
    scale = _scales(recordings)

    def compare(parameters, sensed, measured, model, return_all, state, **_):
        simulated = motion(model, state, every)
        off = (simulated - measured.data)[:, [0, 1, 3, 4, 5]] / scale
        bounded = np.clip(np.nan_to_num(off, nan=BROKEN), -BROKEN, BROKEN)
        predicted = sysid.TimeSeries(measured.times, simulated, measured.signal_mapping)
        return bounded, predicted, measured

    built = sysid.build_residual_fn(
        models_sequences=[_sequences(sysid, model, recordings, plant.name, every)],
        build_model=build,
        modify_residual=compare,
        n_threads=threads,
        resample_true=False,
    )

    def residual(x, parameters):
        nonlocal points
        points += 1 if x.ndim == 1 else x.shape[1]
        return built(x, parameters)

    return residual, lambda: points


def _sequences(
    sysid: Any, model: Any, recordings: Recordings, name: str, every: int
) -> Any:
    """Recordings as ``mujoco.sysid`` wants them."""
    mujoco = require_mujoco()
    # It only checks that a model with as many sensors as there are measured columns exists.
    spec = mujoco.MjSpec()
    return spec


def _scales(recordings: Recordings) -> Float[np.ndarray, " 5"]:
    twist = np.asarray(recordings.window.twist, np.float64)[np.asarray(recordings.valid)]
    return np.concatenate([[1.0, 1.0], np.maximum(twist.std(axis=0), 1e-3)])


def _robust_cost(residual: np.ndarray) -> float:
    """Half the sum of ``2 (sqrt(1 + r²) - 1)``, as the search counts it."""
    return float((np.sqrt(1.0 + residual**2) - 1.0).sum())
