"""Demonstrations of scripted experts on the command line."""

import numpy as np
import pytest

from steelyard.cli import main
from steelyard.data.demonstrations import Demonstrations
from steelyard.envs.registry import env_spec

PEG = "PegInsertSide"


def run(*words):
    main([str(word) for word in words])


def refused(capsys, *words):
    """The one message of a command that is refused."""
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    return " ".join((shown.err + shown.out).split())


def generate(*words):
    run("data", "generate", "metaworld", *words)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("assembly")


@pytest.fixture(scope="module")
def noisy(place):
    """Six episodes of a tier that fails as often as not."""
    generate(PEG, "--tier", "noise-1.0", "--episodes", 6, "--seed", 3, "--out", place / "noisy")
    return Demonstrations.load(place / "noisy")


def test_a_good_expert_s_demonstrations_are_written_with_their_origin(place, capsys):
    generate(PEG, "--tier", "good", "--episodes", 3, "--out", place / "good")
    shown = capsys.readouterr()
    assert "3 of 3 episodes succeed, 1.00 [0.44, 1.00] (95 %, Wilson)" in shown.out
    assert f"written: {place / 'good'}" in shown.out
    assert "100 %" in shown.err
    data = Demonstrations.load(place / "good")
    assert data.env_spec == env_spec("assembly/PegInsertSide-v3")
    assert data.terminations.sum() == 3
    assert data.returns().tolist() == [1, 1, 1]
    assert f"mean length {data.lengths.mean():.1f} steps" in shown.out
    origin = data.provenance
    assert (origin.algorithm, origin.seed, origin.deterministic) == ("scripted/good", 0, True)
    assert "PegInsertSide-v3, tier good" in origin.notes[0]
    assert "envpool" in origin.versions


def test_failures_are_kept_unless_they_are_unwanted(noisy, place):
    assert len(noisy) == 6
    won = noisy.returns() == 1
    assert 0 < won.sum() < 6
    assert noisy.provenance.deterministic is False
    words = ["--tier", "noise-1.0", "--episodes", 6, "--seed", 3, "--successes-only"]
    generate(PEG, *words, "--out", place / "won")
    kept = Demonstrations.load(place / "won")
    assert kept.start_seeds.tolist() == noisy.start_seeds[won].tolist()
    assert kept.terminations.sum() == len(kept) == won.sum()


def test_fewer_episodes_are_the_first_of_more(noisy, place):
    words = ["--tier", "noise-1.0", "--episodes", 2, "--seed", 3]
    generate("PegInsertSide-v3", *words, "--out", place / "fewer")
    fewer = Demonstrations.load(place / "fewer")
    assert fewer.sha256 == noisy.first(2).sha256


def test_another_seed_gives_other_starts(noisy, place):
    generate(PEG, "--tier", "noise-1.0", "--episodes", 1, "--seed", 4, "--out", place / "other")
    other = Demonstrations.load(place / "other")
    assert not set(other.start_seeds) & set(noisy.start_seeds)
    assert not np.array_equal(other.observations[0], noisy.observations[0])


def test_the_nut_s_expert_goes_where_it_is_looked_for(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    generate("Assembly", "--episodes", 1)
    folder = "expert_data/assembly/Assembly-v3/good/seed0"
    assert f"written: {folder}" in capsys.readouterr().out
    assert Demonstrations.load(folder).env_spec.id == "assembly/Assembly-v3"
    shown = refused(capsys, "data", "generate", "metaworld", "Assembly", "--episodes", 1)
    assert "--overwrite" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["PegInsrtSide"], "no scripted task 'PegInsrtSide'; nearest: PegInsertSide. Legal: Peg"),
        ([PEG, "--tier", "stallin"], "no scripted tier 'stallin' of PegInsertSide-v3; nearest: st"),
        (["Assembly", "--tier", "stalling"], "Legal: good, noise-0.6"),
        ([PEG, "--episodes", "0"], "1 to 10000 episodes, got 0"),
        ([PEG, "--seed", "-1"], "--seed lies in [0, 49898], got -1"),
        ([PEG, "--teir", "good"], "--tier"),
    ],
)
def test_what_cannot_be_is_one_message_before_any_work(words, message, place, capsys):
    shown = refused(capsys, "data", "generate", "metaworld", *words, "--out", place / "none")
    assert message in shown
    assert not (place / "none").exists()


def test_successes_alone_of_an_expert_that_has_none_are_nothing(place, capsys):
    words = [PEG, "--tier", "bias-30mm", "--episodes", 1, "--successes-only"]
    shown = refused(capsys, "data", "generate", "metaworld", *words, "--out", place / "none")
    assert "none of 1 episodes succeeded, so --successes-only keeps none" in shown


def test_a_misspelt_simulator_names_the_nearest(capsys):
    assert "Did you mean 'metaworld'?" in refused(capsys, "data", "generate", "metawold", PEG)


def test_help_names_tasks_and_tiers(capsys):
    with pytest.raises(SystemExit) as stopped:
        generate("--help")
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for word in ("PegInsertSide", "Assembly", "good", "stalling", "biased", "noise-1.5"):
        assert f"`{word}`" in shown
