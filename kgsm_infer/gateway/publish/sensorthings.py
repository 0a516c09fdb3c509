"""OGC SensorThings 1.1 (18-088): a paddock as a Thing with its Datastream, for a deep insert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...base.quantities import SOIL_MOISTURE, UNKNOWN, WETNESS, Quantity, quantity_named
from ..records import iso, record
from ..store.rows import Value

MEASUREMENT = "http://www.opengis.net/def/observationType/OGC-OM/2.0/OM_Measurement"
SOIL_MOISTURE_URI = (
    "http://vocab.nerc.ac.uk/standard_name/volume_fraction_of_condensed_water_in_soil/"
)
#: What a Datastream says of each quantity: unitOfMeasurement, ObservedProperty, description.
UNITS: Mapping[Quantity, dict[str, str]] = {
    SOIL_MOISTURE: {
        "name": "cubic metre per cubic metre",
        "symbol": "m3/m3",
        "definition": "https://qudt.org/vocab/unit/M3-PER-M3",
    },
    WETNESS: {
        "name": "index without a unit",
        "symbol": "1",
        "definition": "https://qudt.org/vocab/unit/UNITLESS",
    },
    UNKNOWN: {"name": "unknown", "symbol": "", "definition": ""},
}
PROPERTIES: Mapping[Quantity, dict[str, str]] = {
    SOIL_MOISTURE: {
        "name": "Soil moisture",
        "definition": SOIL_MOISTURE_URI,
        "description": "Volume of water per volume of soil",
    },
    WETNESS: {
        "name": "Wetness index",
        "definition": "https://qudt.org/vocab/quantitykind/DimensionlessRatio",
        "description": "0 is the driest and 1 the wettest that the place has shown",
    },
    UNKNOWN: {"name": "Unknown", "definition": "", "description": "The model is gone"},
}
DESCRIPTIONS: Mapping[Quantity, str] = {
    SOIL_MOISTURE: "Surface soil moisture, 0-5 cm, retrieved from Sentinel-1",
    WETNESS: "Wetness index of the surface, retrieved from Sentinel-1",
    UNKNOWN: "Values whose quantity is unknown: the model that made them is gone",
}


def thing(value: Value, geometry: Mapping[str, Any] | None, title: str) -> dict[str, Any]:
    """Return a Thing, its Location, and a Datastream with this value as its Observation.

    geometry: GeoJSON in longitude and latitude, or None. A value without a number is no
    Observation; the reason is in the Thing's properties.
    """
    found, quantity = record(value), quantity_named(value.quantity)
    observed = value.sm is not None and quantity is not UNKNOWN
    made: dict[str, Any] = {
        "name": title,
        "description": f"Paddock {title}",
        "properties": {"paddock": value.paddock, "reason": value.reason},
        "Datastreams": [
            {
                "name": f"{quantity.title} of {title}",
                "description": DESCRIPTIONS[quantity],
                "observationType": MEASUREMENT,
                "unitOfMeasurement": UNITS[quantity],
                "ObservedProperty": PROPERTIES[quantity],
                "Sensor": {
                    "name": f"kgsm model {value.model}",
                    "description": "Water cloud model and LSTM on Sentinel-1 backscatter",
                    "encodingType": "text/html",
                    "metadata": "https://sentinels.copernicus.eu/web/sentinel/missions/sentinel-1",
                },
                "Observations": [observation(value, found)] if observed else [],
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
    """Return the Observation of a value that has a number; its key and doubts in ``parameters``."""
    ends = map(quantity_named(value.quantity).column_of, ("sm_lower", "sm_upper"))
    keys = ("paddock", "acquired_at", "orbit", "revision", "quantity", *ends, "flags", "model")
    optional = ("source", "sm_correction", "probes")
    parameters = {key: found[key] for key in (*keys, *optional) if key in found}
    return {
        "phenomenonTime": iso(value.acquired),
        "resultTime": None,
        "result": value.sm,
        "parameters": parameters,
    }
