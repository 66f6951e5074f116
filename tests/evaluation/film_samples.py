"""A small data set of played segments, and what films need that a machine may lack."""

import numpy as np
import pytest

from steelyard.data.segments import PlayedEpisodes, Segments
from steelyard.envs.registry import make_env
from steelyard.evaluation.media import ffmpeg


def needs_encoder():
    """Skip where nothing encodes films."""
    try:
        ffmpeg()
    except ImportError as error:
        pytest.skip(str(error))


def played_segments(env, seeds, steps, length, control_timestep=0.05, short=0, **options):
    """Segments of episodes of random actions; the last one lacks its last ``short`` steps."""
    first = make_env(env, [0], **options)
    spec = first.spec
    first.close()
    action = np.zeros((len(seeds), steps, spec.action_size), np.float32)
    seen = np.zeros((len(seeds), steps + 1, spec.observation_size), np.float32)
    for row, seed in enumerate(seeds):
        task, rng = make_env(env, [seed], **options), np.random.default_rng(seed)
        seen[row, 0] = task.reset()[0]
        action[row] = rng.uniform(-1, 1, (steps, spec.action_size))
        for step in range(steps):
            moved = task.step(spec.to_env_units(action[row, step, None]))
            seen[row, step + 1] = moved.next_observation[0]
        task.close()
    pieces = steps // length
    episode = np.repeat(np.arange(len(seeds)), pieces)
    start = np.tile(np.arange(pieces) * length, len(seeds))
    rows = start[:, None] + np.arange(length)
    zeros, never = np.zeros(rows.shape, np.float32), np.zeros(rows.shape, bool)
    valid = ~never
    if short:
        valid[-1, -short:] = False
    return Segments(
        env=env,
        env_options=options,
        control_timestep=control_timestep,
        observation=seen[episode[:, None], rows],
        action=action[episode[:, None], rows],
        reward=zeros,
        terminated=never,
        truncated=never,
        valid=valid,
        success=never,
        behaviour_logp=zeros,
        last_observation=seen[episode, start + length],
        episode=episode,
        start=start,
        checkpoint=np.zeros(len(start), np.int64),
        noise=np.full(len(start), 0.1, np.float32),
        checkpoints=("checkpoint_000001",),
        played=PlayedEpisodes(np.array(seeds), action, np.full(len(seeds), steps)),
    )
