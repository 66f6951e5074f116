"""A small study with values that can be checked by hand."""

from steelyard.reports import Arm, Comparison, Line, Metric, Record, StudyReport

SPEC = StudyReport(
    study="imitation",
    title="Imitation <on> Pendulum",
    primary_metric="score",
    raw_metric="return",
    metrics=(
        Metric("return", "return", "Reward", "Mean undiscounted return.", 1),
        Metric("score", "score", "vs Expert", "0 is random, 1 the expert."),
        Metric("gap_to_optimum", "gap to optimum", decimals=1, higher_is_better=False),
    ),
    arms=(
        Arm("expert", "Expert", "The scale.", "anchor"),
        Arm("bc", "BC", "Cloning.", "baseline"),
        Arm("ipmd", "IPMD", "Inverse RL.", "method"),
        Arm("frozen", "Frozen", "Control.", "control"),
    ),
    comparisons=(Comparison("ipmd", "bc"), Comparison("ipmd", "frozen")),
    primary_axes={"demonstrations": 10},
    axis_titles={"demonstrations": "Demonstration episodes"},
    lines=(Line(0, "random"), Line(1, "expert")),
    description=("Two imitators & one expert.",),
    limits=("Pendulum only.",),
)


def record(arm, seed, score, demonstrations=None, **changes):
    """One finished run; return and gap follow from the score, so that all metrics agree."""
    value = None if score is None else -1000.0 + 900.0 * score
    fields = {
        "study": "imitation",
        "preset": "quick",
        "arm": arm,
        "seed": seed,
        "axes": {} if demonstrations is None else {"demonstrations": demonstrations},
        "metrics": {
            "return": value,
            "score": score,
            "gap_to_optimum": None if value is None else -95.0 - value,
        },
        "per_start_returns": () if value is None else (value - 1.0, value + 1.0),
        "curve": tuple(
            {
                "frames": None if arm == "bc" else frames,
                "seconds": frames / 100 + seed,
                "score": None if score is None else score * frames / 2000,
            }
            for frames in (1000, 2000)
        ),
        "seconds": 60,
        "frames": None if arm == "bc" else 2000,
        "epochs": 100 if arm == "bc" else None,
        "hardware": "2 cores",
        "command": "steelyard study run imitation --preset quick",
        "version": "0.1.0",
        "versions": {"numpy": "2.4.6"},
        "run_id": f"{arm}-{demonstrations}-{seed}",
        "parent": None,
        "status": "done",
        "notes": (),
    }
    return Record(**(fields | changes))


def study(seeds=5):
    """IPMD beats BC by exactly 0.5 with 1 demonstration, loses by 0.01 with 10 in every seed."""
    records = []
    for seed in range(seeds):
        noise = 0.001 * seed
        records += [
            record("expert", seed, 1.0),
            record("bc", seed, 0.99 - noise, 10),
            record("bc", seed, 0.40 + noise, 1),
            record("ipmd", seed, 0.98 - noise, 10),
            record("ipmd", seed, 0.90 + noise, 1),
            record("frozen", seed, -0.25 + 10 * noise, 10),
        ]
    return records
