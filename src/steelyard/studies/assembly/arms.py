"""The arms of the assembly study: one learner, and what its updates make of its own items."""

import dataclasses

from steelyard.emphasis.on_policy import CupidConfig
from steelyard.reports.spec import Role
from steelyard.training.on_policy import OnSuccess


@dataclasses.dataclass(frozen=True)
class AssemblyArm:
    """One arm.

    Attributes:
        title: Its name for people.
        description: What is different in it.
        cupid: The emphasis.
        on_success: What success does, where it is not the study's own choice.
        role: Its part in the comparison.
    """

    title: str
    description: str
    cupid: CupidConfig = CupidConfig()
    on_success: OnSuccess | None = None
    role: Role = "method"


def _signed(weighting: str, **settings: object) -> CupidConfig:
    """Influence on the actor's losses."""
    return CupidConfig(
        use_cupid=True,
        cupid_mode="influence",
        cupid_weighting=weighting,
        cupid_through="losses",
        **settings,  # pyright: ignore[reportArgumentType]
    )


HEURISTIC = CupidConfig(
    use_cupid=True, cupid_value_error="identity", cupid_correction=0.0, cupid_floor=0.0
)
"""The reference's formula, as its text has it: no correction, no floor."""
IIF = _signed(
    "drop",
    cupid_hessian="identity",
    cupid_target="advantage",
    cupid_cross_fit=False,
    cupid_compute_interval=1,
)

BASE = AssemblyArm("Base", "the frozen base policy, no residual", role="anchor")
ARMS = {
    "uniform": AssemblyArm("Uniform", "residual PPO: every item counts the same", role="baseline"),
    "heuristic": AssemblyArm(
        "Heuristic",
        "the reference: items drawn by 0.7 |advantage| + 0.3 success, uncorrected",
        HEURISTIC,
    ),
    "heuristic-mc": AssemblyArm(
        "Heuristic, own value error",
        "the same with |return − value| for the value error, which is a signal of its own",
        dataclasses.replace(HEURISTIC, cupid_value_error="monte_carlo"),
    ),
    "heuristic-corrected": AssemblyArm(
        "Heuristic, corrected",
        "the same with a floor of 0.2, each loss weighted by what its draw owes",
        CupidConfig(use_cupid=True),
    ),
    "adaptive": AssemblyArm(
        "Heuristic, adaptive",
        "uncorrected, components scaled alike, their weights moved to where influence says",
        CupidConfig(
            use_cupid=True,
            cupid_component_scale="adaptive",
            cupid_target="advantage",
            cupid_correction=0.0,
        ),
    ),
    "gradnorm": AssemblyArm(
        "Gradient norm",
        "a quarter of the items, drawn by their gradient norms, corrected",
        CupidConfig(
            use_cupid=True,
            cupid_mode="gradnorm",
            cupid_draw_fraction=0.25,
            cupid_gain_threshold=1.5,
        ),
    ),
    "influence": AssemblyArm(
        "Influence",
        "losses weighted by cross-fitted influence on success, half of the items effective",
        _signed("softmax"),
    ),
    "influence-trajectory": AssemblyArm(
        "Influence, trajectories",
        "the same, an episode's items sharing the sum of their influence",
        _signed("softmax", cupid_level="trajectory"),
    ),
    "iif": AssemblyArm(
        "IIF",
        "leaves out the worst eighth of the items of negative influence on the advantage",
        IIF,
    ),
    "iif-cross-fit": AssemblyArm(
        "IIF, cross-fitted",
        "the same, each item judged by the other half of the environments",
        dataclasses.replace(IIF, cupid_cross_fit=True),
    ),
    "dtv": AssemblyArm(
        "DTV",
        "leaves out the trajectories whose gradient points away from success",
        _signed("drop", cupid_fraction=1.0, cupid_hessian="identity", cupid_level="trajectory"),
    ),
    "random-drop": AssemblyArm(
        "Random drop",
        "control: leaves out as many items as IIF, at random",
        dataclasses.replace(IIF, cupid_mode="random"),
        role="control",
    ),
    "uniform-quarter": AssemblyArm(
        "Uniform, a quarter",
        "control: a quarter of the items, drawn uniformly",
        CupidConfig(use_cupid=True, cupid_power=0.0, cupid_draw_fraction=0.25),
        role="control",
    ),
    "uniform-mask": AssemblyArm(
        "Uniform, masked",
        "control: episodes run on after success, and what follows counts for nothing",
        on_success="mask",
        role="control",
    ),
    "uniform-continue": AssemblyArm(
        "Uniform, continued",
        "control: episodes run on after success, and all of it is trained on (the reference)",
        on_success="continue",
        role="control",
    ),
}
"""By name; ``base`` comes with each of them."""

PUBLISHED = ("uniform", "heuristic", "heuristic-corrected", "gradnorm", "influence", "iif")
"""The arms of `quick`."""
REPEATED = ("uniform", "heuristic", "gradnorm", "iif", "iif-cross-fit", "random-drop")
"""The arms of `full` on its third task."""
ALL = tuple(name for name, arm in ARMS.items() if arm.on_success is None)
"""The arms of `full`; the others need a task that runs on after success."""
