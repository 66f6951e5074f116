"""The command line: ``steelyard GROUP COMMAND ...``, one grammar for all studies.

Only the modules of the chosen command are imported, so that help and errors come at once.
"""

import difflib
import importlib
import signal
import sys

COMMANDS = {
    "train": (
        "steelyard.cli.train",
        "train one learner: sac, ipmd, bc, dynamics, base, residual-ppo, acfql, cpl",
    ),
    "evaluate": ("steelyard.cli.runs", "score a finished run on the fixed start states"),
    "render": ("steelyard.cli.runs", "film a finished run"),
    "export": ("steelyard.cli.dynamics_runs", "write a dynamics model for other programs"),
    "data": ("steelyard.cli.data", "make, look at, check and convert data"),
    "label": ("steelyard.cli.label", "judge films of segments in a browser"),
    "study": ("steelyard.cli.study", "run, resume and report whole comparisons"),
}


class UsageError(ValueError):
    """The command line cannot be understood; the message says what is legal."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point; errors a user can mend are one message: exit code 2, or 1 once work began."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"steelyard {version('steelyard')}")
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        module = importlib.import_module(COMMANDS[choose(arguments[0], COMMANDS)][0])
        module.main(arguments)
    except (ValueError, FileNotFoundError, FileExistsError, ImportError) as error:
        print(f"steelyard: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except FloatingPointError as error:
        print(f"steelyard: diverged: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except (RuntimeError, OSError) as error:
        message = _explained(error)
        if message is None:
            raise
        print(f"steelyard: {message}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt as stopped:
        print(
            "\nsteelyard: stopped; the same command goes on from the last checkpoint",
            file=sys.stderr,
        )
        raise SystemExit(143 if isinstance(stopped, Terminated) else 130) from None


def _explained(error: RuntimeError | OSError) -> str | None:
    """The message of an error that needs no traceback, or none."""
    from steelyard.studies.executors import WorkerError, disk_hint
    from steelyard.studies.hardware import memory_hint
    from steelyard.training.holds import HeldError

    if isinstance(error, (WorkerError, HeldError)):
        return str(error)
    return disk_hint(error) if isinstance(error, OSError) else memory_hint(error)


class Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM), as a scheduler does before it kills."""


def _terminate(*_: object) -> None:
    raise Terminated


def usage() -> str:
    """The commands, one line each."""
    lines = ["usage: steelyard COMMAND ...", ""]
    lines += [f"  {name:10s} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join([*lines, "", "steelyard COMMAND --help says more."])


def choose(word: str, legal: dict) -> str:
    """A word that must be one of several.

    Raises:
        UsageError: It is none of them; names the nearest.
    """
    if word in legal:
        return word
    near = difflib.get_close_matches(word, legal, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"there is no {word!r} here; there are {', '.join(legal)}.{hint}")
