"""Running the toy study, and looking at what it left behind."""

import contextlib

from toy_study import STUDY, ToyConfig

from steelyard.studies.cells import Cell, Store
from steelyard.studies.engine import Options, run_study
from steelyard.training.metrics import read_rows


@contextlib.contextmanager
def quiet(description, total):
    yield lambda step, note="": None


class Killed(BaseException):
    """Stands for whatever ends a process at once."""


def dying_in(number: int, step: int, error: BaseException | type[BaseException] = Killed):
    """Progress whose ``number``-th group dies at ``step``, of ``error``."""
    groups = iter(range(1, 100))

    @contextlib.contextmanager
    def progress(description, total):
        mine = next(groups)

        def tick(now, note=""):
            if (mine, now) == (number, step):
                raise error

        yield tick

    return progress


def run(root, config=ToyConfig(), progress=quiet, **options):
    return run_study(STUDY, config, "only", "cmd", Options(root, **options), progress)


def cells_of(root, config=ToyConfig()) -> dict[tuple[str, int], Cell]:
    return {(c.arm, c.seed): c for c in STUDY.plan(config, Store(root, "toy"))}


def states(root, config=ToyConfig()) -> dict[tuple[str, int], str]:
    store = Store(root, "toy")
    return {key: store.folder(c).status()["state"] for key, c in cells_of(root, config).items()}


def outcome(root, config=ToyConfig()) -> dict:
    """All that was measured, but for the wall time."""
    store, found = Store(root, "toy"), {}
    for key, cell in cells_of(root, config).items():
        folder = store.folder(cell)
        rows = [(row["step"], row["total"]) for row in read_rows(folder.metrics)]
        found[key] = (folder.read("result.json"), rows)
    return found
