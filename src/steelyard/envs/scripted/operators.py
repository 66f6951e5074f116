"""Operators of uneven skill on the sparse tasks: who, task and seed → policies.

An operator has a way of working, a speed and a noise. Skilled ones go to a point before the object
and then act on it; ``hover`` stops at that point, ``miss`` takes the object to be 9 cm beside where
it is, ``wander`` goes from one random point to the next. In ``fork`` an operator takes gate A or B.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from steelyard.envs.fork import GATES, GOAL
from steelyard.envs.fork import STEP as FORK_STEP
from steelyard.envs.sparse import HAND, OBJECT

GAIN = 20.0
"""Full command from 50 mm on, 1/m."""
MISS_M = 0.09
LEG = 12
"""Steps that ``wander`` gives each of its points."""
WANDER_LOW, WANDER_HIGH = np.array([-0.15, 0.45, 0.08]), np.array([0.15, 0.75, 0.30])


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        way: ``act``, ``hover``, ``miss``, ``wander``, or a gate of the fork.
        speed: Factor of the command, which is at most 1 in each component.
        noise: Standard deviation of what is added to each component afterwards.
    """

    way: str
    speed: float = 1.0
    noise: float = 0.1


OPERATORS: Mapping[str, Operator] = {
    "better": Operator("act"),
    "okay": Operator("act", speed=0.7, noise=0.3),
    "worse": Operator("act", speed=0.5, noise=0.6),
    "hover": Operator("hover", speed=0.9, noise=0.2),
    "miss": Operator("miss", speed=0.9, noise=0.2),
    "wander": Operator("wander", speed=0.9, noise=0.2),
    "through-a": Operator("A", speed=0.8, noise=0.3),
    "through-b": Operator("B", speed=0.8, noise=0.3),
}
"""By name."""


@dataclasses.dataclass(frozen=True)
class Script:
    """How one task is done: where to go first, and where from there.

    Attributes:
        before: Point before the object, from its place, m.
        near: How near the hand must be to that point, in the components that count, m.
        counts: Which of ``x, y, z`` count.
        act: Where to go then, from the object's place, m.
        grip: Command of the gripper; 1 closes it.
    """

    before: tuple[float, float, float]
    near: float
    counts: tuple[int, ...]
    act: tuple[float, float, float]
    grip: float


SCRIPTS: Mapping[str, tuple[Script, ...]] = {
    "HandlePress-v3": (Script((0.0, 0.0, 0.10), 0.02, (0, 1), (0.0, 0.0, -0.5), 1.0),),
    "ButtonPressTopdown-v3": (Script((0.0, 0.0, 0.15), 0.03, (0, 1), (0.0, 0.0, -0.3), 1.0),),
    "DrawerOpen-v3": (
        Script((0.0, 0.0, 0.12), 0.03, (0, 1), (0.0, 0.0, -0.02), -1.0),
        Script((0.0, 0.0, -0.02), 0.03, (2,), (0.0, -0.3, -0.02), -1.0),
    ),
    "WindowOpen-v3": (
        Script((-0.04, -0.03, 0.12), 0.03, (0, 1), (-0.04, -0.03, -0.08), 1.0),
        Script((-0.04, -0.03, -0.08), 0.04, (2,), (0.3, -0.03, -0.08), 1.0),
    ),
}
"""By task. A later script takes over once the hand is at its first point, in its components."""
TASKS = (*SCRIPTS, "Fork-v0")
"""Tasks that have operators."""


def operator_names(task: str) -> tuple[str, ...]:
    """Names of the operators that know a task."""
    fork = task == "Fork-v0"
    return tuple(name for name, o in OPERATORS.items() if (o.way in GATES) == fork)


def check_operators(task: str, names: Iterable[str]) -> None:
    """Refuse a task without operators, and operators that do not know it.

    Raises:
        ValueError: Names the nearest, and all legal ones.
    """
    if task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no operator knows {task!r}{hint} Legal: {', '.join(TASKS)}")
    legal = operator_names(task)
    for name in names:
        if name not in legal:
            near = difflib.get_close_matches(name, legal, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no operator {name!r} of {task}{hint} Legal: {', '.join(legal)}")


def operator_policies(
    task: str, operators: Sequence[str], seed: int, first: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """Return policies that play an episode for each operator named, all at once.

    What happens in an episode depends on ``seed`` and its place alone, not on how many there are.

    Args:
        task: One of ``TASKS``, without the family's prefix.
        operators: Who acts in each episode.
        seed: Of noise, sides and way-points.
        first: Place of the first episode, where these are a part of more.

    Returns:
        A function of observations ``[1, episode, obs]`` to actions ``[1, episode, act]``, to be
        called once a step of episodes that begin together.

    Raises:
        ValueError: As :func:`check_operators`.
    """
    check_operators(task, operators)
    who = [OPERATORS[name] for name in operators]
    randoms = [np.random.default_rng([seed, first + i]) for i in range(len(who))]
    speed = np.array([o.speed for o in who], np.float32)[:, None]
    noise = np.array([o.noise for o in who], np.float32)[:, None]
    if task == "Fork-v0":
        command = _fork_commands(who, randoms)
    else:
        command = _arm_commands(SCRIPTS[task], who, randoms)
    step = 0

    def act(observation: np.ndarray) -> np.ndarray:
        nonlocal step
        wanted = command(observation[0], step)
        step += 1
        drawn = np.stack([random.standard_normal(wanted.shape[1]) for random in randoms])
        wanted = speed * np.clip(wanted, -1.0, 1.0) + noise * drawn
        return np.clip(wanted, -1.0, 1.0).astype(np.float32)[None]

    return act


Commands = Callable[[Float32[np.ndarray, "env obs"], int], np.ndarray]


def _arm_commands(
    scripts: Sequence[Script], who: Sequence[Operator], randoms: Sequence[np.random.Generator]
) -> Commands:
    """Commands of a robot arm: towards a target, and the gripper."""
    ways = np.array([o.way for o in who])
    sides = np.array([random.choice([-1.0, 1.0]) for random in randoms])
    beside = np.where(ways == "miss", sides * MISS_M, 0.0)[:, None] * np.array([1.0, 0.0, 0.0])
    wanders = ways == "wander"
    points = np.zeros((len(who), 3))
    stage = np.zeros(len(who), int)

    def command(seen: np.ndarray, step: int) -> np.ndarray:
        if step % LEG == 0:
            points[:] = [random.uniform(WANDER_LOW, WANDER_HIGH) for random in randoms]
        hand, place = seen[:, HAND].astype(np.float64), seen[:, OBJECT] + beside
        targets = [place + np.array(scripts[0].before)]
        for number, script in enumerate(scripts):
            off = (hand - place - np.array(script.before))[:, list(script.counts)]
            there = (np.linalg.norm(off, axis=1) < script.near) & (ways != "hover")
            stage[:] = np.where((stage == number) & there, number + 1, stage)
            targets.append(place + np.array(script.act))
        target = np.stack(targets)[stage, np.arange(len(who))]
        target = np.where(wanders[:, None], points, target)
        grip = np.full((len(who), 1), scripts[0].grip)
        return np.concatenate([GAIN * (target - hand), grip], axis=1)

    return command


def _fork_commands(who: Sequence[Operator], randoms: Sequence[np.random.Generator]) -> Commands:
    """Commands of the point: to the middle of a gate, through it, and on to the goal."""
    gates = np.array([np.mean(GATES[o.way]) for o in who])
    heights = gates + np.array([random.uniform(-0.08, 0.08) for random in randoms])

    def command(seen: np.ndarray, step: int) -> np.ndarray:
        x, y = seen[:, 0], seen[:, 1]
        through = x > 0.05
        target = np.stack(
            [np.where(through, GOAL[0], 0.12), np.where(through, GOAL[1], heights)], 1
        )
        # Level with the gate before the wall is reached.
        target[:, 0] = np.where(~through & (np.abs(y - heights) > 0.1), -0.15, target[:, 0])
        return (target - np.stack([x, y], 1)) / FORK_STEP / 2

    return command
