"""Where the study's demonstrations come from: a cell's own expert, or a dataset that is shared."""

import dataclasses
from pathlib import Path

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.findings import DatasetNotFoundError
from steelyard.data.provenance import Provenance
from steelyard.envs.registry import env_spec
from steelyard.envs.seeding import start_seeds
from steelyard.evaluation.evaluator import random_policies
from steelyard.evaluation.rollouts import record_episodes
from steelyard.studies.cells import Cell, Store
from steelyard.studies.imitation.config import ImitationConfig


def expert_data_folder(store: Store, expert: Cell, env: str) -> Path:
    """Where an expert's demonstrations lie."""
    return store.folder(expert).path / "expert_data" / env / f"seed{expert.seed}"


def latest_expert_data(store: Store, env: str) -> Path:
    """The newest demonstrations of a task that any run recorded.

    Raises:
        DatasetNotFoundError: There are none.
    """
    pattern = f"*/*/expert_data/{env}/*/expert_buffer.safetensors"
    found = sorted(store.path.parent.glob(pattern), key=lambda p: p.stat().st_mtime)
    if not found:
        raise DatasetNotFoundError(
            f"No demonstrations of {env} under {store.path.parent}: looked for {pattern}. "
            f"`steelyard train sac --env {env}` makes some."
        )
    return found[-1].parent


def find_dataset(path: Path) -> Path:
    """A dataset's own path: the one given, or the only ``seed*`` folder below it.

    Raises:
        ValueError: There are several such folders; lists them.
    """
    inside = sorted(path.glob("seed*/expert_buffer.safetensors")) if path.is_dir() else []
    if not inside or (path / "expert_buffer.safetensors").exists():
        return path
    if len(inside) > 1:
        names = ", ".join(str(p.parent) for p in inside)
        raise ValueError(f"{path} holds demonstrations of several seeds; name one of {names}.")
    return inside[0].parent


def shared_dataset(config: ImitationConfig, store: Store) -> Demonstrations | None:
    """The dataset that all seeds share, or none where each has its own expert."""
    path = pin(config, store).expert_data
    return (
        None
        if path is None
        else Demonstrations.load(find_dataset(Path(path)), env_spec(config.env))
    )


def pin(config: ImitationConfig, store: Store) -> ImitationConfig:
    """The config with the dataset that `latest` means now written out.

    Raises:
        DatasetNotFoundError: There is none.
    """
    if config.expert_data != "latest":
        return config
    return dataclasses.replace(config, expert_data=str(latest_expert_data(store, config.env)))


def random_demonstrations(env: str, seed: int, count: int) -> Demonstrations:
    """Episodes of uniform random actions, from the same start seeds as the expert's."""
    spec = env_spec(env)
    policies = random_policies(spec, [seed], count)
    episodes = record_episodes(policies, env, start_seeds(seed, count), 1)[0]
    return Demonstrations.from_episodes(
        episodes, spec, Provenance(task=env, algorithm="random", seed=seed)
    )


def demonstrations_of(cell: Cell, config: ImitationConfig, store: Store) -> Demonstrations:
    """What an imitator's cell learns from: number and quality are its axes."""
    if cell.parent is None:
        data = shared_dataset(config, store)
        assert data is not None, "an imitator has a parent or a shared dataset"
    else:
        data = Demonstrations.load(expert_data_folder(store, cell.parent, config.env))
    count = int(cell.axes["demonstrations"])
    if cell.axes["quality"] == "half_random":
        data = data.mix(random_demonstrations(config.env, cell.seed, -(-len(data) // 2)), 0.5)
    return data.first(count)
