"""The study's scale: 0 is the random policy, 1 the expert, both on the same start states.

Scores are for people: they go to metrics and reports, and nothing learns from them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from steelyard.evaluation.evaluator import Evaluator, random_returns
from steelyard.numerics import statistics
from steelyard.studies.cells import Cell, Store
from steelyard.studies.imitation.config import ImitationConfig
from steelyard.studies.imitation.plan import anchor_cell
from steelyard.studies.imitation.sources import shared_dataset


class Scale:
    """Score of a return between two anchors."""

    def __init__(self, random: Sequence[float], expert: Sequence[float]):
        """Measure the anchors from their returns, one per start state.

        Raises:
            ValueError: The expert is not clearly better than random play; shows both returns.
        """
        self._random = statistics.anchor(np.asarray(random, float))
        self._expert = statistics.anchor(np.asarray(expert, float))
        statistics.normalised_score(self._expert.mean, self._random, self._expert)

    def __call__(self, value: float | None) -> float | None:
        """``(R − R_random) / (R_expert − R_random)``; none for none."""
        if value is None:
            return None
        return statistics.normalised_score(value, self._random, self._expert)


def make_scale(
    seed: int, random: Sequence[float] | None, expert: Sequence[float] | None
) -> Scale | str:
    """A seed's scale from the returns of its anchors, or why it has none."""
    if not random or not expert:
        return f"seed {seed} has no score: its random policy or its expert has not been evaluated"
    try:
        return Scale(random, expert)
    except ValueError as error:
        return f"seed {seed} has no score: {error}"


def with_scores(
    evaluator: Evaluator, cells: Sequence[Cell], config: ImitationConfig, store: Store
) -> Callable[[Any], dict[str, np.ndarray]]:
    """An evaluator that adds `eval/score` where the seeds' experts are known.

    An imitator starts when its expert has been evaluated; an expert's own scale is known only at
    its end, so its evaluations have no score.

    Args:
        evaluator: What to add to.
        cells: The group's cells, in its order.
        config: Resolved config.
        store: Where the anchors' results are.
    """
    scales = [_scale_of(cell, config, store) for cell in cells]
    if not any(isinstance(scale, Scale) for scale in scales):
        return evaluator

    def evaluate(agents: Any) -> dict[str, np.ndarray]:
        metrics = evaluator(agents)
        pairs = zip(scales, metrics["eval/reward_mean"], strict=True)
        scores = [s(float(value)) if isinstance(s, Scale) else np.nan for s, value in pairs]
        return metrics | {"eval/score": np.array(scores, float)}

    return evaluate


def _scale_of(cell: Cell, config: ImitationConfig, store: Store) -> Scale | str:
    if cell.parent is not None:
        expert = _returns(store, cell.parent)
    else:  # demonstrations that all seeds share; none where they came without rewards
        data = shared_dataset(config, store)
        expert = None if data is None or data.rewards is None else data.returns().tolist()
    if expert is None:
        return make_scale(cell.seed, None, None)
    episodes = cell.config.eval_episodes
    random = _returns(store, anchor_cell(config.env, episodes, cell.seed))
    if random is None:  # a single run has no cell of random play, and the same policy is measured
        random = random_returns(config.env, [cell.seed], episodes)[0].tolist()
    return make_scale(cell.seed, random, expert)


def _returns(store: Store, cell: Cell) -> list[float] | None:
    return (store.folder(cell).read("result.json") or {}).get("per_start_returns")
