"""A written map is read back, compared with the work files, and only then put in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import MissingError
from ..base.files import MARKER
from ..scenes.grid import Window
from .attributes import VARIABLES
from .work import Work

#: Side of a COG's tiles, and of a cube's chunks.
CHUNK = 512


def prove(work: Work, output: Path, read: Callable[[str, int, Window], NDArray[Any]]) -> None:
    """Raise MissingError where written numbers are not the computed ones: a full or broken disk."""
    for k, window in chunk_windows(work):
        for name, dtype in VARIABLES.items():  # a COG's tile holds all of them
            if not np.array_equal(
                np.asarray(read(name, k, window), dtype),
                work.read(name, k, window),
                equal_nan=dtype.kind == "f",
            ):
                raise MissingError(
                    f"{output}: not written, {name} does not read back as it was computed "
                    "(a full or failing disk?); run the same command again"
                )


def chunk_windows(work: Work) -> Iterator[tuple[int, Window]]:
    """Chunk by chunk, every date: each chunk is written once."""
    grid = work.plan.stack.grid
    for k in range(len(work.plan.targets)):
        for row in range(0, grid.height, CHUNK):
            for col in range(0, grid.width, CHUNK):
                yield (
                    k,
                    Window(row, col, min(CHUNK, grid.height - row), min(CHUNK, grid.width - col)),
                )


def into_place(part: Path, output: Path) -> None:
    """Rename over the output; a Zarr folder that is there already is moved aside first."""
    if output.is_dir():
        aside = part.with_name("old.zarr")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(output, aside)
    if part.is_file():
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        if output.exists():
            shutil.copymode(output, part)
    else:
        (part / MARKER).touch()
    os.replace(part, output)


def not_written(output: Path, error: BaseException) -> MissingError:
    cause = error.__cause__ or error
    return MissingError(
        f"{output}: not written ({' '.join(str(cause).split())[:200]}); a full disk? "
        "make room and run the same command again"
    )
