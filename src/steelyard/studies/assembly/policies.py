"""Finished bases and residuals on disk: what a residual stands on, what is evaluated and filmed."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from steelyard.agents.chunked_bc import ChunkedBC
from steelyard.agents.ppo import PPO
from steelyard.data.chunks import ActionRange
from steelyard.data.normalisation import Normaliser
from steelyard.envs.registry import env_spec
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
    if identity is None or "run" not in identity["config"]:
        raise FileNotFoundError(f"{path} is no run folder of a base policy")
    settings = identity["config"]["run"]
    if settings is None:
        return None
    file = Path(path) / BASE_FILE
    if not file.exists():
        raise FileNotFoundError(
            f"{path} has no base policy ({BASE_FILE}); run the same command again to finish it"
        )
    run = from_plain(BaseRun, settings, f"{path}/config.json")
    return load_tree(file, _base_template(run))


def load_residual(path: Path, which: str = LAST) -> ResidualPolicy:
    """Open a finished residual with its base: its own copy, or that of the parent beside it.

    Args:
        path: Its run folder.
        which: ``last`` or ``best_success_rate``.

    Raises:
        FileNotFoundError: One of the two is not there.
    """
    folder = RunFolder(Path(path))
    identity: dict[str, Any] = folder.read("config.json") or {}
    file = folder.checkpoints / which / POLICY_FILE
    if not file.exists():
        raise FileNotFoundError(f"{path} has no policy: looked for {file}")
    run = from_plain(ResidualRun, identity["config"]["run"], f"{path}/config.json")
    policy = _base_below(Path(path), identity.get("parent"))
    agent = load_tree(file, create_agent(run, policy)(jax.random.key(0), 0))
    return ResidualPolicy(agent, run, policy, identity["arm"], identity["seed"])


def _base_below(path: Path, parent: str | None) -> ChunkedBC | None:
    if (path / OWN_BASE).exists():
        return load_base(path / OWN_BASE)
    return None if parent is None else load_base(path.parent / parent)


def _base_template(run: BaseRun) -> ChunkedBC:
    spec = env_spec(run.env)
    sizes = spec.observation_size, spec.action_size
    seen = Normaliser.identity(sizes[0])
    ends = ActionRange.identity(sizes[1])
    return ChunkedBC.create(jax.random.key(0), spec, run.agent, seen, ends, 1)
