"""Groups as Ray tasks, on a cluster, or on one of this machine that lives as long as the study.

Nothing but names, paths and run ids passes between: a worker reads the study's folder, which it
must see, and writes run folders. So a task whose worker was killed is simply run again, and goes on
from the last checkpoint.
"""

import contextlib
import functools
import importlib.util
import json
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from steelyard.studies.cells import Cell, Saved, Store, Study
from steelyard.studies.executors import (
    Options,
    WorkerError,
    free_to_start,
    mark_interrupted,
    mark_unended,
)
from steelyard.studies.hardware import share_of_memory, use_device

PATIENCE_S = 0.5
"""How long to wait for a group before looking at the progress again."""
LOOPBACK = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # The one switch that makes Ray's servers listen on loopback only; it is not about the system.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}


class RayExecutor:
    """Runs groups as Ray tasks; a killed worker's group is run again, an error is not.

    Runs that diverge are results. Where a group fails, the others still run, and then all that
    failed is told.
    """

    def __init__(self, options: Options):
        """Check what can be checked before any work.

        Raises:
            ValueError: A share that makes no sense; names the rule and the value.
            ImportError: Ray is not installed.
        """
        rules = {
            "gpus_per_run must be at least 0": options.gpus_per_run >= 0,
            "gpus_per_run above 1 must be whole": options.gpus_per_run <= 1
            or float(options.gpus_per_run).is_integer(),
            "retries must be at least 0": options.retries >= 0,
            "cpus_per_run must be at least 1": options.cpus_per_run is None
            or options.cpus_per_run >= 1,
        }
        for rule, holds in rules.items():
            if not holds:
                raise ValueError(f"{rule}, got {getattr(options, rule.split()[0])}.")
        if importlib.util.find_spec("ray") is None:
            raise ImportError("Ray is not installed: pip install 'steelyard[ray]'")
        self.options, self.runs = options, options.runs.resolve()

    def __call__(
        self,
        study: Study,
        saved: Saved,
        folder: Path,
        groups: Sequence[Sequence[Cell]],
        store: Store,
        make_progress: Callable[[str, int], Any],
    ) -> None:
        """Hand out groups once the parents of their cells have ended; tell what failed."""
        waiting = list(groups)
        failures: list[str] = []
        begin = functools.partial(self._begin, study.name, folder.resolve())
        running: dict[Any, Sequence[Cell]] = {}
        try:
            with (
                _cluster(self.options) as ray,
                make_progress(f"{study.name}, Ray", len(waiting)) as tick,
            ):
                while waiting or running:
                    for group in free_to_start(waiting, running.values()):
                        waiting.remove(group)
                        running[begin(ray, group)] = group
                    ended, _ = ray.wait(list(running), timeout=PATIENCE_S)
                    for task in ended:
                        group = running.pop(task)
                        failures += _told(ray, task, group, store)
                        tick(len(groups) - len(waiting) - len(running), group[0].label)
        finally:
            mark_interrupted(running.values(), store)
        if failures:
            raise WorkerError("; ".join(failures))

    def _begin(self, study: str, folder: Path, ray: Any, group: Sequence[Cell]) -> Any:
        """Give one group to the cluster."""
        options = self.options
        part = options.gpus_per_run
        variables = share_of_memory(part) if 0 < part < 1 else {}
        task = ray.remote(run_task).options(
            num_cpus=_cores(options),
            num_gpus=options.gpus_per_run,
            max_retries=options.retries,
            retry_exceptions=False,
            runtime_env={"env_vars": variables} if variables else None,
            name=f"{study}: {group[0].label}",
        )
        pins = _cores(options) if options.address is None else 0
        words = (study, str(folder), str(self.runs), options.device, pins)
        return task.remote(*words, json.dumps([cell.id for cell in group]))


def run_task(study: str, folder: str, runs: str, device: str, pins: int, ids: str) -> None:
    """What a Ray worker does with one group; run ids come as a JSON list.

    Raises:
        FileNotFoundError: This machine does not see the study's folder.
    """
    if not (Path(folder) / "study.json").exists():
        raise FileNotFoundError(
            f"{os.uname().nodename} does not see {folder}: put --runs where all machines of the "
            "cluster see it, under one name"
        )
    _worker(study, folder, runs, device, pins).run(set(json.loads(ids)))


@functools.lru_cache(maxsize=4)
def _worker(study: str, folder: str, runs: str, device: str, pins: int) -> Any:
    """A process's worker for a study, kept, so that data are read and programs compiled once."""
    from steelyard.studies.worker import StudyWorker

    if pins:
        _take_cores(pins, Path(folder) / "cores")
    use_device(device)
    return StudyWorker(study, Path(folder), Path(runs))


def _take_cores(count: int, places: Path) -> None:
    """Keep this process to cores that no other worker of the study on this machine has taken.

    Compilers and simulators start as many threads as there are cores; of several processes these
    would get in each other's way.
    """
    from steelyard.training.holds import HeldError, hold_to_the_end

    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for place in range(len(cores) // count):
        with contextlib.suppress(HeldError):
            hold_to_the_end(places / str(place), patience_s=0.0)
            os.sched_setaffinity(0, cores[place * count : (place + 1) * count])
            return


def _cores(options: Options) -> int:
    """Cores that a group gets."""
    if options.cpus_per_run is not None:
        return options.cpus_per_run
    if options.address is not None:
        return 1
    return max(1, (os.cpu_count() or 1) // options.workers)


@contextlib.contextmanager
def _cluster(options: Options) -> Iterator[Any]:
    """Ray, connected; a cluster of this machine ends with the context.

    Raises:
        ConnectionError: There is no cluster at the address.
    """
    before = dict(os.environ)
    if options.address is None:
        os.environ.update(LOOPBACK)
        os.environ["RAY_AUTH_TOKEN"] = _token()
    try:
        import ray

        quiet = {"log_to_driver": False, "logging_level": "error"}
        if options.address is None:
            with warnings.catch_warnings():  # nothing of JAX runs in what Ray forks
                warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
                ray.init(
                    address="local",
                    num_cpus=options.workers * _cores(options),
                    num_gpus=options.num_gpus,
                    include_dashboard=False,
                    **quiet,
                )
        else:
            ray.init(address=options.address, **quiet)
        try:
            yield ray
        finally:
            ray.shutdown()  # what still runs ends with it, on a cluster that goes on living too
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@functools.cache
def _token() -> str:
    """What who talks to this process's clusters must know; Ray reads it once a process."""
    return secrets.token_hex(32)


def _told(ray: Any, task: Any, group: Sequence[Cell], store: Store) -> list[str]:
    """What went wrong with a group that has ended; nothing, most often."""
    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as error:
        return [f"{group[0].label} failed: {type(error.cause).__name__}: {error.cause}"]
    except ray.exceptions.RayError as error:
        reason = f"its worker was killed again and again ({type(error).__name__})"
        mark_unended(group, store, "failed", error=reason)
        return [f"{group[0].label} failed: {reason}; the same command tries again"]
    return []
