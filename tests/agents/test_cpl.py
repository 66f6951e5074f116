"""Contrastive preference learning: by hand, laws, each term and each setting felt."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from steelyard.agents.cpl import CPL, CPLConfig, conservative_loss, mean_over_valid
from steelyard.data.normalisation import Normaliser
from steelyard.nets import TanhGaussian
from steelyard.numerics.contrastive import preference_loss, segment_score, squared_error
from steelyard.types import EnvSpec, PreferenceBatch, Segment

OBS, ACT, STEPS = 3, 2, 5
SPEC = EnvSpec("example", OBS, (-1.0,) * ACT, (1.0,) * ACT, 50, can_terminate=False)
SMALL = CPLConfig(hidden=(8,))
KEY = jax.random.key(3)


@jax.jit
def update(agent, data, key, weights=None):
    """One compiled update."""
    return agent.update(data, key, weights)


def segments(count: int = 6, seed: int = 0, steps: int = STEPS) -> Segment:
    random = np.random.default_rng(seed)
    return Segment(
        jnp.asarray(random.normal(size=(count, steps, OBS)), jnp.float32),
        jnp.asarray(random.uniform(-1, 1, (count, steps, ACT)), jnp.float32),
        jnp.ones((count, steps), bool),
        jnp.asarray(random.normal(size=(count, steps)), jnp.float32),
    )


def batch(pieces: Segment | None = None, label: float = 1.0) -> PreferenceBatch:
    pieces = segments() if pieces is None else pieces
    return PreferenceBatch(
        pieces,
        jnp.array([0, 1, 2]),
        jnp.array([3, 4, 5]),
        jnp.full(3, label),
        jnp.ones(6),
    )


def create(config: CPLConfig = SMALL, moved: float = 0.0) -> CPL:
    """A learner, some way off its reference."""
    agent = CPL.create(KEY, SPEC, config, Normaliser.identity(OBS))
    if not moved:
        return agent
    actor = jax.tree.map(lambda x: x + moved if eqx.is_array(x) else x, agent.actor)
    return eqx.tree_at(lambda a: a.actor, agent, actor)


def arrays(tree: object) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def same(left: object, right: object) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(arrays(left), arrays(right), strict=True))


def test_gradient_by_hand():
    def loss(theta, lambda_):
        winner, loser = -((theta - 1.0) ** 2), -((theta + 1.0) ** 2)
        return preference_loss(winner, loser, 1.0, lambda_)

    for lambda_, value, slope in ((1.0, 0.6931, -2.0), (0.5, 0.9741, -1.8674)):
        found = jax.value_and_grad(loss)(jnp.float32(0.0), lambda_)
        assert [float(x) for x in found] == pytest.approx([value, slope], abs=5e-5)


@pytest.mark.parametrize(
    ("winner", "loser", "lambda_", "best"),
    [(0.2, -0.1, 0.5, 0.5), (1.0, -1.0, 0.25, 5 / 3), (1.0, -1.0, 0.5, 3.0)],
)
def test_the_bias_says_how_far_beyond_the_winner_the_best_policy_lies(winner, loser, lambda_, best):
    """One state, one action each: the minimiser is (a_w - λ a_l) / (1 - λ)."""

    def loss(theta):
        scores = [squared_error(theta[None], jnp.array([a])) for a in (winner, loser)]
        return preference_loss(*scores, 1.0, lambda_)

    theta, optimiser = jnp.float32(0.0), optax.adam(0.02)
    state = optimiser.init(theta)

    def body(carry, _):
        theta, state = carry
        updates, state = optimiser.update(jax.grad(loss)(theta), state)
        return (optax.apply_updates(theta, updates), state), None

    (theta, _), _ = jax.lax.scan(body, (theta, state), None, 6_000)
    assert float(theta) == pytest.approx(best, abs=2e-3)


def test_the_conservative_loss_is_that_of_modes():
    mean = jnp.zeros((1, 1, 4))
    other = mean.at[0, 0, 0].set(jnp.arctanh(0.1))
    spread = jnp.zeros((1, 1, 4))
    assert float(conservative_loss(SMALL, (mean, spread), (mean, spread))[0, 0]) == 0.0
    found = conservative_loss(SMALL, (other, spread), (mean, spread))
    assert float(found[0, 0]) == pytest.approx(0.01 / 4, rel=1e-5)
    kl = dataclasses.replace(SMALL, conservative="kl")
    assert float(conservative_loss(kl, (mean, spread), (mean, spread))[0, 0]) == 0.0
    # KL(N(0, 1) || N(m, 1)) = m^2 / 2, mean over four components
    shifted = conservative_loss(kl, (mean + 0.2, spread), (mean, spread))
    assert float(shifted[0, 0]) == pytest.approx(0.02, rel=1e-4)


def test_a_batch_of_segments_equals_its_pairs_one_by_one():
    pieces, rating = segments(), np.array([1, 3, 2, 3, 5, 1])
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    winner = jnp.array([i if rating[i] >= rating[j] else j for i, j in pairs])
    loser = jnp.array([j if rating[i] >= rating[j] else i for i, j in pairs])
    label = jnp.array([0.5 if rating[i] == rating[j] else 1.0 for i, j in pairs])
    dense = PreferenceBatch(pieces, winner, loser, label, jnp.ones(6))
    agent = create(moved=0.05)
    _, info = update(agent, dense, KEY)
    alone = []
    for w, s, y in zip(winner, loser, label, strict=True):
        one = jax.tree.map(lambda x, w=w, s=s: x[jnp.array([w, s])], pieces)
        own = PreferenceBatch(one, jnp.array([0]), jnp.array([1]), y[None], jnp.ones(2))
        alone.append(float(update(agent, own, KEY)[1].metrics["train/preference_loss"]))
    assert float(info.metrics["train/preference_loss"]) == pytest.approx(np.mean(alone), rel=1e-5)


def test_the_order_of_tied_segments_changes_nothing():
    pieces = segments()
    tied = batch(pieces, 0.5)
    turned = eqx.tree_at(lambda b: (b.winner, b.loser), tied, (tied.loser, tied.winner))
    first, second = (update(create(moved=0.05), b, KEY)[1].metrics for b in (tied, turned))
    for name in ("train/preference_loss", "train/total_loss", "train/grad_norm"):
        assert float(first[name]) == pytest.approx(float(second[name]), rel=1e-6)


def test_masked_steps_change_nothing_bit_for_bit():
    plain = segments(steps=4)
    padding = [(0, 0), (0, 2), (0, 0)]
    padded = Segment(
        jnp.pad(plain.observation, padding, constant_values=3.0),
        jnp.pad(plain.action, padding, constant_values=-0.5),
        jnp.pad(plain.valid, padding[:2]),
        jnp.pad(plain.behaviour_logp, padding[:2]),
    )
    short, long = (update(create(moved=0.05), batch(p), KEY)[1].metrics for p in (plain, padded))
    assert float(short["train/preference_loss"]) == float(long["train/preference_loss"])


def test_pairs_of_weight_zero_change_nothing():
    data = batch()
    weights = jnp.array([1.0, 1.0, 0.0])
    first, second = (
        update(create(moved=0.05), eqx.tree_at(lambda b: b.label, data, label), KEY, weights)[0]
        for label in (jnp.array([1.0, 1.0, 1.0]), jnp.array([1.0, 1.0, 0.5]))
    )
    assert same(first, second)


@pytest.mark.parametrize("term", ["preference_weight", "conservative_weight", "bc_coeff"])
def test_every_term_has_a_gradient_and_none_at_weight_zero(term):
    off = {"preference_weight": 0.0, "conservative_weight": 0.0, "bc_coeff": 0.0}
    agent = create(dataclasses.replace(SMALL, **off | {term: 1.0}), moved=0.05)
    assert float(update(agent, batch(), KEY)[1].metrics["train/grad_norm"]) > 1e-6
    idle = create(dataclasses.replace(SMALL, **off), moved=0.05)
    after, info = update(idle, batch(), KEY)
    assert float(info.metrics["train/grad_norm"]) == 0.0
    assert same(after.actor, idle.actor)


CHANGES = {
    "activation": {"activation": "gelu"},
    "learning_rate": {"learning_rate": 3e-3},
    "warmup_steps": {"warmup_steps": 10},
    "alpha": {"alpha": 0.7},
    "alpha_scale": {"alpha_scale": "sum"},
    "lambda_": {"lambda_": 0.9},
    "gamma": {"gamma": 0.8},
    "preference_weight": {"preference_weight": 0.1},
    "conservative_weight": {"conservative_weight": 0.9},
    "conservative": {"conservative": "kl"},
    "bc_coeff": {"bc_coeff": 0.3},
    "likelihood": {"likelihood": "clipped_gaussian", "anchor": "reference"},
    "anchor": {"anchor": "behaviour"},
    "dropout": {"dropout": 0.3},
    "max_grad_norm": {"max_grad_norm": 1e-3},
    "reduction": {"reduction": "cvar", "cvar_alpha": 0.4},
    "hidden": {"hidden": (6,)},
}
ELSEWHERE = {"batch_size", "pairs", "on_nonfinite", "cvar_alpha", "std"}
"""Read by what draws batches, or with another field; tested there."""


def test_every_field_is_felt():
    """A setting that nothing reads, as λ and the step size once were, changes no parameter."""
    fields = {field.name for field in dataclasses.fields(CPLConfig)}
    assert fields == set(CHANGES) | ELSEWHERE

    # Two steps: Adam's first one is of one length whatever the gradient's is.
    def trained(config: CPLConfig) -> CPL:
        agent = create(config, moved=0.05)
        for seed in range(2):
            agent, _ = update(agent, batch(segments(seed=seed)), KEY)
        return agent

    plain = trained(SMALL)
    for name, change in CHANGES.items():
        other = trained(dataclasses.replace(SMALL, **change))
        different = [
            a.shape != b.shape or not np.array_equal(a, b)
            for a, b in zip(arrays(plain.actor), arrays(other.actor), strict=True)
        ]
        assert any(different), name
    narrow, wide = (
        trained(dataclasses.replace(SMALL, **CHANGES["likelihood"], std=s)) for s in (0.2, 0.5)
    )
    assert not same(narrow.actor, wide.actor)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lambda_": 0.0}, r"lambda_ lies in \(0, 1\]: got 0.0"),
        ({"lambda_": 1.5}, r"lambda_ lies in \(0, 1\]: got 1.5"),
        ({"likelihood": "tanh_gaussian"}, "lambda_ < 1 needs likelihoods of which 0 is the best"),
        ({"conservative": "kl", "likelihood": "clipped_gaussian", "lambda_": 1.0}, "use 'mse'"),
        ({"alpha": 0.0}, "alpha is above 0"),
        ({"bc_coeff": -1.0}, "bc_coeff is at least 0"),
        ({"dropout": 1.0}, "dropout lies in"),
        ({"gamma": 0.0}, "gamma lies in"),
    ],
)
def test_settings_that_cannot_work_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(SMALL, **change)


def test_long_gradients_are_cut_and_the_raw_norm_is_told():
    loud = dataclasses.replace(SMALL, preference_weight=1e6)
    agent = create(loud, moved=0.05)
    after, info = update(agent, batch(), KEY)
    assert float(info.metrics["train/grad_norm"]) > 1e3
    assert float(info.metrics["train/grad_clipped_share"]) == 1.0
    moments = optax.tree.norm(after.optimiser_state[1][0].mu)  # 0.1 of the first gradient
    assert float(moments) <= 0.1 * loud.max_grad_norm * 1.001


def poisoned() -> PreferenceBatch:
    return eqx.tree_at(lambda b: b.segments.action, batch(), replace_fn=lambda a: a * jnp.nan)


def test_what_is_not_finite_shows_in_the_metrics_that_stop_a_run():
    _, info = update(create(), poisoned(), KEY)
    assert np.isnan(info.metrics["train/total_loss"])
    assert float(info.metrics["train/nonfinite"]) == 1.0


def test_updates_that_are_not_finite_can_be_left_out_ten_times():
    agent = create(dataclasses.replace(SMALL, on_nonfinite="skip"), moved=0.05)
    before = agent.actor
    for _ in range(10):
        agent, info = update(agent, poisoned(), KEY)
        assert np.isfinite(info.metrics["train/total_loss"])
        assert float(info.metrics["train/nonfinite"]) == 1.0
    assert same(agent.actor, before)
    agent, info = update(agent, poisoned(), KEY)
    assert np.isnan(info.metrics["train/total_loss"])
    healthy, _ = update(agent, batch(), KEY)
    assert not same(healthy.actor, before)


def test_one_choice_of_dropped_units_holds_along_a_segment():
    agent = create(dataclasses.replace(SMALL, dropout=0.5))
    still = eqx.tree_at(
        lambda s: s.observation,
        segments(),
        replace_fn=lambda o: jnp.broadcast_to(o[:1, :1], o.shape),
    )
    mean, _ = agent._heads(agent.actor, still, KEY)
    assert np.allclose(mean, np.broadcast_to(mean[:, :1], mean.shape), atol=1e-6)
    assert not np.allclose(mean[0], mean[1], atol=1e-4)


def test_a_million_actions_at_the_bounds_give_finite_losses():
    random = np.random.default_rng(0)
    pieces = Segment(
        jnp.asarray(random.normal(size=(260, 100, 3)), jnp.float32),
        jnp.asarray(random.choice([-1.0, 1.0], (260, 100, 39)), jnp.float32),
        jnp.ones((260, 100), bool),
        jnp.zeros((260, 100)),
    )
    spec = EnvSpec("piano", 3, (-1.0,) * 39, (1.0,) * 39, 100, can_terminate=True)
    data = PreferenceBatch(
        pieces, jnp.arange(130), jnp.arange(130, 260), jnp.ones(130), jnp.ones(260)
    )
    for likelihood in ("squared_error", "tanh_gaussian"):
        config = CPLConfig(hidden=(8,), lambda_=1.0, likelihood=likelihood)
        agent = CPL.create(KEY, spec, config, Normaliser.identity(3))
        after, info = update(agent, data, KEY)
        assert float(info.metrics["train/nonfinite"]) == 0.0
        assert all(np.isfinite(x).all() for x in arrays(after.actor))


def test_it_learns_separable_judgements_and_the_judged_out_ones():
    """λ = 1: below 0.5 in 50 steps from ln 2, and right on pairs it never saw."""
    random = np.random.default_rng(1)
    good = np.arange(80) % 2 == 0
    action = np.where(good[:, None, None], 0.5, -0.5) + 0.2 * random.normal(size=(80, STEPS, ACT))
    pieces = Segment(
        jnp.asarray(random.normal(size=(80, STEPS, OBS)), jnp.float32),
        jnp.asarray(np.clip(action, -1, 1), jnp.float32),
        jnp.ones((80, STEPS), bool),
        jnp.zeros((80, STEPS)),
    )
    config = CPLConfig(hidden=(32,), lambda_=1.0, learning_rate=3e-3)
    agent = CPL.create(KEY, SPEC, config, Normaliser.identity(OBS))
    winner, loser = jnp.arange(0, 60, 2), jnp.arange(1, 60, 2)
    data = PreferenceBatch(pieces, winner, loser, jnp.ones(30), jnp.ones(80))
    _, first = update(agent, data, KEY)
    assert float(first.metrics["train/preference_loss"]) > 0.6
    for step in range(50):
        agent, info = update(agent, data, jax.random.key(step))
    assert float(info.metrics["train/preference_loss"]) < 0.5
    held = PreferenceBatch(
        pieces, jnp.arange(60, 80, 2), jnp.arange(61, 80, 2), jnp.ones(10), jnp.ones(80)
    )
    assert float(agent.judge(held)["heldout/accuracy"]) > 0.9


def test_scores_are_those_of_the_policys_modes():
    agent = create(moved=0.05)
    pieces = segments()
    mean, _ = jax.vmap(jax.vmap(agent.actor))(pieces.observation)
    expected = segment_score(
        squared_error(jnp.tanh(mean), pieces.action), pieces.valid, 0.1, 1.0, ACT
    )
    _, info = update(agent, batch(pieces), KEY)
    assert float(info.metrics["preferred_segment_adv"]) == pytest.approx(
        float(jnp.mean(expected[:3])), rel=1e-5
    )
    assert mean_over_valid(jnp.ones(pieces.valid.shape), pieces) == 1.0


def test_it_begins_with_the_policy_that_it_is_given():
    actor = TanhGaussian(OBS, ACT, (8,), jax.random.key(9))
    agent = CPL.create(KEY, SPEC, SMALL, Normaliser.identity(OBS), actor)
    assert same(agent.actor, actor)
    assert same(agent.reference, actor)
    after, _ = update(agent, batch(), KEY)
    assert same(after.reference, actor)
    assert not same(after.actor, actor)
