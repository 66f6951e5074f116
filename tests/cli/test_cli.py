"""The command line: the reference's steps as single commands, and errors that say what to do."""

import json

import numpy as np
import pytest

from steelyard.cli import main
from steelyard.data.demonstrations import Demonstrations
from steelyard.envs.registry import env_spec
from steelyard.studies.imitation.config import PRESETS, configure
from steelyard.training.tasks import task_runs

TINY = ["--hidden", "8", "--batch-size", "8", "--eval-episodes", "2"]


def run(*words):
    main([str(word) for word in words])


def refused(capsys, *words):
    """The one message of a command that is refused."""
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    return " ".join((shown.err + shown.out).split())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


def collect(place, *more):
    """The words of the command that made ``expert_data``."""
    loop = ["--frames", 400, "--random-frames", 100, "--num-envs", 2, "--num-episodes", 3]
    where = ["--runs", place / "runs", "--save-dir", place / "expert_data"]
    return ["train", "sac", "--env", "Pendulum-v1", *loop, *TINY, *where, *more]


@pytest.fixture(scope="module")
def expert_data(place):
    """What step 1 of the reference's workflow leaves behind."""
    run(*collect(place))
    return place / "expert_data" / "Pendulum-v1"


def test_collecting_leaves_demonstrations_where_the_reference_would(expert_data):
    folder = expert_data / "seed42"
    names = {path.name for path in folder.iterdir()}
    assert {"expert_buffer.safetensors", "metadata.json", "README.txt"} <= names
    data = Demonstrations.load(folder)
    assert list(data.lengths) == [200, 200, 200]
    assert data.provenance.deterministic is True


def test_collecting_again_is_no_overwriting_but_other_demonstrations_are_refused(
    expert_data, place, capsys, tmp_path
):
    run(*collect(place))
    file = expert_data / "seed42" / "expert_buffer.safetensors"
    before, runs = file.read_bytes(), set((place / "runs").rglob("config.json"))
    shown = refused(capsys, *collect(place, "--num-episodes", 2))
    assert str(expert_data / "seed42") in shown
    assert "--overwrite" in shown
    assert file.read_bytes() == before
    assert set((place / "runs").rglob("config.json")) == runs  # refused before any work
    where = ["--runs", tmp_path, "--save-dir", tmp_path / "copy"]
    (tmp_path / "copy" / "Pendulum-v1" / "seed42").mkdir(parents=True)
    run(*collect(place, "--num-episodes", 2, *where, "--overwrite"))
    assert len(Demonstrations.load(tmp_path / "copy" / "Pendulum-v1" / "seed42")) == 2


def test_ipmd_and_bc_train_on_the_collected_demonstrations(expert_data, place, capsys):
    runs = ["--runs", place / "runs"]
    loop = ["--frames", 240, "--random-frames", 100, "--num-envs", 2]
    small = [*TINY, "--expert-batch-size", 8]
    run("train", "ipmd", expert_data, *loop, *small, *runs)
    run("train", "bc", expert_data, "--epochs", 1, "--min-steps", 0, *TINY, "--no-wandb", *runs)
    shown = capsys.readouterr().out
    assert "ipmd (demonstrations 3, quality expert), seed 43: return" in shown
    assert "bc (demonstrations 3, quality expert), seed 44: return" in shown
    assert list((place / "runs").glob("train_ipmd/*/checkpoints/ipmd_model.safetensors"))
    assert list((place / "runs").glob("train_bc/*/checkpoints/bc_policy_seed44.safetensors"))


def test_evaluate_gives_the_return_that_training_reported(expert_data, place, capsys):
    (folder,) = (place / "runs" / "train_sac").iterdir()
    returns = json.loads((folder / "result.json").read_text())["per_start_returns"]
    run("evaluate", folder, "--episodes", 2)
    assert f"return {np.mean(returns):.2f}" in capsys.readouterr().out


def test_render_writes_an_animation(expert_data, place, capsys):
    from PIL import Image

    (folder,) = (place / "runs" / "train_sac").iterdir()
    run("render", folder)
    (film,) = (folder / "videos").glob("*.gif")
    with Image.open(film) as image:
        assert image.size == (320, 240)
        assert getattr(image, "n_frames", 1) > 50


def test_data_commands_inspect_check_and_convert(expert_data, place, capsys):
    run("data", "inspect", expert_data)
    run("data", "check", expert_data)
    written = {"minari": "pendulum-v0", "robomimic": "r.hdf5", "d4rl": "d.npz"}
    for name, path in written.items():
        run("data", "convert", expert_data, "--to", name, "--out", place / path)
    assert "3 episodes" in capsys.readouterr().out
    for path in written.values():
        assert len(Demonstrations.load(place / path, env_spec("Pendulum-v1"))) == 3


def test_single_commands_keep_the_reference_s_seeds(capsys):
    for learner, seed in (("sac", 42), ("ipmd", 43), ("bc", 44)):
        with pytest.raises(SystemExit):
            run("train", learner, "--help")
        assert f"(default: {seed})" in capsys.readouterr().out


def test_the_reference_preset_has_the_reference_s_defaults():
    config = configure("reference")
    assert config.sac.loop.frames == config.ipmd.loop.frames == 100_000
    assert config.bc.epochs == 100
    assert config.sac.agent.batch_size == config.ipmd.agent.expert_batch_size == 256
    assert config.bc.agent.batch_size == 256
    assert config.bc.agent.lr == config.sac.agent.actor_lr == 3e-4
    quick = configure("reference_quick")
    assert quick.sac.loop.frames == quick.ipmd.loop.frames == 50_000
    assert quick.bc.epochs == 50


def test_the_tasks_have_the_documented_settings():
    pendulum, cheetah = task_runs("Pendulum-v1"), task_runs("HalfCheetah-v5")
    assert (pendulum.sac.loop.frames, cheetah.sac.loop.frames) == (20_000, 500_000)
    assert (pendulum.ipmd.loop.frames, cheetah.ipmd.loop.frames) == (12_000, 300_000)
    assert pendulum.sac.agent.hidden == (64, 64)
    assert cheetah.sac.agent.hidden == (256, 256)
    assert cheetah.sac.agent.target_entropy == -3.0
    assert (pendulum.sac.agent.policy_delay, cheetah.sac.agent.policy_delay) == (1, 2)


def test_a_misspelt_command_names_the_nearest(capsys):
    assert "Did you mean 'train'?" in refused(capsys, "trian", "sac")
    assert "Did you mean 'imitation'?" in refused(capsys, "study", "run", "imitatoin")


def test_a_misspelt_option_names_the_nearest(capsys, expert_data):
    assert "--frames" in refused(capsys, "train", "ipmd", expert_data, "--framse", 3)


def test_missing_demonstrations_say_how_to_make_some(capsys, tmp_path):
    shown = refused(capsys, "train", "ipmd", tmp_path / "expert_data" / "Pendulum-v1")
    assert "no demonstrations found" in shown
    assert "steelyard train sac --env Pendulum-v1" in shown


def test_a_torch_file_is_never_opened(capsys, tmp_path):
    file = tmp_path / "expert_buffer.pt"
    file.write_bytes(b"\x80\x04not to be read")
    assert "coming-from" in refused(capsys, "train", "bc", file)


def test_another_task_than_the_dataset_s_shows_both(capsys, expert_data):
    shown = refused(capsys, "train", "ipmd", expert_data, "--env", "HalfCheetah-v5")
    assert "Pendulum-v1" in shown
    assert "HalfCheetah-v5" in shown


def test_an_unknown_task_names_the_nearest(capsys):
    assert "Pendulum-v1" in refused(capsys, "train", "sac", "--env", "Pendulm-v1")


def test_more_episodes_than_there_are_gives_both_numbers(capsys, expert_data):
    shown = refused(capsys, "train", "bc", expert_data, "--demonstrations", 9)
    assert "9" in shown
    assert "3" in shown


def test_a_mixed_reward_must_be_called_so(capsys, expert_data):
    words = ["train", "ipmd", expert_data, "--env-reward-weight", 0.5]
    assert "mixed_reward" in refused(capsys, *words)


def test_an_average_reward_on_a_terminating_task_is_refused(capsys):
    words = ["study", "run", "imitation", "--env", "Hopper-v5", "--ipmd.agent.gamma", "1.0"]
    assert "can terminate" in refused(capsys, *words)


def test_a_missing_gpu_is_named_with_what_jax_sees(capsys):
    shown = refused(capsys, "study", "run", "imitation", "--device", "cuda:0")
    assert "JAX sees" in shown
    assert "steelyard[cuda]" in shown


def test_fewer_frames_than_an_episode_is_only_a_warning(capsys, place):
    words = ["--frames", 40, "--random-frames", 20, "--num-envs", 2, "--num-episodes", 1]
    run("train", "sac", *words, *TINY, "--runs", place / "short")
    assert "400 are the least" in capsys.readouterr().err


def test_actions_in_the_wrong_units_say_which_option_mends_it(capsys, tmp_path):
    spec, steps = env_spec("Pendulum-v1"), 4
    rows = np.random.default_rng(0).normal(size=(steps + 1, 3)).astype(np.float32)
    file = tmp_path / "units.npz"
    np.savez(
        file,
        observations=rows[:-1],
        next_observations=rows[1:],
        actions=np.full((steps, 1), 2.5, np.float32),
        rewards=np.zeros(steps, np.float32),
        terminals=np.zeros(steps, bool),
        timeouts=np.arange(steps) == steps - 1,
    )
    shown = refused(capsys, "train", "bc", file, "--env", spec.id)
    assert "2.5" in shown
    assert "normalised" in shown


def test_return_weighting_needs_rewards(capsys, tmp_path, expert_data):
    blind = Demonstrations.load(expert_data / "seed42").without_rewards()
    blind.save(tmp_path / "blind")
    words = ["--emphasis.score", "episode_return", "--emphasis.weighting", "rank"]
    shown = refused(
        capsys, "train", "bc", tmp_path / "blind", *words, *TINY, "--runs", tmp_path / "runs"
    )
    assert "rewards" in shown


def test_a_full_device_is_one_line_with_what_to_do(capsys, tmp_path):
    words = ["--frames", 40, "--random-frames", 20, "--num-envs", 2, "--eval-episodes", 2]
    wide = ["--hidden", 2**23, 2**23]  # a layer of more bytes than any machine can address
    with pytest.raises(SystemExit) as stopped:
        run("train", "sac", *words, *wide, "--runs", tmp_path)
    assert stopped.value.code == 1
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("steelyard:"))
    assert "out of memory" in line
    assert "--seed-group 1" in line
    (status,) = tmp_path.glob("train_sac/*/status.json")
    assert "out of memory" in json.loads(status.read_text())["error"]


def test_help_names_every_preset(capsys):
    for learner in ("sac", "ipmd", "bc"):
        with pytest.raises(SystemExit):
            run("train", learner, "--help")
        shown = capsys.readouterr().out
        assert [name for name in PRESETS if f"`{name}`" not in shown] == []


def test_help_comes_without_a_dataset(capsys):
    for learner in ("ipmd", "bc"):
        with pytest.raises(SystemExit) as stopped:
            run("train", learner, "--help")
        assert stopped.value.code == 0
        assert "Demonstrations, in any format" in " ".join(capsys.readouterr().out.split())


def test_the_studies_are_listed_with_their_presets(capsys):
    run("study", "list")
    shown = capsys.readouterr().out
    assert "imitation" in shown
    assert "--preset quick" in shown
