"""Classify STAC items: a radar pass with γ⁰ or σ⁰, a vegetation image, or neither.

Nothing is guessed: state the form of a radar collection that is not known here. An item that does
not state its relative orbit is left out with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.errors import UsageError
from ..tables.dates import utc_seconds
from ..tables.keys import canonical_orbit
from ..tables.passes import in_one_pass
from ..tables.text_column import shorten
from .catalogue import MALFORMED, flat_box, time_of, unreadable
from .download import asset_of
from .manifests import FORMS

#: Collections whose numbers are known: Planetary Computer, Digital Earth Africa, OPERA.
KNOWN_RADAR = {
    "sentinel-1-rtc": "gamma0",
    "s1_rtc": "gamma0",
    "opera-rtc-s1": "gamma0",
    "OPERA_L2_RTC-S1_V1": "gamma0",
}
#: Assets (or bands of one asset), any case.
RADAR_BANDS = {
    "vh": ("vh",),
    "vv": ("vv",),
    "angle": ("angle", "incidence_angle", "inc_map_ell"),
}
OPTICAL_BANDS = {
    "sentinel-2": {"red": ("b04", "red"), "nir": ("b08", "nir"), "quality": ("scl",)},
    "landsat": {"red": ("red",), "nir": ("nir08", "nir"), "quality": ("qa_pixel",)},
}
#: Properties that state the version of an item's processing.
_VERSIONS = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
_VERSION_IN_NAME = re.compile(r"_(?:N(\d{4})|v(\d+(?:\.\d+)*))(?=_|$)")
#: A tile of Sentinel-2, a path and row of Landsat or a burst of Sentinel-1 in an item's id.
_TILE = re.compile(r"(?:^|_)(T?\d{2}[A-Z]{3}|L[CETO]0\d_\w{4}_\d{6}|T\d{3}-\d{6}-IW\d)(?=_|$)")
#: A day, or a time, in an item's id.
_STAMP = re.compile(r"(?<![0-9])((?:19|20)\d{6}(?:T\d{6})?)Z?(?![0-9])")


@dataclass(frozen=True)
class ItemGroup:
    """Items of one pass (radar) or of one sensor and day (vegetation).

    kind: "radar", "sentinel-2" or "landsat".  stem: of its files, ``S1A_…_022D``.
    bands: layer to band, by item.  form: one of manifests.FORMS; "" for vegetation.
    offsets: what is added to each item's stored numbers, BOA_ADD_OFFSET of Sentinel-2.
    scenes: what each item shows; items that share one are versions of it, the newest first.
    """

    kind: str
    stem: str
    time: np.datetime64
    items: tuple[Any, ...]
    bands: tuple[Mapping[str, str], ...]
    form: str = ""
    offsets: tuple[float, ...] = ()
    scenes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sorted:
    """acquisitions in order of time; left_out: item id and why."""

    acquisitions: tuple[ItemGroup, ...]
    left_out: Mapping[str, str]


def sort_items(
    items: Sequence[Any], radar: str | None = None, boa_offset: float | None = None
) -> Sorted:
    """Group items by acquisition.

    radar: one of manifests.FORMS, for unknown collections.  boa_offset: of Sentinel-2 items that
    do not state their processing baseline.
    """
    if radar is not None and radar not in FORMS:
        raise UsageError(f"--radar {radar!r} is not one of {', '.join(FORMS)}")
    left_out: dict[str, str] = {}
    groups: dict[tuple[str, ...], list[_KnownItem]] = {}
    for item in sorted(_once_each(items, left_out), key=lambda one: (time_of(one), str(one.id))):
        try:
            if not isinstance(item.id, str):
                raise TypeError("its id is not a string")
            found = _radar(item, radar) if _is_radar(item) else _optical(item, boa_offset)
            if not isinstance(found, str):
                _check_assets(item, found.bands.values())
                version_of(item), scene_of(item)
        except MALFORMED as error:
            found = unreadable(error)
        if isinstance(found, str):
            left_out[str(item.id)] = found
            continue
        key = found.key
        run = groups.get(key)
        if run and found.kind == "radar" and not in_one_pass(_seconds(run[-1].item, item)):
            groups[(*key, run[0].item.id)] = groups.pop(key)
        groups.setdefault(key, []).append(found)
    made = [_acquisition(run, boa_offset) for run in groups.values()]
    return Sorted(tuple(sorted(made, key=lambda one: (one.time, one.stem))), left_out)


def _once_each(items: Sequence[Any], left_out: dict[str, str]) -> list[Any]:
    """Return the newest item of each id; ``left_out`` gains the others of several collections."""
    by_id: dict[str, Any] = {}
    for item in items:
        other = by_id.setdefault(str(item.id), item)
        if other is item or other.collection_id == item.collection_id:
            continue  # a page of a search may repeat items of the page before
        try:
            newer, older = (item, other) if version_of(item) > version_of(other) else (other, item)
        except MALFORMED:
            newer, older = other, item
        by_id[str(item.id)] = newer
        left_out[f"{item.id} of {older.collection_id}"] = (
            f"has the id of an item of {newer.collection_id}, which is used"
        )
    return list(by_id.values())


def band_named(item: Any, names: Sequence[str]) -> str | None:
    """Find the band of an item by any of its names: an asset, or ``asset.2`` of one with several.

    Band names are read from ``bands`` (STAC 1.1) or ``eo:bands``.
    """
    for key in item.assets:
        if key.lower() in names:
            return str(key)
    for key, asset in item.assets.items():
        bands = asset.extra_fields.get("bands") or asset.extra_fields.get("eo:bands") or ()
        for number, band in enumerate(bands, start=1):
            if str(band.get("name", "")).lower() in names:
                return f"{key}.{number}" if len(bands) > 1 else str(key)
    return None


def asset_name(item: Any, band: str) -> str:
    """Return the asset a band lies in: ``file`` of ``file.2``."""
    return band if band in item.assets else band.rpartition(".")[0]


def nodata_of(item: Any, band: str) -> float | None:
    """Return the nodata value that an item states of a band; None where it states none."""
    asset = item.assets[asset_name(item, band)]
    number = 1 if band in item.assets else int(band.rpartition(".")[2])
    for key in ("raster:bands", "bands"):
        listed = asset.extra_fields.get(key) or ()
        if len(listed) >= number and listed[number - 1].get("nodata") is not None:
            return float(listed[number - 1]["nodata"])
    stated = asset.extra_fields.get("nodata")
    return None if stated is None else float(stated)


def _check_assets(item: Any, bands: Iterable[str]) -> None:
    """Read what the catalogue states of the files behind bands; MALFORMED where it cannot be."""
    for band in bands:
        asset_of(item, asset_name(item, band))
        nodata_of(item, band)


def _is_radar(item: Any) -> bool:
    constellation = str(item.properties.get("constellation", item.properties.get("platform", "")))
    return (
        constellation.lower().startswith("sentinel-1")
        or "sar:polarizations" in item.properties
        or (item.collection_id or "") in KNOWN_RADAR
    )


@dataclass(frozen=True)
class _KnownItem:
    """An item that is read. group: what its acquisition has in common besides kind and form."""

    item: Any
    kind: str
    group: tuple[str, ...]
    mission: str
    bands: Mapping[str, str]
    form: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.kind, *self.group, self.form)


def _radar(item: Any, radar: str | None) -> _KnownItem | str:
    """Classify a radar item, or return why it is left out."""
    form = KNOWN_RADAR.get(item.collection_id or "", radar)
    bands = {name: band_named(item, names) for name, names in RADAR_BANDS.items()}
    given = {name: band for name, band in bands.items() if band is not None}
    if not {"vh", "vv"} & set(given):
        return f"has neither vh nor vv among {', '.join(item.assets)}"
    if item.collection_id == "sentinel-1-grd" and radar is None:
        return "a GRD product in radar geometry; download its SAFE and use prepare sigma0"
    if form is None:
        return (
            f"nothing says what the numbers of collection {item.collection_id} are; "
            f"--radar {' or '.join(FORMS)}"
        )
    orbit = item.properties.get("sat:relative_orbit")
    state = canonical_orbit(str(item.properties.get("sat:orbit_state", "")))
    if orbit is None or state not in ("ASCENDING", "DESCENDING"):
        return "does not say its relative orbit and direction (sat:relative_orbit, sat:orbit_state)"
    if isinstance(orbit, bool) or not (1 <= float(orbit) <= 175 and float(orbit).is_integer()):
        return f"its sat:relative_orbit {shorten(orbit)} is not a whole number from 1 to 175"
    mission = re.search(r"(?i)s(?:entinel-)?1([a-d])", item.properties.get("platform") or item.id)
    name = f"S1{mission[1].upper()}" if mission else "S1A"
    track = f"{int(float(orbit)):03d}{state[0]}"
    return _KnownItem(item, "radar", (name, track), name, given, form)


def _optical(item: Any, boa_offset: float | None) -> _KnownItem | str:
    """Classify an optical item, or return why it is left out."""
    platform = str(item.properties.get("platform") or "").lower()
    where = f"{platform} {item.properties.get('constellation', '')} {item.collection_id}".lower()
    kind = next((kind for kind in OPTICAL_BANDS if kind in where), None)
    if kind is None:
        return f"is of no known kind (platform {platform or 'not said'})"
    if kind == "sentinel-2" and _LEVEL_1C.search(_names(item)):
        return "is Sentinel-2 Level 1C, of the top of the atmosphere; Level 2A is read"
    bands = {name: band_named(item, names) for name, names in OPTICAL_BANDS[kind].items()}
    given = {name: band for name, band in bands.items() if band is not None}
    missing = [name for name in bands if name not in given]
    if missing:
        return f"{kind} without {' and '.join(missing)} among {', '.join(item.assets)}"
    if kind == "landsat" and (why := _no_level_2(item)):
        return why
    if kind == "sentinel-2" and boa_offset_of(item, boa_offset) is None:
        return (
            "does not state its processing baseline (s2:processing_baseline), on which the offset "
            "of its reflectance depends; pass --boa-offset -1000 or 0"
        )
    day = str(time_of(item).astype("datetime64[D]"))
    short = "S2" if kind == "sentinel-2" else "L"
    number = re.search(r"(\d+[a-d]?)$", platform.replace("sentinel-2", ""))
    letter = platform[-1:].upper() if kind == "sentinel-2" else (number[1] if number else "")
    return _KnownItem(item, kind, (day,), f"{short}{letter}", given)


def boa_offset_of(item: Any, stated: float | None = None) -> float | None:
    """Return BOA_ADD_OFFSET of a Sentinel-2 item in stored numbers, None where it is not known.

    -1000 from processing baseline 04.00 on (ESA, Sentinel-2 Products Specification Document),
    0 before, and where the archive has applied it (Earth Search says so).  stated: for items that
    do not state a baseline.
    """
    known = item.properties
    applied = (known.get(f"{name}:boa_offset_applied") for name in ("earthsearch", "sentinel"))
    if any(str(value).lower() in ("true", "1") for value in applied):
        return 0.0
    for key in _VERSIONS:
        try:
            baseline = float(str(known.get(key)).lstrip("Nv"))
        except ValueError:
            continue
        if baseline > 99:  # 0509 of names; 99.99 is a test run of unknown baseline
            baseline /= 100
        if 0 < baseline < 90:
            return -1000.0 if baseline >= 4.0 else 0.0
    return stated


def version_of(item: Any) -> tuple[Any, ...]:
    """Return a sort key of an item's processing, greatest for the newest.

    Deprecated items come before others; then the version of the processing, the time of it, and
    the time the item was created and updated count. What an item does not state counts least.
    """
    known = item.properties
    stated = next((str(known[key]) for key in (*_VERSIONS, "version") if known.get(key)), "")
    number = _VERSION_IN_NAME.search(str(item.id)) if not stated else None
    digits = re.findall(r"\d+", (number[1] or number[2]) if number else stated)
    if len(digits) == 1 and len(digits[0]) == 4:  # 0510 of names is 05.10
        digits = [digits[0][:2], digits[0][2:]]
    times = [
        utc_seconds(str(known[key])[:19]) if known.get(key) else None
        for key in ("s2:generation_time", "processing:datetime", "created", "updated")
    ]
    stamps = _STAMP.findall(str(item.id))
    return (
        str(known.get("deprecated")).lower() != "true",
        tuple(map(int, digits)),
        tuple(-1 if time is None else time for time in times),
        str(known.get("s2:sequence", "")),
        stamps[-1] if len(stamps) > 1 else "",
    )


def scene_of(item: Any) -> str:
    """Return what an item shows: its tile, or else its bounds, and the time to the minute.

    Versions of one scene share it. The start of sensing in the id counts before the item's time,
    which services define in several ways.
    """
    tile = _TILE.search(str(item.id))
    named = tile[1] if tile else str(item.properties.get("s2:mgrs_tile") or "")
    place = named or " ".join(f"{value:.2f}" for value in flat_box(item.bbox or (0, 0, 0, 0)))
    stamps = _STAMP.findall(str(item.id))
    when = stamps[0] if stamps and "T" in stamps[0] else str(time_of(item))[:16]
    return f"{place} {when}"


_LEVEL_1C = re.compile(r"msil1c|\bl1c\b|[-_]l1c\b|level-1c")


def _names(item: Any) -> str:
    """Return what an item and its files are called, in lower case."""
    names = [str(item.properties.get("processing:level", "")), str(item.collection_id or "")]
    names += [str(item.properties.get("s2:product_type", "")), item.id]
    names += [asset.href.rpartition("/")[2] for asset in item.assets.values()]
    return " ".join(names).lower()


def _no_level_2(item: Any) -> str:
    """Explain why a Landsat item is not surface reflectance; "" where it is."""
    correction = str(item.properties.get("landsat:correction", ""))
    level = str(item.properties.get("processing:level", ""))
    said = f"{correction} {_names(item)}".lower()
    if re.search(r"\bl1(tp|gt|gs|c)?\b|[_-]l1(tp|gt|gs)?[_-]|level-1|[-_]l1\b", said):
        return f"is Landsat Level 1 ({correction or level or item.collection_id}), not Level 2"
    if re.search(r"l2s[pr]|level-2|\bl2\b|[-_]l2\b|_sr_|surface_reflectance", said):
        return ""
    return "does not state its level; Landsat Collection 2 Level 2 (L2SP, L2SR) is read"


def _acquisition(run: list[_KnownItem], boa_offset: float | None) -> ItemGroup:
    """Make an acquisition of items in order of time."""
    first = run[0]
    time = time_of(first.item)
    stamp = re.sub(r"[-:]", "", str(time))
    end = f"_{first.group[1]}" if first.kind == "radar" else ""
    run = _newest_first(run)
    items = tuple(one.item for one in run)
    offsets = tuple(0.0 for _ in items)
    if first.kind == "sentinel-2":
        offsets = tuple(boa_offset_of(item, boa_offset) or 0.0 for item in items)
    return ItemGroup(
        first.kind,
        f"{first.mission}_{stamp}{end}",
        time,
        items,
        tuple(one.bands for one in run),
        first.form,
        offsets,
        tuple(map(scene_of, items)),
    )


def _newest_first(run: list[_KnownItem]) -> list[_KnownItem]:
    """Sort versions of one scene by their processing, the newest first, and scenes by time."""
    scenes: dict[str, list[_KnownItem]] = {}
    for one in run:
        scenes.setdefault(scene_of(one.item), []).append(one)
    return [
        one
        for versions in scenes.values()
        for one in sorted(versions, key=lambda one: version_of(one.item), reverse=True)
    ]


def _seconds(one: Any, other: Any) -> float:
    return float(abs(time_of(other) - time_of(one)) / np.timedelta64(1, "s"))
