"""Demonstrations for the tests: a moving point whose data are seeded, and ways to spoil a file."""

import numpy as np

from steelyard.data.demonstrations import Demonstrations, Provenance
from steelyard.data.episode import Episode
from steelyard.types import EnvSpec

SPEC = EnvSpec("Point-v1", 3, (-2.0, -1.0), (2.0, 3.0), 200, True)


def make_demonstrations(
    lengths=(3, 1, 5), seed=0, rewards=True, spec=SPEC, terminated=(True, False)
) -> Demonstrations:
    random = np.random.default_rng(seed)
    episodes = [
        Episode(
            observations=random.normal(size=(n + 1, spec.observation_size)).astype(np.float32),
            actions=random.uniform(spec.action_low, spec.action_high, (n, spec.action_size)).astype(
                np.float32
            ),
            rewards=random.normal(size=n).astype(np.float32) if rewards else None,
            terminated=terminated[index % len(terminated)],
            truncated=not terminated[index % len(terminated)],
            start_seed=100 + index,
        )
        for index, n in enumerate(lengths)
    ]
    provenance = Provenance(
        spec.id, "sac", seed, 1000, True, "ab" * 32, {"jax": "0.10"}, ("made for a test",)
    )
    return Demonstrations.from_episodes(episodes, spec, provenance)


def arrays_of(demonstrations: Demonstrations) -> dict:
    names = ("observations", "actions", "rewards", "terminations", "truncations", "lengths")
    return {name: getattr(demonstrations, name) for name in names}


def assert_same_arrays(left: Demonstrations, right: Demonstrations) -> None:
    for name, array in arrays_of(left).items():
        other = getattr(right, name)
        if array is None or other is None:
            assert array is other, name
        else:
            assert array.dtype == other.dtype, name
            np.testing.assert_array_equal(array, other, err_msg=name)


def flat_columns(demonstrations: Demonstrations) -> dict[str, np.ndarray]:
    """The columns of a D4RL file, writable, as another tool would have written them."""
    before = np.arange(demonstrations.num_steps) + demonstrations.step_episodes()
    columns = {
        "observations": demonstrations.observations[before],
        "next_observations": demonstrations.observations[before + 1],
        "actions": demonstrations.actions,
        "terminals": demonstrations.terminations,
        "timeouts": demonstrations.truncations,
    }
    if demonstrations.rewards is not None:
        columns["rewards"] = demonstrations.rewards
    return {name: np.array(column) for name, column in columns.items()}
