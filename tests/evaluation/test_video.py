"""Films: recorded actions replayed before a camera, in a process of its own."""

import dataclasses

import pytest
from PIL import Image

from steelyard.envs.scripted import scripted_policies
from steelyard.evaluation.rollouts import record_episodes
from steelyard.evaluation.video import film_episode

PEG = "assembly/PegInsertSide-v3"


@pytest.fixture(scope="module")
def episode():
    return record_episodes(scripted_policies(PEG, "good", 0, 1), PEG, [1_000_000], 1)[0][0]


def filmed(episode, path, frames_per_s=25):
    """Film it, where this machine can draw at all."""
    try:
        return film_episode(PEG, episode, path, frames_per_s)
    except ValueError as error:
        if "no OpenGL context" not in str(error):
            raise
        pytest.skip(str(error))


def test_an_assembly_episode_is_filmed_in_real_time_with_its_last_moment(episode, tmp_path):
    assert episode.rewards is not None
    short = dataclasses.replace(
        episode,
        observations=episode.observations[:25],
        actions=episode.actions[:24],
        rewards=episode.rewards[:24],
    )
    with Image.open(filmed(short, tmp_path / "peg.png", 40)) as film:
        assert film.size == (320, 240)
        assert getattr(film, "n_frames", 1) == 24 // 2 + 1  # 80 steps a second, then the end
        first = film.convert("RGB").tobytes()
        film.seek(12)
        assert film.convert("RGB").tobytes() != first


def test_a_film_of_another_ending_is_refused(episode, tmp_path):
    with pytest.raises(ValueError, match="a video ends in one of"):
        film_episode(PEG, episode, tmp_path / "peg.mp4")
