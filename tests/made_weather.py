"""Stand-ins for weather services on the loopback, which answer in the services' formats."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np

from kgsm_infer.prepare.weather_services import SERVICES


def rain_of(day):
    """Rain of a day, from its date alone."""
    return float(np.datetime64(day).astype(int) % 7)


def days_of(first, last):
    return np.arange(np.datetime64(first), np.datetime64(last) + 1).astype(str).tolist()


def open_meteo(query):
    days = days_of(query["start_date"], query["end_date"])
    return {
        "latitude": float(query["latitude"]),
        "longitude": float(query["longitude"]),
        "utc_offset_seconds": 36000,
        "timezone": "Australia/Sydney",
        "daily_units": {
            "time": "iso8601",
            "precipitation_sum": "mm",
            "et0_fao_evapotranspiration": "mm",
            "temperature_2m_mean": "°C",
        },
        "daily": {
            "time": days,
            "precipitation_sum": [None if d == "2024-06-29" else rain_of(d) for d in days],
            "et0_fao_evapotranspiration": [4.5] * len(days),
            "temperature_2m_mean": [15] * len(days),
        },
    }


def power(query):
    def dashed(text):
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"

    days = days_of(dashed(query["start"]), dashed(query["end"]))
    keys = [day.replace("-", "") for day in days]
    rain = [-999.0 if day >= "2024-06-28" else rain_of(day) for day in days]
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [146.5, -35.0, 127.4]},
        "properties": {
            "parameter": {
                "PRECTOTCORR": dict(zip(keys, rain, strict=True)),
                "T2M": dict.fromkeys(keys, 12.5),
            }
        },
        "header": {"title": "NASA/POWER", "fill_value": -999.0, "time_standard": "LST"},
        "messages": [],
        "parameters": {"PRECTOTCORR": {"units": "mm/day"}, "T2M": {"units": "C"}},
    }


def silo(query):
    assert query["username"] == "a@b.example" and set(query["comment"]) == set("RFXN")
    start, finish = (f"{query[k][:4]}-{query[k][4:6]}-{query[k][6:]}" for k in ("start", "finish"))
    return {
        "location": {"latitude": -34.8, "longitude": 146.3, "reference": "RFXN"},
        "extracted": 20240630,
        "data": [
            {
                "date": day,
                "variables": [
                    {"source": 25, "value": rain_of(day), "variable_code": "daily_rain"},
                    {"source": 26, "value": 4.5, "variable_code": "et_short_crop"},
                    {"source": 25, "value": 20.0, "variable_code": "max_temp"},
                    {"source": 25, "value": 10.0, "variable_code": "min_temp"},
                ],
            }
            for day in days_of(start, finish)
        ],
    }


ANSWERS = {"open-meteo": open_meteo, "power": power, "silo": silo}


@contextmanager
def serving(name, change=lambda answer: answer, statuses=()):
    """Serve a service; ``statuses`` are the first answers' codes. Yields it and the queries."""
    asked, codes = [], list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            query = {key: value[0] for key, value in parse_qs(parts.query).items()}
            asked.append((parts.path, query))
            code = codes.pop(0) if codes else 200
            body = change(ANSWERS[name](query)) if code == 200 else {"reason": "not today"}
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    root = f"http://127.0.0.1:{server.server_port}"
    service = replace(SERVICES[name], urls={api: f"{root}/{api}" for api in SERVICES[name].urls})
    try:
        yield service, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
