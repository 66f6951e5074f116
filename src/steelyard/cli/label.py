"""``steelyard label serve|status|agreement|export|import DATASET``."""

import contextlib
import dataclasses
import itertools
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from steelyard.cli import choose
from steelyard.files import read_arrays
from steelyard.files.npz import names_in
from steelyard.labelling.dataset import LabelDataset, open_dataset
from steelyard.labelling.records import Kind, LabellingError, check_annotator
from steelyard.labelling.select import Choosing, PairScope, Select
from steelyard.labelling.session import Session
from steelyard.labelling.store import Store

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclasses.dataclass(frozen=True)
class Serve:
    """Judge the films of a data set in a browser: one page, keyboard only, nothing leaves this
    machine. Stop it with Ctrl+C; the same command goes on where you were."""  # noqa: D205,D209

    dataset: tyro.conf.Positional[Path]
    """Folder with segment_info.json and videos/."""
    mode: Literal["rate", "pair"] = "rate"
    """Rate one clip at a time, or compare two side by side."""
    scale: int = 5
    """Highest rating: up to 9 is one key; more takes digits and Enter."""
    annotator: str | None = None
    """Name used where the page is not told another; none asks in the page."""
    port: int = 8765
    """Port; 0 takes any free one."""
    host: str = "127.0.0.1"
    """Address to listen on; anything but this machine needs --allow-remote."""
    allow_remote: bool = False
    """Let other machines in; they need the token in the printed address. Nothing is encrypted."""
    sound: Literal["alternate", "left", "right", "off"] = "alternate"
    """Which clip sounds; alternate plays the left's sound in the first loop, then the right's."""
    select: Select = "balanced"
    """How questions are chosen: uniform, balanced (least judged first), active (needs --scores),
    insertion (sorts; pairs only)."""
    scores: Path | None = None
    """npz with score [segment, head] for --select active, one row a segment of the data set."""
    repeat: float = 0.05
    """Share of questions asked a second time, sides swapped: measures self-consistency."""
    overlap: float = 0.1
    """Share of questions that every annotator gets: measures agreement."""
    pair_scope: PairScope = "window"
    """Compare clips of the same part of an episode only, or all with all."""
    target: int = 0
    """Questions for each annotator; 0 is every clip once, or three pairs a clip."""
    min_watched: float = 0.5
    """Share of a clip that must have been seen (and heard) before an answer counts, in [0, 1]."""
    verify: bool = False
    """Check every film against the hash it had when it was judged, before serving."""


@dataclasses.dataclass(frozen=True)
class Look:
    """What was judged so far; may run while the app runs."""

    dataset: tyro.conf.Positional[Path]
    """Folder with segment_info.json and labels.sqlite."""


@dataclasses.dataclass(frozen=True)
class Import:
    """Enter an exported log into a data set whose judgements are lost or were made elsewhere."""

    dataset: tyro.conf.Positional[Path]
    """Folder with segment_info.json and no judgements yet."""
    judgements: tyro.conf.Positional[Path]
    """judgements.jsonl of an export."""


def main(arguments: list[str]) -> None:
    """Dispatch ``label`` commands."""
    commands = {
        "serve": _serve,
        "status": _status,
        "agreement": _agreement,
        "export": _export,
        "import": _import,
    }
    rest = arguments[1:]
    if not rest or rest[0] in ("-h", "--help"):
        print("usage: steelyard label serve DATASET [options]")
        print("       steelyard label status | agreement | export DATASET")
        print("       steelyard label import DATASET JUDGEMENTS")
        print("       steelyard label serve --help lists every option")
        return
    commands[choose(rest[0], commands)](rest[1:])


def _serve(rest: list[str]) -> None:
    options = tyro.cli(Serve, args=rest, prog="steelyard label serve")
    _check(options)
    dataset = open_dataset(options.dataset)
    scores = None if options.scores is None else _scores(options.scores, dataset)
    from steelyard.labelling.extras import require

    require()
    from steelyard.labelling.server import bind, make_app, serve

    with contextlib.ExitStack() as opened:
        sock = opened.enter_context(bind(options.host, options.port))
        store = Store.open(dataset.folder, dataset.sha256)
        opened.callback(store.close)
        session = Session(dataset, store, _choosing(options), scores)
        if options.verify:
            session.verify()
        store.save_settings(_settings(options, session))
        token = None if options.host in LOOPBACK else secrets.token_urlsafe(24)
        print(
            f"{len(session.pool.segment)} clips of {dataset.folder.name}, "
            f"judgements in {store.path}\n"
            f"open {_address(options.host, sock.getsockname()[1], token)} (stop with Ctrl+C)",
            flush=True,
        )
        page = {
            "annotator": options.annotator,
            "sound": options.sound,
            "min_watched": options.min_watched,
        }
        serve(make_app(session, page, token), sock)


def _settings(options: Serve, session: Session) -> dict[str, Any]:
    """What the judgements were asked with, kept beside them."""
    names = ("mode", "select", "repeat", "overlap", "sound", "pair_scope", "min_watched")
    chosen = {"scale": session.choosing.scale, "target": session.choosing.target}
    return {name: getattr(options, name) for name in names} | chosen


def _address(host: str, port: int, token: str | None) -> str:
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + ("" if token is None else f"?token={token}")


def _check(options: Serve) -> None:
    """Refuse settings that cannot work, before anything is opened."""
    if options.host not in LOOPBACK and not options.allow_remote:
        raise LabellingError(
            f"--host {options.host} would let other machines see the films and judge: add "
            "--allow-remote (they need the token in the printed address; nothing is encrypted), or "
            "leave the host out and reach this machine by `ssh -L 8765:127.0.0.1:8765`"
        )
    if not 0 <= options.port <= 65535:
        raise LabellingError(f"--port is in [0, 65535], got {options.port}")
    if not 2 <= options.scale <= 100:
        raise LabellingError(f"--scale is in [2, 100], got {options.scale}")
    if not 0 <= options.min_watched <= 1:
        raise LabellingError(f"--min-watched is in [0, 1], got {options.min_watched}")
    if options.target < 0:
        raise LabellingError(f"--target is >= 0, got {options.target}")
    if options.annotator is not None:
        check_annotator(options.annotator)


def _choosing(options: Serve) -> Choosing:
    kind: Kind = options.mode
    return Choosing(
        kind,
        options.scale if kind == "rate" else 0,
        options.select,
        options.repeat,
        options.overlap,
        options.pair_scope,
        options.target,
    )


def _scores(path: Path, dataset: LabelDataset) -> dict[int, list[float]]:
    score = read_arrays(path, ("score",), LabellingError).get("score")
    if score is None:
        raise LabellingError(f"{path} has no array `score`; it has {', '.join(names_in(path))}")
    if score.dtype.kind not in "iuf":
        raise LabellingError(f"{path}: `score` holds numbers; its type is {score.dtype}")
    if score.ndim != 2 or len(score) != len(dataset.clips) or not np.isfinite(score).all():
        raise LabellingError(
            f"{path}: `score` is finite, [segment, head], with {len(dataset.clips)} rows; "
            f"got shape {score.shape}"
        )
    return {clip.id: row.tolist() for clip, row in zip(dataset.clips, score, strict=True)}


@contextlib.contextmanager
def _look(rest: list[str], command: str) -> Iterator[tuple[LabelDataset, Store]]:
    """Open what was judged, to read it only."""
    options = tyro.cli(Look, args=rest, prog=f"steelyard label {command}")
    dataset = open_dataset(options.dataset)
    with contextlib.closing(Store.open(dataset.folder, dataset.sha256, read_only=True)) as store:
        yield dataset, store


def _status(rest: list[str]) -> None:
    with _look(rest, "status") as (dataset, store):
        filmed = len(dataset.filmed())
        print(f"{dataset.folder}: {len(dataset.clips)} segments, {filmed} filmed")
        events, names = store.judgements(), store.annotators()
    for name, kind in itertools.product(names, ("rate", "pair")):
        told = [e for e in events if (e.task.annotator, e.task.question.kind) == (name, kind)]
        if told:
            standing = sum(event.counts for event in told)
            undone = sum(event.undone is not None for event in told)
            print(
                f"  {name:16s} {kind}  {standing:6d} standing, {undone} taken back, "
                f"{len(told) - standing - undone} skipped, last {told[-1].created[:19]}"
            )
    if not events:
        print("  no judgement yet")


def _agreement(rest: list[str]) -> None:
    from steelyard.labelling.agreement import agreement

    with _look(rest, "agreement") as (_, store):
        events = store.judgements()
    kinds: set[tuple[Kind, int]] = {(e.task.question.kind, e.task.question.scale) for e in events}
    for kind, scale in sorted(kinds):
        print(agreement(events, kind, scale))
    if not kinds:
        print("no judgement yet")


def _export(rest: list[str]) -> None:
    from steelyard.labelling.export import export

    with _look(rest, "export") as (dataset, store):
        for path in export(store, dataset):
            print(path)


def _import(rest: list[str]) -> None:
    from steelyard.labelling.export import read_judgements

    options = tyro.cli(Import, args=rest, prog="steelyard label import")
    dataset = open_dataset(options.dataset)
    events = read_judgements(options.judgements)
    with contextlib.closing(Store.open(dataset.folder, dataset.sha256)) as store:
        store.add_segments(dataset.clips)
        known = {clip.id for clip in dataset.clips}
        for event in events:
            strange = {event.task.question.a, event.task.question.b} - known - {None}
            if strange:
                raise LabellingError(
                    f"{options.judgements}: judgement {event.id} is about segment {strange.pop()}, "
                    f"which {options.dataset} does not have"
                )
        store.restore(events)
    print(f"{len(events)} events entered into {store.path}")
