"""Check every request before the API sees it: client, size, rate and duration.

Plain ASGI, around the application. A body is read whole, within its size and its time, before
the application runs, so a client that dribbles holds nothing but its own connection.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Seconds a client has for its body, and for the whole request.
BODY_S, WHOLE_S = 6.0, 20.0
#: Clients whose rate is remembered.
CLIENTS = 2048

SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


@dataclass
class RequestLimits:
    """The application within its limits.

    token: what a request must bring (Bearer, or the password of Basic); None asks for none.
    hosts: names it may be called by, against DNS rebinding of a page elsewhere; empty: any.
    requests_per_s: per client, with bursts of twice that; 0: no limit.
    """

    app: App
    token: str | None
    hosts: frozenset[str]
    body_bytes: int
    requests_per_s: float
    counts: dict[str, int] = field(default_factory=dict)
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            elif scope["type"] == "websocket":
                self._count("403")
                await send({"type": "websocket.close", "code": 1000})
            return
        headers = dict(scope["headers"])
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        started = [False]

        async def secured(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                started[0] = True
                self._count(str(message["status"]))
                own = message.get("headers", [])
                names = {name for name, _ in own}
                added = [header for header in SECURITY if header[0] not in names]
                message["headers"] = [*own, *added]
            await send(message)

        try:
            async with asyncio.timeout(WHOLE_S):
                body = b""
                if scope["method"] not in ("GET", "HEAD"):
                    found = await self._body(receive, headers)
                    if isinstance(found, tuple):
                        await _answer(send, *found)
                        return
                    body = found
                await self.app(scope, _replayed(body), secured)
        except TimeoutError:
            if not started[0]:
                await _answer(send, 503, "request timed out")
            else:
                raise

    def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        upgrade = headers.get(b"upgrade", b"").strip().lower()
        if upgrade == b"h2c" or scope.get("http_version", "1.1").startswith("2"):
            return self._counted(505, "HTTP/2 without TLS is not supported; use HTTP/1.1")
        if b"content-length" in headers and b"transfer-encoding" in headers:
            return self._counted(400, "Content-Length and Transfer-Encoding exclude each other")
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.hosts and _bare(host) not in self.hosts:
            return self._counted(
                421, "not a name of this gateway; serve.hosts lists the names of a proxy"
            )
        client = (scope.get("client") or ("?",))[0]
        if not self._within_rate(str(client)):
            return self._counted(429, "too many requests; wait a second")
        if self.token is not None and not self._may(headers.get(b"authorization", b"")):
            return self._counted(401, "a token is needed: Authorization: Bearer TOKEN")
        return None

    def _counted(self, status: int, why: str) -> tuple[int, str]:
        self._count(str(status))
        return status, why

    def _count(self, status: str) -> None:
        self.counts[status] = self.counts.get(status, 0) + 1

    def _may(self, given: bytes) -> bool:
        """Return True for an Authorization header with the token, compared in constant time."""
        scheme, _, rest = given.partition(b" ")
        if scheme.lower() == b"basic":  # what a browser asks a person for
            with suppress(ValueError):
                rest = base64.b64decode(rest, validate=True).partition(b":")[2]
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(rest.strip(), (self.token or "").encode())

    def _within_rate(self, client: str) -> bool:
        if self.requests_per_s <= 0:
            return True
        now = time.monotonic()
        left, before = self._buckets.pop(client, (2 * self.requests_per_s, now))
        left = min(2 * self.requests_per_s, left + (now - before) * self.requests_per_s)
        self._buckets[client] = (max(0.0, left - 1), now)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return left >= 1

    async def _body(self, receive: Receive, headers: dict[bytes, bytes]) -> bytes | tuple[int, str]:
        too_large = f"the body is larger than {self.body_bytes / 1e6:g} MB"
        with suppress(ValueError):
            if int(headers.get(b"content-length", b"0")) > self.body_bytes:
                return self._counted(413, too_large)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_S):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return self._counted(400, "the request broke off")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self.body_bytes:
                        return self._counted(413, too_large)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return self._counted(408, f"the body took longer than {BODY_S:g} s")


def _bare(host: str) -> str:
    """Return a Host header without its port.

    >>> _bare("localhost:8480"), _bare("[::1]:8480"), _bare("127.0.0.1")
    ('localhost', '[::1]', '127.0.0.1')
    """
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and not name.endswith(":") else host


def _replayed(body: bytes) -> Receive:
    """Return a receive function that gives a body read before, then waits."""
    given = [False]

    async def receive() -> MutableMapping[str, Any]:
        if given[0]:
            return {"type": "http.disconnect"}
        given[0] = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _answer(send: Send, status: int, why: str) -> None:
    """Send a refusal; the connection ends with it where the rest of a body may still come."""
    body = json.dumps({"error": why}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *SECURITY,
    ]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="kgsm", charset="UTF-8"'))
    if status in (408, 413, 400):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
