"""Trains dynamics models on windows of trajectories, many runs in one program.

Data flow: trajectories (on the device, once for all runs) → groups of windows → learner → open-loop
errors on validation trajectories → the best learner so far.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from steelyard.agents.dynamics import (
    Dynamics,
    DynamicsBatch,
    DynamicsConfig,
    Plant,
    Scales,
    Settings,
    fit_kinematic,
    make_plant,
)
from steelyard.data.dart import DartConfig
from steelyard.data.trajectories import Trajectories, TrajectoryData
from steelyard.emphasis.loss_emphasis import LossEmphasis
from steelyard.emphasis.samplers import Systematic
from steelyard.emphasis.weightings import Rank, Tail
from steelyard.evaluation.model_rollout import (
    Prediction,
    Recordings,
    Rollout,
    predict,
)
from steelyard.numerics.vehicle import DART, MUSHR
from steelyard.training.dynamics_windows import Cut, WindowTable, recordings_of
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.offline import OfflineConfig, OfflineProblem, Pack, train_offline

STEERING_LOCK = DartConfig().steering_lock_rad
VEHICLES = {
    "mushr": MUSHR,
    # The recordings' steering is scaled to rad by a nominal lock, the car's gain is per command.
    "dart": dataclasses.replace(
        DART,
        kinematic=dataclasses.replace(
            DART.kinematic, steering_gain=DART.kinematic.steering_gain / STEERING_LOCK
        ),
        single_track=dataclasses.replace(
            DART.single_track, steering_gain=DART.single_track.steering_gain / STEERING_LOCK
        ),
    ),
}


@dataclasses.dataclass(frozen=True)
class DynamicsRun:
    """One dynamics model, and how long and on what windows it trains."""

    agent: DynamicsConfig = DynamicsConfig()
    """The model and its losses."""
    steps: int = 3_000
    """Gradient steps."""
    eval_every: int = 250
    """Steps between validations, from which the kept model is chosen."""
    vehicle: Literal["mushr", "dart"] = "mushr"
    """The car that physics starts from."""
    stride: int = 1
    """Steps from one training window to the next."""
    block: int | None = None
    """Steps of a recording whose windows belong together; none: whole trajectories."""
    min_speed: float = 0.0
    """Windows slower than this throughout are left out, m/s."""


class Shared(NamedTuple):
    """What all runs of a group read."""

    data: TrajectoryData
    table: WindowTable
    held_out: Recordings
    plant: Plant
    scales: Scales


class Own(NamedTuple):
    """What differs between the runs of a group."""

    settings: Settings
    emphasis: LossEmphasis


def program_of(config: DynamicsConfig) -> DynamicsConfig:
    """A config without what is an array in the program; runs of equal programs train packed."""
    plain = DynamicsConfig()
    loss, tail = config.loss, config.loss.rollout_cvar
    rollout = dataclasses.replace(
        plain.loss.rollout_mse,
        horizon=loss.rollout_mse.horizon,
        horizon_reduction=loss.rollout_mse.horizon_reduction,
    )
    cvar = dataclasses.replace(
        plain.loss.rollout_cvar, min_k=tail.min_k, group=tail.group, estimator=tail.estimator
    )
    bare = dataclasses.replace(plain.loss, rollout_mse=rollout, rollout_cvar=cvar)
    return dataclasses.replace(config, loss=bare, regularization=plain.regularization)


def loss_emphasis(config: DynamicsConfig) -> LossEmphasis:
    """The emphasis of a config; the mean is a tail of everything, by the same program."""
    tail = config.loss.rollout_cvar
    on = tail.enabled and config.loss.rollout_mse.enabled

    def number(value: float) -> Float[Array, ""]:
        return jnp.asarray(value, jnp.float32)

    return LossEmphasis(
        Tail(number(tail.alpha if on else 1.0), min_k=tail.min_k),
        group=tail.group,
        num_groups=config.groups if tail.group == "trajectory" else None,
        warmup=number(tail.warmup),
        anneal_end=number(tail.anneal_end),
        scale_match=jnp.asarray(tail.scale_match),
        trim=number(tail.trim if on else 0.0),
        report_alpha=number(tail.alpha),
        estimator=tail.estimator,
    )


def measure(train: Trajectories, run: DynamicsRun) -> tuple[Plant, Scales]:
    """Scales of the training data, and the plant that a model starts from, fitted to them."""
    rows = train.step_rows()
    twist, following = train.twist[rows], train.twist[rows + 1]
    scales = Scales.of(twist, following, train.command[rows], train.dt[rows])
    vehicle = VEHICLES[run.vehicle]
    if train.command_kind == "velocity":
        horizon = run.agent.loss.rollout_mse.horizon
        windows = train.cut(train.windows(horizon, horizon).start, horizon, 0)
        vehicle = fit_kinematic(vehicle, windows)
    return make_plant(run.agent.model, vehicle, train.command_kind), scales


def play(
    agent: Dynamics, recordings: Recordings, bias: Float[Array, "rollout 3"] | None = None
) -> Prediction:
    """Roll the averaged model out; it sees the first state, the commands and the bias only."""
    return predict(model_of(agent, bias), recordings, agent.config.integrator)


def model_of(agent: Dynamics, bias: Float[Array, "rollout 3"] | None = None) -> Rollout:
    """The averaged model as a function of starts and commands, a bias added after every step."""
    return jax.tree_util.Partial(_biased, agent, bias)


def _biased(agent: Dynamics, bias: Array | None, twist: Array, command: Array, dt: Array) -> Array:
    return agent.predict(twist, command, dt, bias)


def context_of(
    agent: Dynamics, data: Trajectories, cut: Cut, steps: int
) -> Float[Array, "rollout 3"]:
    """What a model has been missing in the last ``steps`` steps before each rollout.

    Raises:
        ValueError: The cut leaves too little before a rollout.
    """
    history = agent.config.model.history
    if steps + history > cut.lead:
        raise ValueError(
            f"a context of {steps} steps and {history} past commands needs a lead of as many; "
            f"the cut has {cut.lead}."
        )
    past = data.cut(cut.windows(data).start - steps, steps, history)
    return eqx.filter_jit(Dynamics.context)(agent, past)


def validation(agent: Dynamics, held_out: Recordings) -> dict[str, Array]:
    """Open-loop errors on held-out rollouts.

    ``val/loss`` is the mean over rollouts of the mean distance in m between predicted and recorded
    positions, the number that studies report; ``val_loss`` the squared error of one step. A rollout
    that diverges makes them infinite.
    """
    error, valid = play(agent, held_out).error[:, 1:], held_out.valid[:, 1:]
    steps = jnp.sum(valid, axis=1)

    def over_time(x: Array) -> Array:
        return jnp.sum(jnp.where(valid, x, 0.0), axis=1) / steps

    distance = over_time(jnp.linalg.norm(error[..., :2], axis=-1))
    standard = jnp.mean((error[..., 3:] / agent.twist_std[None, None]) ** 2, axis=-1)
    # Infinite scores would make infinite weights; the largest number is as good a score.
    worst = Tail(0.2)(jnp.minimum(distance, jnp.finfo(distance.dtype).max))
    return {
        "val/loss": jnp.mean(distance),
        "val_cvar20": jnp.sum(jnp.where(worst > 0, worst * distance, 0.0)),
        "val_rollout": jnp.mean(over_time(standard)),
        "val_loss": jnp.mean(standard[:, 0]),
        "eval_vel_mse": jnp.mean(over_time(jnp.mean(error[..., 3:] ** 2, axis=-1))),
        "eval_pos_mse": jnp.mean(over_time(jnp.mean(error[..., :3] ** 2, axis=-1))),
    }


def train_dynamics(
    runs: Sequence[DynamicsRun],
    group: RunGroup,
    train: Trajectories,
    held_out: Trajectories,
    tick: Ticker = lambda step, note="": None,
    *,
    cut: Cut | None = None,
    pack: Pack | None = None,
) -> Dynamics:
    """Train a group of dynamics models on the same trajectories.

    Args:
        runs: One per seed of the group; of one program (:func:`program_of`) and length.
        group: Seeds and folders.
        train: Trajectories to learn from.
        held_out: Trajectories that choose the kept models.
        tick: Progress display.
        cut: How validation rollouts are cut; none takes whole trajectories.
        pack: How runs share the program; none: one after the other on a CPU, else in one batch.

    Returns:
        The best learners, stacked.

    Raises:
        ValueError: The runs do not share a program.
    """
    first = runs[0]
    program = program_of(first.agent)
    for run in runs:
        if dataclasses.replace(run, agent=program_of(run.agent)) != dataclasses.replace(
            first, agent=program
        ):
            raise ValueError("Runs that train together must share their program; see program_of().")
    plant, scales = measure(train, first)
    table = windows_of(train, first)
    own = [Own(Settings.of(run.agent), loss_emphasis(run.agent)) for run in runs]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *own)
    history = program.model.history
    shared = Shared(
        TrajectoryData.of(train),
        table,
        recordings_of(held_out, history, cut),
        plant,
        scales,
    )

    def create(data: tuple[Shared, Own], key: PRNGKeyArray) -> Dynamics:
        common, mine = data
        return Dynamics.create(
            key,
            program,
            common.plant,
            common.scales,
            mine.emphasis,
            mine.settings,
            train.num_trajectories,
            first.steps,
        )

    hard = program.hard_replay
    sampler = Systematic(hard.correction, hard.floor) if hard.enabled else Systematic()

    def draw(
        agent: Dynamics, data: tuple[Shared, Own], key: PRNGKeyArray, rows: int
    ) -> tuple[DynamicsBatch, Array | None]:
        common = data[0]
        table, chances = common.table, None
        if hard.enabled:
            by_rank = Rank(hard.power, 0.0)
            chances = by_rank(agent.last_loss[table.owner], base=table.base)
        index, labels, owed = table.draw(
            key, program.groups, program.windows_per_group, chances, sampler
        )
        window = common.data.gather(table.start[index], _horizon(program), history)
        batch = DynamicsBatch(window, labels, table.trajectory[index])
        return batch, owed if hard.enabled else None

    def validate(agent: Dynamics, data: tuple[Shared, Own]) -> dict[str, Array]:
        return validation(agent, data[0].held_out)

    if pack is None:
        pack = "map" if jax.default_backend() == "cpu" else "vmap"
    config = OfflineConfig(first.steps, first.eval_every, checkpoint_interval=first.eval_every * 2)
    problem = OfflineProblem(create, draw, validate)
    return train_offline(
        problem, config, group, stacked, program.batch_size, tick, shared=shared, pack=pack
    )


def windows_of(data: Trajectories, run: DynamicsRun) -> WindowTable:
    """All windows that a run trains on."""
    horizon, history = run.agent.loss.rollout_mse.horizon, run.agent.model.history
    windows = data.windows(horizon, run.stride, history, run.min_speed)
    return WindowTable.of(data, windows, run.block)


def _horizon(config: DynamicsConfig) -> int:
    return config.loss.rollout_mse.horizon


def take_learner(agents: Any, index: int) -> Dynamics:
    """One learner of a stacked group."""
    return jax.tree.map(lambda x: x[index], agents)
