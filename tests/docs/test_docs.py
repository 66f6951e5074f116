"""The documentation agrees with the code: links, names, metrics, flags, commands, recipes."""

import dataclasses
import importlib
import importlib.util
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
from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.agents.bc import BC, BCConfig
from steelyard.agents.chunked_bc import ChunkedBC, ChunkedBCConfig
from steelyard.agents.cpl import CPL, CPLConfig
from steelyard.agents.dynamics import (
    Dynamics,
    DynamicsBatch,
    DynamicsConfig,
    ModelConfig,
    Scales,
    make_plant,
)
from steelyard.agents.ipmd import IPMD, IPMDConfig
from steelyard.agents.piql import PIQL, PIQLConfig
from steelyard.agents.ppo import PPO, PPOConfig
from steelyard.agents.sac import SAC, SACConfig
from steelyard.cli import main
from steelyard.cli.train_acfql import TrainACFQL
from steelyard.data.chunks import ActionRange
from steelyard.data.formats import load_with_report
from steelyard.data.normalisation import Normaliser
from steelyard.emphasis import WEIGHTINGS
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.evaluation.metrics_file import EvaluationInfo, metrics_json
from steelyard.evaluation.model_rollout import Recordings, Speed
from steelyard.evaluation.motion_metrics import HORIZONS_S, MotionErrors, horizon_name
from steelyard.numerics.vehicle import MUSHR
from steelyard.studies.car.arms import ARMS, MATRIX
from steelyard.studies.car.config import PRESETS, configure
from steelyard.studies.car.plan import plan_cells
from steelyard.studies.car.report import METRICS
from steelyard.training.cupid_scorer import Scorer
from steelyard.training.dynamics import loss_emphasis, validation
from steelyard.training.dynamics_files import LOSS_COLUMNS
from steelyard.training.episode_window import EpisodeTracker, EpisodeWindow
from steelyard.training.on_policy import TIMED, OnPolicyConfig, speed
from steelyard.training.on_policy_update import UpdateConfig, update
from steelyard.training.reference_car import KEYS
from steelyard.training.rollout_items import Rollout
from steelyard.training.trajectory_metrics import DRAW_METRICS
from steelyard.types import (
    ActionChunk,
    ChunkBatch,
    ChunkTransition,
    EnvSpec,
    ImitationBatch,
    PreferenceBatch,
    RewardFreeTransition,
    Segment,
    Transition,
    Window,
)

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

# The car experiments: what their documentation names besides the keys of their configs.
CAR_FILES = [
    *("config.json", "best.pt", "standardizers.json", "losses.csv", "metrics.json", "traj_*.png"),
    *("eval_runs/<timestamp>", "experiments-v2.yaml", "configs/experiments-v1/"),
    *("configs/experiments-v2/", "scripts/train.py", "mushr_mujoco_sysid/config_utils.py"),
    *("loss_train.png", "loss_val.png", "loss_eval_vel.png", "loss_eval_pos.png"),
]
CAR_METRICS = ["rollout_mean", "rollout_cvar", "k_used", "alpha", "avg_traj_state_mse"]
CAR_COMMANDS = [
    *("tmuxp load experiments-v2.yaml", "tmux attach-session -t mushr_exp_v2", "Ctrl+b w"),
    *("Ctrl+b 0-7", "Ctrl+b d", "nvidia-smi -l 1", "losses.csv", "CUDA_VISIBLE_DEVICES=0"),
    *("scripts/train.py --config", "scripts/eval.py --exp-dir", "exp2_seed0_cvar0p2.json"),
]

# Residual PPO with CUPID-inspired weights: what its documentation names.
CUPID_KEYS = [
    *("use_cupid", "cupid_compute_interval", "cupid_advantage_weight", "cupid_value_error_weight"),
    "cupid_success_weight",
]
CUPID_METRICS = [
    *("cupid/importance_min", "cupid/importance_max", "cupid/importance_mean"),
    *("cupid/importance_std", "cupid/top10_mean", "cupid/bottom10_mean", "histograms/importance"),
    *("charts/success_rate", "charts/mean_success_episode_length"),
]
CUPID_COMMANDS = [
    *("residual_ppo_cupid.py", "--config-name=base_residual_rl_cupid", "residual_ppo.py"),
    *(
        "--config-name=base_residual_rl use_cupid=true cupid_compute_interval=5",
        "SR, SPS, STS, MSEL",
    ),
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


def chunked_bc_metrics(key):
    config, full = ChunkedBCConfig(hidden=(4,), chunk=2, executed=1), jnp.ones((ROWS, 2), bool)
    agent = ChunkedBC.create(key, SPEC, config, Normaliser.identity(3), ActionRange.identity(1), 1)
    batch = ActionChunk(jnp.zeros((ROWS, 3)), jnp.zeros((ROWS, 2, 1)), full)
    return agent.update(batch, key)[1].metrics


def acfql_metrics(key):
    config = ACFQLConfig(hidden=(4,), horizon_length=2, num_qs=2, flow_steps=1)
    agent = ACFQL.create(key, SPEC, config)
    full, flat = jnp.ones((ROWS, 2), bool), jnp.zeros(ROWS)
    seen = jnp.zeros((ROWS, 3))
    part = ChunkTransition(seen, jnp.zeros((ROWS, 2, 1)), full, flat, flat, seen)
    return agent.update(ChunkBatch(part), key)[1].metrics


def cpl_metrics(key):
    agent = CPL.create(key, SPEC, CPLConfig(hidden=(4,)), Normaliser.identity(3))
    pieces = Segment(
        jnp.zeros((2, 3, 3)), jnp.zeros((2, 3, 1)), jnp.ones((2, 3), bool), jnp.zeros((2, 3))
    )
    one = jnp.zeros(1, int)
    batch = PreferenceBatch(pieces, one, one + 1, jnp.ones(1), jnp.ones(2))
    return agent.update(batch, key)[1].metrics


def piql_metrics(key):
    agent = PIQL.create(key, SPEC, PIQLConfig(hidden=(4,)), Normaliser.identity(3))
    return agent.update(rows_with_reward(ROWS), key)[1].metrics


TIME, ENVS = 4, 2


def iteration_metrics(cupid: CupidConfig):
    """What one iteration of the on-policy loop logs under an emphasis."""

    def learn_once(key):
        agent = PPO.create(key, SPEC, PPOConfig(hidden=(4,)), None, 1)
        shape = (TIME, ENVS)
        seen, act = jnp.zeros((*shape, 3)), jnp.zeros((*shape, 1))
        none, flat = jnp.zeros(shape, bool), jnp.zeros(shape)
        rollout = Rollout(seen, act, act, seen, act, flat, none, none, none, ~none)
        config = UpdateConfig(update_epochs=1, num_minibatches=2)
        return update(agent, Scorer.none(agent), rollout, key, config, cupid, True)[2]

    return learn_once


MODES = [
    CupidConfig(True),
    CupidConfig(True, "gradnorm"),
    CupidConfig(True, "influence", cupid_weighting="softmax", cupid_through="losses"),
]


def ppo_metrics(key):
    found = iteration_metrics(CupidConfig())(key)
    tracker = EpisodeTracker(EpisodeWindow.empty(1), 1)
    return found | tracker.take() | speed(dict.fromkeys(TIMED, 1.0), 1, 1)


LEARNERS = {
    "sac": (sac_metrics, ONLINE),
    "ipmd": (ipmd_metrics, (*ONLINE, "eval/score")),
    "bc": (bc_metrics, ("val/loss",)),
    "chunked_bc": (chunked_bc_metrics, ("val/loss",)),
    "acfql": (
        acfql_metrics,
        ("eval/success_rate", "eval/length", "env/episode/return", *DRAW_METRICS),
    ),
    "cpl": (
        cpl_metrics,
        (
            *("heldout/loss", "heldout/accuracy", "heldout/preferred_logprobs_mean"),
            *("val/loss", "train/reward_loss", "train/reward_accuracy"),
        ),
    ),
    "piql": (piql_metrics, ()),
    "ppo": (ppo_metrics, ("eval/success_rate", "eval/best_eval_success_rate")),
}


PAGE_OF = {
    "dynamics": "car-dynamics",
    "chunked_bc": "residual-ppo",
    "ppo": "residual-ppo",
    "piql": "cpl",
}
"""Learners whose page is called otherwise."""
OF_NO_LEARNER = {
    "cvar": "steelyard.emphasis.loss_emphasis",
    "importance": "steelyard.emphasis.on_policy",
}
"""Pages about what any learner can use, and its module."""
STUDY_OF = {"bc": "imitation", "ipmd": "imitation", "sac": "imitation", "car-dynamics": "car",
            "cvar": "car", "residual-ppo": "assembly", "importance": "assembly",
            "acfql": "offline2online", "cpl": "piano"}  # fmt: skip


def modules_of_learners(use: tuple[str, ...] = ("act",)) -> set[str]:
    """Modules of ``steelyard.agents`` that define a class which is created, updated and used."""
    found = set()
    for name in (module.name for module in pkgutil.iter_modules(agents.__path__)):
        module = importlib.import_module(f"steelyard.agents.{name}")
        classes = [x for x in vars(module).values() if isinstance(x, type)]
        own = [x for x in classes if x.__module__.startswith(module.__name__)]
        able = [x for x in own if hasattr(x, "create") and hasattr(x, "update")]
        if any(hasattr(x, part) for x in able for part in use):
            found.add(name)
    return found


def test_every_learner_has_a_page_and_an_example_here():
    every = modules_of_learners(("act", "predict"))
    pages = {page.stem for page in (DOCS / "methods").glob("*.md")}
    assert {PAGE_OF.get(name, name) for name in every} == pages - set(OF_NO_LEARNER)
    assert set(OF_NO_LEARNER) <= pages
    assert all(resolves(module) for module in OF_NO_LEARNER.values())
    assert modules_of_learners() == set(LEARNERS)
    assert every - modules_of_learners() == {"dynamics"}


def glossary(page: str) -> set[str]:
    """The keys that a page's table of metrics explains."""
    table = section(DOCS / "methods" / f"{page}.md", "Metrics").splitlines()
    first_cells = [line.split("|")[1] for line in table if line.startswith("|")]
    return {key for cell in first_cells for key in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize("page", sorted({PAGE_OF.get(name, name) for name in LEARNERS}))
def test_every_metric_that_a_learner_logs_is_in_its_glossary(page):
    logged: set[str] = set()
    for name in (name for name in LEARNERS if PAGE_OF.get(name, name) == page):
        learn_once, from_loop = LEARNERS[name]
        # Traced, not run: the names of the metrics need no arithmetic.
        metrics = eqx.filter_eval_shape(learn_once, jax.random.key(0))
        assert metrics
        logged |= {*metrics, *from_loop}
    explained = glossary(page)
    assert logged - explained == set()
    assert explained - logged == set(), "the glossary explains what is not logged"


def test_every_metric_of_an_emphasis_on_items_is_in_its_glossary():
    plain = eqx.filter_eval_shape(iteration_metrics(CupidConfig()), jax.random.key(0))
    logged = set().union(
        *(eqx.filter_eval_shape(iteration_metrics(mode), jax.random.key(0)) for mode in MODES)
    )
    own = {re.sub(r"_(actor|critic)$", "", name) for name in logged - set(plain)}
    explained = {re.sub(r"_(actor|critic)$", "", name) for name in glossary("importance")}
    assert own | {"cupid/compute_time_s"} == explained  # which the loop takes


@pytest.mark.parametrize("name", ["sac", "bc"])
def test_what_departs_from_the_paper_is_marked_where_it_is_done(name):
    assert section(DOCS / "methods" / f"{name}.md", "Departures").strip()
    source = (ROOT / "src" / "steelyard" / "agents" / f"{name}.py").read_text("utf-8")
    assert source.count("# Departs from the paper: ") >= 3


@pytest.mark.parametrize("name", sorted(STUDY_OF))
def test_a_methods_page_has_every_section(name):
    page = DOCS / "methods" / f"{name}.md"
    for heading in ("Equations", "Departures", "Settings", "Metrics", "Claims to test", "Results"):
        assert section(page, heading).strip(), heading
    blocks = re.findall(r"<!-- (.*?) -->", section(page, "Results"))
    assert blocks[:2] == [f"results:{STUDY_OF[name]}/quick", "/results"]
    for begin, end in zip(blocks[2::2], blocks[3::2], strict=True):
        assert begin.startswith((f"results:{STUDY_OF[name]}/", "results:benchmarks/"))
        assert end == "/results"


def test_every_methods_page_belongs_to_a_study():
    assert {page.stem for page in (DOCS / "methods").glob("*.md")} == set(STUDY_OF)


def dynamics_metrics() -> dict[str, jax.Array]:
    config = DynamicsConfig(groups=ROWS, windows_per_group=1)
    key, horizon = jax.random.key(0), config.loss.rollout_mse.horizon
    plant = make_plant(ModelConfig(), MUSHR, "velocity")
    sizes = Scales(*(jnp.ones(count) for count in (3, 3, 2, 2, 3)))
    states, commands = jnp.zeros((ROWS, horizon + 1, 3)), jnp.zeros((ROWS, horizon, 2))
    window = Window(states, states, commands, jnp.full((ROWS, horizon), 0.1))
    batch = DynamicsBatch(window, jnp.arange(ROWS), jnp.arange(ROWS))

    def learn_once(batch, key):
        agent = Dynamics.create(key, config, plant, sizes, loss_emphasis(config), None, ROWS, 1)
        agent, info = agent.update(batch, key)
        return info.metrics | validation(agent, Recordings.of_window(batch.window))

    return eqx.filter_eval_shape(learn_once, batch, key)


def keys_of(value) -> set[str]:
    """All keys at any depth."""
    if isinstance(value, dict):
        return set(value) | {key for part in value.values() for key in keys_of(part)}
    return {key for part in value for key in keys_of(part)} if isinstance(value, list) else set()


def keys_of_metrics_json() -> set[str]:
    states = 101
    still = MotionErrors(
        error=np.zeros((1, states, 6)),
        valid=np.ones((1, states), bool),
        alive=np.ones((1, states), bool),
        elapsed_s=np.linspace(0.0, 10.0, states)[None],
        path_m=np.linspace(0.0, 10.0, states)[None],
    )
    info = EvaluationInfo("run", "config.json", "best", "cpu", "now", 1, False, None, ("a",))
    content = metrics_json(info, ("a",), still, still, still, Speed(states - 1, 1.0))
    return keys_of(content) - {horizon_name(h) for h in (None, *HORIZONS_S)}


def test_every_key_that_a_dynamics_run_writes_is_in_its_glossary():
    table = section(DOCS / "methods" / "car-dynamics.md", "Metrics").splitlines()
    cells = [line.split("|")[1:3] for line in table if line.startswith("| `")]
    explained = {key for first, _ in cells for key in re.findall(r"`([^`]+)`", first)}
    in_rows = {key for cell in cells for text in cell for key in re.findall(r"`([^`]+)`", text)}
    logged = {*dynamics_metrics(), "seconds", *LOSS_COLUMNS}
    written = logged | keys_of_metrics_json() | {metric.name for metric in METRICS}
    assert len(written) > 80
    assert written - in_rows == set()
    assert explained - written == set(), "the glossary explains what is not written"


def test_presets_of_the_car_study_are_as_large_as_documented():
    table = section(DOCS / "methods" / "car-dynamics.md", "The study").splitlines()
    cells = {line.split("`")[1]: line for line in table if line.startswith("| `")}
    assert set(cells) == set(PRESETS)
    for preset, line in cells.items():
        config = configure(preset)
        # As where the recordings are: their content is no matter for the number of runs.
        config = dataclasses.replace(config, real=dataclasses.replace(config.real, sha256="0"))
        runs, steps = len(plan_cells(config)), config.learner.steps
        assert f"| {runs}, of {steps:,} steps |" in line, preset
        if "as `" not in line.split("|")[2]:
            data = config.simulated
            assert f"{data.train:,} + {data.validation} + {data.test}" in line, preset
        if "DART" in line:
            assert f"{config.real.folds} folds of {config.real.steps:,} steps" in line, preset


def test_every_test_that_is_named_exists():
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)\(", tests, flags=re.M))
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"`(test_\w+)`", page.read_text("utf-8"))
    }
    assert len(named) > 15
    assert [(page, name) for page, name in sorted(named) if name not in defined] == []


def test_every_weighting_has_a_row():
    table = section(DOCS / "emphasis.md", "Weightings").splitlines()
    assert {line.split("`")[1] for line in table if line.startswith("| `")} == set(WEIGHTINGS)


def test_a_block_without_results_is_left_as_it_is(tmp_path):
    spec = importlib.util.spec_from_file_location("fill_docs", ROOT / "tools" / "fill_docs.py")
    assert spec is not None
    assert spec.loader is not None
    fill_docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill_docs)
    block = "<!-- results:car/quick -->\nold\n<!-- /results -->"
    assert fill_docs.BLOCK.fullmatch(block)
    assert fill_docs.filled(block, tmp_path) == block
    made = fill_docs.filled(block.replace("car/quick", "imitation/quick"))
    assert "old" not in made
    assert "| Method |" in made


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


@pytest.mark.parametrize(
    ("study", "arm"),
    [
        ("imitation", "ipmd"),
        ("car", "cvar0p2"),
        ("assembly", "influence"),
        ("offline2online", "tper"),
        ("piano", "cpl"),
        ("grid", "return_rank"),
    ],
)
def test_every_documented_study_command_is_understood(study, arm, tmp_path, capsys):
    texts = "\n".join(page.read_text("utf-8") for page in PAGES)
    commands = set(
        re.findall(rf"steelyard study (?:run|status|report) ({study}(?: [-\w./]+)*)", texts)
    )
    usable = sorted(c for c in commands if "--expert-data" not in c and c != study)
    assert len(usable) >= 3
    for command in usable:
        words = [word for word in shlex.split(command) if word not in ("--results", "results")]
        status = ["study", "status", *words, "--runs", str(tmp_path)]
        if "--env ogbench/" in command and importlib.util.find_spec("ogbench") is None:
            with pytest.raises(SystemExit):
                main(status)
            assert "pip install 'steelyard[ogbench]'" in capsys.readouterr().err, command
            continue
        main(status)
        text = capsys.readouterr().out
        named = re.findall(r"--arms((?: \w+)+)", command)
        for name in named[0].split() if named else [arm]:
            assert name in text, command


def flat_keys(keys: dict, place: str = "") -> set[str]:
    return {
        name
        for key, value in keys.items()
        for name in (
            flat_keys(value, f"{place}{key}.") if isinstance(value, dict) else {place + key}
        )
    }


def test_every_key_of_the_references_car_configs_is_mapped():
    table = section(DOCS / "coming-from.md", "Car: config keys").splitlines()
    mapped = set()
    for line in table:
        place = ""
        for name in re.findall(r"`([^`]+)`", line.split("|")[1] if line.startswith("| `") else ""):
            # `.weight` after `training.loss.one_step_mse.enabled` is its neighbour.
            place = name.rpartition(".")[0] if not name.startswith(".") else place
            mapped.add(place + name if name.startswith(".") else name)
    assert mapped == flat_keys(KEYS)


def test_every_experiment_of_the_references_car_study_is_mapped():
    table = section(DOCS / "coming-from.md", "Car: experiments")
    for arm in MATRIX:
        base = arm.removesuffix("_cvar0p2")
        assert f"`{base}`" in table
        assert ARMS[base].run_name.format(seed=0) in table


def test_every_file_command_and_metric_of_the_references_car_study_is_mapped():
    page = DOCS / "coming-from.md"
    for heading, names in (
        ("Car: files", CAR_FILES), ("Car: metrics", CAR_METRICS), ("Car: workflow", CAR_COMMANDS),
        ("Car: flags", ["--config", "--exp-dir", "--num-eval-trajs", "--random", "--seed"]),
    ):  # fmt: skip
        table = section(page, heading)
        assert [name for name in names if name not in table] == [], heading


def test_every_key_command_and_metric_of_the_references_residual_ppo_is_mapped():
    text = section(DOCS / "coming-from.md", "The residual PPO experiments")
    for name in (*CUPID_KEYS, *CUPID_METRICS):
        assert f"`{name}`" in text, name
    for command in CUPID_COMMANDS:
        assert command in text, command
    ours = {field.name for part in (CupidConfig, PPOConfig, UpdateConfig, OnPolicyConfig)
            for field in dataclasses.fields(part)}  # fmt: skip
    assert set(CUPID_KEYS) <= ours


OFF_ON_FLAGS = (
    "env_name", "run_group", "sparse", "horizon_length", "offline_steps", "online_steps", "entity",
    "agent.alpha", "metric", "cluster_sampler", "use_ptr_backward", "use_ptr_online_priority",
    "ptr_warmup_steps", "backward", "use_weighted_target", "beta", "ogbench_dataset_dir", "seed",
    "save_dir", "buffer_size", "log_interval", "eval_interval", "save_interval", "start_training",
    "utd_ratio", "discount", "eval_episodes", "video_episodes", "video_frame_skip",
    "dataset_proportion", "dataset_replace_interval", "save_all_online_states",
)  # fmt: skip
OFF_ON_FILES = (
    "flags.json", "eval.csv", "env.csv", "offline_agent.csv", "online_agent.csv",
    "ClusterSampling.png", "TDerrorSampling.png", "TDError+Cluster.png", "cluster_vis.py",
    "PriorityTrajectorySampler", "ClusterBalancedSampler",
)  # fmt: skip
OFF_ON_METRICS = (
    "offline_agent/critic_loss", "offline_agent/actor_loss", "cluster/offline/", "k_used",
    "online_agent/q_mean", "online_agent/td_error_mean", "ptr/sample_online/", "eval/success_rate",
)  # fmt: skip


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


def test_every_flag_file_and_metric_of_the_references_offline_to_online_code_is_mapped():
    text = section(DOCS / "coming-from.md", "The offline-to-online experiments")
    for name in (*OFF_ON_FLAGS, *OFF_ON_FILES, *OFF_ON_METRICS):
        assert name in text, name
    ours = {field.name for field in dataclasses.fields(TrainACFQL)}
    assert set(OFF_ON_FLAGS) - {"agent.alpha"} <= ours


PIANO_FLAGS = [
    *("learning_rate", "batch_size", "alpha", "lambda_", "conservative_weight", "gamma"),
    *("sac_checkpoint", "preference_data", "eval_interval", "eval_episodes", "noise_scales"),
    *("episodes_per_config", "epochs"),
]
PIANO_FILES = [
    *("cpl_train_sac.py", "generate_preference_data.py", "preference_data.pkl"),
    *("segment_info.json", "preference_data/<stamp>/", "checkpoint_final"),
]
PIANO_METRICS = [
    *("train/preference_loss", "train/conservative_loss", "train/total_loss", "train/fps"),
    *("preferred_logprobs_mean", "non_preferred_logprobs_mean"),
    *("preferred_segment_adv", "non_preferred_segment_adv"),
    *("eval/episode_return", "eval/episode_length"),
    *(f"eval/{part}{name}" for part in ("", "sustain_") for name in ("precision", "recall", "f1")),
]


def test_every_flag_file_and_metric_of_the_references_pianist_is_mapped():
    text = section(DOCS / "coming-from.md", "The humanoid pianist (CPL)")
    missing = [n for n in (*PIANO_FLAGS, *PIANO_FILES, *PIANO_METRICS) if f"`{n}" not in text]
    assert missing == []
