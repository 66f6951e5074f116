"""Which seed belongs to which environment of which run, so that no two ever share episodes.

A simulator pool seeded with one number gives environment ``i`` the seed ``number + i``: runs seeded
0, 1, 2, ... would share all but one of their environments. Here every environment gets a seed of
its own from a block that belongs to its run:

    seed = 10,000 · (run + 1) + 100 · generation + environment        (run < 99)

The pool is built anew at each checkpoint, with the next generation of seeds, so that a run resumed
from that checkpoint equals one that was never interrupted. A run of more than 100 environments
takes wider steps between its fewer generations. ``[1,000,000, 2,000,000)`` belongs to
evaluation; the blocks of run 99 and later lie above it. Recorded episodes have blocks of their own
from 500,000,000 on.
"""

from collections.abc import Sequence

RUN_BLOCK = 10_000
MAX_ENVS = 100
MAX_GENERATIONS = RUN_BLOCK // MAX_ENVS
EVALUATION_START = 1_000_000
EVALUATION_STOP = 2_000_000
START_SEEDS = 500_000_000
MOST_EPISODES = 10_000
MOST_SEED = 49_898
"""Training seeds of later runs would reach into those of recorded episodes."""
MAX_RUN = (2**31 - (EVALUATION_STOP - EVALUATION_START)) // RUN_BLOCK - 2


def training_seeds(run: int, num_envs: int, generation: int = 0) -> list[int]:
    """Return the seeds of the environments that training run ``run`` steps.

    Any two of these are different, over all runs, generations and environments, and none is an
    evaluation seed. Environment ``i`` keeps its seed whatever ``num_envs`` is.

    Args:
        run: Index of the run within its study, ``0 <= run <= 214,646``.
        num_envs: Number of environments, ``1 <= num_envs <= 10,000``.
        generation: How often the pool was rebuilt before, ``0 <= generation <= 99``; with more than
            100 environments as many as a run's 10,000 seeds hold.

    Returns:
        ``num_envs`` seeds.

    Raises:
        ValueError: If an argument is out of its range.
    """
    _require("run", run, 0, MAX_RUN)
    _require("num_envs", num_envs, 1, RUN_BLOCK)
    width = MAX_ENVS * -(-num_envs // MAX_ENVS)
    _require("generation", generation, 0, RUN_BLOCK // width - 1)
    start = RUN_BLOCK * (run + 1) + width * generation
    if start >= EVALUATION_START:
        start += EVALUATION_STOP - EVALUATION_START
    return list(range(start, start + num_envs))


def evaluation_seeds(count: int = 100, start: int = EVALUATION_START) -> list[int]:
    """Return the seeds of ``count`` evaluation starts, the same for every arm and run.

    Args:
        count: Number of start states, at least 1.
        start: First seed; all seeds lie in ``[1,000,000, 2,000,000)``.

    Returns:
        ``count`` consecutive seeds.

    Raises:
        ValueError: If the seeds would leave the evaluation range.
    """
    _require("start", start, EVALUATION_START, EVALUATION_STOP - 1)
    _require("count", count, 1, EVALUATION_STOP - start)
    return list(range(start, start + count))


def start_seeds(seed: int, count: int) -> list[int]:
    """Return the start seeds of the episodes that run ``seed`` records.

    Raises:
        ValueError: More episodes than a run's block of seeds holds.
    """
    if not 1 <= count <= MOST_EPISODES:
        raise ValueError(f"A run records 1 to {MOST_EPISODES} episodes, got {count}.")
    first = START_SEEDS + MOST_EPISODES * (seed % 100_000)
    return list(range(first, first + count))


def check_disjoint(training: Sequence[int], evaluation: Sequence[int]) -> None:
    """Refuse an evaluation on start states that training has seen.

    Args:
        training: Seeds of the training environments.
        evaluation: Seeds of the evaluation environments.

    Raises:
        ValueError: If the two share a seed; the message shows both ranges.
    """
    shared = sorted(set(training) & set(evaluation))
    if shared:
        raise ValueError(
            "training and evaluation share no seed: "
            f"training uses {_range(training)}, evaluation uses {_range(evaluation)}, "
            f"both contain {shared[0]}" + (f" and {len(shared) - 1} more" if shared[1:] else "")
        )


def _range(seeds: Sequence[int]) -> str:
    return f"{min(seeds)}…{max(seeds)} ({len(seeds)} seeds)"


def _require(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} lies in [{low}, {high}]: got {value}")
