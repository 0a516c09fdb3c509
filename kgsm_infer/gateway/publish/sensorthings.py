"""OGC SensorThings 1.1 (18-088): a paddock as a Thing with its Datastream, for a deep insert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records import iso, record
from ..store.rows import Value

MEASUREMENT = "http://www.opengis.net/def/observationType/OGC-OM/2.0/OM_Measurement"
SOIL_MOISTURE = "http://vocab.nerc.ac.uk/standard_name/volume_fraction_of_condensed_water_in_soil/"


def thing(value: Value, geometry: Mapping[str, Any] | None, title: str) -> dict[str, Any]:
    """A Thing, its Location, and a Datastream with this value as its Observation.

    geometry: GeoJSON in longitude and latitude, or None. A value without a number is no
    Observation; why there is none stands in the Thing's properties.
    """
    found = record(value)
    made: dict[str, Any] = {
        "name": title,
        "description": f"Paddock {title}",
        "properties": {"paddock": value.paddock, "reason": value.reason},
        "Datastreams": [
            {
                "name": f"Soil moisture of {title}",
                "description": "Surface soil moisture, 0-5 cm, retrieved from Sentinel-1",
                "observationType": MEASUREMENT,
                "unitOfMeasurement": {
                    "name": "cubic metre per cubic metre",
                    "symbol": "m3/m3",
                    "definition": "https://qudt.org/vocab/unit/M3-PER-M3",
                },
                "ObservedProperty": {
                    "name": "Soil moisture",
                    "definition": SOIL_MOISTURE,
                    "description": "Volume of water per volume of soil",
                },
                "Sensor": {
                    "name": f"kgsm model {value.model}",
                    "description": "Water cloud model and LSTM on Sentinel-1 backscatter",
                    "encodingType": "text/html",
                    "metadata": "https://sentinels.copernicus.eu/web/sentinel/missions/sentinel-1",
                },
                "Observations": [] if value.sm is None else [observation(value, found)],
            }
        ],
    }
    if geometry is not None:
        made["Locations"] = [
            {
                "name": title,
                "description": f"Outline of {title}",
                "encodingType": "application/geo+json",
                "location": {"type": "Feature", "properties": {}, "geometry": dict(geometry)},
            }
        ]
    return made


def observation(value: Value, found: Mapping[str, Any]) -> dict[str, Any]:
    """The Observation of a value that has a number; its key and doubts in ``parameters``."""
    keys = ("paddock", "acquired_at", "orbit", "revision", "sm_lower", "sm_upper", "flags", "model")
    optional = ("source", "sm_correction", "probes")
    parameters = {key: found[key] for key in (*keys, *optional) if key in found}
    return {
        "phenomenonTime": iso(value.acquired),
        "resultTime": None,
        "result": value.sm,
        "parameters": parameters,
    }
