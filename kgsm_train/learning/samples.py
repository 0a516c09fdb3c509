"""Make training samples from a table: windows, labels, groups.

The windows and features are those of :mod:`kgsm_infer`, so what is learnt is what
will be used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgsm_infer import kernels
from kgsm_infer.base.errors import DataError
from kgsm_infer.context.definitions import (
    WHOLE_ARCHIVE,
    HistoryRule,
    SharedBy,
    Typical,
    first_available,
)
from kgsm_infer.context.from_tables import group_rows
from kgsm_infer.kernels.wcm import Limits, Wcm
from kgsm_infer.kernels.window import bounded, check_history, window_rows
from kgsm_infer.model.inputs import InputColumns
from kgsm_infer.model.observations import (
    Observations,
    columns_behind,
    columns_to_read,
    isolate_observed,
    observe,
)
from kgsm_infer.tables.columns import FROZEN_BY, POLARISATIONS, range_of
from kgsm_infer.tables.reading import Sheet, read_sheet
from kgsm_infer.tables.table import ReadOptions, Table, table_of
from kgsm_infer.tables.vegetation import HELD_COLUMNS, hold_vegetation
from kgsm_infer.tables.weather import Weather, is_weather, read_weather, with_weather

from ..config import Config, HeadOptions
from ..models import MODELS
from .rain import with_fitted_rain

TRUE_WORDS = ("1", "true", "yes")
FALSE_WORDS = ("", "0", "false", "no")


# Placeholder of acquisitions without an observation: finite, and never used.
_PLACEHOLDER_DB, _PLACEHOLDER_ANGLE_DEG = -15.0, 40.0


@dataclass(frozen=True)
class Source:
    """A table as read for training.

    label: (R,) float32 SM, NaN where not to be used.  group: (R,).
    held: (R,) True where missing vegetation was filled from an earlier acquisition.
    dropped: column of [data] drop -> labels it took away.
    """

    table: Table
    label: NDArray[np.float32]
    group: NDArray[np.str_]
    simulated: bool
    sha256: str
    held: NDArray[np.bool_]
    dropped: Mapping[str, int] = field(default_factory=dict)
    weather: Weather | None = None

    @property
    def several_sites_a_group(self) -> bool:
        """True if a group has several sites, as a field has points."""
        pairs = np.unique(np.stack([self.group, self.table.site]), axis=1)
        return bool(pairs.shape[1] > len(np.unique(self.group)))


@dataclass(frozen=True)
class Samples:
    """R samples of one kind of model, one per table row.

    rows: (R, T) windows.  sm: (R,) float32, NaN without a label.  group: (R,).
    observed: the arrays behind them.  complete: (R,) True where an acquisition has every
    input of its own, in range and not frozen, whatever the soil signal (that depends on
    A); the statics count for the window's target only.  wcm_class: (R,) class of the WCM
    baseline, one and the same where the configuration names none.  channels: names of the
    scaled channels of the tile, in order.  unseen: those that only the head reads.
    history: how contexts that look at other dates were made.
    """

    observed: Observations
    rows: NDArray[np.int64]
    sm: NDArray[np.float32]
    group: NDArray[np.str_]
    complete: NDArray[np.bool_]
    wcm_class: NDArray[np.str_]
    channels: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    history: HistoryRule = WHOLE_ARCHIVE

    @property
    def unseen_channels(self) -> tuple[int, ...]:
        """Return the positions among the channels of those that only the head reads."""
        return tuple(self.channels.index(name) for name in self.unseen)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(R,) samples that can be learnt from or scored."""
        whole = np.isfinite(self.observed.statics).all(axis=1)
        return self.complete & whole & np.isfinite(self.sm)


@dataclass(frozen=True)
class Batch:
    """N windows as tensors. Where ``observed`` is false the values are placeholders.

    sigma0_db, vegetation, angle_deg, gap_days: (N, T).  dynamic: (N, T, Fd).
    statics: (N, Fs).  observed: (N, T) bool.
    """

    sigma0_db: Tensor
    vegetation: Tensor
    angle_deg: Tensor
    gap_days: Tensor
    dynamic: Tensor
    statics: Tensor
    observed: Tensor

    def take(self, index: Tensor) -> Batch:
        """Return the windows of ``index``."""
        return Batch(*(getattr(self, item.name)[index] for item in fields(self)))


def read_source(config: Config) -> Source:
    """Read the table a configuration names, with its labels and groups.

    DataError where a column is absent or holds what it cannot.
    """
    wcm = config.wcm.with_a(config.wcm.a)
    read = {MODELS[model].reads for model in config.crossval.models}
    needed, features = ["sm"], config.columns()
    if read & {"radar", "soil"}:
        needed.append(f"{config.inputs.polarisation}_db")
    else:
        features = tuple(name for name in features if not is_radar(name))
    if "soil" in read:
        needed += [wcm.vegetation_name, *(["angle_deg"] if wcm.needs_angle else [])]
    for model in config.crossval.models:
        features += tuple(name for name in config.unseen(model) if name not in features)
    if "oracle" in config.crossval.models:
        features = (*features, "sm_oracle")
    weather = None
    if config.data.weather:
        weather = read_weather(
            config.folder / config.data.weather, config.data.weather_utc_offset_hours
        )
        features = tuple(name for name in features if not is_weather(name))
    features = tuple(name for name in features if name not in config.data.indicators)
    sheet = _blanked(read_sheet(config.table), config.data.missing)
    options = ReadOptions(
        columns_to_read(features),
        needed,
        keep=config.data.keep,
        option="[data] keep =",
        reads=_columns_read(config, [*needed, *features]),
    )
    table = table_of(sheet, options)
    if weather is not None:
        table = with_weather(table, weather, config.columns())
    table = with_indicators(table, config.data.indicators)
    filled = hold_vegetation(table, config.data.hold_vegetation_days)
    table, held = filled.table, filled.held
    label, dropped = table.numbers["sm"].astype(np.float32), {}
    for name in config.data.drop:
        unwanted = _is_true(table, name) & np.isfinite(label)
        dropped[name] = int(unwanted.sum())
        label = np.where(unwanted, np.float32(np.nan), label)
    return Source(
        table=table,
        label=label,
        group=groups_of(table, config.data.group),
        simulated="simulated" in set(table.text.get("source", ())),
        sha256=_digest(config),
        held=held,
        dropped=dropped,
        weather=weather,
    )


def _columns_read(config: Config, names: Sequence[str]) -> tuple[str, ...]:
    """Return every column that a training reads; a cell of any other never refuses a table.

    names: labels, inputs and features.
    """
    data = config.data
    words = [column for column, *_ in data.indicators.values()]
    others = [name for name in (data.group, data.fold, config.wcm.by, *data.drop, *words) if name]
    held = HELD_COLUMNS if data.hold_vegetation_days else ()
    return (*columns_behind(names), *FROZEN_BY, *held, "ndvi", "source", *others)


def with_indicators(table: Table, indicators: Mapping[str, Sequence[str]]) -> Table:
    """Add columns of 0 and 1 that tell whether a text column begins with certain words.

    indicators: new column -> (text column, beginnings ...). An empty cell gives 0.
    DataError where the text column is absent.
    """
    numbers = dict(table.numbers)
    for name, (column, *beginnings) in indicators.items():
        words = [word.strip().lower() for word in _as_text(table, column)]
        starts = tuple(word.lower() for word in beginnings)
        numbers[name] = np.asarray([word.startswith(starts) for word in words], np.float64)
    return replace(table, numbers=numbers)


def _blanked(sheet: Sheet, missing: Sequence[str]) -> Sheet:
    """Empty every cell that is written like one of ``missing``."""
    if not missing:
        return sheet
    columns = {
        name: tuple("" if str(cell).strip() in missing else str(cell) for cell in cells)
        for name, cells in sheet.columns.items()
    }
    return replace(sheet, columns=columns)


def _digest(config: Config) -> str:
    """Return sha256 of the table, and of the weather file where there is one."""
    digest = hashlib.sha256(Path(config.table).read_bytes())
    if config.data.weather:
        digest.update((config.folder / config.data.weather).read_bytes())
    return digest.hexdigest()


def is_radar(feature: str) -> bool:
    """Return True for a feature that is computed from backscatter.

    >>> [is_radar(name) for name in ("vv_db", "vh_field_db", "ndvi_scene", "angle_deg")]
    [True, True, False, False]
    """
    return feature.startswith(("vh_", "vv_"))


def samples_of(
    source: Source, config: Config, model: str, train_rows: NDArray[np.int64] | None = None
) -> Samples:
    """Make samples as ``model`` of :data:`kgsm_train.models.MODELS` reads them.

    One that reads ``soil`` needs the vegetation, one that reads ``radar`` does not.
    ``no-radar`` leaves out every feature made of backscatter and its backscatter channel is
    0 everywhere; ``nothing`` holds labels and dates only.
    train_rows: where the typical place is taken from
    (:class:`kgsm_infer.context.definitions.Typical`); all rows where not given.
    """
    config, _ = with_fitted_rain(config, source.table, source.weather, source.label, train_rows)
    reads = MODELS[model].reads
    wcm = config.wcm.with_a(config.wcm.a) if reads == "soil" else None
    radar = reads in ("radar", "soil")
    dynamic, statics = config.dynamic(model), config.statics(model)
    history = WHOLE_ARCHIVE
    if reads != "nothing":
        seen = np.arange(len(source.table)) if train_rows is None else train_rows
        history = history_rule(config.head, source.table, [*dynamic, *statics], seen)
    if not radar:
        dynamic = tuple(name for name in dynamic if not is_radar(name))
        statics = tuple(name for name in statics if not is_radar(name))
    inputs = InputColumns(
        backscatter=f"{config.inputs.polarisation}_db" if radar else None,
        vegetation=wcm.vegetation_name if wcm else None,
        angle="angle_deg" if wcm and wcm.needs_angle else None,
        dynamic=tuple(dynamic) if reads != "nothing" else (),
        statics=tuple(statics) if reads != "nothing" else (),
    )
    observed = observe(source.table, inputs, history)
    if not radar:  # a constant channel has no information
        observed = replace(observed, sigma0_db=np.zeros(len(source.table), np.float32))
    if reads != "nothing":  # as at inference
        observed = replace(
            observed,
            dynamic=_in_range(dynamic, observed.dynamic),
            statics=_in_range(statics, observed.statics),
        )
    windows = window_rows(observed.site, source.table.day, config.steps(model))
    return Samples(
        observed=observed,
        rows=check_history(windows, observed.day)[0],
        sm=source.label,
        group=source.group,
        complete=complete_rows(observed, wcm),
        wcm_class=text_column(source.table, config.wcm.by)
        if config.wcm.by
        else np.full(len(source.table), "all"),
        channels=(
            "soil_db" if wcm else f"{config.inputs.polarisation}_db",
            *dynamic,
            *statics,
            "gap_days",
        ),
        unseen=config.unseen(model),
        history=history,
    )


def history_rule(
    head: HeadOptions, table: Table, names: Sequence[str], rows: NDArray[np.int64]
) -> HistoryRule:
    """Define the contexts among ``names``; typical values come from ``rows`` alone."""
    typical = {}
    if any(first_available(name, table.numbers) != name and "_anomaly" in name for name in names):
        for pol in POLARISATIONS:
            if f"{pol}_db" in table.numbers:
                typical[pol] = typical_place(table, f"{pol}_db", rows, head.typical_looks)
    return HistoryRule(head.history, typical)


def typical_place(table: Table, column: str, rows: NDArray[np.int64], looks: float) -> Typical:
    """Return the typical place of a table's ``rows``: the mean dB, and the root mean variance
    in time over the places with several dates. DataError where no row has a value."""
    value = table.numbers[column][rows]
    known = np.isfinite(value)
    value, place = value[known], group_rows(table, SharedBy.SITE_PAST)[rows][known]
    if not len(value):
        raise DataError(f"{table.source}: no {column} to take a typical place from")
    count = np.bincount(place)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(place, value) / count
        variance = np.bincount(place, (value - mean[place]) ** 2) / count
    several = count > 1
    swing_db = float(np.sqrt(variance[several].mean())) if several.any() else 0.0
    return Typical(looks, float(value.mean()), swing_db or 1.0)


def _in_range(names: tuple[str, ...], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values (R, k) of the named columns, infinite where the data contract forbids them."""
    ranges = [range_of(name) or (-np.inf, np.inf) for name in names]
    low, high = np.asarray(ranges, np.float32).reshape(-1, 2).T
    return bounded(values, low, high)


def complete_rows(observed: Observations, wcm: Wcm | None) -> NDArray[np.bool_]:
    """Select acquisitions (R,) with all inputs present, in range, and not frozen."""
    if wcm is None:
        channel_db, _ = kernels.screen(observed.sigma0_db, Limits())
    else:  # with A = 0 no soil signal is lost: NaN is a missing or impossible input
        channel_db = isolate_observed(wcm.replace_a(0.0), observed).soil_db
    complete = np.isfinite(channel_db) & np.isfinite(observed.day)
    complete &= ~observed.frozen & ~observed.frost_unknown
    return complete & np.isfinite(observed.dynamic).all(axis=1)


def batch_of(samples: Samples, index: NDArray[np.int64]) -> Batch:
    """Return the windows of the samples in ``index``, placeholders where not observed."""
    observed, rows = samples.observed, samples.rows[index]
    pad = rows < 0
    fine = samples.complete[rows] & ~pad

    def plane(values: NDArray[np.float32] | None, placeholder: float) -> Tensor:
        if values is None:
            return torch.full(rows.shape, placeholder)
        return torch.from_numpy(np.where(fine, values[rows], np.float32(placeholder)))

    gap_days = np.zeros(rows.shape, np.float32)  # of days in float64, as every engine does
    gap_days[:, 1:] = observed.day[rows[:, 1:]] - observed.day[rows[:, :-1]]
    gap_days[:, 1:][pad[:, :-1]] = 0
    gap_days[~np.isfinite(gap_days)] = 0
    dynamic = np.where(fine[..., None], observed.dynamic[rows], np.float32(0))
    return Batch(
        sigma0_db=plane(observed.sigma0_db, _PLACEHOLDER_DB),
        vegetation=plane(observed.vegetation, 0.0),
        angle_deg=plane(observed.angle_deg, _PLACEHOLDER_ANGLE_DEG),
        gap_days=torch.from_numpy(gap_days),
        dynamic=torch.from_numpy(dynamic),
        statics=torch.from_numpy(_finite(observed.statics[rows[:, -1]])),
        observed=torch.from_numpy(fine),
    )


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace NaN by 0: rows that lack a static are neither trained on nor estimated."""
    return np.where(np.isfinite(values), values, np.float32(0))


def groups_of(table: Table, name: str) -> NDArray[np.str_]:
    """Return (R,) the group of each row; ``year``, where there is no such column, from the date."""
    if name == "year" and "year" not in table.numbers and "year" not in table.text:
        return table.date.astype("datetime64[Y]").astype(np.str_)
    return text_column(table, name)


def text_column(table: Table, name: str) -> NDArray[np.str_]:
    """Read a grouping column as text, (R,); DataError where it is absent or has an empty cell."""
    if name == "site":
        return table.site
    values = np.asarray(_as_text(table, name), np.str_)
    empty = np.flatnonzero(values == "")
    if len(empty):
        raise DataError(
            f"{table.source}: row {table.row(int(empty[0]))}, column {name}: empty; "
            "every row needs its group, or a place could leak between folds"
        )
    return values


def _is_true(table: Table, name: str) -> NDArray[np.bool_]:
    """Read a true/false column, (R,); an empty cell is false."""
    words = [word.strip().lower() for word in _as_text(table, name)]
    for i, word in enumerate(words):
        if word not in TRUE_WORDS + FALSE_WORDS:
            raise DataError(
                f"{table.source}: row {table.row(i)}, column {name}: {word!r} is neither "
                "true nor false; write true/false or 1/0"
            )
    return np.asarray([word in TRUE_WORDS for word in words], bool)


def _as_text(table: Table, name: str) -> list[str]:
    if name in table.text:
        return list(table.text[name])
    if name in table.numbers:
        return ["" if np.isnan(value) else f"{value:g}" for value in table.numbers[name]]
    have = ", ".join([*table.numbers, *table.text])
    raise DataError(f"{table.source}: no column {name!r}; it has {have}")
