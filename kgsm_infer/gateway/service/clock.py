"""Choose the time against which the dates of new rows are checked."""

from __future__ import annotations

import time

from ...tables.dates import RELEASED
from ..store.database import Store

#: Seconds added to the newest time that is known where the clock is wrong.
UNKNOWN_S = 366 * 86400


def guard_time(store: Store) -> int:
    """Return the time of the date guard (kgsm_infer.tables.dates.is_future), s since 1970.

    It is the clock. A small computer without a battery starts in 1970: where the clock is earlier
    than this version of kgsm or than most of the newest passes, it is a year after the later of
    these, so that new passes are not refused.
    """
    newest = store.newest_passes_time()
    known = max(int(RELEASED.astype("int64")), newest if newest is not None else 0)
    now = int(time.time())
    return now if now >= known else known + UNKNOWN_S
