"""The policies of a SAC run's checkpoints: actor and normaliser alone, kept beside its state."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from steelyard.agents.sac import SACConfig
from steelyard.data.normalisation import Normaliser
from steelyard.envs.registry import env_spec
from steelyard.files import clipped, field, reading
from steelyard.nets import ACTIVATIONS, TanhGaussian, choose_tanh_normal
from steelyard.training.checkpoint import load_tree, save_tree, take_run
from steelyard.training.group import RunGroup
from steelyard.training.plain import ConfigError, from_plain
from steelyard.training.run_folder import RunFolder
from steelyard.types import EnvSpec

_NAME = re.compile(r"checkpoint_\d{6,}")


class SACPolicy(eqx.Module):
    """What of SAC acts."""

    actor: TanhGaussian
    normaliser: Normaliser

    @classmethod
    def create(cls, key: PRNGKeyArray, spec: EnvSpec, config: SACConfig) -> "SACPolicy":
        """Draw a policy's network for a task; observations are left as they are."""
        sizes = (spec.observation_size, spec.action_size)
        actor = TanhGaussian(*sizes, config.hidden, key, ACTIVATIONS[config.activation])
        return cls(actor, Normaliser.identity(spec.observation_size))

    def mode(self, observation: Float[Array, " obs"]) -> Float[Array, " act"]:
        """The squashed mean for one observation, ``[-1, 1]``."""
        return jnp.tanh(self.actor(self.normaliser(observation))[0])

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """Sample actions, or return the squashed mean."""
        mean, log_std = jax.vmap(lambda o: self.actor(self.normaliser(o)))(observation)
        return choose_tanh_normal(mean, log_std, key, deterministic)


def save_policies(group: RunGroup, agents: Any, frames: int) -> None:
    """Write the policy of every live run, ``checkpoints/checkpoint_<frames>.safetensors``.

    Args:
        group: The runs.
        agents: Their stacked SAC learners.
        frames: Frames done; six digits at least in the file's name.
    """
    policies = SACPolicy(agents.actor, agents.normaliser)
    for i in group.alive:
        path = group.folders[i].checkpoints / f"checkpoint_{frames:06d}.safetensors"
        save_tree(path, take_run(policies, i), {"frames": str(frames)})


def sac_task(run_folder: Path) -> str:
    """The task that a SAC run was trained on.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: It holds another learner's.
    """
    return _settings(run_folder)[0]


class Network(NamedTuple):
    """What a policy's file does not say: its task and layers."""

    env: str
    hidden: tuple[int, ...]
    activation: str


def sac_network(run_folder: Path) -> Network:
    """Task and layers of a SAC run's policies.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: It holds another learner's.
    """
    env, config = _settings(run_folder)
    return Network(env, config.hidden, config.activation)


def load_sac_policies(run_folder: Path) -> list[tuple[str, SACPolicy]]:
    """Read the policies that a SAC run has kept, in the order of their frames.

    Args:
        run_folder: The run's folder; it may still be going on.

    Returns:
        Names, such as ``checkpoint_030000``, and policies.

    Raises:
        FileNotFoundError: The folder holds no run, or none of its policies was kept.
        ValueError: It is another learner's, or a file does not fit the task; shows both shapes
            and what usually differs.
    """
    env, config = _settings(run_folder)
    checkpoints = RunFolder(Path(run_folder)).checkpoints
    files = [p for p in checkpoints.glob("checkpoint_*.safetensors") if _NAME.fullmatch(p.stem)]
    if not files:
        raise FileNotFoundError(
            f"{run_folder} keeps no policies; train with --checkpoint-every N (checkpoints/"
            "checkpoint_<frames>.safetensors)"
        )
    with reading(f"{run_folder}/config.json", "names settings that make no policy"):
        template = policy_template(env, config)
    return [(p.stem, _load(p, template, env)) for p in sorted(files, key=_frames)]


def policy_template(env: str, config: SACConfig) -> SACPolicy:
    """A policy's structure, with shapes in the place of arrays: a file's sizes are not trusted."""
    return eqx.filter_eval_shape(SACPolicy.create, jax.random.key(0), env_spec(env), config)


def _frames(path: Path) -> int:
    return int(path.stem.removeprefix("checkpoint_"))


def _load(path: Path, template: SACPolicy, env: str) -> SACPolicy:
    try:
        return load_tree(path, template)
    except ValueError as error:
        raise ValueError(
            f"the policy does not fit {env}: {error}. Settings that usually differ: "
            "n_steps_lookahead, disable_fingering_reward, action_reward_observation, "
            "reduced_action_space"
        ) from error


def _settings(run_folder: Path) -> tuple[str, SACConfig]:
    identity = RunFolder(Path(run_folder)).read("config.json")
    if identity is None:
        raise FileNotFoundError(f"{run_folder} is no run folder: it has no config.json")
    place = f"{run_folder}/config.json"
    config = field(identity, "config", kind=dict, place=place, error=ConfigError)
    run = config.get("run") or config
    kind = field(run, "kind", place=place, error=ConfigError)
    if kind != "SACRun":
        raise ValueError(f"{run_folder} holds no SAC run: got {clipped(str(kind))}")
    env = field(run, "env", kind=str, place=place, error=ConfigError)
    agent = field(run, "agent", kind=dict, place=place, error=ConfigError)
    return env, from_plain(SACConfig, agent, place, "config.run.agent")
