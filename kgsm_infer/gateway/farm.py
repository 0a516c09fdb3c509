"""Describe the paddocks of a farm: ids, outlines, properties and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .config import Gateway

if TYPE_CHECKING:
    from ..scenes.outlines import Outlines


@dataclass(frozen=True)
class Paddocks:
    """The paddocks of a farm.

    outlines: None where every paddock that a table names belongs to the farm.
    title_key: the property of an outline that holds the name people use.
    earlier: ids with their properties at an earlier time, which count instead of the outlines'.
    """

    outlines: Outlines | None = None
    title_key: str | None = None
    earlier: Mapping[str, Mapping[str, Any]] | None = None

    def known(self, paddock: str) -> bool:
        """Return True for a paddock of the farm."""
        return (self.outlines is None and self.earlier is None) or paddock in self.properties

    @cached_property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        """Map the id of each outlined paddock to the properties of its outline."""
        if self.earlier is not None:
            return self.earlier
        if self.outlines is None:
            return {}
        return dict(zip(self.outlines.ids, self.outlines.properties, strict=True))

    @cached_property
    def titles(self) -> Mapping[str, str]:
        """Map the id of each outlined paddock to the name people use."""
        return {
            paddock: str(own.get(self.title_key) or paddock) if self.title_key else paddock
            for paddock, own in self.properties.items()
        }

    @property
    def outlines_lon_lat(self) -> Mapping[str, Any]:
        """Map paddocks to GeoJSON geometries, empty unless outlines are in longitude, latitude."""
        from ..scenes.outlines import LON_LAT

        if self.outlines is None or self.outlines.crs != LON_LAT:
            return {}
        return dict(zip(self.outlines.ids, self.outlines.geometries, strict=True))


def load_paddocks(gateway: Gateway) -> Paddocks:
    """Read the outlines of a gateway's configuration; UsageError or DataError if they are bad."""
    if gateway.outlines is None:
        return Paddocks()
    from ..scenes.outlines import read_outlines

    return Paddocks(read_outlines(gateway.outlines, gateway.outline_id), gateway.outline_name)
