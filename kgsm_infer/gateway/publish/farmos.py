"""farmOS: soil moisture into one data stream per paddock, over HTTPS.

A data stream of type Basic takes ``{"timestamp": seconds, NAME: value}`` by POST with its private
key, and skips keys it does not know; ours ride along and name the record. It keeps every POST,
so before a POST is repeated whose answer was lost, the stream is asked whether it has it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from ...base.extras import optional
from ...base.network import open_session, reason_of
from ...base.quantities import UNKNOWN, quantity_named
from ..config import Farmos, Gateway
from ..log import Log
from ..records import canonical, iso
from ..store.database import Store
from ..store.failures import StoreBroken, StoreFull
from ..store.rows import Value

FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 3600.0
TIMEOUT_S = 20.0
#: Records looked at together.
MANY = 50


def message(name: str, value: Value) -> bytes:
    """What is posted of a value that has a number; farmOS reads ``timestamp`` and ``name``.

    Soil moisture is in percent of volume, an index as it is; ``quantity`` and ``unit`` name it.
    """
    quantity = quantity_named(value.quantity)
    return canonical(
        {
            "timestamp": value.acquired,
            name: number_posted(value),
            "quantity": quantity.name,
            "unit": "%" if quantity.in_percent else quantity.unit,
            "paddock": value.paddock,
            "acquired_at": iso(value.acquired),
            "revision": value.revision,
        }
    )


def number_posted(value: Value) -> float | None:
    """Return the number farmOS gets: percent of volume of soil moisture, an index as it is.

    None for a value without a number and for one whose quantity is unknown.
    """
    quantity = quantity_named(value.quantity)
    if value.sm is None or quantity is UNKNOWN:
        return None
    return round(100 * value.sm, 2) if quantity.in_percent else round(value.sm, 4)


class FarmosTeller:
    """The data streams' side, in a thread of its own."""

    def __init__(self, gateway: Gateway, log: Log, broken: Callable[[], None]) -> None:
        assert gateway.farmos is not None
        self._gateway, self._farmos = gateway, gateway.farmos
        self._log, self._broken = log, broken
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="farmos", daemon=True)

    def start(self) -> None:
        """Begin with what is in the outbox."""
        self._woken.set()
        self._thread.start()

    def wake(self) -> None:
        """Something was stored."""
        self._woken.set()

    def close(self) -> None:
        """Finish the request at hand, then end."""
        self._stopping = True
        self._woken.set()
        self._thread.join(TIMEOUT_S + 1)

    def _run(self) -> None:
        wait_s: float | None = None
        next_s = FIRST_WAIT_S
        while True:
            self._woken.wait(wait_s)
            self._woken.clear()
            if self._stopping:
                return
            try:
                refused = self._tell()
            except StoreBroken:
                self._broken()
                refused = "the store is being restored"
            except StoreFull as error:
                refused = str(error)
            if refused is None:
                wait_s, next_s = None, FIRST_WAIT_S
                continue
            self._log("farmos_waits", reason=refused, wait_s=next_s)
            wait_s, next_s = next_s, min(LONGEST_WAIT_S, 3 * next_s)

    def _tell(self) -> str | None:
        """Post what is unsent; why not all of it, or None."""
        with Store(self._gateway.database) as store:
            after, refused = 0, None
            while entries := store.unsent("farmos", MANY, after):
                for entry, tried, value in entries:
                    after = entry
                    if self._stopping:
                        return None
                    if number_posted(value) is None or value.paddock not in self._farmos.streams:
                        store.mark_sent([entry])  # no number is not a number
                        continue
                    if not tried:
                        store.mark_tried([entry])
                    try:
                        if not (tried and has_it(self._farmos, value)):
                            post(self._farmos, value)
                        store.mark_sent([entry])
                    except (OSError, ValueError) as error:
                        refused = f"paddock {value.paddock}: {_said(error)}"
            return refused


def post(farmos: Farmos, value: Value) -> None:
    """Post one value; OSError or ValueError where farmOS did not take it."""
    status, _ = _asked(farmos, value.paddock, "POST", {}, message(farmos.name, value))
    if status not in (200, 201):
        raise ValueError(f"farmOS answers {status} to a POST")


def has_it(farmos: Farmos, value: Value) -> bool:
    """Whether the stream holds this number at this time already."""
    window = {"start": value.acquired, "end": value.acquired, "limit": 100}
    status, body = _asked(farmos, value.paddock, "GET", window, None)
    expected = number_posted(value)
    if status != 200 or expected is None:
        raise ValueError(f"farmOS answers {status} to a GET")
    return any(
        abs(float(item.get(farmos.name, "nan")) - expected) < 1e-6
        for item in json.loads(body)
        if isinstance(item, dict)
    )


def _asked(
    farmos: Farmos, paddock: str, method: str, parameters: dict[str, Any], body: bytes | None
) -> tuple[int, bytes]:
    """One request; redirects are not followed, for the key would go with them."""
    url = farmos.url.replace("{stream}", quote(farmos.streams[paddock], safe=""))
    with open_session("farmOS", retries=False, extra="gateway") as session:
        from urllib3.exceptions import HTTPError

        requests = optional("requests", what="farmOS", extra="gateway")
        try:
            answer = session.request(
                method,
                url,
                params={"private_key": farmos.keys[paddock], **parameters},
                data=body,
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            )
            return answer.status_code, answer.raw.read(1_000_000, decode_content=True)
        except (requests.RequestException, HTTPError) as error:
            raise ValueError(reason_of(error)) from None


def _said(error: Exception) -> str:
    """An error without the URL, which holds the key."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) if isinstance(error, ValueError) else type(error).__name__
