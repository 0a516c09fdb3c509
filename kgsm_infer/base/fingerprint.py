"""Decide whether a stored result is still valid: one policy for every cache of kgsm.

A result is stored with a key, :func:`fingerprint` of all its inputs. It is used again only if
the key is still the same. A key covers

- the code: :func:`code_digest` of the rooms (packages, modules) that compute the result, with
  the built C core, and the kernel tier in use (:func:`kgsm_infer.kernels.in_use`), because
  tiers agree to 1e-5 and not to the bit;
- input files: :func:`file_stamp`, size and time of change, for rasters of any size, or
  :func:`content_digest` for small files;
- settings, as JSON values.

kgsm's version number is not enough: it does not move with every change of the code.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: Sources, and built extensions.
_CODE = (".py", ".pyx", ".so", ".pyd")


def fingerprint(*content: Any) -> str:
    """Return the SHA-256 of JSON values, in hexadecimal. Key order has no influence.

    >>> fingerprint({"a": 1, "b": [2.5, None]}) == fingerprint({"b": [2.5, None], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def code_digest(*rooms: str) -> str:
    """Return the SHA-256 of the code of packages and modules, such as ``kgsm_infer.maps``.

    Packages count with everything below them, built extensions included. Nothing is imported
    but the parents of a room. ModuleNotFoundError if a room does not exist.
    """
    digest = hashlib.sha256()
    for room in rooms:
        spec = find_spec(room)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"no module {room} to take the code of", name=room)
        place = Path(spec.origin)
        inside = place.parent.rglob("*") if spec.submodule_search_locations else [place]
        for path in sorted(item for item in inside if item.suffix in _CODE):
            digest.update(f"\0{room}/{path.relative_to(place.parent)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def content_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes; OSError as of opening it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_stamp(path: str | Path) -> list[int]:
    """Return size and time of change of a file, ns; empty if it does not exist.

    Of a folder (Zarr): the number of its files, their total size, and the latest change.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            status = path.stat()
            return [status.st_size, status.st_mtime_ns]
        inside = [item.stat() for item in path.rglob("*") if item.is_file()]
    except OSError:
        return []
    newest = max((item.st_mtime_ns for item in inside), default=0)
    return [len(inside), sum(item.st_size for item in inside), newest]
