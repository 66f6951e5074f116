"""Does an environment keep the contract that learners rely on? Run this on your own once."""

from collections.abc import Callable, Sequence

import numpy as np

from steelyard.envs.base import Step, VectorEnv

Make = Callable[[list[int]], VectorEnv]
_SEEDS = [101, 7_003, 50_021]
_OTHER_SEEDS = [220_009, 300_017, 410_031]


class ContractError(ValueError):
    """An environment breaks a rule; the message names the rule, the place and what was found."""


def check_env(make: Make, *, steps: int | None = None, one_start: bool = False) -> None:
    """Play a few episodes of random actions and raise at the first broken rule.

    Args:
        make: Maps a list of seeds to an environment with one copy per seed, e.g.
            ``lambda seeds: make_env("Pendulum-v1", seeds)``.
        steps: Steps to play; None for two time limits and one step, at most 5,000. With fewer than
            two time limits the rules about the ends of episodes may see no end.
        one_start: Whether all episodes of the task start alike and nothing in it is random; the
            rules that starts vary do not apply to such a task.

    Raises:
        ContractError: If a rule is broken.
    """
    env = make(list(_SEEDS))
    _check_spec(env)
    limit = env.spec.max_episode_steps
    steps = min(2 * limit + 1, 5_000) if steps is None else steps
    actions = _actions(env, steps)
    first, played = _play(env, actions)
    _check_ends(first, played, limit, env.spec.can_terminate, one_start)
    _check_refusal(env)
    _check_limit_after_reset(env, actions)
    env.close()
    again = _replay(make, _SEEDS, actions)
    rule = "the same seeds and actions give the same bytes"
    _require_equal(rule, (first, played), again, slice(None))
    alone = _replay(make, _SEEDS[-1:], actions[:, -1:])
    rule = "an environment depends on its own seed, not on its place or its neighbours"
    _require_equal(rule, (first[-1:], played), alone, slice(-1, None))
    if not one_start:
        other, _ = _replay(make, _OTHER_SEEDS, actions[:0])
        _require(
            not np.array_equal(other, first),
            "different seeds give different starts",
            "reset",
            first,
        )


def _require(holds: bool | np.bool_, rule: str, place: str, got: object) -> None:
    if not holds:
        raise ContractError(f"broken rule: {rule}; at {place}; got {got}")


def _check_spec(env: VectorEnv) -> None:
    spec = env.spec
    _require(env.num_envs == len(_SEEDS), "one environment per seed", "num_envs", env.num_envs)
    _require(spec.observation_size >= 1, "observations have components", "spec", spec)
    _require(spec.max_episode_steps >= 1, "the time limit is at least 1", "spec", spec)
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    bounded = low.shape == high.shape and low.size > 0 and np.isfinite([low, high]).all()
    rule = "action bounds are finite, low below high, one pair per component"
    _require(bool(bounded and (low < high).all()), rule, "spec", spec)


def _actions(env: VectorEnv, steps: int) -> np.ndarray:
    """Random actions ``[time, env, act]``; the first two are the bounds themselves."""
    low = np.asarray(env.spec.action_low, np.float32)
    high = np.asarray(env.spec.action_high, np.float32)
    rng = np.random.default_rng(0)
    shape = (steps, env.num_envs, env.spec.action_size)
    actions = rng.uniform(low, high, shape).astype(np.float32)
    actions[:1], actions[1:2] = low, high
    return actions


def _play(env: VectorEnv, actions: np.ndarray) -> tuple[np.ndarray, list[Step]]:
    """Reset, step through ``actions``, and check each row by itself."""
    first = env.reset()
    _check_array("observation", first, np.float32, (env.num_envs, env.spec.observation_size), -1)
    played, copies = [], []
    for time, action in enumerate(actions):
        given = action.copy()
        step = env.step(given)
        _require(np.array_equal(given, action), "actions are read only", f"step {time}", given)
        _check_step(env, step, time)
        played.append(step)
        copies.append(Step(*(field.copy() for field in step)))
    for time, (step, copy) in enumerate(zip(played, copies, strict=True)):
        kept = all(np.array_equal(a, b) for a, b in zip(step, copy, strict=True))
        rule = "a later step does not write into arrays returned before"
        _require(kept, rule, f"step {time}", step)
    return first, played


def _check_step(env: VectorEnv, step: Step, time: int) -> None:
    shape = (env.num_envs, env.spec.observation_size)
    _check_array("observation", step.observation, np.float32, shape, time)
    _check_array("next_observation", step.next_observation, np.float32, shape, time)
    _check_array("reward", step.reward, np.float32, shape[:1], time)
    _check_array("terminated", step.terminated, np.bool_, shape[:1], time)
    _check_array("truncated", step.truncated, np.bool_, shape[:1], time)
    both = step.terminated & step.truncated
    rule = "an episode is terminated or truncated, never both (terminated wins)"
    _require(not both.any(), rule, f"step {time}", both)


def _check_array(
    name: str, array: np.ndarray, dtype: type, shape: tuple[int, ...], time: int
) -> None:
    place = "reset" if time < 0 else f"step {time}"
    _require(array.dtype == dtype, f"{name} is {np.dtype(dtype)}", place, array.dtype)
    _require(array.shape == shape, f"{name} has shape {list(shape)}", place, list(array.shape))
    rule = f"{name} is finite, at the action bounds too"
    _require(bool(np.isfinite(array).all()), rule, place, array)


def _check_ends(
    first: np.ndarray, played: Sequence[Step], limit: int, can_terminate: bool, one_start: bool
) -> None:
    """Check where episodes end, and what is returned there."""
    elapsed = np.zeros(len(first), np.int64)
    starts = [{row.tobytes()} for row in first]
    episodes = np.ones(len(first), np.int64)
    moved, leaked = False, 0
    for time, step in enumerate(played):
        elapsed += 1
        for index in range(len(first)):
            place = f"step {time}, environment {index}, step {elapsed[index]} of its episode"
            end, new = step.next_observation[index], step.observation[index]
            if not step.ended[index]:
                rule = f"an episode ends at or before max_episode_steps = {limit}"
                _require(elapsed[index] < limit, rule, place, "no end")
                rule = "observation equals next_observation where the episode goes on"
                _require(np.array_equal(end, new), rule, place, f"{new} after {end}")
                before = played[time - 1].observation[index] if time else first[index]
                moved |= not np.array_equal(end, before)
                continue
            rule = "a task with can_terminate=False never terminates"
            _require(can_terminate or not step.terminated[index], rule, place, "terminated")
            rule = f"truncated means the time limit: max_episode_steps = {limit}"
            at_limit = elapsed[index] == limit
            _require(step.terminated[index] or at_limit, rule, place, "truncated")
            leaked += np.array_equal(end, new)
            starts[index].add(new.tobytes())
            episodes[index] += 1
            elapsed[index] = 0
    ends = int((episodes - 1).sum())
    if moved and ends:
        rule = (
            "where an episode ends, next_observation is its true final observation and "
            "observation the first of the next episode"
        )
        _require(leaked < ends, rule, f"all {ends} ends", "two equal observations")
    if not one_start and ends:
        rule = "resets after the first continue an environment's random stream"
        varied = max(len(seen) for seen in starts) > 1
        _require(varied, rule, "the first and later episodes", "equal starts")


def _check_limit_after_reset(env: VectorEnv, actions: np.ndarray) -> None:
    """Check that ``reset`` in mid-episode starts every environment's count anew."""
    limit = env.spec.max_episode_steps
    if len(actions) < limit or env.spec.can_terminate or limit < 2:
        return
    env.reset()
    env.step(actions[0])
    env.reset()
    for time in range(limit):
        ended = env.step(actions[time]).ended
        rule = f"reset starts new episodes everywhere, of max_episode_steps = {limit}"
        _require(bool((ended == (time == limit - 1)).all()), rule, f"step {time + 1}", ended)


def _check_refusal(env: VectorEnv) -> None:
    wrong = np.zeros((env.num_envs, env.spec.action_size + 1), np.float32)
    try:
        env.step(wrong)
    except ValueError:
        return
    _require(False, "an action of the wrong shape is a ValueError", "step", "no error")


def _replay(make: Make, seeds: Sequence[int], actions: np.ndarray) -> tuple[np.ndarray, list[Step]]:
    env = make(list(seeds))
    first = env.reset()
    played = [env.step(action) for action in actions]
    env.close()
    return first, played


def _require_equal(
    rule: str,
    expected: tuple[np.ndarray, list[Step]],
    got: tuple[np.ndarray, list[Step]],
    rows: slice,
) -> None:
    _require(np.array_equal(expected[0], got[0]), rule, "reset", got[0])
    for time, (a, b) in enumerate(zip(expected[1], got[1], strict=True)):
        for name, left, right in zip(Step._fields, a, b, strict=True):
            _require(np.array_equal(left[rows], right), rule, f"step {time}, {name}", right)
