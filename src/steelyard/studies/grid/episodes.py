"""The episodes of a seed: what everybody played, the reference, and who played what."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.provenance import Provenance
from steelyard.envs.registry import env_spec
from steelyard.envs.scripted.operators import operator_names, operator_policies
from steelyard.envs.seeding import start_seeds
from steelyard.evaluation.rollouts import Policies
from steelyard.studies.grid.config import COMPETENT
from steelyard.studies.grid.plan import Data
from steelyard.training.group import Ticker
from steelyard.training.operator_demonstrations import SPARSE, find_regime, record_operators
from steelyard.training.run_folder import RunFolder, write_json
from steelyard.training.scripted_demonstrations import play_in_parts

ALL, REFERENCE, OPERATORS = "data", "reference", "operators.json"


class Played(NamedTuple):
    """The episodes of a seed.

    Attributes:
        data: What everybody played.
        reference: Some of the best operator.
        competent: Which of ``data`` are of operators whose way leads to the goal.
    """

    data: Demonstrations
    reference: Demonstrations
    competent: Bool[np.ndarray, " episode"]

    def chosen(self, which: str) -> Demonstrations:
        """The episodes that an arm learns from."""
        if which == "reference":
            return self.reference
        if which == "competent":
            return self.data.select(np.flatnonzero(self.competent), "of competent operators")
        return self.data


def record(settings: Data, seed: int, folder: RunFolder, tick: Ticker) -> Played:
    """Play a seed's episodes and write them to its folder."""
    found = record_operators(settings.env, settings.regime, seed, tick)
    before = find_regime(settings.regime, settings.env).episodes
    task = settings.env.removeprefix(SPARSE)
    best = next(name for name in COMPETENT if name in operator_names(task))
    count = settings.reference_episodes

    def policies(first: int, number: int) -> Policies:
        return operator_policies(task, [best] * number, seed, before + first)

    # Starts of their own, behind those of the episodes that are learned from.
    starts = start_seeds(seed, before + count)[before:]
    episodes = play_in_parts(policies, settings.env, starts, lambda step, note="": None)
    provenance = dataclasses.replace(
        Provenance(task=settings.env, algorithm=f"operators/{best}", seed=seed),
        deterministic=False,
    )
    reference = Demonstrations.from_episodes(episodes, env_spec(settings.env), provenance)
    found.data.save(folder.path / ALL, overwrite=True)
    reference.save(folder.path / REFERENCE, overwrite=True)
    write_json(folder.path / OPERATORS, {"operators": list(found.operators)})
    return Played(found.data, reference, np.isin(found.operators, COMPETENT))


def open_played(folder: RunFolder) -> Played:
    """Open the episodes of a finished data cell."""
    told = folder.read(OPERATORS)
    assert told is not None, "a finished data cell says who played"
    return Played(
        Demonstrations.load(folder.path / ALL),
        Demonstrations.load(folder.path / REFERENCE),
        np.isin(told["operators"], COMPETENT),
    )
