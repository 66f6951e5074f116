"""The imitation study from end to end, at a size that takes seconds."""

import contextlib
import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.formats import load_demonstrations
from steelyard.evaluation.evaluator import Evaluator, random_returns
from steelyard.numerics import statistics
from steelyard.reports import load_records, write_report, write_results
from steelyard.studies.cells import Store
from steelyard.studies.engine import Options, run_study
from steelyard.studies.imitation import STUDY
from steelyard.studies.imitation.config import ImitationConfig
from steelyard.studies.imitation.execute import execute
from steelyard.studies.imitation.policies import load_policy
from steelyard.studies.imitation.sources import demonstrations_of, random_demonstrations
from steelyard.training.metrics import read_rows

EXPERT_FRAMES = 3_000


@contextlib.contextmanager
def quiet(description, total):
    yield lambda step, note="": None


def smoke(**changes) -> ImitationConfig:
    """The smoke preset with a single seed and smaller imitators."""
    config = STUDY.configure("smoke")
    return dataclasses.replace(config, seeds=(0,), ipmd_frames=1_000, **changes)


def run(root: Path, config: ImitationConfig, progress=quiet, **options) -> Path:
    return run_study(STUDY, config, "smoke", "cmd", Options(root, **options), progress)


def report(root: Path, config: ImitationConfig, folder: Path):
    records, spec = STUDY.records(config, Store(root, "imitation"), "smoke", "cmd")
    write_report(records, spec, folder)
    write_results(records, spec, folder)
    return records, spec


class Finished:
    """A finished study: its folders, cells and records."""

    def __init__(self, root: Path):
        self.root, self.config = root, smoke()
        self.store = Store(root, "imitation")
        self.folder = run(root, self.config)
        self.records, self.spec = report(root, self.config, self.folder)
        self.cells = {c.arm: c for c in STUDY.plan(self.config, self.store)}

    def path(self, arm: str) -> Path:
        return self.store.folder(self.cells[arm]).path

    def record(self, arm: str):
        (found,) = (record for record in self.records if record.arm == arm)
        return found

    @property
    def expert_data(self) -> Path:
        return self.path("expert") / "expert_data" / "Pendulum-v1" / "seed0"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Finished(tmp_path_factory.mktemp("study"))


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


ALWAYS = {"config.json", "status.json", "versions.json", "result.json", "eval"}
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
            assert new | {"seconds": 0} == old | {"seconds": 0}


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


# -- demonstrations that all seeds share -------------------------------------------------------


def shared(study, expert_data: str, **changes) -> ImitationConfig:
    return dataclasses.replace(
        study.config, expert_data=expert_data, arms=("random", "bc"), **changes
    )


def with_rewards_times(study, factor: float, folder: Path) -> Demonstrations:
    data = load_demonstrations(study.expert_data)
    scaled = dataclasses.replace(data, rewards=data.rewards * np.float32(factor))
    scaled.save(folder)
    return scaled


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


def test_other_demonstrations_make_other_runs(study, tmp_path):
    data = load_demonstrations(study.expert_data)
    other = data.first(3).save(tmp_path / "three")
    config = shared(study, str(other), demonstrations=(3,))
    mine = {cell.id for cell in STUDY.plan(config, study.store) if cell.arm == "bc"}
    theirs = STUDY.plan(shared(study, "latest", demonstrations=(3,)), study.store)
    assert not mine & {cell.id for cell in theirs}


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
