"""`train acfql` with the reference's flags, `data generate operators`, `data cluster`."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from steelyard.cli import main
from steelyard.cli.train_acfql import TrainACFQL, _arm, _settings
from steelyard.studies.offline2online.config import QUICK_AGENT
from steelyard.training.metrics import read_rows

FORK = "sparse/Fork-v0"
TINY = ["--env-name", FORK, "--regime", "fork-small", "--agent.hidden", 16, "--agent.flow-steps", 2]
TINY += ["--offline-steps", 40, "--online-steps", 60, "--ptr-warmup-steps", 10]
TINY += ["--eval-interval", 60, "--save-interval", 60, "--log-interval", 20, "--eval-episodes", 4]
TINY += ["--agent.batch-size", 16]


def run(*words):
    main([str(word) for word in words])


def refused(capsys, *words):
    """The one message of a command that is refused."""
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    return " ".join((shown.err + shown.out).split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of runs of the reference's full method, tiny, spelled as the reference spells it."""
    place = tmp_path_factory.mktemp("acfql")
    run(
        "train", "acfql", *TINY, "--run_group=tper", "--use_ptr_backward=True",
        "--use_ptr_online_priority=True", "--sparse=False", "--agent.alpha=100",
        "--horizon_length=5", "--metric=td_error_rank", "--cluster_sampler=True",
        "--save_all_online_states=True", "--save_dir", place, "\\",
    )  # fmt: skip
    return place / "offline2online"


def the(kind, place):
    arms = {p: json.loads((p / "config.json").read_text())["arm"] for p in place.iterdir()}
    (found,) = [p for p, arm in arms.items() if arm == kind]
    return found


def test_the_reference_s_command_runs_both_phases(trained):
    online = the("tper", trained)
    config = json.loads((online / "config.json").read_text())["config"]
    assert config["emphasis"]["critic"]["weighting"] == "rank"
    assert config["emphasis"]["actor"]["weighting"] == "balanced"
    assert config["agent"]["alpha"] == 100
    offline = the("offline balanced", trained)
    names = {p.name for p in online.iterdir()} | {p.name for p in offline.iterdir()}
    assert {"flags.json", "eval.csv", "offline_agent.csv", "online_agent.csv", "data.npz"} <= names
    assert read_rows(online / "metrics.jsonl")[-1]["step"] == 60


def test_all_that_was_played_is_kept_where_it_is_asked_for(trained):
    with np.load(the("tper", trained) / "data.npz") as kept:
        assert kept["lengths"].sum() == 60
        assert kept["observations"].shape == (60, 4)
        assert kept["final_observations"].shape == (len(kept["lengths"]), 4)


def test_the_same_command_finds_its_runs_again(trained, capsys):
    before = sorted(trained.iterdir())
    run(
        "train", "acfql", *TINY, "--run-group", "tper", "--agent.alpha", 100, "--metric",
        "td_error_rank", "--cluster-sampler", "True", "--horizon-length", 5,
        "--save-all-online-states", "True", "--save-dir", trained.parent,
    )  # fmt: skip
    assert sorted(trained.iterdir()) == before
    shown = capsys.readouterr().out
    assert re.search(r"tper: \d of 4 episodes succeed", shown)
    assert "demonstrations succeed" in shown


def test_a_run_is_scored_by_its_folder(trained, capsys):
    run("evaluate", the("offline balanced", trained), "--episodes", 3)
    shown = capsys.readouterr().out
    assert "3 fixed start states" in shown
    assert re.search(r"success \d+\.\d% \[", shown)


def arm_of(**flags):
    options = TrainACFQL(QUICK_AGENT, **flags)
    return _settings(options)[1]


def test_flags_choose_what_is_drawn():
    assert arm_of().online.critic.weighting == "uniform"
    assert arm_of(cluster_sampler=True).offline.weighting == "balanced"
    assert arm_of(cluster_sampler=True).online.critic.weighting == "balanced"
    off = arm_of(cluster_sampler=True, cluster_online="off")
    assert off.online.critic.weighting == off.online.actor.weighting == "uniform"
    assert arm_of(metric="avg_reward").online.critic.metric == "avg_reward"
    assert arm_of(metric="avg_reward", use_ptr_backward=False).online.critic.weighting == "uniform"
    assert arm_of(base="trajectories").offline.weighting == "trajectories"
    assert arm_of(offline_ratio=0.5).online.actor.weighting == "symmetric"
    assert arm_of(backward=True, metric="td_error_rank").draws.backward == "walk"
    assert not arm_of(metric="avg_reward", importance_exponent=(0.0, 0.0)).online.critic.corrected
    options = TrainACFQL(QUICK_AGENT, beta=0.25, use_weighted_target=True, unit="segment")
    part = _settings(options)[0]
    assert (part.agent.beta, part.agent.use_weighted_target) == (0.25, True)
    assert part.cluster.segment == 50
    assert _arm(TrainACFQL(QUICK_AGENT), False).title == "acfql"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env-name", "sparse/HandelPress-v3"], "did you mean 'sparse/HandlePress-v3'"),
        (
            ["--metric", "td_error_rank", "--use-ptr-online-priority", "False"],
            "priorities would never change",
        ),
        (["--metric", "td_eror_rank"], "metric is one of td_error_rank"),
        (["--ptr-warmup-steps", "5000"], "T-PER would never start"),
        (["--beta", "1.5"], "beta must be in [0, 1], got 1.5"),
        (["--offline-ratio", "0.7"], "offline_ratio is 0.5 or none, got 0.7"),
        (["--cluster-sampler", "True", "--cluster-k", "1"], "has nothing to balance"),
        (["--dataset-proportion", "0"], "dataset_proportion lies in (0, 1], got 0.0"),
        (["--dataset", "nowhere.npz"], "nowhere.npz does not exist"),
        (["--preset", "paper"], "preset is one of task, reference"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_what_to_do(capsys, words, message):
    assert message in refused(capsys, "train", "acfql", *words)


def test_the_reference_s_preset_has_its_sizes(capsys):
    with pytest.raises(SystemExit):
        run("train", "acfql", "--preset", "reference", "--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "1000000" in shown
    assert "20000" in shown


def test_operators_data_are_made_checked_and_clustered(tmp_path, capsys):
    out = tmp_path / "fork"
    run("data", "generate", "operators", "Fork-v0", "--regime", "fork-small", "--out", out)
    shown = capsys.readouterr().out
    assert re.search(r"through-a +6 episodes, +6 succeed", shown)
    assert re.search(r"through-b +18 episodes, +0 succeed", shown)
    assert len(json.loads((out / "operators.json").read_text())) == 24
    run("data", "check", out)
    run("data", "cluster", out)
    shown = capsys.readouterr().out
    assert re.search(r"\d clusters of 24 trajectories", shown)
    places = list(Path(tmp_path / "fork_clusters").iterdir())
    assert {p.suffix for p in places} == {".png", ".json"}
    assert "Did you mean 'conflict'" in refused(
        capsys, "data", "generate", "operators", "HandlePress-v3", "--regime", "conflcit"
    )
    assert "nothing to balance" in refused(capsys, "data", "cluster", out, "--k", "1")
