"""Training of dynamics models: what is drawn, what chooses the kept model, what is recovered."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr
from tiny_car import ARM, HELD_OUT, LAG, RUN, SHARP, TRAIN, WHEELBASE, recordings, run_of
from tiny_runs import group, rows_of, silent

from steelyard.agents.dynamics import HardReplayConfig, ModelConfig, predict
from steelyard.agents.dynamics.models import PlantModel
from steelyard.agents.dynamics.plants import SingleTrackPlant
from steelyard.data.trajectories import Trajectories
from steelyard.emphasis.weightings import Rank
from steelyard.numerics import se2
from steelyard.numerics.vehicle import MUSHR, to_unconstrained
from steelyard.training.dynamics import (
    loss_emphasis,
    measure,
    take_learner,
    train_dynamics,
    validation,
    windows_of,
)
from steelyard.training.dynamics_windows import Cut, WindowTable, recordings_of

# -- what is drawn ---------------------------------------------------------------------------

RAGGED = TRAIN.select(range(3))
LENGTHS = (6, 4, 3, 12)  # states; with a horizon of 3: 3, 1, 0 and 9 windows


@pytest.fixture(scope="module")
def ragged():
    rows = sum(LENGTHS)
    cut = {name: getattr(RAGGED, name)[:rows] for name in ("twist", "pose", "command", "dt")}
    names = tuple("abcd")
    return dataclasses.replace(RAGGED, **cut, lengths=np.array(LENGTHS), ids=names, groups=names)


@pytest.fixture(scope="module")
def draw():
    return jax.jit(WindowTable.draw, static_argnums=(2, 3))


def many(draw, table, groups=6, each=2):
    """Indices and labels of 400 batches."""
    drawn = [draw(table, jax.random.key(i), groups, each) for i in range(400)]
    assert all((np.asarray(owed) == 1.0).all() for _, _, owed in drawn)
    return (np.stack([np.asarray(pair[k]) for pair in drawn]) for k in (0, 1))


def test_no_window_crosses_the_end_of_a_trajectory(ragged):
    table = windows_of(ragged, RUN)
    start, owner = np.asarray(table.start), np.asarray(table.trajectory)
    assert len(start) == sum(max(n - 3, 0) for n in LENGTHS)
    first, last = ragged.offsets[owner], ragged.offsets[owner] + ragged.lengths[owner] - 1
    assert (first <= start).all()
    assert (start + 3 <= last).all()


def test_every_window_is_reachable_and_units_come_in_proportion_to_their_windows(ragged, draw):
    table = windows_of(ragged, RUN)
    index, labels = many(draw, table)
    assert set(index.ravel().tolist()) == set(range(13))
    assert (labels == np.repeat(np.arange(6), 2)).all()
    unit = np.asarray(table.unit)[index]
    # Windows of one label are of one unit.
    assert (unit[:, 0::2] == unit[:, 1::2]).all()
    share = np.bincount(unit[:, 0::2].ravel(), minlength=3) / unit[:, 0::2].size
    np.testing.assert_allclose(share, np.array([3, 1, 9]) / 13, atol=0.015)
    # Systematic: of six units drawn, each comes its expected number of times, rounded.
    counts = (unit[:, 0::2, None] == np.arange(3)).sum(axis=1)
    wanted = 6 * np.array([3, 1, 9]) / 13
    assert (np.floor(wanted) <= counts).all()
    assert (counts <= np.ceil(wanted)).all()
    # Within a unit, windows are alike.
    seen = np.bincount(index.ravel(), minlength=13) / index.size
    np.testing.assert_allclose(seen, 1 / 13, atol=0.02)


def test_blocks_of_a_recording_are_units_of_their_own(ragged, draw):
    table = windows_of(ragged, dataclasses.replace(RUN, block=4))
    # Windows start at steps 0-2; 0; 0-3, 4-7 and 8.
    assert np.asarray(table.count).tolist() == [3, 1, 4, 4, 1]
    assert np.asarray(table.first).tolist() == [0, 3, 4, 8, 12]
    index, _ = many(draw, table)
    pair = index.reshape(400, 6, 2)
    unit = np.asarray(table.unit)[pair]
    assert (unit[..., 0] == unit[..., 1]).all()
    assert set(index.ravel().tolist()) == set(range(13))
    start = np.asarray(table.start) - ragged.offsets[np.asarray(table.trajectory)]
    assert (start[pair[..., 0]] // 4 == start[pair[..., 1]] // 4).all()


def test_past_commands_lie_in_the_windows_own_trajectory(ragged):
    model = dataclasses.replace(RUN.agent.model, history=2)
    table = windows_of(
        ragged, dataclasses.replace(RUN, agent=dataclasses.replace(RUN.agent, model=model))
    )
    owner = np.asarray(table.trajectory)
    assert np.asarray(table.count).tolist() == [1, 7]
    assert (np.asarray(table.start) - ragged.offsets[owner] >= 2).all()


def test_units_drawn_by_other_chances_owe_for_it(ragged, draw):
    """The weighted mean of any number of the windows stays that of uniform draws."""
    table = windows_of(ragged, RUN)
    chances = jnp.array([0.1, 0.7, 0.2])
    drawn = [draw(table, jax.random.key(i), 6, 2, chances) for i in range(400)]
    index, owed = (np.stack([np.asarray(d[k]) for d in drawn]) for k in (0, 2))
    unit = np.asarray(table.unit)[index]
    share = np.bincount(unit.ravel(), minlength=3) / unit.size
    np.testing.assert_allclose(share, chances, atol=0.01)
    np.testing.assert_allclose(owed, (np.array([3, 1, 9]) / 13 / chances)[unit], rtol=1e-5)
    number = np.arange(13.0) ** 2
    assert np.mean(owed * number[index]) == pytest.approx(number.mean(), rel=0.03)


# -- hard replay -----------------------------------------------------------------------------


def with_replay(**settings):
    replay = HardReplayConfig(enabled=True, **settings)
    return dataclasses.replace(RUN, agent=dataclasses.replace(RUN.agent, hard_replay=replay))


@pytest.mark.parametrize("settings", [{"power": 0.0}, {"floor": 1.0}])
def test_hard_replay_without_sharpness_is_the_plain_run_bit_for_bit(
    settings, tmp_path, compiler, optimised
):
    plain, replayed = (
        train_dynamics((run,), group(tmp_path / name, seeds=(0,)), TRAIN, HELD_OUT, silent)
        for name, run in (("plain", RUN), ("replay", with_replay(**settings)))
    )
    same = jax.tree.map(lambda x, y: bool(jnp.all(x == y)), plain.model, replayed.model)
    assert all(jax.tree.leaves(same))


@pytest.mark.slow
def test_hard_replay_draws_the_trajectory_of_largest_loss_most_often(tmp_path):
    run = with_replay(power=1.0, floor=0.2)
    learner = take_learner(
        train_dynamics((run,), group(tmp_path, seeds=(0,)), TRAIN, HELD_OUT, silent), 0
    )
    last = np.asarray(learner.last_loss)
    assert (last < 1e30).all(), "every trajectory was drawn once"
    table = windows_of(TRAIN, run)
    chances = Rank(1.0, 0.0)(learner.last_loss[table.owner], base=table.base)
    ratio = np.asarray(chances / table.base)
    assert np.argmax(ratio) == np.argmax(last[np.asarray(table.owner)])
    assert spearmanr(ratio, last[np.asarray(table.owner)]).statistic == pytest.approx(1.0)


# -- what chooses the kept model -------------------------------------------------------------

LOST = run_of(
    one_step_mse={"enabled": False},
    rollout_mse={"enabled": False},
    pose_mse={"components": ("theta",), "weight": 1.0},
    input_noise=3.0,
)
"""Learns to turn towards the mean of what it is told by noise: its first model is its best."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory, compiler):
    """Two runs as their training returns them, and their rows."""
    root = tmp_path_factory.mktemp("kept")
    learners = train_dynamics(
        (run_of(**SHARP), LOST), group(root), TRAIN, HELD_OUT, silent, pack="map"
    )
    return [take_learner(learners, i) for i in (0, 1)], [rows_of(root, i) for i in (0, 1)]


def test_the_learner_of_least_open_loop_error_is_kept(kept):
    steps = []
    for learner, rows in zip(*kept, strict=True):
        best = min(rows, key=lambda row: row["val/loss"])
        assert int(learner.step) == best["step"]
        steps.append(best["step"])
    assert min(steps) < RUN.steps, "the last is the best of both runs, so this shows nothing"


def test_selection_metric_is_reported_metric(kept):
    held_out = recordings_of(HELD_OUT, 0)
    window, count = held_out.window, 24
    predict = jax.jit(lambda agent: agent.predict(window.twist[:, 0], window.command, window.dt))
    for learner, rows in zip(*kept, strict=True):
        twist = np.asarray(predict(learner), np.float64)
        pose = np.array(window.pose, np.float64)
        recorded = pose.copy()
        for k in range(count):
            vx, vy, w = (0.5 * (twist[:, k] + twist[:, k + 1])).T
            middle, chord = pose[:, k, 2] + 0.05 * w, 0.1 * np.sinc(0.05 * w / np.pi)
            cos, sin = np.cos(middle), np.sin(middle)
            pose[:, k + 1, 0] = pose[:, k, 0] + chord * (cos * vx - sin * vy)
            pose[:, k + 1, 1] = pose[:, k, 1] + chord * (sin * vx + cos * vy)
            pose[:, k + 1, 2] = pose[:, k, 2] + 0.1 * w
        apart = np.linalg.norm((pose - recorded)[..., :2], axis=-1)
        expected = np.mean([apart[i, 1:n].mean() for i, n in enumerate(HELD_OUT.lengths)])
        reported = min(row["val/loss"] for row in rows)
        assert reported == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_rollout_that_diverges_makes_the_validation_infinite_and_never_wins(kept):
    learner, held_out = kept[0][0], recordings_of(HELD_OUT, 0)
    far = eqx.tree_at(lambda a: a.average.residual_net.biases[-1], learner, jnp.full(3, 1e6))
    found = jax.jit(validation)(far, held_out)
    assert np.isposinf(found["val/loss"])
    assert np.isposinf(found["val_cvar20"])


def test_validation_rollouts_can_be_cut_from_the_recordings():
    cut = recordings_of(HELD_OUT, 0, Cut(steps=5, lead=4, min_speed=0.0))
    assert cut.window.dt.shape == (2 * 4 + 2 * 2, 5)
    assert bool(cut.valid.all())
    np.testing.assert_array_equal(cut.window.twist[0, 0], HELD_OUT.twist[4])
    with pytest.raises(ValueError, match="a lead of 4 steps is shorter than a history of 5"):
        recordings_of(HELD_OUT, 5, Cut(steps=5, lead=4))


def test_rows_report_the_tail_in_every_arm(kept):
    names = {"val/loss", "val_cvar20", "val_loss", "val_rollout", "rollout_cvar", "k_used", "alpha"}
    for rows in kept[1]:
        assert all(names <= row.keys() for row in rows)
        assert all(row["val_cvar20"] >= row["val/loss"] for row in rows)
        assert all(row["rollout_cvar"] >= row["rollout_mean"] for row in rows)
    assert kept[1][1][-1]["alpha"] == 1.0


def test_the_mean_is_a_tail_of_everything():
    for config in (RUN.agent, run_of(rollout_mse={"enabled": False}, **SHARP).agent):
        emphasis = loss_emphasis(config)
        assert float(emphasis.weighting.alpha) == 1.0
        assert float(emphasis.trim) == 0.0
    assert float(loss_emphasis(run_of(**SHARP).agent).weighting.alpha) == 0.25


# -- what is recovered -----------------------------------------------------------------------


def test_a_model_starts_from_the_car_that_was_fitted_to_its_data():
    plant, scales = measure(TRAIN, RUN)
    found = plant.parameters
    assert float(found.wheelbase) == pytest.approx(WHEELBASE, rel=0.01)
    assert float(found.drive.tau_v) == pytest.approx(LAG, rel=0.01)
    assert float(found.arm) == pytest.approx(ARM, rel=0.01)
    rows = TRAIN.step_rows()
    np.testing.assert_allclose(scales.twist_std, TRAIN.twist[rows].std(axis=0), rtol=1e-4)


def plain(run, type: str, steps: int = 1_000, lr: float = 0.01, **model):
    """The run with a plant alone, trained without noise."""
    quiet = run_of(run, input_noise=0.0, pose_mse={"enabled": False})
    optim = dataclasses.replace(quiet.agent.optim, lr=lr, average_decay=0.99)
    agent = dataclasses.replace(
        quiet.agent, model=ModelConfig(type=type, **model), optim=optim, groups=16
    )
    return dataclasses.replace(quiet, agent=agent, steps=steps, eval_every=steps // 4)


@pytest.mark.slow
def test_the_kinematic_plant_recovers_gain_over_wheelbase_and_lag(tmp_path):
    # The gain is no part of the fit that the training starts from.
    data = [recordings(40, 24, seed, gain=1.2) for seed in (0, 1)]
    run = plain(RUN, "kinematic")
    (learner,) = [take_learner(train_dynamics([run], group(tmp_path, (0,)), *data, silent), 0)]
    found = learner.average.plant.parameters
    assert float(found.steering_gain / found.wheelbase) == pytest.approx(1.2 / WHEELBASE, rel=0.02)
    assert float(found.drive.tau_v) == pytest.approx(LAG, rel=0.02)
    assert float(found.arm) == pytest.approx(ARM, rel=0.02)
    assert min(row["val/loss"] for row in rows_of(tmp_path, 0)) < 2e-3


def on_tyres(car, seed: int, count: int = 40, pieces: int = 7) -> Trajectories:
    """Trajectories of a single-track car from rest; commands change every second, after one of 0.

    A window that begins where they change begins with actuators that have come to rest.
    """
    rng = np.random.default_rng(seed)
    levels = np.stack(
        [rng.uniform(0.8, 3.0, (count, pieces)), rng.uniform(-0.3, 0.3, (count, pieces))], axis=-1
    )
    levels[:, 0] = 0.0
    command = jnp.asarray(np.repeat(levels, 10, axis=1), jnp.float32)
    dt = jnp.full(command.shape[:2], 0.1)
    plant = SingleTrackPlant(free=to_unconstrained(car), command_kind="velocity")
    rest = jnp.zeros((count, 3))
    twist = predict(PlantModel(plant), rest, command, dt, 0, rest)
    pose = jax.vmap(se2.integrate)(rest, twist, dt)
    rows = count * twist.shape[1]
    per_state = np.concatenate([command, command[:, -1:]], axis=1)
    return Trajectories(
        twist=np.asarray(twist).reshape(rows, 3),
        pose=np.asarray(pose).reshape(rows, 3),
        command=per_state.reshape(rows, 2),
        dt=np.full(rows, 0.1),
        lengths=np.full(count, twist.shape[1]),
        ids=tuple(f"tyres{seed}_{i}" for i in range(count)),
        groups=("tyres",) * count,
        command_kind="velocity",
    )


@pytest.mark.slow
def test_the_single_track_plant_recovers_tyres_and_lags(tmp_path):
    truth = eqx.tree_at(
        lambda car: (car.tau_drive, car.tau_steer, car.front_tyre.peak, car.rear_tyre.peak),
        MUSHR.single_track,
        (0.09, 0.06, 0.7, 0.7),
    )
    data = [on_tyres(truth, seed) for seed in (0, 1)]
    run = plain(run_of(rollout_mse={"horizon": 10}), "single_track", steps=1_500, history=10)
    run = dataclasses.replace(run, stride=10)
    learner = take_learner(train_dynamics([run], group(tmp_path, (0,)), *data, silent), 0)
    found = learner.average.plant.parameters
    assert float(found.tau_steer) == pytest.approx(0.06, rel=0.02)
    # The two lags of the drive lie in series and hardly tell from each other.
    assert float(found.tau_drive + found.drive.tau_v) == pytest.approx(0.19, rel=0.02)
    for tyre in (found.front_tyre, found.rear_tyre):
        stiffness = float(tyre.stiffness * tyre.shape * tyre.peak)
        assert stiffness == pytest.approx(14.7 * 1.5 * 0.7, rel=0.02)


@pytest.mark.slow
def test_a_structured_model_that_starts_at_the_truth_learns_no_residual(tmp_path):
    data = [recordings(40, 24, seed) for seed in (0, 1)]
    run = dataclasses.replace(run_of(input_noise=0.0), steps=1_000, eval_every=250)
    train_dynamics([run], group(tmp_path, (0,)), *data, silent)
    last = rows_of(tmp_path, 0)[-1]
    assert np.sqrt(last["reg_residual_l2"]) < 1e-3
    assert last["val/loss"] < 2e-3


@pytest.mark.slow
def test_on_noise_that_is_alike_everywhere_the_tail_has_nothing_to_gain(tmp_path):
    data = [recordings(40, 24, seed, noise=0.05) for seed in (0, 1)]
    runs = [run_of(**arm) for arm in ({}, {"rollout_cvar": {"enabled": True}}) for _ in range(6)]
    runs = [dataclasses.replace(run, steps=600, eval_every=200) for run in runs]
    seeds = list(range(len(runs)))
    # Pairs share a seed: the same start and the same batches.
    folders = dataclasses.replace(group(tmp_path, seeds), seeds=[seed % 6 for seed in seeds])
    train_dynamics(runs, folders, *data, silent)
    for name in ("val/loss", "val_cvar20"):
        best = [min(row[name] for row in rows_of(tmp_path, seed)) for seed in seeds]
        ratio = np.log(np.array(best[6:]) / np.array(best[:6]))
        spread = ratio.std(ddof=1) / np.sqrt(6)
        assert abs(ratio.mean()) < max(3 * spread, 0.05), name
