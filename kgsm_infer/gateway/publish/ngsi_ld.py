"""FIWARE: records as AgriParcelRecord entities, NGSI-LD normalised.

Data model: smart-data-models, dataModel.Agrifood, AgriParcelRecord; ETSI GS CIM 009 (NGSI-LD).
``soilMoistureVwc`` is a share of the volume, 0 to 1; ``observedAt`` the satellite's pass. The data
model has no property for a wetness index, which is published as ``kgsmWetness``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...base.quantities import SOIL_MOISTURE, UNKNOWN, quantity_named
from ..keys import slug
from ..records import flags_of, iso
from ..store.rows import Value

CONTEXT = [
    "https://raw.githubusercontent.com/smart-data-models/dataModel.Agrifood/master/context.jsonld",
    "https://uri.etsi.org/ngsi-ld/v1/ngsi-ld-core-context-v1.8.jsonld",
]


def agri_parcel_record(
    value: Value, gateway: str, geometry: Mapping[str, Any], title: str
) -> dict[str, Any]:
    """Return one entity.

    geometry: GeoJSON in longitude and latitude, which the data model requires.

    A value without a number has no property for it: NGSI-LD knows no null. Neither has a value
    of unknown quantity.
    """
    observed_at, quantity = iso(value.acquired), quantity_named(value.quantity)

    def observed(content: Any, **more: Any) -> dict[str, Any]:
        return {"type": "Property", "value": content, "observedAt": observed_at, **more}

    entity: dict[str, Any] = {
        "@context": CONTEXT,
        "id": f"urn:ngsi-ld:AgriParcelRecord:{gateway}:{slug(value.paddock)}",
        "type": "AgriParcelRecord",
        "hasAgriParcel": {
            "type": "Relationship",
            "object": f"urn:ngsi-ld:AgriParcel:{gateway}:{slug(value.paddock)}",
        },
        "location": {"type": "GeoProperty", "value": dict(geometry)},
        "name": {"type": "Property", "value": title},
        "revision": observed(value.revision),
        "kgsmModel": observed(value.model),
        "kgsmQuantity": observed(quantity.name),
    }
    flags = [*flags_of(value), *(["simulated"] * value.simulated)]
    if flags:
        entity["kgsmFlags"] = observed(flags)
    if value.sm is not None and quantity is not UNKNOWN:
        more: dict[str, Any] = {
            "unitCode": "C62",
            "depth": {"type": "Property", "value": 5, "unitCode": "CMT"},
        }
        for name, bound in (("lower", value.sm_lower), ("upper", value.sm_upper)):
            if bound is not None:
                more[name] = {"type": "Property", "value": bound, "unitCode": "C62"}
        if value.probes:
            correction = {"type": "Property", "value": value.sm_correction, "unitCode": "C62"}
            more["correction"] = correction
            more["probes"] = {"type": "Property", "value": value.probes}
        name = "soilMoistureVwc" if quantity is SOIL_MOISTURE else f"kgsm{quantity.name.title()}"
        entity[name] = observed(value.sm, **more)
    return entity
