"""The assembly study from end to end, at a size that takes seconds."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from small_study import quiet

from steelyard.data.demonstrations import Demonstrations
from steelyard.reports import load_records, load_spec, summarise, write_report, write_results
from steelyard.studies.assembly import STUDY
from steelyard.studies.assembly.arms import ALL, ARMS
from steelyard.studies.assembly.config import NUT, PEG, PRESETS
from steelyard.studies.assembly.films import telling_starts
from steelyard.studies.assembly.plan import run_of
from steelyard.studies.assembly.policies import DATA, load_base, load_residual
from steelyard.studies.assembly.report import WINDOW, learning_metrics
from steelyard.studies.cells import Store
from steelyard.studies.engine import Options, run_study
from steelyard.training.residual import PLANE, SuccessEvaluator, base_of

NOWHERE = Store(Path("nowhere"), "assembly")


def tiny(**changes):
    config = STUDY.configure("smoke")
    config = dataclasses.replace(config, plane=with_(config.plane, arms=("uniform", "heuristic")))
    return dataclasses.replace(config, **changes)


def with_(part, **changes):
    return dataclasses.replace(part, **changes)


def run(root, config):
    return run_study(STUDY, config, "smoke", "cmd", Options(root, executor="inline"), quiet)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compiler):
    root = tmp_path_factory.mktemp("assembly")
    config = tiny()
    folder = run(root, config)
    records, spec = STUDY.records(config, Store(root, "assembly"), "smoke", "cmd")
    write_report(records, spec, folder)
    write_results(records, spec, folder)
    return root, config, folder


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_plans_runs_of_distinct_identity(preset):
    config = STUDY.configure(preset)
    STUDY.check(config, NOWHERE)
    cells = STUDY.plan(config, NOWHERE)
    assert len({c.id for c in cells}) == len(cells) > 0
    assert {c.arm for c in cells if c.parent is None} == {"base"}


def test_full_has_every_arm_on_two_tasks_with_five_seeds_or_more():
    config = STUDY.configure("full")
    parts = config.parts()
    assert sum(set(part.arms) == set(ALL) for part in parts.values()) >= 2
    assert all(len(part.seeds) >= 5 for part in parts.values())


def test_one_task_of_the_study_is_run_by_its_name():
    assert {p.run.env for p in STUDY.configure("quick", PEG).parts().values()} == {PEG}
    assert {p.run.env for p in STUDY.configure("quick", NUT).parts().values()} == {NUT}
    with pytest.raises(ValueError, match="resip has the reference's sizes on assembly/PegPlane"):
        STUDY.configure("resip", PEG)
    assert {p.run.env for p in STUDY.configure("resip").parts().values()} == {PLANE}
    small = STUDY.configure("smoke", NUT).parts()
    assert all(part.run.loop.total_timesteps < 1_000 for part in small.values())
    with pytest.raises(ValueError, match="has no part on Pendulum-v1; it has assembly/"):
        STUDY.configure("quick", "Pendulum-v1")


def test_all_arms_of_a_seed_share_base_environments_and_everything_but_what_counts():
    config = STUDY.configure("full")
    cells = [c for c in STUDY.plan(config, NOWHERE) if c.arm != "base"]
    for task in config.parts():
        for seed in (0, 3):
            own = [c for c in cells if c.axes["task"] == task and c.seed == seed]
            assert len({c.parent.id for c in own}) == 1
            plain = {dataclasses.replace(c.config.run, cupid=ARMS["uniform"].cupid) for c in own}
            assert len(plain) == 1


def test_the_reference_arm_is_its_formula_without_correction():
    cupid = ARMS["heuristic"].cupid
    assert (cupid.cupid_value_error, cupid.cupid_correction, cupid.cupid_floor) == (
        "identity",
        0,
        0,
    )
    weights = cupid.cupid_advantage_weight, cupid.cupid_value_error_weight
    assert (*weights, cupid.cupid_success_weight) == (0.4, 0.3, 0.3)
    assert cupid.cupid_compute_interval == 5
    assert run_of(STUDY.configure("full").peg, "uniform-continue").loop.on_success == "continue"


def test_the_report_has_base_and_arms_on_both_tasks(finished):
    _, config, folder = finished
    records, spec = load_records(folder / "raw.jsonl"), load_spec(folder / "report_spec.json")
    found = {(r.arm, r.axes["task"]) for r in records}
    plane, peg = config.parts()
    arms = ("base", "uniform", "heuristic")
    assert found == {*((arm, plane) for arm in arms), ("base", peg), ("uniform", peg)}
    assert all(r.status == "done" and "success" in r.metrics for r in records)
    summary = json.loads((folder / "summary.json").read_text())
    assert "base" in summary["arms"]
    pairs = {(c.arm.arm, c.baseline.arm) for c in summarise(records, spec).comparisons}
    assert pairs == {("uniform", "base"), ("heuristic", "uniform")}


def test_a_base_and_a_residual_come_back_from_disk_as_they_were_scored(finished):
    root, config, _ = finished
    store = Store(root, "assembly")
    cells = [c for c in STUDY.plan(config, store) if c.config.eval_episodes]
    residual = next(c for c in cells if c.arm == "uniform" and c.config.run.env == PEG)
    assert len(Demonstrations.load(store.folder(residual.parent).path / DATA)) == 4
    assert load_base(store.folder(residual.parent).path) is not None
    for cell in (residual, next(c for c in cells if c.arm == "heuristic")):
        policy = load_residual(store.folder(cell).path)
        evaluator = SuccessEvaluator(
            policy.run.env, base_of(policy.run.env, policy.base, jax.random.key(0)), 1, 10
        )
        outcome = evaluator.outcome(jax.tree.map(lambda x: x[None], policy.agent))
        result = store.folder(cell).read("result.json")
        assert outcome.success[0].tolist() == [bool(x) for x in result["success"]]
        assert outcome.length[0].tolist() == result["length"]
    with pytest.raises(FileNotFoundError, match="is no run folder of a base policy"):
        load_base(root)


@pytest.mark.slow
def test_a_base_without_anything_to_find_is_warned_of_and_stops_where_wanted(tmp_path, capsys):
    config = tiny(strict=True)
    config = dataclasses.replace(config, plane=with_(config.plane, arms=()))
    with pytest.raises(ValueError, match=r"never succeeds.*4 biased demonstrations: change"):
        run(tmp_path, config)
    run(tmp_path, dataclasses.replace(config, strict=False))
    assert "warning: seed 0: the base never succeeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"arms": ("influense",)}, "There is no arm 'influense'.*Did you mean 'influence'"),
        ({"seeds": (1, 1)}, "PegPlane: seeds must be distinct and at least one"),
        ({"seeds": (-1,)}, "seeds must lie between 0 and"),
        ({"arms": ("uniform", "uniform")}, "arms must be distinct"),
        ({"arms": ("uniform-mask",)}, "needs episodes that run on after success"),
        ({"eval_episodes": 1}, "eval_episodes must be at least 2, got 1"),
    ],
)
def test_bad_settings_are_refused_before_any_work(part, message):
    config = tiny()
    with pytest.raises(ValueError, match=message):
        STUDY.check(dataclasses.replace(config, plane=with_(config.plane, **part)), NOWHERE)


def test_an_unknown_tier_and_a_study_without_arms_are_refused():
    config = tiny()
    with pytest.raises(ValueError, match="there is no scripted tier 'bised'.*nearest: biased"):
        STUDY.check(dataclasses.replace(config, peg=with_(config.peg, tier="bised")), NOWHERE)
    none = dataclasses.replace(
        config, plane=with_(config.plane, arms=()), peg=with_(config.peg, arms=())
    )
    with pytest.raises(ValueError, match="no part of the study has any arm"):
        STUDY.check(none, NOWHERE)


def rows(rates, episodes, seconds=1.0):
    return [
        {
            "step": 100 * (i + 1),
            "seconds": seconds * (i + 1),
            "charts/success_rate": rate,
            "charts/episodes": count,
        }
        for i, (rate, count) in enumerate(zip(rates, episodes, strict=True))
    ]


def test_steps_to_a_success_by_hand():
    # The first row's window holds only episodes that ended early, so it does not count.
    found = learning_metrics(
        rows([1.0, 0.5, 0.85, 0.92], [10, WINDOW, 2 * WINDOW, 3 * WINDOW]), seconds=3.5
    )
    assert found["steps_to_80"] == 300
    assert found["steps_to_90"] == 400
    assert found["steps_to_95"] == 400  # never: its whole budget
    assert found["area"] == pytest.approx((1.0 + 0.5 + 0.85 + 0.92) / 4, abs=1e-4)
    assert found["success_at_equal_seconds"] == 0.85
    assert learning_metrics([], None) == {}
    several = learning_metrics(rows([0.5], [WINDOW]), None)
    assert "success_at_equal_seconds" not in several


def test_films_show_first_where_the_residual_made_the_difference():
    assert telling_starts([1, 0, 0, 1], [1, 0, 1, 0], 3, first=10) == [12, 10, 11]


def test_the_plane_needs_no_demonstrations_and_its_base_is_only_scored(finished):
    root, config, _ = finished
    store = Store(root, "assembly")
    bases = [c for c in STUDY.plan(config, store) if c.arm == "base" and c.config.env == PLANE]
    assert all(c.config.run is None for c in bases)
    assert load_base(store.folder(bases[0]).path) is None
    rates = [np.mean(store.folder(c).read("result.json")["success"]) for c in bases]
    assert rates[0] == rates[1]  # one rule, one set of starts
