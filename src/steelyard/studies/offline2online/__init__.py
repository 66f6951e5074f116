"""The study ``offline2online``: ACFQL, clusters drawn alike, priorities of trajectories.

Source: offline and online trajectories. Score: TD error, return, success; cluster. Weighting: rank,
balanced. Felt through: batches, critic's and policy's each its own.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from steelyard.studies.cells import Cell, Store, share_of_a_core
from steelyard.studies.offline2online.config import PRESETS, Offline2OnlineConfig, configure
from steelyard.studies.offline2online.datasets import content_hash
from steelyard.studies.offline2online.execute import execute
from steelyard.studies.offline2online.plan import plan_cells
from steelyard.studies.offline2online.report import study_records
from steelyard.studies.offline2online.rules import check
from steelyard.studies.parted import PartedStudy

MOST_TOGETHER = 40
"""Small networks: what a program costs to compile weighs more than what it holds."""
LITTLE_WORK = 3_000
"""Updates of all runs that take less time than to compile their program once more."""


def pin(config: Offline2OnlineConfig, store: Store) -> Offline2OnlineConfig:
    """The config with the content of its dataset written out."""
    part = config.custom
    if part.dataset is None or not part.arms or not Path(part.dataset).exists():
        return config
    hashed = dataclasses.replace(part, sha256=content_hash(Path(part.dataset)))
    return dataclasses.replace(config, custom=hashed)


def group_size(cells: Sequence[Cell]) -> int:
    """Runs of one phase share a program; each core takes one, where that pays for compiling."""
    if sum(cell.size for cell in cells) <= LITTLE_WORK:
        return len(cells)
    return share_of_a_core(cells, MOST_TOGETHER)


STUDY = PartedStudy(
    name="offline2online",
    summary="flow Q-learning from uneven demonstrations; uniform draws, clusters, T-PER",
    config_type=Offline2OnlineConfig,
    presets=PRESETS,
    configure=configure,
    check_config=check,
    plan_cells=plan_cells,
    group_size=group_size,
    execute=execute,
    records=study_records,
    pin=pin,
)
"""Arms over tasks and seeds, three cells deep."""
