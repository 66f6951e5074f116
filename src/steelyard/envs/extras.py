"""Optional simulators: what is missing, in one line with the command that installs it."""

import importlib
from typing import Any

FITTING = ((3, 8), (3, 9))
"""The range of mujoco in which the extras run together."""


def require(package: str, extra: str) -> Any:
    """Import an optional simulator.

    Args:
        package: What to import.
        extra: Name of Steelyard's extra.

    Raises:
        ImportError: It is not installed, or not with a fitting mujoco; says how to install it.
    """
    require_fitting_mujoco(package, extra)
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{package} is not installed: pip install 'steelyard[{extra}]'"
        ) from error


def require_fitting_mujoco(package: str, extra: str) -> None:
    """Refuse a mujoco that a simulator does not run with.

    Args:
        package: The simulator.
        extra: Name of Steelyard's extra.

    Raises:
        ImportError: mujoco is another; says which would fit, and how to install it.
    """
    import mujoco

    found = tuple(int(part) for part in mujoco.__version__.split(".")[:2])
    if not FITTING[0] <= found < FITTING[1]:
        raise ImportError(
            f"{package} runs with mujoco >=3.8,<3.9, found {mujoco.__version__}: "
            f"pip install 'steelyard[{extra}]' 'mujoco>=3.8,<3.9'"
        )
