"""What the learners reach on Pendulum with the settings of ``task_runs``: 5 seeds, 100 starts."""

import dataclasses

import numpy as np
import pytest
from tiny_runs import group, rows_of, silent

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.provenance import Provenance
from steelyard.envs.pendulum import pendulum_optimum_returns
from steelyard.envs.registry import env_spec, make_env
from steelyard.envs.seeding import evaluation_seeds
from steelyard.evaluation.evaluator import Evaluator, random_returns
from steelyard.evaluation.rollouts import record_episodes
from steelyard.numerics.statistics import anchor, normalised_score
from steelyard.training.recipes import train_ipmd, train_sac
from steelyard.training.tasks import task_runs

pytestmark = pytest.mark.slow

TASK = "Pendulum-v1"
SEEDS = (0, 1, 2, 3, 4)
RUNS = task_runs(TASK)


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """Returns ``[seed, start]`` of SAC after 15,000 frames, and ten episodes of each seed."""
    root = tmp_path_factory.mktemp("experts")
    loop = dataclasses.replace(RUNS.sac.loop, frames=15_000, eval_interval=None)
    evaluator = Evaluator(TASK, len(SEEDS), 100)
    agents = train_sac(dataclasses.replace(RUNS.sac, loop=loop), group(root, SEEDS), silent)
    episodes = record_episodes(
        evaluator.policies(agents), TASK, range(500_000_000, 500_000_010), len(SEEDS)
    )
    data = [
        Demonstrations.from_episodes(own, env_spec(TASK), Provenance(TASK, "sac", seed))
        for seed, own in zip(SEEDS, episodes, strict=True)
    ]
    return evaluator.returns(agents), data


@pytest.fixture(scope="module")
def score(experts):
    """``(seed, return) -> score`` on the scale of random play and that seed's own expert."""
    chance = random_returns(TASK, list(SEEDS), 100)
    anchors = {s: (anchor(chance[i]), anchor(experts[0][i])) for i, s in enumerate(SEEDS)}
    return lambda seed, value: normalised_score(value, *anchors[seed])


def evaluations(root, score, seeds=SEEDS) -> dict[int, list[float]]:
    """Score of each seed at each step of an evaluation."""
    found: dict[int, list[float]] = {}
    for seed in seeds:
        for row in rows_of(root, seed):
            if "eval/reward_mean" in row:
                found.setdefault(row["step"], []).append(score(seed, row["eval/reward_mean"]))
    return found


def imitate(root, data, frames: int, **changes):
    agent = dataclasses.replace(RUNS.ipmd.agent, **changes)
    loop = dataclasses.replace(RUNS.ipmd.loop, frames=frames)
    run = dataclasses.replace(RUNS.ipmd, agent=agent, loop=loop)
    train_ipmd(run, group(root, SEEDS), data, silent, Evaluator(TASK, len(SEEDS), 100))


def test_sac_comes_within_twelve_of_the_optimum(experts):
    optimum = pendulum_optimum_returns(make_env(TASK, evaluation_seeds(100)).reset()).mean()
    means = experts[0].mean(1)
    print(f"SAC at 15k: mean {means.mean():.1f}, seeds {means.round(1)}, optimum {optimum:.1f}")
    assert means.mean() >= optimum - 12


def test_imitation_of_ten_episodes_reaches_the_expert_and_stays_there(experts, score, tmp_path):
    imitate(tmp_path, experts[1], 24_000)
    scores = evaluations(tmp_path, score)
    for step, values in scores.items():
        print(f"IPMD at {step}: mean {np.mean(values):.3f}, seeds {np.round(values, 3)}")
    late = [value for step, values in scores.items() if step >= 10_000 for value in values]
    assert len(late) == 40
    assert np.mean(scores[12_000]) >= 0.95
    assert np.sum(np.asarray(late) < 0.9) <= 1


def test_a_reward_that_is_not_trained_does_not_imitate(experts, score, tmp_path):
    imitate(tmp_path, experts[1], 12_000, reward_lr=0.0)
    values = evaluations(tmp_path, score)[12_000]
    print(f"frozen reward at 12k: mean {np.mean(values):.3f}, seeds {np.round(values, 3)}")
    assert np.mean(values) <= 0.5
