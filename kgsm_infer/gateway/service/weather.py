"""Fetch rain from a public service in a thread, and put it into the spool as a weather file.

The file is archived and processed as any other, so a store that is built again needs no service.
"""

from __future__ import annotations

import csv
import io
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...base.errors import KgsmError, UsageError
from ...daily.forcing import LONGEST_FORECAST
from ...prepare.weather_services import (
    WeatherRequest,
    WeatherService,
    places_of,
    prepare_weather,
    service_named,
)
from ..config import Gateway
from ..farm import Paddocks
from ..intake.rain_files import drop_rain_file
from ..log import Log
from ..store.daily_rows import has_rain
from ..store.database import Store
from ..threads import PATIENCE_S, Backoff, Task
from ..update.daily import DailyUpdater, window_start

#: Days that are fetched again each time: services revise the newest.
REVISED_DAYS = 30
FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 6 * 3600.0
#: Seconds that one request and its retries may take.
REQUEST_S = 600.0


@dataclass
class RainFetcher:
    """Fetch rain for the outlines of a farm; UsageError where the settings cannot work.

    service: None for that of the settings.
    """

    gateway: Gateway
    paddocks: Paddocks
    log: Log
    service: WeatherService | None = None

    def __post_init__(self) -> None:
        weather, source = self.gateway.weather, self.gateway.source
        if self.service is None:
            try:
                self.service = service_named(str(weather.service))
            except UsageError as error:
                raise UsageError(
                    f"{source}: weather.service: {str(error).replace('--service ', '')}"
                ) from None
        if self.paddocks.outlines is None:
            raise UsageError(f"{source}: weather.service needs the outlines of [paddocks]")
        if self.service.name == "silo" and "@" not in weather.email:
            raise UsageError(f"{source}: weather.email: SILO asks for the address of its users")
        self._days = DailyUpdater(self.gateway, self.paddocks)
        self._places = dict(places_of(self.paddocks.outlines))

    def task(self) -> Task:
        """Create the thread."""

        def failed(reason: str, wait_s: float) -> None:
            self.log("weather_waits", reason=reason, wait_s=round(wait_s, 1))

        backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
        return Task("weather", self._run, self.log, backoff, failed)

    def _run(self, task: Task) -> str | None:
        every_s = self.gateway.weather.every_hours * 3600
        while not task.stopping:
            task.expect(REQUEST_S + PATIENCE_S)
            try:
                self.fetch()
            except (KgsmError, OSError) as error:
                return str(error) or type(error).__name__
            task.succeeded()
            task.facts["fetched_at"] = round(time.time())
            task.expect(every_s + PATIENCE_S)
            task.signal.clear()
            task.signal.wait(every_s)
        return None

    def fetch(self) -> int:
        """Fetch the rain of the newest days into the spool; returns the number of rows.

        KgsmError where the service cannot be asked or has no rain.
        """
        assert self.service is not None
        today = self._days.local_day(int(time.time()))
        with Store(self.gateway.database) as store:
            first = today - REVISED_DAYS if has_rain(store) else window_start(today)
        forecast = LONGEST_FORECAST if "forecast" in self.service.urls else 0
        wanted = WeatherRequest(
            self._places,
            np.datetime64(first, "D"),
            np.datetime64(today + forecast, "D"),
            self.gateway.weather.email,
            np.datetime64(today, "D"),
        )
        part = self.gateway.state / ".weather.csv"
        try:
            done = prepare_weather(part, self.service, wanted, self.gateway.state / "weather")
            content = _measured(part)
        finally:
            with suppress(OSError):
                part.unlink()
        drop_rain_file(content, self.gateway.spool)
        self.log(
            "weather_fetched",
            service=self.service.name,
            rows=done.rows,
            requests=done.requests,
            notes=list(done.notes),
        )
        return done.rows


def _measured(path: Path) -> bytes:
    """Return a weather file without the days whose rain is missing.

    A service that lacks a day now says nothing of the rain that is stored.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in ("site", "date", "rain_mm", "source") if name in rows[0]]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for row in rows if row["rain_mm"] != "")
    return text.getvalue().encode()
