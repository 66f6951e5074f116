"""``python -m steelyard.reports [--check] results/``: regenerate, or check, committed results."""

import sys
from pathlib import Path

import tyro

from steelyard.reports.freshness import regenerate


def main(folder: tyro.conf.Positional[Path], check: bool = False) -> int:
    """Regenerate ``summary.json`` beside every ``raw.jsonl``.

    Args:
        folder: Where to search.
        check: Change nothing; fail if a file does not follow from its records.

    Returns:
        Exit status: 1 if ``check`` found a stale file, 2 if the input is unusable, else 0.
    """
    try:
        stale = regenerate(folder, check)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in stale:
        print(f"{'stale' if check else 'written'}: {path}")
    if check and stale:
        print(f"run: python -m steelyard.reports {folder}", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(tyro.cli(main, prog="python -m steelyard.reports"))
