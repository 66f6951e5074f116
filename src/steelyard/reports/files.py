"""Writes files so that a reader sees the old content or the new one, never half of it."""

import json
import os
from pathlib import Path

from steelyard.files import replacing


def json_text(value: object) -> str:
    """Write JSON for people and for diffs: what holds no further object stands on one line."""
    return f"{_laid_out(value, 0)}\n"


def _laid_out(value: object, depth: int) -> str:
    if isinstance(value, dict):
        ends, parts = (
            "{}",
            [(f"{json.dumps(k, ensure_ascii=False)}: ", v) for k, v in value.items()],
        )
    elif isinstance(value, list | tuple):
        ends, parts = "[]", [("", v) for v in value]
    else:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    nested = any(isinstance(v, dict) or (isinstance(v, list | tuple) and v) for _, v in parts)
    texts = [key + _laid_out(v, depth + 1) for key, v in parts]
    if not nested:
        return f"{ends[0]}{', '.join(texts)}{ends[1]}"
    margin = "  " * depth
    inside = ",\n".join(f"{margin}  {text}" for text in texts)
    return f"{ends[0]}\n{inside}\n{margin}{ends[1]}"


def write_atomic(path: Path, content: str | bytes) -> Path:
    """Write a file in one step, down to the disk, and return its path; text becomes UTF-8."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return path
