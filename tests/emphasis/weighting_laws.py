"""The contract of a weighting, as functions that raise AssertionError where it is broken.

A law receives an ``Example`` and nothing else, so that it judges anything with ``ratio`` and
``__call__``: the registered weightings, and the deliberately broken ones that prove the laws bite.
A new weighting enters the battery by one line in ``EXAMPLES``; without it the battery fails.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from steelyard.emphasis import (
    WEIGHTINGS,
    Balanced,
    ChiSquare,
    Drop,
    MeanTail,
    Proportional,
    Rank,
    SmoothTail,
    Softmax,
    Tail,
    Tilted,
    Uniform,
)

DRAWS, ITEMS = 6, 11


@dataclasses.dataclass(frozen=True)
class Example:
    """A weighting with emphasis on, its settings of zero sharpness, and the scores it accepts."""

    weighting: Any
    flat: tuple[Any, ...]
    nonnegative: bool = False


LABELS = jnp.asarray(np.random.default_rng(5).integers(-3, 3, ITEMS))

EXAMPLES: dict[str, Callable[[], tuple[Example, ...]]] = {
    "uniform": lambda: (Example(Uniform(), (Uniform(),)),),
    "proportional": lambda: (
        Example(Proportional(0.8, 0.1), (Proportional(0.0, 0.1), Proportional(0.8, 1.0)), True),
    ),
    "rank": lambda: (Example(Rank(0.7, 0.05), (Rank(0.0, 0.05), Rank(0.7, 1.0))),),
    "softmax": lambda: (
        Example(Softmax(temperature=0.7), (Softmax(temperature=float("inf")),)),
        Example(Softmax(ess=0.5), (Softmax(ess=1.0),)),
    ),
    "tail": lambda: (
        Example(Tail(0.3), (Tail(1.0),)),
        Example(Tail(0.01, min_k=2), (Tail(1.0, min_k=2), Tail(0.01, min_k=ITEMS))),
    ),
    "balanced": lambda: (Example(Balanced(LABELS, 0.2, 1.5), (Balanced(LABELS, 1.0),)),),
    "drop": lambda: (Example(Drop(0.6), (Drop(0.0),)),),
    "mean_tail": lambda: (Example(MeanTail(0.3, 0.4), (MeanTail(1.0, 0.4), MeanTail(0.3, 1.0))),),
    "smooth_tail": lambda: (
        Example(SmoothTail(0.3, 0.5), (SmoothTail(1.0, 0.5), SmoothTail(0.3, float("inf")))),
    ),
    "tilted": lambda: (Example(Tilted(1.5), (Tilted(0.0),)),),
    "chi_square": lambda: (Example(ChiSquare(0.8), (ChiSquare(0.0),)),),
}


def examples_of(name: str) -> tuple[Example, ...]:
    """Return the examples of a registered weighting; none is a failure, not a skip."""
    assert name in EXAMPLES, f"weighting {name!r} is registered but has no entry in EXAMPLES"
    examples = EXAMPLES[name]()
    assert examples, f"weighting {name!r} has an empty entry in EXAMPLES"
    assert all(type(example.weighting) is WEIGHTINGS[name] for example in examples)
    assert all(example.flat for example in examples), f"{name!r} has no setting of zero sharpness"
    return examples


def _data(nonnegative):
    """Scores with ties, random masks and random bases, ``[draw, item]``; rows 0, 1 are whole."""
    rng = np.random.default_rng(3)
    scores = np.round(rng.normal(size=(DRAWS, ITEMS)), 1).astype(np.float32)
    valid = rng.random((DRAWS, ITEMS)) < 0.7
    valid[:2], valid[2], valid[2, 4] = True, False, True
    base = np.where(valid, rng.random((DRAWS, ITEMS)) + 0.05, 0)
    base = (base / base.sum(1, keepdims=True)).astype(np.float32)
    scores = np.abs(scores) if nonnegative else scores
    return jnp.asarray(scores), jnp.asarray(valid), jnp.asarray(base)


def _traced(weighting):
    """Return the weighting with its options as arrays, so that each class compiles once."""
    return jax.tree.map(jnp.asarray, weighting)


@eqx.filter_jit
def _all(weighting, scores, valid, base):
    def one(scores, valid, base):
        answers = (weighting.ratio(scores, valid, base), weighting(scores, valid, base))
        return (*answers, weighting.ratio(scores, valid), weighting(scores, valid))

    return jax.vmap(one)(scores, valid, base)


def evaluate(weighting, scores, valid, base):
    """Return ``[(ratio, p, base), …]`` with the random base and with none, as numpy."""
    r, p, r0, p0 = map(np.asarray, _all(_traced(weighting), scores, valid, base))
    uniform = np.asarray(valid, np.float32) / np.asarray(valid).sum(1, keepdims=True)
    return [(r, p, np.asarray(base)), (r0, p0, uniform.astype(np.float32))]


def non_negative(example):
    for ratio, p, _ in evaluate(example.weighting, *_data(example.nonnegative)):
        assert (ratio >= 0).all()
        assert (p >= 0).all()


def exactly_zero_outside_valid(example):
    scores, valid, base = _data(example.nonnegative)
    for ratio, p, _ in evaluate(example.weighting, scores, valid, base):
        assert (ratio[~np.asarray(valid)] == 0).all()
        assert (p[~np.asarray(valid)] == 0).all()


def sums_to_one(example):
    for ratio, p, base in evaluate(example.weighting, *_data(example.nonnegative)):
        np.testing.assert_allclose(p.sum(1), 1, atol=3e-6)
        np.testing.assert_allclose((base * ratio).sum(1), 1, atol=3e-6)


def probabilities_are_base_times_ratio(example):
    for ratio, p, base in evaluate(example.weighting, *_data(example.nonnegative)):
        np.testing.assert_allclose(p, base * ratio, rtol=1e-6)


def permutation_equivariant(example):
    data = _data(example.nonnegative)
    order = np.random.default_rng(7).permutation(ITEMS)
    # Fields with one entry an item (labels) move with the items.
    moved = jax.tree.map(
        lambda leaf: leaf[order] if jnp.shape(leaf)[:1] == (ITEMS,) else leaf, example.weighting
    )
    plain = evaluate(example.weighting, *data)
    permuted = evaluate(moved, *(x[:, order] for x in data))
    for (ratio, p, _), (moved_ratio, moved_p, _) in zip(plain, permuted, strict=True):
        np.testing.assert_allclose(moved_ratio, ratio[:, order], rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(moved_p, p[:, order], rtol=2e-5, atol=1e-6)


def equal_scores_give_the_base_bit_for_bit(example):
    _, valid, base = _data(example.nonnegative)
    alike = jax.tree.map(
        lambda leaf: jnp.full_like(leaf, 2) if jnp.shape(leaf)[:1] == (ITEMS,) else leaf,
        example.weighting,
    )
    for value in (0.0, 0.3, 1e-30, 1e30) + (() if example.nonnegative else (-0.7,)):
        for ratio, p, b in evaluate(alike, jnp.full(valid.shape, value), valid, base):
            assert (ratio[np.asarray(valid)] == 1.0).all()
            assert (p == b).all()


def zero_sharpness_gives_the_base_bit_for_bit(example):
    scores, valid, base = _data(example.nonnegative)
    for flat in example.flat:
        for ratio, p, b in evaluate(flat, scores, valid, base):
            assert (ratio[np.asarray(valid)] == 1.0).all()
            assert (p == b).all()


def masked_scores_change_nothing(example):
    scores, valid, base = _data(example.nonnegative)
    plain = evaluate(example.weighting, scores, valid, base)
    for poison in (jnp.nan, jnp.inf, -jnp.inf, -1e30):
        poisoned = evaluate(example.weighting, jnp.where(valid, scores, poison), valid, base)
        for (ratio, p, _), (other_ratio, other_p, _) in zip(plain, poisoned, strict=True):
            assert (ratio == other_ratio).all()
            assert (p == other_p).all()


def extreme_scores_stay_on_the_simplex(example):
    _, valid, base = _data(example.nonnegative)
    rng = np.random.default_rng(11)
    scores = 10.0 ** rng.uniform(-30, 30, valid.shape)
    if not example.nonnegative:
        scores *= rng.choice([-1, 1], valid.shape)
    for ratio, p, _ in evaluate(example.weighting, jnp.asarray(scores, jnp.float32), valid, base):
        assert np.isfinite(ratio).all()
        assert (p >= 0).all()
        np.testing.assert_allclose(p.sum(1), 1, atol=3e-6)


@eqx.filter_jit
def _gradient(weighting, scores, base):
    tilt = jnp.arange(1.0, ITEMS + 1)
    return jax.grad(lambda s, b: jnp.sum(tilt * weighting(s, None, b)), argnums=(0, 1))(
        scores, base
    )


def no_gradient_flows(example):
    scores, _, base = _data(example.nonnegative)
    for gradient in _gradient(_traced(example.weighting), scores[0], base[0]):
        assert (np.asarray(gradient) == 0).all()


def jit_and_vmap_equal_eager(example):
    scores, valid, base = _data(example.nonnegative)
    (ratio, p, _), (plain_ratio, plain_p, _) = evaluate(example.weighting, scores, valid, base)
    for row in (0, 3):
        given = (scores[row], valid[row])
        for compiled, eager in (
            (ratio[row], example.weighting.ratio(*given, base[row])),
            (p[row], example.weighting(*given, base[row])),
            (plain_ratio[row], example.weighting.ratio(*given)),
            (plain_p[row], example.weighting(*given)),
        ):
            np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-6)


LAWS: dict[str, Callable[[Example], None]] = {
    law.__name__: law
    for law in (
        non_negative,
        exactly_zero_outside_valid,
        sums_to_one,
        probabilities_are_base_times_ratio,
        permutation_equivariant,
        equal_scores_give_the_base_bit_for_bit,
        zero_sharpness_gives_the_base_bit_for_bit,
        masked_scores_change_nothing,
        extreme_scores_stay_on_the_simplex,
        no_gradient_flows,
        jit_and_vmap_equal_eager,
    )
}
