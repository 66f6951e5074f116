"""Policies of a SAC run's checkpoints: kept, told apart, loaded as they were, or refused."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_runs import SAC_RUN, Killed, dying_at, group, silent

from steelyard.envs.registry import env_spec
from steelyard.studies.cells import Cell
from steelyard.studies.imitation.plan import Expert
from steelyard.training.checkpoint import take_run
from steelyard.training.recipes import SACRun, fixed_normaliser, train_sac
from steelyard.training.run_folder import RunFolder, run_id, to_plain
from steelyard.training.sac_policies import load_sac_policies, sac_task
from steelyard.training.tasks import task_runs

KEPT = dataclasses.replace(SAC_RUN, keep_policies=True)
NAMES = ["checkpoint_000080", "checkpoint_000160", "checkpoint_000240", "checkpoint_000320"]


def write_config(folder, run=KEPT):
    cell = Cell("train_sac", "expert", 0, Expert(run, 1, 1))
    identity = {"study": cell.study, "arm": cell.arm, "seed": cell.seed, "config": cell.config}
    RunFolder(folder).open(identity)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    runs = group(tmp_path_factory.mktemp("kept"))
    agents = train_sac(KEPT, runs, silent)
    for folder in runs.folders:
        (folder.path / "config.json").unlink(missing_ok=True)
        write_config(folder.path)
    return runs, agents


def test_the_policy_of_every_checkpoint_is_kept_beside_the_one_state(trained):
    runs, _ = trained
    for folder in runs.folders:
        assert [name for name, _ in load_sac_policies(folder.path)] == NAMES
        assert [p.name for p in folder.checkpoints.glob("state_*")] == ["state_320.safetensors"]
        assert sac_task(folder.path) == KEPT.env


def test_the_last_one_acts_as_the_learner_does_and_earlier_ones_differ(trained):
    runs, agents = trained
    observation = jax.random.normal(jax.random.key(1), (5, 3))
    for index, folder in enumerate(runs.folders):
        policies = [policy for _, policy in load_sac_policies(folder.path)]
        learner = take_run(agents, index)
        for deterministic in (True, False):
            key = jax.random.key(3)
            expected = learner.act(observation, key, deterministic)
            acted = [policy.act(observation, key, deterministic) for policy in policies]
            np.testing.assert_array_equal(acted[-1], expected)
            assert not np.array_equal(acted[0], acted[-1])
        np.testing.assert_allclose(
            policies[0].mode(observation[0]), policies[0].act(observation, key, True)[0], rtol=1e-5
        )


def test_an_interrupted_run_keeps_the_same_policies(trained, tmp_path):
    with pytest.raises(Killed):
        train_sac(KEPT, group(tmp_path), dying_at(200))
    runs = group(tmp_path)
    train_sac(KEPT, runs, silent)
    for folder, whole in zip(runs.folders, trained[0].folders, strict=True):
        for name in NAMES:
            file = f"{name}.safetensors"
            found = (folder.checkpoints / file).read_bytes()
            assert found == (whole.checkpoints / file).read_bytes()


def test_a_run_that_keeps_none_says_which_option_does(tmp_path):
    write_config(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"keeps no policies; train with --checkpoint-ever"):
        load_sac_policies(tmp_path)
    with pytest.raises(FileNotFoundError, match="no run folder"):
        load_sac_policies(tmp_path / "elsewhere")


def test_a_policy_of_another_size_is_refused_with_both_shapes(trained, tmp_path):
    folder = tmp_path / "other"
    write_config(folder, dataclasses.replace(KEPT, env="Hopper-v5"))
    source = trained[0].folders[0].checkpoints
    (folder / "checkpoints").mkdir()
    for path in source.glob("checkpoint_*"):
        (folder / "checkpoints" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"\[3, 8\], expected float32\[11, 8\].*n_steps_lookahead"):
        load_sac_policies(folder)


def test_another_learners_run_is_refused(tmp_path):
    RunFolder(tmp_path).open({"config": {"run": {"kind": "BCRun"}}})
    with pytest.raises(ValueError, match="holds no SAC run: got BCRun"):
        load_sac_policies(tmp_path)


def test_options_that_were_added_later_leave_the_names_of_earlier_runs():
    plain = to_plain(SACRun())
    assert "keep_policies" not in plain
    assert not {"activation", "critic_dropout", "actor_q"} & set(plain["agent"])
    assert "keep_policies" in to_plain(SACRun(keep_policies=True))
    assert run_id(SACRun(keep_policies=True)) != run_id(SACRun())


def test_one_factor_stands_for_all_components():
    task, run = env_spec("Pendulum-v1"), SACRun("Pendulum-v1")
    one = fixed_normaliser(dataclasses.replace(run, observation_scale=(0.5,)), task)
    each = fixed_normaliser(dataclasses.replace(run, observation_scale=(0.5,) * 3), task)
    np.testing.assert_array_equal(one.std, each.std)
    assert fixed_normaliser(run, task) is None


def test_the_pianists_settings_need_its_package_and_are_the_references():
    pytest.importorskip("robopianist", reason="scripts/install_piano.sh")
    run = task_runs("RoboPianist-debug-TwinkleTwinkleLittleStar-v0").sac
    assert (run.agent.gamma, run.agent.tau, run.agent.target_entropy) == (0.8, 0.01, -19.5)
    assert (run.agent.hidden, run.agent.activation) == ((256, 256, 256), "gelu")
    assert run.keep_policies
    assert run.loop.frames == 6 * (run.loop.checkpoint_interval or 0)
