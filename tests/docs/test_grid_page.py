"""The page about the grid agrees with the registries, and its program runs."""

import re
from pathlib import Path

import pytest

from steelyard.cli import main
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.provenance import Provenance
from steelyard.emphasis import demonstrations, weightings
from steelyard.emphasis.demonstrations import EmphasisConfig, episode_ratios
from steelyard.emphasis.grid import grid_table
from steelyard.envs.registry import env_spec
from steelyard.evaluation.evaluator import random_policies
from steelyard.evaluation.rollouts import record_episodes
from steelyard.studies.grid.arms import ARMS

PAGE = Path(__file__).parents[2] / "docs" / "grid.md"
TEXT = PAGE.read_text("utf-8")


def test_the_table_of_scores_and_weightings_is_that_of_the_code():
    found = re.search(r"<!-- grid:scores -->\n\n(.*?)\n\n<!-- /grid -->", TEXT, flags=re.S)
    assert found is not None
    assert found[1] == grid_table(), f"put this into {PAGE}:\n{grid_table()}"


@pytest.fixture
def forgotten():
    """What a program registers is forgotten afterwards."""
    registries = (weightings._registered, demonstrations._registered, ARMS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, old in zip(registries, before, strict=True):
        registry.clear()
        registry.update(old)


def programs() -> list[str]:
    """The page's programs; each begins where the one before has ended."""
    return re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)


def test_a_score_and_a_weighting_of_ones_own_reach_command_line_and_study(
    forgotten, tmp_path, monkeypatch, capsys
):
    spec = env_spec("Pendulum-v1")
    made = record_episodes(random_policies(spec, [0], 4), "Pendulum-v1", range(4), 1)[0]
    data = Demonstrations.from_episodes(made, spec, Provenance("Pendulum-v1", "random", 0))
    data.save(tmp_path / "demos")
    monkeypatch.chdir(tmp_path)
    first, second = programs()
    names: dict = {}
    for program, more in ((first, ["--epochs", "1", "--min-steps", "2"]), (second, None)):
        lines, _, call = program.rpartition("main(")
        exec(compile(lines, PAGE.name, "exec"), names)
        words = eval("(" + call.strip())
        # Trained for two steps, and planned, where the page trains to the end.
        main([*words, *more] if more else ["study", "status", *words[2:-2]])
    assert "calm" in capsys.readouterr().out
    ratios = episode_ratios(data, EmphasisConfig("calm", "half"), 0)
    assert sorted(ratios.tolist()) == [0.0, 0.0, 2.0, 2.0]
    report = next(tmp_path.glob("runs/**/emphasis.json"))
    assert '"touched_share": 0.5' in report.read_text()


def test_names_that_are_taken_and_what_is_no_weighting_are_refused(forgotten):
    with pytest.raises(ValueError, match="a weighting needs a name that is not taken: got 'rank'"):
        weightings.register_weighting("rank", weightings.Rank)
    with pytest.raises(ValueError, match="must be a subclass of Weighting"):
        weightings.register_weighting("mine", dict)
    for name in ("given", "episode_return", ""):
        with pytest.raises(ValueError, match="a score needs a name that is not taken"):
            demonstrations.register_episode_score(name, Demonstrations.returns)
