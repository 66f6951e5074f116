"""The study ``assembly``: residual PPO on a frozen base policy, and which of its items count.

Source: on-policy rollouts. Score: importance, gradient norm, influence. Weighting: proportional,
softmax, drop. Felt through: batches, with what a draw owes, or losses.
"""

from collections.abc import Sequence

from steelyard.studies.assembly.config import PRESETS, AssemblyConfig, configure
from steelyard.studies.assembly.execute import execute
from steelyard.studies.assembly.plan import Residual, plan_cells
from steelyard.studies.assembly.report import study_records
from steelyard.studies.assembly.rules import check
from steelyard.studies.cells import Cell, share_of_a_core
from steelyard.studies.parted import PartedStudy
from steelyard.training.residual import PLANE


def group_size(cells: Sequence[Cell]) -> int:
    """Small networks share a program; where simulation takes the time, each runs alone."""
    settings = cells[0].config
    if isinstance(settings, Residual) and settings.run.env != PLANE:
        return 1
    return share_of_a_core(cells)


STUDY = PartedStudy(
    name="assembly",
    summary="residual PPO on frozen policies; uniform items against importance, influence, IIF",
    config_type=AssemblyConfig,
    presets=PRESETS,
    configure=configure,
    check_config=check,
    plan_cells=plan_cells,
    group_size=group_size,
    execute=execute,
    records=study_records,
)
"""Bases, and residuals that weigh their items, over tasks and seeds."""
