"""The study piano end to end at its smallest, what it refuses, and policies on disk."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from steelyard.cli import main
from steelyard.data.normalisation import Normaliser
from steelyard.data.segments import load_segments
from steelyard.nets import TanhGaussian
from steelyard.studies.cells import Store
from steelyard.studies.piano import STUDY
from steelyard.studies.piano.arms import ARMS
from steelyard.studies.piano.config import PRESETS, Part, configure
from steelyard.studies.piano.judgements import cloned_segments, judge_segments, pair_ratio
from steelyard.studies.piano.plan import Judged, Played, Tuned, judged_of, plan_cells, start_of
from steelyard.studies.piano.policies import POLICY, load_policy, save_policy
from steelyard.training.run_folder import RunFolder
from steelyard.training.sac_policies import Network


@pytest.fixture(scope="module")
def finished(smoke):
    """The smoke preset, run once."""
    return smoke("piano")


def report_folder(root: Path) -> Path:
    return next((root / "piano").glob("study_smoke_*"))


def test_a_study_runs_from_pretraining_to_a_report(finished):
    summary = json.loads((report_folder(finished) / "summary.json").read_text())
    assert set(summary["arms"]) == {"pretrained", "cpl"}
    assert summary["arms"]["cpl"]["success"]["n"] == 2
    assert (report_folder(finished) / "report.html").exists()
    cells = plan_cells(configure("smoke"))
    store = Store(finished, "piano")
    assert all(store.is_done(cell) for cell in cells)
    tuned = next(cell for cell in cells if isinstance(cell.config, Tuned))
    result = store.folder(tuned).read("result.json")
    assert 0.0 <= result["win_rate"] <= 1.0
    rows = [json.loads(x) for x in store.folder(tuned).metrics.read_text().splitlines()]
    last = {name: value for row in rows for name, value in row.items()}
    assert last["train/nonfinite"] == 0.0
    assert last["train/accuracy"] > 0.8
    assert "heldout/accuracy" in last


def test_segments_of_checkpoints_say_who_played_and_can_be_played_again(finished):
    cells = [c for c in plan_cells(configure("smoke")) if isinstance(c.config, Played)]
    folder = Store(finished, "piano").folder(cells[0]).path / "segments"
    segments = load_segments(folder)
    assert len(segments) == 64
    assert len(segments.checkpoints) == 4
    assert np.isnan(segments.behaviour_logp[segments.noise == 0]).all()
    assert np.isfinite(segments.behaviour_logp[segments.noise > 0]).all()


def test_a_finished_study_is_not_run_again(finished, capsys):
    arguments = ["study", "run", "piano", "--preset", "smoke", "--runs", str(finished)]
    main([*arguments, "--executor", "inline"])
    told = capsys.readouterr()
    assert "8 done, 0 groups to train" in told.out + told.err


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_passes_its_own_rules(preset, tmp_path):
    config = configure(preset)
    STUDY.check(config, Store(tmp_path, "piano"))
    cells = plan_cells(config)
    assert len({cell.id for cell in cells}) == len(cells)


def quick(**changes) -> Part:
    return dataclasses.replace(configure("quick").sweep, **changes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arms": ("cpl_lam07",)}, "Did you mean 'cpl_lam075'"),
        ({"ratings": 600}, r"ratings \+ held_out are 600 \+ 40, and 512 segments"),
        ({"held_out": 2}, "at least 10"),
        ({"env": "dense/Reach-v3"}, "has no scripted expert"),
        ({"eval_episodes": 1}, "eval_episodes is at least 2"),
        ({"seeds": (1, 1)}, "seeds must be distinct"),
        ({"arms": ("cpl_from_rated",)}, "starts from rated_bc, which is not among the arms"),
    ],
)
def test_bad_input_is_refused_before_any_work(change, says, tmp_path):
    config = dataclasses.replace(configure("quick"), sweep=quick(**change))
    with pytest.raises(ValueError, match=says):
        STUDY.check(config, Store(tmp_path, "piano"))


def test_likelihoods_of_policies_without_noise_are_refused(tmp_path):
    part = quick(arms=("pretrained", "cpl_policy_label"))
    silent = dataclasses.replace(part.generation, noise_scales=(0.0, 0.1))
    config = dataclasses.replace(
        configure("quick"), sweep=dataclasses.replace(part, generation=silent)
    )
    with pytest.raises(ValueError, match="with noise 0 they have none"):
        STUDY.check(config, Store(tmp_path, "piano"))


def test_a_task_of_metaworlds_name_means_the_dense_one():
    parts = configure("quick", "MetaWorld/ButtonPress-v3").parts()
    assert [part.env for part in parts.values()] == ["dense/ButtonPress-v3"]


def test_arms_start_from_what_they_say_and_share_it():
    cells = plan_cells(dataclasses.replace(configure("full"), seeds=(0,)))
    tuned = [c for c in cells if isinstance(c.config, Tuned) and c.axes["task"] == "SweepInto"]
    assert {cell.arm for cell in tuned} == set(ARMS) - {"pretrained"}
    starts = {cell.arm: start_of(cell).arm for cell in tuned}
    assert starts.pop("cpl_from_rated") == "rated_bc"
    assert set(starts.values()) == {"pretrained"}
    assert all(arm.parent in ARMS for name, arm in ARMS.items() if name != "pretrained")


def test_what_learners_are_told_and_what_they_clone(finished):
    cells = [c for c in plan_cells(configure("smoke")) if isinstance(c.config, Played)]
    segments = load_segments(Store(finished, "piano").folder(cells[0]).path / "segments")
    judged: Judged = judged_of(configure("smoke").pendulum)
    told, again = (judge_segments(segments, judged, 0) for _ in range(2))
    assert np.array_equal(told.pairs.winner, again.pairs.winner)
    used = set(told.pairs.winner) | set(told.pairs.loser)
    assert not used & (set(told.held.winner) | set(told.held.loser))
    best = cloned_segments("top_return", segments, told) > 0
    assert told.worth[best].min() >= told.worth[~best].max()
    rated = cloned_segments("top_rated", segments, told) > 0
    assert set(np.flatnonzero(rated)) <= set(told.ratings.segment)
    won = cloned_segments("winners", segments, told)
    assert won.sum() == pytest.approx(len(told.pairs))
    ratio = pair_ratio("proportional", told.pairs)
    assert ratio.mean() == pytest.approx(1.0, abs=1e-5)
    assert (ratio[~told.pairs.strict] > 0).all()  # the floor keeps ties


def test_a_policy_comes_back_bit_for_bit_and_a_missing_array_names_itself(tmp_path):
    folder = RunFolder(tmp_path)
    actor = TanhGaussian(3, 1, (8,), jax.random.key(0))
    save_policy(folder, Network("Pendulum-v1", (8,), "relu"), actor, Normaliser.identity(3))
    _, policy = load_policy(tmp_path)
    for left, right in zip(jax.tree.leaves(actor), jax.tree.leaves(policy.actor), strict=True):
        assert not eqx_array(left) or jnp.array_equal(left, right)
    path = folder.checkpoints / POLICY
    arrays = load_file(path)
    name = sorted(arrays)[0]
    del arrays[name]
    save_file(arrays, path)
    with pytest.raises(ValueError, match=r"has no array"):
        load_policy(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="has no policy"):
        load_policy(tmp_path)


def eqx_array(leaf) -> bool:
    return hasattr(leaf, "shape")
