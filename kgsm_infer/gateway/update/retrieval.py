"""Run the model on stored inputs; the only module of the gateway that calls the library.

The rows hold the windows; the past in the store becomes the context columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...base import flags
from ...base.errors import DataError
from ...context.definitions import CONTEXT, needed
from ...model.model import load
from ...paddocks.summary import Members, PaddockDate, summarise
from ...tables.table import table_from_columns
from ...tables.text_column import TextColumn
from ..intake.archive import digest_of
from ..store.rows import SIMULATED, Observed, Value
from .history import with_context
from .past import StoredInputs

if TYPE_CHECKING:
    from ...model.model import Model
    from ...model.result import Retrieval

Key = tuple[str, int, str]  # paddock, acquired, orbit
#: Values between two beats of the watchdog; each costs about 0.1 ms of processor time.
BEAT_VALUES = 500


@dataclass(frozen=True)
class Loaded:
    """A model in use, and the sha256 of its file (16 digits) that every value names."""

    model: Model
    hash: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads, contract's, context and features alike."""
        return self.model.card.inputs.columns

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns rows must bring: those not made from the date or from other rows."""
        return self.model.source_columns

    @property
    def statics(self) -> tuple[str, ...]:
        return self.model.card.names("static")

    @property
    def shares_scene(self) -> bool:
        """Return True if a value depends on the other paddocks of its pass."""
        return any(
            CONTEXT[name].shared_by.is_scene for name in needed(self.columns, lambda _: False)
        )

    @property
    def shares_pass(self) -> bool:
        """Return True if a value depends on other rows of its pass."""
        return any(
            not CONTEXT[name].shared_by.is_past for name in needed(self.columns, lambda _: False)
        )

    @property
    def reads_past(self) -> bool:
        """Return True if a value depends on acquisitions before its window."""
        return any(
            CONTEXT[name].shared_by.is_past for name in needed(self.columns, lambda _: False)
        )


def load_model(path: Path, engine: str = "auto") -> Loaded:
    """Load a model file; ModelError or MissingError where it cannot be used."""
    model = load(path, engine=engine)
    return Loaded(model, digest_of(path)[:16])


def retrieved(
    loaded: Loaded,
    inputs: StoredInputs,
    targets: set[Key],
    beat: Callable[[], object] = lambda: None,
) -> dict[Key, Value]:
    """Retrieve the target acquisitions as revision and sequence 0.

    inputs: with all rows that the store has of the targets.  beat: called every
    :data:`BEAT_VALUES` values, at least.  DataError where the rows lack a column the model reads.
    """
    rows, rule = inputs.rows, loaded.model.card.history
    table, thin = with_context(_table(loaded, rows), inputs, loaded.columns, rule)
    times = {key[1] for key in targets}
    wanted = np.asarray(
        [at for at, row in enumerate(rows) if row.acquired in times and row.key in targets],
        np.int64,
    )
    if not len(wanted):
        return {}
    beat()
    result = loaded.model.predict(table, only=wanted)
    beat()
    mask = result.flags | (thin[wanted] & ((result.flags & flags.FROZEN_OR_SNOW) == 0)) * np.uint16(
        flags.CONTEXT_MISSING
    )
    groups: dict[Key, list[int]] = {}
    for at, index in enumerate(wanted):
        row = rows[index]
        groups.setdefault((row.paddock, row.acquired, row.orbit), []).append(at)
    found = {}
    made_up = {row.paddock for row in rows if row.numbers.get(SIMULATED)}
    for number, (key, places) in enumerate(groups.items()):
        if number % BEAT_VALUES == 0:
            beat()
        value = _value(loaded, key, replace(result, flags=mask).take(places))
        if key[0] in made_up and not value.simulated:
            value = replace(value, simulated=1)
        why = [rows[wanted[at]].why for at in places if rows[wanted[at]].why]
        found[key] = replace(value, reason=why[0]) if value.reason and why else value
    return found


def _value(loaded: Loaded, key: Key, result: Retrieval) -> Value:
    card = loaded.model.card
    line = summarise(PaddockDate(key[0], ""), Members.of_rows(result), card)
    return Value(
        *key,
        revision=0,
        sm=_number(line.sm),
        sm_lower=_number(line.sm_lower),
        sm_upper=_number(line.sm_upper),
        valid_share=line.valid_share,
        rows=line.pixels,
        flags=line.flags,
        reason=line.reason,
        model=loaded.hash,
        simulated=int(card.simulated),
        sequence=0,
        quantity=result.quantity.name,
    )


def _table(loaded: Loaded, rows: Sequence[Observed]) -> Any:
    """Return the rows as a table of the contract, one site for each site of each paddock."""
    columns: dict[str, Any] = {
        "site": _sites(rows),
        "date": np.asarray([row.acquired for row in rows]).astype("datetime64[s]"),
    }
    text: dict[str, TextColumn] = {}  # names were checked and spelt when the table was read
    if loaded.shares_pass:
        text["field"] = TextColumn.of([row.paddock for row in rows])
    if any(row.orbit for row in rows):
        text["orbit"] = TextColumn.of([row.orbit for row in rows])
    own = [row.numbers for row in rows]
    optional = [
        name
        for name in loaded.model.card.optional_columns
        if name not in loaded.inputs and any(name in numbers for numbers in own)
    ]
    for name in (*loaded.inputs, *optional):
        columns[name] = np.asarray([numbers.get(name, np.nan) for numbers in own], np.float64)
        if not np.isfinite(columns[name]).any() and name in loaded.statics:
            raise DataError(f"no row brings {name!r}, which the model reads")
    extra = [name for name in loaded.inputs if name not in ("vh_db", "vv_db")]
    numbers = {name: columns[name] for name in (*loaded.inputs, *optional)}
    outliers = {name: values for name, values in numbers.items() if np.isinf(values).any()}
    for name, values in outliers.items():  # infinite since the table was read, see tables.parsing
        columns[name] = np.where(np.isinf(values), np.nan, values)
    # a row of the table is a row of the store: what was one pass was merged when it came in
    table = table_from_columns(columns, "the store", features=extra, once=False)
    return replace(table, numbers={**table.numbers, **outliers}, text=text)


def _sites(rows: Sequence[Observed]) -> TextColumn:
    """Return one name for each site of each paddock, (R,); each is packed once."""
    codes: dict[tuple[str, str], int] = {}
    code = [
        codes.setdefault(place, len(codes)) for place in map(attrgetter("paddock", "site"), rows)
    ]
    return TextColumn.of(f"{paddock}\x1f{site}" for paddock, site in codes).take(np.asarray(code))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
