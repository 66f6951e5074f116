"""Ways to damage a file, or to make it hostile: bytes of any file, structure of those we know.

A mutation is a function of a random generator, the file's path, and the bytes of another valid file
of the same place; it changes what lies at the path. Each says what it did in a few words.
"""

import contextlib
import io
import json
import math
import os
import random
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Mutation = Callable[[random.Random, Path, bytes], str]
CANARY = "canary"
"""Name of the file, beside the scratch folder, that a payload makes if it is ever run."""
GIGABYTES = 4 * 2**30


def payload(canary: Path) -> bytes:
    """A pickle that runs a command when it is opened; written by hand, since nothing pickles."""
    return b"cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."


# Bytes of any file


def flip_bits(rng: random.Random, path: Path, _: bytes) -> str:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            place = rng.choice((rng.randrange(len(data)), rng.randrange(min(len(data), 512))))
            data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return "bits flipped"


def overwrite(rng: random.Random, path: Path, _: bytes) -> str:
    data = bytearray(path.read_bytes())
    if data:
        place = rng.randrange(len(data))
        part = rng.randbytes(rng.choice((1, 2, 4, 8, 64)))
        data[place : place + len(part)] = part
    path.write_bytes(data)
    return "bytes overwritten"


def truncate(rng: random.Random, path: Path, _: bytes) -> str:
    data = path.read_bytes()
    path.write_bytes(
        data[: rng.choice((rng.randint(0, len(data)), max(len(data) - rng.randint(1, 9), 0)))]
    )
    return "cut short"


def empty(rng: random.Random, path: Path, _: bytes) -> str:
    path.write_bytes(b"")
    return "empty"


def insert(rng: random.Random, path: Path, _: bytes) -> str:
    data, place = path.read_bytes(), 0
    place = rng.randint(0, len(data))
    part = rng.choice((rng.randbytes(rng.randint(1, 32)), b"\xff\xfe", b"\0" * 16, b"\n", b'"'))
    path.write_bytes(data[:place] + part + data[place:])
    return "bytes inserted"


def delete(rng: random.Random, path: Path, _: bytes) -> str:
    data = path.read_bytes()
    place = rng.randint(0, len(data))
    path.write_bytes(data[:place] + data[place + rng.choice((1, 2, 16, 128)) :])
    return "bytes deleted"


def duplicate(rng: random.Random, path: Path, _: bytes) -> str:
    data = path.read_bytes()
    place, size = rng.randint(0, len(data)), rng.choice((1, 8, 64, 512))
    path.write_bytes(
        data[:place] + data[place : place + size] * rng.choice((2, 3, 50)) + data[place + size :]
    )
    return "block repeated"


def zero(rng: random.Random, path: Path, _: bytes) -> str:
    data = bytearray(path.read_bytes())
    place, size = rng.randint(0, len(data)), rng.choice((4, 16, 128, 1024))
    data[place : place + size] = rng.choice((b"\0", b"\xff")) * len(data[place : place + size])
    path.write_bytes(data)
    return "block of zeros or ones"


def splice(rng: random.Random, path: Path, other: bytes) -> str:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :])
    return "two files spliced"


def swap(rng: random.Random, path: Path, other: bytes) -> str:
    path.write_bytes(other)
    return "another file in its place"


def huge_length(rng: random.Random, path: Path, _: bytes) -> str:
    data = bytearray(path.read_bytes())
    number = rng.choice((2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1, 2**30))
    part = struct.pack(rng.choice("<>") + "Q", number)[: rng.choice((4, 8))]
    place = rng.randint(0, min(len(data), rng.choice((16, 256, 4096))))
    data[place : place + len(part)] = part
    path.write_bytes(data)
    return "a length is huge"


# What lies at the path


def missing(rng: random.Random, path: Path, _: bytes) -> str:
    path.unlink()
    return "missing"


def folder(rng: random.Random, path: Path, _: bytes) -> str:
    path.unlink()
    path.mkdir()
    return "a folder in its place"


def pipe(rng: random.Random, path: Path, _: bytes) -> str:
    path.unlink()
    os.mkfifo(path)
    return "a pipe in its place"


def link(rng: random.Random, path: Path, _: bytes) -> str:
    target = rng.choice(
        ("/dev/zero", "/dev/null", "/etc/passwd", "nowhere", path.name, "..", "/proc/self/mem")
    )
    path.unlink()
    path.symlink_to(target)
    return f"a link to {target}"


BYTES: tuple[Mutation, ...] = (
    flip_bits, flip_bits, overwrite, truncate, truncate, empty, insert, delete, duplicate, zero,
    splice, splice, swap, huge_length,
)  # fmt: skip
PLACES: tuple[Mutation, ...] = (missing, folder, pipe, link)

# Values of JSON

PATHS = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "..",
    "/",
    "a/../../b",
    "a\0b",
    "x" * 5000,
    "//",
    "~",
    "\ud800",
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -0.0, 0.5, math.nan,
    math.inf, -math.inf, "", "a", "1", "inf", "nan", "é\u2028", [], {}, [[]], [None], [1, "a"],
    {"a": 1}, "x" * 100_000, list(range(2000)), *PATHS,
)  # fmt: skip


def json_value(rng: random.Random, value: Any) -> Any:
    """A JSON value of which one part, at any depth, is replaced, left out, added or repeated."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        kind = rng.random()
        rest = {k: v for k, v in value.items() if k != name}
        if kind < 0.12:
            return rest
        if kind < 0.2:
            return {
                **value,
                rng.choice(("extra", "", "kind", "schema", "../x", name + "_")): rng.choice(VALUES),
            }
        if kind < 0.25:
            return {**rest, rng.choice((name.upper(), name[:-1], name + "s")): value[name]}
        return {**value, name: json_value(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.15:
            return value[:place] + value[place + 1 :]
        if kind < 0.3:
            return [*value, rng.choice((*VALUES, value[place]))]
        return [*value[:place], json_value(rng, value[place]), *value[place + 1 :]]
    if isinstance(value, str) and value.startswith("{") and rng.random() < 0.7:
        try:  # JSON inside JSON
            return json.dumps(json_value(rng, json.loads(value)))
        except ValueError:
            return rng.choice(VALUES)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((-value, value + 1, value * 10**6, str(value), value + 0.5))
    return rng.choice(VALUES)


def json_text(rng: random.Random, text: str) -> bytes:
    """One JSON document made hostile."""
    kind = rng.random()
    if kind < 0.85:
        return json.dumps(json_value(rng, json.loads(text))).encode("utf-8", "surrogatepass")
    if kind < 0.88:
        deep = rng.choice((50, 5000, 200_000))
        return rng.choice((b"[", b'{"a":')) * deep
    if kind < 0.91:
        deep = rng.choice((500, 100_000))
        return b"[" * deep + b"]" * deep
    if kind < 0.94:
        twice = json.loads(text)
        first = next(iter(twice), "a") if isinstance(twice, dict) else "a"
        return text.rstrip()[:-1].encode() + f", {json.dumps(first)}: null}}".encode()
    if kind < 0.97:
        return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
    return json.dumps(rng.choice(VALUES)).encode()


def of_json(rng: random.Random, path: Path, _: bytes) -> str:
    path.write_bytes(json_text(rng, path.read_text()))
    return "JSON changed"


def of_lines(rng: random.Random, path: Path, _: bytes) -> str:
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    kind = rng.random()
    changed = [line.encode() for line in lines]
    if kind < 0.75:
        changed[place] = json_text(rng, lines[place]).replace(b"\n", b" ")
    elif kind < 0.85:
        changed.append(changed[place])
    elif kind < 0.9:
        del changed[place]
    else:
        changed[place] = rng.choice((b"", b"NaN", b"null", b"\xff", b"{}", b"[]", b"\x00"))
    path.write_bytes(b"\n".join(changed) + b"\n")
    return "a line changed"


# Arrays


def spoilt(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """An array of another type or shape, or with a value that is none."""
    kind = rng.randrange(12)
    numbers = array.dtype.kind in "iufb"
    if kind == 0 and numbers:
        return array.astype(
            rng.choice(
                ("float64", "float16", "int8", "uint64", "int32", "bool", "complex64", ">f4")
            )
        )
    if kind == 1:
        return array.reshape(-1)
    if kind == 2:
        return array[None]
    if kind == 3 and array.ndim:
        return array[: rng.randint(0, len(array))]
    if kind == 4 and array.ndim:
        return np.concatenate([array, array[: rng.randint(1, 3)]])
    if kind in (5, 6) and array.dtype.kind == "f" and array.size:
        changed = array.copy()
        changed.flat[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -np.inf, 1e30, -1e30))
        return changed
    if kind in (7, 8) and array.dtype.kind in "iu" and array.size:
        changed = array.copy()
        limits = np.iinfo(array.dtype)
        changed.flat[rng.randrange(array.size)] = rng.choice((limits.max, limits.min, 0, 1))
        return changed
    if kind == 9 and array.dtype.kind == "b":
        return ~array
    if kind == 10:
        return np.array(rng.choice((0, 1.5, "text", b"bytes", True)))
    if kind == 11 and array.ndim > 1:
        return np.ascontiguousarray(array.T)
    return np.zeros(
        rng.choice(((0,), (3,), (2, 2), (1, 1, 1), (0, 5))), rng.choice(("f4", "i8", "S3", "U2"))
    )


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def header(text: str) -> bytes:
    """A ``.npy`` with a header of one's own and no data."""
    padded = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode("latin-1")


def of_npz(rng: random.Random, path: Path, _: bytes) -> str:
    with np.load(path, allow_pickle=False) as file:
        members = {f"{name}.npy": npy(file[name]) for name in file.files}
    name = rng.choice(list(members))
    compression, told = zipfile.ZIP_STORED, "an array changed"
    kind = rng.randrange(12)
    if kind < 4:
        array = np.lib.format.read_array(io.BytesIO(members[name]), allow_pickle=False)
        members[name] = npy(spoilt(rng, array))
    elif kind == 4:
        del members[name]
        told = "an array left out"
    elif kind == 5:
        text = "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"
        members[name] = header(text) + payload(path.parent.parent.parent / CANARY)
        told = "a pickled array"
    elif kind == 6:
        shape = rng.choice(
            ("(1000000000000,)", "(2, 10000000000)", "(-1,)", "()", "(1.5,)", "None", "((" * 40)
        )
        descr = rng.choice(
            ("'<f8'", "'<f4'", "'|V0'", "'<U1000000000'", "[('a', '<f8')] * 3", "1 << 20")
        )
        members[name] = header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")
        told = "a header that claims much"
    elif kind == 7:
        members[
            rng.choice(("../../escaped.npy", "/etc/escaped.npy", "a/b.npy", "extra.npy", "x"))
        ] = npy(np.zeros(3))
        told = "a member with a path"
    elif kind == 8:
        members[name] = rng.randbytes(rng.randint(0, 200))
        told = "a member that is no array"
    elif kind == 9:
        size = rng.choice((300 * 2**20, 600 * 2**20))
        told = "a zip bomb"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for other, content in members.items():
                if other != name:
                    archive.writestr(other, content)
            with archive.open(name, "w", force_zip64=True) as member:
                text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({size // 4},)}}"
                member.write(header(text))
                for _ in range(size // 2**20 if rng.random() < 0.05 else 1):
                    member.write(bytes(2**20))
        return _claiming(path, size, told)
    else:
        compression = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        told = "packed in another way"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for other, content in members.items():
            archive.writestr(other, content)
    return told


def _claiming(path: Path, size: int, told: str) -> str:
    """Make every entry of the directory claim a size, as a bomb of nested archives does."""
    data = bytearray(path.read_bytes())
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        data[place + 24 : place + 28] = struct.pack("<I", min(size, 2**32 - 2))
        place = data.find(b"PK\x01\x02", place + 4)
    path.write_bytes(data)
    return told


def of_safetensors(rng: random.Random, path: Path, _: bytes) -> str:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    described, arrays = json.loads(data[8 : 8 + size]), data[8 + size :]
    kind = rng.random()
    if kind < 0.6:
        name = rng.choice(list(described))
        entry = described[name]
        if isinstance(entry, dict) and "shape" in entry and rng.random() < 0.7:
            part = rng.choice(("dtype", "shape", "data_offsets"))
            entry[part] = {
                "dtype": rng.choice(
                    ("F16", "BF16", "F8_E4M3", "I64", "BOOL", "F64", "C64", "XX", 3)
                ),
                "shape": rng.choice(
                    (
                        [],
                        [0],
                        [2**40, 2**40],
                        [-1],
                        [1, *entry["shape"]],
                        entry["shape"][::-1],
                        None,
                    )
                ),
                "data_offsets": rng.choice(
                    ([0, 0], [0, 2**62], [-4, 4], [8, 4], entry["data_offsets"] * 2, "a")
                ),
            }[part]
        else:
            described = json_value(rng, described)
        told = "the header changed"
    elif kind < 0.85:
        floats = np.frombuffer(arrays[: len(arrays) // 4 * 4], "<f4").copy()
        if len(floats):
            floats[rng.randrange(len(floats))] = rng.choice((np.nan, np.inf, -np.inf, 1e30))
        arrays = floats.tobytes() + arrays[len(floats) * 4 :]
        told = "a number is none"
    else:
        arrays = rng.choice((arrays[:-4], arrays + b"\0" * 4, arrays * 2, b""))
        told = "the arrays cut or grown"
    head = json.dumps(described).encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", len(head)) + head + arrays)
    return told


def of_hdf5(rng: random.Random, path: Path, _: bytes) -> str:
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        item = file[name]
        kind = rng.randrange(11)
        if kind == 0:
            del file[name]
            return "a part left out"
        if kind == 1:
            del file[name]
            file.create_group(name)
            return "a group in the place of an array"
        if kind == 2:
            del file[name]
            outside = rng.choice(("/etc/passwd", "../../bait.h5", str(path)))
            file[name] = h5py.ExternalLink(outside, "/secret")
            return "a link to another file"
        if kind == 3:
            del file[name]
            file[name] = h5py.SoftLink(rng.choice(("/", name, "/nowhere", names[0])))
            return "a link inside"
        if kind == 4 and isinstance(item, h5py.Dataset):
            shape = rng.choice(((2**40,), (2**20, 2**20), (2**30, 1)))
            del file[name]
            file.create_dataset(name, shape, "f4", chunks=(1024, *(1,) * (len(shape) - 1)))
            return "an array that claims terabytes"
        if kind == 5 and isinstance(item, h5py.Dataset):
            shape = item.shape
            del file[name]
            file.create_dataset(
                name, shape or (1,), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
            )
            return "an array that lies in another file"
        if kind in (6, 7):
            place = rng.choice([file, *(file[n] for n in names if len(file[n].attrs))])
            known = list(place.attrs)
            attribute = rng.choice(known) if known else "extra"
            old = place.attrs.get(attribute)
            value: Any = rng.choice(
                (np.nan, -1, 2**40, "text", b"\xff\xfe", np.zeros(3), h5py.Empty("f4"), "{}", "[1")
            )
            if isinstance(old, str) and old[:1] in ("{", "[") and rng.random() < 0.6:
                value = json.dumps(json_value(rng, json.loads(old)))
            if kind == 7 and known:
                del place.attrs[attribute]
                return "an attribute left out"
            try:
                place.attrs[attribute] = value
            except (OSError, ValueError, UnicodeError, RuntimeError):
                return "an attribute that HDF5 does not take"
            return "an attribute changed"
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf":
            values = spoilt(rng, np.asarray(item))
            del file[name]
            file[name] = values.astype("S") if values.dtype.kind == "U" else values
            return "an array changed"
        file[f"{name.split('/')[0]}_more/x"] = np.zeros(3)
        return "an array more"


def of_table(rng: random.Random, path: Path, _: bytes) -> str:
    comma = "," if path.suffix == ".csv" else " "
    rows = [line.split(comma) for line in path.read_text().splitlines()]
    row = rng.randrange(len(rows))
    column = rng.randrange(len(rows[row]))
    kind = rng.randrange(8)
    if kind == 0:
        rows = [cells[:column] + cells[column + 1 :] for cells in rows]
    elif kind == 1:
        del rows[row]
    elif kind == 2:
        rows[row].append("1.0")
    elif kind == 3:
        rows[0][rng.randrange(len(rows[0]))] = rng.choice(("", "x", "time", "é", "1"))
    elif kind == 4:
        rows = rows[: rng.randint(0, 3)]
    elif kind == 5:
        rows.insert(row, rows[rng.randrange(len(rows))])
    else:
        bad = (
            "",
            "nan",
            "inf",
            "-inf",
            "text",
            "1e400",
            "1e30",
            "-1e30",
            "0",
            "0x10",
            "1_0",
            "é",
            "1,2",
            "\0",
            "9" * 5000,
        )
        rows[row][column] = rng.choice(bad)
    path.write_text("\n".join(comma.join(cells) for cells in rows) + "\n")
    return "a cell, row or column changed"


def of_sqlite(rng: random.Random, path: Path, _: bytes) -> str:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA foreign_keys=OFF")
        db.execute("PRAGMA ignore_check_constraints=ON")
        names = [
            n
            for (n,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
        ]
        table = rng.choice(names)
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        triggers = db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        kind = rng.randrange(10)
        if kind < 6:
            for name, _sql in triggers:
                db.execute(f"DROP TRIGGER {name}")
            value = rng.choice(
                (
                    None,
                    "",
                    "text",
                    -1,
                    2**62,
                    1.5,
                    1e308,
                    b"\xff\0",
                    "left",
                    "open",
                    "../x",
                    "[1",
                    "{}",
                    0,
                    1,
                    2,
                    "x" * 10_000,
                )
            )
            with contextlib.suppress(sqlite3.Error):
                last = f"rowid = (SELECT max(rowid) FROM {table})"
                update = f'UPDATE {table} SET "{rng.choice(columns)}" = ? WHERE {last}'
                db.execute(update, (value,))
            for _name, sql in triggers:
                db.execute(sql)
            return "a value changed"
        if kind == 6:
            db.execute(f"DROP TABLE {table}")
            return "a table left out"
        if kind == 7:
            db.execute(f'ALTER TABLE {table} RENAME COLUMN "{rng.choice(columns)}" TO other')
            return "a column renamed"
        if kind == 8:
            db.execute(
                "CREATE TRIGGER evil AFTER INSERT ON annotators BEGIN DELETE FROM annotators; END"
            )
            return "a trigger of a stranger"
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
        db.execute(f"CREATE VIEW {table} AS SELECT * FROM old_{table}")
        return "a view in the place of a table"
    finally:
        db.close()


STRUCTURE: dict[str, Mutation] = {
    ".json": of_json,
    ".jsonl": of_lines,
    ".npz": of_npz,
    ".safetensors": of_safetensors,
    ".h5": of_hdf5,
    ".hdf5": of_hdf5,
    ".csv": of_table,
    ".txt": of_table,
    ".sqlite": of_sqlite,
}


def mutate(rng: random.Random, path: Path, other: bytes) -> str:
    """Damage one file in one way; in a tenth of all cases in a second one on top."""
    structure = STRUCTURE.get(path.suffix)
    kind = rng.random()
    if structure is not None and kind < 0.5:
        told = structure(rng, path, other)
    elif kind < 0.96:
        told = rng.choice(BYTES)(rng, path, other)
    else:
        return rng.choice(PLACES)(rng, path, other)
    if rng.random() < 0.1:
        told += f", {rng.choice(BYTES)(rng, path, other)}"
    return told
