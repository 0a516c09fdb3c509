"""Write one line per event on stderr, as JSON, for a journal or for a person with ``jq``."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Called with an event and its details.
Log = Callable[..., None]


def log_line(event: str, **details: Any) -> None:
    """Write one event. The journal adds the time, which a box without a clock may not know."""
    line = json.dumps({"event": event, **details}, ensure_ascii=False, default=str) + "\n"
    raw = line.encode("utf-8", "backslashreplace")
    try:
        sys.stderr.buffer.write(raw)
    except AttributeError:  # a stream of text alone, as in tests
        sys.stderr.write(raw.decode())
    sys.stderr.flush()


def place_of(error: BaseException) -> str:
    """Return file and line where an exception was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
