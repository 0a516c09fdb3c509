"""Prometheus metrics, made when they are asked for; the library is imported then."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..health import Process
from ..records import number_of
from .queries import Queries


def exposition(
    queries: Queries, requests: Mapping[str, int], status: Process | None = None
) -> tuple[bytes, str]:
    """Return the text and its content type. requests: answers by status."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    class Now:
        def collect(self) -> Iterator[Metric]:
            health = queries.health(status)
            rows = GaugeMetricFamily("kgsm_rows", "Rows stored", labels=["table"])
            for name, count in health["stored"].items():
                rows.add_metric([name], count)
            yield rows
            unsent = GaugeMetricFamily("kgsm_unsent", "Values not published yet", labels=["sink"])
            for sink, count in health["unsent"].items():
                unsent.add_metric([sink], count)
            yield unsent
            answers = CounterMetricFamily("kgsm_http_answers", "HTTP answers", labels=["status"])
            for code, count in sorted(requests.items()):
                answers.add_metric([code], count)
            yield answers
            yield from _health(health)
            values = queries.latest()
            yield GaugeMetricFamily(
                "kgsm_paddocks_with_number",
                "Paddocks whose present state has a number",
                sum(number_of(value) is not None for value in values),
            )
            quantity = GaugeMetricFamily(
                "kgsm_quantity",
                "Paddocks by the quantity of their values",
                labels=["quantity", "unit"],
            )
            published = Counter((value["quantity"], value["unit"]) for value in values)
            for name_and_unit, count in sorted(published.items()):
                quantity.add_metric(name_and_unit, count)
            yield quantity
            newest = queries.newest()
            if newest is not None:
                yield GaugeMetricFamily(
                    "kgsm_newest_acquisition_seconds", "Time of the newest acquisition", newest
                )
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            yield GaugeMetricFamily("kgsm_peak_memory_bytes", "Peak resident memory", peak)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Now())
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _health(health: Mapping[str, Any]) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily

    info = GaugeMetricFamily("kgsm_info", "Version of the gateway", labels=["version"])
    info.add_metric([health["version"]], 1)
    yield info
    broker, disk = health["broker"] or {}, health["disk"] or {}
    error = health["last_error"]
    gauges = {
        "kgsm_quarantined_files": ("Files in quarantine", health["quarantined"]),
        "kgsm_left_behind_files": (
            "Files that stayed in the spool at the last scan",
            health.get("left_behind"),
        ),
        "kgsm_newest_acquisition_age_days": (
            "Age of the newest acquisition",
            health["newest_age_days"],
        ),
        "kgsm_rain_age_days": (
            "Days from the newest measured rain to today",
            None if health["daily"] is None else health["daily"]["rain_age_days"],
        ),
        "kgsm_disk_free_megabytes": ("Free space for the state", disk.get("free_mb")),
        "kgsm_broker_ok": (
            "1 if the MQTT broker accepts messages",
            float(broker["state"] == "ok") if broker else None,
        ),
        "kgsm_broker_acknowledgement_age_seconds": (
            "Age of the broker's last acknowledgement",
            broker.get("acknowledged_age_s"),
        ),
        "kgsm_last_error_seconds": (
            "Time of the last error",
            None if error is None else datetime.fromisoformat(error["at"]).timestamp(),
        ),
    }
    for name, (what, number) in gauges.items():
        if number is not None:
            yield GaugeMetricFamily(name, what, number)
