"""Files of a catalogue: where they are, fetched whole with resume and checksum, or left where
they are and read by windows.

A remote file of up to WHOLE_MB, and any on a server without ranges, is fetched whole: it is
checked against the item's ``file:checksum`` (multihash) and ``file:size``, and a stopped
download goes on at its last byte. A larger one is read in place, only the tiles over the paddocks;
then there is nothing to check it by.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..base.errors import DataError, MissingError
from ..base.schema import LARGEST_INT, show
from .catalogue import TIMEOUT_S, ServerError, name_the_source, unsigned

#: Larger files are read by windows.
WHOLE_MB = 64
#: Bytes per piece.
PIECE = 1 << 18
#: Times a broken transfer is taken up again.
TRIES = 5

#: Multihash codes (https://multiformats.io/multihash/) that STAC files carry.
_HASHES = {0x11: "sha1", 0x12: "sha256", 0x13: "sha512", 0xD5: "md5"}


@dataclass(frozen=True)
class Asset:
    """A file of an item. href: as the catalogue says, absolute; size: bytes, or None."""

    href: str
    checksum: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Local:
    """A readable file. checked: its checksum was compared. fetched: bytes."""

    path: str
    checked: bool
    fetched: int


def asset_of(item: Any, name: str) -> Asset:
    """Return an asset of a pystac item; ValueError or TypeError where it is malformed."""
    asset = item.assets[name]
    href = asset.get_absolute_href() or asset.href
    size, checksum = (asset.extra_fields.get(f"file:{key}") for key in ("size", "checksum"))
    if checksum is not None and not isinstance(checksum, str):
        raise ValueError(f"file:checksum {checksum!r} is not a string")
    whole = isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= LARGEST_INT
    if size is not None and not whole:
        raise ValueError(f"file:size {show(size)} is not a number of bytes")
    return Asset(str(href), checksum, size)


def at_hand(
    asset: Asset,
    cache: Path,
    session: Any,
    sign: Callable[[str], str] = unsigned,
    whole_mb: float = WHOLE_MB,
) -> Local:
    """Make a file readable.

    DataError where it differs from what its catalogue states, ServerError where it cannot be
    downloaded, MissingError where the disk does not take it."""
    if "://" not in asset.href or asset.href.startswith("file://"):
        path = Path(asset.href.removeprefix("file://"))
        if not path.is_file():
            raise DataError(f"{path}: is named in the catalogue and is not there")
        _check_size(asset, path)
        return Local(str(path), _check_sum(asset, path, path), 0)
    if not asset.href.startswith(("http://", "https://")):
        return Local(asset.href, False, 0)
    url = sign(asset.href)
    size, ranges = _head(asset.href, url, session)
    if ranges and (size is None or size > whole_mb * 1e6):
        return Local(f"/vsicurl/{url}", False, 0)
    return _fetched(asset, url, cache, session)


def _fetched(asset: Asset, url: str, cache: Path, session: Any) -> Local:
    name = Path(urlsplit(asset.href).path).name or "file"
    digest = hashlib.sha256(f"{asset.href} {asset.checksum}".encode()).hexdigest()[:12]
    target, part = cache / f"{digest}_{name}", cache / f"{digest}_{name}.part"
    if target.is_file():
        return Local(str(target), asset.checksum is not None, 0)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingError(f"{cache}: cannot be made ({error.strerror or error})") from None
    fetched = 0
    for last in (*[False] * (TRIES - 1), True):
        more, whole = _piece(asset.href, url, part, session, last)
        fetched += more
        if whole:
            break
    try:
        _check_size(asset, part)
        checked = _check_sum(asset, part, Path(asset.href))
    except DataError:
        part.unlink()
        raise
    part.replace(target)
    return Local(str(target), checked, fetched)


def _piece(href: str, url: str, part: Path, session: Any, last: bool) -> tuple[int, bool]:
    """Go on with a download: bytes had, and whether it is whole. The last try says why not."""
    import requests
    import urllib3

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    fetched = 0
    try:
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
            if answer.status_code == 416:  # nothing after the last byte
                return 0, True
            if not answer.ok:
                raise ServerError(f"{href}: {answer.status_code} {answer.reason}")
            resumed = answer.status_code == 206
            expected = answer.headers.get("Content-Length")
            with open(part, "ab" if resumed else "wb") as file:
                while piece := answer.raw.read1(PIECE):  # what is there, not what is full
                    file.write(piece)
                    fetched += len(piece)
                file.flush()
                os.fsync(file.fileno())
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if not last:
            return fetched, False
        size = part.stat().st_size if part.exists() else 0
        raise ServerError(
            f"{href}: broke off after {size} bytes ({type(error).__name__}); "
            "call again to go on there"
        ) from None
    except OSError as error:
        raise MissingError(f"{part}: not written ({error.strerror or error})") from None
    if expected is not None and fetched < int(expected):
        if not last:
            return fetched, False
        raise ServerError(
            f"{href}: broke off after {fetched} of {expected} bytes; call again to go on there"
        )
    return fetched, True


def _head(href: str, url: str, session: Any) -> tuple[int | None, bool]:
    """Return the size and whether ranges are served.

    A server that knows no HEAD is taken as without.
    """
    with name_the_source(href):
        answer = session.head(url, timeout=TIMEOUT_S, allow_redirects=True)
    if answer.status_code in (404, 410, 401, 403):
        raise ServerError(f"{href}: {answer.status_code} {answer.reason}")
    if not answer.ok:
        return None, False
    size = answer.headers.get("Content-Length")
    ranges = answer.headers.get("Accept-Ranges", "").lower() == "bytes"
    return (None if size is None else int(size)), ranges


def _check_size(asset: Asset, path: Path) -> None:
    size = path.stat().st_size
    if asset.size is not None and size != asset.size:
        raise DataError(
            f"{asset.href}: has {size} bytes, its catalogue says {asset.size}; half a download?"
        )


def _check_sum(asset: Asset, path: Path, name: Path) -> bool:
    """Compare with ``file:checksum``; False without a checksum of a known kind."""
    if not asset.checksum:
        return False
    try:
        raw = bytes.fromhex(asset.checksum)
    except ValueError:
        raise DataError(
            f"{name}: its file:checksum {asset.checksum!r} is not hexadecimal"
        ) from None
    code, rest = _varint(raw)
    length, digest = _varint(rest)
    if code not in _HASHES or length != len(digest):
        return False
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, _HASHES[code]).digest()
    if found != digest:
        raise DataError(f"{name}: its checksum is not the catalogue's; a damaged download?")
    return True


def _varint(raw: bytes) -> tuple[int, bytes]:
    """Decode an unsigned LEB128 number, and return it with the bytes after it.

    >>> _varint(bytes([0x12, 0x20, 7])), _varint(bytes([0xD5, 0x01, 9]))
    ((18, b' \\x07'), (213, b'\\t'))
    """
    value = 0
    for place, byte in enumerate(raw):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, raw[place + 1 :]
    return value, b""
