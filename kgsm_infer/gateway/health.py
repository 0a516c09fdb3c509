"""Describe the health of a gateway for ``/health``, metrics, the page and Home Assistant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .. import __version__
from .config import Gateway
from .intake.archive import free_mb
from .log import Log
from .records import iso
from .store.database import Store

#: Events of the log that report an error.
ERRORS = frozenset(
    {
        "quarantined", "fault", "thread_stuck", "taking_stopped", "database_damaged",
        "publish_refused", "model_unusable", "model_refused", "serve_failed", "broker_lost",
        "farmos_failed", "step_failed", "request_failed", "certificate_unusable", "probe_refused",
        "days_failed", "rain_refused", "weather_waits",
    }
)  # fmt: skip


@dataclass
class ErrorMemory:
    """A log that keeps the last error. last: event, reason and time."""

    log: Log
    last: dict[str, Any] | None = None

    def __call__(self, event: str, **details: Any) -> None:
        """Write one event, as :func:`~kgsm_infer.gateway.log.log_line`."""
        if event in ERRORS:
            reason = str(details.get("reason") or details.get("error") or event)
            name = details.get("file") or details.get("thread")
            self.last = {
                "event": event,
                "reason": f"{name}: {reason}"[:500] if name else reason[:500],
                "at": iso(int(datetime.now(UTC).timestamp())),
            }
        self.log(event, **details)


def count_quarantined(gateway: Gateway) -> int:
    """Return the number of files in quarantine, without those that state the reasons."""
    try:
        names = [path.name for path in gateway.quarantine.iterdir()]
    except OSError:
        return 0
    return sum(not name.startswith(".") and not name.endswith(".reason.txt") for name in names)


def health_of(
    gateway: Gateway, store: Store | None, newest: int | None, status: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the health of a gateway as JSON.

    newest: acquisition of a paddock, seconds since 1970.  status: of the process: ``threads`` ->
    name -> state, ``processing``, ``left_behind`` and ``last_error``.
    """
    now = datetime.now(UTC).timestamp()
    threads = status.get("threads", {})
    bad = [name for name, task in threads.items() if task["state"] != "ok"]
    degraded = bad or status.get("processing", "ok") != "ok"
    found: dict[str, Any] = {
        "status": "empty" if store is None else "degraded" if degraded else "ok",
        "name": gateway.name,
        "version": __version__,
        "newest_acquisition": None if newest is None else iso(newest),
        "newest_age_days": None if newest is None else round((now - newest) / 86400, 2),
        "stored": {} if store is None else dict(store.counts()),
        "unsent": {} if store is None else store.unsent_counts(),
        "quarantined": count_quarantined(gateway),
        "last_error": None,
        "broker": None,
        "disk": _disk(gateway),
        **status,
    }
    if "mqtt" in threads:
        task = threads["mqtt"]
        acknowledged = task.get("acknowledged_at")
        found["broker"] = {
            "state": task["state"],
            "reason": task["reason"],
            "acknowledged_age_s": None if acknowledged is None else round(now - acknowledged),
        }
    return found


def _disk(gateway: Gateway) -> dict[str, Any] | None:
    try:
        free = free_mb(gateway.state)
    except OSError:  # the folder is not there yet
        return None
    return {"free_mb": round(free), "needed_mb": gateway.keep.free_mb}
