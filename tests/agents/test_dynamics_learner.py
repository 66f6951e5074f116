"""The dynamics learner: what its arms share bit for bit, what it reports, what it refuses."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dynamics_examples import (
    KEY,
    batch_of,
    learner_of,
    leaves_of,
    same_bits,
    small,
    windows,
    with_loss,
)

from steelyard.agents.dynamics import (
    Dynamics,
    DynamicsConfig,
    FrictionConfig,
    LossConfig,
    PoseConfig,
    RolloutConfig,
    RolloutCvarConfig,
)
from steelyard.agents.dynamics.learner import trainable
from steelyard.agents.dynamics.losses import scored, unscored

GROUPS, EACH, STEPS = 64, 2, 20
BASE = with_loss(
    DynamicsConfig(model=small(), groups=GROUPS, windows_per_group=EACH), rollout_mse={"horizon": 2}
)
PER_STEP = [batch_of(windows(GROUPS * EACH, 2, seed=i), EACH) for i in range(STEPS)]
BATCHES = jax.tree.map(lambda *x: np.stack(x), *PER_STEP)
KEYS = jax.random.split(KEY, STEPS)


@jax.jit
def _train(agent, batches, keys):
    def body(agent, given):
        agent, info = agent.update(*given)
        seen = (agent.model.residual_net.biases[-1], agent.average.residual_net.biases[-1])
        return agent, (info, seen)

    return jax.lax.scan(body, agent, (batches, keys))


def train(config=BASE, batches=BATCHES, agent=None):
    """The learner after 20 updates, and on the host what each of them reported."""
    agent = made(config) if agent is None else agent
    agent, (info, seen) = _train(agent, batches, KEYS)
    return agent, jax.tree.map(np.asarray, info), seen


@functools.cache
def made(config) -> Dynamics:
    return learner_of(config, trajectories=GROUPS, total_steps=STEPS)


@functools.cache
def trained(**changes):
    return train(with_loss(BASE, **{name: dict(value) for name, value in changes.items()}))


def tail(**changes) -> dict:
    return {"rollout_cvar": tuple(({"enabled": True} | changes).items())}


def learned(agent: Dynamics):
    return agent.model, agent.average, agent.optimiser_state


# -- arms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"scale_match": False, "warmup": 0.0, "anneal_end": 0.0}], ids=["late", "now"]
)
def test_alpha_one_is_bit_equal_to_mean(changes):
    (mean, *_), (everything, *_) = trained(), trained(**tail(alpha=1.0, **changes))
    assert same_bits(learned(mean), learned(everything))
    assert not same_bits(learned(mean), learned(made(BASE)))
    sharp, *_ = trained(**tail(alpha=0.2, **changes))
    assert not same_bits(learned(mean), learned(sharp))


def test_the_mean_arm_is_gradient_descent_on_the_plain_mean():
    @jax.jit
    def plain(agent, batches, keys):
        schedule = optax.cosine_decay_schedule(1e-3, STEPS, 1e-3)
        optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
        params, rest = eqx.partition(agent.model, trainable(agent.model))

        def body(carry, given):
            params, state = carry
            batch, key = given

            def objective(params):
                keys = jax.random.split(key, GROUPS * EACH)
                losses = agent.losses(eqx.combine(params, rest), batch.window, keys)
                return jnp.mean(scored(losses, agent.settings)) + jnp.mean(
                    unscored(losses, agent.settings)
                )

            updates, state = optimiser.update(jax.grad(objective)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(body, (params, optimiser.init(params)), (batches, keys))
        return eqx.combine(params, rest)

    expected = plain(made(BASE), BATCHES, KEYS)
    for left, right in zip(leaves_of(trained()[0].model), leaves_of(expected), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)


def test_only_the_networks_of_a_structured_model_learn():
    before, (after, *_) = made(BASE), trained()
    for name in ("plant", "scales"):
        for model in (after.model, after.average):
            assert same_bits(getattr(before.model, name), getattr(model, name))
    for name in ("steer_net", "drive_net", "residual_net"):
        assert not same_bits(getattr(before.model, name), getattr(after.model, name))


def test_training_on_theta_leads_elsewhere():
    parts = {"pose_mse": (("components", ("x", "y", "theta")), ("weight", 0.05))}
    assert not same_bits(learned(trained()[0]), learned(trained(**parts)[0]))


def test_scale_match_keeps_term_size():
    now = {"alpha": 0.2, "warmup": 0.0, "anneal_end": 0.0}
    # One batch again and again, without noise.
    still = jax.tree.map(lambda x: np.stack([x] * STEPS), PER_STEP[0])
    quiet = with_loss(BASE, input_noise=0.0, rollout_cvar={"enabled": True, **now})

    def report(config):
        return train(config, still)[1].metrics

    matched = report(quiet)
    free = report(with_loss(quiet, rollout_cvar={"scale_match": False}))
    assert (free["scale"] == 1.0).all()
    assert (free["emphasised"] > 1.5 * free["rollout_mean"]).all()
    # The first update is at the same parameters; later ones nearly, as is the running average.
    ratio = matched["scale"] * matched["emphasised"] / matched["rollout_mean"]
    np.testing.assert_allclose(ratio[0], 1.0, rtol=1e-5)
    np.testing.assert_allclose(ratio, 1.0, rtol=0.02)
    saved = free["train_loss"][0] - matched["train_loss"][0]
    assert saved == pytest.approx(free["emphasised"][0] - free["rollout_mean"][0], rel=1e-4)


def test_train_rollout_same_meaning_in_both_arms():
    now = {"alpha": 0.2, "warmup": 0.0, "anneal_end": 0.0}
    mean, sharp = trained()[1].metrics, trained(**tail(**now))[1].metrics
    for name in ("train_rollout", "train_pose", "train_one_step", "rollout_mean", "rollout_cvar"):
        assert mean[name][0] == sharp[name][0], name
    assert (mean["rollout_cvar"] > 1.3 * mean["rollout_mean"]).all()
    assert (mean["emphasised"] == mean["rollout_mean"]).all()
    np.testing.assert_allclose(sharp["emphasised"], sharp["rollout_cvar"], rtol=1e-6)
    # The score has its factors, the terms have not.
    expected = 0.5 * mean["train_rollout"] + 0.05 * mean["train_pose"]
    np.testing.assert_allclose(mean["rollout_mean"], expected, rtol=1e-5)
    expected = mean["rollout_mean"] + mean["train_one_step"]
    np.testing.assert_allclose(mean["train_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize(("apply_to", "terms"), [("rollout", (0.5, 0)), ("pose", (0, 0.05))])
def test_only_the_named_terms_are_in_the_score(apply_to, terms):
    metrics = trained(**tail(apply_to=apply_to))[1].metrics
    rollout, pose = (metrics[f"train_{name}"] for name in ("rollout", "pose"))
    np.testing.assert_allclose(
        metrics["rollout_mean"], terms[0] * rollout + terms[1] * pose, rtol=1e-5
    )
    same, everywhere = trained(**tail(alpha=0.2, apply_to=apply_to)), trained(**tail(alpha=0.2))
    assert not same_bits(learned(same[0]), learned(everywhere[0]))


def test_the_factor_scales_the_score_and_nothing_else():
    metrics, tripled = trained()[1].metrics, train(with_loss(BASE, factor=3.0))[1].metrics
    assert tripled["rollout_mean"][0] == pytest.approx(3 * metrics["rollout_mean"][0], rel=1e-6)
    for name in ("train_rollout", "train_pose", "train_one_step"):
        assert tripled[name][0] == metrics[name][0]


def test_alpha_anneals_from_everything_to_the_tail():
    metrics = trained(**tail(alpha=0.2))[1].metrics
    assert (metrics["alpha"] == np.float32(0.2)).all()
    alpha = metrics["alpha_now"]
    assert (alpha[:6] == 1.0).all()
    # Geometric between 25 and 70 per cent of the steps.
    np.testing.assert_allclose(alpha[6:14], 0.2 ** ((np.arange(6, 14) - 5) / 9), rtol=1e-5)
    np.testing.assert_allclose(alpha[14:], 0.2, rtol=1e-6)
    assert metrics["k_used"][0] == GROUPS
    assert metrics["k_used"][-1] == np.ceil(0.2 * GROUPS)


def test_a_tail_without_the_rollout_is_the_mean():
    off = {"rollout_mse": (("enabled", False),)}
    metrics = trained(**tail(alpha=0.2, trim=0.3), **off)[1].metrics
    assert (metrics["alpha"] == 1.0).all()
    assert (metrics["k_used"] == GROUPS).all()


def test_selection_counts_every_trajectory_once_a_step_without_emphasis():
    mean, sharp = trained()[0].selected, trained(**tail(alpha=0.2))[0].selected
    np.testing.assert_allclose(mean, EACH * STEPS, rtol=1e-6)
    assert float(jnp.sum(sharp)) == pytest.approx(GROUPS * EACH * STEPS, rel=1e-4)
    assert np.ptp(np.asarray(sharp)) > 0.5 * EACH * STEPS


# -- steps -----------------------------------------------------------------------------------


def test_the_step_size_falls_along_a_cosine():
    metrics = trained()[1].metrics
    share = 0.5 * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS))
    np.testing.assert_allclose(metrics["lr"], 1e-6 + (1e-3 - 1e-6) * share, rtol=1e-4)
    assert (metrics["clip_rate"] == (metrics["grad_norm"] > 1.0)).all()


def test_what_is_kept_is_an_average_that_forgets_its_start():
    _, _, (values, averages) = trained()
    average = np.zeros(3)
    for step, (value, kept) in enumerate(zip(values, averages, strict=True)):
        decay = min(0.999, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * np.asarray(value, np.float64)
        np.testing.assert_allclose(kept, average, rtol=1e-4, atol=1e-9)


def test_context_is_the_mean_error_of_single_steps():
    agent, window = made(BASE), windows(5, 3)
    past = jax.tree.map(np.asarray, window)
    single = jax.jit(lambda twist, command, dt: agent.predict(twist, command, dt)[:, 1])
    errors = [
        past.twist[:, k + 1]
        - single(past.twist[:, k], past.command[:, k : k + 1], past.dt[:, k : k + 1])
        for k in range(3)
    ]
    found = jax.jit(Dynamics.context)(agent, window)
    np.testing.assert_allclose(found, np.mean(errors, axis=0), rtol=1e-4, atol=1e-5)


# -- windows that are not finite -------------------------------------------------------------


def poisoned(field: str, value: float, rows: tuple[int, ...] = (5,)):
    """The batches, with a number that is none in some windows of every one."""
    array = np.array(getattr(BATCHES.window, field))
    array[:, list(rows), 1] = value
    return eqx.tree_at(lambda b: getattr(b.window, field), BATCHES, array)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_a_window_that_is_not_finite_counts_for_nothing(alpha):
    config = with_loss(BASE, rollout_cvar={"enabled": True, "alpha": alpha})
    agent, info, _ = train(config, poisoned("twist", np.inf))
    assert (info.metrics["non_finite"] == np.float32(1 / 128)).all()
    assert (info.items["weight"][:, 5] == 0.0).all()
    assert not np.isfinite(info.items["loss"][:, 5]).any()
    assert all(np.isfinite(x).all() for x in info.metrics.values())
    assert all(np.isfinite(x).all() for x in leaves_of(learned(agent)))
    clean, *_ = train(config)
    assert not same_bits(learned(agent), learned(clean))
    # Whatever is wrong with it, nothing of it is felt.
    for field, value in (("pose", np.nan), ("command", -np.inf), ("dt", np.nan)):
        other, *_ = train(config, poisoned(field, value))
        assert same_bits(learned(agent), learned(other)), field


def test_no_step_is_taken_where_too_many_windows_are_not_finite():
    agent, info, _ = train(BASE, poisoned("twist", np.nan, rows=(5, 77)))
    assert np.isnan(info.metrics["grad_norm"]).all()
    assert same_bits(agent.model, made(BASE).model)
    assert int(agent.step) == STEPS


# -- configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1.2, float("nan")])
def test_a_share_outside_its_range_is_refused(alpha):
    with pytest.raises(ValueError, match=rf"rollout_cvar.alpha must be in \(0, 1\], got {alpha}"):
        RolloutCvarConfig(alpha=alpha)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LossConfig(
                pose_mse=PoseConfig(enabled=False),
                rollout_cvar=RolloutCvarConfig(enabled=True, apply_to="pose"),
            ),
            "rollout_cvar.apply_to is 'pose', but pose_mse.enabled is false",
        ),
        (lambda: RolloutCvarConfig(min_k=0), "rollout_cvar.min_k must be at least 1, got 0"),
        (
            lambda: with_loss(BASE, rollout_cvar={"enabled": True, "min_k": 65}),
            "rollout_cvar.min_k must be at most the 64 trajectory units of a batch, got 65",
        ),
        (
            lambda: with_loss(BASE, rollout_cvar={"enabled": True, "group": "item", "min_k": 129}),
            "rollout_cvar.min_k must be at most the 128 item units of a batch, got 129",
        ),
        (
            lambda: RolloutCvarConfig(warmup=0.8),
            "rollout_cvar needs 0 <= warmup <= anneal_end <= 1, got 0.8 and 0.7",
        ),
        (lambda: RolloutCvarConfig(trim=1.0), r"rollout_cvar.trim must be in \[0, 1\), got 1.0"),
        (
            lambda: FrictionConfig(k_min=1.5),
            "friction_param needs 0 < k_min < 1 < k_max; got 1.5 and 2.0",
        ),
        (
            lambda: FrictionConfig(k_max=0.9),
            "friction_param needs 0 < k_min < 1 < k_max; got 0.2 and 0.9",
        ),
        (
            lambda: LossConfig(pose_mse=PoseConfig(components=())),
            "pose_mse.components must name some of",
        ),
        (lambda: RolloutConfig(horizon=0), "rollout_mse.horizon must be at least 1, got 0"),
        (
            lambda: RolloutConfig(teacher_forcing_prob=1.5),
            r"rollout_mse.teacher_forcing_prob must be in \[0, 1\], got 1.5",
        ),
        (lambda: LossConfig(huber=0.0), "loss.huber must be above 0, got 0.0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_rule_value_and_place(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_least_tail_that_is_not_used_is_not_refused():
    assert with_loss(BASE, rollout_cvar={"min_k": 65}).loss.rollout_cvar.min_k == 65


@pytest.mark.parametrize(
    ("config", "field", "value", "message"),
    [
        (
            RolloutCvarConfig(),
            "apply_to",
            "rollout+pose",
            r"rollout_cvar.apply_to must be one of 'rollout_plus_pose', 'rollout', 'pose', got "
            r"'rollout\+pose'; did you mean 'rollout_plus_pose'\?",
        ),
        (RolloutCvarConfig(), "group", "trajectories", r"got 'trajectories'; did you mean 'traj"),
        (RolloutCvarConfig(), "estimator", "cvar", "must be one of 'batch', 'running', got 'cvar'"),
        (RolloutConfig(), "horizon_reduction", "men", r"'max', got 'men'; did you mean 'mean'\?"),
        (PoseConfig(), "components", ("x", "tetha"), "'tetha'; did you mean 'theta'"),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_those_that_do(config, field, value, message):
    # Strict mode refuses the type first; users run without it, so the rule itself is asked.
    config = dataclasses.replace(config)
    object.__setattr__(config, field, value)
    with pytest.raises(ValueError, match=message):
        config.__post_init__()
