"""``steelyard train cpl``: tune a pretrained policy on people's judgements."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from steelyard.agents.cpl import CPLConfig
from steelyard.cli.judged_runs import recorded
from steelyard.data.judgement_files import read_judgements
from steelyard.data.preferences import (
    PairConfig,
    Pairs,
    PairScope,
    Ratings,
    combine,
    pairs_from_ratings,
    split_pairs,
    within_annotator_ranks,
)
from steelyard.data.segments import ARRAYS, Segments, file_hash, load_segments
from steelyard.envs.registry import env_spec
from steelyard.evaluation.films import film_before_after
from steelyard.evaluation.music import make_evaluator
from steelyard.evaluation.success import win_rate
from steelyard.studies.hardware import hardware, use_device
from steelyard.studies.piano.policies import Network, save_policy
from steelyard.training.checkpoint import stack_runs, take_run
from steelyard.training.group import RunGroup
from steelyard.training.holds import hold_to_the_end
from steelyard.training.metrics import SinkOptions
from steelyard.training.preferences import CPLRun, preference_data, train_cpl
from steelyard.training.progress import progress
from steelyard.training.run_folder import RunFolder, run_id, write_json
from steelyard.training.sac_policies import SACPolicy, load_sac_policies, sac_network

PLAIN = tyro.conf.arg(name="")


@dataclasses.dataclass(frozen=True)
class TrainCPL:
    """Tune a pretrained policy on judgements of segments; no reward, no critic, no environment."""

    sac_checkpoint: Path
    """Run folder of `train sac`, or one policy that it has kept,
    `RUN/checkpoints/checkpoint_<frames>.safetensors`."""
    preference_data: Path
    """Data set of judged segments, exported by `steelyard label export`."""
    agent: Annotated[CPLConfig, PLAIN] = CPLConfig()
    """Learner."""
    steps: int = 100
    """Gradient steps. Watch eval/: too many overshoot, and no held-out accuracy shows it."""
    pair_scope: PairScope = "window"
    """Which rated segments are compared."""
    held_out: float = 0.2
    """Share of the judged segments whose pairs are held out."""
    early_stop: bool = False
    """Keep the policy of least held-out loss."""
    guard_drop: float = 0.5
    """How far the likelihood of better segments may fall, with --early-stop."""
    log_interval: int = 25
    """Steps between rows of metrics."""
    eval_interval: int = 25
    """Steps between evaluations."""
    eval_episodes: int = 1
    """Fixed start states, one episode each."""
    videos: bool = True
    """Film an episode before and after, where the task can be drawn."""
    seed: int = 0
    """Of the split and the batches."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    sinks: Annotated[SinkOptions, PLAIN] = SinkOptions()
    """Where metrics go besides `metrics.jsonl`."""


def train(rest: list[str]) -> None:
    """Run ``train cpl``.

    Raises:
        ValueError: A setting, the policy or the judgements are refused.
        FileNotFoundError: There is no policy, no data set, or nothing was exported.
    """
    words = ["--lambda_" if word == "--lambda" else word for word in rest]
    words = [
        "--lambda_=" + word.partition("=")[2] if word.startswith("--lambda=") else word
        for word in words
    ]
    options = tyro.cli(TrainCPL, args=words, prog="steelyard train cpl")
    use_device(options.device)
    run_cpl(options)


def run_cpl(options: TrainCPL) -> Path:
    """Tune, evaluate and film; returns the run's folder."""
    run, name, policy = find_policy(options.sac_checkpoint)
    network = sac_network(run)
    segments = load_segments(options.preference_data)
    spec = env_spec(network.env)
    check_fit(segments, spec.observation_size, spec.action_size, network.env)
    pairs, ratings = judged_pairs(options, segments)
    learned, held = split_pairs(pairs, options.held_out, options.seed)
    agent = dataclasses.replace(
        options.agent, hidden=network.hidden, activation=network.activation, pairs="explicit"
    )
    check_anchor(agent, segments, learned)
    settings = CPLRun(
        agent,
        options.steps,
        options.log_interval,
        options.eval_interval,
        options.eval_interval,
        options.early_stop,
        options.guard_drop,
    )
    identity = {
        "run": settings,
        "policy": f"{run}/{name}",
        "segments": file_hash(options.preference_data / ARRAYS),
        "pairs": [p.tolist() for p in (pairs.winner, pairs.loser, pairs.label)],
        "held_out": options.held_out,
        "seed": options.seed,
    }
    identity["pairs"] = run_id(identity["pairs"])
    folder = RunFolder(options.runs / "train_cpl" / run_id(identity)).open(identity)
    hold_to_the_end(folder.path)
    print(
        f"{len(ratings)} ratings and {len(pairs)} pairs ({int((~pairs.strict).sum())} ties) of "
        f"{len(np.unique(np.r_[pairs.winner, pairs.loser]))} segments; {len(learned)} to learn "
        f"from, {len(held)} held out"
    )
    group = RunGroup([options.seed], [folder], "cpl", options.sinks)
    evaluator = make_evaluator(network.env, 1, options.eval_episodes)
    data = preference_data(segments, learned, policy.normaliser, None, held)
    with progress("cpl", options.steps) as tick:
        tuned = train_cpl(settings, spec, group, [data], [policy.actor], tick, evaluator)
    group.close()
    after = SACPolicy(take_run(tuned, 0).actor, policy.normaliser)
    save_policy(folder, network, after.actor, after.normaliser)
    told = compare(evaluator, policy, after)
    write_json(folder.path / "result.json", {**told, "hardware": hardware()})
    write_results(folder, told)
    if options.videos:
        film(network, segments, policy, after, folder.path)
    folder.set_status("done")
    print(f"run folder: {folder.path}")
    return folder.path


def find_policy(path: Path) -> tuple[Path, str, SACPolicy]:
    """The run folder, name and policy of a checkpoint; a run folder means its last one.

    Raises:
        FileNotFoundError: There is none of that name; lists those there are.
    """
    run = path.parent.parent if path.suffix == ".safetensors" else path
    run = run.parent if run.name == "checkpoints" else run
    policies = dict(load_sac_policies(run))
    name = path.stem if path.suffix == ".safetensors" else list(policies)[-1]
    if name not in policies:
        raise FileNotFoundError(f"{run} has no policy {name!r}; it has {', '.join(policies)}")
    return run, name, policies[name]


def check_fit(segments: Segments, observation: int, action: int, env: str) -> None:
    """Refuse segments of another task.

    Raises:
        ValueError: Shows both shapes, and the settings that usually differ.
    """
    own = segments.observation.shape[2], segments.action.shape[2]
    if own != (observation, action):
        raise ValueError(
            f"the segments are of {segments.env} with {own[0]} observation and {own[1]} action "
            f"components, the policy is of {env} with {observation} and {action}; settings that "
            "usually differ: n_steps_lookahead, disable_fingering_reward, "
            "action_reward_observation, reduced_action_space"
        )


def judged_pairs(options: TrainCPL, segments: Segments) -> tuple[Pairs, Ratings]:
    """All pairs of a data set: those that were compared, and those that ratings make."""
    ratings, compared = read_judgements(options.preference_data)
    parts = [compared] if len(compared) else []
    if len(ratings):
        ranked = within_annotator_ranks(ratings) if len(ratings.names) > 1 else ratings
        config = PairConfig(options.pair_scope, min_gap=min(1.0, _least_gap(ranked)))
        parts.append(pairs_from_ratings(ranked, segments, config, options.seed))
    if not parts:
        raise ValueError(f"{options.preference_data} has neither ratings nor pairs")
    outside = max(int(np.r_[p.winner, p.loser].max()) for p in parts)
    if outside >= len(segments):
        raise ValueError(
            f"a judgement is of segment {outside}; the data set has 0 … {len(segments) - 1}"
        )
    return combine(parts), ratings


def _least_gap(ratings: Ratings) -> float:
    gaps = np.diff(np.unique(ratings.rating))
    return float(gaps.min()) if len(gaps) else 1.0


def check_anchor(agent: CPLConfig, segments: Segments, pairs: Pairs) -> None:
    """Refuse likelihoods counted from those of policies that have none.

    Raises:
        ValueError: Names the segments.
    """
    if agent.anchor != "behaviour":
        return
    used = np.unique(np.r_[pairs.winner, pairs.loser])
    silent = used[segments.noise[used] == 0]
    if len(silent):
        raise ValueError(
            "anchor='behaviour' needs the density of what was done; segments played with noise 0 "
            f"have none: {silent[:8].tolist()}{' …' if len(silent) > 8 else ''}"
        )


def compare(evaluator: Any, before: SACPolicy, after: SACPolicy) -> dict[str, Any]:
    """Metrics of both policies on the same starts, and how often the return is higher after."""
    told, returns = {}, []
    for name, policy in (("before", before), ("after", after)):
        stacked = stack_runs([policy])
        for metric, values in evaluator(stacked).items():
            told[f"{name}/{metric}"] = float(values[0])
        returns.append(evaluator.returns(stacked))
    return {**told, "eval/win_rate_by_return": float(win_rate(returns[1], returns[0])[0])}


def write_results(folder: RunFolder, told: dict[str, Any]) -> None:
    """Write ``results.txt`` and print it."""
    names = [name.removeprefix("before/") for name in told if name.startswith("before/")]
    lines = [f"{'metric':28s} {'before':>10s} {'after':>10s}"]
    lines += [f"{n:28s} {told['before/' + n]:10.4f} {told['after/' + n]:10.4f}" for n in names]
    rate = told["eval/win_rate_by_return"]
    lines.append(f"the task's own reward prefers the tuned policy on {rate:.0%} of the starts")
    if rate < 0.5:
        lines.append(
            "by that reward it is worse; whether people prefer it, they say: film both policies "
            "and compare them blindly with `steelyard label serve --mode pair`"
        )
    text = "\n".join(lines)
    (folder.path / "results.txt").write_text(text + "\n")
    print(text)


def film(
    network: Network, segments: Segments, before: SACPolicy, after: SACPolicy, folder: Path
) -> None:
    """Film the first evaluation episode before and after; a task that cannot be drawn is told."""
    before_film, after_film = (recorded(network, p, 1)[0] for p in (before, after))
    try:
        film_before_after(
            network.env, {}, segments.control_timestep, before_film, after_film, folder
        )
    except (ValueError, ImportError) as error:
        print(f"no videos: {error}")
        return
    print(f"videos: {folder / 'videos'}")
