"""farmOS: soil moisture into one data stream per paddock, over HTTPS, and each day into another.

A data stream of type Basic takes ``{"timestamp": seconds, NAME: value}`` by POST with its private
key, and skips keys it does not know; ours ride along and name the record. It keeps every POST,
so before a POST is repeated whose answer was lost, the stream is read to see if it has the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ...base.extras import optional
from ...base.network import open_session, reason_of
from ...base.quantities import UNKNOWN, Quantity, quantity_named
from ...base.schema import build, parse_json
from ..config import Farmos, Gateway
from ..records import canonical, day_of, end_of_day, iso
from ..store.daily_rows import DailyValue, mark_day_posted, mark_day_tried, unposted
from ..store.database import Store
from ..store.rows import Value
from ..threads import Backoff, Task

FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 3600.0
TIMEOUT_S = 20.0
#: Records read from the outbox at a time.
MANY = 50


@dataclass(frozen=True)
class Post:
    """A number for a data stream. stream, key: of the stream.  at: seconds since 1970."""

    stream: str
    key: str
    name: str
    at: int
    number: float
    content: bytes


def message(name: str, value: Value) -> bytes:
    """Return the message for a value with a number; farmOS reads ``timestamp`` and ``name``.

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
    return _number(value.sm, quantity_named(value.quantity))


def _number(number: float | None, quantity: Quantity) -> float | None:
    if number is None or quantity is UNKNOWN:
        return None
    return round(100 * number, 2) if quantity.in_percent else round(number, 4)


def post_of_day(farmos: Farmos, value: DailyValue, timezone: str | None) -> Post | None:
    """Return the post of a day that has ended; None without a number or a stream."""
    quantity = quantity_named(value.quantity)
    number, stream = _number(value.value, quantity), farmos.daily_streams.get(value.paddock)
    if number is None or stream is None:
        return None
    at = end_of_day(value.day, timezone)
    content = {
        "timestamp": at,
        farmos.daily_name: number,
        "quantity": quantity.name,
        "unit": "%" if quantity.in_percent else quantity.unit,
        "paddock": value.paddock,
        "date": day_of(value.day),
        "revision": value.revision,
        "available_percent": value.available_percent,
        "refill_mm": value.refill_mm,
        "rain_mm": value.rain_mm,
    }
    key = farmos.daily_keys[value.paddock]
    return Post(stream, key, farmos.daily_name, at, number, canonical(content))


class FarmosPublisher:
    """Publish to the data streams of farmOS."""

    name = "farmos"
    waits_event = "farmos_waits"

    def __init__(self, gateway: Gateway) -> None:
        assert gateway.farmos is not None
        self._database, self._farmos = gateway.database, gateway.farmos
        self._timezone = gateway.page.timezone
        self.backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, 3.0)

    def publish(self, task: Task) -> str | None:
        """Post what is unsent; returns why not all of it, or None."""
        with Store(self._database) as store:
            after, refused = 0, None
            while entries := store.unsent(self.name, MANY, after):
                for entry, tried, value in entries:
                    after = entry
                    if task.stopping:
                        return None
                    task.expect(4 * TIMEOUT_S)
                    if number_posted(value) is None or value.paddock not in self._farmos.streams:
                        store.mark_sent([entry])  # farmOS keeps numbers only
                        continue
                    if not tried:
                        store.mark_tried([entry])
                    try:
                        if not (tried and has_it(self._farmos, value)):
                            post(self._farmos, value)
                        store.mark_sent([entry])
                    except (OSError, ValueError, TypeError) as error:
                        refused = f"paddock {value.paddock}: {_without_url(error)}"
            return self._publish_days(task, store) or refused

    def _publish_days(self, task: Task, store: Store) -> str | None:
        """Post the days that ended; returns why not all of them, or None."""
        after, refused = 0, None
        while entries := unposted(store, MANY, after):
            for entry, tried, value in entries:
                after = entry
                if task.stopping:
                    return None
                task.expect(4 * TIMEOUT_S)
                one = post_of_day(self._farmos, value, self._timezone)
                if one is None:
                    mark_day_posted(store, entry)
                    continue
                if not tried:
                    mark_day_tried(store, entry)
                try:
                    if not (tried and _has(self._farmos, one)):
                        _post(self._farmos, one)
                    mark_day_posted(store, entry)
                except (OSError, ValueError, TypeError) as error:
                    refused = f"paddock {value.paddock}, daily: {_without_url(error)}"
        return refused


def post(farmos: Farmos, value: Value) -> None:
    """Post one value; OSError or ValueError where farmOS did not take it."""
    _post(farmos, _post_of(farmos, value))


def has_it(farmos: Farmos, value: Value) -> bool:
    """Return True if the stream holds this number at this time already."""
    return _has(farmos, _post_of(farmos, value))


def _post_of(farmos: Farmos, value: Value) -> Post:
    number = number_posted(value)
    if number is None:
        raise ValueError("a value without a number is not posted")
    content = message(farmos.name, value)
    stream, key = farmos.streams[value.paddock], farmos.keys[value.paddock]
    return Post(stream, key, farmos.name, value.acquired, number, content)


def _post(farmos: Farmos, one: Post) -> None:
    status, _ = _request(farmos, one, "POST", {}, one.content)
    if status not in (200, 201):
        raise ValueError(f"farmOS answers {status} to a POST")


def _has(farmos: Farmos, one: Post) -> bool:
    window = {"start": one.at, "end": one.at, "limit": 100}
    status, body = _request(farmos, one, "GET", window, None)
    if status != 200:
        raise ValueError(f"farmOS answers {status} to a GET")
    items = build(tuple[Mapping[str, Any], ...], parse_json(body), "the answer to a GET")
    return any(abs(float(item.get(one.name, "nan")) - one.number) < 1e-6 for item in items)


def _request(
    farmos: Farmos, one: Post, method: str, parameters: dict[str, Any], body: bytes | None
) -> tuple[int, bytes]:
    """Send one request; redirects are not followed, for the key would go with them."""
    url = farmos.url.replace("{stream}", quote(one.stream, safe=""))
    with open_session("farmOS", retries=False, extra="gateway") as session:
        from urllib3.exceptions import HTTPError

        requests = optional("requests", what="farmOS", extra="gateway")
        try:
            answer = session.request(
                method,
                url,
                params={"private_key": one.key, **parameters},
                data=body,
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            )
            return answer.status_code, answer.raw.read(1_000_000, decode_content=True)
        except (requests.RequestException, HTTPError) as error:
            raise ValueError(reason_of(error)) from None


def _without_url(error: Exception) -> str:
    """Describe an error without the URL, which holds the key."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) if isinstance(error, ValueError) else type(error).__name__
