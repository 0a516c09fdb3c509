"""Canonical form of keys, so that two spellings of one key are one group."""

from __future__ import annotations

import re
import unicodedata


def canonical_orbit(text: str) -> str:
    """Return the canonical form of an orbit: NFC, upper case, whole numbers without decimals.

    >>> canonical_orbit("69.0") == canonical_orbit(" 069 ") == canonical_orbit("69")
    True
    >>> canonical_orbit("descending-69.0")
    'DESCENDING-69'
    """
    plain = unicodedata.normalize("NFC", text).strip().upper()
    return re.sub(r"\b0*(\d+)(?:\.0+)?(?![\d.])", r"\1", plain)
