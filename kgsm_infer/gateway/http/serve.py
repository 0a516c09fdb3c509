"""``kgsm-infer serve``: the API and the page over HTTP, alone or in the process that watches.

Loopback by default. Any other address needs a token, and TLS or ``--behind-proxy`` (which says
that a proxy on this network does TLS).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from ...base.errors import MissingError, UsageError
from ..config import Gateway, Serve, is_loopback
from ..farm import Paddocks
from ..health import Process
from ..log import Log
from ..threads import PATIENCE_S, Task

#: Requests a second of one client on an open network, where the configuration does not say.
OPEN_RATE = 50.0
#: Seconds of silence after which a connection is closed.
SILENT_S = 5


def check_exposed(serve: Serve, behind_proxy: bool) -> None:
    """Raise UsageError where an address other than loopback would be open or in the clear."""
    if is_loopback(serve.host):
        return
    if serve.token is None:
        raise UsageError(
            f"serve.host {serve.host} is reachable by others, so it needs a token: serve.token_file"
        )
    if serve.cert_file is None and not behind_proxy:
        raise UsageError(
            f"serve.host {serve.host} is reachable by others, so it needs TLS (serve.cert_file and "
            "key_file), or --behind-proxy where a proxy does it"
        )


class CappedSocket(socket.socket):
    """A listening socket that closes what comes beyond a number of open connections.

    most: connections in all.  most_of_client: connections of one address.
    """

    most = 512
    most_of_client = 512

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection as socket.accept; BlockingIOError beyond the cap."""
        connection, address = super().accept()
        opened = _OPEN.setdefault(self, weakref.WeakKeyDictionary())
        clients = [client for other, client in opened.items() if other.fileno() >= 0]
        client = str(address[0])
        if len(clients) >= self.most or clients.count(client) >= self.most_of_client:
            connection.close()
            raise BlockingIOError
        opened[connection] = client
        return connection, address


_OPEN: weakref.WeakKeyDictionary[CappedSocket, weakref.WeakKeyDictionary[socket.socket, str]] = (
    weakref.WeakKeyDictionary()
)


def listening(serve: Serve, behind_proxy: bool = False) -> CappedSocket:
    """Bind a socket to the configured address; MissingError where that cannot be done."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            serve.host.strip("[]"), serve.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = CappedSocket(family, kind, protocol)
        listener.most = serve.connections
        # all clients of a proxy come from its address
        listener.most_of_client = (
            serve.connections if behind_proxy else serve.connections_per_client
        )
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
        listener.setblocking(False)
    except OSError as error:
        raise MissingError(
            f"cannot serve at {serve.host}:{serve.port} ({error.strerror or error}); "
            "is a gateway running already? then set serve.port"
        ) from None
    return listener


class Server:
    """The HTTP server; its thread also loads the packages it needs.

    probed: called after readings of probes were stored.  status: what ``/health`` shows of the
    other threads.  UsageError or MissingError if it cannot serve.
    """

    def __init__(
        self,
        gateway: Gateway,
        paddocks: Paddocks,
        log: Log,
        *,
        behind_proxy: bool = False,
        probed: Callable[[], None] = lambda: None,
        status: Callable[[], Process] = Process,
    ) -> None:
        check_exposed(gateway.serve, behind_proxy)
        for name in ("starlette", "hypercorn"):
            if find_spec(name) is None:
                raise MissingError(f"serve needs {name}: pip install 'kgsm[gateway]'")
        if gateway.serve.cert_file is not None:
            _hypercorn(gateway)  # report a wrong certificate at the start
        self._gateway, self._paddocks, self._log, self._probed = gateway, paddocks, log, probed
        self._status = status
        self._socket: CappedSocket | None = listening(gateway.serve, behind_proxy)
        self._behind_proxy = behind_proxy
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.port = int(self._socket.getsockname()[1])
        self.task = Task("serve", self._run, log, failed=self._failed)

    def start(self) -> None:
        """Start to answer; a client that connects earlier waits for a moment."""
        self.task.start()

    def close(self) -> None:
        """Finish the requests that have begun, then end."""
        self.task.stopping = True
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # it ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        # a thread left alone in the middle of an import would keep Python from ending
        self.task.stop(15)

    def _failed(self, reason: str, wait_s: float) -> None:
        self._log("serve_failed", reason=reason, wait_s=round(wait_s, 1))

    def _run(self, task: Task) -> str | None:
        task.expect(PATIENCE_S)
        try:
            asyncio.run(self._serve(task))
        finally:
            self._socket = None  # closed with the server
        return None if task.stopping else "the server ended"

    async def _serve(self, task: Task) -> None:
        from hypercorn.app_wrappers import ASGIWrapper
        from hypercorn.asyncio.run import worker_serve
        from hypercorn.config import Sockets
        from hypercorn.protocol.h11 import H11Protocol

        # Hypercorn would answer an upgrade to HTTP/2 itself; RequestLimits refuses it
        H11Protocol._check_protocol = _keep_http1  # type: ignore[method-assign,assignment]
        app = _application(self._gateway, self._paddocks, self._log, self._probed, self._status)
        config = _hypercorn(self._gateway)
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if task.stopping:
            return
        if self._socket is None:  # after a failure
            self._socket = listening(
                replace(self._gateway.serve, port=self.port), self._behind_proxy
            )
        secure = config.ssl_enabled
        sockets = Sockets([self._socket] if secure else [], [] if secure else [self._socket], [])
        scheme, host = "https" if secure else "http", self._gateway.serve.host
        self._log("serving", url=f"{scheme}://{host}:{self.port}/")
        alive = asyncio.create_task(_show_life(task))
        try:
            await worker_serve(
                ASGIWrapper(app), config, sockets=sockets, shutdown_trigger=self._stop.wait
            )
        finally:
            alive.cancel()


async def _keep_http1(protocol: Any, request: Any) -> None:
    """Leave the protocol of a connection as it is."""


async def _show_life(task: Task) -> None:
    """Report again and again that the event loop runs."""
    while True:
        task.succeeded()
        task.expect(PATIENCE_S)
        await asyncio.sleep(PATIENCE_S / 3)


def _application(
    gateway: Gateway,
    paddocks: Paddocks,
    log: Log,
    probed: Callable[[], None],
    status: Callable[[], Process],
) -> Any:
    from .api import Api
    from .limits import RequestLimits

    serve = gateway.serve
    local = is_loopback(serve.host)
    counts: dict[str, int] = {}
    api = Api(gateway, paddocks, log, counts, probed, status)
    hosts = {host.lower() for host in serve.hosts}
    names = {"127.0.0.1", "localhost", "[::1]", serve.host.lower()}
    return RequestLimits(
        api.application(),
        serve.token,
        frozenset(names | hosts) if local or hosts else frozenset(),
        int(serve.body_mb * 1e6),
        serve.requests_per_s or (0.0 if local else OPEN_RATE),
        counts,
    )


def _hypercorn(gateway: Gateway) -> Any:
    from hypercorn.config import Config

    serve = gateway.serve
    config = Config()
    config.bind = [f"{serve.host}:{serve.port}"]
    config.accesslog = config.errorlog = None
    config.read_timeout = SILENT_S
    config.keep_alive_timeout = SILENT_S
    config.ssl_handshake_timeout = SILENT_S
    config.graceful_timeout = 2
    config.keep_alive_max_requests = 100_000
    config.h11_max_incomplete_size = 16 * 1024
    config.include_server_header = False
    config.alpn_protocols = ["http/1.1"]
    if serve.cert_file is not None:
        config.certfile, config.keyfile = str(serve.cert_file), str(serve.key_file)
        try:
            config.create_ssl_context()
        except (OSError, ssl.SSLError) as error:
            raise MissingError(
                f"{serve.cert_file}: not a certificate with its key ({error})"
            ) from None
    return config
