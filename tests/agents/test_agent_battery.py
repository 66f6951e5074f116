"""Every learner keeps every law, and every law rejects a learner that breaks it."""

import dataclasses
import itertools

import agent_laws
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from agent_laws import ACT, EXAMPLES, LAWS, OBS, Example, example_of, registered, transitions

from steelyard.agents.base import loss_reduction
from steelyard.types import RewardFreeTransition, UpdateInfo


@pytest.mark.parametrize("learner", registered())
@pytest.mark.parametrize("law", LAWS)
def test_every_learner_keeps_the_law(law, learner):
    LAWS[law](example_of(learner))


def test_every_example_belongs_to_a_learner_of_the_library():
    assert set(EXAMPLES) == set(registered())


def test_a_learner_without_example_fails():
    class Newcomer(eqx.Module):
        pass

    with pytest.raises(AssertionError, match="learner Newcomer has no entry"):
        agent_laws.example_of(Newcomer)


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    reduction: str = "mean"
    cvar_alpha: float = 1.0


class Toy(eqx.Module):
    """A linear regression that keeps every law; its children each break one."""

    weight: jax.Array
    config: ToyConfig = eqx.field(static=True)

    def act(self, observation, key, deterministic):
        noise = 0.0 if deterministic else jax.random.normal(key, (observation.shape[0], ACT))
        return jnp.tanh(jnp.clip(observation, -10, 10) @ self.weight + noise)

    def losses(self, weight, batch):
        return jnp.mean(
            (jnp.tanh(jnp.clip(batch.observation, -10, 10) @ weight) - batch.action) ** 2, axis=1
        )

    def update(self, batch, key, weights=None):
        def objective(weight):
            losses = self.losses(weight, batch)
            return loss_reduction(self.config)(losses, weights), losses

        (value, losses), grad = jax.value_and_grad(objective, has_aux=True)(self.weight)
        agent = type(self)(self.weight - 0.1 * grad, self.config)
        return agent, UpdateInfo({"loss": value}, {"loss": losses})


class Mutable(Toy):
    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)


class Hidden(Toy):
    """Learns more at every call, whatever its arguments."""

    calls = itertools.count(1)

    def update(self, batch, key, weights=None):
        agent, info = super().update(batch, key, weights)
        return type(self)(agent.weight * 0.9 ** next(self.calls), self.config), info


class Growing(Toy):
    def update(self, batch, key, weights=None):
        agent, info = super().update(batch, key, weights)
        return type(self)(jnp.concatenate([agent.weight] * 2), self.config), info


class Reporting(Toy):
    """Metrics or items that are not what they should be."""

    metric = staticmethod(lambda value: value)
    item = staticmethod(lambda losses: losses)

    def update(self, batch, key, weights=None):
        agent, info = super().update(batch, key, weights)
        items = {"loss": self.item(info.items["loss"])}
        return agent, UpdateInfo({"loss": self.metric(info.metrics["loss"])}, items)


class NotFinite(Reporting):
    metric = staticmethod(lambda value: value / 0.0)


class Averaged(Reporting):
    item = staticmethod(lambda losses: jnp.full_like(losses, jnp.mean(losses)))


class Loud(Toy):
    def act(self, observation, key, deterministic):
        return 3.0 * super().act(observation, key, deterministic)


class Restless(Toy):
    def act(self, observation, key, deterministic):
        return super().act(observation, key, deterministic=False)


class TwoFaced(Toy):
    """Learns twice as fast where it is not compiled."""

    def update(self, batch, key, weights=None):
        agent, info = super().update(batch, key, weights)
        factor = 1.0 if isinstance(self.weight, jax.core.Tracer) else 0.5
        return type(self)(agent.weight * factor, self.config), info


class Gossip(Toy):
    """Every run learns from the sum over all runs that train beside it."""

    def update(self, batch, key, weights=None):
        agent, info = super().update(batch, key, weights)
        return type(self)(across_runs(agent.weight), self.config), info


@jax.custom_batching.custom_vmap
def across_runs(weight):
    return weight


@across_runs.def_vmap
def _(axis_size, in_batched, weight):
    return jnp.broadcast_to(jnp.mean(weight, axis=0, keepdims=True), weight.shape), in_batched[0]


class Fragile(Toy):
    def losses(self, weight, batch):
        return jnp.mean((jnp.exp(batch.observation @ weight) - batch.action) ** 2, axis=1)


class Deaf(Toy):
    """Ignores its weights."""

    def update(self, batch, key, weights=None):
        return super().update(batch, key, None)


class Skewed(Toy):
    """Its tail is not the library's."""

    def update(self, batch, key, weights=None):
        agent, info = super().update(batch, key, weights)
        shift = 1e-6 if self.config.reduction == "cvar" else 0.0
        return type(self)(agent.weight + shift, self.config), info


def toy(kind, **fixed):
    def create(key, **changes):
        weight = fixed.get("weight")
        weight = jax.random.normal(key, (OBS, ACT)) if weight is None else weight
        return kind(weight, ToyConfig(**changes))

    return Example(create, transitions(0, 5, RewardFreeTransition), {"loss": 5}, weights=5)


PLANTED = {
    "is_immutable": lambda: toy(Mutable),
    "create_depends_on_its_key_alone": lambda: toy(Toy, weight=jnp.ones((OBS, ACT))),
    "update_depends_on_its_arguments_alone": lambda: toy(Hidden),
    "update_keeps_structure": lambda: toy(Growing),
    "metrics_are_finite_scalars": lambda: toy(NotFinite),
    "items_are_per_item": lambda: toy(Averaged),
    "actions_are_in_bounds": lambda: toy(Loud),
    "only_stochastic_actions_use_the_key": lambda: toy(Restless),
    "jit_equals_eager": lambda: toy(TwoFaced),
    "seeds_together_equal_each_alone": lambda: toy(Gossip),
    "extreme_observations_do_no_harm": lambda: toy(Fragile),
    "a_row_of_weight_zero_moves_nothing": lambda: toy(Deaf),
    "the_tail_of_everything_is_the_mean": lambda: toy(Skewed),
}


def test_the_battery_accepts_the_toy_that_the_violations_are_made_from():
    example = toy(Toy)
    for law in LAWS.values():
        law(example)


@pytest.mark.parametrize("law", LAWS)
def test_the_battery_rejects_a_planted_violation(law):
    example = PLANTED[law]()
    with pytest.raises(AssertionError):
        LAWS[law](example)
