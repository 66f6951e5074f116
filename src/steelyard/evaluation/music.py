"""How well a song was played: precision, recall and F1 over keys, pedal and onsets.

RoboPianist's own figures are means over control steps in which a quotient without a denominator is
1, so that doing nothing has precision 1; they are kept under its names. ``f1_micro`` counts all
steps together and is 0 for doing nothing.

Zakka et al. 2023, "RoboPianist: Dexterous Piano Playing with Deep Reinforcement Learning",
arXiv:2304.04150.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from steelyard.envs.performance import Performance, played_notes
from steelyard.envs.robopianist import RoboPianistEnv
from steelyard.envs.robopianist_songs import PREFIX
from steelyard.evaluation.evaluator import Evaluator
from steelyard.evaluation.rollouts import rollout

ONSET_TOLERANCE_S = 0.05
__all__ = ["MusicEvaluator", "make_evaluator", "music_metrics", "onset_f1", "played_notes"]


def music_metrics(performance: Performance) -> dict[str, float]:
    """Scores of an episode, each in ``[0, 1]``.

    ``precision``, ``recall``, ``f1`` and their ``sustain_`` forms are RoboPianist's; ``f1_micro``
    is ``2 TP / (2 TP + FP + FN)`` over all steps and keys, 1 if nothing should be and nothing is
    played; ``f1_active`` the mean of F1 over the steps in which a key should be or is down;
    ``onset_f1`` see there.

    Args:
        performance: What was played, and what should have been.
    """
    played, goal = performance.keys, performance.goal_keys
    by_step = _scores(played, goal)
    pedal = _scores(performance.pedal[:, None], performance.goal_pedal[:, None])
    active = (played | goal).any(axis=1)
    names = ("precision", "recall", "f1")
    return {
        **{name: float(by_step[name].mean()) for name in names},
        **{f"sustain_{name}": float(pedal[name].mean()) for name in names},
        "f1_micro": float(_scores(played.reshape(1, -1), goal.reshape(1, -1))["f1"][0]),
        "f1_active": float(by_step["f1"][active].mean()) if active.any() else 1.0,
        "onset_f1": onset_f1(performance),
    }


def _scores(
    played: Bool[np.ndarray, "item key"], goal: Bool[np.ndarray, "item key"]
) -> dict[str, np.ndarray]:
    """Precision, recall and F1 per item; a quotient without a denominator is 1."""
    hit = (played & goal).sum(axis=1)
    down, wanted = played.sum(axis=1), goal.sum(axis=1)

    def share(over: np.ndarray, under: np.ndarray) -> np.ndarray:
        return np.where(under > 0, over / np.maximum(under, 1), 1.0)

    return {
        "precision": share(hit, down),
        "recall": share(hit, wanted),
        "f1": share(2 * hit, down + wanted),
    }


def onset_f1(performance: Performance, tolerance_s: float = ONSET_TOLERANCE_S) -> float:
    """F1 of onsets: a stroke counts if its key should be struck within the tolerance.

    Each wanted onset is matched with at most one stroke, the earliest that fits. A note that the
    song repeats without a step in between has no onset of its own in the goal.

    Args:
        performance: What was played, and what should have been.
        tolerance_s: Seconds to either side.

    Returns:
        ``2 TP / (strokes + wanted onsets)``; 1 where there is neither.
    """
    goal = performance.goal_keys
    before = np.vstack([np.zeros_like(goal[:1]), goal[:-1]])
    wanted = [(int(k), t * performance.control_timestep) for t, k in np.argwhere(goal & ~before)]
    strokes = [(s.key, s.time_s) for s in performance.strokes if s.down and s.key >= 0]
    matched, slack = 0, tolerance_s + 1e-9
    for key in {key for key, _ in wanted}:
        left = sorted(time for own, time in strokes if own == key)
        for onset in sorted(time for own, time in wanted if own == key):
            while left and left[0] < onset - slack:
                left.pop(0)
            if left and left[0] <= onset + slack:
                left.pop(0)
                matched += 1
    total = len(wanted) + len(strokes)
    return 2.0 * matched / total if total else 1.0


class MusicEvaluator(Evaluator):
    """An ``Evaluator`` of pianists: returns, lengths and the scores of ``music_metrics``."""

    def performances(self, agents: Any) -> tuple[np.ndarray, list[list[Performance]]]:
        """Play every start once.

        Args:
            agents: Stacked learners.

        Returns:
            Returns ``[seed, start]`` and the performances by seed and start.
        """
        shape = (self.runs, len(self.starts))
        returns = np.zeros(shape)
        played: dict[tuple[int, int], Performance] = {}
        for moment in rollout(self.policies(agents), self.env_id, self.starts, self.runs):
            returns += np.where(moment.alive, moment.step.reward, 0.0)
            for run, start in np.argwhere(moment.alive & moment.step.ended).tolist():
                env = moment.envs[run]
                assert isinstance(env, RoboPianistEnv)
                played[run, start] = env.performance(start)
        own = [[played[run, start] for start in range(shape[1])] for run in range(shape[0])]
        return returns, own

    def returns(self, agents: Any) -> np.ndarray:
        """Undiscounted return per run and start, ``[seed, start]`` float64."""
        return self.performances(agents)[0]

    def __call__(self, agents: Any) -> dict[str, np.ndarray]:
        """Metrics of stacked learners, each ``[seed]``."""
        returns, played = self.performances(agents)
        scores = [[music_metrics(p) for p in own] for own in played]
        music = {
            f"eval/{name}": np.array([np.mean([s[name] for s in own]) for own in scores])
            for name in scores[0][0]
        }
        lengths = np.array([np.mean([len(p.keys) for p in own]) for own in played])
        return {
            "eval/reward_mean": returns.mean(1),
            "eval/reward_std": returns.std(1),
            "eval/episode_return": returns.mean(1),
            "eval/episode_length": lengths,
            **music,
        }


def make_evaluator(
    env_id: str, runs: int, episodes: int = 100, training_seeds: Sequence[int] = ()
) -> Evaluator:
    """The evaluator of a task: of music where it is a song, of returns otherwise.

    Args:
        env_id: Task.
        runs: Runs of the group.
        episodes: Start states.
        training_seeds: Seeds that training uses, to be sure that none is among them.
    """
    kind = MusicEvaluator if env_id.startswith(PREFIX) else Evaluator
    return kind(env_id, runs, episodes, list(training_seeds))
