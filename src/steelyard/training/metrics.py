"""Metrics: JSON lines always, a CSV at the end, TensorBoard and Weights & Biases on request."""

import csv
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from steelyard.files import field, read_text, replacing, write_text
from steelyard.training.run_folder import RunFolder, finite

CLOCK_KEYS = ("seconds", "frames_per_s", "updates_per_s")
"""Keys of a row that depend on the machine's speed; all others follow from the seed."""


Shape: TypeAlias = tuple[np.ndarray, float, float]
"""A histogram: counts in bins of equal width, the left end of the first, the right of the last."""


@runtime_checkable
class Sink(Protocol):
    """Something that receives every row of metrics of one run."""

    def write(self, row: dict[str, Any]) -> None:
        """Receive one row; ``row["step"]`` is its time: frames, or updates offline."""
        ...

    def write_histograms(self, step: int, shapes: Mapping[str, Shape]) -> None:
        """Receive histograms by name."""
        ...

    def close(self) -> None:
        """Flush and release."""
        ...


class JsonLines:
    """``metrics.jsonl``: one object per line, appended as it comes; not-finite becomes null.

    Histograms go to ``histograms.jsonl`` beside it, a line for each step.
    """

    def __init__(self, path: Path, resume_at: int = 0):
        """Open for appending; rows later than step ``resume_at`` will be made again and go."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in (path, self._histograms):
            if file.exists():
                kept = [row for row in read_rows(file) if row["step"] <= resume_at]
                write_text(file, "".join(json.dumps(row) + "\n" for row in kept))

    @property
    def _histograms(self) -> Path:
        return self.path.with_name("histograms.jsonl")

    def write(self, row: dict[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a") as file:
            file.write(json.dumps(finite(row)) + "\n")

    def write_histograms(self, step: int, shapes: Mapping[str, Shape]) -> None:
        """Append one line to ``histograms.jsonl``."""
        row = {
            name: {"low": float(low), "high": float(high), "counts": counts.tolist()}
            for name, (counts, low, high) in shapes.items()
        }
        with self._histograms.open("a") as file:
            file.write(json.dumps(finite({"step": step, **row})) + "\n")

    def close(self) -> None:
        """Write ``metrics.csv`` beside the lines."""
        rows = read_rows(self.path)
        names = list(dict.fromkeys(name for row in rows for name in row))
        with (
            replacing(self.path.with_suffix(".csv")) as draft,
            draft.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)


class TensorBoard:
    """Event files under ``tensorboard/`` of the run folder; needs ``steelyard[tensorboard]``."""

    def __init__(self, folder: Path):
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard is not installed: pip install 'steelyard[tensorboard]'"
            ) from error
        self._writer = EventFileWriter(str(folder / "tensorboard"))

    def write(self, row: dict[str, Any]) -> None:
        """Write each number as a scalar at its step."""
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        values = [
            Summary.Value(tag=name, simple_value=float(value))
            for name, value in row.items()
            if isinstance(value, (int, float)) and name != "step"
        ]
        self._writer.add_event(Event(step=int(row["step"]), summary=Summary(value=values)))

    def write_histograms(self, step: int, shapes: Mapping[str, Shape]) -> None:
        """Write each as a histogram at its step."""
        from tensorboard.compat.proto import summary_pb2
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        summary: Any = summary_pb2
        values = []
        for name, (counts, low, high) in shapes.items():
            edges = np.linspace(low, high, len(counts) + 1)
            middle = (edges[1:] + edges[:-1]) / 2
            shape = summary.HistogramProto(
                min=float(low),
                max=float(high),
                num=float(counts.sum()),
                sum=float(counts @ middle),
                sum_squares=float(counts @ middle**2),
                bucket_limit=edges[1:].tolist(),
                bucket=counts.tolist(),
            )
            values.append(summary.Summary.Value(tag=name, histo=shape))
        self._writer.add_event(Event(step=step, summary=summary.Summary(value=values)))

    def close(self) -> None:
        """Flush the event file."""
        self._writer.close()


class WeightsAndBiases:
    """A Weights & Biases run; needs ``steelyard[wandb]``; ``WANDB_MODE`` is honoured."""

    def __init__(self, folder: Path, project: str, entity: str | None, group: str, name: str):
        try:
            import wandb
        except ImportError as error:
            raise ImportError(
                "Weights & Biases is not installed: pip install 'steelyard[wandb]'"
            ) from error
        self._run = wandb.init(
            project=project,
            entity=entity,
            group=group,
            name=name,
            dir=str(folder),
            reinit="create_new",
        )

    def write(self, row: dict[str, Any]) -> None:
        """Log a row at its step."""
        self._run.log(finite(row), step=int(row["step"]))

    def write_histograms(self, step: int, shapes: Mapping[str, Shape]) -> None:
        """Log each as a histogram at its step."""
        import wandb

        drawn = {
            name: wandb.Histogram(np_histogram=(counts, np.linspace(low, high, len(counts) + 1)))
            for name, (counts, low, high) in shapes.items()
        }
        self._run.log(drawn, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a ``metrics.jsonl``; what stands behind the first broken line is left out.

    A kill can cut a line short; all that follows it was logged by nobody.

    Raises:
        FileError: It is no text in UTF-8, or a row has no ``step``; names it.
    """
    if not path.exists():
        return []
    rows = []
    for line in read_text(path).splitlines():
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            break
        field(rows[-1], "step", kind=(int, float), place=f"{path}, line {len(rows)}")
    return rows


def write_all(sinks: Sequence[Sink], row: dict[str, Any]) -> None:
    """Send one row to every sink."""
    for sink in sinks:
        sink.write(row)


@dataclasses.dataclass(frozen=True)
class SinkOptions:
    """Where metrics go besides `metrics.jsonl`."""

    tensorboard: bool = False
    """Write TensorBoard event files; needs `steelyard[tensorboard]`."""
    wandb: bool = False
    """Log to Weights & Biases; needs `steelyard[wandb]`; `WANDB_MODE` is honoured."""
    wandb_project: str = "steelyard"
    """Project; the arm becomes the group."""
    wandb_entity: str | None = None
    """Entity; none uses your default one."""

    def open(self, folder: RunFolder, resume_at: int, group: str, name: str) -> list[Sink]:
        """The sinks of one run."""
        sinks: list[Sink] = [JsonLines(folder.metrics, resume_at)]
        if self.tensorboard:
            sinks.append(TensorBoard(folder.path))
        if self.wandb and os.environ.get("WANDB_MODE") != "disabled":
            entity, project = self.wandb_entity, self.wandb_project
            sinks.append(WeightsAndBiases(folder.path, project, entity, group, name))
        return sinks
