"""``train sac`` with the reference's option names; the policies it keeps; a song's defaults."""

import pytest

from steelyard.cli import main
from steelyard.cli.train import _expanded
from steelyard.training.sac_policies import load_sac_policies

TWINKLE = "RoboPianist-debug-TwinkleTwinkleLittleStar-v0"


def test_shorthands_stand_for_our_options_with_a_blank_or_an_equals_sign():
    given = ["--discount", "0.8", "--checkpoint_every=30", "--frames=60", "--seed", "1"]
    assert _expanded(given) == [
        *("--gamma", "0.8", "--keep-policies", "--checkpoint-interval", "30"),
        *("--frames=60", "--seed", "1"),
    ]


def test_checkpoint_every_keeps_the_policies(tmp_path, capsys):
    words = ["--frames", "240", "--random-frames", "80", "--discount", "0.8", "--num-episodes", "1"]
    tiny = ["--hidden", "8", "--batch-size", "8", "--eval-episodes", "2", "--runs", str(tmp_path)]
    main(["train", "sac", "--env", "Pendulum-v1", *words, "--checkpoint-every", "80", *tiny])
    (folder,) = (tmp_path / "train_sac").iterdir()
    names = [name for name, _ in load_sac_policies(folder)]
    assert names == ["checkpoint_000080", "checkpoint_000160", "checkpoint_000240"]
    assert '"gamma": 0.8' in (folder / "config.json").read_text()


def test_a_pianist_trains_is_scored_as_music_and_evaluated(tmp_path, capsys):
    pytest.importorskip("robopianist", reason="scripts/install_piano.sh")
    song = f"{TWINKLE}?stretch_factor=0.1&n_steps_lookahead=1"
    words = ["--frames", "48", "--random-frames", "16", "--checkpoint-every", "48"]
    tiny = ["--hidden", "8", "--batch-size", "8", "--runs", str(tmp_path)]
    main(["train", "sac", "--env", song, *words, *tiny])
    (folder,) = (tmp_path / "train_sac").iterdir()
    metrics = (folder / "metrics.jsonl").read_text()
    for name in ("episode_return", "episode_length", "precision", "f1", "f1_micro", "sustain_f1"):
        assert f'"eval/{name}"' in metrics
    assert len(load_sac_policies(folder)) == 1
    capsys.readouterr()
    main(["evaluate", str(folder)])
    assert "f1_micro 0." in capsys.readouterr().out
