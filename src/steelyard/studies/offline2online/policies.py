"""Finished learners on disk: what an online phase starts from, what is evaluated and filmed."""

from pathlib import Path

import equinox as eqx
import jax

from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.envs.registry import env_spec
from steelyard.files import field, reading
from steelyard.training.checkpoint import load_tree, save_tree
from steelyard.training.plain import from_plain
from steelyard.training.run_folder import RunFolder

AGENT = "agent.safetensors"


def save_agent(folder: RunFolder, agent: ACFQL) -> None:
    """Write a learner, its optimisers included."""
    save_tree(folder.checkpoints / AGENT, agent)


def load_agent(path: Path) -> ACFQL:
    """Open the learner of a finished run, of either phase.

    Raises:
        FileNotFoundError: The run has none.
    """
    folder = RunFolder(Path(path))
    identity, file = folder.read("config.json"), folder.checkpoints / AGENT
    if identity is None or not file.exists():
        raise FileNotFoundError(
            f"{path} has no learner (checkpoints/{AGENT}); run the same command again to finish it"
        )
    place = f"{path}/config.json"
    agent = field(identity, "config", "agent", kind=dict, place=place)
    env = field(identity, "config", "env", kind=str, place=place)
    config = from_plain(ACFQLConfig, agent, place)
    with reading(place, "names settings that make no learner"):
        template = eqx.filter_eval_shape(ACFQL.create, jax.random.key(0), env_spec(env), config)
    return load_tree(file, template)
