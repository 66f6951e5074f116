"""The car study from end to end, at a size that takes seconds."""

import csv
import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from small_study import quiet

from steelyard.cli import main
from steelyard.data.dart_files import find_dart
from steelyard.evaluation.metrics_file import read_metrics
from steelyard.reports import load_records, load_spec, summarise, write_report, write_results
from steelyard.studies.car import STUDY
from steelyard.studies.car.arms import ARMS, MATRIX, TAIL, pairs
from steelyard.studies.car.config import PRESETS, RealData, SimulatedData
from steelyard.studies.car.reference_tree import write_reference_tree
from steelyard.studies.car.sources import Fold, real_source, simulated_source
from steelyard.studies.cells import Store
from steelyard.studies.engine import Options, run_study
from steelyard.training.dynamics_files import load_model

NOWHERE = Store(Path("nowhere"), "car")
DATA = SimulatedData("car-single-track", train=12, validation=4, test=6)
ARMS_RUN = ("structured", "structured_cvar0p2", "naive", "ensemble")


def tiny(**changes):
    config = STUDY.configure("smoke")
    agent = dataclasses.replace(config.learner.agent, groups=4, windows_per_group=2)
    learner = dataclasses.replace(config.learner, agent=agent, steps=20, eval_every=10)
    return dataclasses.replace(
        config, simulated=DATA, learner=learner, arms=ARMS_RUN, seeds=(0, 1), **changes
    )


def run(root, config):
    return run_study(STUDY, config, "smoke", "cmd", Options(root, executor="inline"), quiet)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compiler):
    root = tmp_path_factory.mktemp("car")
    config = tiny()
    folder = run(root, config)
    records, spec = STUDY.records(config, Store(root, "car"), "smoke", "cmd")
    write_report(records, spec, folder)
    write_results(records, spec, folder)
    return root, config, folder


def test_the_matrix_is_the_reference_24_runs_in_12_pairs():
    config = STUDY.configure("matrix")
    config = dataclasses.replace(config, seeds=(0, 1, 2, 3, 4))
    cells = STUDY.plan(config, NOWHERE)
    assert len(cells) == 24
    sweep = [c.seed for c in cells if c.arm == "exp2_seed_sweep"]
    assert sweep == [0, 1, 2, 3, 4]
    assert {c.seed for c in cells if "sweep" not in c.arm} == {42}
    assert sum(c.arm.endswith(TAIL) for c in cells) == 12
    assert len({c.id for c in cells}) == 24


def test_the_24_runs_train_in_four_programs():
    config = dataclasses.replace(STUDY.configure("matrix"), seeds=(0, 1, 2, 3, 4))
    packs = [cell.program for cell in STUDY.plan(config, NOWHERE)]
    assert sorted(packs.count(p) for p in set(packs)) == [2, 2, 2, 18]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_plans_runs_of_distinct_identity(preset):
    config = STUDY.configure(preset)
    cells = STUDY.plan(config, NOWHERE)
    assert len({cell.id for cell in cells}) == len(cells) > 0
    STUDY.check(config, NOWHERE)


def test_an_arm_and_its_tail_differ_in_the_tail_alone():
    base = STUDY.configure("matrix").learner.agent
    for tailed, plain in pairs(MATRIX):
        with_tail, without = ARMS[tailed].change(base), ARMS[plain].change(base)
        tail = dataclasses.replace(with_tail.loss.rollout_cvar, enabled=False)
        loss = dataclasses.replace(with_tail.loss, rollout_cvar=tail)
        assert dataclasses.replace(with_tail, loss=loss) == without
        assert with_tail.loss.rollout_cvar.enabled
        assert with_tail.loss.rollout_cvar.alpha == 0.2


def test_each_reference_configuration_changes_what_its_name_says():
    base = STUDY.configure("matrix").learner.agent
    changed = {name: ARMS[name].change(base) for name in MATRIX}
    assert base.loss.rollout_mse.teacher_forcing_prob == 0.2
    assert changed["exp2_seed_sweep"] == base
    assert changed["exp2_h20"].loss.rollout_mse.horizon == 20
    assert changed["exp2_tf0"].loss.rollout_mse.teacher_forcing_prob == 0.0
    assert changed["exp2_tf0p5"].loss.rollout_mse.teacher_forcing_prob == 0.5
    assert changed["exp2_xytheta"].loss.pose_mse.components == ("x", "y", "theta")
    assert changed["exp2_xytheta"].loss.pose_mse.weight == 0.02
    assert changed["exp2_resl2_0p01"].regularization.residual_l2_weight == 0.01
    assert changed["exp6_direct_rollout_pose"].model.type == "direct"
    assert changed["exp6_direct_rollout_pose"].model.control_adapter.enabled
    assert not changed["exp7_direct_no_adapter_rollout_pose"].model.control_adapter.enabled


def test_every_run_writes_the_documented_files(finished):
    root, config, folder = finished
    store = Store(root, "car")
    cell = next(c for c in STUDY.plan(config, store) if c.arm == "structured_cvar0p2")
    names = {path.name for path in store.folder(cell).path.iterdir()}
    assert names >= {
        "config.json",
        "status.json",
        "result.json",
        "metrics.jsonl",
        "losses.csv",
        "standardizers.json",
        "selected.json",
        "checkpoints",
        "plots",
        "eval",
    }
    with (store.folder(cell).path / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:12] == [
        *("epoch", "train_loss", "val_loss", "train_one_step", "train_rollout", "train_pose"),
        *("eval_vel_mse", "eval_pos_mse", "rollout_mean", "rollout_cvar", "k_used", "alpha"),
    ]
    assert [int(float(row["step"])) for row in rows] == [10, 20]
    assert float(rows[-1]["alpha"]) == pytest.approx(0.2)
    assert {path.name for path in folder.iterdir()} >= {
        *("report.html", "results.txt", "results.csv", "summary.json", "slopes.png"),
        *("exceedance_mixed.png", "quantile_ratio.png"),
    }


def test_scores_are_those_of_the_kept_model_on_the_test_rollouts(finished):
    root, config, _ = finished
    store = Store(root, "car")
    cell = next(c for c in STUDY.plan(config, store) if c.arm == "structured")
    run_folder = store.folder(cell)
    kept = load_model(run_folder.path / "checkpoints" / "best.safetensors")
    test = simulated_source(DATA, store).tests["mixed"].trajectories
    twist = np.stack(
        [test.twist[o : o + n] for o, n in zip(test.offsets, test.lengths, strict=True)]
    )
    command = np.stack(
        [test.command[o : o + n - 1] for o, n in zip(test.offsets, test.lengths, strict=True)]
    )
    arrays = (jnp.asarray(x) for x in (twist[:, 0], command, np.full(command.shape[:2], 0.1, "f4")))
    predicted = np.asarray(kept.predict(*arrays))
    result = run_folder.read("result.json")
    metrics = read_metrics(next(run_folder.path.glob("eval/*_mixed/metrics.json")))
    assert result["tests"]["mixed"]["ate_m"] == pytest.approx(metrics.values("ate_m"), rel=1e-4)
    rmse = np.sqrt(np.mean((predicted[:, 1:, 0] - twist[:, 1:, 0]) ** 2, axis=1)).mean()
    assert result["tests"]["mixed"]["rmse_vx"] == pytest.approx(rmse, rel=1e-3)


def test_the_report_pairs_seeds_and_gives_a_verdict_on_the_tail(finished):
    _, _, folder = finished
    summary = json.loads((folder / "summary.json").read_text())
    (tail,) = summary["tails"]
    assert (tail["arm"], tail["baseline"]) == ("structured_cvar0p2", "structured")
    assert tail["outcome"] == "preliminary"  # two seeds are too few for a claim
    records = load_records(folder / "raw.jsonl")
    assert load_spec(folder / "report_spec.json").study == "car"
    seeds = {arm: {r.seed for r in records if r.arm == arm} for arm in ARMS_RUN}
    assert seeds == {arm: {0} if arm == "naive" else {0, 1} for arm in ARMS_RUN}
    assert all(len(r.per_start_returns) == 6 for r in records)


def test_running_again_trains_nothing(finished, capsys):
    root, config, _ = finished
    run(root, config)
    assert "0 groups to train" in capsys.readouterr().err


@pytest.mark.slow
def test_kill_and_resume_equals_uninterrupted(finished, tmp_path, compiler):
    root, config, _ = finished
    slow = dataclasses.replace(config, arms=("structured", "structured_cvar0p2"))
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "import test_car_study as t, dataclasses\n"
        "t.run(Path(sys.argv[1]), dataclasses.replace(t.tiny(), arms=('structured', "
        "'structured_cvar0p2')))\n"
    )
    here = str(Path(__file__).parent)
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), here], env=compiler)
    store = Store(tmp_path, "car")
    cells = STUDY.plan(slow, store)
    until = time.monotonic() + 120
    while time.monotonic() < until and child.poll() is None:
        if any(store.folder(c).metrics.exists() for c in cells):
            break
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    run(tmp_path, slow)
    for cell in cells:
        again = store.folder(cell).read("result.json")["tests"]
        assert again == Store(root, "car").folder(cell).read("result.json")["tests"]


@pytest.mark.slow
def test_a_seed_depends_on_nothing_that_it_is_packed_with(finished, tmp_path):
    root, config, _ = finished
    alone = dataclasses.replace(config, arms=("structured",), seeds=(1,))
    run(tmp_path, alone)
    (cell,) = STUDY.plan(alone, Store(tmp_path, "car"))
    mine = Store(tmp_path, "car").folder(cell).read("result.json")["tests"]
    packed = Store(root, "car").folder(cell).read("result.json")["tests"]
    assert mine["mixed"]["ate_m"] == pytest.approx(packed["mixed"]["ate_m"], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ("structred",)}, "Did you mean 'structured'"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": (1, 1)}, "distinct"),
        ({"seeds": (-1,)}, "at least 0"),
    ],
)
def test_bad_input_is_refused_before_any_work(changes, message, tmp_path):
    config = dataclasses.replace(tiny(), **changes)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, config)
    assert not (tmp_path / "car").exists()


def test_an_unknown_simulator_or_preset_is_refused():
    with pytest.raises(ValueError, match="car-mujoco"):
        STUDY.configure("quick", "HalfCheetah-v5")
    with pytest.raises(ValueError, match="no preset"):
        STUDY.configure("quik")


def test_a_run_of_the_study_can_be_evaluated_again_by_command(finished, capsys):
    root, config, _ = finished
    store = Store(root, "car")
    cell = next(c for c in STUDY.plan(config, store) if c.arm == "structured")
    path = store.folder(cell).path
    main(["evaluate", str(path), "--num-eval-trajs", "3", "--random", "--figures", "0"])
    line = capsys.readouterr().out
    assert line.startswith("mixed: 3 rollouts")
    written = Path(line.split("→")[1].strip())
    ids = json.loads(written.read_text())["eval_config"]["evaluated_ids"]
    test = simulated_source(DATA, store).tests["mixed"].trajectories
    assert set(ids) < set(test.ids)


def test_save_dir_and_env_work_for_a_study_without_a_task(tmp_path, capsys):
    words = "study status car --preset smoke --env car-single-track --save-dir x --runs"
    main([*words.split(), str(tmp_path)])
    assert "structured_cvar0p2" in capsys.readouterr().out


@pytest.mark.slow
def test_the_reference_tree_holds_what_its_scripts_read(compiler, tmp_path, capsys):
    config = tiny(real=RealData(arms=()))
    config = dataclasses.replace(
        config, arms=("exp2_seed_sweep", "exp2_seed_sweep_cvar0p2"), seeds=(0, 1), sweep_all=False
    )
    folder = run(tmp_path / "runs", config)
    out = tmp_path / "experiments-v2"
    main(["export", str(folder), "--to", "reference", "--out", str(out)])
    assert "4 runs" in capsys.readouterr().out
    # The reference's first snippet, as it is but for the folder that it starts from.
    results = []
    for metrics_file in out.glob("*/*/eval_runs/*/metrics.json"):
        data = json.loads(metrics_file.read_text())
        results.append((metrics_file.relative_to(tmp_path).parts[1], data))
        assert len(data["per_trajectory"]) == DATA.test
    names = [name for name, _ in results]
    assert sorted(names) == [
        "exp2_seed0", "exp2_seed0_cvar0p2", "exp2_seed1", "exp2_seed1_cvar0p2",
    ]  # fmt: skip
    run_folder = out / "exp2_seed0_cvar0p2" / "residual_seed0_cvar0p2"
    held = {path.name for path in run_folder.iterdir()}
    assert {"config.json", "losses.csv", "standardizers.json", "eval_runs"} <= held
    assert "loss_train.png" in held
    main(["export", str(folder), "--to", "reference", "--out", str(out)])  # again: replaced
    assert len(list(out.glob("*/*/eval_runs/*"))) == 4


def test_a_tree_of_no_run_is_refused(finished, tmp_path):
    _, _, folder = finished
    for place, message in ((folder, "those of the preset `matrix`"), (tmp_path, "no study.json")):
        with pytest.raises(FileNotFoundError, match=message):
            write_reference_tree(place, tmp_path / "out")


@pytest.mark.skipif(find_dart() is None, reason="the DART recordings are not here")
def test_the_real_car_is_tested_in_short_and_in_long_rollouts_of_the_same_files():
    source = real_source(RealData(), Fold(0, "any"))
    names = [name.removesuffix(", 5 s") for name in source.tests]
    assert names == [*names[:4], *names[:4]]
    assert "dart validation" in names
    for name in names[:4]:
        short, long = source.tests[name], source.tests[f"{name}, 5 s"]
        assert short.trajectories is long.trajectories
        assert (short.cut.steps, long.cut.steps) == (40, 100)
        assert short.cut.lead == long.cut.lead
        counts = [len(t.cut.windows(t.trajectories).start) for t in (short, long)]
        assert counts[0] > counts[1] > 0
    assert source.cut == source.tests["dart validation"].cut


def test_seeds_that_an_arm_does_not_have_by_design_are_not_missing(finished):
    root, config, _ = finished
    records, spec = STUDY.records(config, Store(root, "car"), "smoke", "cmd")
    assert spec.expected == {"naive": (0,)}
    assert summarise(records, spec).missing == ()
