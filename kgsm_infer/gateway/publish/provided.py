"""Publish to a destination that another package provides (entry points ``kgsm.publishers``).

An entry point is a function that takes the table ``[publishers.NAME]`` of gateway.toml and returns
a function. That one is called with each record, in the order of storage, and raises where the
destination did not take it; the record is then sent again. It may get a record twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...base.plugins import Provided, not_callable
from ..config import Gateway
from ..records import record
from ..store.database import Store
from ..threads import Backoff, Task

#: Functions of settings that return a function of a record.
PUBLISHERS = Provided("kgsm.publishers", not_callable)
FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 3600.0
#: Records read from the outbox at a time.
MANY = 50
#: Seconds that one call may take before the watchdog counts it as hanging.
LONGEST_CALL_S = 300.0


class ProvidedPublisher:
    """Publish each stored record with a function of another package."""

    waits_event = "publisher_waits"

    def __init__(self, name: str, gateway: Gateway) -> None:
        self.name, self._database = name, gateway.database
        self._settings: Mapping[str, Any] = gateway.publishers[name]
        self._send: Callable[[dict[str, Any]], object] | None = None
        self.backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, 3.0)

    def publish(self, task: Task) -> str | None:
        """Send what is queued; returns why not all of it, or None."""
        task.expect(LONGEST_CALL_S)
        if self._send is None:
            make = PUBLISHERS.get(self.name)
            if make is None:
                return f"{self.name}: no package provides this publisher, or it cannot be loaded"
            try:
                send = make(dict(self._settings))
            except Exception as error:  # noqa: BLE001  another package may raise anything
                return self._reason(error)
            if reason := not_callable(send):
                return f"{self.name}: returned {reason}"
            self._send = send
        with Store(self._database) as store:
            while entries := store.unsent(self.name, MANY):
                for entry, _, value in entries:
                    if task.stopping:
                        return None
                    task.expect(LONGEST_CALL_S)
                    try:
                        self._send(record(value))
                    except Exception as error:  # noqa: BLE001  as above
                        return self._reason(error)
                    store.mark_sent([entry])
        return None

    def _reason(self, error: Exception) -> str:
        return f"{self.name}: {type(error).__name__}: {error}"
