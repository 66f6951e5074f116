"""Emphasis on the items of one on-policy iteration: which score, felt how, kept how long.

The keys begin with ``cupid_`` as in the reference code. What is kept from one iteration to the next
is the scorer (scales, directions), never a score: on-policy items are gone by then.
"""

import dataclasses
import difflib
from typing import Literal, get_args

from steelyard.emphasis.importance import ImportanceWeights, Scale, ValueError_
from steelyard.emphasis.weighting import Weighting
from steelyard.emphasis.weightings import WEIGHTINGS, make_weighting

Mode = Literal["heuristic", "gradnorm", "influence", "random"]
Hessian = Literal["identity", "adam", "fisher_cg"]
Target = Literal["outcome", "advantage"]
Level = Literal["sample", "trajectory"]
Through = Literal["batches", "losses"]


@dataclasses.dataclass(frozen=True)
class CupidConfig:
    """How much each on-policy item counts, and how that is felt."""

    use_cupid: bool = False
    """Whether some items count more than others."""
    cupid_mode: Mode = "heuristic"
    """`heuristic`: advantage, value error, success (the reference); `gradnorm`: the norm of the
    gradient, one score for each network; `influence`: by how much the target rises if an item
    counts more; `random`: noise, the control."""
    cupid_compute_interval: int = 5
    """Iterations that a scorer serves."""
    cupid_reuse: Literal["scorer", "uniform"] = "scorer"
    """What serves the iterations in between: the kept scorer, or none (the upstream code)."""
    cupid_advantage_weight: float = 0.4
    """Weight of the advantage's size."""
    cupid_value_error_weight: float = 0.3
    """Weight of the value error."""
    cupid_success_weight: float = 0.3
    """Weight of the trajectory's success."""
    cupid_value_error: ValueError_ = "monte_carlo"
    """`monte_carlo`: return minus value; `td`: temporal difference; `identity`: the advantage once
    more, which is what the reference's formula amounts to."""
    cupid_component_scale: Scale = "none"
    """`rms` divides each component by its root mean square; `adaptive` does too, and moves the
    three weights, at each computation, to where influence says that the target rises."""
    cupid_weighting: str = "proportional"
    """How scores become a distribution; any weighting of the library."""
    cupid_power: float = 1.0
    """Sharpness of `proportional` and `rank`; 0 is uniform."""
    cupid_floor: float = 0.2
    """Share that is drawn uniformly; bounds the weight that is owed by its inverse."""
    cupid_ess: float = 0.5
    """Effective share of items that `softmax` leaves."""
    cupid_fraction: float = 0.125
    """Share of the negative items that `drop` leaves out."""
    cupid_alpha: float = 0.2
    """Share of the items in the `tail`."""
    cupid_correction: float = 1.0
    """Exponent of the weight that a biased draw owes: 1 is unbiased, 0 the reference."""
    cupid_through: Through = "batches"
    """Whether batches are drawn by it, or losses are weighted by it."""
    cupid_draw_fraction: float = 1.0
    """Items drawn in an epoch, as a share of all."""
    cupid_gain_threshold: float = 0.0
    """Least predicted gain of `gradnorm`; below it the iteration draws uniformly."""
    cupid_target: Target = "outcome"
    """What influence is about: the log-probability of successful trajectories minus that of failed
    ones, or of all actions by their advantage (IIF)."""
    cupid_hessian: Hessian = "adam"
    """Preconditioner of the direction."""
    cupid_cross_fit: bool = True
    """Whether items are scored with a direction that they had no part in."""
    cupid_level: Level = "sample"
    """Whether a trajectory's items share the sum of their influence."""

    def __post_init__(self) -> None:
        _ = self.weights
        if self.cupid_compute_interval < 1:
            raise ValueError(
                f"cupid_compute_interval must be at least 1, got {self.cupid_compute_interval}"
            )
        for name in ("cupid_floor", "cupid_correction", "cupid_fraction"):
            _require(name, getattr(self, name), low_open=False)
        for name in ("cupid_ess", "cupid_draw_fraction", "cupid_alpha"):
            _require(name, getattr(self, name), low_open=True)
        if self.cupid_power < 0:
            raise ValueError(f"cupid_power must be at least 0, got {self.cupid_power}")
        choices = {
            "cupid_mode": Mode,
            "cupid_value_error": ValueError_,
            "cupid_component_scale": Scale,
            "cupid_hessian": Hessian,
            "cupid_target": Target,
            "cupid_level": Level,
            "cupid_through": Through,
        }
        for name, legal in choices.items():
            _require_name(name, getattr(self, name), get_args(legal))
        _require_name("cupid_weighting", self.cupid_weighting, tuple(WEIGHTINGS))
        signed = self.cupid_mode in ("influence", "random")
        if self.use_cupid and signed and self.cupid_weighting == "proportional":
            raise ValueError(
                f"{self.cupid_mode} is signed; use softmax, drop or rank as cupid_weighting"
            )
        owes = self.cupid_through == "batches" and self.cupid_correction > 0
        if self.use_cupid and owes and self.cupid_floor == 0 and self.cupid_power > 0:
            raise ValueError("correction is unbounded where p = 0: set cupid_floor > 0")

    @property
    def weights(self) -> ImportanceWeights:
        """Weights of the heuristic's components."""
        return ImportanceWeights(
            self.cupid_advantage_weight, self.cupid_value_error_weight, self.cupid_success_weight
        )

    def weighting(self) -> Weighting:
        """The weighting, without the floor, which the sampler mixes in."""
        options = {
            "proportional": {"power": self.cupid_power},
            "rank": {"power": self.cupid_power, "floor": 0.0},
            "softmax": {"ess": self.cupid_ess},
            "drop": {"fraction": self.cupid_fraction},
            "tail": {"alpha": self.cupid_alpha},
        }
        return make_weighting(self.cupid_weighting, **options.get(self.cupid_weighting, {}))


def _require(name: str, value: float, low_open: bool) -> None:
    above = value > 0.0 if low_open else value >= 0.0
    if not (above and value <= 1.0):
        raise ValueError(f"{name} must be in {'(' if low_open else '['}0, 1], got {value}")


def _require_name(name: str, value: str, legal: tuple[str, ...]) -> None:
    if value not in legal:
        near = difflib.get_close_matches(value, legal, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} is one of {', '.join(map(repr, legal))}, got {value!r}{hint}")
