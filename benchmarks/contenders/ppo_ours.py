"""Steelyard's PPO without a base policy, by its own loop, metrics and files included.

Started by ``benchmarks/peers.py``.
"""

import contextlib
import tempfile
from pathlib import Path

from measured import Moment, report
from ppo_sizes import size_parser

from steelyard.agents.ppo import PPOConfig
from steelyard.training.group import RunGroup
from steelyard.training.on_policy import OnPolicyConfig
from steelyard.training.on_policy_update import UpdateConfig
from steelyard.training.residual import ResidualRun, train_residual
from steelyard.training.run_folder import RunFolder

NEVER = 1e9
WARM_UP = 7
"""Iterations that are not timed: every program has been compiled by then."""


class WindowClosed(Exception):
    """Ends the training once the window is over."""


def main() -> None:
    parser = size_parser(__doc__)
    args = parser.parse_args()

    items = args.num_envs * args.steps
    run = ResidualRun(
        args.env,
        PPOConfig(
            hidden=(args.width, args.width),
            residual=False,
            action_scale=1.0,
            learn_std=True,
            init_logstd=0.0,
            n_iterations_train_only_value=0,
        ),
        UpdateConfig(args.epochs, args.minibatches, target_kl=NEVER),
        OnPolicyConfig(items * 100_000, args.num_envs, args.steps),
    )
    marks: list[tuple[Moment, float, float]] = []

    def tell(iteration: int, values: dict) -> None:
        if iteration < WARM_UP:
            return
        total = items / float(values["training/SPS"][0])
        update = total * float(values["training/share_update"][0])
        update += total * float(values["training/share_emphasis"][0])
        marks.append((Moment.now(), update, total))
        if marks[-1][0].wall - marks[0][0].wall >= args.seconds:
            raise WindowClosed

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(WindowClosed):
        group = RunGroup([args.seed], [RunFolder(Path(folder))], "peers")
        train_residual(run, group, tell=tell)
    window, frames = marks[-1][0].since(marks[0][0]), items * (len(marks) - 1)
    update = sum(mark[1] for mark in marks[1:])
    report(
        {
            "frames_per_s": frames / window.wall,
            "frames_per_cpu_s": frames / window.cpu,
            "update_items_per_s": frames * args.epochs / update,
            "update_share": update / window.wall,
        },
        ("steelyard", "jax", "envpool"),
        frames=frames,
    )


if __name__ == "__main__":
    main()
