"""The study ``grid``: scores and weightings, ranked on one task, each against uniform data.

Source: demonstrations of uneven operators. Score, weighting and how they are felt: what the arms
differ in. Learner: behaviour cloning, and flow Q-learning on the same episodes.
"""

from collections.abc import Sequence

from steelyard.studies.cells import Cell
from steelyard.studies.grid.config import PRESETS, GridConfig, configure
from steelyard.studies.grid.execute import execute
from steelyard.studies.grid.plan import Data, plan_cells
from steelyard.studies.grid.report import study_records
from steelyard.studies.grid.rules import check
from steelyard.studies.parted import PartedStudy

MOST_TOGETHER = 40
"""Runs of narrow networks that train in one program; compiling is most of the time."""


def group_size(cells: Sequence[Cell]) -> int:
    """Arms and seeds share a program; episodes are played seed by seed, with all cores."""
    return 1 if isinstance(cells[0].config, Data) else min(len(cells), MOST_TOGETHER)


STUDY = PartedStudy(
    name="grid",
    summary="which data to learn from: scores and weightings, ranked against uniform data",
    config_type=GridConfig,
    presets=PRESETS,
    configure=configure,
    check_config=check,
    plan_cells=plan_cells,
    group_size=group_size,
    execute=execute,
    records=study_records,
)
"""Arms over learners and seeds."""
