"""Fill the generated tables of README and docs from ``results/``; ``--check`` only compares.

A block starts with ``<!-- results:STUDY/PRESET -->`` and ends with ``<!-- /results -->``; what lies
between is made from that folder's ``raw.jsonl`` and is not written by hand. A block without such a
file is left as it is.
"""

import re
import sys
from pathlib import Path

from steelyard.reports import load_records, load_spec, summarise
from steelyard.reports.tables import results_markdown

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"<!-- results:(?P<place>[\w/.-]+) -->\n.*?<!-- /results -->", re.DOTALL)


def filled(text: str, results: Path = ROOT / "results") -> str:
    """The text with every block made anew whose results are there."""

    def block(match: re.Match) -> str:
        folder = results / match["place"]
        if not (folder / "raw.jsonl").exists():
            return match[0]
        summary = summarise(
            load_records(folder / "raw.jsonl"), load_spec(folder / "report_spec.json")
        )
        return (
            f"<!-- results:{match['place']} -->\n\n{results_markdown(summary).strip()}\n\n"
            "<!-- /results -->"
        )

    return BLOCK.sub(block, text)


def main(check: bool) -> int:
    """Fill or compare every page; returns the exit code."""
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        new = filled(text)
        if new != text:
            stale.append(page.relative_to(ROOT))
            if not check:
                page.write_text(new)
    for page in stale:
        print(f"{page}: {'stale; run `make results`' if check else 'filled'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
