"""Identify a simulated car's numbers from recordings with ``mujoco.sysid``.

The peer of the learned models: structure by hand, numbers by nonlinear least squares over
simulated rollouts. The residuals of a recording are those of its whole open-loop rollout at the
recorded instants: position over 1 m, twist over the standard deviation of the recorded twists.

``mujoco.sysid`` compiles the models, takes the differences and searches; three things are ours:

- what is compared, the planar motion of the tracked point in its heading frame;
- the loss, ``soft_l1`` with a knee at ``KNEE``: a car that slides is not explained by the common
  friction, and where wheels hop a rollout is not a smooth function of anything;
- the steps of the finite differences. Contact makes the errors of a hard-driven car jump by some
  0.1 whatever the step is, so that the module's own step of 1e-8 sees slopes a thousand times too
  steep and the search stands still. A fit is a few searches with ever finer steps, all large.

The starts of the rollouts are fixed during a search, although they follow from the numbers sought
(lag and trim of the steering); each search takes them anew.
"""

import contextlib
import functools
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from steelyard.envs.car.scene import require_mujoco
from steelyard.evaluation.model_rollout import Recordings
from steelyard.training.sysid_plants import Plant, Values
from steelyard.training.sysid_rollouts import held_commands, motion, start_states, substeps

KNEE = 0.02
"""Residual beyond which the loss grows as its absolute value."""
DIFFERENCES = (0.03, 0.01, 0.003)
"""Steps of the finite differences in each search, as shares of an unknown's range."""
BROKEN = 1e3
"""Residual where the physics broke down, and bound of all others."""
_COMPARED = (0, 1, 3, 4, 5)
"""Of ``(x, y, theta, vx, vy, w)``; the heading is the integral of the yaw rate."""


class PlantFit(NamedTuple):
    """What a fit found.

    Attributes:
        values: Of every unknown.
        cost: Robust cost at the first guess and after each search.
        cpu_s: Process time.
        wall_s: Wall time.
    """

    values: dict[str, float]
    cost: tuple[float, ...]
    cpu_s: float
    wall_s: float


def fit_plant(
    plant: Plant,
    recordings: Recordings,
    *,
    differences: Sequence[float] = DIFFERENCES,
    max_steps: int = 10,
    threads: int = 1,
) -> PlantFit:
    """Minimise the open-loop errors of a plant on recordings over its unknowns.

    Args:
        plant: The simulator.
        recordings: What to explain; whole trajectories or windows.
        differences: Step of the finite differences in each search, as a share of an unknown's
            range, in (0, 0.5); one search each.
        max_steps: Points that a search may try, at least 1.
        threads: Rollouts at once, at least 1.

    Raises:
        ImportError: The extra is missing; names the command that installs it.
        ValueError: An argument is out of its range, or the recordings' step does not suit the
            simulator's.
    """
    for name, count in (("max_steps", max_steps), ("threads", threads)):
        if count < 1:
            raise ValueError(f"fit_plant: {name} must be at least 1, got {count}")
    if not differences or not all(0.0 < step < 0.5 for step in differences):
        raise ValueError(
            f"fit_plant: differences must be one or more in (0, 0.5), got {differences}"
        )
    sysid = require_sysid()
    wall, cpu = time.perf_counter(), time.process_time()
    parameters, ranges = _parameters(sysid, plant)
    costs = []
    for step in differences:
        residual = _residual_function(sysid, plant, ranges, parameters, recordings, threads)
        if not costs:
            costs.append(_robust_cost(residual(parameters.as_vector(), parameters)[0]))
        # It prints its progress and offers no way to keep it quiet.
        with contextlib.redirect_stdout(io.StringIO()):
            parameters, result = sysid.optimize(
                parameters,
                residual,
                optimizer="scipy_parallel_fd",
                verbose=False,
                max_iters=max_steps,
                loss="soft_l1",
                f_scale=KNEE,
                diff_step=step,
                x_scale=1.0,
            )
        costs.append(float(result.cost))
    return PlantFit(
        values=_values(parameters, ranges),
        cost=tuple(costs),
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
    sysid: Any, plant: Plant, ranges: Ranges, parameters: Any, recordings: Recordings, threads: int
) -> Callable[..., Any]:
    """``mujoco.sysid``'s residual function, with starts as the present values have them."""

    # The residual asks for the same few models once per recording.
    @functools.lru_cache(len(ranges) + 2)
    def compiled(items: tuple[tuple[str, float], ...]) -> Any:
        return plant.model(dict(items))

    def build(parameters: Any, spec: Any) -> Any:
        return compiled(tuple(_values(parameters, ranges).items()))

    every = substeps(build(parameters, None), recordings)
    scale = _scales(recordings)

    def compare(parameters, sensed, measured, model, return_all, state, **_):
        simulated = motion(model, state, every)
        off = (simulated - measured.data)[:, _COMPARED] / scale
        bounded = np.clip(np.nan_to_num(off, nan=BROKEN), -BROKEN, BROKEN)
        return bounded, sysid.TimeSeries(measured.times, simulated), measured

    return sysid.build_residual_fn(
        models_sequences=[_sequences(sysid, plant, _values(parameters, ranges), recordings)],
        build_model=build,
        modify_residual=compare,
        n_threads=threads,
        resample_true=False,
    )


def _sequences(sysid: Any, plant: Plant, values: Values, recordings: Recordings) -> Any:
    """Recordings as ``mujoco.sysid`` wants them, one sequence each, without their padding."""
    mujoco = require_mujoco()
    spec = plant.spec(values)
    # It requires a model with as many sensors as there are measured columns, and asks no more.
    spec.add_sensor(name="motion", type=mujoco.mjtSensor.mjSENS_USER, dim=6)
    model = spec.compile()
    every, small = substeps(model, recordings), model.opt.timestep
    window = recordings.window
    measured = np.concatenate([window.pose, window.twist], axis=-1).astype(np.float64)
    controls, sensed = [], []
    for row, command, valid in zip(
        measured, held_commands(model, recordings), np.asarray(recordings.valid), strict=True
    ):
        steps = int(valid.sum()) - 1
        # The last row of a control is not applied.
        applied = np.pad(command[: steps * every], ((0, 1), (0, 0)), mode="edge")
        controls.append(sysid.TimeSeries(np.arange(len(applied)) * small, applied))
        instants = np.arange(1, steps + 1) * every * small
        sensed.append(sysid.TimeSeries(instants, row[1 : steps + 1]))
    names = [f"{plant.name}_{item}" for item in range(len(controls))]
    starts = list(start_states(model, recordings))
    return sysid.ModelSequences(plant.name, spec, names, starts, controls, sensed)


def _scales(recordings: Recordings) -> Float[np.ndarray, " 5"]:
    twist = np.asarray(recordings.window.twist, np.float64)[np.asarray(recordings.valid)]
    return np.concatenate([[1.0, 1.0], np.maximum(twist.std(axis=0), 1e-3)])


def _robust_cost(residuals: Sequence[np.ndarray]) -> float:
    """Half the sum of ``2 (sqrt(1 + (r/k)²) - 1) k²``, as the search counts it."""
    losses = np.sqrt(1.0 + (np.concatenate(residuals) / KNEE) ** 2) - 1.0
    return float(KNEE**2 * losses.sum())
