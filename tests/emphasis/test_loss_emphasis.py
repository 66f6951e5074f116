"""The emphasis on losses around its weighting: groups, trim, schedule, scale, masks, packing."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_emphasis_arms import near, reduce, stacked, steady, traced

from steelyard.emphasis import (
    WEIGHTINGS,
    LossEmphasis,
    Tail,
    Tilted,
    Uniform,
    make_loss_emphasis,
    make_weighting,
    require_alpha,
    require_min_k,
    small_tail_warning,
)

LOSSES = np.random.default_rng(0).lognormal(size=21).astype(np.float32)
GROUPS = np.repeat(np.arange(7), 3)
ALPHA = {"tail", "smooth_tail", "mean_tail"}
OPTIONS = {"drop": {"fraction": 0.5}, "softmax": {"ess": 0.5}}
OPTIONS |= {name: {"alpha": 0.3} for name in ALPHA}


def of_name(name):
    options = {"labels": np.arange(21) % 4} if name == "balanced" else OPTIONS.get(name, {})
    return make_weighting(name, **options)


# -- without emphasis ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grouped", "compiled"),
    [(False, False), (False, True), (True, True)],
    ids=["item-eager", "item-jit", "trajectory-jit"],
)
def test_a_tail_of_everything_is_the_plain_mean_bit_for_bit(grouped, compiled):
    wrap = eqx.filter_jit if compiled else lambda f: f
    settings = {"group": "trajectory", "num_groups": 7} if grouped else {}
    expected = wrap(jax.value_and_grad(jnp.mean))(jnp.asarray(LOSSES))

    def value(losses, arm, state, progress):
        value, *rest = arm(losses, jnp.asarray(GROUPS), state, progress)
        return value, rest

    graded = wrap(jax.value_and_grad(value, has_aux=True))
    # The tail of everything at the end of its schedule, and any tail before the start of it.
    for alpha, progress in ((1.0, 0.9), (0.2, 0.1)):
        arm = LossEmphasis(Tail(alpha), **settings)
        arm = traced(arm) if compiled else arm
        state = arm.start()
        # Batches before it, so that the averages of scale matching have something to differ in.
        for batch in (LOSSES[::-1], LOSSES**2, LOSSES)[0 if compiled else 2 :]:
            (got, (state, info)), slope = graded(jnp.asarray(batch), arm, state, progress)
        assert got == expected[0] == info.rollout_mean == info.emphasised
        assert (slope == expected[1]).all()
        assert (info.weights == 1.0).all()
        assert info.scale == 1.0


def test_a_uniform_weighting_is_the_plain_mean_bit_for_bit():
    value, slope, _, info = reduce(LossEmphasis(Uniform()), LOSSES, progress=0.9, padded=False)
    expected = jax.jit(jax.value_and_grad(jnp.mean))(jnp.asarray(LOSSES))
    assert (value, info.scale) == (expected[0], 1.0)
    assert (slope == expected[1]).all()


def test_a_model_trains_to_the_same_bits_under_the_mean_and_a_tail_of_everything():
    rng = np.random.default_rng(1)
    x, y = jnp.asarray(rng.normal(size=(21, 4))), jnp.asarray(rng.normal(size=21))

    def trained(arm):
        def step(carry, progress):
            theta, state = carry

            def value(theta):
                losses = (jnp.tanh(x @ theta) - y) ** 2
                return arm(losses, jnp.asarray(GROUPS), state, progress)[:2]

            slope, state = jax.grad(value, has_aux=True)(theta)
            return (theta - 0.1 * slope, state), None

        start = (jnp.zeros(4), arm.start())
        return jax.lax.scan(step, start, jnp.linspace(0, 1, 50))[0][0]

    runs = jax.jit(lambda arms: jax.lax.map(trained, arms))
    flat = LossEmphasis(Tail(1.0), "trajectory", 7)
    other = LossEmphasis(Tail(1.0), "trajectory", 7, warmup=0.0, anneal_end=0.0, scale_match=False)
    sharp = LossEmphasis(Tail(0.2), "trajectory", 7)
    mean, still_mean, tail = runs(stacked([flat, other, sharp]))
    assert (mean == still_mean).all()
    assert not (mean == tail).all()
    # The pack gives what a single run gives.
    assert (jax.jit(trained)(traced(sharp)) == tail).all()


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_any_weighting_starts_as_the_plain_mean_and_ends_as_itself(name):
    @eqx.filter_jit
    def run(arm, losses):
        def at(progress):
            return arm(losses, None, arm.start(), progress)[2]

        return jax.lax.map(at, jnp.array([0.2, 0.8])), arm.weighting.ratio(losses)

    info, ratio = run(traced(LossEmphasis(of_name(name))), jnp.asarray(LOSSES))
    assert (info.weights[0] == 1.0).all()
    assert info.scale[0] == 1.0
    near(info.weights[1], ratio, 2e-5)
    near(jnp.mean(info.weights[1]), 1.0, 3e-6)
    expected = 0.3 if name in ALPHA else 1.0
    near([info.alpha[1], info.alpha_now[1]], expected)


# -- groups ----------------------------------------------------------------------------------


def test_a_groups_weight_is_split_evenly_over_its_items():
    # Means 5, 2, 8 (and an empty group), 1; the tail of 0.375 of four groups: one and a half.
    losses, groups = [4.0, 6, 2, 8, 8, 8, 1], [0, 0, 1, 2, 2, 2, 4]
    arm = steady(Tail(0.375), group="trajectory", num_groups=7)
    value, _, _, info = reduce(arm, losses, groups)
    third = 2 / 3 / 3
    near(info.weights / 7, [1 / 6, 1 / 6, 0, third, third, third, 0])
    near(value, 2 / 3 * 8 + 1 / 3 * 5)
    near([info.k_used, info.max_weight, info.ess], [2, 8 / 3, 1.8])
    near(info.rollout_mean, 37 / 7)


def test_labels_that_are_a_constant_of_a_compiled_function_are_checked_like_any():
    arm = LossEmphasis(Tail(0.5), group="trajectory", num_groups=7)
    losses = jnp.asarray(LOSSES)
    eager = arm(losses, jnp.asarray(GROUPS), arm.start(), 0.9)[0]
    closed_over = jnp.asarray(GROUPS)
    compiled = jax.jit(lambda losses: arm(losses, closed_over, arm.start(), 0.9)[0])(losses)
    near(compiled, eager)
    wrong = jnp.asarray(GROUPS + 1)
    with pytest.raises(ValueError, match="groups must be labels in 0 … 6, got labels in 1 … 7"):
        jax.jit(lambda losses: arm(losses, wrong, arm.start(), 0.9)[0])(losses)


def test_a_schedule_of_constants_is_checked_inside_a_compiled_function():
    warmup, anneal_end = jnp.asarray(0.75), jnp.asarray(0.5)
    with pytest.raises(ValueError, match="anneal_end must be at least warmup, 0.75, got 0.5"):
        jax.jit(lambda: LossEmphasis(Tail(0.5), warmup=warmup, anneal_end=anneal_end).start())()


def test_duplicating_a_trajectorys_windows_changes_its_weight_only_without_groups():
    losses, groups = np.array([1.0, 2, 5, 3, 4]), np.arange(5)
    many = np.repeat(losses, [1, 1, 10, 1, 1]), np.repeat(groups, [1, 1, 10, 1, 1])
    grouped = steady(Tail(0.5), group="trajectory", num_groups=7)

    def share(arm, losses, groups):
        weights = np.asarray(reduce(arm, losses, groups)[-1].weights)
        return weights[groups == 2].sum() / weights.sum()

    near(share(grouped, losses, groups), 0.4)
    near(share(grouped, *many), 0.4)
    near(share(steady(Tail(0.5)), losses, groups), 0.4)
    near(share(steady(Tail(0.5)), *many), 1.0)


# -- trim ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trim", "gone"), [(0.0, 0), (0.07, 7), (0.079, 7), (0.5, 50), (0.999, 99)]
)
def test_trim_drops_exactly_the_floor_of_its_share(trim, gone):
    losses = np.random.default_rng(2).permutation(100) + 1.0
    value, slope, _, info = reduce(steady(Tail(1.0), trim=trim), losses)
    dropped = np.asarray(info.weights) == 0
    assert sorted(losses[dropped]) == list(range(101 - gone, 101))
    near(value, np.arange(1, 101 - gone).mean(), 1e-4)
    assert (np.asarray(slope)[dropped] == 0).all()
    assert float(info.k_used) == 100 - gone
    near(info.rollout_mean, 50.5, 1e-4)


def test_trim_counts_groups_and_breaks_ties():
    arm = steady(Tail(0.5), group="trajectory", num_groups=7, trim=0.25)
    value, _, _, info = reduce(arm, [9.0, 1, 4, 4, 4, 4, 2, 2], [0, 0, 1, 1, 2, 2, 3, 3])
    # Groups of 5, 4, 4, 2: the first goes, the tail is one and a half of the other three.
    near(value, 4.0)
    near(info.weights / 8, [0, 0] + 4 * [0.25] + [0, 0])
    info = reduce(steady(Tail(1.0), trim=0.5), np.ones(4))[-1]
    assert float(info.k_used) == 2


# -- items that are not finite ---------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_items_that_are_not_finite_get_no_weight_and_poison_nothing(alpha):
    losses = np.array([1.0, np.nan, 3.0, np.inf, 2.0, -np.inf, 4.0, 0.5])
    finite = np.isfinite(losses)
    arm = LossEmphasis(Tail(alpha), warmup=0.0, anneal_end=0.0)
    value, slope, state, info = reduce(arm, losses, padded=False)
    alone = reduce(arm, losses[finite], padded=False)
    near([value, info.scale, info.rollout_mean], [alone[0], alone[-1].scale, 2.1])
    near(slope[finite], alone[1])
    assert (np.asarray(slope)[~finite] == 0).all()
    assert (np.asarray(info.weights)[~finite] == 0).all()
    near(info.non_finite, 3 / 8)
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves((state, info.metrics())))


def test_a_group_with_items_that_are_not_finite_counts_by_its_others():
    arm = steady(Tail(1 / 3), group="trajectory", num_groups=7)
    losses, groups = [np.nan, 5.0, 1, 2, np.inf, np.nan], [0, 0, 1, 1, 2, 2]
    value, _, _, info = reduce(arm, losses, groups)
    # Two groups count, so the tail is two thirds of one.
    near(value, 5.0)
    near(info.weights / 6, [0, 1, 0, 0, 0, 0])
    near(info.k_used, 1)


def test_a_batch_without_a_finite_item_gives_zero_and_leaves_the_state():
    for arm in (LossEmphasis(), LossEmphasis(estimator="running"), LossEmphasis(Tilted(2.0))):
        state = reduce(arm, LOSSES, progress=0.9)[2]
        value, slope, after, info = reduce(arm, np.full(21, np.nan), None, state, 0.9)
        assert value == 0
        assert (slope == 0).all()
        assert jax.tree.all(jax.tree.map(lambda a, b: a == b, after, state))
        assert info.non_finite == 1
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(info))


# -- schedule --------------------------------------------------------------------------------


def test_alpha_falls_geometrically_between_warmup_and_anneal_end():
    arm = LossEmphasis(Tail(0.2))
    now = [reduce(arm, LOSSES, progress=p)[-1].alpha_now for p in (0, 0.2499, 0.25, 0.7, 0.71, 1)]
    assert now[:3] == [1, 1, 1]
    assert (jnp.array(now[3:]) == jnp.float32(0.2)).all()
    for progress, share in ((0.475, 0.5), (0.5875, 0.75)):
        info = reduce(arm, LOSSES, progress=progress)[-1]
        near(info.alpha_now, 0.2**share)
        near(info.emphasised, reduce(steady(Tail(float(info.alpha_now))), LOSSES)[0], 1e-4)
        near(info.alpha, 0.2)


def test_a_schedule_of_no_length_is_a_jump():
    jump = LossEmphasis(Tail(0.2), warmup=0.5, anneal_end=0.5)
    near([reduce(jump, LOSSES, progress=p)[-1].alpha_now for p in (0.49, 0.5)], [1, 0.2])
    near(reduce(steady(), LOSSES, progress=0.0)[-1].alpha_now, 0.2)


# -- scale matching --------------------------------------------------------------------------


def test_scale_matching_follows_the_bias_corrected_averages_by_hand():
    arm = LossEmphasis(Tail(0.25), warmup=0.0, anneal_end=0.0, scale_decay=0.5)
    first, second = np.array([8.0, 2, 1, 1]), np.array([4.0, 4, 4, 0])
    value, slope, state, info = reduce(arm, first)
    near([info.scale, value], [3 / 8, 3.0])
    near(slope, [3 / 8, 0, 0, 0])
    value, _, state, info = reduce(arm, second, None, state)
    # Means 3, 3 and tails 8, 4: averages (0.25·3 + 0.5·3) / (0.25·8 + 0.5·4).
    near([info.scale, value], [2.25 / 4, 4 * 2.25 / 4])
    near([state.mean / state.total, state.excess / state.total], [3.0, 4 / 0.75 - 3])


def test_scale_matching_keeps_the_size_of_the_term_over_a_run():
    rng = np.random.default_rng(4)
    for sigma, without in ((1.0, 2.81), (2.0, 4.38)):
        arm, state, values = LossEmphasis(warmup=0.0, anneal_end=0.0), None, []
        for _ in range(100):
            losses = rng.lognormal(sigma=sigma, size=1024)
            value, _, state, info = reduce(arm, losses, None, state)
            values.append([float(value) / np.exp(sigma**2 / 2), float(info.scale)])
        size, scale = np.mean(values[30:], axis=0)
        near(size, 1.0, 0.1 * sigma**2)
        near(1 / scale, without, 0.06 * without)


def test_the_scale_is_never_above_one_nor_below_alpha():
    arm = LossEmphasis(Tail(0.2), warmup=0.0, anneal_end=0.0)
    for losses in (-LOSSES, np.zeros(21), np.eye(21)[3], LOSSES - 1.5):
        scale = float(reduce(arm, losses)[-1].scale)
        assert 0.2 - 1e-6 <= scale <= 1


def test_the_factor_changes_the_size_and_nothing_else():
    plain, double = reduce(steady(), LOSSES), reduce(steady(factor=2.0), LOSSES)
    near(double[0], 2 * plain[0])
    near(double[1], 2 * plain[1])
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), double[2:], plain[2:]))


def test_the_logged_tail_is_the_same_in_both_arms():
    tail, mean = steady(report_alpha=0.2), steady(Tail(1.0), report_alpha=0.2)
    for arm in (tail, mean):
        near(reduce(arm, np.arange(10.0, 0, -1))[-1].rollout_cvar, 9.5)
    near(reduce(mean, np.arange(10.0, 0, -1))[-1].emphasised, 5.5)


# -- packing ---------------------------------------------------------------------------------


def test_arms_that_differ_in_numbers_share_one_program():
    arms = [
        LossEmphasis(Tail(0.2), "trajectory", 7, report_alpha=0.1),
        LossEmphasis(Tail(1.0), "trajectory", 7, factor=2.0, report_alpha=0.1),
        LossEmphasis(Tail(0.5), "trajectory", 7, trim=0.3, scale_match=False, report_alpha=0.1),
        LossEmphasis(Tail(0.7), "trajectory", 7, warmup=0.0, anneal_end=0.0, report_alpha=1.0),
    ]
    traces = []

    def one(arm, progress):
        traces.append(None)
        return arm(jnp.asarray(LOSSES), jnp.asarray(GROUPS), arm.start(), progress)

    packed = jax.jit(lambda arms, p: jax.lax.map(lambda arm: one(arm, p), arms))
    mapped = jax.jit(jax.vmap(one, in_axes=(0, None)))
    for progress in (0.1, 0.5, 0.9):
        answers = packed(stacked(arms), jnp.float32(progress))
        beside = mapped(stacked(arms), jnp.float32(progress))
        for i, arm in enumerate(arms):
            value, _, state, info = reduce(arm, LOSSES, GROUPS, progress=progress)
            single = (value, state, info)
            for answer in (answers, beside):
                jax.tree.map(lambda a, b, i=i: near(a[i], b, 1e-6), answer, single)
    assert len(traces) == 2


# -- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0, -1, 1.2, float("nan"), "a lot", None, True])
def test_a_wrong_alpha_names_rule_value_and_file(alpha):
    words = rf"rollout_cvar.alpha must be in \(0, 1\], got {alpha} \(exp2_h20_cvar0p2.json\)"
    with pytest.raises(ValueError, match=words):
        require_alpha(alpha, "exp2_h20_cvar0p2.json")
    with pytest.raises(ValueError, match=words):
        make_loss_emphasis("tail", {"alpha": alpha}, where="exp2_h20_cvar0p2.json")


@pytest.mark.parametrize("min_k", [0, 65, 1.5])
def test_a_wrong_min_k_names_both_numbers(min_k):
    words = rf"rollout_cvar.min_k must be .* 64 groups of a batch, got {min_k} \(a.json\)"
    with pytest.raises(ValueError, match=words):
        require_min_k(min_k, 64, "groups", "a.json")


def test_a_tail_of_less_than_one_item_is_warned_of():
    line = small_tail_warning(0.01, 64, "groups", "a.json")
    assert line == (
        "rollout_cvar: tail of one item, alpha * groups = 0.01 * 64 = 0.64 < 1; "
        "raise groups to >= 100 (a.json)"
    )
    assert small_tail_warning(0.2, 5) is None
    assert small_tail_warning(0.1, 10) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"group": "window"}, "group must be one of"),
        ({"group": "trajectory"}, "num_groups goes with group 'trajectory'"),
        ({"num_groups": 4}, "num_groups goes with group 'trajectory'"),
        ({"group": "trajectory", "num_groups": 0}, "num_groups must be in"),
        ({"estimator": "both"}, "estimator must be one of"),
        ({"warmup": 0.8, "anneal_end": 0.7}, "anneal_end must be at least warmup, 0.8, got 0.7"),
        ({"warmup": -0.1}, r"warmup must be in \[0, 1\], got -0.1"),
        ({"trim": 1.0}, r"trim must be in \[0, 1\), got 1"),
        ({"scale_decay": float("nan")}, r"scale_decay must be in \[0, 1\), got nan"),
        ({"factor": -1.0}, "factor must be in"),
        ({"report_alpha": 2.0}, r"report_alpha must be in \(0, 1\], got 2"),
        ({"threshold_rate": 0.0}, "threshold_rate must be in"),
        ({"cap": 0.5}, "cap must be in"),
        ({"trimm": 0.1}, "has the options .*trimm"),
    ],
)
def test_a_wrong_setting_gets_one_clear_error(settings, words):
    with pytest.raises(ValueError, match=words):
        make_loss_emphasis("tail", {"alpha": 0.2}, **settings)


def test_wrong_names_and_a_wrong_pair_get_one_clear_error():
    with pytest.raises(ValueError, match="Did you mean 'tail'"):
        make_loss_emphasis("tial")
    with pytest.raises(ValueError, match="Did you mean 'alpha'"):
        make_loss_emphasis("tail", {"aplha": 0.2})
    with pytest.raises(ValueError, match="'running' tracks the threshold of weighting 'tail'"):
        make_loss_emphasis("tilted", estimator="running")
    with pytest.raises(ValueError, match="min_k must be .* the 4 groups of a batch, got 5"):
        make_loss_emphasis("tail", {"alpha": 0.2, "min_k": 5}, group="trajectory", num_groups=4)
    arm = steady(Tail(0.2, min_k=5))
    with pytest.raises(ValueError, match="the 4 items of a batch, got 5"):
        arm(jnp.ones(4), None, arm.start(), 1.0)


def test_wrong_shapes_and_labels_get_one_clear_error():
    arm = steady(group="trajectory", num_groups=3)
    with pytest.raises(ValueError, match=r"shape \[B\], got shape \(2, 3\): a bug"):
        arm(jnp.ones((2, 3)), None, arm.start(), 1.0)
    with pytest.raises(ValueError, match=r"one label an item, shape \(4,\), got none"):
        arm(jnp.ones(4), None, arm.start(), 1.0)
    labels = jnp.array([0, 1, 3, 2])
    with pytest.raises(ValueError, match=r"labels in 0 … 2, got labels in 0 … 3"):
        arm(jnp.ones(4), labels, arm.start(), 1.0)
    assert jnp.isnan(reduce(arm, np.ones(4), labels)[0])
