"""Process blocks in threads; each thread opens its own reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import local
from typing import Any

from ..scenes.gdal import gdal
from ..scenes.grid import Window
from ..scenes.reader import Reader
from .plan import Plan


def over_blocks(
    plan: Plan,
    indices: Sequence[int],
    work: Callable[[Reader, Window], Any],
    threads: int,
) -> Iterator[tuple[int, Any]]:
    """Process blocks in threads, at most two queued per thread, and yield results in order.

    The plan's open files serve one thread, or all of them while they keep tiles.
    """
    mine = local()
    readers: list[Reader] = []
    files = plan.files
    if files is not None and threads > 1 and not files.tiles.keeps:
        files = None

    def one(index: int) -> Any:
        if not hasattr(mine, "reader"):
            mine.reader = Reader(plan.stack, files)
            readers.append(mine.reader)
        with gdal():  # of this thread: GDAL's warnings go to the log, not to the terminal
            return work(mine.reader, plan.windows[index])

    if threads == 1:
        try:
            for index in indices:
                yield index, one(index)
        finally:
            for reader in readers:
                reader.close()
        return
    rest = iter(indices)
    pool = ThreadPoolExecutor(threads)
    pending: list[tuple[int, Future[Any]]] = [
        (index, pool.submit(one, index)) for index in islice(rest, 2 * threads)
    ]
    try:
        while pending:
            index, future = pending.pop(0)
            result = future.result()
            pending += [(following, pool.submit(one, following)) for following in islice(rest, 1)]
            yield index, result
    finally:
        for _, future in pending:
            future.cancel()
        pool.shutdown(wait=True)
        for reader in readers:
            reader.close()
