"""Demonstrations that all seeds share: whose they are, what is scored by them, which are latest."""

import dataclasses

import jax
import numpy as np
import pytest
from small_study import report, run, shared, with_rewards_times

from steelyard.data.formats import load_demonstrations
from steelyard.evaluation.evaluator import Evaluator, random_returns
from steelyard.numerics import statistics
from steelyard.studies.cells import Store, load
from steelyard.studies.imitation import STUDY
from steelyard.studies.imitation.config import ImitationConfig
from steelyard.studies.imitation.policies import load_policy
from steelyard.studies.imitation.scores import with_scores
from steelyard.studies.imitation.sources import random_demonstrations

pytestmark = pytest.mark.slow


def test_shared_demonstrations_train_no_expert_and_their_mean_is_the_scores_one(study, tmp_path):
    data = with_rewards_times(study, 0.1, tmp_path / "data")
    config = shared(study, str(tmp_path / "data"))
    records, spec = report(study.root, config, run(study.root, config))
    assert {record.arm for record in records} == {"random", "bc"}
    assert all(record.parent is None for record in records)
    (clone,) = (record for record in records if record.arm == "bc")
    chance = statistics.anchor(np.asarray(study.record("random").per_start_returns))
    scale = statistics.anchor(data.returns())
    expected = statistics.normalised_score(clone.metrics["return"], chance, scale)
    assert clone.metrics["score"] == pytest.approx(expected, abs=1e-4)
    assert any("conditional" in limit for limit in spec.limits)


def test_an_expert_no_better_than_random_play_gives_no_score_and_both_returns(study, tmp_path):
    data = with_rewards_times(study, 1.5, tmp_path / "data")
    config = shared(study, str(tmp_path / "data"))
    folder = run(study.root, config)
    records, _ = report(study.root, config, folder)
    for record in records:
        assert record.metrics["score"] is None
        assert np.isfinite(record.metrics["return"])
        (note,) = (note for note in record.notes if "seed 0 has no score" in note)
        assert f"expert {data.returns().mean():.6g} ± " in note
        assert f"random {np.mean(study.record('random').per_start_returns):.6g} ± " in note
    assert "seed 0 has no score" in (folder / "results.txt").read_text()


def test_the_latest_demonstrations_are_those_a_path_to_them_would_name(study):
    by_path = STUDY.plan(shared(study, str(study.expert_data)), study.store)
    latest = STUDY.plan(shared(study, "latest"), study.store)
    assert [cell.id for cell in latest] == [cell.id for cell in by_path]
    parent = STUDY.plan(shared(study, str(study.expert_data.parent)), study.store)
    assert [cell.id for cell in parent] == [cell.id for cell in by_path]


def test_a_report_is_of_the_demonstrations_that_were_the_latest_when_the_study_began(
    study, tmp_path
):
    place = tmp_path / "other" / "run" / "expert_data" / "Pendulum-v1"
    first = load_demonstrations(study.expert_data)
    first.save(place / "seed0")
    config = shared(study, "latest")
    folder = run(tmp_path, config)
    newer = first.mix(random_demonstrations("Pendulum-v1", 0, 2), 0.5)
    newer.save(place / "seed1")
    saved = load(folder, ImitationConfig)
    assert saved.config.expert_data == str(place / "seed0")
    records, _ = report(tmp_path, saved.config, folder)
    assert {record.arm for record in records} == {"random", "bc"}
    assert run(tmp_path, config) == folder  # all was done, so this is a new beginning
    assert load(folder, ImitationConfig).config.expert_data == str(place / "seed1")


def test_a_single_run_on_a_dataset_is_scored_between_random_play_and_its_mean(study, tmp_path):
    data = with_rewards_times(study, 0.1, tmp_path / "data")
    config = dataclasses.replace(study.config, expert_data=str(tmp_path / "data"))
    (cell,) = (c for c in STUDY.plan(config, study.store) if c.arm == "ipmd")
    evaluator = Evaluator("Pendulum-v1", 1, 20)
    agent = jax.tree.map(lambda x: x[None], load_policy(study.path("ipmd")).agent)
    alone = Store(tmp_path, "train_ipmd")  # where nobody has measured random play
    measured = with_scores(evaluator, [cell], config.resolved(), alone)(agent)
    chance = statistics.anchor(random_returns("Pendulum-v1", [0], 20)[0])
    scale = statistics.anchor(data.returns())
    expected = statistics.normalised_score(float(measured["eval/reward_mean"][0]), chance, scale)
    assert measured["eval/score"] == pytest.approx([expected])


def test_without_rewards_in_the_demonstrations_an_evaluation_has_no_score(study, tmp_path):
    load_demonstrations(study.expert_data).without_rewards().save(tmp_path / "blind")
    config = dataclasses.replace(study.config, expert_data=str(tmp_path / "blind")).resolved()
    (cell,) = (c for c in STUDY.plan(config, study.store) if c.arm == "ipmd")
    evaluator = Evaluator("Pendulum-v1", 1, 20)
    assert with_scores(evaluator, [cell], config, study.store) is evaluator


def test_other_demonstrations_make_other_runs(study, tmp_path):
    data = load_demonstrations(study.expert_data)
    other = data.first(3).save(tmp_path / "three")
    config = shared(study, str(other), demonstrations=(3,))
    mine = {cell.id for cell in STUDY.plan(config, study.store) if cell.arm == "bc"}
    theirs = STUDY.plan(shared(study, "latest", demonstrations=(3,)), study.store)
    assert not mine & {cell.id for cell in theirs}
