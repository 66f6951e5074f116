"""Keeps generated results equal to the records they come from."""

from pathlib import Path

from steelyard.files import reading
from steelyard.reports.files import write_atomic
from steelyard.reports.records import load_records
from steelyard.reports.report import texts
from steelyard.reports.spec import load_spec
from steelyard.reports.summary import summarise

ALWAYS = "summary.json"


def regenerate(folder: Path, check: bool = False) -> list[Path]:
    """Write again, or check, what lies beside every ``raw.jsonl`` below a folder.

    ``summary.json`` always belongs there; ``results.txt``, ``.json``, ``.csv`` and ``.md`` are kept
    fresh where they exist. Figures are not compared: their bytes depend on the drawing library.

    Args:
        folder: Where to search, itself included.
        check: Whether to leave the files as they are.

    Returns:
        The files that were stale or absent, in order; without ``check`` they are fresh now.

    Raises:
        FileNotFoundError: If there is no ``raw.jsonl`` below the folder, or no ``report_spec.json``
            beside one.
        ValueError: A file is damaged, or the two do not fit; names it.
    """
    found = sorted(folder.rglob("raw.jsonl"))
    if not found:
        raise FileNotFoundError(f"no raw.jsonl at or below {folder}")
    stale = []
    for raw in found:
        spec_path = raw.with_name("report_spec.json")
        if not spec_path.exists():
            raise FileNotFoundError(f"{raw} needs {spec_path.name} beside it, which names its arms")
        records, spec = load_records(raw), load_spec(spec_path)
        with reading(spec_path, "does not fit the records beside it"):
            made = texts(records, summarise(records, spec))
        for name, text in made.items():
            path = raw.with_name(name)
            if not path.exists() and name != ALWAYS:
                continue
            if not path.exists() or path.read_bytes() != text.encode():
                stale.append(path)
                if not check:
                    write_atomic(path, text)
    return stale
