"""Runs groups of cells of the study: pretraining, segments, rewards, arms."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from steelyard.agents.cpl import CPLConfig
from steelyard.agents.piql import PreferenceReward
from steelyard.data.segments import Segments, load_segments, save_segments
from steelyard.envs.registry import env_spec
from steelyard.envs.timing import control_timestep
from steelyard.evaluation.evaluator import Evaluator
from steelyard.evaluation.success import Outcome, play, win_rate
from steelyard.studies.cells import Cell, Store, logged, open_folders
from steelyard.studies.hardware import hardware
from steelyard.studies.parts import write_outcome
from steelyard.studies.piano.config import PianoConfig
from steelyard.studies.piano.judgements import (
    Judgements,
    cloned_segments,
    judge_segments,
    pair_ratio,
)
from steelyard.studies.piano.plan import (
    Base,
    Played,
    Reward,
    Tuned,
    base_of,
    played_of,
    start_of,
)
from steelyard.studies.piano.policies import Network, load_policy, save_policy
from steelyard.training.checkpoint import load_tree, save_tree, stack_runs, take_run
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.metrics import SinkOptions
from steelyard.training.preferences import (
    PreferenceData,
    preference_data,
    relabelled,
    segment_normaliser,
    train_cpl,
    train_piql,
    train_reward,
)
from steelyard.training.recipes import SACRun, train_sac
from steelyard.training.run_folder import write_json
from steelyard.training.sac_policies import SACPolicy, load_sac_policies
from steelyard.training.segment_generation import record_checkpoints, record_scripted

DATA = "segments"
REWARD_FILE = "reward.safetensors"


def execute(
    cells: Sequence[Cell],
    config: PianoConfig,
    store: Store,
    tick: Ticker,
    sinks: SinkOptions = SinkOptions(),
) -> None:
    """Run a group of cells of one kind to the end."""
    folders = open_folders(cells, store)
    group = RunGroup([cell.seed for cell in cells], folders, cells[0].arm, sinks)
    work = {
        SACRun: _pretrain,
        Played: _play_segments,
        Base: _learn_base,
        Reward: _learn_reward,
        Tuned: _tune,
    }[type(cells[0].config)]
    try:
        work(cells, group, store, logged(tick, folders))
    finally:
        group.close()


def _pretrain(cells: Sequence[Cell], group: RunGroup, store: Store, tick: Ticker) -> None:
    """SAC on the task's own reward; its checkpoints stay."""
    train_sac(cells[0].config, group, tick)
    _done(group, {})


def _play_segments(cells: Sequence[Cell], group: RunGroup, store: Store, tick: Ticker) -> None:
    """Segments of each seed, in its folder."""
    for cell, folder in zip(cells, group.folders, strict=True):
        settings, place = cell.config, folder.path / DATA
        if not (place / "segment_info.json").exists():
            for left in place.glob("*"):
                left.unlink()
            generation = settings.generation
            if generation.generator == "checkpoints":
                assert cell.parent is not None, "checkpoints are those of a SAC run"
                policies = load_sac_policies(store.folder(cell.parent).path)
                segments = record_checkpoints(
                    settings.env,
                    policies,
                    generation,
                    cell.seed,
                    control_timestep(settings.env),
                    tick,
                )
            else:
                segments = record_scripted(settings.env, generation, cell.seed, tick)
            save_segments(place, segments)
    _done(group, {})


def _done(group: RunGroup, more: dict[str, Any]) -> None:
    for i in group.alive:
        result = {"seconds": 0.0, "hardware": hardware(), **more}
        write_json(group.folders[i].path / "result.json", result)
        group.finish(i)


def _segments(cell: Cell, store: Store) -> Segments:
    return load_segments(store.folder(played_of(cell)).path / DATA)


def _learn_base(cells: Sequence[Cell], group: RunGroup, store: Store, tick: Ticker) -> None:
    """The policy that every arm starts from: a clone of all segments, or SAC's last."""
    settings: Base = cells[0].config
    spec = env_spec(settings.env)
    if settings.clone is None:
        policies = []
        for cell in cells:
            sac = played_of(cell).parent
            assert sac is not None, "a base that is not cloned is SAC's"
            policies.append(load_sac_policies(store.folder(sac).path)[-1][1])
            network = Network(settings.env, sac.config.agent.hidden, sac.config.agent.activation)
        group.restore(policies[0])  # opens its files; there is nothing to restore
    else:
        every = [_segments(cell, store) for cell in cells]
        agent = settings.clone.agent
        data = [
            preference_data(s, None, segment_normaliser(s), cloned=np.ones(len(s))) for s in every
        ]
        trained = train_cpl(settings.clone, spec, group, data, None, tick)
        policies = [
            SACPolicy(take_run(trained, i).actor, take_run(trained, i).normaliser)
            for i in range(len(cells))
        ]
        network = Network(settings.env, agent.hidden, agent.activation)
    outcome = evaluate(policies, settings)
    for i in group.alive:
        save_policy(group.folders[i], network, policies[i].actor, policies[i].normaliser)
    _score(group, outcome, outcome)


def evaluate(policies: Sequence[SACPolicy], settings: Base | Tuned) -> Outcome:
    """Play the modes of policies on the fixed starts."""
    evaluator = Evaluator(settings.env, len(policies), settings.eval_episodes)
    modes = evaluator.policies(stack_runs(list(policies)))
    return play(modes, settings.env, evaluator.starts, len(policies), settings.eval_steps)


def outcome_of(cells: Sequence[Cell], store: Store) -> Outcome:
    """What finished runs achieved on the same starts."""
    results = [store.folder(cell).read("result.json") or {} for cell in cells]
    success, returns, length = (
        np.array([result[name] for result in results]) for name in ("success", "returns", "length")
    )
    return Outcome(success.astype(bool), returns, length)


def _score(group: RunGroup, outcome: Outcome, before: Outcome) -> None:
    """Write what each run achieved, and whether it is better than what it started from."""
    rates = win_rate(outcome.returns, before.returns)
    for i in group.alive:
        kept = bool(rates[i] >= 0.5)
        more = {
            "returns": [float(x) for x in outcome.returns[i]],
            "win_rate": float(rates[i]),
            "accepted": kept,
            "accepted_success": float((outcome if kept else before).success[i].mean()),
            "notes": []
            if kept
            else [f"rejected: the judge prefers the start on {1 - rates[i]:.0%} of the episodes"],
        }
        write_outcome(group.folders[i], group, outcome.success[i], outcome.length[i], more)
        group.finish(i)


def _told(cells: Sequence[Cell], store: Store) -> tuple[list[Segments], list[Judgements]]:
    segments = [_segments(cell, store) for cell in cells]
    judged = cells[0].config.judged
    told = [judge_segments(s, judged, c.seed) for s, c in zip(segments, cells, strict=True)]
    return segments, told


def stacked_preferences(
    segments: Sequence[Segments],
    told: Sequence[Judgements],
    normalisers: Sequence[Any],
    weighting: str | None = None,
    cloned: Sequence[np.ndarray] | None = None,
) -> list[PreferenceData]:
    """What each run draws from, of equal shapes."""
    pairs = max(len(t.pairs) for t in told)
    rows = max(len(t.ratings) for t in told)
    if cloned is not None:
        rows = max(int((c > 0).sum()) for c in cloned)
    held = max(len(t.held) for t in told)
    return [
        preference_data(
            own,
            t.pairs,
            normaliser,
            t.ratings,
            t.held,
            pair_ratio(weighting, t.pairs),
            None if cloned is None else cloned[i],
            (pairs, rows, held),
        )
        for i, (own, t, normaliser) in enumerate(zip(segments, told, normalisers, strict=True))
    ]


def _learn_reward(cells: Sequence[Cell], group: RunGroup, store: Store, tick: Ticker) -> None:
    """A reward from comparisons, for P-IQL."""
    settings: Reward = cells[0].config
    segments, told = _told(cells, store)
    normalisers = [load_policy(store.folder(base_of(c)).path)[1].normaliser for c in cells]
    data = stacked_preferences(segments, told, normalisers)
    spec = env_spec(settings.env)
    reward = train_reward(settings.reward, settings.steps, spec, group, data, tick)
    for i in group.alive:
        save_tree(group.folders[i].checkpoints / REWARD_FILE, take_run(reward, i))
    _done(group, {"updates": settings.steps})


def _tune(cells: Sequence[Cell], group: RunGroup, store: Store, tick: Ticker) -> None:
    """Train and score an arm."""
    settings: Tuned = cells[0].config
    spec = env_spec(settings.env)
    segments, told = _told(cells, store)
    starts = [load_policy(store.folder(start_of(cell)).path) for cell in cells]
    network = starts[0][0]
    actors = [policy.actor for _, policy in starts]
    normalisers = [policy.normaliser for _, policy in starts]
    if settings.learner == "piql":
        trained = _learn_piql(cells, group, store, segments, normalisers, actors, tick)
    else:
        cloned = None
        if settings.learner == "clone":
            cloned = [
                cloned_segments(settings.cloned, s, t) for s, t in zip(segments, told, strict=True)
            ]
        data = stacked_preferences(segments, told, normalisers, settings.weighting, cloned)
        run = dataclasses.replace(settings.cpl, agent=of_network(settings.cpl.agent, network))
        trained = train_cpl(run, spec, group, data, actors, tick)
    policies = [SACPolicy(take_run(trained, i).actor, normalisers[i]) for i in range(len(cells))]
    before = outcome_of([base_of(cell) for cell in cells], store)
    for i in group.alive:
        save_policy(group.folders[i], network, policies[i].actor, normalisers[i])
    _score(group, evaluate(policies, settings), before)


def of_network(agent: CPLConfig, network: Network) -> CPLConfig:
    """A learner's settings with the layers of the policy that it starts from."""
    return dataclasses.replace(agent, hidden=network.hidden, activation=network.activation)


def _learn_piql(
    cells: Sequence[Cell],
    group: RunGroup,
    store: Store,
    segments: Sequence[Segments],
    normalisers: Sequence[Any],
    actors: Sequence[Any],
    tick: Ticker,
) -> Any:
    """IQL on all segments with the reward that was learned."""
    settings: Tuned = cells[0].config
    spec = env_spec(settings.env)
    rows = []
    for cell, own, normaliser in zip(cells, segments, normalisers, strict=True):
        parent = cell.parent
        assert parent is not None, "P-IQL needs a reward"
        like = PreferenceReward.create(jax.random.key(0), spec, parent.config.reward, normaliser)
        reward = load_tree(store.folder(parent).checkpoints / REWARD_FILE, like)
        rows.append(relabelled(reward, own, normaliser))
    return train_piql(settings.piql, settings.piql_steps, spec, group, rows, actors, tick)
