"""A small STAC catalogue made of rasters whose numbers are known, and a server that may fail."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pystac
import rasterio

LEFT, TOP, STEP, SIDE = 500_000, 5_000_000, 10, 60
CRS = "EPSG:32633"
BOX = (15.0, 45.1481, 15.0076, 45.1535)  # 600 m; the rasters' own place
#: Day, relative orbit, direction, gamma0 of VH.
PASSES = (
    ("2024-03-04T05:30:00", 22, "descending", 0.010),
    ("2024-03-10T16:50:00", 44, "ascending", 0.012),
    ("2024-03-16T05:30:00", 22, "descending", 0.014),
)
IMAGES = (("2024-03-01T10:00:00", "sentinel-2b", 0.6), ("2024-03-12T09:50:00", "landsat-9", 0.7))


def raster(path: Path, values: np.ndarray, nodata: float | None = None, **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(STEP, 0, more.pop("left", LEFT), 0, -STEP, TOP)
    bands = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=values.dtype,
        count=len(bands),
        height=bands.shape[1],
        width=bands.shape[2],
        crs=CRS,
        transform=transform,
        nodata=nodata,
        **more,
    ) as dataset:
        dataset.write(bands)
    return path


def multihash(path: Path) -> str:
    return "1220" + hashlib.sha256(path.read_bytes()).hexdigest()


def item(name: str, when: str, files: dict[str, Path], **properties) -> pystac.Item:
    west, south, east, north = BOX
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    made = pystac.Item(
        name,
        {"type": "Polygon", "coordinates": [ring]},
        list(BOX),
        np.datetime64(when).astype("datetime64[s]").item(),
        properties,
    )
    for key, path in files.items():
        extra = {"file:checksum": multihash(path), "file:size": path.stat().st_size}
        made.add_asset(key, pystac.Asset(str(path), media_type="image/tiff", extra_fields=extra))
    return made


def items_in(folder: Path) -> list[tuple[str, pystac.Item]]:
    """(collection, item): three radar passes of two orbits, an image of each vegetation sensor."""
    ones = np.ones((SIDE, SIDE), np.float32)
    made = []
    for when, orbit, state, vh in PASSES:
        name = f"S1A_{orbit}_{when[:10]}"
        gamma = ones * np.float32(vh)
        gamma[:6] = -32768
        files = {
            "vh": raster(folder / name / "vh.rtc.tif", gamma, -32768),
            "vv": raster(folder / name / "vv.rtc.tif", gamma * 4, -32768 * 4),
            "angle": raster(folder / name / "angle.tif", ones * 38),
        }
        facts = {"sat:relative_orbit": orbit, "sat:orbit_state": state, "platform": "sentinel-1a"}
        made.append(("sentinel-1-rtc", item(name, when, files, **facts)))
    for when, platform, ndvi in IMAGES:
        name, total = f"{platform}_{when[:10]}", 0.4
        nir, red = total * (1 + ndvi) / 2, total * (1 - ndvi) / 2
        sentinel = platform.startswith("sentinel")
        keys = ("B04", "B08", "SCL") if sentinel else ("red", "nir08", "qa_pixel")
        scale, offset = (1e-4, -0.1) if sentinel else (2.75e-5, -0.2)
        quality = np.full((SIDE, SIDE), 4 if sentinel else 21824, np.uint16)
        quality[20:30] = 9 if sentinel else 22280  # cloud
        stored = [
            np.full((SIDE, SIDE), round((value - offset) / scale), np.uint16)
            for value in (red, nir)
        ]
        files = {
            key: raster(folder / name / f"{key}.tif", values)
            for key, values in zip(keys, [*stored, quality], strict=True)
        }
        facts = {"platform": platform}
        if sentinel:
            facts["s2:processing_baseline"] = "05.10"
        collection = "sentinel-2-l2a" if sentinel else "landsat-c2-l2"
        made.append((collection, item(name, when, files, **facts)))
    return made


def static_catalogue(folder: Path) -> Path:
    """``catalog.json`` with a collection for each kind, items in it."""
    catalogue = pystac.Catalog("home", "made by a test")
    for collection_id, one in items_in(folder / "data"):
        collection = catalogue.get_child(collection_id)
        if collection is None:
            extent = pystac.Extent(
                pystac.SpatialExtent([list(BOX)]), pystac.TemporalExtent([[one.datetime, None]])
            )
            collection = pystac.Collection(collection_id, "made by a test", extent)
            catalogue.add_child(collection)
        collection.add_item(one)
    catalogue.normalize_hrefs(str(folder))
    catalogue.make_all_asset_hrefs_relative()
    catalogue.save(pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


@dataclass
class Faults:
    """What the server does wrong. busy: answers 503 so many times. cut: ends files after so many
    bytes, so many times. ranges: whether it serves parts. refused: end of an address and the status
    that answers it."""

    busy: int = 0
    cut: int = 0
    cut_times: int = 0
    ranges: bool = True
    refused: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class _Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def __init__(self, catalogue: Path, faults: Faults, *rest) -> None:
        self.catalogue, self.faults = catalogue, faults
        super().__init__(*rest)

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._file(head=True)

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        self.faults.asked.append(f"{where.path} {self.headers.get('Range', '')}".strip())
        if self.faults.busy > 0:
            self.faults.busy -= 1
            self.send_error(503)
        elif where.path == "/":
            self._json(self._landing())
        elif where.path == "/search":
            self._search({key: value[0] for key, value in parse_qs(where.query).items()})
        elif where.path == "/sign":
            href = parse_qs(where.query)["href"][0]
            self._json({"href": f"{href}?signed=yes"})
        else:
            self._file()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.faults.asked.append(self.path)
        if self.faults.busy > 0:
            self.faults.busy -= 1
            self.send_error(503)
        else:
            self._search(json.loads(body))

    def _base(self) -> str:
        return "http://{}:{}".format(*self.server.server_address)

    def _landing(self) -> dict:
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "loopback",
            "description": "made by a test",
            "conformsTo": [
                "https://api.stacspec.org/v1.0.0/core",
                "https://api.stacspec.org/v1.0.0/item-search",
            ],
            "links": [
                {"rel": "self", "href": self._base() + "/", "type": "application/json"},
                {"rel": "root", "href": self._base() + "/", "type": "application/json"},
                {"rel": "search", "href": self._base() + "/search", "method": "POST"},
            ],
        }

    def _search(self, asked: dict) -> None:
        """Items of the collections asked for, two a page; the box is left to the client."""
        found = []
        for one in pystac.Catalog.from_file(str(self.catalogue)).get_items(recursive=True):
            if asked.get("collections") and one.collection_id not in asked["collections"]:
                continue
            entry = one.to_dict(include_self_link=False, transform_hrefs=False)
            for asset in entry["assets"].values():
                path = (Path(one.get_self_href()).parent / asset["href"]).resolve()
                root = self.catalogue.parent.resolve()
                asset["href"] = f"{self._base()}/{path.relative_to(root)}"
            found.append({**entry, "links": []})
        found.sort(key=lambda entry: entry["id"])
        start = int(asked.get("token", 0))
        links = []
        if start + 2 < len(found):
            links = [
                {
                    "rel": "next",
                    "href": self._base() + "/search",
                    "method": "POST",
                    "body": {**asked, "token": start + 2},
                }
            ]
        page = {"type": "FeatureCollection", "features": found[start : start + 2], "links": links}
        self._json(page)

    def _json(self, content: dict) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/geo+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _file(self, head: bool = False) -> None:
        path = self.catalogue.parent / urlsplit(self.path).path.lstrip("/")
        refused = (code for end, code in self.faults.refused.items() if str(path).endswith(end))
        code = next(refused, 200 if path.is_file() else 404)
        if code != 200:
            self.send_error(code)
            return
        content, first = path.read_bytes(), 0
        asked = self.headers.get("Range") if self.faults.ranges else None
        if asked:
            low, _, high = asked.removeprefix("bytes=").partition("-")
            first, last = int(low), int(high) + 1 if high else len(content)
            content = content[first:last]
        self.send_response(206 if asked else 200)
        if asked:
            size = path.stat().st_size
            span = f"bytes {first}-{first + len(content) - 1}/{size}"
            self.send_header("Content-Range", span)
        self.send_header("Content-Length", str(len(content)))
        if self.faults.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if head:
            return
        if self.faults.cut_times > 0 and len(content) > self.faults.cut:
            self.faults.cut_times -= 1
            content = content[: self.faults.cut]
        self.wfile.write(content)


@contextmanager
def served(catalogue: Path, faults: Faults) -> Iterator[str]:
    """The catalogue as an API on the loopback; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Api, catalogue, faults))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield "http://{}:{}/".format(*server.server_address)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
