"""Imitators never see the task's reward: whatever it is, they end in the same bits."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_runs import (
    BC_RUN,
    IPMD_RUN,
    LOOP,
    POISONS,
    SAC_RUN,
    assert_same_bits,
    demonstrations,
    group,
    rows_of,
    silent,
    state_of,
)

from steelyard.data.findings import DatasetError
from steelyard.training.recipes import train_bc, train_ipmd, train_sac


def poisoned_demonstrations(name: str, seed: int, episodes: int = 10):
    """Demonstrations whose rewards are poisoned, or gone where the poison is not a number."""
    data = demonstrations(episodes, seed)
    if name == "nan":
        return data.without_rewards()
    return dataclasses.replace(data, rewards=POISONS[name](data.rewards).astype(np.float32))


def final_states(root):
    return [state_of(root, seed) for seed in (0, 1)]


@pytest.mark.parametrize("name", POISONS)
def test_ipmd_ends_in_the_same_bits_whatever_the_rewards_are(name, ipmd_root, tmp_path):
    run = dataclasses.replace(IPMD_RUN, env=f"poisoned-{name}")
    train_ipmd(run, group(tmp_path), [poisoned_demonstrations(name, s) for s in (0, 1)], silent)
    for clean, poisoned in zip(final_states(ipmd_root), final_states(tmp_path), strict=True):
        assert clean[".agent.critic_state[0].count"] >= 200
        assert_same_bits(clean, poisoned)


@pytest.mark.slow
@pytest.mark.parametrize("name", POISONS)
def test_ipmd_ends_in_the_same_bits_after_two_thousand_updates(name, tmp_path):
    loop = dataclasses.replace(LOOP, frames=2_080, log_interval=400, checkpoint_interval=None)
    for env in (IPMD_RUN.env, f"poisoned-{name}"):
        run = dataclasses.replace(IPMD_RUN, env=env, loop=loop)
        clean = env == IPMD_RUN.env
        data = [
            demonstrations(seed=s) if clean else poisoned_demonstrations(name, s) for s in (0, 1)
        ]
        train_ipmd(run, group(tmp_path / env), data, silent)
    for seed in (0, 1):
        clean = state_of(tmp_path / IPMD_RUN.env, seed)
        assert clean[".agent.critic_state[0].count"] == 2_000
        assert_same_bits(clean, state_of(tmp_path / f"poisoned-{name}", seed))


@pytest.mark.parametrize("name", POISONS)
def test_bc_ends_in_the_same_bits_whatever_the_rewards_are(name, bc_root, tmp_path):
    data = [poisoned_demonstrations(name, seed, 50) for seed in (0, 1)]
    train_bc(BC_RUN, group(tmp_path), data, silent)
    for clean, poisoned in zip(final_states(bc_root), final_states(tmp_path), strict=True):
        assert_same_bits(clean, poisoned)


@pytest.mark.parametrize("name", [name for name in POISONS if name != "nan"])
def test_the_same_poison_changes_what_sac_learns(name, sac_root, tmp_path):
    train_sac(dataclasses.replace(SAC_RUN, env=f"poisoned-{name}"), group(tmp_path), silent)
    for clean, poisoned in zip(final_states(sac_root), final_states(tmp_path), strict=True):
        weights = ".agent.critics.weights[0]"
        assert np.isfinite(poisoned[weights]).all()
        assert not np.allclose(clean[weights], poisoned[weights])


def test_rewards_that_are_not_a_number_stop_sac(tmp_path):
    with pytest.raises(FloatingPointError, match=r"loss_qvalue is nan, .* in arm 'tiny', seed 0"):
        train_sac(dataclasses.replace(SAC_RUN, env="poisoned-nan"), group(tmp_path), silent)


def test_demonstrations_refuse_rewards_that_are_not_a_number():
    data = demonstrations()
    with pytest.raises(DatasetError, match="`rewards` must be finite"):
        dataclasses.replace(data, rewards=np.full_like(data.rewards, np.nan))


def test_a_return_that_is_not_a_number_is_null_in_the_metrics(tmp_path):
    run = dataclasses.replace(IPMD_RUN, env="poisoned-nan")
    train_ipmd(run, group(tmp_path), [demonstrations(seed=s) for s in (0, 1)], silent)
    assert any("episode/return" in row for row in rows_of(tmp_path))

    def refuse(word: str):
        raise AssertionError(f"{word} is not JSON")

    for line in (tmp_path / "0" / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line, parse_constant=refuse)
        assert row.get("episode/return") is None
