"""Read the values of passes: what ``predict``, ``paddocks --all-dates`` or ``wetness`` wrote.

Columns: ``site`` (or ``id``), ``date``, ``sm`` in m3/m3 or ``wetness`` (index), optionally
``sm_lower`` and ``sm_upper`` (or those of the index), and ``flags``. A value counts unless it is
missing or its flags say that the retrieval has none. Rows of one paddock and time are one value
if they agree; where they differ the value is missing, with a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import flags
from ..base.errors import DataError, UsageError
from ..base.quantities import RETRIEVED
from ..model.card import Card
from ..model.date_effect import variances_of
from ..scenes.outlinefiles import read_features
from ..tables.columns import RULES, Rule
from ..tables.dates import check_utc_offset, is_day_only
from ..tables.keys import case_note
from ..tables.passes import number_passes
from ..tables.reading import Sheet, read_sheet, sheet_of
from ..tables.table import ReadOptions, Table, have, leave_out_future, table_of
from ..tables.text_column import TextColumn, texts_of
from .filter import Array
from .parameters import Parameters, PassErrors
from .run import Z90, PassValues


class NoValues(DataError):
    """A table without values of passes; a model may retrieve them."""


QUANTITIES = ("sm", "wetness")
#: Files whose features have the values as properties.
GEOJSON = (".geojson", ".json")
SECONDS_PER_DAY = 86400
#: A range narrower than this says nothing of the error (a clipped or rounded interval).
LEAST_SD = 0.005
#: Rounding of a file's numbers, by which a value may lie outside its interval.
ROUNDING = 1e-3
#: Least standard deviation of an error, m3 m-3; a card may state a variance of 0.
SMALLEST_SD = 1e-4
#: Correlation of a retrieval's errors at successive passes of a paddock, measured on the twin
#: in cross-validation on new sites and dates (``benchmarks/daily.py twin``).
PASS_CORRELATION = 0.4
#: A retrieval with less correlation than this has no slope to speak of.
LEAST_R = 0.2
#: Range of each quantity.
RULE_OF = {
    "sm": RULES["sm"],
    "wetness": Rule(0.0, 1.0, "a wetness index (0 to 1)", lambda _: "in percent? divide by 100"),
}
#: Range of the ends of an interval, which may reach beyond the range of the quantity.
END_RULE_OF = {
    name: replace(rule, low=-1.0, high=2.0, what=f"an end of an interval of {name} (-1 to 2)")
    for name, rule in RULE_OF.items()
}


@dataclass(frozen=True)
class Values:
    """R values of passes.

    source: the file, for messages.  quantity: ``sm`` or ``wetness``.  paddocks: (N,) names in
    the order of the file.  paddock: (R,) index of each row's.  day: (R,) local day, since 1970.
    hour: (R,) local hour of the pass, NaN where the file gives the day only.  passed: (R,) number
    of the pass.  value, lower, upper: (R,), NaN where missing.  flags: (R,) bit mask.
    simulated: the file says so.  index_range: moisture between index 0 and 1, m3 m-3, of moisture
    that an index and limits gave; NaN for other.
    """

    source: str
    quantity: str
    paddocks: tuple[str, ...]
    paddock: NDArray[np.int64]
    day: NDArray[np.int64]
    hour: Array
    passed: NDArray[np.int64]
    value: Array
    lower: Array
    upper: Array
    flags: NDArray[np.int64]
    simulated: bool = False
    notes: tuple[str, ...] = ()
    index_range: float = np.nan

    def __len__(self) -> int:
        return len(self.day)


@dataclass(frozen=True)
class PassNumbers:
    """Values of R passes with the ends of their intervals and their flags, as a bit mask."""

    value: ArrayLike
    lower: ArrayLike
    upper: ArrayLike
    flags: NDArray[np.int64]


def read_values(
    path: str | Path, utc_offset_hours: float = 0.0, allow_future: bool = False
) -> Values:
    """Read the values of passes from a CSV, Parquet or GeoJSON file; DataError names the cause.

    Rows of paddocks that no pass has seen, without a date and a value, are left out with a note.

    allow_future: accept passes later than tomorrow, which are left out otherwise.
    """
    sheet = named_sites(read_value_sheet(path))
    if "radar_weight" in sheet.columns:
        raise DataError(
            f"{path}: has daily values already (column radar_weight); give the values of passes: "
            "what predict, paddocks --all-dates or wetness wrote"
        )
    found = [name for name in QUANTITIES if name in sheet.columns]
    if not found:
        raise NoValues(
            f"{path}: no column sm or wetness; {have(sheet.columns, 'sm')}; give what predict, "
            "paddocks --all-dates or wetness wrote, or a table with --model"
        )
    check_one_quantity(sheet)
    quantity, rows = found[0], len(sheet)
    sheet = without_unseen(sheet, quantity)
    ends = [name for name in (f"{quantity}_lower", f"{quantity}_upper") if name in sheet.columns]
    table = table_of(sheet, ReadOptions((quantity, *ends), keep="empty", reads=(), option=""))
    check_range(sheet, table, quantity)
    check_ends(sheet, table, quantity, ends)
    if not allow_future:
        table = leave_out_future(table, drop=True)
    nan = np.full(len(table), np.nan)
    lower, upper = (table.numbers.get(f"{quantity}_{end}", nan) for end in ("lower", "upper"))
    numbers = PassNumbers(table.numbers[quantity], lower, upper, _masks(table))
    values = values_of(table, quantity, numbers, utc_offset_hours)
    unseen = rows - len(sheet)
    notes = (f"{path}: {unseen} rows of paddocks that no pass has seen",) if unseen else ()
    return replace(values, index_range=_index_range(sheet), notes=(*values.notes, *notes))


def read_value_sheet(path: str | Path) -> Sheet:
    """Read the cells of a table, or the properties of the features of a GeoJSON file."""
    if Path(path).suffix.lower() not in GEOJSON:
        return read_sheet(path)
    features, _ = read_features(Path(path))
    rows = [dict(feature.get("properties") or {}) for feature in features]
    if not rows:
        raise DataError(f"{path}: holds no paddock")
    names = {
        name: None
        for row in rows
        for name, value in row.items()
        if isinstance(value, str | int | float)
    }
    texts = {
        name: TextColumn.of("" if row.get(name) is None else str(row[name]) for row in rows)
        for name in names
    }
    return sheet_of(texts, str(path))


def without_unseen(sheet: Sheet, quantity: str) -> Sheet:
    """Leave out the rows without a date and a value: paddocks that no acquisition has seen."""
    if "date" not in sheet.columns:
        raise DataError(f"{sheet.source}: no column 'date'; {have(sheet.columns, 'date')}")
    dated = np.asarray([text != "" for text in texts_of(sheet.columns["date"])], bool)
    if dated.all():
        return sheet
    value = sheet.check.numbers_or_missing(sheet.columns[quantity], None)
    kept = dated | np.isfinite(value)
    if not kept.any():
        raise DataError(f"{sheet.source}: no row has a date; nothing to read")
    columns = {name: _rows_of(cells, kept) for name, cells in sheet.columns.items()}
    return Sheet(sheet.source, columns, sheet.row_number[kept], sheet.decimal_commas)


def _rows_of(cells: TextColumn | Array, kept: NDArray[np.bool_]) -> TextColumn | Array:
    if isinstance(cells, TextColumn):
        return TextColumn.of(text for text, keep in zip(cells, kept.tolist(), strict=True) if keep)
    return cells[kept]


def _index_range(sheet: Sheet) -> float:
    """Return the median distance between the limits that ``wetness`` wrote; NaN without."""
    names = ("sm_dry", "sm_wet")
    if not all(name in sheet.columns for name in names):
        return np.nan
    dry, wet = (sheet.check.numbers_or_missing(sheet.columns[name], RULES["sm"]) for name in names)
    known = (wet - dry)[wet > dry]
    return float(np.median(known)) if len(known) else np.nan


def check_range(sheet: Sheet, table: Table, quantity: str) -> None:
    """Raise DataError for the first value that its quantity cannot have."""
    rule, values = RULE_OF[quantity], table.to_file_rows(table.numbers[quantity])
    sheet.check.first(
        rule.outside(values),
        quantity,
        values,
        lambda at: f"is not {rule.what}; {rule.why(float(values[at]))}",
    )


def check_one_quantity(sheet: Sheet) -> None:
    """Raise DataError where some rows have soil moisture alone and others an index alone.

    ``wetness`` writes both where it knows limits, and the index alone where it does not.
    """
    if not all(name in sheet.columns for name in QUANTITIES):
        return
    moist, index = (
        np.isfinite(sheet.check.numbers_or_missing(sheet.columns[name], RULE_OF[name]))
        for name in QUANTITIES
    )
    if (moist & ~index).any():
        sheet.check.first(
            index & ~moist,
            "wetness",
            sheet.columns["wetness"],
            "is an index, and other rows have sm alone; give one quantity in each file",
        )


def check_ends(sheet: Sheet, table: Table, quantity: str, ends: Sequence[str]) -> None:
    """Raise DataError for the first interval that its value is outside of, or of another unit."""
    rule = END_RULE_OF[quantity]
    value = table.to_file_rows(table.numbers[quantity])
    for name in ends:
        end = table.to_file_rows(table.numbers[name])
        sheet.check.first(rule.outside(end), name, end, f"is not {rule.what}; in percent?")
        side = 1 if name.endswith("_lower") else -1
        with np.errstate(invalid="ignore"):
            wrong = side * (end - value) > ROUNDING
        word = "above" if side == 1 else "below"
        sheet.check.first(wrong, name, end, f"is {word} {quantity} of its row; columns mixed up?")


def values_of(
    table: Table, quantity: str, numbers: PassNumbers, utc_offset_hours: float = 0.0
) -> Values:
    """Turn retrievals of a table's rows (R,) into values on local days."""
    check_utc_offset(utc_offset_hours)
    names, first, code = np.unique(table.site, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.argsort(order, kind="stable")
    by_day = is_day_only(list(table.date_text), table.site)
    seconds = table.date.astype("datetime64[s]").astype(np.int64)
    local = seconds + np.where(by_day, 0, round(utc_offset_hours * 3600))
    paddocks = tuple(names[order].tolist())
    twice = case_note(table.source, paddocks)
    value = np.asarray(numbers.value, np.float64)
    value = np.where(numbers.flags & flags.NO_NUMBER, np.nan, value)
    return Values(
        table.source,
        quantity,
        paddocks,
        rank[code].astype(np.int64),
        local // SECONDS_PER_DAY,
        np.where(by_day, np.nan, local % SECONDS_PER_DAY / 3600),
        number_passes(table.date),
        value,
        np.asarray(numbers.lower, np.float64),
        np.asarray(numbers.upper, np.float64),
        numbers.flags,
        table.simulated,
        (*table.notes, twice) if twice else table.notes,
    )


def check_paddocks(source: str | Path, there: Iterable[str], paddocks: Sequence[str]) -> None:
    """Raise DataError where a file has none of the paddocks of the values."""
    names = set(there)
    if names.isdisjoint(paddocks):
        raise DataError(
            f"{source}: has none of the paddocks; it has {', '.join(sorted(names)[:3])}, "
            f"the values {', '.join(list(paddocks)[:3])}"
        )


def named_sites(sheet: Sheet) -> Sheet:
    """Call the column ``id``, which ``paddocks`` writes, ``site``."""
    if "site" in sheet.columns or "id" not in sheet.columns:
        return sheet
    columns = {("site" if name == "id" else name): of for name, of in sheet.columns.items()}
    return replace(sheet, columns=columns)


def errors_of_values(values: Values, parameters: Parameters) -> PassErrors:
    """Estimate the errors of a pass from the file's 90 % intervals, in m3 m-3.

    The median half width over 1.645, the longer side of each interval because the shorter may be
    clipped, is divided between paddock and date as in the parameters. Without intervals the
    parameters' own errors are returned.
    """
    half = _half_widths(values, parameters)
    half = half[np.isfinite(half)]
    return _scaled(parameters.errors, float(np.median(half)) if len(half) else 0.0)


def _half_widths(values: Values, parameters: Parameters) -> Array:
    """Return half the 90 % interval of each value (R,) m3 m-3, its longer side; NaN without."""
    half = np.fmax(values.upper - values.value, values.value - values.lower)
    return half * parameters.bucket.span if values.quantity == "wetness" else half


def _scaled(own: PassErrors, half: float) -> PassErrors:
    """Return errors whose 90 % interval has the half width ``half``, m3 m-3."""
    sd = half / Z90
    if sd < LEAST_SD:
        return own
    scale = sd / own.variance**0.5
    return replace(own, point=min(own.point * scale, 1.0), date=min(own.date * scale, 1.0))


@dataclass(frozen=True)
class _PassVariances:
    """Variances of each of M values (M,), m6 m-6: of the paddock and of the date."""

    point: Array
    date: Array


def _variances(
    values: Values, rows: NDArray[np.int64], errors: PassErrors | None, parameters: Parameters
) -> _PassVariances:
    """Return the variances of the values ``rows``: stated, or from the intervals of their pass.

    rows: sorted by day and pass.  Each pass has the median of its own intervals, so that a later
    pass changes no earlier day.
    """
    if errors is not None:
        return _PassVariances(
            np.full(len(rows), errors.point**2), np.full(len(rows), errors.date**2)
        )
    half, made = _half_widths(values, parameters)[rows], np.empty((2, len(rows)))
    new = np.diff(values.day[rows]).astype(bool) | np.diff(values.passed[rows]).astype(bool)
    for part in np.split(np.arange(len(rows)), np.flatnonzero(new) + 1):
        known = half[part][np.isfinite(half[part])]
        one = _scaled(parameters.errors, float(np.median(known)) if len(known) else 0.0)
        made[:, part] = np.array([[one.point**2], [one.date**2]])
    return _PassVariances(made[0], made[1])


@dataclass(frozen=True)
class PassDeviations:
    """Standard deviations of a pass's error that are stated, in the unit of the values.

    point: of one paddock.  date: shared by all paddocks of a pass.  None for those of the card.
    """

    point: float | None = None
    date: float | None = None


def is_of_index(values: Values) -> bool:
    """Return True for what ``wetness`` writes: an index, or moisture of its limits, no interval."""
    made = values.quantity == "wetness" or np.isfinite(values.index_range)
    return bool(made and not np.isfinite(values.upper - values.lower).any())


def errors_of_model(
    card: Card | None, values: Values, parameters: Parameters, stated: PassDeviations
) -> PassErrors | None:
    """Return the errors of a pass in m3 m-3, stated or of the card; None without either.

    UsageError where the values are of another quantity than the model retrieves. Moisture that an
    index and its limits gave has the errors of the index times the distance of the limits.
    """
    if card is None:
        return errors_of_card(None, values.quantity, parameters, stated)
    variances, retrieved = card.pass_variances, card.retrieves.column
    if retrieved != values.quantity:
        if values.quantity != "sm" or not np.isfinite(values.index_range):
            raise UsageError(
                f"{values.source}: has {RETRIEVED[values.quantity].title.lower()}, and --model "
                f"retrieves {card.retrieves.title.lower()}; name the model that made the values, "
                "or leave --model out"
            )
        if variances is not None:
            square = values.index_range**2
            variances = {k: v * square for k, v in asdict(variances_of(variances)).items()}
    return errors_of_card(variances, values.quantity, parameters, stated, card.validation)


def errors_of_card(
    variances: Mapping[str, Any] | None,
    quantity: str,
    parameters: Parameters,
    stated: PassDeviations = PassDeviations(),
    validation: Mapping[str, Any] | None = None,
) -> PassErrors | None:
    """Return the errors of a pass in m3 m-3, stated or of a model's card; None without either.

    variances: entry of the card, with the variances of observed minus predicted on new dates:
    ``date`` is shared, ``field`` and ``point`` belong to the paddock.  validation: entry of the
    card; the slope is the square of its ``r``, 1 without. Of an index, deviations and variances
    are in its unit.  UsageError for a deviation out of range.
    """
    point, date = stated.point, stated.date
    for name, value in (("--sd-point", point), ("--sd-date", date)):
        if value is not None and not 0 < value <= 1:
            raise UsageError(f"{name} {value:g}: an error of a pass is above 0 and at most 1")
    unit = parameters.bucket.span if quantity == "wetness" else 1.0
    own = parameters.errors
    if variances is not None:
        found, r = variances_of(variances), (validation or {}).get("r")
        point = (found.field + found.point) ** 0.5 if point is None else point
        date = found.date**0.5 if date is None else date
        known = isinstance(r, float) and LEAST_R <= r <= 1
        own = replace(
            own, slope=float(r) ** 2 if known and r else 1.0, correlation=PASS_CORRELATION
        )
    if point is None and date is None:
        return None
    try:
        return replace(
            own,
            point=own.point if point is None else max(point * unit, SMALLEST_SD),
            date=own.date if date is None else max(date * unit, SMALLEST_SD),
        )
    except ValueError as error:
        raise UsageError(f"--sd-point, --sd-date: {error}") from None


def observations(
    values: Values,
    errors: PassErrors | None,
    parameters: Parameters,
    first: int,
    rain_day_ends: float,
) -> PassValues:
    """Sort the values into observations of a drive that begins on day ``first``.

    errors: of every pass, m3 m-3; None for those of each pass's own intervals.  rain_day_ends:
    local hour at which a rain day ends; a pass before it has seen that share of the day's rain. An
    index becomes moisture between the bucket's empty and full state.

    A value z with slope B on the truth becomes m + (z - m) / B, with m the mean of all values up to
    its day, so that the level of the retrieval stays and its swing grows. The error of a
    conditional mean is independent of z, not of the truth: as an error around the truth its
    variance is that of observed minus predicted over B. Errors of successive passes with the
    correlation r count as independent ones of (1 + r) / (1 - r) times the variance, which gives a
    mean of many passes the variance it has.
    """
    known = np.flatnonzero(np.isfinite(values.value))
    rows = known[np.lexsort((values.paddock[known], values.passed[known], values.day[known]))]
    value, count = values.value[rows], len(values.paddocks)
    if values.quantity == "wetness":
        value = parameters.bucket.dry + parameters.bucket.span * value
    shape = parameters.errors if errors is None else errors
    variances, slope = _variances(values, rows, errors, parameters), shape.slope
    if slope < 1:
        last = np.searchsorted(values.day[rows], values.day[rows], "right") - 1
        middle = (value.cumsum() / np.arange(1, len(value) + 1))[last]
        value = middle + (value - middle) / slope
    own, share = variances.point / slope, shape.persistent_share
    longer = (1 + shape.correlation) / (1 - shape.correlation)
    # the persistent part has the size of the paddock's first pass
    lasting = np.full(count, shape.point**2 / slope * share)
    lasting[values.paddock[rows][::-1]] = own[::-1] * share
    elapsed = np.clip((values.hour[rows] + 24 - rain_day_ends) / 24, 0, 1)
    return PassValues(
        values.day[rows] - first,
        values.passed[rows],
        values.paddock[rows],
        value,
        own * (1 - share) * longer,
        variances.date / slope * longer,
        np.where(np.isnan(elapsed), 1.0, elapsed),
        lasting,
    )


def _masks(table: Table) -> NDArray[np.int64]:
    """Return bit masks (R,) of the column ``flags``; DataError for an unknown name."""
    cells = table.text.get("flags")
    if cells is None:
        return np.zeros(len(table), np.int64)
    known: dict[str, int] = {}
    for i, cell in enumerate(cells):
        if cell not in known:
            try:
                known[cell] = flags.mask_of(cell)
            except ValueError as error:
                raise DataError(
                    f"{table.source}: row {table.row(i)}, column flags: {error}"
                ) from None
    return np.asarray([known[cell] for cell in cells], np.int64)
