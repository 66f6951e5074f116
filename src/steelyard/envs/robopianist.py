"""RoboPianist: two hands play a song on a piano; needs the extra ``piano``.

``scripts/install_piano.sh`` installs it. A step lasts ``control_timestep``. What is seen are the
task's own parts in the order of their names, as float32: the last action and reward, the goal (keys
and pedal now and ``n_steps_lookahead`` steps ahead, 89 numbers each), joints of the left hand, the
keys, the pedal, joints of the right hand; with the reference's setting 1,154 numbers. Actions are
39 numbers in ``[-1, 1]``. The song's end truncates an episode; only ``wrong_press_termination``
terminates one.

Zakka et al. 2023, "RoboPianist: Dexterous Piano Playing with Deep Reinforcement Learning",
arXiv:2304.04150.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.envs.base import Step, checked_action, checked_seeds
from steelyard.envs.performance import Performance, Recorder, played_notes
from steelyard.envs.robopianist_import import import_robopianist, require_drawing
from steelyard.envs.robopianist_songs import PREFIX, PianoOptions, parse_id
from steelyard.numerics.notes import NoteEvent
from steelyard.types import EnvSpec

CAMERA = "piano/back"
CAMERAS = tuple(
    f"piano/{name}" for name in ("back", "closeup", "left", "right", "topdown", "egocentric")
)


class RoboPianistEnv:
    """Pianos with two hands, one after the other; implements ``VectorEnv``.

    Attributes:
        options: The settings.
    """

    def __init__(self, id: str, seeds: Sequence[int], **options: Any):
        """Build them.

        Args:
            id: One of ``TASKS``, with or without the family's prefix.
            seeds: One per environment, distinct; without ``randomize_hand_positions`` all
                episodes start alike.
            **options: Fields of ``PianoOptions``.

        Raises:
            ValueError: Song, option or seeds are refused.
            ImportError: The package, or a system library that it needs, is missing; says how to
                install it.
        """
        song, self.options = parse_id(id, options)
        self._seeds = checked_seeds(seeds)
        self.num_envs = len(seeds)
        self._pianos = [_Piano(song, seed, self.options) for seed in self._seeds]
        name = PREFIX + id.removeprefix(PREFIX)
        self.spec = dataclasses.replace(robopianist_spec(id, **options), id=name)

    @property
    def control_timestep(self) -> float:
        """Seconds between steps."""
        return self.options.control_timestep

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, obs]``."""
        return np.stack([piano.reset() for piano in self._pianos])

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, act]`` in ``[-1, 1]``; what exceeds it is cut.

        Raises:
            ValueError: If ``action`` has another shape or is not finite.
        """
        action = checked_action(action, self.spec, self.num_envs)
        played = [piano.step(own) for piano, own in zip(self._pianos, action, strict=True)]
        following, reward, terminated, truncated = (
            np.stack(part) for part in zip(*played, strict=True)
        )
        observation = following.copy()
        for index in np.flatnonzero(terminated | truncated):
            observation[index] = self._pianos[index].reset()
        return Step(observation, following, reward, terminated, truncated)

    def performance(self, index: int = 0) -> Performance:
        """What one environment played: the episode that the last step ended, or the present one.

        Args:
            index: Which environment.
        """
        return self._pianos[index].performance()

    def played_notes(self, velocity: str = "constant") -> tuple[NoteEvent, ...]:
        """The notes of the first environment's performance; see ``performance.played_notes``."""
        return played_notes(self.performance(), velocity)

    def draw(self, width: int = 640, height: int = 480, camera_id: str = CAMERA) -> np.ndarray:
        """Draw the first environment as it is now; keys that are down are green.

        Where the last step ended an episode this is the first picture of the next one.

        Args:
            width: Pixels.
            height: Pixels.
            camera_id: One of ``CAMERAS``.

        Returns:
            ``[height, width, 3]`` uint8.

        Raises:
            ValueError: There is no such camera.
            ImportError: Nothing that draws is installed; says what to install.
        """
        if camera_id not in CAMERAS:
            raise ValueError(f"camera_id is one of {', '.join(CAMERAS)}: got {camera_id!r}")
        require_drawing()
        return self._pianos[0].draw(width, height, camera_id)

    def close(self) -> None:
        """Release the simulators."""
        for piano in self._pianos:
            piano.close()


class _Piano:
    """One simulated piano with its hands, and what is being played on it."""

    def __init__(self, song: str, seed: int, options: PianoOptions):
        self._options = options
        self._env = _build(song, seed, options)
        self._task: Any = self._env.task
        bounds = self._env.action_spec()
        self._low = np.asarray(bounds.minimum, np.float64)
        self._high = np.asarray(bounds.maximum, np.float64)
        self._last: Performance | None = None
        self._first: np.ndarray | None = None
        self._recorder = Recorder(self._task, options.control_timestep)

    def spec(self, id: str) -> EnvSpec:
        """Describe the task."""
        size, goals = self._low.size, self._recorder.goal.shape[0]
        seen = self.reset().size
        can_end = self._options.wrong_press_termination
        return EnvSpec(id, seen, (-1.0,) * size, (1.0,) * size, goals, can_end)

    def reset(self) -> np.ndarray:
        """Start a new episode."""
        time_step = self._env.reset()
        self._recorder.begin()
        return self._observe(time_step, self._low, 0.0)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float32, np.bool_, np.bool_]:
        """Step once; what ended, if anything, is terminated or truncated."""
        share = 0.5 * (np.clip(action.astype(np.float64), -1.0, 1.0) + 1.0)
        raw = self._low + share * (self._high - self._low)
        time_step = self._env.step(raw)
        self._recorder.add()
        ended = time_step.last()
        self._last = self._recorder.performance() if ended else None
        # The package says so by a discount of 0, but reads it before it sets it.
        failed = ended and self._recorder.steps < len(self._recorder.goal)
        reward = float(time_step.reward)
        observation = self._observe(time_step, raw, reward)
        return observation, np.float32(reward), np.bool_(failed), np.bool_(ended and not failed)

    def performance(self) -> Performance:
        """The episode that the last step ended, or the present one."""
        return self._recorder.performance() if self._last is None else self._last

    def draw(self, width: int, height: int, camera_id: str) -> np.ndarray:
        """Draw it."""
        piano, physics = self._task.piano, self._env.physics
        pressed = piano.activation[:, None]
        colours = np.where(pressed, (0.2, 0.8, 0.2, 1.0), (0.5, 0.5, 0.5, 1.0))
        physics.bind(piano._key_geoms).rgba = colours
        return physics.render(height=height, width=width, camera_id=camera_id)

    def close(self) -> None:
        """Release the simulator."""
        self._env.close()

    def _observe(self, time_step: Any, action: np.ndarray, reward: float) -> np.ndarray:
        parts = dict(time_step.observation)
        if self._options.action_reward_observation:
            parts |= {"action": action, "reward": np.asarray([reward])}
        return np.concatenate([np.ravel(parts[name]) for name in sorted(parts)]).astype(np.float32)


def robopianist_spec(id: str, **options: Any) -> EnvSpec:
    """Describe a task; one piano is built to be asked, once a process.

    Raises:
        ValueError: Song or option are refused.
        ImportError: The package is missing.
    """
    name = PREFIX + id.removeprefix(PREFIX)
    return dataclasses.replace(_spec(*parse_id(id, options)), id=name)


@functools.lru_cache(maxsize=32)
def _spec(song: str, options: PianoOptions) -> EnvSpec:
    piano = _Piano(song, 0, options)
    spec = piano.spec(song)
    piano.close()
    return spec


def _build(song: str, seed: int, options: PianoOptions) -> Any:
    """One of the package's environments, drawn cheaply and without work that nobody sees."""
    suite = import_robopianist()
    passed_on = (
        "control_timestep",
        "n_steps_lookahead",
        "trim_silence",
        "initial_buffer_time",
        "gravity_compensation",
        "reduced_action_space",
        "primitive_fingertip_collisions",
        "disable_fingering_reward",
        "disable_forearm_reward",
        "disable_hand_collisions",
        "wrong_press_termination",
        "randomize_hand_positions",
    )
    env = suite.load(
        f"{PREFIX}debug-{song}-v0",
        midi_file=None if options.midi_file is None else Path(options.midi_file),
        seed=seed,
        stretch=options.stretch_factor,
        shift=options.shift_factor,
        task_kwargs={
            **{name: getattr(options, name) for name in passed_on},
            "change_color_on_activation": False,
            "disable_colorization": True,
        },
    )
    # Ten times a step it would paint every key; `draw` does it once a picture.
    env.task.piano._update_key_color = lambda physics: None
    env._physics_recompiled_once = True  # the first reset need not compile the same again
    _draw_cheaply(env.physics.model)
    return env


def _draw_cheaply(model: Any) -> None:
    """No shadows, reflections or multisampling: ten times as many pictures a second."""
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0.0
