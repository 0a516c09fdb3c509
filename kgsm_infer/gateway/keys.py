"""A paddock's id as part of a topic, an entity id or a URN: always the same, never ambiguous."""

from __future__ import annotations

import hashlib
import re


def slug(paddock: str) -> str:
    """An id of letters, digits, ``-`` and ``_``; others get a digest that keeps them apart.

    >>> slug("7"), slug("north-4"), slug("back paddock/2")
    ('7', 'north-4', 'back_paddock_2_9d5c5b04')
    """
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", paddock):
        return paddock
    digest = hashlib.sha256(paddock.encode()).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9_-]+', '_', paddock)[:48]}_{digest}"
