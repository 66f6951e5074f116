"""Scripted experts as policies that can be rolled out and recorded."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int

from steelyard.envs.metaworld import ACTION_SIZE, OBSERVATION_SIZE
from steelyard.envs.scripted.nut import nut_expert
from steelyard.envs.scripted.peg import peg_expert
from steelyard.envs.scripted.tiers import TIERS, ScriptedExpert, Tier

Phases = Int[np.ndarray, "env"]
Expert = Callable[
    [Float32[np.ndarray, "env 20"], Phases, Tier], tuple[Float32[np.ndarray, "env 4"], Phases]
]

EXPERTS: dict[str, Expert] = {"PegInsertSide-v3": peg_expert, "Assembly-v3": nut_expert}
assert set(EXPERTS) == set(TIERS)


def scripted_policies(
    task: str, tier: str, seed: int, episodes: int, first: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """Return an expert that plays many episodes at once, as ``record_episodes`` asks for.

    It remembers what each episode is about, so every episode needs its own place, kept from step to
    step. Where an episode begins, which shows in a frame that did not change, it starts anew. What
    it does in an episode depends on ``seed`` and on the episode's place, not on how many there are.

    A simulated arm takes some 30 MB, so that many episodes are better played in parts.

    Args:
        task: ``"PegInsertSide"`` or ``"Assembly"``.
        tier: Name of a tier of that task; see ``TIERS``.
        seed: Of the noise.
        episodes: How many are played at once, at least 1.
        first: Place of the first of them, where they are a part of more.

    Returns:
        A function of observations ``[1, episodes, 20]`` to actions ``[1, episodes, 4]`` in
        ``[-1, 1]``, float32.

    Raises:
        ValueError: If task or tier is unknown, or ``episodes`` is below 1; from the function, if
            it is given another number of episodes.
    """
    if episodes < 1:
        raise ValueError(f"scripted_policies: episodes is at least 1, got {episodes}")
    expert = ScriptedExpert(task, tier)
    settings, command = expert.settings, EXPERTS[expert.task]
    generators = [np.random.default_rng([seed, place]) for place in range(first, first + episodes)]
    expected = (1, episodes, OBSERVATION_SIZE)
    phase = np.zeros(episodes, np.int64)

    def act(observation: np.ndarray) -> np.ndarray:
        nonlocal phase
        if observation.shape != expected:
            raise ValueError(
                f"scripted {expert.task}: observations have shape [run, start, obs] = "
                f"{list(expected)}, got {list(observation.shape)}"
            )
        seen = observation[0].astype(np.float32)
        began = ~seen[:, 13:17].any(axis=1)
        wanted, phase = command(seen, np.where(began, 0, phase), settings)
        if settings.noise:
            drawn = [generator.standard_normal(ACTION_SIZE) for generator in generators]
            wanted = wanted + settings.noise * np.stack(drawn)
        return np.clip(wanted, -1.0, 1.0).astype(np.float32)[None]

    return act
