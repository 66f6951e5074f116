"""Offline flow Q-learning on stored trajectories: who is drawn, and what no emphasis changes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import silent

from steelyard.agents.acfql import ACFQLConfig
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.normalisation import Normaliser
from steelyard.data.provenance import Provenance
from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.emphasis import Balanced, length_base
from steelyard.envs.pegplane import HORIZON, peg_plane_spec, reading_policy
from steelyard.envs.registry import make_env
from steelyard.training.group import RunGroup
from steelyard.training.offline_rl import (
    OfflineRLRun,
    draw_chunks,
    drawing,
    train_acfql_offline,
)
from steelyard.training.run_folder import RunFolder

SPEC = peg_plane_spec()
CONFIG = ACFQLConfig(hidden=(16,), horizon_length=4, num_qs=2, flow_steps=2, batch_size=16)
SEEN = Normaliser.identity(SPEC.observation_size)


@pytest.fixture(scope="module")
def store():
    """Sixteen real episodes of the plane's base, some of which succeed; -1 a step, 0 at success."""
    env = make_env("assembly/PegPlane-v0", list(range(16)))
    observation = env.reset()
    rows = []
    for _ in range(HORIZON):
        step = env.step(reading_policy(observation))
        rows.append((observation, reading_policy(observation), step))
        observation = step.observation
    episodes = []
    for i in range(16):
        length = next(t for t, (_, _, s) in enumerate(rows) if s.terminated[i] | s.truncated[i]) + 1
        own = rows[:length]
        last = own[-1][2]
        episodes.append(
            Episode(
                observations=np.stack([*(o[i] for o, _, _ in own), last.next_observation[i]]),
                actions=np.stack([a[i] for _, a, _ in own]),
                rewards=np.array([s.reward[i] - 1 for _, _, s in own], np.float32),
                terminated=bool(last.terminated[i]),
                truncated=bool(last.truncated[i]),
                start_seed=i,
            )
        )
    data = Demonstrations.from_episodes(episodes, SPEC, Provenance("plane"))
    assert 0 < sum(e.terminated for e in episodes) < 16
    return TrajectoryStore.of(data)


def train(root, drawings, steps=30):
    seeds = range(len(drawings))
    group = RunGroup(seeds, [RunFolder(root / str(s)).open({"s": s}) for s in seeds], "acfql")
    try:
        run = OfflineRLRun(CONFIG, steps)
        return train_acfql_offline(run, SPEC, group, drawings, silent)
    finally:
        group.close()


def same(left, right):
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_balance_of_no_sharpness_is_the_plain_run_bit_for_bit(store, tmp_path):
    starts, labels = store.critic_starts(4), jnp.arange(16) % 3
    flat = Balanced(labels, tau=1.0)
    ones = jnp.zeros(16)
    critic = flat.ratio(ones, base=length_base(starts))
    actor = flat.ratio(ones, base=length_base(store.length))
    plain = train(tmp_path / "plain", [drawing(store, 4, SEEN)])
    flat = train(tmp_path / "flat", [drawing(store, 4, SEEN, critic, actor)])
    assert same(plain, flat)
    sharp = Balanced(labels, tau=0.0).ratio(ones, base=length_base(starts))
    other = train(tmp_path / "sharp", [drawing(store, 4, SEEN, sharp)])
    assert not same(plain, other)


def test_critic_and_policy_draw_their_own_starts(store):
    data = drawing(store, 4, SEEN)
    found = draw_chunks(CONFIG, data, jax.random.key(0), 256)
    batch, owed = found.batch, found.owed
    assert batch.critic.mask.all(1).sum() >= 200  # a chunk is whole but at a success
    assert (batch.critic.discount[~batch.critic.mask.all(1)] == 0).all()
    cut = ~batch.actor.mask.all(1) & (batch.actor.discount > 0)
    assert cut.any()  # the policy also imitates what a time limit cut
    np.testing.assert_array_equal(owed, np.ones(256))
    assert not np.array_equal(batch.critic.observation, batch.actor.observation)


def test_clusters_are_drawn_alike_where_they_are_balanced(store):
    success = jnp.array([bool(store.terminated[o + n - 1]) for o, n in zip(
        store.offset.tolist(), store.length.tolist(), strict=True)])  # fmt: skip
    starts = store.critic_starts(4)
    base = length_base(starts)
    before = float(jnp.sum(jnp.where(success, base, 0.0)))
    ratio = Balanced(success.astype(jnp.int32), 0.0, jnp.inf).ratio(jnp.zeros(16), base=base)
    data = drawing(store, 4, SEEN, ratio)
    drawn = float(jnp.sum(jnp.where(success, data.critic.probabilities, 0.0)))
    assert drawn == pytest.approx(0.5, abs=1e-3)
    assert before < 0.4


def test_trajectories_shorter_than_the_horizon_are_refused(store):
    with pytest.raises(ValueError, match=r"the longest has 80 steps, horizon_length is 100"):
        failed = jnp.zeros_like(store.terminated)
        drawing(eqx.tree_at(lambda s: s.terminated, store, failed), 100, SEEN)
