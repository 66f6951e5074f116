"""Demonstrations and start states of Pendulum that all contenders share, and one way to score.

    python pendulum_task.py FILE.npz

plays the exact solution of ``Pendulum-v1`` and writes the file (needs Steelyard); the contenders
read it and score themselves with :class:`Task` (needs NumPy only), in the formula that EnvPool's
task is. A score of 0 is uniform random play, 1 the exact solution, on the same hundred starts.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

EPISODES, STARTS, HORIZON = 10, 100, 200


def observed(angle: np.ndarray, speed: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle), np.sin(angle), speed], 1).astype(np.float32)


def stepped(angle: np.ndarray, speed: np.ndarray, torque: np.ndarray) -> tuple[np.ndarray, ...]:
    angle, torque = (angle + np.pi) % (2 * np.pi) - np.pi, np.clip(torque, -2, 2)
    reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
    faster = speed + (15 * np.sin(angle) + 3 * torque) * 0.05
    return angle + faster * 0.05, np.clip(faster, -8, 8), reward


def starts(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    return random.uniform(-np.pi, np.pi, count), random.uniform(-1, 1, count)


def played(
    act: Callable[[np.ndarray, int], np.ndarray], angle: np.ndarray, speed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations ``[start, 201, 3]``, torques ``[start, 200, 1]`` and returns of episodes."""
    seen, torques, total = [observed(angle, speed)], [], np.zeros(len(angle))
    for time in range(HORIZON):
        torque = np.asarray(act(seen[-1], time), np.float64).reshape(-1)
        angle, speed, reward = stepped(angle, speed, torque)
        total += reward
        torques.append(torque)
        seen.append(observed(angle, speed))
    return np.stack(seen, 1), np.stack(torques, 1)[..., None].astype(np.float32), total


class Task:
    """What is in the file.

    Attributes:
        observations: Of the demonstrations, ``[episode, 201, 3]``.
        actions: Torques in N·m, ``[episode, 200, 1]``.
    """

    def __init__(self, path: Path):
        with np.load(path) as file:
            self.observations, self.actions = file["observations"], file["actions"]
            self._starts, self._anchors = (file["angle"], file["speed"]), file["anchors"]

    def score(self, act: Callable[[np.ndarray], np.ndarray]) -> float:
        """Score a policy of observations, ``[start, 3]`` to torques."""
        returns = played(lambda seen, _: act(seen), *self._starts)[2]
        low, high = self._anchors
        return float((returns.mean() - low) / (high - low))


def write(path: Path) -> None:
    from steelyard.envs.pendulum import pendulum_optimum

    best = pendulum_optimum()
    observations, actions, _ = played(best.act, *starts(np.random.default_rng(1), EPISODES))
    angle, speed = starts(np.random.default_rng(2), STARTS)
    random = np.random.default_rng(3)
    low = played(lambda seen, _: random.uniform(-2, 2, len(seen)), angle, speed)[2].mean()
    high = played(best.act, angle, speed)[2].mean()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        observations=observations,
        actions=actions,
        angle=angle,
        speed=speed,
        anchors=np.array([low, high]),
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))
