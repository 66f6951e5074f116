"""Studies: complete comparisons, each a baseline against a method over paired seeds."""

import difflib
import importlib
from typing import Any

STUDIES = {
    "imitation": "steelyard.studies.imitation",
    "car": "steelyard.studies.car",
    "assembly": "steelyard.studies.assembly",
    "offline2online": "steelyard.studies.offline2online",
    "piano": "steelyard.studies.piano",
    "grid": "steelyard.studies.grid",
}
"""Module of each study; its ``STUDY`` is the study. Imported only when asked for."""


def get_study(name: str) -> Any:
    """A study by name.

    Raises:
        ValueError: There is none of that name; lists those there are.
    """
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no study {name!r}; there are {sorted(STUDIES)}.{hint}")
    return importlib.import_module(STUDIES[name]).STUDY
