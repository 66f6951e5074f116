"""The HTTP layer: checks shapes, calls the session, sends the reply after the commit.

Importing this module needs the extra ``label``; :func:`steelyard.labelling.extras.require` says so
in one line.
"""

import socket
from importlib.resources import files
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from steelyard.labelling.agreement import agreement
from steelyard.labelling.export import export
from steelyard.labelling.guard import Guard
from steelyard.labelling.records import Answer, ConflictError, LabellingError, StorageError
from steelyard.labelling.session import Session

NAME = r"^[A-Za-z0-9_-]{1,32}$"
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
KEEP_ALIVE_S = 600
"""Longer than any browser keeps an idle connection. Where the server is the first to close one, an
answer that is on its way at that moment is lost on the line and has to be sent again."""
Annotator = Annotated[str, Query(pattern=NAME)]


class AnswerBody(BaseModel):
    """An answer as the page sends it; see :class:`steelyard.labelling.records.Answer`."""

    model_config = ConfigDict(extra="forbid")
    client_uuid: str = Field(pattern=r"^[0-9a-fA-F-]{8,64}$")
    annotator: str = Field(pattern=NAME)
    task: int = Field(ge=1, lt=2**63)
    answer: str = Field(max_length=16)
    strength: int = Field(default=0, ge=0, le=2)
    response_ms: int = Field(default=0, ge=0, le=10**9)
    watched_left_s: float = Field(default=0, ge=0, le=1e6)
    watched_right_s: float = Field(default=0, ge=0, le=1e6)


class UndoBody(BaseModel):
    """Which answer to take back; naming it makes a repeated request harmless."""

    model_config = ConfigDict(extra="forbid")
    annotator: str = Field(pattern=NAME)
    judgement: int = Field(ge=1, lt=2**63)


def make_app(session: Session, page: dict[str, Any], token: str | None = None) -> Any:
    """Make the app of a session.

    Args:
        session: Questions and answers.
        page: What the page is told at its start, beside what the session knows.
        token: See :class:`steelyard.labelling.guard.Guard`.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    folder = files("steelyard.labelling") / "static"
    static = {
        item.name: item.read_bytes()
        for item in folder.iterdir()
        if item.name.rpartition(".")[2] in TYPES
    }

    def tasks(annotator: str) -> dict[str, Any]:
        return {
            "tasks": [session.describe(task) for task in session.tasks(annotator)],
            "progress": session.progress(annotator),
        }

    @app.exception_handler(LabellingError)
    def labelling_error(_: Request, error: LabellingError) -> JSONResponse:
        status = {ConflictError: 409, StorageError: 503}.get(type(error), 422)
        return JSONResponse({"error": str(error)}, status)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{place}: {first['msg']}"}, 422)

    @app.get("/")
    def index() -> Response:
        return _static(static, "index.html")

    @app.get("/static/{name}")
    def asset(name: str) -> Response:
        return _static(static, name)

    @app.get("/api/session")
    def about() -> dict[str, Any]:
        choosing = session.choosing
        return {
            "mode": choosing.kind,
            "scale": choosing.scale,
            "dataset": session.dataset.folder.name,
            "dataset_sha256": session.dataset.sha256,
            "annotators": session.store.annotators(),
            **page,
        }

    @app.get("/api/task")
    def task(annotator: Annotator) -> dict[str, Any]:
        return tasks(annotator)

    @app.post("/api/judgements")
    def judge(body: AnswerBody) -> dict[str, Any]:
        fields = body.model_dump()
        annotator = fields.pop("annotator")
        judgement, repeated = session.store.judge(annotator, Answer(**fields))
        return {"judgement": judgement, "repeated": repeated, **tasks(annotator)}

    @app.post("/api/undo")
    def undo(body: UndoBody) -> dict[str, Any]:
        repeated = session.store.undo(body.annotator, body.judgement)
        return {"judgement": body.judgement, "repeated": repeated, **tasks(body.annotator)}

    @app.get("/api/progress")
    def progress(annotator: Annotator) -> dict[str, Any]:
        return session.progress(annotator)

    @app.get("/api/history")
    def history(annotator: Annotator, count: Annotated[int, Query(ge=1, le=200)] = 20) -> Any:
        return session.history(annotator, count)

    @app.get("/api/agreement")
    def agree() -> dict[str, Any]:
        return agreement(
            session.store.judgements(), session.choosing.kind, session.choosing.scale
        ).as_dict()

    @app.post("/api/export")
    def write() -> dict[str, Any]:
        written = export(session.store, session.dataset)
        return {"files": [str(path.relative_to(session.dataset.folder)) for path in written]}

    @app.get("/media/{segment:int}")
    def media(segment: int) -> Response:
        try:
            path, sha256 = session.film(segment)
        except LabellingError as error:
            raise HTTPException(404, str(error)) from error
        headers = {"Cache-Control": "private, no-cache", "ETag": f'"{sha256}"'}
        return FileResponse(path, media_type="video/webm", headers=headers)

    return Guard(app, token)


def bind(host: str, port: int) -> socket.socket:
    """Take a port before anything else is opened.

    Raises:
        LabellingError: It is taken; names the next free one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in range(port, min(port + 100, 65536)):
        # asyncio sends without delay only where the protocol is named; else each reply waits 40 ms.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, number))
        except PermissionError as error:
            sock.close()
            raise LabellingError(f"port {number} needs rights you lack: use --port 8765") from error
        except OSError as error:
            sock.close()
            if number == port and error.errno != 98:  # not EADDRINUSE: no such address
                raise LabellingError(f"cannot listen on {host}:{port}: {error}") from error
            continue
        if number == port:
            sock.listen(128)  # from here on a browser waits instead of being refused
            return sock
        sock.close()
        raise LabellingError(f"port {port} is taken; the next free one is --port {number}")
    raise LabellingError(f"port {port} and the hundred after it are taken")


def serve(app: Any, sock: socket.socket) -> None:
    """Run until interrupted."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    uvicorn.Server(config).run(sockets=[sock])


def _static(static: dict[str, bytes], name: str) -> Response:
    if name not in static:
        raise HTTPException(404)
    kind = TYPES[name.rpartition(".")[2]]
    headers = {"Cache-Control": "no-cache"}
    return Response(static[name], media_type=f"{kind}; charset=utf-8", headers=headers)
