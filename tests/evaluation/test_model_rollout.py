import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.data.trajectories import Trajectories, TrajectoryData
from steelyard.evaluation import model_rollout as rollouts
from steelyard.evaluation.metrics_file import (
    EvaluationInfo,
    metrics_json,
    read_metrics,
    write_metrics,
)
from steelyard.evaluation.model_rollout import Recordings, Speed
from steelyard.evaluation.motion_metrics import (
    DIVERGED_MSE,
    MotionErrors,
    motion_metrics,
    reference_metrics,
    summarise_motion,
)

DT = 0.1
INFO = EvaluationInfo("runs/car/0", "c.json", "w.safetensors", "cpu", "20260101_000000", 3, False,
                      None, ("a", "b", "c"))  # fmt: skip
REFERENCE_KEYS = {
    "id", "traj_len", "traj_state_mse", "traj_pos_mse", "traj_vel_mse", "traj_pos_mse_per_dim",
    "traj_vel_mse_per_dim", "final_state_mse", "final_pos_mse", "final_vel_mse",
    "final_pos_mse_per_dim", "final_vel_mse_per_dim",
}  # fmt: skip


def driven(steps, seed, turn=0.0, shift=(0.0, 0.0)):
    """A smooth drive, finely integrated, as the four columns of Trajectories."""
    fine = 50
    t = np.arange(steps * fine + 1) * DT / fine
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    v, w = 1 + 0.5 * np.sin(t + phase[0]), np.sin(0.7 * t + phase[1])
    vy = 0.1 * np.sin(t + phase[2])
    theta = turn + np.concatenate([[0], np.cumsum((w[1:] + w[:-1]) / 2 * DT / fine)])
    dx, dy = v * np.cos(theta) - vy * np.sin(theta), v * np.sin(theta) + vy * np.cos(theta)
    x = shift[0] + np.concatenate([[0], np.cumsum((dx[1:] + dx[:-1]) / 2 * DT / fine)])
    y = shift[1] + np.concatenate([[0], np.cumsum((dy[1:] + dy[:-1]) / 2 * DT / fine)])
    rows = slice(None, None, fine)
    twist, pose = np.stack([v, vy, w], 1)[rows], np.stack([x, y, theta], 1)[rows]
    command = np.stack([v, 0.2 * w], 1)[rows]
    command[-1] = command[-2]
    return twist, pose, command


def trajectories(lengths=(21, 8, 13), **placed):
    parts = [driven(n - 1, i, **placed) for i, n in enumerate(lengths)]
    twist, pose, command = (np.concatenate(column).astype(np.float32) for column in zip(*parts))  # noqa: B905
    return Trajectories(
        twist, pose, command, np.full(sum(lengths), DT, np.float32), np.array(lengths),
        tuple("abcdefgh"[: len(lengths)]), ("mixed",) * len(lengths), "velocity",
    )  # fmt: skip


class Linear(eqx.Module):
    """``s' = s + dt (A s + B u)``, with the command of ``lag`` steps ago."""

    a: jax.Array
    b: jax.Array
    lag: int = eqx.field(static=True, default=0)

    def __call__(self, twist0, command, dt):
        held = command[:, command.shape[1] - dt.shape[1] - self.lag :][:, : dt.shape[1]]

        def one(start, us, steps):
            def step(s, inputs):
                u, h = inputs
                s = s + h * (self.a @ s + self.b @ u)
                return s, s

            return jnp.concatenate([start[None], jax.lax.scan(step, start, (us, steps))[1]])

        return jax.vmap(one)(twist0, held, dt)


def linear(seed=0, lag=0):
    g = np.random.default_rng(seed)
    a, b = 0.3 * g.normal(size=(3, 3)), 0.3 * g.normal(size=(3, 2))
    return Linear(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), lag)


def errors_of(rollout, recordings):
    return MotionErrors.of(rollouts.predict(rollout, recordings), recordings)


def constant_errors(values, states=11, items=1, dt=0.1):
    """Errors that are the same at every state but the start."""
    error = np.broadcast_to(np.asarray(values, float), (items, states, 6)).copy()
    error[:, 0] = 0
    ones = np.ones((items, states), bool)
    elapsed = np.broadcast_to(dt * np.arange(states), (items, states)).copy()
    return MotionErrors(error, ones, ones, elapsed, 2.0 * elapsed)


def test_reference_metrics_of_the_example_worked_by_hand():
    errors = constant_errors([0.1, 0.1, np.deg2rad(5), 0.05, 0.02, 0.1])
    metrics = reference_metrics(errors)
    assert metrics["traj_state_mse"][0] == pytest.approx(0.006753, abs=5e-7)
    assert metrics["final_state_mse"][0] == pytest.approx(0.006753, abs=5e-7)
    assert metrics["traj_pos_mse"][0] == pytest.approx((0.02 + np.deg2rad(5) ** 2) / 3)
    assert metrics["traj_vel_mse_per_dim"][0] == pytest.approx([0.0025, 0.0004, 0.01])
    assert metrics["traj_len"][0] == 11


def test_our_metrics_of_the_same_example_are_each_of_one_unit():
    errors = constant_errors([0.03, 0.04, np.deg2rad(-5), 0.05, -0.02, 0.1])
    metrics = {name: values[0] for name, values in motion_metrics(errors, 0.5).items()}
    assert metrics == pytest.approx({
        "ate_m": 0.05, "fde_m": 0.05, "heading_deg": 5.0, "rmse_vx": 0.05, "rmse_vy": 0.02,
        "rmse_w": 0.1, "time_to_10cm_s": np.nan, "drift_percent": 5.0, "diverged": False,
    }, nan_ok=True)  # fmt: skip


def test_a_growing_error_is_averaged_over_time_and_crosses_ten_centimetres_once():
    errors = constant_errors(np.zeros(6))
    errors.error[0, :, 0] = 0.03 * np.arange(11)
    metrics = motion_metrics(errors)
    assert metrics["ate_m"][0] == pytest.approx(0.03 * 5.5)
    assert metrics["fde_m"][0] == pytest.approx(0.3)
    assert metrics["time_to_10cm_s"][0] == pytest.approx(0.4)
    assert np.isnan(motion_metrics(errors, 0.3)["time_to_10cm_s"][0])


@pytest.mark.parametrize(
    ("dt", "horizon", "state"),
    [(0.1, 0.5, 5), (0.1, 0.1, 1), (0.033, 0.1, 3), (0.04, 0.1, -1), (0.2, 0.1, -1),
     (0.1, 1.0, 10), (0.1, 2.0, -1), (0.1, None, 10)],
)  # fmt: skip
def test_a_horizon_is_the_nearest_state_within_a_tenth_of_it(dt, horizon, state):
    assert constant_errors(np.ones(6), dt=dt).last_state(horizon)[0] == state
    reached = motion_metrics(constant_errors(np.ones(6), dt=dt), horizon)["ate_m"][0]
    assert np.isnan(reached) == (state < 1)


def test_a_car_that_hardly_moved_has_no_drift_in_percent():
    errors = constant_errors(np.ones(6))
    still = MotionErrors(errors.error, errors.valid, errors.alive, errors.elapsed_s,
                         0.01 * errors.elapsed_s)  # fmt: skip
    assert np.isnan(motion_metrics(still)["drift_percent"][0])


def test_the_floor_is_the_integrator_alone_and_the_naive_twist_never_changes():
    recordings = rollouts.whole_trajectories(trajectories())
    floor = rollouts.floor(recordings)
    assert np.all(np.asarray(floor.error[..., 3:]) == 0)
    assert 0 < motion_metrics(MotionErrors.of(floor, recordings))["fde_m"].max() < 0.01
    naive = rollouts.naive(recordings)
    assert np.ptp(np.asarray(naive.twist), axis=1).max() == 0
    coarse = motion_metrics(MotionErrors.of(rollouts.floor(recordings, "next"), recordings))
    assert coarse["fde_m"].min() > 0.015


def test_an_item_scores_the_same_alone_and_among_longer_ones():
    data, model = trajectories(), linear()
    together = errors_of(model, rollouts.whole_trajectories(data))
    alone = errors_of(model, rollouts.whole_trajectories(data.select([1])))
    for metrics in (reference_metrics, motion_metrics):
        for name, values in metrics(together).items():
            np.testing.assert_allclose(values[1], metrics(alone)[name][0], rtol=2e-5, err_msg=name)


def test_windows_and_whole_trajectories_with_history_agree():
    data, history = trajectories((13, 13)), 3
    model = linear(lag=2)
    windows = data.windows(horizon=9, stride=9, history=history)
    window = TrajectoryData.of(data).gather(jnp.asarray(windows.start), 9, history)
    one = rollouts.predict(model, Recordings.of_window(window))
    two = rollouts.predict(model, rollouts.whole_trajectories(data, history))
    np.testing.assert_array_equal(one.error, two.error)
    cut = rollouts.whole_trajectories(data, history, max_steps=4)
    np.testing.assert_array_equal(cut.window.command, window.command[:, : history + 4])
    np.testing.assert_array_equal(cut.window.pose, window.pose[:, :5])


def test_a_rigid_motion_of_the_world_changes_no_error():
    model = linear()
    here = motion_metrics(errors_of(model, rollouts.whole_trajectories(trajectories())))
    moved = trajectories(turn=2.5, shift=(3.0, -4.0))
    there = motion_metrics(errors_of(model, rollouts.whole_trajectories(moved)))
    for name, values in here.items():
        np.testing.assert_allclose(there[name], values, rtol=1e-3, atol=1e-5, err_msg=name)


def test_whole_turns_of_the_heading_are_no_error():
    recordings = rollouts.whole_trajectories(trajectories((9,)))
    turned = eqx.tree_at(
        lambda r: r.window.pose, recordings, recordings.window.pose.at[:, 1:, 2].add(4 * np.pi)
    )
    error = rollouts.floor(turned).error
    np.testing.assert_allclose(error[..., 2], rollouts.floor(recordings).error[..., 2], atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_a_diverged_item_has_infinite_errors_from_there_on_and_spoils_no_other(bad):
    recordings = rollouts.whole_trajectories(trajectories((13, 13)))

    def fails_late(twist0, command, dt):
        return recordings.window.twist.at[0, 7:, 1].set(bad)

    errors = errors_of(fails_late, recordings)
    before, after = motion_metrics(errors, 0.5), motion_metrics(errors, 1.0)
    assert before["diverged"].tolist() == [False, False]
    assert after["diverged"].tolist() == [True, False]
    assert np.isfinite(before["ate_m"]).all()
    for name in ("ate_m", "fde_m", "heading_deg", "rmse_w", "drift_percent"):
        assert np.isinf(after[name]).tolist() == [True, False]
    assert after["time_to_10cm_s"][0] == pytest.approx(0.7)
    assert reference_metrics(errors)["traj_state_mse"][0] >= 0.4 * DIVERGED_MSE
    assert reference_metrics(errors)["traj_state_mse"][1] < 1


def test_divergence_past_the_end_of_an_item_does_not_count():
    recordings = rollouts.whole_trajectories(trajectories((13, 6)))

    def fails_in_padding(twist0, command, dt):
        return recordings.window.twist.at[1, 7:].set(jnp.nan)

    errors = errors_of(fails_in_padding, recordings)
    assert not motion_metrics(errors)["diverged"].any()
    assert np.isfinite(motion_metrics(errors)["ate_m"]).all()


def test_models_of_one_shape_share_one_compiled_program():
    recordings, traces = rollouts.whole_trajectories(trajectories((7, 5))), []

    class Counted(eqx.Module):
        model: Linear

        def __call__(self, twist0, command, dt):
            traces.append(1)
            return self.model(twist0, command, dt)

    results = [rollouts.predict(Counted(linear(seed)), recordings).twist for seed in range(3)]
    assert len(traces) == 1
    assert float(jnp.abs(results[0] - results[1]).max()) > 0


def test_a_rollout_of_another_length_is_refused():
    recordings = rollouts.whole_trajectories(trajectories((7,)))
    with pytest.raises(ValueError, match=r"\(1, 7, 3\), got \(1, 6, 3\)"):
        rollouts.predict(lambda *_: recordings.window.twist[:, 1:], recordings)


def test_a_trajectory_too_short_for_the_history_is_named():
    with pytest.raises(ValueError, match="'b' has 8 states; a rollout with 7 past commands needs"):
        rollouts.whole_trajectories(trajectories(), history=7)


def test_speed_counts_recorded_steps_only():
    recordings = rollouts.whole_trajectories(trajectories())
    prediction, speed = rollouts.timed(linear(), recordings, repeats=1)
    assert speed.steps == 20 + 7 + 12
    assert speed.total_time_s > 0
    np.testing.assert_array_equal(prediction.twist, rollouts.predict(linear(), recordings).twist)


@pytest.fixture(scope="module")
def evaluated():
    recordings = rollouts.whole_trajectories(trajectories())
    sides = [rollouts.predict(linear(), recordings), rollouts.floor(recordings),
             rollouts.naive(recordings)]  # fmt: skip
    return [MotionErrors.of(side, recordings) for side in sides]


def test_summary_puts_floor_and_naive_beside_the_model_at_each_horizon(evaluated):
    summary = summarise_motion(*evaluated)
    assert list(summary) == ["whole", "0.1", "0.5", "1", "2"]
    assert [summary[h]["ate_m"]["n"] for h in summary] == [3, 3, 3, 2, 1]
    ate = summary["whole"]["ate_m"]
    assert ate["p95_ci"] == "not estimable (n=3 < 73)"
    assert ate["floor"]["mean"] < min(ate["mean"], ate["naive"]["mean"])
    assert ate["median"] <= ate["cvar20"] <= ate["max"]
    assert summary["whole"]["diverged"]["count"] == 0
    assert summary["whole"]["diverged"]["high"] == pytest.approx(0.5615, abs=1e-4)
    many = constant_errors(np.ones(6), items=100)
    assert summarise_motion(many, many, many)["whole"]["ate_m"]["p95_ci"] == pytest.approx(
        [np.sqrt(2)] * 2
    )


def test_metrics_file_holds_every_key_and_reads_back_the_same_numbers(evaluated, tmp_path):
    content = metrics_json(INFO, ("a", "b", "c"), *evaluated, Speed(39, 0.5))
    path = write_metrics(tmp_path / "eval" / "metrics.json", content)
    read = read_metrics(path)
    assert read.content == content
    assert read.ids == ("a", "b", "c")
    row = content["per_trajectory"][0]
    assert row.keys() >= REFERENCE_KEYS
    assert list(content["per_trajectory"][1]["horizons"]) == ["0.1", "0.5"]
    assert content["speed"]["steps_per_sec"] == pytest.approx(78.0)
    assert content["eval_config"]["evaluated_ids"] == ["a", "b", "c"]
    np.testing.assert_array_equal(read.values("ate_m"), motion_metrics(evaluated[0])["ate_m"])
    np.testing.assert_array_equal(
        read.values("rmse_w", 1.0), motion_metrics(evaluated[0], 1.0)["rmse_w"]
    )
    mean = np.mean([r["traj_state_mse"] for r in content["per_trajectory"]])
    assert content["metrics"]["avg_traj_state_mse"] == pytest.approx(mean)
    with pytest.raises(ValueError, match=r"no trajectory has 'ape'.*'ate_m'"):
        read.values("ape")
    with pytest.raises(ValueError, match="no trajectory reaches horizon '10'"):
        read.values("ate_m", 10.0)


def test_a_diverged_item_survives_the_file_as_infinite(evaluated, tmp_path):
    model, floor, naive = evaluated
    error = model.error.copy()
    error[1, 4:] = np.inf
    alive = np.isfinite(error).all(axis=-1)
    broken = MotionErrors(error, model.valid, alive, model.elapsed_s, model.path_m)
    content = metrics_json(INFO, (1, 2, 3), broken, floor, naive, Speed(1, 1.0))
    text = write_metrics(tmp_path / "metrics.json", content).read_text()
    assert "Infinity" not in text
    assert "NaN" not in text
    read = read_metrics(tmp_path / "metrics.json")
    assert np.isinf(read.values("ate_m")).tolist() == [False, True, False]
    assert np.isfinite(read.values("time_to_10cm_s")[1])
    # What the reference's own analysis does with its keys.
    rows = json.loads(text)["per_trajectory"]
    assert max(row["traj_state_mse"] for row in rows) > 1e29
    assert sorted(row["traj_state_mse"] for row in rows)[1] < 10


def test_files_that_are_no_metrics_are_refused_by_name(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"metrics\.json: must be JSON"):
        read_metrics(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="must be a JSON object, got list"):
        read_metrics(path)
    path.write_text('{"metrics": {}}')
    with pytest.raises(ValueError, match=r"lacks \['experiment_dir'"):
        read_metrics(path)
    with pytest.raises(ValueError, match="got 2 for 1 items"):
        one = constant_errors(np.ones(6))
        metrics_json(INFO, ("a", "b"), one, one, one, Speed(1, 1.0))
