"""The documentation agrees with the code: links, names, metrics, flags, commands, recipes."""

import importlib
import pkgutil
import re
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard import agents
from steelyard.agents.bc import BC, BCConfig
from steelyard.agents.ipmd import IPMD, IPMDConfig
from steelyard.agents.sac import SAC, SACConfig
from steelyard.cli import main
from steelyard.data.formats import load_with_report
from steelyard.data.normalisation import Normaliser
from steelyard.types import EnvSpec, ImitationBatch, RewardFreeTransition, Transition

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
SPEC = EnvSpec("Pendulum-v1", 3, (-2.0,), (2.0,), 200, False)
ROWS = 4

# Every flag of the reference's documentation and, for the first script, those that its code adds.
FLAGS = {
    "01_collect_expert_data.py": [
        *("--env", "--frames", "--save-dir", "--device", "--seed"),
        *("--num-episodes", "--num-envs", "--compile", "--cudagraphs"),
    ],
    "02_train_ipmd.py": [
        *("expert_data", "--env", "--frames", "--device", "--seed", "--expert-batch-size")
    ],
    "03_train_bc.py": [
        *("expert_data", "--env", "--epochs", "--batch-size", "--lr", "--device", "--seed"),
        *("--eval-episodes", "--no-wandb"),
    ],
    "04_compare_methods.py": [
        *("--env", "--expert-frames", "--ipmd-frames", "--bc-epochs", "--device", "--save-dir")
    ],
}
REFERENCE_FILES = [
    *("expert_buffer.pt", "metadata.pt", "README.txt", "sac_expert.pt", "rlopt.log"),
    *("ipmd_model.pt", "bc_policy_seed*.pt", "comparison.png", "results.txt"),
]
REFERENCE_METRICS = [
    *("loss_actor", "loss_qvalue", "loss_alpha", "loss_reward_diff", "loss_reward_l2"),
    *("estimated_reward_mean", "estimated_reward_std", "expert_reward_mean", "expert_reward_std"),
    *("episode/return", "train/reward", "train/loss", "train/epoch", "train/final_loss"),
    *("eval/reward_mean", "eval/reward_std", "eval/performance_vs_expert"),
]


def section(page: Path, heading: str) -> str:
    """The text below the first heading that holds these words, up to one of its own level."""
    lines = page.read_text("utf-8").splitlines()
    fences = np.cumsum([line.startswith("```") for line in lines])
    # A comment inside a block of code looks like a heading.
    levels = [
        0 if fences[i] % 2 else len(line) - len(line.lstrip("#")) for i, line in enumerate(lines)
    ]
    start = next(i for i, line in enumerate(lines) if levels[i] and heading in line)
    later = range(start + 1, len(lines))
    end = next((i for i in later if 0 < levels[i] <= levels[start]), len(lines))
    return "\n".join(lines[start + 1 : end])


def prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        exists = place.exists()
        if not exists or (anchor and place.suffix == ".md" and anchor not in anchors(place)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_their_anchors_resolve(page):
    assert broken_links(page) == []


def test_a_broken_link_and_a_broken_anchor_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b` & C\n[x](gone.md) [y](#nothing) [z](#a-b--c) [w](https://w.org)\n")
    assert broken_links(page) == ["gone.md", "#nothing"]


def resolves(name: str) -> bool:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def test_every_dotted_name_in_the_documentation_exists():
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"\bsteelyard(?:\.[A-Za-z_]\w*)+", page.read_text("utf-8"))
    }
    assert len(named) > 30
    assert [(page, name) for page, name in sorted(named) if not resolves(name)] == []
    assert not resolves("steelyard.training.nowhere")
    assert not resolves("steelyard.types.Nothing")


def test_every_file_of_the_repository_that_is_named_exists():
    pattern = r"`((?:src|tests|docs|tools|benchmarks)/[\w./-]+\.(?:py|md|toml))`"
    named = {f for page in PAGES for f in re.findall(pattern, page.read_text("utf-8"))}
    assert len(named) > 10
    assert [file for file in sorted(named) if not (ROOT / file).exists()] == []


def test_the_architecture_begins_with_the_sentence_that_emphasis_begins_with():
    first, second = (
        (DOCS / name).read_text("utf-8") for name in ("architecture.md", "emphasis.md")
    )
    quote = re.search(r"> \*\*A method is a source.*?\*\*", first, flags=re.S)
    assert quote is not None
    assert first.index(quote[0]) < first.index("\n## ")
    assert quote[0] in second


def test_every_decision_is_listed_and_numbered_once():
    pages = sorted(p.name for p in (DOCS / "decisions").glob("[0-9]*.md"))
    index = (DOCS / "decisions" / "README.md").read_text("utf-8")
    assert [page for page in pages if f"({page})" not in index] == []
    assert [page[:4] for page in pages] == [f"{n:04d}" for n in range(1, len(pages) + 1)]
    for page in pages:
        text = (DOCS / "decisions" / page).read_text("utf-8")
        assert text.startswith(f"# {page[:4]}. "), page
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequence")), page


@pytest.mark.parametrize("figure", sorted((DOCS / "figures").glob("*.svg")), ids=lambda f: f.name)
def test_a_figure_is_well_formed_and_says_in_words_what_it_shows(figure):
    names = [child.tag.rpartition("}")[2] for child in ElementTree.parse(figure).getroot()]
    assert {"title", "desc"} <= set(names)


# -- learners --------------------------------------------------------------------------------


def rows(count: int) -> RewardFreeTransition:
    flat = jnp.zeros((count, SPEC.observation_size))
    return RewardFreeTransition(flat, jnp.zeros((count, 1)), jnp.zeros(count, bool), flat)


def rows_with_reward(count: int) -> Transition:
    bare = rows(count)
    zeros = jnp.zeros(count)
    return Transition(bare.observation, bare.action, zeros, bare.terminated, bare.next_observation)


def sac_metrics(key):
    agent = SAC.create(key, SPEC, SACConfig(hidden=(4,), batch_size=ROWS))
    return agent.update(rows_with_reward(ROWS), key)[1].metrics


def ipmd_metrics(key):
    config = IPMDConfig(hidden=(4,), reward_num_cells=(4,), batch_size=ROWS, expert_batch_size=ROWS)
    agent = IPMD.create(key, SPEC, config)
    return agent.update(ImitationBatch(rows(ROWS), rows(ROWS)), key)[1].metrics


def bc_metrics(key):
    agent = BC.create(key, SPEC, BCConfig(hidden=(4,)), Normaliser.identity(3), 1)
    return agent.update(rows(ROWS), key)[1].metrics


# How to learn once, and the metrics that the learner's loop adds to its own.
ONLINE = (
    *("episode/return", "train/reward", "eval/reward_mean", "eval/reward_std"),
    *("frames_per_s", "updates_per_s"),
)
LEARNERS = {
    "sac": (sac_metrics, ONLINE),
    "ipmd": (ipmd_metrics, (*ONLINE, "eval/score")),
    "bc": (bc_metrics, ("val/loss",)),
}


def modules_of_learners() -> set[str]:
    """Modules of ``steelyard.agents`` that define a class which is created, updated and acts."""
    found = set()
    for name in (module.name for module in pkgutil.iter_modules(agents.__path__)):
        module = importlib.import_module(f"steelyard.agents.{name}")
        classes = [x for x in vars(module).values() if isinstance(x, type)]
        own = [x for x in classes if x.__module__ == module.__name__]
        if any(all(hasattr(x, part) for part in ("create", "update", "act")) for x in own):
            found.add(name)
    return found


def test_every_learner_has_a_page_and_an_example_here():
    assert modules_of_learners() == {page.stem for page in (DOCS / "methods").glob("*.md")}
    assert modules_of_learners() == set(LEARNERS)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_metric_that_a_learner_logs_is_in_its_glossary(name):
    learn_once, from_loop = LEARNERS[name]
    # Traced, not run: the names of the metrics need no arithmetic.
    metrics = eqx.filter_eval_shape(learn_once, jax.random.key(0))
    assert metrics
    table = section(DOCS / "methods" / f"{name}.md", "Metrics").splitlines()
    first_cells = [line.split("|")[1] for line in table if line.startswith("|")]
    explained = {key for cell in first_cells for key in re.findall(r"`([^`]+)`", cell)}
    assert {*metrics, *from_loop} - explained == set()
    assert explained - {*metrics, *from_loop} == set(), "the glossary explains what is not logged"


@pytest.mark.parametrize("name", ["sac", "bc"])
def test_what_departs_from_the_paper_is_marked_where_it_is_done(name):
    assert section(DOCS / "methods" / f"{name}.md", "Departures").strip()
    source = (ROOT / "src" / "steelyard" / "agents" / f"{name}.py").read_text("utf-8")
    assert source.count("# Departs from the paper: ") >= 3


@pytest.mark.parametrize("name", LEARNERS)
def test_a_methods_page_has_every_section(name):
    page = DOCS / "methods" / f"{name}.md"
    for heading in ("Equations", "Departures", "Settings", "Metrics", "Claims to test", "Results"):
        assert section(page, heading).strip(), heading
    blocks = re.findall(r"<!-- (.*?) -->", section(page, "Results"))
    assert blocks == ["results:imitation/quick", "/results"]


# -- coming from the reference code ----------------------------------------------------------


@pytest.mark.parametrize("script", FLAGS)
def test_every_flag_of_the_reference_is_mapped(script):
    table = section(DOCS / "coming-from.md", f"`{script}`").splitlines()
    first_cells = " ".join(line.split("|")[1] for line in table if line.startswith("|"))
    assert [flag for flag in FLAGS[script] if f"`{flag}`" not in first_cells] == []


def test_every_file_of_the_reference_is_mapped():
    table = section(DOCS / "coming-from.md", "Files")
    assert [name for name in REFERENCE_FILES if name not in table] == []


def test_every_metric_of_the_reference_is_mapped():
    table = section(DOCS / "coming-from.md", "Metrics")
    assert [name for name in REFERENCE_METRICS if f"`{name}`" not in table] == []


def test_every_documented_study_command_is_understood(tmp_path, capsys):
    texts = "\n".join(page.read_text("utf-8") for page in PAGES)
    commands = set(re.findall(r"steelyard study run (imitation(?: [-\w.]+)*)", texts))
    usable = sorted(c for c in commands if "--expert-data" not in c and c != "imitation")
    assert len(usable) >= 3
    for command in usable:
        main(["study", "status", *shlex.split(command), "--runs", str(tmp_path)])
        assert "ipmd" in capsys.readouterr().out, command


def test_the_export_recipe_repairs_the_references_files(tmp_path):
    """Two episodes of three steps: flags a step late, a row past the end, no next observation."""
    text = section(DOCS / "coming-from.md", "`.pt` files")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    recipe = next(block for block in blocks if "def write_npz" in block)
    names: dict = {}
    exec(compile(recipe, "flat.py", "exec"), names)
    states = np.arange(8, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    late = np.array([0, 0, 0, 1, 0, 0, 0, 1], bool)[:, None]
    columns = {
        "observation": states,
        "action": np.linspace(-2, 2, 8, dtype=np.float32)[:, None],
        "reward": -np.arange(8, dtype=np.float32)[:, None],
        "done": late,
        "terminated": late & (np.arange(8) < 4)[:, None],
    }
    unmarked = columns | {"done": np.zeros_like(late), "terminated": np.zeros_like(late)}
    cases = {
        "marked": (columns, None),
        "counted": (unmarked | {"step_count": np.tile(np.arange(4), 2)[:, None]}, None),
        "measured": (unmarked, 4),
    }
    for name, (case, length) in cases.items():
        names["write_npz"](case, tmp_path / f"{name}.npz", length)
        data, report = load_with_report(tmp_path / f"{name}.npz", SPEC)
        assert report.findings == (), name
        assert data is not None
        np.testing.assert_array_equal(data.lengths, [3, 3])
        np.testing.assert_array_equal(data.observations, states)
        np.testing.assert_array_equal(data.actions, columns["action"][[0, 1, 2, 4, 5, 6]])
        assert data.terminations.sum() == (1 if name == "marked" else 0)
        assert data.terminations[2] == (name == "marked")
