"""One line per event on stderr, JSON, for a journal or a person with ``jq``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

#: event, then what there is to say about it.
Log = Callable[..., None]


def log_line(event: str, **details: Any) -> None:
    """Write one event. The journal adds the time, which a box without a clock may not know."""
    line = json.dumps({"event": event, **details}, ensure_ascii=False, default=str)
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
