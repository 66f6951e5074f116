"""From a SAC run to judged segments to a tuned policy, by commands; and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from steelyard.cli import main
from steelyard.data.segments import load_segments


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A short SAC run on the pendulum, segments of its checkpoints, ratings by return."""
    root = tmp_path_factory.mktemp("cpl")
    main(
        [
            *("train", "sac", "--env", "Pendulum-v1", "--frames", "1200", "--hidden", "16", "16"),
            *("--random-frames", "400", "--num-envs", "4", "--checkpoint-every", "400"),
            *("--batch-size", "32", "--num-episodes", "2", "--eval-episodes", "2"),
            *("--eval-interval", "1200", "--log-interval", "400", "--runs", str(root / "runs")),
        ]
    )
    run = next((root / "runs" / "train_sac").iterdir())
    main(
        [
            *("data", "segments", "--checkpoints", str(run), "--noise-scales", "0.1", "0.4"),
            *("--segment-length", "2.5", "--episode-length", "10", "--episodes-per-config", "2"),
            *("--out", str(root / "data")),
        ]
    )
    dataset = next((root / "data").iterdir())
    segments = load_segments(dataset)
    order = np.argsort(np.argsort(segments.reward.sum(1)))
    rows = [
        {"segment": k, "rating": int(1 + 5 * rank // len(order)), "scale": 5, "annotator": "ana"}
        for k, rank in enumerate(order)
    ]
    (dataset / "export").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (dataset / "export" / "ratings.jsonl").write_text(text)
    return run, dataset


def tuned(run: Path, dataset: Path, *more: str) -> list[str]:
    command = ["train", "cpl", "--sac-checkpoint", str(run), "--preference-data", str(dataset)]
    return [*command, "--steps", "30", "--eval-interval", "30", "--no-videos", *more]


def test_segments_of_a_run_are_named_after_its_checkpoints(judged):
    _, dataset = judged
    info = json.loads((dataset / "segment_info.json").read_text())
    assert {s["checkpoint"] for s in info["segments"]} == {
        "checkpoint_000400", "checkpoint_000800", "checkpoint_001200",
    }  # fmt: skip
    assert {s["noise_scale"] for s in info["segments"]} == {0.1, 0.4}
    assert info["segments"][0]["duration"] == 2.5


def test_a_run_from_judgements_to_a_tuned_policy(judged, tmp_path, capsys):
    run, dataset = judged
    main(tuned(run, dataset, "--lambda", "0.75", "--runs", str(tmp_path)))
    out = capsys.readouterr().out
    assert "48 ratings and" in out
    folder = next((tmp_path / "train_cpl").iterdir())
    assert (folder / "checkpoints" / "checkpoint_final.safetensors").exists()
    assert "eval/reward_mean" in (folder / "results.txt").read_text()
    assert json.loads((folder / "config.json").read_text())["run"]["agent"]["lambda_"] == 0.75
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(row["train/nonfinite"] == 0 for row in rows if "train/nonfinite" in row)
    first = run / "checkpoints" / "checkpoint_000400.safetensors"
    main(tuned(first, dataset, "--runs", str(tmp_path)))
    assert len(list((tmp_path / "train_cpl").iterdir())) == 2
    capsys.readouterr()
    main(["evaluate", str(folder), "--episodes", "3", "--steps", "20"])
    assert "3 fixed start states" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--lambda", "2"], "lambda_ lies in"),
        (["--likelihood", "tanh_gaussian"], "lambda_ < 1 needs"),
        (["--held-out", "0.02"], "no pair held out"),
    ],
)
def test_settings_that_cannot_work_are_one_line(judged, tmp_path, capsys, more, says):
    with pytest.raises(SystemExit) as stopped:
        main(tuned(*judged, "--runs", str(tmp_path), *more))
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_a_policy_of_another_name_and_a_data_set_without_answers_are_refused(
    judged, tmp_path, capsys
):
    run, dataset = judged
    with pytest.raises(SystemExit):
        main(tuned(run / "checkpoints" / "checkpoint_000001.safetensors", dataset))
    assert "it has checkpoint_000400" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(tuned(run, tmp_path))
    assert "steelyard data segments" in capsys.readouterr().err


def test_who_plays_must_be_said_once(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["data", "segments", "--out", str(tmp_path)])
    assert "who plays?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "segments", "--env", "dense/Reach-v3", "--out", str(tmp_path)])
    assert "has no scripted expert" in capsys.readouterr().err
