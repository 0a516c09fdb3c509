"""Gateways in a folder of their own: a model, tables to drop, and the watch in this process."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from made_models import card_of, network_of, write_pair

from kgsm_infer.gateway.config import Gateway, read_gateway
from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.intake.settling import FolderEvents
from kgsm_infer.gateway.service.watch import Watch
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.kernels.wcm import Wcm

DAY = 86400


def made_model(
    folder: Path, dynamic=("doy_sin",), statics=(), name="model", history=None, probes=None,
    **sizes,
) -> Path:  # fmt: skip
    """An untrained model that reads ``vh_db``, ``ndvi``, ``angle_deg`` and these features.

    probes: the variances of its card.
    """
    wcm = Wcm(a=0.019, angle_rule="column")
    network = network_of(wcm, dynamic=len(dynamic), statics=len(statics), **sizes)
    card = card_of(network)
    names = iter([*dynamic, *statics])
    channels = tuple(
        dataclasses.replace(item, name=next(names), low=-100.0, high=200.0)
        if item.role in ("dynamic", "static")
        else item
        for item in card.channels
    )
    interval = {"level": 0.9, "lower": -0.05, "upper": 0.06}
    card = dataclasses.replace(card, channels=channels, interval=interval, probes=probes)
    folder.mkdir(parents=True, exist_ok=True)
    if history is not None:
        card = dataclasses.replace(card, history=history)
    path = folder / f"{name}.onnx"
    with TemporaryDirectory() as place:
        shutil.move(write_pair(Path(place), network, card)["complete"], path)
    return path


def made_gateway(folder: Path, text: str = "", paddocks: int = 0, model: Path | None = None):
    """Write a gateway.toml into ``folder``, with ``text`` in it, and read it.

    It serves on a free port unless ``text`` has a [serve] section: the default port may be taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = model or made_model(folder)
    head = f'name = "farm"\nmodel = "{model}"\nstable_s = 0.0\n'
    if paddocks:
        write_outlines(folder / "paddocks.geojson", paddocks)
        text += '\n[paddocks]\noutlines = "paddocks.geojson"\n'
    if "[serve]" not in text:
        text += "\n[serve]\nport = 0\n"
    (folder / "gateway.toml").write_text(head + text)
    return read_gateway(folder / "gateway.toml")


def write_outlines(path: Path, count: int) -> None:
    """Squares in a row, ``p0``, ``p1`` …, in longitude and latitude."""
    features = []
    for at in range(count):
        west, south = 143.0 + 0.01 * (at % 20), -35.0 - 0.01 * (at // 20)
        ring = [[west, south], [west + 0.008, south], [west + 0.008, south + 0.008],
                [west, south + 0.008], [west, south]]  # fmt: skip
        features.append(
            {
                "type": "Feature",
                "id": f"p{at}",
                "properties": {"clay": 20 + at, "label": f"Paddock {at}"},
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }
        )
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def columns_of(day: int, paddocks=4, *, points=1, seed=0):
    """A table of one pass, the same for the same day: ``day`` 0 is 2024-01-01."""
    random = np.random.default_rng([seed, day])
    count = paddocks * points
    date = str(np.datetime64("2024-01-01") + day)
    columns = {
        "site": [f"p{at // points}" if points == 1 else f"s{at}" for at in range(count)],
        "date": [date] * count,
        "vh_db": np.round(-19 + 3 * random.standard_normal(count).clip(-2, 2), 4).tolist(),
        "ndvi": np.round(random.uniform(0.1, 0.5, count), 4).tolist(),
        "angle_deg": np.round(random.uniform(33, 43, count), 3).tolist(),
    }
    if points > 1:
        columns["field"] = [f"p{at // points}" for at in range(count)]
    return columns


def drop(gateway: Gateway, columns, name: str) -> Path:
    """Put a table into the spool whole."""
    gateway.spool.mkdir(parents=True, exist_ok=True)
    part = gateway.spool / f".{name}.part"
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return part.rename(gateway.spool / name)


class Events(list):
    """A log that remembers."""

    def __call__(self, event, **details):
        self.append({"event": event, **details})

    def named(self, event):
        return [item for item in self if item["event"] == event]


def scanned(gateway: Gateway, *, log=None) -> Events:
    """Open the watch, take what is in the spool, close it; the events."""
    log = Events() if log is None else log
    watch = Watch(gateway, load_paddocks(gateway), log)
    watch.open()
    try:
        names = os.listdir(gateway.spool)  # each was closed after writing, as inotify reports
        events = FolderEvents(tuple((name, True) for name in names))
        watch.guarded(lambda: watch.scan(events, first=True))
    finally:
        watch.close()
    return log


def stored(gateway: Gateway):
    """(paddock, acquired, orbit) -> the newest revision's value."""
    with Store(gateway.database, read_only=True) as store:
        return store.current()
