"""From what a file holds to :class:`Demonstrations`: the import checks and the known repairs.

Readers return a :class:`RawDataset` without judging it; :func:`assemble` applies the same checks
to all of them. Nothing here raises on bad data: what is wrong comes back as findings.
"""

import dataclasses
from typing import Any

import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.findings import DatasetError, Finding, errors_of
from steelyard.data.provenance import Provenance
from steelyard.data.raw import ActionUnits, RawDataset, RawEpisode, structure_findings
from steelyard.data.repairs import close_open_ends, frames_from_rows
from steelyard.data.rules import dataset_findings
from steelyard.data.specs import compare_specs, infer_spec
from steelyard.types import EnvSpec


def assemble(
    raw: RawDataset, env_spec: EnvSpec | None = None, action_units: ActionUnits | None = None
) -> tuple[Demonstrations | None, list[Finding]]:
    """Check a raw dataset, repair what is known to be repairable, and build the demonstrations.

    Args:
        raw: What a reader returned.
        env_spec: The task as the caller knows it; must agree with the file where that says it.
        action_units: Units of the actions, where the caller knows better than the format.

    Returns:
        The demonstrations (``None`` if a finding is an error) and all findings. What was repaired
        or assumed also stands in the notes of the provenance.
    """
    findings = list(raw.findings)
    units = action_units or raw.action_units
    episodes = list(raw.episodes)
    findings += structure_findings(raw)
    if raw.units_stated and units != raw.action_units:
        message = f"the file says that its actions are in {raw.action_units} units; got {units!r}"
        findings.append(Finding("error", "action units", message))
    if errors_of(findings):
        return None, findings
    if not raw.framed:
        episodes, shift_findings = frames_from_rows(episodes)
        findings += shift_findings
    if errors_of(findings):
        return None, findings
    episodes, end_findings = close_open_ends(episodes)
    findings += end_findings

    spec, spec_findings = _choose_spec(raw, episodes, env_spec)
    findings += spec_findings
    if spec is None:
        return None, findings
    arrays = _join(episodes, spec, units)
    findings += dataset_findings(**arrays, env_spec=spec, action_units=units)
    if errors_of(findings):
        return None, findings
    provenance = raw.provenance or Provenance(task=spec.id)
    notes = [finding.message for finding in findings]
    demonstrations = Demonstrations(**arrays, env_spec=spec, provenance=provenance.noting(*notes))
    if not raw.units_stated:
        findings += _unused_range_findings(arrays["actions"], spec, units)
    return demonstrations, findings


def _choose_spec(
    raw: RawDataset, episodes: list[RawEpisode], env_spec: EnvSpec | None
) -> tuple[EnvSpec | None, list[Finding]]:
    """Take the caller's task, checked against the file's; else the file's; else infer one."""
    size = episodes[0].observations.shape[1]
    held = raw.env_spec
    if env_spec is not None:
        # A file without bounds still knows its name and sizes: compare those.
        bounds = env_spec.action_low, env_spec.action_high
        count = episodes[0].actions.shape[1]
        if count != env_spec.action_size:
            bounds = (-1.0,) * count, (1.0,) * count
        held = held or dataclasses.replace(
            env_spec,
            id=raw.task,
            observation_size=size,
            action_low=bounds[0],
            action_high=bounds[1],
        )
        try:
            compare_specs(held, env_spec)
        except DatasetError as error:
            return None, [Finding("error", "env_spec", str(error))]
        return env_spec, []
    if held is not None:
        return held, []
    spec, finding = infer_spec(
        raw.task,
        size,
        np.concatenate([episode.actions for episode in episodes]),
        max(len(episode.actions) for episode in episodes),
        any(episode.terminations[-1] for episode in episodes),
    )
    return spec, [finding]


def _join(episodes: list[RawEpisode], spec: EnvSpec, units: ActionUnits) -> dict[str, Any]:
    """Join the columns end to end in the dtypes of a dataset, actions in environment units."""
    actions = np.concatenate([episode.actions for episode in episodes])
    if units == "normalised" and actions.shape[1] == spec.action_size:
        actions = spec.to_env_units(actions)
    bare = any(episode.rewards is None for episode in episodes)
    rewards = None if bare else np.concatenate([np.asarray(e.rewards) for e in episodes])
    if rewards is not None and np.isnan(rewards.astype(np.float64)).all():
        rewards = None
    return {
        "observations": _float32(np.concatenate([e.observations for e in episodes])),
        "actions": _float32(actions),
        "rewards": None if rewards is None else _float32(rewards),
        "terminations": np.concatenate([e.terminations for e in episodes]).astype(bool),
        "truncations": np.concatenate([e.truncations for e in episodes]).astype(bool),
        "lengths": np.array([len(e.actions) for e in episodes], np.int64),
        "start_seeds": np.array([e.start_seed for e in episodes], np.int64),
    }


def _float32(array: np.ndarray) -> np.ndarray:
    # What is too large becomes infinite, which the checks then name by episode and row.
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _unused_range_findings(actions: np.ndarray, spec: EnvSpec, units: ActionUnits) -> list[Finding]:
    """Note it if actions read in environment units look as if they were normalised."""
    scale = spec.action_scale
    if units != "env" or not np.all(scale > 1) or np.abs(actions).max() > 1:
        return []
    message = (
        f"no action leaves [-1, 1], though the bounds of {spec.id} are {list(spec.action_low)} to "
        f"{list(spec.action_high)}; if they are normalised, pass `--action-units normalised`"
    )
    return [Finding("note", "action units", message)]
