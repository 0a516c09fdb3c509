"""Farms with daily values: rain files, and everything the store has of days."""

from __future__ import annotations

import numpy as np
from made_gateways import DAY, made_gateway, made_model

from kgsm_infer.daily.values import Values
from kgsm_infer.gateway.store import daily_rows
from kgsm_infer.gateway.store.database import Store

FIRST = int(np.datetime64("2024-01-01", "D").astype(int))


def rain_columns(first, rain, site=None):
    """A weather file of days from ``first`` (days after 2024-01-01) on; None is an empty cell."""
    dates = [str(np.datetime64("2024-01-01") + first + i) for i in range(len(rain))]
    columns = {"date": dates, "rain_mm": ["" if mm is None else mm for mm in rain]}
    return columns if site is None else {"site": [site] * len(rain), **columns}


def farm(folder, text="[daily]\n", **made):
    return made_gateway(folder, text, model=made_model(folder / "m"), **made)


def days_of(gateway, paddock="p0", revisions=False):
    with Store(gateway.database, read_only=True) as store:
        return daily_rows.daily_of(store, paddock, 0, 10_000, revisions)


def everything(gateway):
    """All rows of rain and daily values."""
    with Store(gateway.database, read_only=True) as store:
        return {
            name: store.db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for name in ("rain", "daily", "outlook", "daily_now", "alert")
        }


def stored_values(gateway):
    """The stored passes as the library reads them, with a date alone."""
    with Store(gateway.database, read_only=True) as store:
        passes = sorted(store.current().values(), key=lambda one: (one.paddock, one.acquired))
    names = sorted({one.paddock for one in passes})
    day = np.asarray([one.acquired // DAY for one in passes])
    return Values(
        "test", "sm", tuple(names), np.asarray([names.index(one.paddock) for one in passes]),
        day, np.full(len(day), np.nan), np.unique(day, return_inverse=True)[1],
        *(np.asarray([getattr(one, name) for one in passes]) for name in
          ("sm", "sm_lower", "sm_upper")),
        np.zeros(len(day), np.int64),
    )  # fmt: skip
