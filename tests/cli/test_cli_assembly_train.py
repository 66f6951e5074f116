"""`train base`, `train residual-ppo`, and `evaluate` and `render` of what they leave."""

import json
import re
from pathlib import Path

import pytest

from steelyard.cli import main
from steelyard.training.metrics import read_rows
from steelyard.training.residual_console import lines
from steelyard.training.run_folder import RunFolder

PEG = "assembly/PegInsertSide-v3"
TINY = ["--hidden", 16, "--num-envs", 8, "--num-env-steps", 16, "--total-timesteps", 256]
TINY += ["--update-epochs", 2, "--num-minibatches", 2, "--eval-episodes", 6]
TINY += ["--n-iterations-train-only-value", 0]


def run(*words):
    main([str(word) for word in words])


def refused(capsys, *words):
    """The one message of a command that is refused."""
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    return " ".join((shown.err + shown.out).split())


def folder_in(text):
    return Path(re.search(r"run folder: (\S+)", text)[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("assembly")


@pytest.fixture(scope="module")
def base(place):
    """Run folder of a base that was cloned from four demonstrations."""
    run("data", "generate", "metaworld", "PegInsertSide", "--episodes", 4, "--out", place / "demos")
    run(
        "train", "base", place / "demos", "--head", "mse", "--hidden", 16, "--min-steps", 40,
        "--epochs", 1, "--eval-episodes", 4, "--runs", place / "runs",
    )  # fmt: skip
    (folder,) = (place / "runs" / "train_base").iterdir()
    return folder


@pytest.fixture(scope="module")
def residual(place, base):
    """Run folder of a residual on it, by the heuristic."""
    run(
        "train", "residual-ppo", "--env", PEG, "--base", base, "--use-cupid", *TINY,
        "--cupid-compute-interval", 2, "--runs", place / "runs",
    )  # fmt: skip
    (folder,) = (place / "runs" / "train_residual-ppo").iterdir()
    return folder


def test_a_base_is_cloned_and_scored(base, capsys):
    result = RunFolder(base).read("result.json")
    assert len(result["success"]) == 4
    run("evaluate", base, "--episodes", 4)
    shown = capsys.readouterr().out
    assert f"base on {PEG}: 4 fixed start states" in shown
    assert f"success {sum(result['success']) / 4:.1%}" in shown


def test_a_residual_leaves_the_reference_s_metrics_histograms_and_figures(residual):
    rows = read_rows(residual / "metrics.jsonl")
    assert len(rows) == 2
    wanted = {"charts/success_rate", "cupid/importance_mean", "training/SPS", "values/returns"}
    assert wanted <= set(rows[-1])
    shapes = read_rows(residual / "histograms.jsonl")
    names = ("values", "returns", "advantages", "logprobs", "rewards", "action_norms", "importance")
    assert {f"histograms/{name}" for name in names} < set(shapes[0])
    counts = shapes[0]["histograms/importance"]["counts"]
    assert sum(counts) == 8 * 16
    plots = {path.name for path in (residual / "plots").iterdir()}
    assert plots == {"success_rate.png", "importance.png", "ess.png"}


def test_a_residual_is_found_again_and_evaluated_with_its_own_copy_of_the_base(
    place, base, residual, capsys
):
    result = RunFolder(residual).read("result.json")
    run("evaluate", residual, "--episodes", 6)
    assert f"success {sum(result['success']) / 6:.1%}" in capsys.readouterr().out
    before = (residual / "metrics.jsonl").read_bytes()
    run(
        "train", "residual-ppo", "--env", PEG, "--base", base, "--use-cupid", *TINY,
        "--cupid-compute-interval", 2, "--runs", place / "runs",
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert folder_in(shown) == residual
    assert "Iteration" not in shown
    assert (residual / "metrics.jsonl").read_bytes() == before


def test_the_console_tells_what_the_reference_tells_in_its_order(place, capsys):
    run(
        "train", "residual-ppo", *TINY, "--use-cupid", "--cupid-compute-interval", 2,
        "--runs", place / "plane",
    )  # fmt: skip
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "CUPID settings: use_cupid=True, compute_interval=2"
    patterns = [
        r"Iteration: 2/2",
        r"Computing CUPID importance scores at iteration 2\.\.\.",
        r"CUPID computation took \d+\.\d\ds",
        r"Importance stats: min=\S+, max=\S+, mean=7\.8e-03, ESS=0\.\d\d",
        r"SR: \d+\.\d\d%, SPS: \d+\.\d\d, STS: \d+\.\d\d%, MSEL: \d+\.\d\d",
        r"Policy update: 100%\|█{10}\| 2/2 \[00:\d\d<00:00, \d+\.\d\dit/s\]",
    ]
    start = shown.index("Iteration: 2/2")
    for line, pattern in zip(shown[start:], patterns, strict=False):
        assert re.fullmatch(pattern, line), line


def test_an_iteration_without_a_computation_says_none(place):
    from steelyard.emphasis.on_policy import CupidConfig
    from steelyard.training.residual import PLANE, ResidualRun

    row = dict.fromkeys(
        (
            *("charts/success_rate", "training/SPS", "charts/success_timesteps_share"),
            *("charts/mean_success_episode_length", "training/share_update", "losses/epochs"),
            *("cupid/compute_time_s", "cupid/importance_min", "cupid/importance_max"),
            *("cupid/importance_mean", "cupid/ess_share"),
        ),
        1.0,
    )
    plain = ResidualRun(PLANE)
    assert len(lines(plain, 3, row)) == 4
    weighed = ResidualRun(PLANE, cupid=CupidConfig(True))
    assert not any("Computing" in line for line in lines(weighed, 3, row))
    assert any("Computing" in line for line in lines(weighed, 5, row))


def test_the_references_key_value_form_is_answered_with_ours(capsys):
    message = refused(capsys, "train", "residual-ppo", "use_cupid=true", "cupid_compute_interval=5")
    assert "--use-cupid --cupid-compute-interval 5" in message
    assert "--no-use-cupid" in refused(capsys, "train", "residual-ppo", "use_cupid=false")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--eval-episodes", 0], "count lies in"),
        (["--checkpoint-interval", 1, "--num-env-steps", 1, "--num-minibatches", 1], "generation"),
        (["--num-envs", 0], "num_envs must be at least 1, got 0"),
    ],
)
def test_what_would_stop_a_run_late_is_refused_at_once(words, message, capsys, place):
    assert message in refused(capsys, "train", "residual-ppo", *words, "--runs", place / "refused")
    assert not (place / "refused").exists()


def test_what_a_key_value_form_is_answered_with_is_understood(place, capsys):
    run("train", "residual-ppo", "--no-use-cupid", *TINY, "--runs", place / "spelled")
    assert "use_cupid=False" in capsys.readouterr().out


def test_a_file_of_settings_is_read_and_options_win(place, capsys):
    file = place / "settings.json"
    file.write_text(json.dumps({"use_cupid": True, "cupid_compute_interval": 7, "hidden": [8]}))
    run(
        "train", "residual-ppo", "--config", file, *TINY[2:], "--cupid-success-weight", 0.1,
        "--runs", place / "file",
    )  # fmt: skip
    folder = folder_in(capsys.readouterr().out)
    settings = RunFolder(folder).read("config.json")["config"]["run"]
    assert settings["cupid"]["cupid_compute_interval"] == 7
    assert settings["cupid"]["cupid_success_weight"] == 0.1
    assert settings["agent"]["hidden"] == [8]
    file.write_text(json.dumps({"cupid_compute_intervall": 7}))
    message = refused(capsys, "train", "residual-ppo", "--config", file)
    assert (
        "unknown key 'cupid_compute_intervall'; did you mean 'cupid_compute_interval'?" in message
    )


def test_a_base_of_another_task_is_refused_and_a_base_is_not_filmed_alone(base, capsys):
    message = refused(
        capsys, "train", "residual-ppo", "--env", "assembly/Assembly-v3", "--base", base
    )
    assert f"is of {PEG}, the residual's task is assembly/Assembly-v3" in message
    assert "render a residual on it" in refused(capsys, "render", base)
    assert "is no run folder of a base" in refused(
        capsys, "train", "residual-ppo", "--env", PEG, "--base", base.parent
    )


@pytest.mark.slow
def test_base_and_residual_are_filmed_side_by_side(residual, capsys, tmp_path):
    from PIL import Image

    try:
        run("render", residual, "--format", "png", "--out", tmp_path)
    except SystemExit:
        message = capsys.readouterr().err
        assert "no OpenGL context" in message or "could not be filmed" in message
        pytest.skip(message)
    (film,) = tmp_path.iterdir()
    with Image.open(film) as opened:
        assert opened.size == (640, 240)
        assert getattr(opened, "n_frames", 1) > 20
