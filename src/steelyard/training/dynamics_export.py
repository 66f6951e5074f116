"""Trained dynamics models for planners: one compiled step, its Jacobians, an ONNX file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from steelyard.agents.dynamics import Dynamics
from steelyard.agents.dynamics.models import Carry
from steelyard.agents.dynamics.plants import KinematicPlant

ONNX_TOLERANCE = 1e-5
"""Largest difference between an exported model and ours, in float32 and SI units."""
_CHECKS = 32


class Linear(NamedTuple):
    """First-order model of one step around a point.

    The state is ``(vx, vy, w)``, then the past commands oldest first, then the actuators (drive,
    steering); see :func:`pack_state`. ``a[:3, :3]`` is the derivative of the next twist in the
    twist.

    Attributes:
        a: Derivative of the next state in the state.
        b: Derivative of the next state in the command.
    """

    a: Float[Array, "state state"]
    b: Float[Array, "state 2"]


class PlannerStep(NamedTuple):
    """One item's dynamics, compiled; batch it with ``jax.vmap``.

    Attributes:
        start: ``(past commands [history, 2], command [2]) -> carry``: the memory of a rollout that
            begins after these commands, actuators at rest at the last of them.
        step: ``(twist [3], command [2], dt [], carry) -> (twist [3], carry)``, ``dt`` s later.
        linearise: ``(twist, command, dt, carry) -> Linear``, by forward differentiation.
    """

    start: Callable[[Array, Array], Carry]
    step: Callable[[Array, Array, Array, Carry], tuple[Array, Carry]]
    linearise: Callable[[Array, Array, Array, Carry], Linear]


def planner_step(learner: Dynamics) -> PlannerStep:
    """Compile the averaged model of a learner for a planner.

    Example:
        >>> planner = planner_step(load_model("runs/train_dynamics/0123456789ab"))
        >>> carry = planner.start(jnp.zeros((0, 2)), command)
        >>> twist, carry = planner.step(twist, command, jnp.asarray(0.1), carry)
        >>> a, b = planner.linearise(twist, command, jnp.asarray(0.1), carry)
    """
    model, history = learner.average, learner.config.model.history

    def step(
        twist: Float[Array, "3"],
        command: Float[Array, "2"],
        dt: Float[Array, ""],
        carry: Carry,
    ) -> tuple[Float[Array, "3"], Carry]:
        following, carry, _ = model.step(twist, command, dt, carry)
        return following, carry

    def start(past: Float[Array, "history 2"], command: Float[Array, "2"]) -> Carry:
        return model.start(past, command)

    def linearise(
        twist: Float[Array, "3"],
        command: Float[Array, "2"],
        dt: Float[Array, ""],
        carry: Carry,
    ) -> Linear:
        def advance(state: Array, command: Array) -> Array:
            return pack_state(*step(*_swapped(unpack_state(state, history), command, dt)))

        return Linear(*jax.jacfwd(advance, (0, 1))(pack_state(twist, carry), command))

    return PlannerStep(jax.jit(start), jax.jit(step), jax.jit(linearise))


def pack_state(twist: Float[Array, "3"], carry: Carry) -> Float[Array, " state"]:
    """A planner's state as one vector of ``3 + 2 history + 2`` numbers."""
    return jnp.concatenate([twist, carry.past.reshape(-1), carry.actuators])


def unpack_state(state: Float[Array, " state"], history: int) -> tuple[Float[Array, "3"], Carry]:
    """Undo :func:`pack_state`."""
    return state[:3], Carry(state[3:-2].reshape(history, 2), state[-2:])


def export_onnx(learner: Dynamics, path: Path) -> Path:
    """Write one step of the averaged model as ONNX, run it beside ours, and describe it.

    Inputs are ``twist``, ``command``, ``dt``, and ``past`` and ``actuators`` where the model has
    such; outputs ``next_twist`` and, likewise, ``next_past`` and ``next_actuators``. A ``.json``
    beside the file has their units.

    Args:
        learner: The model.
        path: Of the ``.onnx`` file.

    Raises:
        ImportError: The extra ``onnx`` is not installed; names the command that installs it.
        RuntimeError: The exported model's numbers are not ours.
    """
    try:
        import jax2onnx
    except ImportError as error:
        raise ImportError("export to ONNX needs: pip install 'steelyard[onnx]'") from error
    step, shapes, outputs = _onnx_step(learner)
    path.parent.mkdir(parents=True, exist_ok=True)
    jax2onnx.to_onnx(
        step,
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes.values()],
        return_mode="file",
        output_path=str(path),
        input_names=list(shapes),
        output_names=outputs,
    )
    worst = _difference(path, step, shapes)
    if not worst <= ONNX_TOLERANCE:
        path.unlink()
        raise RuntimeError(
            f"the exported model must equal ours within {ONNX_TOLERANCE:g}; it is off by "
            f"{worst:.3g}: a bug in the export, please report it"
        )
    kind = learner.average.plant.command_kind
    units = {
        "twist": "vx (m/s), vy (m/s), w (rad/s) in the body frame",
        "command": f"{kind} ({'m/s' if kind == 'velocity' else '[-1, 1]'}), steering (rad, left)",
        "dt": "s",
        "past": "earlier commands, oldest first",
        "actuators": "drive and steering as the actuators stand; at first the last command",
    }
    described = {
        "inputs": {name: {"shape": shape, "is": units[name]} for name, shape in shapes.items()},
        "outputs": outputs,
        "largest_difference": worst,
    }
    path.with_suffix(".json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return path


def _onnx_step(
    learner: Dynamics,
) -> tuple[Callable[..., tuple], dict[str, tuple[int, ...]], list[str]]:
    """The step as a function of arrays only, the shape of each, and names of its results."""
    model, history = learner.average, learner.config.model.history
    shapes: dict[str, tuple[int, ...]] = {"twist": (3,), "command": (2,), "dt": ()}
    remembers = {"past": history > 0, "actuators": not isinstance(model.plant, KinematicPlant)}
    sizes = {"past": (history, 2), "actuators": (2,)}
    kept = [name for name, used in remembers.items() if used]
    shapes |= {name: sizes[name] for name in kept}

    def step(twist: Array, command: Array, dt: Array, *memory: Array) -> tuple:
        given = dict(zip(kept, memory, strict=True))
        carry = Carry(*(given.get(name, jnp.zeros(sizes[name])) for name in remembers))
        following, carry, _ = model.step(twist, command, dt, carry)
        return following, *(getattr(carry, name) for name in kept)

    return step, shapes, ["next_twist", *(f"next_{name}" for name in kept)]


def _difference(path: Path, step: Callable, shapes: dict[str, tuple[int, ...]]) -> float:
    """Largest difference between a file and the function it was made of, on random inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its remarks on unused constants are no concern of the user's
    session = onnxruntime.InferenceSession(str(path), options)
    compiled, random, worst = jax.jit(step), np.random.default_rng(0), 0.0
    for _ in range(_CHECKS):
        given = {n: random.uniform(-0.5, 0.5, shape).astype("f4") for n, shape in shapes.items()}
        given["dt"] = np.asarray(random.uniform(0.02, 0.1), "f4")
        theirs = session.run(None, {n: np.asarray(v) for n, v in given.items()})
        ours = compiled(*map(jnp.asarray, given.values()))
        worst = max(
            worst,
            *(float(np.abs(np.asarray(a) - b).max()) for a, b in zip(ours, theirs, strict=True)),
        )
    return worst


def _swapped(
    state: tuple[Array, Carry], command: Array, dt: Array
) -> tuple[Array, Array, Array, Carry]:
    twist, carry = state
    return twist, command, dt, carry
