"""A file appears whole or not at all."""

import errno
import os
import subprocess

import pytest

from steelyard.files import remove_leftovers, replacing, write_text


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = write_text(tmp_path / "a" / "x.json", "old")
    with pytest.raises(RuntimeError), replacing(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["x.json"]


def test_what_kills_left_is_removed_at_any_depth(tmp_path):
    for name in ("status.json.1.tmp", "checkpoints/state_5.safetensors.2.tmp", "kept.json"):
        write_text(tmp_path / name, "")
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["kept.json"]


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 64 KiB; needs the right to mount one."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("may not mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_old_file_whole(full_disk):
    path = write_text(full_disk / "x", "old")
    with pytest.raises(OSError, match="No space left") as full:
        write_text(path, "new" * 100_000)
    assert full.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert os.listdir(full_disk) == ["x"]
