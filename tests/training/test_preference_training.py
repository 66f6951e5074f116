"""What learners from judgements draw, and which of them is kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from steelyard.agents.cpl import CPLConfig
from steelyard.data.normalisation import Normaliser
from steelyard.data.preferences import PairConfig, Ratings, pairs_from_ratings, split_pairs
from steelyard.data.segments import PlayedEpisodes, Segments
from steelyard.emphasis import make_weighting
from steelyard.training.checkpoint import take_run
from steelyard.training.group import RunGroup
from steelyard.training.metrics import read_rows
from steelyard.training.preferences import (
    CPLRun,
    draw_preferences,
    preference_data,
    segment_normaliser,
    train_cpl,
)
from steelyard.training.run_folder import RunFolder
from steelyard.types import EnvSpec

COUNT, STEPS, OBS, ACT = 24, 4, 3, 2
SPEC = EnvSpec("toy", OBS, (-1.0,) * ACT, (1.0,) * ACT, 8, can_terminate=False)


def segments(seed: int = 0) -> Segments:
    """Two windows; the better a segment's rating, the larger its actions."""
    random = np.random.default_rng(seed)
    zeros = np.zeros((COUNT, STEPS), np.float32)
    never = zeros.astype(bool)
    level = (np.arange(COUNT) / COUNT - 0.5)[:, None, None]
    action = level + 0.1 * random.standard_normal((COUNT, STEPS, ACT))
    observation = random.standard_normal((COUNT, STEPS, OBS)).astype(np.float32)
    return Segments(
        "Pendulum-v1", {}, 0.05, observation, np.clip(action, -1, 1).astype(np.float32), zeros,
        never, never, ~never, never, zeros, observation[:, -1], np.arange(COUNT),
        STEPS * (np.arange(COUNT) % 2), np.zeros(COUNT, int), np.full(COUNT, 0.1, np.float32),
        ("a",),
        PlayedEpisodes(np.arange(COUNT), np.zeros((COUNT, 2 * STEPS, ACT), np.float32),
                       np.full(COUNT, 2 * STEPS)),
    )  # fmt: skip


def ratings() -> Ratings:
    everyone = np.arange(COUNT)
    return Ratings(everyone, 1.0 + everyone // 5, np.zeros(COUNT, int), ("ana",))


def test_a_batch_of_rated_segments_compares_only_what_may_be():
    own = segments()
    pairs = pairs_from_ratings(ratings(), own)
    data = preference_data(own, pairs, Normaliser.identity(OBS), ratings())
    batch, weights = draw_preferences("in_batch", "all", data, jax.random.key(0), COUNT)
    windows = (np.asarray(own.window))[np.arange(COUNT)]
    first, second = np.asarray(batch.winner), np.asarray(batch.loser)
    assert np.array_equal(np.asarray(weights) > 0, windows[first] == windows[second])
    rating = ratings().rating
    assert (rating[first] >= rating[second]).all()
    tied = rating[first] == rating[second]
    assert np.array_equal(np.asarray(batch.label) == 0.5, tied)


def test_explicit_pairs_are_those_that_were_judged_and_ties_are_cloned_both_ways():
    own = segments()
    pairs = pairs_from_ratings(ratings(), own, PairConfig())
    data = preference_data(own, pairs, Normaliser.identity(OBS), sizes=(len(pairs) + 50, 1, 1))
    batch, weights = draw_preferences("explicit", "pos", data, jax.random.key(0), 500)
    assert np.array_equal(weights, np.ones(500, np.float32))  # nothing is owed for even draws
    action = np.asarray(batch.segments.action)
    known = {(a.tobytes(), b.tobytes()) for a, b in zip(
        own.action[pairs.winner], own.action[pairs.loser], strict=True)}  # fmt: skip
    drawn = zip(action[:500], action[500:], strict=True)
    assert all((a.tobytes(), b.tobytes()) in known for a, b in drawn)
    cloned, tied = np.asarray(batch.cloned), np.asarray(batch.label) == 0.5
    assert cloned[:500].all()
    assert np.array_equal(cloned[500:] > 0, tied)


def trained(tmp_path, run: CPLRun, name: str, seeds: tuple[int, ...] = (0,)):
    own = segments()
    pairs = pairs_from_ratings(ratings(), own)
    learned, held = split_pairs(pairs, 0.3, 0)
    data = preference_data(own, learned, segment_normaliser(own), None, held)
    folders = [RunFolder(tmp_path / name / str(s)).open({"seed": s}) for s in seeds]
    group = RunGroup(seeds, folders, name)
    agents = train_cpl(run, SPEC, group, [data] * len(seeds))
    group.close()
    return agents, [read_rows(folder.metrics) for folder in folders]


RUN = CPLRun(
    CPLConfig(hidden=(8,), batch_size=8, learning_rate=1e-2, lambda_=1.0),
    steps=60, log_interval=10, eval_interval=60,
)  # fmt: skip


def test_early_stop_keeps_the_policy_of_least_held_out_loss(tmp_path):
    stopping = dataclasses.replace(RUN, early_stop=True, guard_drop=1e9)
    kept, (rows,) = trained(tmp_path, stopping, "kept")
    losses = [row["val/loss"] for row in rows if "val/loss" in row]
    assert len(losses) == 6
    least = 10 * (1 + int(np.argmin(losses)))
    shorter, _ = trained(tmp_path, dataclasses.replace(stopping, steps=least), "shorter")
    for left, right in zip(
        jax.tree.leaves(kept.actor), jax.tree.leaves(shorter.actor), strict=True
    ):
        assert not hasattr(left, "shape") or jnp.array_equal(left, right)


def test_the_guard_keeps_no_policy_whose_better_segments_became_unlikely(tmp_path):
    guarded = dataclasses.replace(RUN, early_stop=True, guard_drop=-1e9)
    kept, _ = trained(tmp_path, guarded, "guarded")
    for left, right in zip(
        jax.tree.leaves(kept.actor), jax.tree.leaves(kept.reference), strict=True
    ):
        assert not hasattr(left, "shape") or jnp.array_equal(left, right)  # what it began as


def test_seeds_train_together_as_each_alone(tmp_path):
    together, _ = trained(tmp_path, RUN, "together", (0, 1))
    alone, _ = trained(tmp_path, RUN, "alone", (1,))
    for left, right in zip(
        jax.tree.leaves(take_run(together, 1).actor),
        jax.tree.leaves(take_run(alone, 0).actor),
        strict=True,
    ):
        assert not hasattr(left, "shape") or np.allclose(left, right, atol=1e-5)


def test_pairs_are_drawn_by_the_rank_of_their_strength_for_cpl_and_for_a_reward():
    own = segments()
    pairs = pairs_from_ratings(ratings(), own)
    strength, plain = jnp.asarray(pairs.strength, jnp.float32), Normaliser.identity(OBS)
    ratio = np.asarray(make_weighting("rank", power=1.0, floor=0.1).ratio(strength))
    data = preference_data(own, pairs, plain, pair_ratio=ratio)
    # Both learners draw by this function: CPL's batches, and those of the reward of P-IQL.
    batch, owed = draw_preferences("explicit", "all", data, jax.random.key(0), 4 * len(pairs))
    drawn = batch.segments.action[: 4 * len(pairs)]
    place = {np.asarray(own.action[w]).tobytes(): w for w in pairs.winner}
    times = np.bincount([place[np.asarray(a).tobytes()] for a in drawn], minlength=COUNT)
    wanted = np.bincount(pairs.winner, ratio, COUNT)
    assert np.abs(times - 4 * wanted).max() <= np.bincount(pairs.winner).max()
    assert float(jnp.max(owed)) <= 1.0 / 0.1 + 1e-4
    flat = np.asarray(make_weighting("rank", power=0.0).ratio(strength))
    same = preference_data(own, pairs, plain, pair_ratio=flat)
    for left, right in zip(
        jax.tree.leaves(same), jax.tree.leaves(preference_data(own, pairs, plain)), strict=True
    ):
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()
