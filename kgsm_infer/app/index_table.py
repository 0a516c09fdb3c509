"""Write the label-free index of a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..model.index import SoilLimits, limits_of_table, wetness_model, wetness_of
from ..tables.reading import read_sheet
from ..tables.table import ReadOptions, leave_out_future, table_of


def wetness_of_table(
    path: str | Path,
    output: str | Path,
    limits: SoilLimits | None = None,
    tell: Callable[[str], None] = lambda text: None,
    allow_future: bool = False,
) -> str:
    """Write ``site,date,wetness,flags`` of a table, with limits also ``sm,sm_dry,sm_wet``.

    limits: of soil moisture; None for those of the columns ``sand`` and ``clay``, if present.
    Without a column ``field`` each site is a field. Returns a summary of the rows written.

    tell: called with each note on reading the table. The differing cells of conflicting duplicate
    rows are left empty, and acquisitions of the future left out, as in ``predict``.
    """
    from ..app.output import summary, write_columns

    sheet, model = read_sheet(path), wetness_model()
    features = model.table_features()
    if limits is None and {"sand", "clay"} <= set(sheet.columns):
        features = (*features, "sand", "clay")
    # read once: standard input cannot be read again
    table = table_of(
        sheet, ReadOptions(features, keep="empty", reads=model.columns_read(), option="")
    )
    if not allow_future:
        table = leave_out_future(table)
    for note in table.notes:
        tell(note)
    limits = limits_of_table(table) if limits is None else limits
    result = wetness_of(table)
    columns: dict[str, ArrayLike] = {"wetness": result.sm}
    with_limits = ""
    if limits is not None:
        dry, wet = (
            np.broadcast_to(np.asarray(part, np.float64), result.sm.shape)
            for part in (limits.dry, limits.wet)
        )
        columns |= {"sm": dry + (wet - dry) * result.sm, "sm_dry": dry, "sm_wet": wet}
        with_limits = f"; m3/m3 between limits ({limits.source})"
    write_columns(output, table, columns, result.flags)
    return summary(result.sm, result.flags) + with_limits
