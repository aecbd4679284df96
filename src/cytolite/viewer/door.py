"""Who may see anything: one browser, which came by the one-time link and has a cookie since."""

from __future__ import annotations

import secrets
import threading
from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from cytolite.loopback.gate import ASGIApp, Receive, Send, pass_limited, refuse

ENTRANCE = "/enter"
MAX_BODY_BYTES = 8 * 2**20
# Nothing from elsewhere, and nobody else's page around this one.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"cache-control", b"no-store"),  # result 0 is another one next time; and slides are not for a browser's disk
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class Door:
    """ASGI middleware: the name it is called by, then the link or the cookie, then the size of what is sent.

    A page of another site that had its own name point here would be told apart by the name (`Host`), one that asks
    from its own place by the cookie, which browsers do not send along for it.

    Parameters
    ----------
    app : ASGI application
        What is behind.
    port : int
        Where it listens.
    framed : bool
        For a frame in another page, a notebook's: browsers may keep cookies from frames, so that all addresses lie
        below a path that cannot be guessed instead, and the link works as long as the server does.

    Attributes
    ----------
    link : str
        What opens the viewer, once if it is not framed.
    """

    def __init__(self, app: ASGIApp, port: int, *, framed: bool = False) -> None:
        self.app = app
        self._hosts = {f"127.0.0.1:{port}".encode(), f"localhost:{port}".encode()}
        self._key, self._session = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._used = threading.Lock()
        self._cookie = f"cytolite-{port}"  # browsers keep one jar for all ports of a host
        self._below = f"/{self._key}" if framed else ""
        address = f"http://127.0.0.1:{port}"
        self.link = f"{address}{self._below}/" if framed else f"{address}{ENTRANCE}?key={self._key}"
        # Who frames it knows the path, so that it may be anybody: notebooks' own addresses are of all kinds.
        policy = _POLICY.replace("frame-ancestors 'none'", "frame-ancestors *") if framed else _POLICY
        self._headers = [(b"content-security-policy", policy.encode()), *_HEADERS]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if headers.get(b"host") not in self._hosts:
            await refuse(send, 421, "This server answers at its own address only; open the link that was printed.")
        elif scope["path"] == ENTRANCE and not self._below:
            await self._enter(scope, headers, send)
        elif not (self._is_below(scope["path"]) if self._below else self._is_known(headers)):
            await refuse(
                send, 401, "Open the link that `cytolite view` printed; it works once. Start it again for another."
            )
        elif not self._is_own(headers):
            await refuse(send, 403, "Another site's page asks for this; it gets nothing.")
        else:
            inner = {**scope, "path": scope["path"][len(self._below) :], "raw_path": None}
            await pass_limited(self.app, inner, receive, self._with_headers(send), MAX_BODY_BYTES)

    def _is_below(self, path: str) -> bool:
        return secrets.compare_digest(path[: len(self._below) + 1].encode(), f"{self._below}/".encode())

    def _is_known(self, headers: dict[bytes, bytes]) -> bool:
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        given = cookies[self._cookie].value if self._cookie in cookies else ""
        return secrets.compare_digest(given.encode(), self._session.encode())

    def _is_own(self, headers: dict[bytes, bytes]) -> bool:
        origin = headers.get(b"origin")
        return origin is None or origin == b"http://" + headers[b"host"]

    async def _enter(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes], send: Send) -> None:
        answer = [(b"location", b"/"), (b"content-length", b"0"), *self._headers]
        if not self._is_known(headers):  # who reloads the link goes on
            given = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0]
            right = secrets.compare_digest(given.encode(), self._key.encode())
            if not right or not self._used.acquire(blocking=False):
                await refuse(send, 401, "This link is wrong or was used; start `cytolite view` again for another.")
                return
            cookie = f"{self._cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/"
            answer.append((b"set-cookie", cookie.encode()))
        await send({"type": "http.response.start", "status": 303, "headers": answer})
        await send({"type": "http.response.body", "body": b""})

    def _with_headers(self, send: Send) -> Send:
        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._headers]}
            await send(message)

        return answer
