"""The machine: which device computes, and what it is called in records."""

import os
import platform
from pathlib import Path

import jax


def hardware() -> str:
    """Devices that JAX computes on, and the processor: ``2 × AMD EPYC (cpu)``."""
    devices = jax.devices()
    kinds = sorted({device.device_kind for device in devices})
    host = f"{os.cpu_count()} × {_processor()}"
    if devices[0].platform == "cpu":
        return f"{host} (cpu)"
    return f"{len(devices)} × {', '.join(kinds)}; host {host}"


def use_device(name: str) -> None:
    """Compute on a device from now on.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ValueError: JAX sees no such device; says what it sees and what to install.
    """
    if name == "auto":
        return
    kind, _, number = name.partition(":")
    seen = ", ".join(str(device) for device in jax.devices())
    try:
        devices = jax.devices({"cuda": "gpu"}.get(kind, kind))
        device = devices[int(number or 0)]
    except (RuntimeError, IndexError, ValueError) as error:
        raise ValueError(
            f"device must be auto, cpu, cuda or cuda:N, and be there: got {name!r}, JAX sees "
            f"{seen}. For an NVIDIA GPU: pip install 'steelyard[cuda]'"
        ) from error
    jax.config.update("jax_default_device", device)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
