"""The study grid end to end at its smallest, what it refuses, and scores by a clone."""

import dataclasses
import json

import numpy as np
import pytest

from steelyard.emphasis.demonstrations import EmphasisConfig
from steelyard.studies.cells import Store
from steelyard.studies.grid import STUDY
from steelyard.studies.grid.arms import ARMS
from steelyard.studies.grid.config import PRESETS, TUNING_SEEDS, configure
from steelyard.studies.grid.episodes import open_played
from steelyard.studies.grid.execute import open_clone
from steelyard.studies.grid.plan import Cloned, Data, Offline, data_of, plan_cells
from steelyard.training.episode_scores import cloning_losses, score_episodes


@pytest.fixture(scope="module")
def finished(smoke):
    """The smoke preset, run once."""
    return smoke("grid")


def test_a_study_runs_from_episodes_to_a_report(finished):
    folder = next((finished / "grid").glob("study_smoke_*"))
    summary = json.loads((folder / "summary.json").read_text())
    cloned = {"uniform", "return_rank", "clusters", "influence_drop", "oracle"}
    offline = {f"{name}[task=Fork, ACFQL]" for name in ("uniform", "return_rank")}
    assert set(summary["arms"]) == cloned | offline
    assert all(arm["success"]["n"] == 2 for arm in summary["arms"].values())
    against = {(c["arm"], c["baseline"]) for c in summary["comparisons"]}
    assert {(name, "uniform") for name in cloned - {"uniform"}} <= against
    assert (folder / "report.html").exists()


def test_a_report_says_what_an_emphasis_did_to_the_data(finished):
    store, found = Store(finished, "grid"), {}
    for cell in plan_cells(configure("smoke")):
        if isinstance(cell.config, Cloned) and cell.seed == 0:
            found[cell.arm] = store.folder(cell).read("result.json")["emphasis"]
    assert found["oracle"] == {}
    assert found["uniform"]["ess_share"] == pytest.approx(1.0)
    assert found["return_rank"]["competent_share"] > found["uniform"]["competent_share"]
    assert found["influence_drop"]["touched_share"] < 1.0


def test_a_seeds_episodes_are_one_set_for_all_arms_and_the_reference_is_no_part_of_it(finished):
    cells, store = plan_cells(configure("smoke")), Store(finished, "grid")
    assert sum(isinstance(cell.config, Data) for cell in cells) == 2
    arms = [cell for cell in cells if not isinstance(cell.config, Data)]
    assert {data_of(cell).id for cell in arms} == {c.id for c in cells} - {c.id for c in arms}
    played = open_played(store.folder(data_of(arms[0])))
    assert len(played.data) == len(played.competent) == 24
    assert played.competent.sum() == 6
    assert len(played.chosen("competent")) == 6
    assert not set(played.reference.start_seeds) & set(played.data.start_seeds)


def test_scores_by_a_clone_are_the_slopes_of_its_loss(finished):
    cells, store = plan_cells(configure("smoke")), Store(finished, "grid")
    cell = next(c for c in cells if c.arm == "uniform" and isinstance(c.config, Cloned))
    played, agent = open_played(store.folder(data_of(cell))), open_clone(cell, store)
    losses, params = cloning_losses(agent)
    data, reference = played.data.first(3), played.reference
    rows, owner = data.transitions(), data.step_episodes()
    own = score_episodes("own_loss", losses, params, data)
    expected = np.bincount(owner, np.asarray(agent.losses(rows))) / np.bincount(owner)
    np.testing.assert_allclose(own, expected, rtol=1e-5)
    assert (score_episodes("gradient_norm", losses, params, data) > 0).all()
    itself = score_episodes("influence", losses, params, reference, reference)
    assert itself.mean() > 0  # what is learned from the reference lowers its loss
    with pytest.raises(ValueError, match="give episodes as the reference"):
        score_episodes("influence", losses, params, data)
    with pytest.raises(ValueError, match="one of .*'own_loss'.*, got 'loss'"):
        score_episodes("loss", losses, params, data)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_passes_its_own_rules(preset, tmp_path):
    config = configure(preset)
    STUDY.check(config, Store(tmp_path, "grid"))
    cells = plan_cells(config)
    assert len({cell.id for cell in cells}) == len(cells)
    assert not {cell.seed for cell in cells} & set(TUNING_SEEDS)


def test_every_arm_departs_from_uniform_data_in_one_thing():
    for name, arm in ARMS.items():
        changes = [
            arm.emphasis != EmphasisConfig(),
            arm.cvar_alpha != 1.0,
            arm.episodes != "all",
        ]
        assert sum(changes) == (name != "uniform"), name
        assert (arm.by is not None) == (arm.emphasis.score == "given"), name


def test_arms_that_differ_in_their_emphasis_alone_train_in_one_program():
    cells = plan_cells(dataclasses.replace(configure("quick"), seeds=(0,)))
    programs: dict = {}
    for cell in cells:
        if isinstance(cell.config, (Cloned, Offline)):
            programs.setdefault((type(cell.config), cell.program), set()).add(cell.arm)
    together = [arms for (kind, _), arms in programs.items() if kind is Cloned and len(arms) > 1]
    assert len(together) == 2  # those that need no clone, and those that do
    assert {"uniform", "return_rank_losses", "random_rank", "oracle"} <= max(together, key=len)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arms": ("uniform", "return_rnk")}, "Did you mean 'return_rank'"),
        ({"arms": ("return_rank",)}, "add it to the arms"),
        ({"seeds": (1, 1)}, "seeds must be distinct"),
        ({"regime": "fork"}, "no operator"),
        ({"arms": ("uniform", "return_rank_losses")}, "ACFQL feels an emphasis on episodes"),
        ({"reference_episodes": 0}, "are at least 1, got 0"),
    ],
)
def test_bad_input_is_refused_before_any_work(change, says, tmp_path):
    config = configure("quick")
    config = dataclasses.replace(config, offline=dataclasses.replace(config.offline, **change))
    with pytest.raises(ValueError, match=says):
        STUDY.check(config, Store(tmp_path, "grid"))
