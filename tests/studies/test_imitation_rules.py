"""What the imitation study refuses, before any folder is made; and what its presets are."""

import contextlib
import dataclasses
import re

import numpy as np
import pytest

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.provenance import Provenance
from steelyard.emphasis.demonstrations import EmphasisConfig
from steelyard.envs.registry import env_spec
from steelyard.envs.seeding import MOST_SEED, evaluation_seeds, start_seeds, training_seeds
from steelyard.studies.cells import Store
from steelyard.studies.engine import Options, run_study
from steelyard.studies.imitation import STUDY
from steelyard.studies.imitation.config import ARMS, PRESETS, ImitationConfig


@contextlib.contextmanager
def never(description, total):
    raise AssertionError(f"work began: {description}")
    yield


def refusal(tmp_path, config: ImitationConfig) -> str:
    """The message with which a config is refused; nothing may have been written."""
    runs = tmp_path / "runs"
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        run_study(STUDY, config, "smoke", "cmd", Options(runs), never)
    assert not runs.exists()
    return str(error.value)


SMOKE = STUDY.configure("smoke")


def agent(**changes) -> ImitationConfig:
    """The smoke config with changes of IPMD's agent."""
    agent = dataclasses.replace(SMOKE.ipmd.agent, **changes)
    return dataclasses.replace(SMOKE, ipmd=dataclasses.replace(SMOKE.ipmd, agent=agent))


def loop(**changes) -> ImitationConfig:
    """The smoke config with changes of IPMD's loop."""
    loop = dataclasses.replace(SMOKE.ipmd.loop, **changes)
    return dataclasses.replace(SMOKE, ipmd=dataclasses.replace(SMOKE.ipmd, loop=loop))


def with_(**changes) -> ImitationConfig:
    return dataclasses.replace(SMOKE, **changes)


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (with_(arms=("ipdm",)), ["no arm 'ipdm'", str(list(ARMS)), "Did you mean 'ipmd'?"]),
        (with_(arms=("mixed_reward",)), ["no arm 'mixed_reward'", "`steelyard train ipmd --arm"]),
        (with_(seeds=()), ["Seeds must be distinct and at least one, got ()"]),
        (with_(seeds=(1, 1)), ["Seeds must be distinct and at least one, got (1, 1)"]),
        (with_(seeds=(-1,)), [f"Seeds must lie between 0 and {MOST_SEED}, got -1"]),
        (with_(seeds=(10**6,)), [f"between 0 and {MOST_SEED}, got 1000000"]),
        (with_(eval_episodes=1), ["eval_episodes must be at least 2, got 1"]),
        (with_(demonstrations=()), ["demonstrations and quality each need at least one value"]),
        (with_(quality=()), ["demonstrations and quality each need at least one value"]),
        (with_(demonstrations=(4, 4)), ["demonstrations must be distinct values, got (4, 4)"]),
        (with_(quality=("expert", "expert")), ["quality must be distinct values"]),
        (with_(demonstrations=(4, 5)), ["between 1 and the 4 episodes there are, got 5"]),
        (with_(demonstrations=(0,)), ["between 1 and the 4 episodes there are, got 0"]),
        (with_(num_episodes=0), ["A run records 1 to 10000 episodes, got 0"]),
        (with_(num_episodes=10_001), ["A run records 1 to 10000 episodes, got 10001"]),
        (
            agent(env_reward_weight=0.5),
            ["'ipmd' never sees the task's reward", "env_reward_weight = 0.5", "mixed_reward"],
        ),
        (
            dataclasses.replace(agent(env_reward_weight=0.5), arms=("ipmd_frozen_reward",)),
            ["'ipmd_frozen_reward' never sees the task's reward"],
        ),
        (agent(policy_delay=3), ["num_envs × utd_ratio / policy_delay", "4 × 1.0 / 3"]),
        (loop(utd_ratio=0.3), ["num_envs × utd_ratio / policy_delay", "4 × 0.3 / 1"]),
        (with_(ipmd_frames=3), ["frames must be at least random_frames", "3 < 500"]),
        (with_(expert_frames=3), ["frames must be at least random_frames", "3 < 500"]),
        (with_(env="Pendulum-v7"), ["no task 'Pendulum-v7'", "Pendulum-v1"]),
        (
            with_(env="Hopper-v5", ipmd=agent(gamma=1.0).ipmd),
            ["Hopper-v5 can terminate", "gamma < 1 (got 1.0)", "--ipmd.agent.absorbing True"],
        ),
        (
            with_(env="Hopper-v5", ipmd=agent(absorbing=False).ipmd),
            ["Hopper-v5 can terminate", "absorbing state"],
        ),
    ],
)
def test_bad_input_is_refused_with_the_rule_the_value_and_the_legal_ones(config, parts, tmp_path):
    message = refusal(tmp_path, config)
    for part in parts:
        assert part in message


def small_dataset(task: str = "Pendulum-v1", rewards: bool = True) -> Demonstrations:
    spec = env_spec(task)
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            observations=rng.normal(size=(4, spec.observation_size)).astype(np.float32),
            actions=rng.uniform(-0.1, 0.1, (3, spec.action_size)).astype(np.float32),
            rewards=np.zeros(3, np.float32) if rewards else None,
            terminated=False,
            truncated=True,
            start_seed=index,
        )
        for index in range(4)
    ]
    return Demonstrations.from_episodes(episodes, spec, Provenance(task))


def test_a_missing_dataset_says_where_what_and_how_to_make_it(tmp_path):
    near = small_dataset().save(tmp_path / "demos" / "Pendulum-v1")
    wrong = tmp_path / "demos" / "Pendulum-v2"
    message = refusal(tmp_path, with_(expert_data=str(wrong)))
    for part in (str(wrong), "expert_buffer.safetensors", str(near), "steelyard train sac --env"):
        assert part in message


def test_the_latest_dataset_of_none_says_where_it_looked_and_how_to_make_one(tmp_path):
    message = refusal(tmp_path, with_(expert_data="latest"))
    assert "No demonstrations of Pendulum-v1 under" in message
    assert "steelyard train sac --env Pendulum-v1" in message


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "expert_buffer.pt"
    path.write_bytes(b"whatever it holds")
    assert "is a pickle" in refusal(tmp_path, with_(expert_data=str(path)))


def test_a_dataset_of_another_task_is_refused_with_both_side_by_side(tmp_path):
    path = small_dataset("HalfCheetah-v5").save(tmp_path / "cheetah")
    message = refusal(tmp_path, with_(expert_data=str(path)))
    assert re.search(r"task +dataset HalfCheetah-v5 +\|  environment Pendulum-v1", message)
    assert re.search(r"observation size +dataset 17 +\|  environment 3", message)


def test_more_demonstrations_than_the_dataset_holds_are_refused_with_both_numbers(tmp_path):
    path = small_dataset().save(tmp_path / "four")
    message = refusal(tmp_path, with_(expert_data=str(path), demonstrations=(5,)))
    assert "between 1 and the 4 episodes there are, got 5" in message


def test_a_dataset_of_several_seeds_wants_one_named(tmp_path):
    for seed in (0, 1):
        small_dataset().save(tmp_path / "both" / f"seed{seed}")
    message = refusal(tmp_path, with_(expert_data=str(tmp_path / "both")))
    assert "several seeds" in message
    assert str(tmp_path / "both" / "seed1") in message


def test_weighting_by_return_needs_demonstrations_with_rewards(tmp_path):
    path = small_dataset(rewards=False).save(tmp_path / "blind")
    emphasis = EmphasisConfig(score="episode_return", weighting="rank")
    bc = dataclasses.replace(SMOKE.bc, emphasis=emphasis)
    message = refusal(tmp_path, with_(expert_data=str(path), bc=bc))
    assert "bc.emphasis.score = 'episode_return' needs demonstrations with rewards" in message
    assert str(path) in message


# -- presets and identity ----------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("env", ["Pendulum-v1", "HalfCheetah-v5"])
def test_every_preset_passes_the_rules_and_plans_parents_first(preset, env, tmp_path):
    config, store = STUDY.configure(preset, env), Store(tmp_path, "imitation")
    STUDY.check(config, store)
    cells = STUDY.plan(config, store)
    assert len({cell.id for cell in cells}) == len(cells)
    seen = set()
    for cell in cells:
        assert cell.parent is None or cell.parent.id in seen
        seen.add(cell.id)
    imitators = [cell for cell in cells if cell.arm in ("bc", "ipmd", "ipmd_frozen_reward")]
    assert all(cell.parent.arm == "expert" for cell in imitators)
    assert all(cell.parent.seed == cell.seed for cell in imitators)
    assert {cell.arm for cell in cells} == set(ARMS)


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ValueError, match=r"no preset 'fast'.*'quick'"):
        STUDY.configure("fast")


def test_shortcuts_are_written_into_the_learners_settings():
    config = with_(expert_frames=7_000, ipmd_frames=5_000, bc_epochs=3).resolved()
    assert config.sac.loop.frames == 7_000
    assert config.ipmd.loop.frames == 5_000
    assert (config.bc.epochs, config.bc.min_steps) == (3, 0)
    assert config.resolved() == config


def test_every_learner_of_a_study_acts_in_its_task():
    config = with_(env="HalfCheetah-v5").resolved()
    assert {config.sac.env, config.ipmd.env, config.bc.env} == {"HalfCheetah-v5"}


def test_start_seeds_of_runs_do_not_meet_and_are_none_of_trainings_or_evaluations():
    blocks = [start_seeds(seed, 10_000) for seed in (0, 1, MOST_SEED)]
    assert len({seed for block in blocks for seed in block}) == 30_000
    assert min(blocks[0]) == 500_000_000
    assert max(blocks[-1]) < 2**31
    assert max(training_seeds(MOST_SEED, 100, 99)) < 500_000_000
    assert max(evaluation_seeds(1_000_000)) < 500_000_000


def test_wide_networks_train_one_seed_at_a_time_and_small_ones_together(tmp_path):
    store = Store(tmp_path, "imitation")

    def size(env):
        cells = STUDY.plan(STUDY.configure("full", env), store)
        return STUDY.group_size([cell for cell in cells if cell.arm == "ipmd"])

    assert size("Pendulum-v1") == 10
    assert size("HalfCheetah-v5") == 1


# Runs on disk are found by these names. If a change of settings is meant to make new runs, print
# the new names with `STUDY.plan(STUDY.configure("full", env), store)`; otherwise it is a mistake.
NAMES = {
    ("Pendulum-v1", "random"): "cc3ff07a805a",
    ("Pendulum-v1", "expert"): "c0997c9b4c7a",
    ("Pendulum-v1", "sac_same_budget"): "630e2314bd69",
    ("HalfCheetah-v5", "random"): "e16ae1b31b1d",
    ("HalfCheetah-v5", "expert"): "2b63c4cc7174",
}


@pytest.mark.parametrize("env", ["Pendulum-v1", "HalfCheetah-v5"])
def test_runs_of_the_full_preset_keep_their_names(env, tmp_path):
    cells = STUDY.plan(STUDY.configure("full", env), Store(tmp_path, "imitation"))
    first = {cell.arm: cell.id for cell in reversed(cells) if cell.seed == 0}
    for (task, arm), name in NAMES.items():
        if task == env:
            assert first[arm] == name, arm
