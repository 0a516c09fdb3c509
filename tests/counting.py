"""Count the work a call does, which a busy machine does not change."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_counters: list[Counter[Path]] = []


def _count(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _counters and isinstance(arguments[0], str | bytes | os.PathLike):
        path = Path(os.fsdecode(arguments[0])).absolute()
        for counter in _counters:
            counter[path] += 1


sys.addaudithook(_count)  # cannot be removed; it does nothing while no counter is active


@contextmanager
def opens() -> Iterator[Counter[Path]]:
    """Count the times Python code opens each file: ``open``, ``os.open`` and ``io.open``."""
    counter: Counter[Path] = Counter()
    _counters.append(counter)
    try:
        yield counter
    finally:
        _counters.remove(counter)


@contextmanager
def raster_opens() -> Iterator[Counter[Path]]:
    """Count the times a file is opened for reading by rasterio; GDAL does not use Python's open."""
    import rasterio.io

    counter: Counter[Path] = Counter()
    plain = rasterio.io.DatasetReader

    def counting(path: Any, *arguments: Any, **options: Any) -> Any:
        counter[Path(path).absolute()] += 1
        return plain(path, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rasterio.io, "DatasetReader", counting)
        yield counter
