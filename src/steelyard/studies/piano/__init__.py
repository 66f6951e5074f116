"""The study ``piano``: a policy, judgements of segments, contrastive preference learning.

Source: pairs of judged segments. Score: strength of a judgement. Weighting: uniform, or
proportional with a floor. Felt through: batches.
"""

from collections.abc import Sequence

from steelyard.studies.cells import Cell
from steelyard.studies.parted import PartedStudy
from steelyard.studies.piano.config import PRESETS, PianoConfig, configure
from steelyard.studies.piano.execute import execute
from steelyard.studies.piano.plan import Played, plan_cells
from steelyard.studies.piano.report import study_records
from steelyard.studies.piano.rules import check

MOST_TOGETHER = 5
"""Runs whose simulated arms are evaluated at once."""


def group_size(cells: Sequence[Cell]) -> int:
    """Seeds share a program; segments are played seed by seed, with all cores."""
    if isinstance(cells[0].config, Played):
        return 1
    return min(len(cells), MOST_TOGETHER)


STUDY = PartedStudy(
    name="piano",
    summary="learning from judgements of segments: CPL against SFT, %BC and P-IQL",
    config_type=PianoConfig,
    presets=PRESETS,
    configure=configure,
    check_config=check,
    plan_cells=plan_cells,
    group_size=group_size,
    execute=execute,
    records=study_records,
)
"""Arms over tasks and seeds."""
