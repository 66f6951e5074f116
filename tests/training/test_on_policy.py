"""The on-policy loop on the plane: what a rollout holds, what an update leaves alone, resume."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import rows_of, silent

from steelyard.agents.ppo import PPO, PPOConfig
from steelyard.emphasis import Systematic, uniform_base
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.envs.pegplane import PegPlaneEnv, peg_plane_spec, reading_policy
from steelyard.envs.registry import make_env
from steelyard.envs.scripted.peg import peg_expert
from steelyard.envs.scripted.tiers import TIERS
from steelyard.envs.seeding import training_seeds
from steelyard.training.cupid import feel, is_due, uniform
from steelyard.training.cupid_scorer import Scorer, compute_scorer, score_items
from steelyard.training.episode_window import WINDOW, EpisodeTracker, EpisodeWindow
from steelyard.training.group import RunGroup
from steelyard.training.on_policy import (
    Base,
    OnPolicyConfig,
    OnPolicyProblem,
    Programs,
    Simulation,
    train_on_policy,
)
from steelyard.training.on_policy_update import UpdateConfig, learn, update
from steelyard.training.rollout_items import Rollout, prepare
from steelyard.training.run_folder import RunFolder

SPEC = peg_plane_spec()
AGENT = PPOConfig(hidden=(8,), n_iterations_train_only_value=0)
LOOP = OnPolicyConfig(total_timesteps=3 * 4 * 24, num_envs=4, num_env_steps=24)
PASSES = UpdateConfig(update_epochs=2, num_minibatches=2)
PLAIN = CupidConfig()


def planner(observation, envs, plans):
    return reading_policy(observation)[:, None]


def problem(cupid=PLAIN, passes=PASSES, agent=AGENT):
    return OnPolicyProblem(
        lambda key, run: PPO.create(key, SPEC, agent, None, LOOP.iterations),
        passes,
        cupid,
        lambda envs: Base(planner, 1),
    )


def environments(seeds):
    def make(generation):
        own = [s for seed in seeds for s in training_seeds(seed, LOOP.num_envs, generation)]
        return PegPlaneEnv("PegPlane-v0", own)

    return make


def train(root, cupid=PLAIN, loop=LOOP, passes=PASSES, seeds=(0, 1), agent=AGENT):
    folders = [RunFolder(root / str(seed)).open({"seed": seed}) for seed in seeds]
    group = RunGroup(seeds, folders, "ppo")
    try:
        return train_on_policy(
            problem(cupid, passes, agent), loop, group, environments(seeds), tick=silent
        )
    finally:
        group.close()


def same(left, right):
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, compiler):
    root = tmp_path_factory.mktemp("ppo")
    return root, train(root)


# -- rollouts --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played(compiler):
    """A rollout long enough for every episode to end, of two runs, and the base's plans."""
    asked = []

    def recorded(observation, envs, plans):
        asked.append((observation.copy(), envs.copy(), plans.copy()))
        return planner(observation, envs, plans)

    keys = jnp.stack([jax.random.key(s) for s in (0, 1)])
    agents = jax.vmap(problem().create)(keys, jnp.arange(len(keys)))
    world = Simulation(
        environments((0, 1))(0), Base(recorded, 1), 2, "terminate", EpisodeWindow.empty(2)
    )
    rollout = world.rollout(Programs(problem()), agents, keys, 90, 0)
    return agents, jax.tree.map(np.asarray, rollout), asked, world


def test_the_base_action_is_the_bases_for_the_observation_in_hand(played):
    _, rollout, _, _ = played
    flat = rollout.observation.reshape(-1, 8)
    np.testing.assert_array_equal(rollout.base.reshape(-1, 3), reading_policy(flat))
    after = rollout.next_observation.reshape(-1, 8)
    np.testing.assert_array_equal(rollout.next_base.reshape(-1, 3), reading_policy(after))


def test_a_row_is_followed_by_its_next_observation_unless_its_episode_ended(played):
    _, rollout, _, _ = played
    ended = (rollout.terminated | rollout.truncated)[:, :-1]
    assert ended.any()
    goes_on = rollout.next_observation[:, :-1] == rollout.observation[:, 1:]
    np.testing.assert_array_equal(goes_on.all(-1), ~ended)


def test_an_episode_is_planned_for_from_its_first_observation_after_its_last_one(played):
    _, rollout, asked, _ = played
    starts = rollout.observation[:, 1:][(rollout.terminated | rollout.truncated)[:, :-1]]
    plans = np.concatenate([observation for observation, _, _ in asked])
    assert all((plans == start).all(1).any() for start in starts)


def test_success_is_terminal_and_pays_one(played):
    _, rollout, _, world = played
    np.testing.assert_array_equal(rollout.success, rollout.terminated)
    np.testing.assert_array_equal(rollout.reward, rollout.success.astype(np.float32))
    ended = rollout.terminated | rollout.truncated
    assert world.episodes.window.count.tolist() == ended.sum((1, 2)).tolist()


# -- items -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(played):
    agents, rollout, _, _ = played
    agent = jax.tree.map(lambda x: x[0], agents)
    one = jax.tree.map(lambda x: jnp.asarray(x[0]), rollout)
    return agent, one, jax.jit(prepare)(agent, one)


FEEL = jax.jit(feel, static_argnums=(0, 5))
LEARN = jax.jit(learn, static_argnums=(5, 6))


def two_sided(items):
    """The same items, every other episode a success: both folds hold both outcomes."""
    success = (items.segment % 2).astype(jnp.float32)
    return dataclasses.replace(
        items, success=success, outcome_known=jnp.ones_like(items.outcome_known)
    )


def test_advantages_are_those_of_a_loop_over_each_environment(prepared):
    agent, rollout, items = prepared

    def value(observation, base):
        return np.asarray(agent.value(agent.features(observation, base)))

    for env in range(4):
        v = value(rollout.observation[:, env], rollout.base[:, env])
        after = value(rollout.next_observation[:, env], rollout.next_base[:, env])
        expected, following = np.zeros(90), 0.0
        for t in reversed(range(90)):
            terminated, truncated = (
                bool(x[t, env]) for x in (rollout.terminated, rollout.truncated)
            )
            future = 0.0 if terminated else after[t]
            delta = float(rollout.reward[t, env]) + 0.99 * future - v[t]
            following = delta + 0.99 * 0.95 * (0.0 if terminated or truncated else following)
            expected[t] = following
        found = np.asarray(items.advantage).reshape(90, 4)[:, env]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_the_value_error_of_the_reference_is_the_advantage_and_monte_carlos_is_not(prepared):
    _, _, items = prepared
    error = jnp.abs(items.items.value_target - items.items.value)
    np.testing.assert_allclose(error, jnp.abs(items.advantage), atol=1e-6)
    own = jnp.abs(items.monte_carlo - items.items.value)
    assert float(jnp.max(jnp.abs(own - error))) > 1e-2


def test_an_item_that_does_not_count_may_hold_anything(prepared):
    agent, rollout, _ = prepared
    masked = rollout._replace(valid=rollout.valid.at[5].set(False))
    spoilt = masked._replace(reward=masked.reward.at[5].set(1e6))
    key = jax.random.key(0)
    run = jax.jit(update, static_argnums=(4, 5, 6))
    results = [
        run(agent, Scorer.none(agent), r, key, PASSES, CupidConfig(True), True)
        for r in (masked, spoilt)
    ]
    assert same(results[0][0], results[1][0])
    table = uniform(prepare(agent, masked).valid).actor
    drawn = Systematic().draw(table, key, 360).indices
    assert not np.isin(np.asarray(drawn), np.arange(20, 24)).any()


# -- updates ---------------------------------------------------------------------------------

WITHOUT_SHARPNESS = {
    "power": CupidConfig(True, cupid_power=0.0),
    "floor": CupidConfig(True, cupid_floor=1.0),
    "rank": CupidConfig(True, cupid_weighting="rank", cupid_power=0.0),
    "ess": CupidConfig(
        True, "influence", cupid_weighting="softmax", cupid_ess=1.0, cupid_through="losses"
    ),
    "fraction": CupidConfig(
        True, "influence", cupid_weighting="drop", cupid_fraction=0.0, cupid_through="losses"
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        name if name == "power" else pytest.param(name, marks=pytest.mark.slow)
        for name in WITHOUT_SHARPNESS
    ],
)
def test_no_sharpness_is_the_plain_run_bit_for_bit_over_three_iterations(name, tmp_path, optimised):
    plain = train(tmp_path / "plain")
    emphasised = train(tmp_path / "emphasised", WITHOUT_SHARPNESS[name])
    assert same(plain.agent, emphasised.agent)


@pytest.mark.slow
def test_an_emphasis_changes_what_is_learned(trained, tmp_path):
    _, plain = trained
    assert not same(plain.agent.actor, train(tmp_path, CupidConfig(True)).agent.actor)


def test_a_divergence_of_nothing_ends_the_epochs_of_an_iteration_and_nothing_else(tmp_path):
    train(tmp_path, passes=dataclasses.replace(PASSES, target_kl=0.0))
    rows = [row for row in rows_of(tmp_path) if "losses/epochs" in row]
    assert [row["losses/epochs"] for row in rows] == [1.0, 1.0, 1.0]


def test_every_valid_item_is_learned_from_without_an_emphasis(prepared):
    agent, _, items = prepared
    felt = uniform(items.valid)
    drawn = Systematic().draw(felt.actor, jax.random.key(1), 360)
    assert sorted(np.asarray(drawn.indices).tolist()) == list(range(360))
    assert (np.asarray(drawn.correction) == 1.0).all()


def test_the_divergence_is_measured_alike_under_any_emphasis(prepared):
    """At a step of 0 nothing moves, so whatever is drawn the probe sees the same policy."""
    agent, _, items = prepared
    still = dataclasses.replace(
        agent, config=dataclasses.replace(agent.config, learning_rate_actor=0.0)
    )
    moved = dataclasses.replace(still, actor=jax.tree.map(lambda x: x + 0.05, still.actor))
    probe = jnp.arange(64)
    found = []
    for cupid in (PLAIN, CupidConfig(True, cupid_correction=0.0)):
        felt, _, _ = FEEL(cupid, moved, items, Scorer.none(moved), jax.random.key(0), True)
        _, metrics = LEARN(moved, items, felt, probe, jax.random.key(0), PASSES, cupid)
        found.append([float(metrics[n]) for n in ("losses/approx_kl", "losses/clipfrac")])
    assert found[0] == found[1]
    assert found[0][0] > 0


def test_advantages_keep_their_signs_whatever_is_drawn(prepared):
    _, _, items = prepared
    centred = np.asarray(items.advantage) - np.asarray(items.advantage).mean()
    assert (np.sign(items.items.advantage) == np.sign(centred)).all()
    assert float(jnp.mean(items.items.advantage)) == pytest.approx(0.0, abs=1e-5)
    assert float(jnp.std(items.items.advantage)) == pytest.approx(1.0, abs=1e-4)


def test_influence_is_independent_of_the_critic_and_of_a_folds_own_actions(prepared):
    agent, _, items = prepared
    cupid = CupidConfig(
        True, "influence", cupid_weighting="softmax", cupid_through="losses",
        cupid_hessian="identity",
    )  # fmt: skip
    key = jax.random.key(3)

    def weights(agent, items):
        return np.asarray(FEEL(cupid, agent, items, Scorer.none(agent), key, True)[0].weights)

    items = two_sided(items)

    moved = dataclasses.replace(agent, critic=jax.tree.map(lambda x: x + 1.0, agent.critic))
    np.testing.assert_array_equal(weights(agent, items), weights(moved, items))
    assert np.std(weights(agent, items)) > 0


def test_what_an_environment_did_moves_the_scores_of_the_other_half_only(prepared):
    agent, _, items = prepared
    items = two_sided(items)
    cupid = CupidConfig(
        True, "influence", cupid_weighting="softmax", cupid_through="losses",
        cupid_hessian="identity",
    )  # fmt: skip

    def scores(items):
        scorer = compute_scorer(cupid, agent, items)
        found = score_items(cupid, agent, items, scorer, jax.random.key(0), True)
        return np.asarray(found).reshape(-1, 4)

    other = items.items.action.reshape(-1, 4, items.items.action.shape[1]).at[:, 0].add(0.1)
    moved = dataclasses.replace(
        items,
        items=eqx.tree_at(lambda x: x.action, items.items, other.reshape(items.items.action.shape)),
    )
    before, after = scores(items), scores(moved)
    np.testing.assert_array_equal(before[:, 1], after[:, 1])  # of the same half
    assert not np.allclose(before[:, 2:], after[:, 2:], rtol=1e-3)


@pytest.mark.parametrize("hessian", ["identity", "adam", "fisher_cg"])
def test_a_target_with_one_outcome_gives_no_direction_and_the_iteration_is_uniform(
    hessian, prepared
):
    agent, _, items = prepared
    cupid = CupidConfig(
        True, "influence", cupid_weighting="softmax", cupid_through="losses", cupid_hessian=hessian
    )
    items = two_sided(items)
    failed = dataclasses.replace(items, success=jnp.zeros_like(items.success))
    felt, _, metrics = FEEL(cupid, agent, failed, Scorer.none(agent), jax.random.key(0), True)
    assert float(metrics["cupid/active"]) == 0.0
    np.testing.assert_array_equal(felt.weights, items.valid.astype(jnp.float32))
    felt, _, metrics = FEEL(cupid, agent, items, Scorer.none(agent), jax.random.key(0), True)
    assert float(metrics["cupid/active"]) == 1.0
    assert np.isfinite(np.asarray(felt.weights)).all()


def test_weights_that_adapt_start_where_they_are_told_and_move_at_each_computation(prepared):
    agent, _, items = prepared
    cupid = CupidConfig(True, cupid_component_scale="adaptive")
    items = two_sided(items)
    start = Scorer.none(agent, cupid)
    np.testing.assert_allclose(start.weights, [0.4, 0.3, 0.3])
    _, first, metrics = FEEL(cupid, agent, items, start, jax.random.key(0), True)
    assert not np.allclose(first.weights, start.weights)
    assert float(first.weights.sum()) == pytest.approx(1.0)
    assert float(metrics["cupid/weight_success"]) == float(first.weights[2])
    _, kept, _ = FEEL(cupid, agent, items, first, jax.random.key(0), False)
    np.testing.assert_array_equal(kept.weights, first.weights)
    _, second, _ = FEEL(cupid, agent, items, kept, jax.random.key(0), True)
    assert not np.allclose(second.weights, first.weights)


def test_the_random_control_drops_as_many_as_are_negative_and_knows_nothing_of_which(prepared):
    agent, _, items = prepared
    cupid = CupidConfig(
        True, "random", cupid_weighting="drop", cupid_through="losses", cupid_fraction=1.0
    )
    negative = items.valid & (items.advantage < 0)
    share = float(negative.sum() / items.valid.sum())
    dropped = []
    for seed in range(200):
        felt, _, _ = FEEL(cupid, agent, items, Scorer.none(agent), jax.random.key(seed), True)
        dropped.append(np.asarray(items.valid & (felt.weights == 0)))
    each = np.mean(dropped, 0)
    assert each[np.asarray(items.valid)].mean() == pytest.approx(share, abs=0.03)
    inside = np.asarray(negative)[np.asarray(items.valid)]
    rates = each[np.asarray(items.valid)]
    assert rates[inside].mean() == pytest.approx(rates[~inside].mean(), abs=0.03)


def test_gradient_norms_give_each_network_a_draw_of_its_own(prepared):
    agent, _, items = prepared
    cupid = CupidConfig(True, "gradnorm")
    felt, _, metrics = FEEL(cupid, agent, items, Scorer.none(agent), jax.random.key(0), True)
    assert not same(felt.actor, felt.critic)
    assert float(metrics["cupid/predicted_gain"]) >= 1.0
    plain = dataclasses.replace(cupid, cupid_gain_threshold=1e9)
    felt, _, _ = FEEL(plain, agent, items, Scorer.none(agent), jax.random.key(0), True)
    expected = Systematic(1.0, 0.2).table(uniform_base(items.valid), uniform_base(items.valid))
    assert same(felt.actor, expected)


# -- the kept scorer -------------------------------------------------------------------------


def test_a_scorer_is_computed_first_and_then_in_every_kth_iteration_counted_from_one():
    cupid = CupidConfig(True, cupid_compute_interval=5)
    due = [i for i in range(1, 13) if is_due(cupid, i, has_scorer=i > 1)]
    assert due == [1, 5, 10]
    assert not is_due(PLAIN, 1, has_scorer=False)


@pytest.mark.slow
def test_a_kept_scorer_ages_and_scores_the_items_of_now(tmp_path):
    cupid = CupidConfig(True, cupid_compute_interval=3, cupid_component_scale="rms")
    train(tmp_path, cupid)
    rows = [row for row in rows_of(tmp_path) if "cupid/scorer_age" in row]
    assert [row["cupid/scorer_age"] for row in rows] == [0.0, 1.0, 0.0]
    assert len({row["cupid/raw_mean"] for row in rows}) == 3


# -- the loop --------------------------------------------------------------------------------


def test_a_run_that_goes_on_from_a_checkpoint_equals_one_that_never_stopped(tmp_path):
    loop = dataclasses.replace(LOOP, checkpoint_interval=1)
    cupid = CupidConfig(
        True, "influence", cupid_weighting="softmax", cupid_through="losses",
        cupid_compute_interval=2,
    )  # fmt: skip
    whole = train(tmp_path / "whole", cupid, loop)
    short = dataclasses.replace(loop, total_timesteps=2 * 4 * 24)
    train(tmp_path / "parts", cupid, short)
    again = train(tmp_path / "parts", cupid, loop)
    assert same(whole, again)


def test_each_program_is_traced_once(tmp_path, monkeypatch):
    seen = []
    kept = Programs.__init__

    def noted(self, problem):
        kept(self, problem)
        seen.append(self)

    monkeypatch.setattr(Programs, "__init__", noted)
    train(tmp_path, CupidConfig(True, cupid_compute_interval=2))
    assert seen[0].traces == {"act": 1, "weigh": 1, "weigh_due": 1, "pass": 1}


def test_evaluations_are_no_iterations(trained, tmp_path):
    """They neither replace an iteration nor move a random number; every computation is made."""
    asked = []

    def evaluate(agent):
        asked.append(agent)
        return {"eval/success_rate": np.zeros(2)}

    loop = dataclasses.replace(LOOP, eval_interval=1)
    folders = [RunFolder(tmp_path / str(s)).open({"seed": s}) for s in (0, 1)]
    group = RunGroup((0, 1), folders, "ppo")
    state = train_on_policy(problem(), loop, group, environments((0, 1)), evaluate, tick=silent)
    group.close()
    assert len(asked) == LOOP.iterations
    assert same(state.agent, trained[1].agent)


@pytest.mark.slow
def test_the_best_learner_by_evaluation_is_kept(tmp_path):
    scores = iter([[0.2, 0.9], [0.5, 0.1], [0.4, 0.3]])
    folders = [RunFolder(tmp_path / str(s)).open({"seed": s}) for s in (0, 1)]
    group = RunGroup((0, 1), folders, "ppo")
    agents = []

    def evaluate(agent):
        agents.append(agent)
        return {"eval/success_rate": np.asarray(next(scores))}

    loop = dataclasses.replace(LOOP, eval_interval=1)
    state = train_on_policy(problem(), loop, group, environments((0, 1)), evaluate, tick=silent)
    group.close()
    np.testing.assert_allclose(state.best_score, [0.5, 0.9])
    for seed, at in ((0, 1), (1, 0)):
        best, then = (jax.tree.map(lambda x, s=seed: x[s], t) for t in (state.best, agents[at]))
        assert same(best, then)


@pytest.mark.parametrize(
    "name", ["num_envs", "num_env_steps", "eval_interval", "checkpoint_interval"]
)
def test_sizes_and_intervals_of_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        OnPolicyConfig(**{name: 0})


def test_a_budget_below_one_iteration_is_refused():
    with pytest.raises(ValueError, match=r"num_envs × num_env_steps = 64 × 64 steps, got 100"):
        OnPolicyConfig(total_timesteps=100)
    with pytest.raises(ValueError, match="an epoch draws 96 items"):
        agent = PPO.create(jax.random.key(0), SPEC, AGENT, None, 1)
        seen, act = jnp.zeros((24, 4, 8)), jnp.zeros((24, 4, 3))
        none, flat = jnp.zeros((24, 4), bool), jnp.zeros((24, 4))
        rollout = Rollout(seen, act, act, seen, act, flat, none, none, none, ~none)
        config = UpdateConfig(num_minibatches=200)
        update(agent, Scorer.none(agent), rollout, jax.random.key(0), config, PLAIN, False)


# -- training episodes -----------------------------------------------------------------------


def test_success_and_length_of_a_two_part_episode_by_hand():
    tracker = EpisodeTracker(EpisodeWindow.empty(1), 2)
    yes, no = np.array([[True, False]]), np.zeros((1, 2), bool)
    tracker.add(no, no)
    tracker.add(yes, no)  # succeeds in its second step, and runs on
    assert tracker.solved.tolist() == [[True, False]]
    tracker.add(yes, no)  # success is said again: the first counts
    tracker.add(no, np.ones((1, 2), bool))
    found = tracker.take()
    assert found["charts/success_rate"].tolist() == [0.5]
    assert found["charts/mean_success_episode_length"].tolist() == [2.0]
    assert found["charts/max_success_episode_length"].tolist() == [2.0]
    assert found["charts/success_timesteps_share"].tolist() == [2 / 8]
    assert tracker.take()["charts/success_timesteps_share"].tolist() == [0.0]


def test_the_window_holds_the_last_episodes():
    tracker = EpisodeTracker(EpisodeWindow.empty(1), 1)
    ended = np.ones((1, 1), bool)
    for i in range(WINDOW + 50):
        tracker.add(np.array([[i >= 100]]), ended)
    assert tracker.take()["charts/success_rate"].tolist() == [150 / WINDOW]


def expert_base(envs):
    """The scripted expert of peg insertion as a base that plans one action."""
    phase = np.zeros(envs, np.int64)

    def plan(observation, rows, plans):
        began = ~observation[:, 13:17].any(axis=1)
        own = np.where(began, 0, phase[rows])
        action, phase[rows] = peg_expert(observation, own, TIERS["PegInsertSide-v3"]["good"])
        return np.clip(action, -1.0, 1.0).astype(np.float32)[:, None]

    return Base(plan, 1)


@pytest.mark.parametrize("on_success", ["mask", "continue"])
def test_what_follows_success_is_masked_where_the_episode_runs_on(on_success, compiler):
    """MetaWorld does not end an episode that succeeds; the reference trained on what followed."""
    envs, steps = 4, 130
    env = make_env("assembly/PegInsertSide-v3", training_seeds(7, envs), on_success="continue")
    agent = PPO.create(
        jax.random.key(0), env.spec, dataclasses.replace(AGENT, action_scale=0.0), None, 1
    )
    agents = jax.tree.map(lambda x: jnp.asarray(x)[None], agent)
    world = Simulation(env, expert_base(envs), 1, on_success, EpisodeWindow.empty(1))
    keys = jnp.stack([jax.random.key(0)])
    rollout = world.rollout(Programs(problem()), agents, keys, steps, 0)
    env.close()
    success, valid = np.asarray(rollout.success[0]), np.asarray(rollout.valid[0])
    assert success.sum(0).tolist() == [1] * envs  # paid once, in the step that first succeeds
    after = np.cumsum(success, 0) - success > 0
    assert after.sum() > 0.1 * after.size
    ended = success if on_success == "mask" else np.zeros_like(success)
    np.testing.assert_array_equal(rollout.terminated[0], ended)
    np.testing.assert_array_equal(valid, ~after if on_success == "mask" else np.ones_like(after))
