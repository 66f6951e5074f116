"""Which demonstrations count more, from the config to what a learner draws and feels."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny_runs import (
    BC_RUN,
    IPMD_RUN,
    LOOP,
    Killed,
    assert_same_bits,
    demonstrations,
    dying_at,
    group,
    silent,
    state_of,
)

from steelyard.agents.bc import BCConfig
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.findings import DatasetError
from steelyard.emphasis import demonstrations as emphasis_of_demonstrations
from steelyard.emphasis.demonstrations import EmphasisConfig
from steelyard.training.checkpoint import take_run
from steelyard.training.demonstrations import put_on_device
from steelyard.training.recipes import BCRun, IPMDRun, train_bc, train_ipmd

BEST_HALF = EmphasisConfig(score="episode_return", weighting="rank", power=2.0)


def test_padding_is_never_drawn_and_every_row_is():
    short, long = demonstrations(1, seed=0), demonstrations(3, seed=1)
    both = put_on_device([short, long])
    for index, data in enumerate((short, long)):
        run = take_run(both, index)
        assert run.count == data.num_steps
        rows, weights = run.draw(jax.random.key(0), 2_000)
        own = np.asarray(data.transitions().observation)
        drawn = np.unique(np.asarray(rows.observation), axis=0)
        np.testing.assert_array_equal(drawn, np.unique(own, axis=0))
        np.testing.assert_array_equal(weights, 1.0)


@pytest.mark.parametrize("through", ["batches", "losses"])
def test_an_emphasis_raises_the_share_of_good_episodes_in_draws_or_in_weights(through):
    data = demonstrations(10)
    emphasis = dataclasses.replace(BEST_HALF, through=through)
    run = take_run(put_on_device([data], emphasis), 0)
    rows, weights = run.draw(jax.random.key(0), 4_000)
    best = np.asarray(data.best(5).transitions().observation)
    is_best = (np.asarray(rows.observation)[:, None] == best[None]).all(2).any(1)
    share = float(np.average(is_best, weights=np.asarray(weights)))
    assert share > 0.7
    assert np.allclose(weights, 1.0) == (through == "batches")
    assert (abs(is_best.mean() - 0.5) < 0.05) == (through == "losses")


def train(run, root):
    data = [demonstrations(seed=s) for s in (0, 1)]
    learn = train_bc if isinstance(run, BCRun) else train_ipmd
    learn(run, group(root), data, silent)
    return state_of(root)


SHORT_BC = dataclasses.replace(
    BC_RUN, min_steps=100, agent=dataclasses.replace(BC_RUN.agent, reduction="weighted_mean")
)


@pytest.mark.parametrize(
    ("run", "through"),
    [(SHORT_BC, "losses"), (SHORT_BC, "batches")],
    ids=["bc through losses", "bc through batches"],
)
def test_an_emphasis_changes_what_is_learned_and_one_of_no_sharpness_does_not(
    run, through, tmp_path
):
    def states(power: float):
        emphasis = dataclasses.replace(BEST_HALF, power=power, through=through)
        return train(dataclasses.replace(run, emphasis=emphasis), tmp_path / str(power))

    plain = train(run, tmp_path / "plain")
    assert_same_bits(plain, states(0.0))
    actor = ".agent.actor.net.weights[0]"
    assert np.abs(plain[actor] - states(2.0)[actor]).max() > 1e-4


def test_ipmd_feels_balanced_clusters_and_no_sharpness_is_the_plain_run(ipmd_root, tmp_path):
    def final(tau: float):
        clusters = EmphasisConfig(score="cluster", weighting="balanced", clusters=2, tau=tau)
        return train(dataclasses.replace(IPMD_RUN, emphasis=clusters), tmp_path / str(tau))

    plain = state_of(ipmd_root)
    assert_same_bits(plain, final(1.0))
    actor = ".agent.actor.net.weights[0]"
    assert np.abs(plain[actor] - final(0.0)[actor]).max() > 1e-5


def test_an_emphasis_that_reads_rewards_is_refused_by_ipmd():
    with pytest.raises(ValueError, match="never sees the task's reward"):
        IPMDRun(emphasis=BEST_HALF)


def test_runs_of_several_emphases_train_in_one_program_and_each_as_by_itself(tmp_path):
    data = [demonstrations(seed=s) for s in (0, 1)]
    plain, given = EmphasisConfig(), EmphasisConfig("given", "rank", power=2.0)
    scores = [None, data[1].returns()]
    train_bc(SHORT_BC, group(tmp_path / "both"), data, silent, [plain, given], scores)
    alone = dataclasses.replace(BEST_HALF, power=2.0)
    for seed, emphasis in ((0, plain), (1, alone)):
        root = tmp_path / emphasis.score
        train_bc(dataclasses.replace(SHORT_BC, emphasis=emphasis), group(root), data, silent)
        assert_same_bits(state_of(tmp_path / "both", seed), state_of(root, seed))
    assert [p.parent.name for p in (tmp_path / "both").rglob("emphasis.json")] == ["1"]


def test_scores_that_are_given_are_of_all_episodes(tmp_path):
    data = [demonstrations(60, seed=s) for s in (0, 1)]
    run = dataclasses.replace(SHORT_BC, emphasis=EmphasisConfig("given", "rank"))
    scores = [own.returns() for own in data]
    with pytest.raises(ValueError, match="set validation_share to 0"):
        train_bc(run, group(tmp_path), data, silent, None, scores)
    with pytest.raises(ValueError, match="'given' without scores"):
        train_bc(SHORT_BC, group(tmp_path), data[:2], silent, [run.emphasis] * 2)


def test_whatever_score_ipmd_is_given_by_name_it_finds_no_reward(tmp_path, monkeypatch):
    monkeypatch.setitem(emphasis_of_demonstrations._registered, "peek", Demonstrations.returns)
    peeking = dataclasses.replace(IPMD_RUN, emphasis=EmphasisConfig("peek", "rank"))
    data = [demonstrations(seed=s) for s in (0, 1)]
    with pytest.raises(DatasetError, match="reward-free"):
        train_ipmd(peeking, group(tmp_path), data, silent)


def test_what_an_emphasis_did_is_written_for_every_run_and_only_where_there_is_one(
    bc_root, tmp_path
):
    train(dataclasses.replace(SHORT_BC, min_steps=1, emphasis=BEST_HALF), tmp_path)
    reports = [json.loads((tmp_path / seed / "emphasis.json").read_text()) for seed in "01"]
    assert all(reports)
    assert reports[0] != reports[1]
    assert not list(bc_root.rglob("emphasis.json"))


def test_an_emphasis_that_the_learner_would_not_feel_is_refused():
    felt = EmphasisConfig(through="losses")
    with pytest.raises(ValueError, match="the plain mean ignores weights"):
        BCRun(emphasis=felt)
    BCRun(agent=BCConfig(reduction="weighted_mean"), emphasis=felt)
    with pytest.raises(ValueError, match=r"emphasis\.through must be 'batches'"):
        IPMDRun(emphasis=felt)


def test_a_warm_start_moves_the_actor_and_nothing_else_before_learning(tmp_path):
    states = []
    for updates in (0, 50):
        runs = group(tmp_path / str(updates))
        run = dataclasses.replace(IPMD_RUN, bc_pretrain_updates=updates)
        data = [demonstrations(seed=s) for s in (0, 1)]
        with pytest.raises(Killed):  # the checkpoint at the end of random play remains
            train_ipmd(run, runs, data, dying_at(LOOP.random_frames + 1))
        states.append(state_of(tmp_path / str(updates)))
    cold, warm = states
    moved = {name for name in cold if cold[name].tobytes() != warm[name].tobytes()}
    assert moved
    assert all(name.startswith((".agent.actor.", ".agent.actor_state")) for name in moved)
    assert warm[".agent.actor_state[0].count"] == 50


def test_policy_rows_may_be_drawn_from_a_recent_window_alone(ipmd_root, tmp_path):
    agent = dataclasses.replace(IPMD_RUN.agent, policy_rows="recent:20")
    recent = train(dataclasses.replace(IPMD_RUN, agent=agent), tmp_path)
    whole = state_of(ipmd_root)
    assert recent[".agent.step"] == whole[".agent.step"]
    assert not np.array_equal(recent[".agent.reward.weights[0]"], whole[".agent.reward.weights[0]"])
