"""Generate the OpenAPI 3.1 document of the API, from the dataclasses that read its requests."""

from __future__ import annotations

from typing import Any

from ... import __version__
from ...base.quantities import RETRIEVED, UNKNOWN
from ...base.schema import json_schema
from ..health import Health
from ..intake.irrigation_files import IrrigationMessage
from ..intake.probe_readings import ProbeMessage
from ..intake.rain_files import RainMessage
from ..records import PLANNED, DailyRecord, Record, numbers_named
from .parameters import DailyParameters, HistoryParameters, LatestParameters

_NUMBER = {"type": ["number", "null"]}
_TEXT = {"type": "string"}
_TIME = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"}
_COUNT = {"type": "integer", "minimum": 0}

_QUANTITIES = (*RETRIEVED.values(), UNKNOWN)


def answer_schema(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of a dataclass as it is sent; further fields may be added later.

    Fields with a default are left out where they have no value, so they are never null.
    """
    schema = json_schema(kind)
    schema.pop("additionalProperties")
    for name in schema["properties"].keys() - set(schema["required"]):
        of = schema["properties"][name]
        if isinstance(of.get("type"), list):
            of["type"] = of["type"][0]
        elif "anyOf" in of:
            (schema["properties"][name],) = [one for one in of["anyOf"] if one != {"type": "null"}]
    return schema


def _record() -> dict[str, Any]:
    """Return the schema of a record: its dataclass, and the numbers of one quantity in its unit."""
    schema = answer_schema(Record)
    for quantity in _QUANTITIES:
        for name in numbers_named(quantity).values():
            schema["properties"][name] = {**_NUMBER, "description": quantity.label}
            if quantity.in_percent:
                schema["properties"][f"{name}_percent"] = _NUMBER
    schema["description"] = "One paddock at one acquisition. No number is null, never NaN."
    schema["oneOf"] = [
        {
            "properties": {"quantity": {"const": quantity.name}, "unit": {"const": quantity.unit}},
            "required": list(numbers_named(quantity).values()),
        }
        for quantity in _QUANTITIES
    ]
    return schema


def _daily() -> dict[str, Any]:
    """Return the schema of the record of a day: its dataclass, and the numbers of one quantity."""
    schema = answer_schema(DailyRecord)
    for quantity in RETRIEVED.values():
        names = [*numbers_named(quantity).values(), f"pass_{quantity.column}"]
        planned = [quantity.column_of(name) for name in PLANNED]
        for name in names:
            schema["properties"][name] = {**_NUMBER, "description": quantity.label}
        for name in planned:
            description = "with the planned irrigation; of the outlook only"
            schema["properties"][name] = {**_NUMBER, "description": description}
        if quantity.in_percent:
            for name in [*numbers_named(quantity).values(), *planned]:
                schema["properties"][f"{name}_percent"] = _NUMBER
    schema["properties"]["days_left"] = {
        **_NUMBER,
        "description": "Days until the threshold; of today only.",
    }
    schema["properties"]["outlook"] = {
        "type": "array",
        "items": {"$ref": "#/components/schemas/Daily"},
        "description": "The days after today; of today only.",
    }
    schema["oneOf"] = [
        {
            "properties": {"quantity": {"const": quantity.name}, "unit": {"const": quantity.unit}},
            "required": [*numbers_named(quantity).values(), f"pass_{quantity.column}"],
        }
        for quantity in RETRIEVED.values()
    ]
    return schema


_VALUES = {
    "type": "object",
    "properties": {"values": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}}},
    "required": ["values"],
}
_REFUSALS = {
    "400": "not readable",
    "401": "a token is needed",
    "404": "no such paddock",
    "408": "the body came too slowly",
    "413": "the body is too large",
    "415": "another content type is needed",
    "421": "not a name of this gateway",
    "422": "readable, but not what it should be",
    "429": "too many requests",
    "503": "not now",
}


def document(title: str) -> dict[str, Any]:
    """Return the document of a gateway of this title."""
    latest, series = _parameters(LatestParameters), _parameters(HistoryParameters)
    json = {"application/json": {"schema": _VALUES}}
    table = {
        "required": True,
        "content": {"text/csv": {"schema": {**_TEXT, "description": "a table, README"}}},
    }
    other = {"type": "object"}
    paths: dict[str, Any] = {
        "/v1/acquisitions": {
            "post": _operation("Put a table into the spool", 202, _of({
                "digest": _TEXT, "rows": _COUNT, "left_out": {"type": "array", "items": _TEXT},
            }), body=table),
        },
        "/v1/retrieve": {
            "post": _operation("Values of a table, nothing stored", 200, json, body=table)
        },
        "/v1/probes": {
            "post": _operation("Readings of sensors", 201, _of({"readings": _COUNT}), body={
                "required": True,
                "content": {"application/json": {"schema": json_schema(ProbeMessage)}},
            }),
        },
        "/v1/rain": {
            "post": _operation("Rain, into the spool", 202, _of({"days": _COUNT}), body={
                "required": True,
                "content": {
                    "application/json": {"schema": json_schema(RainMessage)},
                    "text/csv": {"schema": {**_TEXT, "description": "a weather file"}},
                },
            }),
        },
        "/v1/irrigation": {
            "post": _operation("Irrigation, into the spool", 202, _of({"rows": _COUNT}), body={
                "required": True,
                "content": {
                    "application/json": {"schema": json_schema(IrrigationMessage)},
                    "text/csv": {"schema": {**_TEXT, "description": "paddock, date, mm"}},
                },
            }),
        },
        "/v1/arrivals": {"get": _operation("The newest files taken", 200, _of({
            "arrivals": {"type": "array", "items": other}}))},
        "/v1/ngsi-ld": {
            "get": _operation(
                "Present states as AgriParcelRecord, NGSI-LD",
                200,
                {"application/ld+json": {"schema": {"type": "array", "items": other}}},
            )
        },
        "/v1/sensorthings": {
            "get": _operation(
                "Present states as Things of OGC SensorThings 1.1",
                200,
                _of({"value": {"type": "array", "items": other}}),
            )
        },
        "/metrics": {
            "get": _operation("For Prometheus", 200, {"text/plain": {"schema": _TEXT}})
        },
        "/health": {"get": _operation("Health of the gateway", 200, {
            "application/json": {"schema": answer_schema(Health)}})},
        "/openapi.json": {"get": _operation("This document", 200, _of({"openapi": _TEXT}))},
    }  # fmt: skip
    forms: dict[str, dict[str, Any]] = {
        "": json,
        ".csv": {"text/csv": {"schema": _TEXT}},
        ".geojson": {"application/geo+json": {"schema": _of({
            "type": {"const": "FeatureCollection"},
            "features": {"type": "array", "items": other},
        })["application/json"]["schema"]}},
    }  # fmt: skip
    days = _of({"values": {"type": "array", "items": {"$ref": "#/components/schemas/Daily"}}})
    for end, content in {"": days, ".csv": forms[".csv"]}.items():
        paths[f"/v1/daily{end}"] = {
            "get": _operation(
                "Values of days", 200, content, parameters=_parameters(DailyParameters)
            )
        }
    for end, content in forms.items():
        paths[f"/v1/latest{end}"] = {
            "get": _operation("Present states", 200, content, parameters=latest)
        }
        paths[f"/v1/history{end}"] = {
            "get": _operation("One paddock's series", 200, content, parameters=series)
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{title} (kgsm gateway)", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Record": _record(), "Daily": _daily()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _parameters(kind: type) -> list[dict[str, Any]]:
    """Return the parameters of an address from the dataclass that reads them."""
    schema = json_schema(kind)
    found = []
    for name, of in schema["properties"].items():
        if isinstance(of["type"], list):  # a text of a URL is never null
            of = {**of, "type": of["type"][0]}
        required = name in schema["required"]
        found.append({"name": name, "in": "query", "schema": of, "required": required})
    return found


def _of(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"application/json": {"schema": schema}}


def _operation(
    summary: str,
    status: int,
    content: dict[str, Any],
    *,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    refused = {
        "application/json": {
            "schema": {"type": "object", "properties": {"error": _TEXT}, "required": ["error"]}
        }
    }
    found: dict[str, Any] = {
        "summary": summary,
        "responses": {
            str(status): {"description": summary, "content": content},
            **{code: {"description": why, "content": refused} for code, why in _REFUSALS.items()},
        },
    }
    if parameters:
        found["parameters"] = parameters
    if body:
        found["requestBody"] = body
    return found
