"""The import checks as a user runs them: ``steelyard data check`` and ``data inspect``."""

from pathlib import Path

from steelyard.data.findings import CheckReport, DatasetError, Finding
from steelyard.data.formats import detect_format, load_with_report, resolve
from steelyard.data.inspection import inspect
from steelyard.data.raw import ActionUnits
from steelyard.data.specs import compare_specs
from steelyard.types import EnvSpec

__all__ = ["check_dataset", "compare_specs", "inspect"]


def check_dataset(
    path: str | Path,
    env_spec: EnvSpec | None = None,
    action_units: ActionUnits | None = None,
) -> CheckReport:
    """Run all import checks on a dataset and report everything they found.

    Args:
        path: A dataset in any known format.
        env_spec: The task, where the caller knows it.
        action_units: Units of the actions in the file, where the caller knows better.

    Returns:
        A report; ``print`` shows it, ``ok`` says whether the dataset can be used.

    Raises:
        DatasetNotFoundError: Nothing lies there.
        DatasetError: The path is a pickle file or no known format.
    """
    format = detect_format(resolve(path))
    try:
        return load_with_report(path, env_spec, action_units)[1]
    except DatasetError as error:
        finding = Finding("error", "readable", str(error))
        return CheckReport(str(path), format.name, (finding,), "")
