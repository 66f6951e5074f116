"""The machine: which device computes, what it is called in records, and when it is full."""

import os
import platform
import re
from pathlib import Path

import jax

from steelyard.training.sharding import share_batches

PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"
FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
SHARE_OF_MEMORY = 0.9
"""Of a GPU's memory that all who share it may take together."""


def hardware() -> str:
    """The device that computes, and the processor: ``2 × AMD EPYC (cpu)``."""
    device = computing_device()
    host = f"{os.cpu_count()} × {_processor()}"
    if device.platform == "cpu":
        return f"{host} (cpu)"
    return f"1 × {device.device_kind}; host {host}"


def computing_device() -> jax.Device:  # pyright: ignore[reportInvalidTypeForm]
    """The device chosen by :func:`use_device`, or else the first that JAX prefers."""
    chosen = jax.config.values["jax_default_device"]
    return chosen if isinstance(chosen, jax.Device) else jax.devices(chosen)[0]


def use_device(name: str) -> None:
    """Compute on a device from now on.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, or several that share each batch among
            them, ``cuda:0,1``.

    Raises:
        ValueError: JAX sees no such device; says what it sees and what to install.
    """
    if name == "auto":
        return
    kind, _, numbers = name.partition(":")
    seen = ", ".join(str(device) for device in jax.devices())
    try:
        devices = jax.devices({"cuda": "gpu"}.get(kind, kind))
        chosen = [devices[int(number)] for number in (numbers or "0").split(",")]
        if len(set(chosen)) < len(chosen):
            raise ValueError("one comes twice")
    except (RuntimeError, IndexError, ValueError) as error:
        raise ValueError(
            f"device must be auto, cpu, cuda, cuda:N or cuda:N,M, and be there: got {name!r}, "
            f"JAX sees {seen}. For an NVIDIA GPU: pip install 'steelyard[cuda]'"
        ) from error
    jax.config.update("jax_default_device", chosen[0])
    if len(chosen) > 1:
        share_batches(chosen)


def share_of_memory(part: float) -> dict[str, str]:
    """Variables that give a process a part of a GPU's memory, unless the user has set one."""
    if FRACTION in os.environ or os.environ.get(PREALLOCATE) == "false":
        return {}
    return {FRACTION: f"{SHARE_OF_MEMORY * part:.3f}"}


def take_little() -> None:
    """Let this process, which hands out work, leave a GPU's memory to those who do the work.

    JAX takes most of it when it first looks at the device, so this comes before anything else.
    """
    before = os.environ.get(PREALLOCATE)
    os.environ[PREALLOCATE] = "false"
    try:
        jax.devices()
    finally:
        if before is None:
            del os.environ[PREALLOCATE]
        else:
            os.environ[PREALLOCATE] = before


def memory_hint(error: BaseException) -> str | None:
    """What ran out of memory and what to do about it, on one line; none for any other error."""
    if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in str(error):
        return None
    amount = re.search(r"allocat\w* ([\d.]+ ?\w+)", str(error))
    wanted = f"could not allocate {_gibibytes(amount[1])}" if amount else "nothing more fits"
    device = computing_device()
    return (
        f"out of memory on {device.device_kind} ({device}): {wanted}. Train fewer seeds together "
        "(--seed-group 1), take a smaller batch (--batch-size; in a study --ipmd.agent.batch-size "
        "and the like), or, where another program uses the device too, set "
        "XLA_PYTHON_CLIENT_PREALLOCATE=false."
    )


def _gibibytes(amount: str) -> str:
    """``17179869184 bytes`` as ``16.0 GiB``; what is no number of bytes stays as it is."""
    number, _, unit = amount.partition(" ")
    return f"{int(number) / 2**30:.1f} GiB" if unit == "bytes" else amount


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
