"""What is looked at before an on-policy update: numbers that are none, weight on a few items.

Data flow: an iteration's items and what its epochs will feel, on the host → words for people.
"""

import numpy as np

from steelyard.agents.ppo import PPOConfig
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.training.cupid import Felt
from steelyard.training.rollout_items import Prepared

LEAST_ESS_SHARE = 0.01
HEAVIEST = 10


def not_finite(prepared: Prepared, felt: Felt) -> list[str]:
    """Name, for each run of a group, the first number that is none; empty where all are.

    Args:
        prepared: Items, arrays ``[seed, item, ...]``.
        felt: What the epochs will feel, likewise.
    """
    checked = {
        "advantage": prepared.items.advantage,
        "value target": prepared.items.value_target,
        "log-probability": prepared.items.log_prob,
        "weight": felt.weights,
        "correction": felt.actor.correction,
    }
    valid = np.asarray(prepared.valid)
    found = [""] * len(valid)
    for name, array in checked.items():
        values = np.asarray(array)
        bad = valid & ~np.isfinite(values)
        for run in np.flatnonzero(bad.any(1)):
            item = int(bad[run].argmax())
            found[run] = found[run] or f"{name} of {_place(item, prepared.envs)} is " + str(
                values[run, item]
            )
    return found


def concentrated(prepared: Prepared, felt: Felt, ess_share: np.ndarray) -> list[str]:
    """Name, for each run whose weight lies on few items, the heaviest of these; else empty.

    Args:
        prepared: Items, arrays ``[seed, item, ...]``.
        felt: What the epochs will feel, likewise.
        ess_share: Effective share of items, ``[seed]``.
    """
    found = []
    for run, share in enumerate(ess_share):
        if share >= LEAST_ESS_SHARE or not np.isfinite(share):
            found.append("")
            continue
        cumulative = np.asarray(felt.actor.cumulative[run], np.float64)
        weight = np.diff(cumulative, prepend=0.0) * np.asarray(felt.weights[run])
        heaviest = np.argsort(-weight)[:HEAVIEST]
        places = ", ".join(_place(int(item), prepared.envs) for item in heaviest)
        found.append(
            f"the weights leave {share:.2%} of the items effective; the heaviest, "
            f"(time, env): {places}"
        )
    return found


def remarks(agent: PPOConfig, cupid: CupidConfig) -> list[str]:
    """What a user should know about settings before they run."""
    if not cupid.use_cupid or cupid.cupid_mode != "heuristic":
        return []
    if cupid.cupid_value_error == "identity":
        return [
            "cupid_value_error 'identity' is the advantage once more, so the advantage counts "
            f"{cupid.cupid_advantage_weight + cupid.cupid_value_error_weight:g}; 'monte_carlo' is "
            "a signal of its own"
        ]
    if cupid.cupid_value_error == "monte_carlo" and agent.gae_lambda == 1.0:
        return ["cupid_value_error 'monte_carlo' is the advantage once more at gae_lambda = 1"]
    return []


def _place(item: int, envs: int) -> str:
    return f"({item // envs}, {item % envs})"
