"""The imitation study from end to end, at a size that takes seconds."""

import contextlib
import dataclasses
import json
import time

import jax
import numpy as np
import pytest
from small_study import EXPERT_FRAMES, report, run, smoke, without_clock

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.formats import load_demonstrations
from steelyard.evaluation.evaluator import Evaluator, random_returns
from steelyard.numerics import statistics
from steelyard.reports import load_records
from steelyard.studies.cells import Store
from steelyard.studies.imitation import STUDY
from steelyard.studies.imitation.execute import execute
from steelyard.studies.imitation.policies import load_policy
from steelyard.studies.imitation.sources import demonstrations_of, random_demonstrations
from steelyard.studies.status import study_status
from steelyard.training.metrics import read_rows


def test_the_study_writes_its_report_its_scores_and_how_to_repeat_them(study):
    names = {path.name for path in study.folder.iterdir()}
    assert names >= {
        "study.json",
        "raw.jsonl",
        "summary.json",
        "report_spec.json",
        "results.txt",
        "results.json",
        "results.csv",
        "report.html",
        "comparison.png",
        "curves.png",
    }


ALWAYS = {".hold", "config.json", "status.json", "versions.json", "result.json", "eval"}
TRAINED = ALWAYS | {"checkpoints", "metrics.jsonl", "metrics.csv", "run.log"}


@pytest.mark.parametrize(
    ("arm", "files", "policy"),
    [
        ("random", ALWAYS, None),
        ("expert", TRAINED | {"expert_data"}, "sac_expert"),
        ("bc", TRAINED, "bc_policy_seed0"),
        ("ipmd", TRAINED, "ipmd_model"),
        ("ipmd_frozen_reward", TRAINED, "ipmd_model"),
        ("sac_same_budget", TRAINED, "sac_expert"),
    ],
)
def test_every_arm_writes_the_documented_files(study, arm, files, policy):
    folder = study.path(arm)
    assert {path.name for path in folder.iterdir()} == files
    (evaluation,) = folder.glob("eval/*/metrics.json")
    measured = json.loads(evaluation.read_text())
    assert measured["episodes"] == 20
    assert measured["eval/reward_mean"] == pytest.approx(study.record(arm).metrics["return"])
    if policy:
        assert (folder / "checkpoints" / f"{policy}.safetensors").exists()


def test_the_demonstrations_are_the_experts_own_whole_episodes(study):
    assert {path.name for path in study.expert_data.iterdir()} == {
        "expert_buffer.safetensors",
        "metadata.json",
        "README.txt",
    }
    data = load_demonstrations(study.expert_data)
    np.testing.assert_array_equal(data.lengths, [200] * 4)
    assert data.provenance.algorithm == "sac"
    assert data.provenance.deterministic
    assert data.provenance.frames == EXPERT_FRAMES
    # The start states lie in the seeds' range but are none of the evaluation's.
    np.testing.assert_array_equal(data.start_seeds, 500_000_000 + np.arange(4))


def test_the_demonstrations_are_what_the_stored_policy_does(study):
    policy = load_policy(study.path("expert"))
    data = load_demonstrations(study.expert_data)
    observations = np.stack([episode.observations[0] for episode in data.episodes()])
    stacked = jax.tree.map(lambda x: x[None], policy.agent)
    actions = Evaluator("Pendulum-v1", 1, 4).policies(stacked)(observations[None])[0]
    first = np.stack([episode.actions[0] for episode in data.episodes()])
    np.testing.assert_allclose(2.0 * actions, first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arm", ["expert", "bc", "ipmd"])
def test_a_stored_policy_earns_what_its_record_says(study, arm):
    policy = load_policy(study.path(arm))
    assert (policy.arm, policy.seed, policy.env) == (arm, 0, "Pendulum-v1")
    stacked = jax.tree.map(lambda x: x[None], policy.agent)
    returns = Evaluator("Pendulum-v1", 1, 20).returns(stacked)[0]
    np.testing.assert_allclose(returns, study.record(arm).per_start_returns, rtol=1e-3, atol=0.5)


def test_records_are_read_back_as_they_were_measured(study):
    assert load_records(study.folder / "raw.jsonl") == study.records
    assert {record.arm for record in study.records} == set(study.config.arms)
    for record in study.records:
        assert record.status == "done"
        assert len(record.per_start_returns) == 20
        assert record.run_id == study.cells[record.arm].id
        assert record.versions["jax"] == jax.__version__


def test_records_name_frames_epochs_parents_and_axes_where_there_are_any(study):
    expert = study.cells["expert"].id
    told = {r.arm: (r.frames, r.epochs is not None, r.parent, bool(r.axes)) for r in study.records}
    assert told == {
        "random": (None, False, None, False),
        "expert": (EXPERT_FRAMES, False, None, False),
        "bc": (None, True, expert, True),
        "ipmd": (1_000, False, expert, True),
        "ipmd_frozen_reward": (1_000, False, expert, True),
        "sac_same_budget": (1_000, False, None, False),
    }


def test_the_expert_scores_exactly_one_random_play_zero_and_the_others_between_on_that_scale(study):
    assert study.record("expert").metrics["score"] == 1.0
    assert study.record("random").metrics["score"] == 0.0
    chance = statistics.anchor(np.asarray(study.record("random").per_start_returns))
    expert = statistics.anchor(np.asarray(study.record("expert").per_start_returns))
    for record in study.records:
        value = float(np.mean(record.per_start_returns))
        expected = statistics.normalised_score(value, chance, expert)
        assert record.metrics["score"] == pytest.approx(expected, abs=1e-4)


def test_random_play_is_the_same_policy_that_anchors_every_score(study):
    returns = random_returns("Pendulum-v1", [0], 20)[0]
    np.testing.assert_allclose(study.record("random").per_start_returns, returns, atol=1e-3)


def test_curves_hold_the_evaluations_during_training(study):
    frames = [point["frames"] for point in study.record("expert").curve]
    assert frames == [1_500, 3_000]
    final = study.record("expert").curve[-1]["return"]
    assert final == pytest.approx(study.record("expert").metrics["return"], rel=1e-5)


def test_evaluations_of_an_imitator_hold_the_score_that_the_report_gives_them(study):
    for arm in ("ipmd", "ipmd_frozen_reward"):
        logged = [row.get("eval/score") for row in read_rows(study.path(arm) / "metrics.jsonl")]
        scores = [score for score in logged if score is not None]
        assert scores == pytest.approx([point["score"] for point in study.record(arm).curve])
        assert len(scores) == 1
    for arm in ("expert", "sac_same_budget"):  # its own end is the scale, or it has none yet
        assert all("eval/score" not in row for row in read_rows(study.path(arm) / "metrics.jsonl"))


def test_when_all_is_done_every_run_has_taken_all_of_its_steps(study):
    table = {run.run: run for run in study_status([*study.cells.values()], study.store)}
    assert {run.step / run.of for run in table.values()} == {1.0}
    assert table["random"].of == 1
    assert table["expert"].of == EXPERT_FRAMES


def test_a_clones_steps_are_known_before_it_begins(study, tmp_path):
    bc = dataclasses.replace(study.config.bc, epochs=2, min_steps=0)
    config = dataclasses.replace(study.config, bc=bc, num_episodes=60, demonstrations=(4, 60))
    cells = STUDY.plan(config, Store(tmp_path, "imitation"))
    steps = [cell.size for cell in cells if cell.arm == "bc"]
    assert steps == [2 * 4 * 200 // 32, 2 * -(-54 * 200 // 32)]  # of 60 episodes 6 are held out


def test_a_reward_that_is_not_trained_stays_as_it_was_drawn(study):
    drawn = load_policy(study.path("ipmd_frozen_reward")).agent.reward
    trained = load_policy(study.path("ipmd")).agent.reward
    from steelyard.agents.ipmd import IPMD
    from steelyard.envs.registry import env_spec
    from steelyard.training.programs import CREATE, fold

    settings = study.cells["ipmd_frozen_reward"].config.run.agent
    key = fold(jax.random.key(0), CREATE, 0)
    fresh = IPMD.create(key, env_spec("Pendulum-v1"), settings).reward
    np.testing.assert_allclose(drawn.weights[0], fresh.weights[0], rtol=1e-6)
    assert not np.allclose(trained.weights[0], fresh.weights[0])


def test_running_again_trains_nothing_and_takes_no_time(study):
    before = {p: p.stat().st_mtime_ns for p in study.store.path.rglob("metrics.*")}
    began = time.perf_counter()
    assert run(study.root, study.config) == study.folder
    assert time.perf_counter() - began < 3.0
    assert {p: p.stat().st_mtime_ns for p in study.store.path.rglob("metrics.*")} == before


@pytest.mark.slow
def test_a_study_killed_while_its_expert_trains_ends_with_the_same_numbers(study, tmp_path):
    class Killed(BaseException):
        """Stands for whatever ends a process at once."""

    @contextlib.contextmanager
    def dying(description, total):
        def tick(step, note=""):
            if "expert" in description and step >= 2_000:
                raise Killed

        yield tick

    few = dataclasses.replace(study.config, arms=("expert", "bc"))
    with pytest.raises(Killed):
        run(tmp_path, few, dying)
    store = Store(tmp_path, "imitation")
    assert store.folder(study.cells["expert"]).status()["state"] == "failed"
    run(tmp_path, few)
    for arm in ("expert", "bc"):
        cell = study.cells[arm]
        again, before = (s.folder(cell).read("result.json") for s in (store, study.store))
        assert again["per_start_returns"] == before["per_start_returns"]
        rows = [read_rows(s.folder(cell).metrics) for s in (store, study.store)]
        for new, old in zip(*rows, strict=True):
            assert without_clock(new) == without_clock(old)


def test_half_random_demonstrations_alternate_with_the_experts(study):
    cell = dataclasses.replace(
        study.cells["bc"], axes={"demonstrations": 4, "quality": "half_random"}
    )
    mixed = demonstrations_of(cell, study.config.resolved(), study.store)
    expert = load_demonstrations(study.expert_data)
    chance = random_demonstrations("Pendulum-v1", 0, 2)
    origins = []
    for episode in mixed.episodes():
        for name, source in (("expert", expert), ("random", chance)):
            if any(np.array_equal(episode.actions, e.actions) for e in source.episodes()):
                origins.append(name)
    assert origins == ["expert", "random", "expert", "random"]


def test_an_imitator_gets_as_many_episodes_as_its_axis_says(study):
    cell = dataclasses.replace(study.cells["bc"], axes={"demonstrations": 2, "quality": "expert"})
    assert len(demonstrations_of(cell, study.config.resolved(), study.store)) == 2


def test_clones_of_unequal_data_take_their_own_number_of_steps_whoever_is_beside_them(
    study, tmp_path
):
    config = dataclasses.replace(smoke(), seeds=(0, 1))
    bc = dataclasses.replace(config.bc, epochs=1, min_steps=0)
    config = dataclasses.replace(config, bc=bc).resolved()
    store = Store(tmp_path, "imitation")
    cells = [c for c in STUDY.plan(config, store) if c.arm == "bc"]
    data = load_demonstrations(study.expert_data)
    for cell, count in zip(cells, (4, 2), strict=True):
        where = store.folder(cell.parent).path / "expert_data" / "Pendulum-v1" / f"seed{cell.seed}"
        data.first(count).save(where)
    cells = [
        dataclasses.replace(cell, axes={"demonstrations": count, "quality": "expert"})
        for cell, count in zip(cells, (4, 2), strict=True)
    ]
    execute(cells, config, store, lambda step, note="": None)
    updates = [store.folder(cell).read("result.json")["updates"] for cell in cells]
    assert updates == [4 * 200 // 32, -(-2 * 200 // 32)]


# -- what takes longer -------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_give_the_numbers_of_one_group_after_the_other(
    study, compiler, tmp_path, monkeypatch
):
    for name, value in compiler.items():
        monkeypatch.setenv(name, value)
    few = dataclasses.replace(study.config, arms=("random", "expert", "bc"))
    run(tmp_path, few, executor="process", workers=2)
    store = Store(tmp_path, "imitation")
    for arm in few.arms:
        cell = study.cells[arm]
        there, here = (s.folder(cell).read("result.json") for s in (store, study.store))
        assert there["per_start_returns"] == here["per_start_returns"]


@pytest.mark.slow
def test_the_smoke_preset_as_it_is_finishes_all_runs_on_demonstrations_of_their_own(tmp_path):
    config = STUDY.configure("smoke")
    records, _ = report(tmp_path, config, run(tmp_path, config))
    assert len(records) == 12
    assert all(record.status == "done" for record in records)
    demonstrations = list(tmp_path.rglob("expert_buffer.safetensors"))
    assert len(demonstrations) == 2
    assert len({Demonstrations.load(path.parent).sha256 for path in demonstrations}) == 2
