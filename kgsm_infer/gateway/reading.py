"""What is asked of the store, answered: for the API and the page, cached until it changes.

Opens the database again when another file stands in its place (it was restored), and answers
with nothing while there is none.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .config import Gateway
from .intake import Paddocks
from .records import canonical, iso, record
from .store import Store, Value

#: Columns of the CSV forms, a record's keys.
CSV_COLUMNS = (
    *("paddock", "acquired_at", "orbit", "revision", "sm", "sm_lower", "sm_upper", "unit"),
    *("sm_percent", "sm_lower_percent", "sm_upper_percent", "valid_share", "flags", "reason"),
    *("model", "source", "sm_correction", "probes"),
)


@dataclass
class Reading:
    """The store as its readers see it; of one thread."""

    gateway: Gateway
    paddocks: Paddocks
    _store: Store | None = None
    _inode: int = 0
    _version: tuple[int, int] = (-1, -1)
    _made: dict[str, bytes] = field(default_factory=dict)

    def store(self) -> Store | None:
        """The database as it stands now; None while there is none."""
        try:
            inode = os.stat(self.gateway.database).st_ino
        except OSError:
            inode = 0
        if inode != self._inode:
            self.close()
            self._store = Store(self.gateway.database, read_only=True) if inode else None
            self._inode = inode
        return self._store

    def close(self) -> None:
        """Let go of the database."""
        if self._store is not None:
            self._store.close()
        self._store, self._inode, self._version = None, 0, (-1, -1)
        self._made.clear()

    def cached(self, key: str, make: Callable[[], bytes]) -> bytes:
        """``make()`` once per state of the store."""
        store = self.store()
        version = (-1, -1) if store is None else store.version()
        if version != self._version:
            self._made.clear()
            self._version = version
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    # -- answers ---------------------------------------------------------------------------

    def latest(self, paddock: str | None = None) -> list[dict[str, Any]]:
        """Present states as records, each with the newest reading of its probes beside it."""
        store = self.store()
        if store is None:
            return []
        if paddock is None:
            values = store.latest()
        else:
            one = store.latest_of(paddock)
            values = [] if one is None else [one]
        probes = store.newest_probes()
        return [self._beside(record(value), probes.get(value.paddock)) for value in values]

    def history(self, paddock: str, since: int, limit: int, revisions: bool) -> list[Value]:
        store = self.store()
        return [] if store is None else store.series(
            paddock, since=since, limit=limit, revisions=revisions
        )  # fmt: skip

    def known(self, paddock: str) -> bool:
        """Whether there is such a paddock: in the outlines, or in the store."""
        if self.paddocks.outlines is not None:
            return self.paddocks.known(paddock)
        store = self.store()
        return store is not None and store.latest_of(paddock) is not None

    def health(self) -> dict[str, Any]:
        """What a monitor asks: is there a store, how much is in it, what is still to be told."""
        store = self.store()
        counts: Mapping[str, int] = {} if store is None else store.counts()
        newest = self.newest()
        return {
            "status": "ok" if store is not None else "empty",
            "name": self.gateway.name,
            "newest_acquisition": None if newest is None else iso(newest),
            "stored": dict(counts),
            "unsent": {} if store is None else store.unsent_counts(),
        }

    def newest(self) -> int | None:
        """The newest acquisition, seconds since 1970."""
        store = self.store()
        values = [] if store is None else store.latest()
        return max((value.acquired for value in values), default=None)

    def outlined(self) -> Mapping[str, Any]:
        """Paddock -> its outline as GeoJSON, where outlines are in longitude and latitude."""
        from ..scenes.outlines import LON_LAT

        outlines = self.paddocks.outlines
        if outlines is None or outlines.crs != LON_LAT:
            return {}
        return dict(zip(outlines.ids, outlines.geometries, strict=True))

    def names(self) -> Mapping[str, str]:
        """Paddock -> what people call it."""
        return self._names

    @cached_property
    def _names(self) -> dict[str, str]:
        outlines, key = self.paddocks.outlines, self.gateway.outline_name
        if outlines is None:
            return {}
        return {
            name: str(own.get(key) or name) if key else name
            for name, own in zip(outlines.ids, outlines.properties, strict=True)
        }

    def _beside(self, found: dict[str, Any], probe: Mapping[str, Any] | None) -> dict[str, Any]:
        if probe is not None:
            found["probe"] = {
                "at": iso(probe["at"]),
                "sm": round(probe["sm"], 6),
                "sensors": probe["sensors"],
            }
        return found

    def geojson(self, records: Sequence[Mapping[str, Any]]) -> bytes:
        """Records as features with their outlines; RFC 7946, or with a crs member where the
        outlines are not in longitude and latitude."""
        from ..scenes.outlines import LON_LAT

        outlines = self.paddocks.outlines
        geometries: Mapping[str, Any] = (
            {} if outlines is None else dict(zip(outlines.ids, outlines.geometries, strict=True))
        )
        content: dict[str, Any] = {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "id": found["paddock"],
                    "properties": found,
                    "geometry": geometries.get(found["paddock"]),
                }
                for found in records
            ],
        }
        if outlines is not None and outlines.crs != LON_LAT:
            name = outlines.crs.replace("EPSG:", "urn:ogc:def:crs:EPSG::")
            content["crs"] = {"type": "name", "properties": {"name": name}}
        return canonical(content)


def as_csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Records as CSV; flags joined with ``;``, no number an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for found in records:
        cells = {**found, "flags": ";".join(found["flags"])}
        writer.writerow(["" if cells.get(name) is None else cells[name] for name in CSV_COLUMNS])
    return text.getvalue().encode()
