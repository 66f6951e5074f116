"""What the shared readers refuse, one planted file each; and that their errors name the file."""

import contextlib
import json
import os
import sqlite3
import struct
import zipfile

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fuzz_mutators import header, payload

from steelyard.cli import main
from steelyard.data.findings import DatasetError
from steelyard.data.formats.hdf5 import column, open_hdf5
from steelyard.files import (
    FileError,
    allowance,
    field,
    read_arrays,
    read_json,
    read_json_lines,
    read_notes,
    read_tensors,
    reading,
    regular_file,
)
from steelyard.labelling.dataset import film_path
from steelyard.labelling.records import Clip, LabellingError, StorageError
from steelyard.labelling.schema import FILE
from steelyard.labelling.store import Store
from steelyard.training.checkpoint import load_tree, save_tree
from steelyard.training.plain import ConfigError, from_plain
from steelyard.training.run_folder import RunFolder


def test_whatever_fails_while_a_file_is_read_is_one_error_that_names_it():
    for failure in (KeyError("a"), RecursionError(), MemoryError(), struct.error(), OSError(5)):
        with pytest.raises(DatasetError, match="^here.json: is none"):  # noqa: SIM117
            with reading("here.json", "is none", DatasetError):
                raise failure
    with pytest.raises(FileError, match="^here.json: said"), reading("here.json", "is none"):
        raise FileError("said")
    with pytest.raises(KeyboardInterrupt), reading("here.json", "is none"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_has_no_end_is_not_opened(tmp_path, make):
    make(tmp_path / "a.json")
    for read in (read_json, read_arrays, read_tensors, regular_file):
        with pytest.raises(FileError, match=r"a\.json: must be a regular file"):
            read(tmp_path / "a.json")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(FileError, match="zero: must be a regular file"):
        read_json(tmp_path / "zero")
    with pytest.raises(FileNotFoundError, match="absent"):
        read_json(tmp_path / "absent")


@pytest.mark.parametrize(
    "text",
    [b"", b"[1]", b"3", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}"],
)
def test_json_is_an_object_in_utf8_or_refused(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(FileError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n\n' + text + b"x\n")
    with pytest.raises(FileError, match=r"a\.jsonl"):
        list(read_json_lines(tmp_path / "a.jsonl"))


def test_a_field_is_there_and_of_its_kind():
    content = {"a": {"b": 3, "c": True}}
    assert field(content, "a", "b", kind=int, place="p") == 3
    with pytest.raises(FileError, match=r"p: needs the field 'a\.x'; found \['b', 'c'\]"):
        field(content, "a", "x", place="p")
    with pytest.raises(FileError, match="p: `a.c` must be int, got True"):
        field(content, "a", "c", kind=int, place="p")
    with pytest.raises(FileError, match=r"p: needs the field 'a\.b\.c'; found no object"):
        field(content, "a", "b", "c", place="p")


def written(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_arrays_come_back_as_numpy_wrote_them(tmp_path):
    arrays = {
        "matrix": np.arange(6.0).reshape(2, 3),
        "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "none": np.zeros((0, 4), np.float32),
        "number": np.array(3.5),
        "text": np.array("some text"),
        "big end": np.arange(3, dtype=">f4"),
        "flags": np.array([True, False]),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_arrays(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
            assert found[name].shape == array.shape
    assert set(read_arrays(tmp_path / "a.npz", ("text", "absent"))) == {"text"}


def test_a_pickled_array_is_not_opened(tmp_path):
    text = header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}")
    path = written(tmp_path / "a.npz", {"a.npy": text + payload(tmp_path / "ran")})
    with pytest.raises(FileError, match=r"a\.npz: `a` must hold numbers; pickled objects"):
        read_arrays(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(3, 4)", "(-1,)", "(0,)"])
def test_a_header_that_claims_other_than_is_there_is_refused(tmp_path, shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}"
    path = written(tmp_path / "a.npz", {"a.npy": header(text) + bytes(16)})
    with pytest.raises(FileError, match=r"a\.npz"):
        read_arrays(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    text = header("{'descr': '|u1', 'fortran_order': False, 'shape': (20971520,)}")
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.npy", text + bytes(20 * 2**20))
    assert allowance(path) > 20 * 2**20 > 100 * path.stat().st_size
    assert len(read_arrays(path)["a"]) == 20 * 2**20
    claims = bytearray(path.read_bytes())
    place = claims.find(b"PK\x01\x02")
    claims[place + 24 : place + 28] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(claims)
    with pytest.raises(FileError, match=r"a\.npz: its arrays claim 4,294,967,294 bytes unpacked"):
        read_arrays(path)


def test_names_that_lead_outside_are_names_of_arrays_and_nothing_more(tmp_path):
    np.savez(tmp_path / "b.npz", a=np.zeros(2))
    with zipfile.ZipFile(tmp_path / "b.npz") as archive:
        content = archive.read("a.npy")
    (tmp_path / "inner").mkdir()
    path = written(tmp_path / "inner" / "a.npz", {"../../escaped.npy": content})
    assert set(read_arrays(path)) == {"../../escaped"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.npz", "inner"]


def test_safetensors_that_are_damaged_are_named(tmp_path):
    for data in (b"", bytes(8), struct.pack("<Q", 2**62) + b"{}", b"\x02" + bytes(7) + b"{}x"):
        (tmp_path / "a.safetensors").write_bytes(data)
        for read in (read_tensors, read_notes):
            with contextlib.suppress(FileError):
                assert not read(tmp_path / "a.safetensors")


def hdf5(path, plant):
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
        plant(file)
    return path


def test_hdf5_does_not_point_outside(tmp_path):
    def link(file):
        file["group/linked"] = h5py.ExternalLink("/etc/passwd", "/secret")

    with (
        pytest.raises(DatasetError, match=r"a\.h5: `group/linked` is a link to another file"),
        open_hdf5(hdf5(tmp_path / "a.h5", link)),
    ):
        pass

    def stored(file):
        file.create_dataset("y", (8,), "u1", external=[("/etc/hostname", 0, 8)])

    with (
        open_hdf5(hdf5(tmp_path / "b.h5", stored)) as file,
        pytest.raises(DatasetError, match="b: `y` lies in another file"),
    ):
        column(file, "y", "b")


def test_hdf5_does_not_claim_terabytes(tmp_path):
    def huge(file):
        file.create_dataset("y", (2**40,), "f4", chunks=(1024,))

    with (
        open_hdf5(hdf5(tmp_path / "a.h5", huge)) as file,
        pytest.raises(DatasetError, match="a: `y` claims 4,398,046,511,104 bytes"),
    ):
        column(file, "y", "a")


def test_settings_that_a_config_refuses_name_the_file():
    from steelyard.agents.sac import SACConfig

    for given in (
        {"discount": 10**400},
        {"hidden": "a"},
        {"hidden": [True]},
        {"tau": -1.0, "x": 1},
    ):
        with pytest.raises(ConfigError, match=r"^c\.json"):
            from_plain(SACConfig, given, "c.json")


def test_a_template_of_shapes_loads_as_one_of_arrays_does(tmp_path):
    make = lambda: {"w": jnp.ones((2, 3)), "name": "kept", "rate": 0.5}  # noqa: E731
    save_tree(tmp_path / "a.safetensors", make())
    shapes = eqx.filter_eval_shape(make)
    loaded = load_tree(tmp_path / "a.safetensors", shapes)
    assert jax.tree.structure(loaded) == jax.tree.structure(make())
    np.testing.assert_array_equal(loaded["w"], np.ones((2, 3)))
    assert loaded["name"] == "kept"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({}, "'state'"),
        ({"state": 3}, "`state` must be str"),
        ({"state": "running", "step": "9"}, "`step` must be int"),
        ({"state": "running", "checkpoint": "../../x", "step": 1}, "name of a file"),
        ({"state": "running", "generation": 1.5}, "`generation` must be int"),
        ([], "must be a JSON object"),
    ],
)
def test_a_damaged_status_is_named(tmp_path, status, says):
    (tmp_path / "status.json").write_text(json.dumps(status))
    with pytest.raises(FileError, match=r"status\.json.*" + says):
        RunFolder(tmp_path).status()


def test_films_outside_the_data_set_are_none(tmp_path):
    root = tmp_path / "data"
    (root / "videos").mkdir(parents=True)
    (tmp_path / "secret.webm").write_bytes(b"x")
    (root / "videos" / "link.webm").symlink_to(tmp_path / "secret.webm")
    (root / "videos" / "loop.webm").symlink_to("loop.webm")
    (root / "videos" / "good.webm").write_bytes(b"x")
    for name in ("../secret.webm", str(tmp_path / "secret.webm"), "videos/link.webm", "a\0b",
                 "videos/loop.webm", "x" * 5000, "", "videos", "\ud800"):  # fmt: skip
        assert film_path(root, name) is None, name
    assert film_path(root, "videos/good.webm") == root / "videos" / "good.webm"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("CREATE TRIGGER evil AFTER INSERT ON tasks BEGIN DELETE FROM annotators; END", "evil"),
        ("DROP TRIGGER judgements_no_delete", "judgements_no_delete"),
        ("ALTER TABLE tasks RENAME COLUMN reason TO other", "tasks"),
        ("UPDATE meta SET schema_version = 'x'", "has schema 'x'"),
        ("UPDATE meta SET settings = '[1'", "settings must be JSON"),
        ("INSERT INTO annotators VALUES (1, 'ana'); INSERT INTO segments VALUES (0, NULL, 0, 0, 0, "
         "1, 'x'); INSERT INTO tasks VALUES (1, 1, 'rate', 5, 0, NULL, 1, 'x', 'done'); INSERT "
         "INTO judgements VALUES (1, 'u', 1, 'nine', 0, 1, 1, 0, 'now')", "got 'nine'"),
    ],
)  # fmt: skip
def test_a_database_that_is_not_ours_is_refused(tmp_path, change, says):
    Store.open(tmp_path, "a" * 64).close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.executescript(change)
    with pytest.raises(LabellingError, match=rf"{FILE}.*{says}"):  # noqa: SIM117
        with contextlib.closing(Store.open(tmp_path, "a" * 64)) as store:
            store.settings()
            store.judgements()


def test_the_command_line_says_it_in_one_line(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "expert_buffer.safetensors").write_bytes(b"nothing")
    (tmp_path / "data" / "metadata.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        main(["data", "inspect", str(tmp_path / "data")])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert said.startswith("steelyard: ")
    assert "metadata.json" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", [FILE, f"{FILE}-wal", f"{FILE}.lock"])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_store_waits_for_no_pipe_and_writes_through_no_link(tmp_path, name, read_only):
    folder = tmp_path / "data"
    folder.mkdir()
    Store.open(folder, "a" * 64).close()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(LabellingError, match=f"{name}: must be a regular file"):
        Store.open(folder, "a" * 64, read_only)
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LabellingError, match=f"{name}"):
        Store.open(folder, "a" * 64, read_only)
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_said_and_the_store_goes_on(tmp_path):
    with contextlib.closing(Store.open(tmp_path, "a" * 64)) as store:
        pages = store._rows("PRAGMA page_count")[0][0]
        store._rows(f"PRAGMA max_page_count={pages}")
        clips = [Clip(i, 0, 0, 0.0, 1.0, "x" * 200) for i in range(1000)]
        with pytest.raises(StorageError, match=rf"{FILE} cannot be used: database or disk is full"):
            store.add_segments(clips)
        store._rows("PRAGMA max_page_count=100000")
        store.add_segments(clips)
        assert store.clip(999) == ("x" * 200, None)
