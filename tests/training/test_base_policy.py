"""The base of a residual policy: it learns to plan, feels emphasis, and resumes bit for bit."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny_runs import (
    TASK,
    Killed,
    assert_same_bits,
    assert_same_runs,
    demonstrations,
    dying_at,
    group,
    rows_of,
    silent,
    state_of,
)

from steelyard.agents.chunked_bc import ChunkedBCConfig
from steelyard.data.chunks import all_chunks
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.provenance import Provenance
from steelyard.emphasis.demonstrations import EmphasisConfig
from steelyard.training.base_policy import BaseRun, put_chunks_on_device, train_base
from steelyard.training.checkpoint import take_run
from steelyard.training.demonstrations import put_on_device
from steelyard.types import EnvSpec

NETWORK = {"hidden": (8,), "batch_size": 8, "chunk": 4, "executed": 4}
RUN = BaseRun(TASK, ChunkedBCConfig(**NETWORK), epochs=1, min_steps=500, checkpoint_interval=250)
BEST_HALF = EmphasisConfig(score="episode_return", weighting="rank", power=2.0)


def data(episodes=10):
    return [demonstrations(episodes, seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two base policies, trained together and left alone; five episodes are held out."""
    root = tmp_path_factory.mktemp("base")
    train_base(RUN, group(root), data(50), silent)
    return root


# Chunks on the device.


def test_chunks_of_each_run_are_those_of_its_dataset():
    datasets = [demonstrations(1, seed=0), demonstrations(3, seed=1)]
    both = put_chunks_on_device(datasets)
    for index, dataset in enumerate(datasets):
        run, expected = take_run(both, index), all_chunks(dataset, 4)
        own = jax.tree.map(lambda x, n=dataset.num_steps: x[:n], run.every(4))
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), own, expected))


def test_padding_is_never_drawn_and_every_start_is():
    datasets = [demonstrations(1, seed=0), demonstrations(3, seed=1)]
    both = put_chunks_on_device(datasets)
    for index, dataset in enumerate(datasets):
        batch, weights = take_run(both, index).draw(jax.random.key(0), 2_000, 4)
        own = np.unique(np.asarray(dataset.transitions().observation), axis=0)
        np.testing.assert_array_equal(np.unique(np.asarray(batch.observation), axis=0), own)
        np.testing.assert_array_equal(weights, 1.0)


@pytest.mark.parametrize("through", ["batches", "losses"])
def test_starts_are_drawn_and_weighed_as_behaviour_cloning_draws_its_steps(through):
    emphasis = dataclasses.replace(BEST_HALF, through=through)
    datasets, key = [demonstrations(10)], jax.random.key(0)
    batch, weights = take_run(put_chunks_on_device(datasets, emphasis), 0).draw(key, 500, 4)
    rows, own = take_run(put_on_device(datasets, emphasis), 0).draw(key, 500)
    np.testing.assert_array_equal(batch.observation, rows.observation)
    np.testing.assert_array_equal(batch.actions[:, 0], rows.action)
    np.testing.assert_array_equal(weights, own)
    assert np.allclose(weights, 1.0) == (through == "batches")


# Runs.


@pytest.mark.parametrize("step", [250, 500])
def test_an_interrupted_run_ends_as_the_uninterrupted_one(step, root, tmp_path):
    with pytest.raises(Killed):
        train_base(RUN, group(tmp_path), data(50), dying_at(step))
    train_base(RUN, group(tmp_path), data(50), silent)
    assert_same_runs(root, tmp_path)


def test_a_run_logs_its_loss_and_that_of_the_episodes_held_out(root, tmp_path):
    for row in rows_of(root):
        assert row.keys() == {"step", "train/loss", "val/loss"}
    train_base(dataclasses.replace(RUN, min_steps=20), group(tmp_path), data(10), silent)
    assert all(row.keys() == {"step", "train/loss"} for row in rows_of(tmp_path))


def test_steps_are_passes_over_the_training_steps_but_not_too_few():
    run = dataclasses.replace(RUN, epochs=3, min_steps=0)
    assert run.steps(17) == 3 * 3
    assert dataclasses.replace(run, min_steps=50).steps(17) == 50


@pytest.mark.parametrize("through", ["batches", "losses"])
def test_an_emphasis_changes_what_is_learned_and_one_of_no_sharpness_does_not(through, tmp_path):
    agent = dataclasses.replace(RUN.agent, reduction="weighted_mean")
    run = dataclasses.replace(RUN, min_steps=60, epochs=0, agent=agent)

    def states(name, **changes):
        changed = dataclasses.replace(run, **changes)
        train_base(changed, group(tmp_path / name), data(), silent)
        return state_of(tmp_path / name)

    def emphasis(power):
        return dataclasses.replace(BEST_HALF, power=power, through=through)

    plain = states("plain")
    assert_same_bits(plain, states("flat", emphasis=emphasis(0.0)))
    sharp = states("sharp", emphasis=emphasis(2.0))
    weights = ".agent.policy.net.weights[0]"
    assert np.abs(plain[weights] - sharp[weights]).max() > 1e-4
    assert json.loads((tmp_path / "sharp" / "0" / "emphasis.json").read_text())
    assert not (tmp_path / "plain" / "0" / "emphasis.json").exists()


def test_an_emphasis_that_the_learner_would_not_feel_is_refused():
    with pytest.raises(ValueError, match="the plain mean ignores weights"):
        BaseRun(emphasis=EmphasisConfig(through="losses"))


def test_demonstrations_of_another_task_are_refused(tmp_path):
    run = dataclasses.replace(RUN, env="another")
    with pytest.raises(ValueError, match=f"'another', its demonstrations are of '{TASK}'"):
        train_base(run, group(tmp_path), data(1), silent)
    assert not list(tmp_path.rglob("*.safetensors"))


# Learning.

CIRCLE = EnvSpec("circle", 2, (-1.0, -4.0), (1.0, 4.0), 30, can_terminate=False)


def angles(seed, episodes):
    start = np.random.default_rng(seed).uniform(0, 2 * np.pi, (episodes, 1))
    return start + 0.2 * np.arange(31)


def circle(seed=0, episodes=20) -> Demonstrations:
    """A point that goes round: what follows is known from where it stands."""
    found = []
    for turn in angles(seed, episodes):
        seen = np.stack([np.cos(turn), np.sin(turn)], 1).astype(np.float32)
        action = np.stack([0.5 * np.sin(turn), 2.0 * np.cos(2 * turn)], 1)[:-1]
        found.append(Episode(seen, action.astype(np.float32), None, False, True, seed))
    return Demonstrations.from_episodes(found, CIRCLE, Provenance(CIRCLE.id, "script", seed))


@pytest.mark.parametrize(("head", "tolerance"), [("mse", 0.03), ("flow", 0.08)])
def test_a_base_learns_what_follows_from_where_it_stands(head, tolerance, tmp_path):
    config = ChunkedBCConfig(
        head=head, hidden=(64, 64), batch_size=64, chunk=4, executed=4, lr=3e-3
    )
    run = BaseRun(CIRCLE.id, config, epochs=0, min_steps=1_500)
    agent = take_run(train_base(run, group(tmp_path, (0,)), [circle()], silent), 0)
    unseen = all_chunks(circle(seed=1, episodes=10), 4)
    keys = jax.random.split(jax.random.key(0), unseen.actions.shape[0])
    errors = np.abs(
        np.asarray(
            jax.jit(lambda a, o, k: a.plan(o, k))(agent, unseen.observation, keys) - unseen.actions
        )
    )
    real = np.asarray(unseen.mask)
    assert errors[real].mean() < tolerance
    # The last starts of an episode are learnt too, up to its end.
    assert errors[:, 0][~real[:, -1]].mean() < 2 * tolerance
