"""The offline loop: validation by episode decides what is kept, and it compiles once."""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import BC_RUN, LIMIT, demonstrations, group, rows_of, silent, state_of

from steelyard.training.offline import OfflineConfig, OfflineProblem, train_offline
from steelyard.training.recipes import bc_steps, hold_out, train_bc
from steelyard.types import UpdateInfo


class Climber(eqx.Module):
    """Moves by one a step; at 600 it turns non-finite where its data say so."""

    position: jax.Array

    def update(self, batch, key, weights=None):
        position = self.position + 1.0
        broken = (position >= 600) & batch
        position = jnp.where(broken, jnp.nan, position)
        return Climber(position), UpdateInfo({"train/loss": position}, {})


class Counted(NamedTuple):
    problem: OfflineProblem
    traces: list[int]


def climbing(best: float | None) -> Counted:
    """A problem whose held-out loss is least at ``best``, and how often it was traced."""
    traces: list[int] = []

    def draw(agent, data, key, rows):
        traces.append(rows)
        return data, None

    def validate(agent, data):
        return {"val/loss": jnp.abs(agent.position - best)}

    return Counted(
        OfflineProblem(
            lambda data, key: Climber(jnp.zeros(())), draw, None if best is None else validate
        ),
        traces,
    )


HEALTHY = jnp.zeros(2, bool)


@pytest.mark.parametrize("best", [None, 500.0])
def test_the_scan_is_traced_once_in_a_whole_run(best, tmp_path):
    problem, traces = climbing(best)
    train_offline(problem, OfflineConfig(1_000), group(tmp_path), HEALTHY, 8)
    assert traces == [8]


def test_the_learner_of_least_held_out_loss_is_kept(tmp_path):
    kept = train_offline(climbing(500.0).problem, OfflineConfig(1_000), group(tmp_path), HEALTHY, 8)
    np.testing.assert_array_equal(kept.position, [500.0, 500.0])
    assert [row["val/loss"] for row in rows_of(tmp_path)] == [250.0, 0.0, 250.0, 500.0]


def test_a_held_out_loss_that_is_not_finite_is_never_kept_and_stops_nothing(tmp_path):
    problem = climbing(500.0).problem

    def validate(agent, data):
        return {"val/loss": jnp.where(agent.position < 600, jnp.inf, agent.position)}

    kept = train_offline(
        problem._replace(validate=validate), OfflineConfig(1_000), group(tmp_path), HEALTHY, 8
    )
    np.testing.assert_array_equal(kept.position, [750.0, 750.0])


def test_without_held_out_data_the_last_learner_is_kept(tmp_path):
    kept = train_offline(climbing(None).problem, OfflineConfig(600), group(tmp_path), HEALTHY, 8)
    np.testing.assert_array_equal(kept.position, [600.0, 600.0])
    assert [row["step"] for row in rows_of(tmp_path)] == [250, 500, 600]


def test_a_run_that_turns_non_finite_stops_within_one_scan_and_the_other_goes_on(tmp_path):
    runs, sick = group(tmp_path), jnp.array([False, True])
    kept = train_offline(climbing(None).problem, OfflineConfig(1_000), runs, sick, 8)
    np.testing.assert_array_equal(kept.position, [1_000.0, np.nan])
    assert runs.alive == [0]
    status = runs.folders[1].status()
    assert status["state"] == "diverged"
    assert status["error"].startswith("train/loss is nan in arm 'tiny', seed 1, at step 750;")
    assert [row["step"] for row in rows_of(tmp_path, 1)] == [250, 500]
    assert [row["step"] for row in rows_of(tmp_path, 0)] == [250, 500, 750, 1_000]


def test_where_all_runs_turn_non_finite_the_group_fails(tmp_path):
    problem = climbing(None).problem
    with pytest.raises(FloatingPointError, match=r"seed 0, at step 750.*seed 1, at step 750"):
        train_offline(problem, OfflineConfig(1_000), group(tmp_path), jnp.ones(2, bool), 8)


def test_a_tenth_of_the_episodes_is_held_out_and_none_where_that_is_too_few(bc_root, tmp_path):
    assert all("val/loss" in row for row in rows_of(bc_root))
    few = [demonstrations(49, seed) for seed in (0, 1)]
    train_bc(BC_RUN, group(tmp_path), few, silent)
    assert all("val/loss" not in row for row in rows_of(tmp_path))


def test_steps_are_passes_over_the_training_rows_but_not_too_few():
    run = dataclasses.replace(BC_RUN, epochs=3, min_steps=0)
    assert run.steps(17) == 3 * 3
    assert dataclasses.replace(run, min_steps=50).steps(17) == 50
    kept, held_out = hold_out(demonstrations(50), run, 0)
    assert (len(kept), len(held_out)) == (45, 5)
    assert bc_steps(run, [demonstrations(50)], [0]) == 3 * -(-45 * LIMIT // 8)


def test_the_final_state_holds_as_many_steps_as_were_asked(bc_root):
    assert state_of(bc_root)[".agent.step"] == BC_RUN.min_steps
