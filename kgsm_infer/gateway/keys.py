"""Spell paddock ids, file names and gateway names so that no two become one.

There is one rule for each: :func:`paddock_key` for ids read from tables, outlines and requests,
:func:`slug` for a paddock in topics and URNs, :func:`device_id` for Home Assistant's devices and
:func:`escape_name` for file names.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata

from ..tables.keys import canonical_id

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST_AT_END = re.compile(r"_[0-9a-f]{16}")


def paddock_key(name: object) -> str:
    """Return the id of a paddock as a table, an outline file or a request gives it.

    >>> paddock_key(7.0), paddock_key("7.0"), paddock_key(" 7 "), paddock_key("07")
    ('7', '7', '7', '07')
    """
    return canonical_id(name)


def slug(paddock: str) -> str:
    """Return a paddock's id spelt with letters, digits, ``-`` and ``_``; different for each id.

    An id of up to 64 such characters stays as it is, unless it ends like the digest that any
    other id gets.

    >>> slug("7"), slug("north-4"), slug("back paddock/2")
    ('7', 'north-4', 'back_paddock_2_9d5c5b04afd30016')
    >>> slug("back_paddock_2_9d5c5b04afd30016")
    'back_paddock_2_9d5c5b04afd30016_5348fc209732c1b2'
    """
    if _PLAIN.fullmatch(paddock) and not _DIGEST_AT_END.search(paddock[-17:]):
        return paddock
    digest = hashlib.sha256(paddock.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{re.sub('[^A-Za-z0-9_-]+', '_', paddock)[:47]}_{digest}"


def device_id(gateway: str, paddock: str | None = None) -> str:
    """Return the id of the gateway's device in Home Assistant, or of a paddock's device.

    The gateway's part contains no ``_``, so the first ``_`` after it ends it.

    >>> device_id("farm"), device_id("farm", "north_1"), device_id("farm_north", "1")
    ('kgsm_farm', 'kgsm_farm_north_1', 'kgsm-u_farm-1north_1')
    """
    if "_" in gateway:
        spelt = gateway.replace("-", "-0").replace("_", "-1")
        hub = f"kgsm-u_{spelt}"
    else:
        hub = f"kgsm_{gateway}"
    return hub if paddock is None else f"{hub}_{slug(paddock)}"


def escape_name(name: str | bytes) -> str:
    r"""Return a file's name as printable text that states every byte.

    Bytes that are not UTF-8, control characters and the backslash are escaped.

    >>> escape_name(b"paddock_\xe9.csv"), escape_name("a\nb.csv"), escape_name("höhe.csv")
    ('paddock_\\xe9.csv', 'a\\nb.csv', 'höhe.csv')
    """
    text = os.fsdecode(name) if isinstance(name, bytes) else name
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape").decode()
    return character
