"""Finished bases and residuals on disk: what a residual stands on, what is evaluated and filmed."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax

from steelyard.agents.chunked_bc import ChunkedBC
from steelyard.agents.ppo import PPO
from steelyard.data.chunks import ActionRange
from steelyard.data.normalisation import Normaliser
from steelyard.envs.registry import env_spec
from steelyard.files import FileError, clipped, field, reading
from steelyard.training.base_policy import BaseRun
from steelyard.training.checkpoint import load_tree, save_tree
from steelyard.training.plain import from_plain
from steelyard.training.residual import ResidualRun, create_agent
from steelyard.training.run_folder import RunFolder

BASE_FILE = "checkpoints/base_policy.safetensors"
DATA = "expert_data"
OWN_BASE = "base"
"""Folder of a copy of the base, in runs that have no parent beside them."""
LAST, BEST = "last", "best_success_rate"
_RUN_NAME = re.compile(r"[\w-]+")
POLICY_FILE = "policy.safetensors"


class ResidualPolicy(NamedTuple):
    """A trained residual, its settings and the base below it; none is the plane's own."""

    agent: PPO
    run: ResidualRun
    base: ChunkedBC | None
    arm: str
    seed: int


def save_policy(folder: RunFolder, agent: PPO, which: str) -> None:
    """Write a learner to ``checkpoints/WHICH/``."""
    save_tree(folder.checkpoints / which / POLICY_FILE, agent)


def load_base(path: Path) -> ChunkedBC | None:
    """Open the base of a finished run; none is the plane's own.

    Raises:
        FileNotFoundError: It is no base's run folder, or the run has not finished.
    """
    identity = RunFolder(path).read("config.json")
    if identity is None:
        raise FileNotFoundError(f"{path} is no run folder of a base policy")
    place = f"{path}/config.json"
    config = field(identity, "config", kind=dict, place=place)
    if "run" not in config:
        raise FileNotFoundError(f"{path} is no run folder of a base policy")
    settings = config["run"]
    if settings is None:
        return None
    file = Path(path) / BASE_FILE
    if not file.exists():
        raise FileNotFoundError(
            f"{path} has no base policy ({BASE_FILE}); run the same command again to finish it"
        )
    run = from_plain(BaseRun, settings, place)
    with reading(place, "names settings that make no policy"):
        template = _base_template(run)
    return load_tree(file, template)


def load_residual(path: Path, which: str = LAST) -> ResidualPolicy:
    """Open a finished residual with its base: its own copy, or that of the parent beside it.

    Args:
        path: Its run folder.
        which: ``last`` or ``best_success_rate``.

    Raises:
        FileNotFoundError: One of the two is not there.
    """
    folder = RunFolder(Path(path))
    identity, place = folder.read("config.json"), f"{path}/config.json"
    file = folder.checkpoints / which / POLICY_FILE
    if not file.exists():
        raise FileNotFoundError(f"{path} has no policy: looked for {file}")
    settings = field(identity, "config", "run", kind=dict, place=place)
    arm, seed = (
        field(identity, name, kind=kind, place=place)
        for name, kind in (("arm", str), ("seed", int))
    )
    run = from_plain(ResidualRun, settings, place)
    policy = _base_below(Path(path), run_name((identity or {}).get("parent"), place))
    with reading(place, "names settings that make no policy"):
        like = eqx.filter_eval_shape(create_agent(run, policy), jax.random.key(0), 0)
    agent = load_tree(file, like)
    return ResidualPolicy(agent, run, policy, arm, seed)


def _base_below(path: Path, parent: str | None) -> ChunkedBC | None:
    if (path / OWN_BASE).exists():
        return load_base(path / OWN_BASE)
    return None if parent is None else load_base(path.parent / parent)


def run_name(value: Any, place: str) -> str | None:
    """The name of a parent as a run's file gives it, which must not lead elsewhere.

    Raises:
        FileError: It is no name of a run.
    """
    if value is None or (isinstance(value, str) and _RUN_NAME.fullmatch(value)):
        return value
    raise FileError(f"{place}: `parent` must be the name of a run, got {clipped(repr(value))}")


def _base_template(run: BaseRun) -> ChunkedBC:
    spec = env_spec(run.env)
    sizes = spec.observation_size, spec.action_size
    seen = Normaliser.identity(sizes[0])
    ends = ActionRange.identity(sizes[1])
    create = ChunkedBC.create
    return eqx.filter_eval_shape(create, jax.random.key(0), spec, run.agent, seen, ends, 1)
