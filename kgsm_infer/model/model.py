"""Load a model and retrieve its quantity, with interval and quality flags, from observations.

Order of steps: window, isolation, tile, LSTM, retrieval. An engine
(:mod:`kgsm_infer.model.engines`) does all but the last, which is the same for every engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import flags
from ..base.errors import DataError, ModelError, UsageError
from ..base.log import LOGGER
from ..context.definitions import CONTEXT, first_available, looks_back
from ..kernels.domain import Domain
from ..kernels.window import check_history, check_history_of_runs, window_rows
from ..tables.columns import FROM_DATE
from ..tables.keys import canonical_id
from ..tables.table import Table, table_from_columns
from ..tables.vegetation import held_columns, hold_vegetation
from .arrays import date_features, feature_block, spread
from .card import Card, card_domain
from .engines import Engine, engine_of
from .observations import (
    Observations,
    columns_behind,
    columns_to_read,
    dense_vegetation,
    frost_flags,
    mark_out_of_range,
    observe,
)
from .onnx_reader import ModelFile, read_model_file
from .result import Retrieval, finish, outside_domain

_T = TypeVar("_T")

#: Windows per engine call: small enough for the cache, large enough to amortise the call.
TILE = 960
#: Windows whose acquisitions are isolated together where they are given as arrays.
BLOCK = 4 * TILE
#: Windows whose history is checked together, of one thread.
CHECKED = 16 * TILE


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A loaded model; :func:`load` makes one. Safe to share between threads and processes.

    Two models are equal if file content, card and engine are equal. A pickled model is loaded
    again from its path, and refused where the file has changed since.
    """

    file: ModelFile
    runs_on: Engine
    domain: Domain | None = None
    threads: int = 1

    @property
    def card(self) -> Card:
        """The model card."""
        return self.file.card

    @property
    def role(self) -> str:
        """``complete`` or ``core``, whichever file was loaded."""
        return self.file.role

    @property
    def path(self) -> Path | None:
        """The file it was loaded from; None for bytes."""
        return self.file.path

    def __repr__(self) -> str:
        return f"<kgsm model {self.file.name}: {self.card.kind}, {self.role}, {self.engine}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        same_file = (self.file.sha256, self.engine) == (other.file.sha256, other.engine)
        return same_file and self.card == other.card

    def __hash__(self) -> int:
        return hash((self.file.sha256, self.engine))

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: object) -> Model:
        return self  # nothing in it changes

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.file.path
        source = self.file.content if path is None else path.absolute()
        own = read_model_file(self.file.content).card
        card = None if self.card == own else self.card
        return _load_again, (source, self.file.sha256, card, self.engine, self.threads)

    @property
    def engine(self) -> str:
        """``native`` or ``onnxruntime``."""
        return self.runs_on.name

    def retrieve(
        self,
        sigma0_db: ArrayLike,
        ndvi: ArrayLike | None = None,
        angle_deg: ArrayLike | None = None,
        features: ArrayLike | Mapping[str, ArrayLike] | None = None,
        *,
        statics: ArrayLike | Mapping[str, ArrayLike] | None = None,
        days: ArrayLike | None = None,
        vwc_kg_m2: ArrayLike | None = None,
        frozen: ArrayLike | None = None,
    ) -> Retrieval:
        """Retrieve the last acquisition of N sequences.

        sigma0_db: (N, T), sigma0 in dB of the card's polarisation, oldest first. Fewer
            than the card's T are padded in front (``short_history``), of more the last
            T are used.
        ndvi or vwc_kg_m2, angle_deg: (N, T) or broadcastable, where the card uses them.
        features: (N, T, Fd) in the card's order, or a mapping name -> (N, T). In a
            mapping, ``ndvi``, ``angle_deg`` and the features made from the date may be
            left out.
        statics: (N, Fs) in the card's order, or a mapping name -> (N,).
        days: (T,) or (N, T), numbers, datetime64, date objects or ISO 8601 text; may be left out
            where T is 1.
        frozen: (N, T) true where the soil is frozen or under snow.

        Missing is NaN, or masked, and gives NaN with a flag. ValueError where shapes do not
        fit, or days are not valid days.
        """
        sigma0_db = spread("sigma0_db", sigma0_db)
        if sigma0_db.ndim != 2:
            raise ValueError(f"sigma0_db must be (N, T), got shape {sigma0_db.shape}")
        shape = sigma0_db.shape
        if shape[1] == 0:
            raise ValueError("sigma0_db has no acquisition (T is 0)")
        date, day = date_features(days, shape)
        wcm = self.card.wcm
        given: dict[str, ArrayLike | None] = {"ndvi": ndvi, "vwc_kg_m2": vwc_kg_m2}
        given["angle_deg"] = angle_deg
        given[f"{self.card.polarisation}_db"] = sigma0_db

        def plane(name: str) -> NDArray[np.float32]:
            if given.get(name) is None:
                raise ValueError(f"this model reads {name}; give it")
            return spread(name, given[name], shape)

        dynamic = feature_block(
            features, self.card.names("dynamic"), shape, "features", {**given, **date}
        )
        static = feature_block(statics, self.card.names("static"), shape[:1], "statics", {})
        vegetation = plane(wcm.vegetation_name) if wcm else None
        angle = plane("angle_deg") if wcm and wcm.needs_angle else None
        seen = {
            name: spread(name, given[name], shape)
            for name in self.card.optional_columns
            if given.get(name) is not None
        }
        frost = spread("frozen", False if frozen is None else frozen, shape)

        def block(some: slice) -> Retrieval:
            windows = sigma0_db[some]
            size = windows.size
            observed = Observations(
                site=np.empty(0, np.str_),  # the windows are known, no site is read
                day=day[some].ravel(),
                sigma0_db=windows.ravel(),
                vegetation=None if vegetation is None else vegetation[some].ravel(),
                angle_deg=None if angle is None else angle[some].ravel(),
                dynamic=dynamic(some).reshape(size, self.card.layout.dynamic),
                statics=static(some),
                frozen=(frost[some] > 0).ravel(),
                frost_unknown=np.isnan(frost[some]).ravel(),
                context_missing=np.zeros(size, bool),  # the caller's features hold it
                dense=dense_vegetation({name: part[some].ravel() for name, part in seen.items()}),
            )
            rows = np.arange(size).reshape(windows.shape)[:, -self.card.steps :]
            padding = np.full((len(windows), self.card.steps - rows.shape[1]), -1)
            return one_thread.estimate(observed, np.hstack([padding, rows]), observed.statics)

        # block by block, so that memory beyond inputs and results does not grow
        one_thread = replace(self, threads=1)
        blocks = self._in_order(block, _tiles(shape[0], BLOCK)) or [block(slice(0, 0))]
        return blocks[0] if len(blocks) == 1 else Retrieval.concatenate(blocks)

    def predict(
        self,
        table: Any,
        only: NDArray[np.int64] | None = None,
        thin: NDArray[np.bool_] | None = None,
        hold_vegetation_days: float = 0.0,
    ) -> Retrieval:
        """Retrieve every row of ``table``, in its order; windows stay within a site.

        table: a :class:`kgsm_infer.Table`, or columns in memory: a mapping of arrays or lists,
            or a data frame of pandas, polars or pyarrow, checked as a file is.
        only: (N,) the rows to retrieve, in this order; the others are their past. None: all.
        thin: (R,) rows of which a context that the table gives is made of too little.
        hold_vegetation_days: fill missing vegetation that the model needs from the site's last
            acquisition, at most this many days old; flagged ``vegetation_old``. 0 fills nothing.

        DataError where the table lacks a column the card names.
        """
        if not isinstance(table, Table):
            read = self.table_of(table)
            result = self.predict(read, hold_vegetation_days=hold_vegetation_days)
            given = read.to_file_rows(np.arange(len(read)))  # rows of one pass are one acquisition
            _check_rows(only, len(given))
            return result.take(given if only is None else given[only])
        card = self.card
        if columns := held_columns(card.inputs.columns, hold_vegetation_days):
            filled = hold_vegetation(table, hold_vegetation_days, columns)
            result = self.predict(filled.table, only, thin)
            held = filled.held if only is None else filled.held[only]
            old = held * np.uint16(flags.VEGETATION_OLD)
            return replace(result, flags=result.flags | old)
        _check_rows(only, len(table))
        observed = observe(table, card.inputs, card.history)
        if thin is not None:
            observed = replace(observed, context_missing=observed.context_missing | thin)
        rows = window_rows(table.codes("site"), table.day, card.steps)
        wanted = slice(None) if only is None else only
        return self.estimate(observed, rows[wanted], observed.statics[wanted])

    def newest(self, table: Any, site: str | None = None) -> list[dict[str, Any]]:
        """Return the newest acquisition of every site, or of one, as a dict each.

        Keys: ``site``, ``date`` and those of :meth:`Retrieval.record`. Earlier rows are history.

        table: as in :meth:`predict`. DataError where it has no such site.
        """
        read = table if isinstance(table, Table) else self.table_of(table)
        names, code = np.unique(read.site, return_inverse=True)
        site = None if site is None else canonical_id(site)
        if site is not None and site not in names:
            raise DataError(f"{read.source}: no site {site!r}")
        last = np.lexsort((read.date, code))[np.cumsum(np.bincount(code)) - 1]
        last = last if site is None else last[names == site]
        result = self.predict(read, last)
        return [
            {"site": str(read.site[row]), "date": read.date_text[row], **result.record(i)}
            for i, row in enumerate(last)
        ]

    def table_of(self, columns: Any) -> Table:
        """Return a table of columns in memory with all columns that this model reads."""
        return table_from_columns(
            columns, features=self.table_features(), reads=self.columns_read()
        )

    def columns_read(self) -> tuple[str, ...]:
        """Return the columns of a table that are read, with those behind a context."""
        return columns_behind([*self.card.inputs.columns, *self.card.optional_columns])

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns a row must bring: those not made from the date or from other rows."""
        names = self.card.inputs.columns
        made_of = {first_available(name, ()) for name in names if name in CONTEXT}
        own = [name for name in names if name not in CONTEXT and name not in FROM_DATE]
        return tuple(dict.fromkeys([*own, *sorted(made_of)]))

    def looks_back(self) -> tuple[str, ...]:
        """Return the columns it reads that are made of a place's other dates."""
        names = (*self.card.names("dynamic"), *self.card.names("static"))
        return tuple(name for name in names if looks_back(name))

    def table_features(self) -> tuple[str, ...]:
        """Return the numeric columns to name to ``read_table`` beyond those it always checks."""
        return columns_to_read([*self.card.names("dynamic"), *self.card.names("static")])

    def estimate(
        self, observed: Observations, rows: NDArray[np.int64], statics: NDArray[np.float32]
    ) -> Retrieval:
        """Retrieve N windows over R observations.

        rows: (N, T) indices into the observations, -1 is padding.  statics: (N, Fs).
        """
        return self.over(observed)(rows, statics)

    def over(
        self, observed: Observations, alike: int = 1
    ) -> Callable[[NDArray[np.int64], NDArray[np.float32]], Retrieval]:
        """Check and isolate R observations once; the result retrieves windows over them.

        It takes rows (N, T) and statics (N, Fs) as :meth:`estimate` does, as often as wanted:
        a map calls it once per date.

        alike: number of neighbouring windows that share the days of their steps, as the pixels of
        one date do; their history is checked once.
        """
        card = self.card
        # inputs out of range are so for every engine, and so is the history
        observed = mark_out_of_range(card.inputs, observed)
        observed = replace(observed, dynamic=card.in_range("dynamic", observed.dynamic))
        windows = self.runs_on.over(observed)
        frost = frost_flags(observed)

        def retrieve(rows: NDArray[np.int64], statics: NDArray[np.float32]) -> Retrieval:
            statics = card.in_range("static", statics)
            n = len(rows)
            sm, soil_db = np.empty(n, np.float32), np.empty(n, np.float32)
            mask, far = np.empty(n, np.uint16), np.zeros(n, bool)
            longest, in_runs = card.longest_gap_days, None
            if alike > 1:
                in_runs = check_history_of_runs(rows, observed.day, longest, alike)

            def work(block: slice) -> None:
                if in_runs is None:
                    some, far[block] = check_history(rows[block], observed.day, longest)
                else:
                    some, far[block] = in_runs[0][block], in_runs[1][block]
                for tile in _tiles(len(some)):
                    whole = slice(block.start + tile.start, block.start + tile.stop)
                    found = windows(some[tile], statics[whole])
                    sm[whole], soil_db[whole], mask[whole] = found

            # the tiles do not depend on the number of threads and each writes its own part of
            # the results, so the numbers do not depend on it either
            self._in_order(work, _tiles(n, CHECKED))
            last = rows[:, -1]
            if self.domain is not None:
                far |= outside_domain(card, self.domain, observed, last, statics, soil_db)
            far &= (mask & flags.NO_NUMBER) == 0
            mask |= far * np.uint16(flags.OUTSIDE_DOMAIN)
            # frozen soil gets no other flag: the engines cannot differ in what they saw
            raised = mask | observed.context_missing[last] * np.uint16(flags.CONTEXT_MISSING)
            if observed.dense is not None:
                dense = observed.dense[last] & ((raised & flags.NO_NUMBER) == 0)
                raised = raised | dense * np.uint16(flags.DENSE_VEGETATION)
            frozen = frost[last]
            raised = np.where(frozen > 0, (raised & flags.SHORT_HISTORY) | frozen, raised)
            return finish(card, sm, soil_db, raised, observed.dynamic[last])

        return retrieve

    def _in_order(self, work: Callable[[slice], _T], parts: Iterable[slice]) -> list[_T]:
        """Return the results of ``work`` on parts; ``threads`` threads share them."""
        if self.threads == 1:
            return [work(part) for part in parts]
        from concurrent.futures import ThreadPoolExecutor  # a cold start does without

        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, parts))


def load(source: str | Path | bytes, *, engine: str = "auto", threads: int = 1) -> Model:
    """Load ``NAME.onnx`` or ``NAME.core.onnx``; either file alone is enough.

    source: the file's path, or its content.
    engine: ``native`` needs numpy alone; ``onnxruntime``; ``auto`` as in
        :func:`kgsm_infer.model.engines.engine_of`.
    threads: tiles worked on at once. One is the default: a gateway has other work.

    ModelError says why a file is refused, MissingError that onnxruntime is not there,
    UsageError what the call got wrong.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise UsageError(f"threads is {threads!r}; it must be a whole number of at least 1")
    file = read_model_file(source)
    model = Model(file, engine_of(file, engine), card_domain(file.card), threads)
    LOGGER.info("%s: sha256 %s, engine %s", file.name, file.sha256[:16], model.runs_on.name)
    return model


def _check_rows(only: NDArray[np.int64] | None, rows: int) -> None:
    """Raise ValueError where ``only`` names a row that a table does not have."""
    if only is None:
        return
    index = np.asarray(only)
    if index.size and not (index.dtype.kind in "iu" and 0 <= index.min() <= index.max() < rows):
        raise ValueError(f"only must be numbers of rows from 0 to {rows - 1}")


def _load_again(
    source: Path | bytes, sha256: str, card: Card | None, engine: str, threads: int
) -> Model:
    """Load a pickled model in another process, with its card where that is not its file's."""
    model = load(source, engine=engine, threads=threads)
    if model.file.sha256 != sha256:
        raise ModelError(f"{model.file.name}: not the file it was when the model was pickled")
    return model if card is None else with_card(model, card, engine)


def with_card(model: Model, card: Card, engine: str) -> Model:
    """Return the model with another card, and an engine for that card."""
    file = replace(model.file, card=card)
    return replace(model, file=file, runs_on=engine_of(file, engine))


def _tiles(n: int, size: int = TILE) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
