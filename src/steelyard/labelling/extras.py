"""The app's optional packages: what is missing, in one line with the command that installs it."""

import importlib

PACKAGES = ("fastapi", "uvicorn")


def require() -> None:
    """Make sure that the app can run.

    Raises:
        ImportError: Names the missing package and the command.
    """
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f"the labelling app needs {package}: pip install 'steelyard[label]'"
            ) from error
