"""What every request must pass: who asks, from which page, how much, and what the page may load.

The server is for one machine, yet a browser on that machine also shows strangers' pages. Three
doors are closed: a foreign name that resolves to this machine (DNS rebinding: ``Host``), a foreign
page that posts here (``Origin``), and one that embeds what lies here (``Sec-Fetch-Site``).
"""

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

MAX_BODY = 16 * 1024
COOKIE = "steelyard_token"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware around the app."""

    def __init__(self, app: Any, token: str | None = None):
        """Wrap an app.

        Args:
            app: What to protect.
            token: Secret of the address that a remote annotator is given; none serves this
                machine only.
        """
        self.app = app
        self.token = token

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Refuse a request, or pass it on with the body limited and the headers set."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        refused = self._refusal(scope, headers)
        if refused:
            await _plain(send, *refused)
            return
        extra = dict(HEADERS)
        if self.token and scope["path"] == "/":
            extra["Set-Cookie"] = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        body = await _limited(receive)
        if body is None:
            await _plain(send, 413, f"a request holds at most {MAX_BODY} bytes")
            return

        async def replay() -> dict:
            nonlocal body
            if body is not None:
                message, body = {"type": "http.request", "body": body, "more_body": False}, None
                return message
            return await receive()

        async def with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                pairs = [(k.lower().encode(), v.encode()) for k, v in extra.items()]
                message = {**message, "headers": [*message.get("headers", []), *pairs]}
            await send(message)

        await self.app(scope, replay, with_headers)

    def _refusal(self, scope: dict, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.token is None and _name(host) not in LOOPBACK:
            return 403, "this server answers to 127.0.0.1 and localhost only"
        if self.token is not None and not self._knows(scope, headers):
            return 403, "open the address with its token, as printed where the server was started"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "GET and POST only"
        if scope["method"] == "POST" and headers.get("origin") not in (
            f"http://{host}",
            f"https://{host}",
        ):
            return 403, "answers are taken from this server's own page only"
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and scope["path"] != "/":
            return 403, "other pages may not load what lies here"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return 413, f"a request holds at most {MAX_BODY} bytes"
        return None

    def _knows(self, scope: dict, headers: dict[str, str]) -> bool:
        try:
            jar = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            jar = SimpleCookie()
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        given = [jar[COOKIE].value] if COOKIE in jar else []
        given += query.get("token", [])
        expected = (self.token or "").encode()
        return any(hmac.compare_digest(value.encode(), expected) for value in given)


def _name(host: str) -> str:
    """The host without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


async def _limited(receive: Any) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return body


async def _plain(send: Any, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})
