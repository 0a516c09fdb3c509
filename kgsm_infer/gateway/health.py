"""Describe the health of a gateway for ``/health``, metrics, the page and Home Assistant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

from .. import __version__
from ..base.schema import Choices, Range
from .config import Gateway
from .intake.archive import free_mb
from .log import Log
from .records import Day, Time, day_of, iso
from .store.daily_rows import newest_rain_day, progress
from .store.database import Store

#: Events of the log that report an error.
ERRORS = frozenset(
    {
        "quarantined", "fault", "thread_stuck", "processing_stopped", "database_damaged",
        "publish_refused", "model_unusable", "model_refused", "serve_failed", "broker_lost",
        "farmos_waits", "step_failed", "request_failed", "certificate_unusable", "probe_refused",
        "days_failed", "rain_refused", "weather_waits", "restore_failed", "cannot_process",
        "cannot_quarantine", "partly_stored", "rows_refused", "subscription_refused", "same_name",
        "publisher_waits", "irrigation_refused",
    }
)  # fmt: skip


@dataclass
class ErrorMemory:
    """A log that keeps the last error. last: event, reason and time."""

    log: Log
    last: LastError | None = None

    def __call__(self, event: str, **details: Any) -> None:
        """Write one event, as :func:`~kgsm_infer.gateway.log.log_line`."""
        if event in ERRORS:
            reason = str(details.get("reason") or details.get("error") or event)
            name = details.get("file") or details.get("thread")
            self.last = LastError(
                event,
                reason[:500] if not name or reason.startswith(name) else f"{name}: {reason}"[:500],
                iso(int(datetime.now(UTC).timestamp())),
            )
        self.log(event, **details)


def count_quarantined(gateway: Gateway) -> int:
    """Return the number of files in quarantine, without those that state the reasons."""
    try:
        names = [path.name for path in gateway.quarantine.iterdir()]
    except OSError:
        return 0
    return sum(not name.startswith(".") and not name.endswith(".reason.txt") for name in names)


@dataclass(frozen=True)
class LastError:
    """The last error of the log."""

    event: str
    reason: str
    at: Time


@dataclass(frozen=True)
class ThreadHealth:
    """A thread of the process. restarts: after exceptions, in all.

    acknowledged_at: time of the broker's last acknowledgement.  fetched_at: of the last rain that
    was fetched.  Seconds since 1970.
    """

    state: Annotated[str, Choices(("ok", "failing", "stuck", "dead"))]
    reason: str
    restarts: Annotated[int, Range(0)]
    acknowledged_at: int | None = None
    fetched_at: int | None = None


@dataclass(frozen=True)
class UnreadScenes:
    """Scenes from before an outline was added, of which the archive holds no rasters.

    scenes: how many.  paddocks: those without a value since their outlines were added, at most
    20.  reason: what to do.
    """

    scenes: Annotated[int, Range(1)]
    paddocks: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Process:
    """The state of the running process; the defaults are those of one that serves alone.

    processing: ``ok``, or the reason why no files are processed.
    left_behind: files that stayed in the spool at the last scan.
    unread_scenes: None where every paddock has a value.
    """

    threads: Mapping[str, ThreadHealth] = field(default_factory=dict)
    processing: str = "ok"
    left_behind: Annotated[int, Range(0)] | None = None
    last_error: LastError | None = None
    unread_scenes: UnreadScenes | None = None


NO_PROCESS = Process()


@dataclass(frozen=True)
class Broker:
    """The MQTT broker. acknowledged_age_s: age of its last acknowledgement, s."""

    state: Annotated[str, Choices(("ok", "failing", "stuck", "dead"))]
    reason: str
    acknowledged_age_s: int | None


@dataclass(frozen=True)
class DailyHealth:
    """The daily values. today: their newest day.  rain_until: newest day with measured rain.

    rain_age_days: days from then to today; the values of these days are less certain.
    """

    today: Day
    rain_until: Day | None
    rain_age_days: int | None


@dataclass(frozen=True)
class Disk:
    """Free space for the state, and the space that must stay free, MB."""

    free_mb: int
    needed_mb: float


@dataclass(frozen=True)
class Health:
    """The health of a gateway, as ``/health`` sends it.

    status: ``empty`` before the first start.  newest_acquisition: of any paddock, with its age.
    daily: None without daily values.  stored: rows by table.  unsent: messages by publisher.
    quarantined: files.
    """

    status: Annotated[str, Choices(("ok", "degraded", "empty"))]
    name: str
    version: str
    newest_acquisition: Time | None
    newest_age_days: float | None
    stored: Mapping[str, int]
    unsent: Mapping[str, int]
    quarantined: Annotated[int, Range(0)]
    broker: Broker | None
    disk: Disk | None
    daily: DailyHealth | None
    threads: Mapping[str, ThreadHealth]
    processing: str
    left_behind: Annotated[int, Range(0)] | None
    last_error: LastError | None
    unread_scenes: UnreadScenes | None


def health_of(
    gateway: Gateway, store: Store | None, newest: int | None, process: Process
) -> Health:
    """Return the health of a gateway. newest: acquisition of a paddock, seconds since 1970."""
    now = datetime.now(UTC).timestamp()
    bad = [name for name, task in process.threads.items() if task.state != "ok"]
    degraded = bad or process.processing != "ok"
    return Health(
        status="empty" if store is None else "degraded" if degraded else "ok",
        name=gateway.name,
        version=__version__,
        newest_acquisition=None if newest is None else iso(newest),
        newest_age_days=None if newest is None else round((now - newest) / 86400, 2),
        stored={} if store is None else store.counts(),
        unsent={} if store is None else store.unsent_counts(),
        quarantined=count_quarantined(gateway),
        broker=_broker(process.threads.get("mqtt"), now),
        disk=_disk(gateway),
        daily=None if store is None else _daily(store),
        threads=process.threads,
        processing=process.processing,
        left_behind=process.left_behind,
        last_error=process.last_error,
        unread_scenes=process.unread_scenes,
    )


def _broker(thread: ThreadHealth | None, now: float) -> Broker | None:
    if thread is None:
        return None
    at = thread.acknowledged_at
    return Broker(thread.state, thread.reason, None if at is None else round(now - at))


def _daily(store: Store) -> DailyHealth | None:
    today = progress(store).today
    if today is None:
        return None
    rain = newest_rain_day(store, today)
    until = None if rain is None else day_of(rain)
    return DailyHealth(day_of(today), until, None if rain is None else today - rain)


def _disk(gateway: Gateway) -> Disk | None:
    try:
        free = free_mb(gateway.state)
    except OSError:  # the folder is not there yet
        return None
    return Disk(round(free), gateway.keep.free_mb)
