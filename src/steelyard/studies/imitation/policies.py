"""Finished runs as policies: what ``evaluate`` and ``render`` open."""

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax

from steelyard.agents.bc import BC
from steelyard.agents.ipmd import IPMD
from steelyard.agents.sac import SAC
from steelyard.data.normalisation import Normaliser
from steelyard.envs.registry import env_spec
from steelyard.files import FileError, clipped, field, reading
from steelyard.reports.schema import parse
from steelyard.training.checkpoint import load_tree
from steelyard.training.recipes import BCRun, IPMDRun, SACRun
from steelyard.training.run_folder import RunFolder

KINDS = {"SACRun": SACRun, "IPMDRun": IPMDRun, "BCRun": BCRun}
POLICY_FILES = "checkpoints/sac_expert.safetensors, ipmd_model.safetensors, bc_policy_seed*"


class Policy(NamedTuple):
    """A trained learner, the task it acts in, and its place."""

    agent: Any
    env: str
    arm: str
    seed: int
    folder: RunFolder


def load_policy(path: Path) -> Policy:
    """Open the policy of a finished run.

    Args:
        path: Run folder, e.g. ``runs/imitation/<run_id>``.

    Raises:
        FileNotFoundError: It is no run folder, or the run has not finished.
    """
    folder = RunFolder(Path(path))
    identity = folder.read("config.json")
    if identity is None:
        raise FileNotFoundError(f"{path} is no run folder: it has no config.json.")
    place = f"{path}/config.json"
    config = field(identity, "config", kind=dict, place=place)
    arm, seed = (
        field(identity, name, kind=kind, place=place)
        for name, kind in (("arm", str), ("seed", int))
    )
    settings = config.get("run")
    found = [
        *folder.checkpoints.glob("sac_expert.safetensors"),
        *folder.checkpoints.glob("ipmd_model.safetensors"),
        *folder.checkpoints.glob("bc_policy_seed*.safetensors"),
    ]
    if settings is None or not found:
        state = folder.status()["state"]
        raise FileNotFoundError(
            f"{path} has no policy (arm {arm!r}, state {state}); looked for "
            f"{POLICY_FILES}. Run the same command again to finish it."
        )
    kind = field(settings, "kind", kind=str, place=place)
    if kind not in KINDS:
        raise FileError(f"{place}: `kind` must be one of {list(KINDS)}, got {clipped(repr(kind))}")
    run = parse(KINDS[kind], _without_kinds(settings), place)
    with reading(place, "names settings that make no policy"):
        template = eqx.filter_eval_shape(_template, run)
    agent = load_tree(found[0], template)
    return Policy(agent, run.env, arm, seed, folder)


def _template(run: SACRun | IPMDRun | BCRun) -> Any:
    spec, key = env_spec(run.env), jax.random.key(0)
    normaliser = Normaliser.identity(spec.observation_size)
    if isinstance(run, SACRun):
        return SAC.create(key, spec, run.agent, normaliser)
    if isinstance(run, IPMDRun):
        return IPMD.create(key, spec, run.agent, normaliser)
    return BC.create(key, spec, run.agent, normaliser, 1)


def _without_kinds(value: Any) -> Any:
    """A config as JSON keeps it, back to what its dataclass takes."""
    if isinstance(value, dict):
        return {k: _without_kinds(v) for k, v in value.items() if k != "kind"}
    if isinstance(value, list):
        return [_without_kinds(v) for v in value]
    return float("inf") if value == "inf" else value
