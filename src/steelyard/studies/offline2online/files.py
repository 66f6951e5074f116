"""The reference's file names: its configs and CSV files, made from a run's own."""

import csv
import shutil

from steelyard.training.metrics import read_rows
from steelyard.training.run_folder import RunFolder

PHASE_FILES = {
    "eval.csv": ("eval/",),
    "env.csv": ("env/",),
    "offline_agent.csv": ("offline_agent/",),
    "online_agent.csv": ("online_agent/", "ptr/"),
}
"""Which metrics each file has, by what their names begin with."""


def write_phase_files(folder: RunFolder) -> None:
    """Write ``flags.json`` and the CSV files of which there are metrics."""
    shutil.copyfile(folder.path / "config.json", folder.path / "flags.json")
    rows = read_rows(folder.metrics)
    for name, prefixes in PHASE_FILES.items():
        columns = dict.fromkeys(k for row in rows for k in row if k.startswith(prefixes))
        if not columns:
            continue
        with (folder.path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", *columns], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in rows if any(column in row for column in columns))
