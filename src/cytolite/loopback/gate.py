"""What every request passes first: the token, and a limit on its size."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# What anybody on this machine may see: that a server is there, and what it understands.
OPEN_PATHS = ("/health", "/openapi.json")


class Gate:
    """ASGI middleware that answers 401 without the token and 413 to a body that is too large, before all else.

    A body is taken in whole here, counted as it comes: a length that was not announced, or wrongly, does not help.
    """

    def __init__(self, app: ASGIApp, token: str, max_body_bytes: int) -> None:
        self.app, self.max_body_bytes = app, max_body_bytes
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if scope["path"] not in OPEN_PATHS and not secrets.compare_digest(given, self._expected):
            await refuse(send, 401, "The token is missing or wrong; it is in the server's server.json.")
            return
        await pass_limited(self.app, scope, receive, send, self.max_body_bytes)


async def pass_limited(
    app: ASGIApp, scope: MutableMapping[str, Any], receive: Receive, send: Send, max_body_bytes: int
) -> None:
    """Hand a request on with its whole body, or refuse one that is too large.

    Parameters
    ----------
    app : callable
        ASGI application that gets the request.
    scope : mapping
        Of the request, as ASGI has it.
    receive, send : callable
        ASGI's, of the request.
    max_body_bytes : int
        Largest body that is handed on; a larger one is answered with 413.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        if len(body) > max_body_bytes:
            limit = f"{max_body_bytes / 2**20:g} MiB"
            await refuse(send, 413, f"The request is larger than {limit}; send fewer or simpler regions.")
            return
        if not message.get("more_body", False):
            break
    whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    await app(scope, replay, send)


async def refuse(send: Send, status: int, sentence: str) -> None:
    """Answer ``{"error": sentence}``.

    Parameters
    ----------
    send : callable
        ASGI's, of the request.
    status : int
        HTTP status; with 401 goes the way to authenticate, with all others the connection is closed.
    sentence : str
        What is wrong, and what to do.
    """
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    else:
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
