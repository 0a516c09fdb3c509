"""Find the items of a STAC catalogue over a place and within dates.

A STAC API is searched with pystac-client. A static catalogue, a file or a URL without search, is
read item by item and filtered here.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import DataError, KgsmError, MissingError, UsageError
from ..base.extras import optional
from ..base.network import open_session, retry
from ..tables.text_column import shorten

#: Seconds to wait for an answer.
TIMEOUT_S = 60.0

#: What a value of another type or form raises, wherever it is used.
MALFORMED = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)

Box = tuple[float, float, float, float]


class ServerError(MissingError):
    """A server does not answer, refuses, or ends its answer early."""


@dataclass(frozen=True)
class Search:
    """Search terms. box: west, south, east, north, degrees. start, end: days, inclusive.
    collections: ids; () for all of the catalogue."""

    box: Box
    start: np.datetime64
    end: np.datetime64
    collections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """items: pystac items in order of time. looked_at: items read or returned. how: in words.
    left_out: id of each item whose metadata cannot be read, and why."""

    items: tuple[Any, ...]
    looked_at: int
    how: str
    left_out: Mapping[str, str] = field(default_factory=dict)


def day(text: str, option: str) -> np.datetime64:
    """Parse the day of an option; UsageError for anything else."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return np.datetime64(text, "D")
    except ValueError:
        pass
    raise UsageError(f"{option} {text!r} is not a date; write 2024-03-04")


def check_days(start: np.datetime64, end: np.datetime64) -> None:
    """Raise UsageError where the first day lies after the last."""
    if start > end:
        raise UsageError(f"--from {start} lies after --to {end}")


def find(source: str | Path, search: Search) -> Found:
    """Find items. DataError where the source is not a catalogue, is broken or has no match;
    MissingError where it cannot be reached."""
    pystac_client = optional("pystac_client", what="reading a catalogue")
    check_days(search.start, search.end)
    remote = "://" in str(source)
    if not remote:
        source = Path(source)
        if source.is_dir():
            source = source / "catalog.json"
        if not source.is_file():
            raise DataError(f"{source}: no such file; name a STAC catalogue (catalog.json) or API")
    left_out: dict[str, str] = {}
    with name_the_source(source):
        client = pystac_client.Client.open(str(source), stac_io=stac_io())
        searchable = remote and bool(client.get_links("search"))
        if searchable:
            found, looked_at = _search_items(client, search, left_out)
        else:
            found, looked_at = _read(client, search, left_out)
    if not found:
        what = f"{looked_at} items, none" if looked_at else "no item"
        named = [f"; {shorten(name)} {why}" for name, why in left_out.items()]
        raise DataError(
            f"{source}: holds {what} over {_words(search.box)} from {search.start} to {search.end}"
            + (f" in {', '.join(search.collections)}" if search.collections else "")
            + "".join(named[:1])
        )
    found.sort(key=lambda item: (time_of(item), str(item.id)))
    way = "asked its search" if searchable else "read item by item"
    return Found(tuple(found), looked_at, way, left_out)


def time_of(item: Any) -> np.datetime64:
    """Return when an item was acquired, UTC: its datetime, else its start."""
    when = item.datetime or item.common_metadata.start_datetime
    if when is None:
        raise DataError(f"{item.get_self_href() or item.id}: has no datetime")
    if when.tzinfo is not None:
        when = when.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(when, "s")


def unsigned(href: str) -> str:
    """Return an address as it is, for a catalogue whose files need no signature."""
    return href


def signer(source: str | Path, url: str | None = None) -> Callable[[str], str]:
    """Return a function that signs an href: ``GET url?href=…`` answers with the signed one.

    Planetary Computer's signer needs no account and is the default for its catalogue.
    """
    if url is None and "planetarycomputer.microsoft.com" in str(source):
        url = "https://planetarycomputer.microsoft.com/api/sas/v1/sign"
    if url is None:
        return unsigned
    http = open_session("prepare")

    def signed(href: str) -> str:
        with name_the_source(url):
            answer = http.get(url, params={"href": href}, timeout=TIMEOUT_S)
            answer.raise_for_status()
        try:
            return str(answer.json()["href"])
        except (LookupError, TypeError, ValueError):
            raise ServerError(f"{url}: its answer holds no signed href") from None

    return signed


def flat_box(box: Sequence[float]) -> Box:
    """Return west, south, east, north of a box in two or three dimensions.

    >>> flat_box([1, 2, 0, 3, 4, 90])
    (1.0, 2.0, 3.0, 4.0)
    """
    half = len(box) // 2
    west, south, east, north = box[0], box[1], box[half], box[half + 1]
    return float(west), float(south), float(east), float(north)


def stac_io() -> Any:
    """Make pystac-client's reader with retries and a time limit; a byte order mark is left out."""
    from pystac_client.stac_api_io import StacApiIO

    class MarklessIO(StacApiIO):
        def read_text(self, source: Any, *args: Any, **options: Any) -> str:
            return str(super().read_text(source, *args, **options)).removeprefix("\ufeff")

    return MarklessIO(max_retries=retry(), timeout=TIMEOUT_S)


@contextmanager
def name_the_source(source: object) -> Iterator[None]:
    """Turn errors of catalogues and servers into one line that names the source."""
    import pystac
    import pystac_client.exceptions
    import requests
    from pystac_client.errors import ClientTypeError

    try:
        with warnings.catch_warnings():  # pystac-client on catalogues without a search
            warnings.simplefilter("ignore", UserWarning)
            yield
    except (requests.ConnectionError, requests.Timeout) as error:
        raise ServerError(f"{source}: no answer ({_why(error)}); offline?") from None
    except requests.RequestException as error:
        raise ServerError(f"{source}: {_why(error)}") from None
    except pystac_client.exceptions.APIError as error:
        cause = error.__cause__ or error.__context__ or error
        offline = "" if getattr(error, "status_code", None) else "; offline?"
        raise ServerError(f"{source}: no usable answer ({_why(cause)}){offline}") from None
    except FileNotFoundError as error:
        raise DataError(f"{source}: names {error.filename or error}, which is not there") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: not whole JSON ({_why(error)})") from None
    except pystac.STACError as error:
        named = re.search(r"HREF: '([^']+)'", str(error))
        if named is None or "://" in named[1]:
            raise DataError(f"{source}: not a STAC catalogue ({_why(error)})") from None
        if not Path(named[1]).is_file():
            raise DataError(f"{source}: names {named[1]}, which is not there") from None
        raise DataError(f"{named[1]}: not a STAC object, or not whole JSON") from None
    except (pystac.STACTypeError, ClientTypeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{source}: not a STAC catalogue ({_why(error)})") from None


def _search_items(client: Any, search: Search, left_out: dict[str, str]) -> tuple[list[Any], int]:
    found = client.search(
        bbox=search.box,
        datetime=f"{search.start}T00:00:00Z/{search.end}T23:59:59Z",
        collections=list(search.collections) or None,
        max_items=None,
    )
    items = [item for item in found.items() if _fits(item, search, left_out)]
    return items, len(items)


def _read(client: Any, search: Search, left_out: dict[str, str]) -> tuple[list[Any], int]:
    children = _linked(client, client.get_child_links(), left_out)
    unknown = sorted(set(search.collections) - {child.id for child in children})
    if unknown and children:
        raise DataError(
            f"{client.get_self_href()}: has no collection {unknown[0]}; "
            f"it has {', '.join(sorted(child.id for child in children))}"
        )
    items, looked_at = [], 0
    for item in _items_below(client, children, left_out):
        looked_at += 1
        if _fits(item, search, left_out):
            items.append(item)
    return items, looked_at


def _items_below(catalogue: Any, children: list[Any], left_out: dict[str, str]) -> Iterator[Any]:
    """Yield the readable items of a catalogue and of those below it, each catalogue once."""
    yield from _linked(catalogue, catalogue.get_item_links(), left_out)
    known, waiting = {catalogue.get_self_href()}, [*children]
    while waiting:
        child = waiting.pop(0)
        if child.get_self_href() in known:  # a link may lead back up
            continue
        known.add(child.get_self_href())
        yield from _linked(child, child.get_item_links(), left_out)
        waiting += _linked(child, child.get_child_links(), left_out)


def _linked(catalogue: Any, links: Sequence[Any], left_out: dict[str, str]) -> list[Any]:
    """Read the objects that links name; ``left_out`` gains those that cannot be read."""
    found = []
    for link in links:
        href = str(link.get_absolute_href() or link.href)
        try:
            with name_the_source(href):
                found.append(link.resolve_stac_object(root=catalogue.get_root()).target)
        except KgsmError as error:
            left_out[href] = str(error).removeprefix(f"{href}: ")
        except MALFORMED as error:
            left_out[href] = unreadable(error)
    return found


def unreadable(error: Exception) -> str:
    """Say that the metadata of an item have another form than STAC's."""
    return f"its metadata cannot be read ({type(error).__name__}: {shorten(error, 100)})"


def _fits(item: Any, search: Search, left_out: dict[str, str]) -> bool:
    """Return True for an item over the place, within the days and in a requested collection.

    left_out: gains the items whose metadata cannot be read.
    """
    try:
        return _matches(item, search)
    except MALFORMED as error:
        left_out[str(item.id)] = unreadable(error)
    except DataError as error:  # it has no time or no place
        left_out[str(item.id)] = str(error)
    return False


def _matches(item: Any, search: Search) -> bool:
    if search.collections and item.collection_id not in search.collections:
        return False
    if item.bbox is None:
        raise DataError("its place is not known: it has no bbox")
    box = flat_box(item.bbox)
    west, south, east, north = search.box
    apart = box[3] < south or box[1] > north
    apart = apart or not meet_in_longitude((west, east), (box[0], box[2]))
    when = time_of(item).astype("datetime64[D]")
    return bool(not apart and search.start <= when <= search.end)


def meet_in_longitude(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return True where two ranges of longitude (west, east) have a meridian in common.

    A west above its east lies across 180 degrees (RFC 7946 section 5.2).

    >>> meet_in_longitude((179.9, -179.9), (-180, -179)), meet_in_longitude((354, 355), (-6, -5))
    (True, True)
    >>> meet_in_longitude((179.9, -179.9), (10, 20))
    False
    """

    def width_deg(west: float, east: float) -> float:
        return 360.0 if east - west >= 360 else (east - west) % 360

    apart_deg = (other[0] - one[0]) % 360
    return apart_deg <= width_deg(*one) or (360 - apart_deg) % 360 <= width_deg(*other)


def _words(box: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in box)


def _why(error: BaseException) -> str:
    """Return the shortest informative line of an error."""
    text = " ".join(str(getattr(error, "reason", None) or error).split())
    text = re.sub(r"<[\w.]+ object at 0x\w+>:? ?", "", text)
    return shorten(text, 160) or type(error).__name__
