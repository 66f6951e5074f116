"""Every registered weighting keeps every law, and every law rejects a weighting that breaks it."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
import weighting_laws
from weighting_laws import EXAMPLES, LAWS, Example, examples_of

from steelyard.emphasis import WEIGHTINGS, Proportional, Softmax, Uniform


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("law", LAWS)
def test_every_registered_weighting_keeps_the_law(law, name):
    for example in examples_of(name):
        LAWS[law](example)


def test_every_example_belongs_to_a_registered_weighting():
    assert set(EXAMPLES) == set(WEIGHTINGS)


def test_a_registered_weighting_without_example_fails(monkeypatch):
    monkeypatch.setattr(weighting_laws, "WEIGHTINGS", {**WEIGHTINGS, "newcomer": Uniform})
    with pytest.raises(AssertionError, match="'newcomer' is registered but has no entry"):
        examples_of("newcomer")


class Broken(eqx.Module):
    """A good weighting whose ratio is spoilt afterwards."""

    spoil: Callable = eqx.field(static=True)
    inner: eqx.Module = Softmax(temperature=0.7)

    def ratio(self, scores, valid=None, base=None):
        return self.spoil(self.inner.ratio(scores, valid, base), scores, valid)

    def __call__(self, scores, valid=None, base=None):
        if base is None:
            count = jnp.ones_like(scores) if valid is None else valid.astype(jnp.float32)
            base = count / count.sum()
        return jax.lax.stop_gradient(base) * self.ratio(scores, valid, base)


class BrokenProduct(Broken):
    """Probabilities that are not base times ratio."""

    def __call__(self, scores, valid=None, base=None):
        return self.inner(scores, valid)


class Concrete(Broken):
    """A weighting that looks at a value, which no tracer has."""

    def ratio(self, scores, valid=None, base=None):
        return self.inner.ratio(scores / float(scores[0] + 9), valid, base)


class Leaky(Broken):
    """A softmax without the stop of the gradient."""

    def ratio(self, scores, valid=None, base=None):
        weights = jnp.exp(scores)
        return weights / jnp.sum(weights * (base if base is not None else 1 / weights.size))


class RawBase(Broken):
    """Counts masked items in its normalisation."""

    def ratio(self, scores, valid=None, base=None):
        return jnp.where(valid, self.inner.ratio(scores, None, None), 0.0)


def plain(ratio, scores, valid):
    return ratio


def by_position(ratio, scores, valid):
    tilt = jnp.where(jnp.arange(ratio.size) % 2 == 0, 1.1, 0.9)
    return ratio * tilt


def outside(ratio, scores, valid):
    return ratio if valid is None else jnp.where(valid, ratio, 1e-9)


def differs_when_traced(ratio, scores, valid):
    return ratio * (1.01 if isinstance(ratio, jax.core.Tracer) else 1.0)


def almost_one(ratio, scores, valid):
    return ratio * jnp.float32(1 - 1e-6)


def reads_masked(ratio, scores, valid):
    return jnp.where(jnp.any(jnp.isnan(scores)), 1.5 * ratio, ratio)


def overflows(ratio, scores, valid):
    return ratio + 0 * jnp.exp(jnp.abs(scores).max())


FLAT = Softmax(temperature=float("inf"))
PLANTED = {
    "non_negative": Example(Broken(lambda r, s, v: r - 0.7), (FLAT,)),
    "exactly_zero_outside_valid": Example(Broken(outside), (FLAT,)),
    "sums_to_one": Example(Broken(lambda r, s, v: 1.001 * r), (FLAT,)),
    "probabilities_are_base_times_ratio": Example(BrokenProduct(plain), (FLAT,)),
    "permutation_equivariant": Example(Broken(by_position), (FLAT,)),
    "equal_scores_give_the_base_bit_for_bit": Example(Broken(almost_one), (FLAT,)),
    "zero_sharpness_gives_the_base_bit_for_bit": Example(
        Softmax(temperature=0.7), (FLAT, Broken(almost_one, FLAT))
    ),
    "masked_scores_change_nothing": Example(Broken(reads_masked), (FLAT,)),
    "extreme_scores_stay_on_the_simplex": Example(Broken(overflows), (FLAT,)),
    "no_gradient_flows": Example(Leaky(plain), (FLAT,)),
    "jit_and_vmap_equal_eager": Example(Broken(differs_when_traced), (FLAT,)),
}


def test_every_law_has_a_planted_violation():
    assert set(PLANTED) == set(LAWS)


@pytest.mark.parametrize("law", LAWS)
def test_the_battery_rejects_a_planted_violation(law):
    with pytest.raises(AssertionError):
        LAWS[law](PLANTED[law])


@pytest.mark.parametrize("law", LAWS)
def test_the_unspoilt_control_keeps_the_law(law):
    LAWS[law](Example(Broken(plain), (Broken(plain, FLAT),)))


def test_the_battery_rejects_a_sum_over_masked_items():
    with pytest.raises(AssertionError):
        LAWS["sums_to_one"](Example(RawBase(plain), (FLAT,)))


def test_the_battery_rejects_a_weighting_that_cannot_be_traced():
    with pytest.raises(jax.errors.ConcretizationTypeError):
        LAWS["jit_and_vmap_equal_eager"](Example(Concrete(plain), (FLAT,)))


def test_signed_scores_under_jit_give_nan_not_a_wrong_answer():
    scores = jnp.array([1.0, -1.0, 2.0])
    assert jnp.isnan(jax.jit(Proportional())(scores)).all()
    assert jnp.isnan(jax.jit(Softmax(temperature=1.0))(scores.at[0].set(jnp.nan))).all()
