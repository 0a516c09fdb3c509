"""The HTTP side: what it answers, by which path. No part of a request names a file.

GET  /                          the page
GET  /v1/latest[.csv|.geojson]  the present state of every paddock, or of ?paddock=
GET  /v1/history[.csv|.geojson] one paddock's series: ?paddock= &since= &limit= &revisions=
GET  /v1/daily[.csv]            today's value of every paddock, or the days of ?paddock=
GET  /v1/arrivals               the newest files taken
GET  /v1/ngsi-ld, /v1/sensorthings   the present state in other people's formats
POST /v1/retrieve               a table's values with the store's history; nothing is stored
POST /v1/acquisitions           a table into the spool
POST /v1/probes                 readings of sensors
POST /v1/rain                   rain of local days, into the spool
POST /v1/irrigation             irrigation of paddocks, done or planned, into the spool
GET  /health, /metrics, /openapi.json
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...base.errors import DataError, KgsmError
from ...base.schema import build_from_text, parse_json
from ..config import Gateway
from ..farm import Paddocks
from ..health import Process
from ..intake.archive import make_folders
from ..keys import paddock_key
from ..log import Log
from ..records import canonical, iso, record
from ..store.database import Store
from ..store.failures import StoreBroken
from ..store.rows import Sensed, Value
from .cancellation import run_cancellable
from .parameters import DailyParameters, HistoryParameters, LatestParameters, NoParameters
from .queries import Queries, as_csv, daily_csv_columns

if TYPE_CHECKING:
    from ..update.retrieval import Loaded

_Parameters = TypeVar("_Parameters")
#: Seconds until a reading of a probe is on the page; the values of an arrival are there at once.
PAGE_HOLD_S = 30.0
JSON, CSV, GEOJSON = "application/json", "text/csv; charset=utf-8", "application/geo+json"


@dataclass
class Api:
    """The answers. probed: called after readings were stored, to wake who corrects by them."""

    gateway: Gateway
    paddocks: Paddocks
    log: Log
    counts: Mapping[str, int] = field(default_factory=dict)
    probed: Callable[[], None] = lambda: None
    status: Callable[[], Process] = Process
    queries: Queries = field(init=False)
    _loaded: tuple[str, Loaded] | None = None

    def __post_init__(self) -> None:
        self.queries = Queries(self.gateway, self.paddocks)

    def application(self) -> Starlette:
        """Return the routes. Errors are JSON, one line, and never a traceback."""
        kinds = {"": JSON, ".csv": CSV, ".geojson": GEOJSON}
        routes = [
            Route("/", self.page),
            *(Route(f"/v1/latest{end}", partial(self.latest, kind)) for end, kind in kinds.items()),
            *(
                Route(f"/v1/history{end}", partial(self.history, kind))
                for end, kind in kinds.items()
            ),
            *(Route(f"/v1/daily{end}", partial(self.daily, kinds[end])) for end in ("", ".csv")),
            Route("/v1/arrivals", self.arrivals),
            Route("/v1/ngsi-ld", self.ngsi_ld),
            Route("/v1/sensorthings", self.sensorthings),
            Route("/v1/retrieve", self.retrieve, methods=["POST"]),
            Route("/v1/acquisitions", self.acquisitions, methods=["POST"]),
            Route("/v1/probes", self.probes, methods=["POST"]),
            Route("/v1/rain", self.rain, methods=["POST"]),
            Route("/v1/irrigation", self.irrigation, methods=["POST"]),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
        ]
        return Starlette(
            routes=routes,
            exception_handlers={
                HTTPException: _http_error,  # type: ignore[dict-item]
                KgsmError: _kgsm_error,  # type: ignore[dict-item]
                Exception: self._unexpected,
            },
        )

    # -- the page --------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """Send the page in the browser's language."""
        from .page import content_policy, render_page
        from .strings import choose_language

        language = choose_language(request.headers.get("accept-language", ""))
        key = f"page {language}"
        body = self.queries.reader.cached(
            key, lambda: render_page(self.queries, language), PAGE_HOLD_S
        )
        zipped = self._zipped(key, body, PAGE_HOLD_S)
        answer = _sent(request, body, "text/html; charset=utf-8", zipped)
        answer.headers["vary"] = "accept-encoding, accept-language"
        answer.headers["content-security-policy"] = content_policy()
        return answer

    # -- reading ---------------------------------------------------------------------------

    async def latest(self, kind: str, request: Request) -> Response:
        """Present states; of one paddock with ``paddock``."""
        paddock = _read_parameters(LatestParameters, request).paddock
        if paddock is not None:
            paddock = paddock_key(paddock)
            self._known(paddock)
            return _sent(request, self._form(kind, self.queries.latest(paddock)), kind)
        body = self.queries.reader.cached(
            f"latest {kind}", lambda: self._form(kind, self.queries.latest())
        )
        return _sent(request, body, kind, self._zipped(f"latest {kind}", body))

    async def history(self, kind: str, request: Request) -> Response:
        """Return one paddock's series, oldest first."""
        asked = _read_parameters(HistoryParameters, request)
        paddock = paddock_key(asked.paddock)
        self._known(paddock)
        values = self.queries.history(paddock, asked.since, asked.limit, asked.revisions)
        return _sent(request, self._form(kind, [record(value) for value in values]), kind)

    async def daily(self, kind: str, request: Request) -> Response:
        """Return today's values; with ``paddock`` its days, oldest first, and its outlook."""
        asked = _read_parameters(DailyParameters, request)
        if asked.paddock is not None:
            paddock = paddock_key(asked.paddock)
            self._known(paddock)
            series = self.queries.daily_series(paddock, asked.since, asked.limit, asked.revisions)
            body = self._days(kind, series)
            return _sent(request, body, kind, gzip.compress(body, 6, mtime=0))
        key = f"daily {kind}"
        body = self.queries.reader.cached(key, lambda: self._days(kind, self.queries.daily_today()))
        return _sent(request, body, kind, self._zipped(key, body))

    def _days(self, kind: str, records: list[dict[str, Any]]) -> bytes:
        if kind == CSV:
            return as_csv(records, daily_csv_columns(records))
        return canonical({"values": records})

    async def arrivals(self, request: Request) -> Response:
        """List the newest files that were read."""
        _read_parameters(NoParameters, request)
        store = self.queries.reader.store()
        found = [] if store is None else store.arrivals()
        for item in found:
            for key in ("first", "last"):
                item[key] = None if item[key] is None else iso(item[key])
        return _sent(request, canonical({"arrivals": found}), JSON)

    async def ngsi_ld(self, request: Request) -> Response:
        """Return entities of the paddocks that have an outline, which the data model requires."""
        from ..publish.ngsi_ld import agri_parcel_record

        _read_parameters(NoParameters, request)

        def make() -> bytes:
            outlined, names = self.paddocks.outlines_lon_lat, self.paddocks.titles
            values = self._present()
            return canonical(
                [
                    agri_parcel_record(
                        value,
                        self.gateway.name,
                        outlined[value.paddock],
                        names.get(value.paddock, value.paddock),
                    )
                    for value in values
                    if outlined.get(value.paddock)
                ]
            )

        return _sent(request, self.queries.reader.cached("ngsi-ld", make), "application/ld+json")

    async def sensorthings(self, request: Request) -> Response:
        """Return things with their Datastreams, as a collection."""
        from ..publish.sensorthings import thing

        _read_parameters(NoParameters, request)

        def make() -> bytes:
            outlined, names = self.paddocks.outlines_lon_lat, self.paddocks.titles
            things = [
                thing(value, outlined.get(value.paddock), names.get(value.paddock, value.paddock))
                for value in self._present()
            ]
            return canonical({"value": things})

        return _sent(request, self.queries.reader.cached("sensorthings", make), JSON)

    async def metrics(self, request: Request) -> Response:
        """Return figures for Prometheus."""
        from .metrics import exposition

        _read_parameters(NoParameters, request)
        body, kind = exposition(self.queries, self.counts, self.status())
        return _sent(request, body, kind)

    async def health(self, request: Request) -> Response:
        """Return the state for a monitor; 503 where the store cannot be read."""
        _read_parameters(NoParameters, request)
        return _sent(request, canonical(self.queries.health(self.status())), JSON)

    async def openapi(self, request: Request) -> Response:
        """Return this API's OpenAPI 3.1 document."""
        from .openapi import document

        return _sent(request, canonical(document(self.gateway.title)), JSON)

    # -- posting ---------------------------------------------------------------------------

    async def retrieve(self, request: Request) -> Response:
        """Retrieve values of a posted table with the history of the store; nothing is kept."""
        cells = await _table(request)
        values = await run_cancellable(self._tried, cells)
        return _sent(request, canonical({"values": [record(value) for value in values]}), JSON)

    async def acquisitions(self, request: Request) -> Response:
        """Check a posted table and put it into the spool, from where the watch reads it."""
        content = await request.body()
        cells = await _table(request)
        intake = await run_in_threadpool(self._intake, cells)
        digest = hashlib.sha256(content).hexdigest()
        await run_in_threadpool(self._drop, content, digest)
        answer = {"digest": digest, "rows": len(intake.rows), "left_out": list(intake.left_out)}
        return _sent(request, canonical(answer), JSON, status=202)

    async def probes(self, request: Request) -> Response:
        """Store sensors' readings: {"readings": [{"paddock", "at", "sm", "sensor"?}, …]}."""
        from ..intake.probe_readings import readings_of

        if _media(request) != "application/json":
            raise HTTPException(415, "send JSON, as application/json")
        readings = readings_of(_json(await request.body()), self.paddocks)
        await run_in_threadpool(self._put_probes, readings)
        return _sent(request, canonical({"readings": len(readings)}), JSON, status=201)

    def _open_store(self) -> Store:
        """Open the store to write; before the first watch it is created."""
        make_folders(self.gateway.state)
        return Store(self.gateway.database)

    async def rain(self, request: Request) -> Response:
        """Put rain into the spool: a weather file as CSV, or {"rain": [{"date", "rain_mm"}, …]}."""
        from ..intake.rain_files import drop_posted_rain, write_rain

        body, spool = await request.body(), self.gateway.spool
        if _media(request) == "application/json":
            days = await run_in_threadpool(write_rain, _json(body), self._rules(), spool)
            return _sent(request, canonical({"days": days}), JSON, status=202)
        await _table(request)
        days = await run_in_threadpool(drop_posted_rain, body, self._rules(), spool)
        return _sent(request, canonical({"days": days}), JSON, status=202)

    async def irrigation(self, request: Request) -> Response:
        """Put irrigation into the spool: paddock, date, mm as CSV, or {"irrigation": [...]}."""
        from ..intake.irrigation_files import drop_irrigation_file, write_irrigation

        body, spool = await request.body(), self.gateway.spool
        if _media(request) == "application/json":
            rows = await run_in_threadpool(write_irrigation, _json(body), self._rules(), spool)
        else:
            await _table(request)
            rows = await run_in_threadpool(drop_irrigation_file, body, self._rules(), spool)
        return _sent(request, canonical({"rows": rows}), JSON, status=202)

    def _rules(self) -> Any:
        """Return the rules by which weather and irrigation files are read."""
        from ..intake.tables import TableRules

        return TableRules(self.paddocks, self.gateway.columns)

    def _put_probes(self, readings: Sequence[Sensed]) -> None:
        with self._open_store() as store:
            store.put_probes(readings)
        self.probed()

    def _tried(self, cells: Mapping[str, Any]) -> list[Value]:
        from ..update.arrival import retrieve_without_storing

        intake = self._intake(cells)
        with self._open_store() as store:
            found = retrieve_without_storing(store, self._model(store), intake.rows)
        return [found[key] for key in sorted(found)]

    def _intake(self, cells: Mapping[str, Any]) -> Any:
        from ..intake.tables import TableRules, rows_of_columns

        with self._open_store() as store:
            loaded = self._model(store)
        rules = TableRules(
            paddocks=self.paddocks,
            columns=self.gateway.columns,
            needed=loaded.inputs,
            statics=loaded.statics,
            contradictions=self.gateway.contradictions,
        )
        return rows_of_columns(cells, "the table", rules)

    def _drop(self, content: bytes, digest: str) -> None:
        from ...base.files import write_whole

        make_folders(self.gateway.spool)
        with write_whole(self.gateway.spool / f"posted-{digest[:16]}.csv", "wb") as file:
            file.write(content)

    def _model(self, store: Store) -> Loaded:
        """Return the model in use, loaded again when it changes."""
        from ..update.models import begin, entries, newest

        if not self.gateway.models.is_dir():
            self.gateway.models.mkdir(parents=True)
        if not entries(self.gateway):
            begin(store, self.gateway, self.log)
        name = entries(self.gateway)[-1].path.name
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = (name, newest(self.gateway, self.log)[1])
        return self._loaded[1]

    # -- common ----------------------------------------------------------------------------

    def _form(self, kind: str, records: list[dict[str, Any]]) -> bytes:
        if kind == CSV:
            return as_csv(records)
        return self.queries.geojson(records) if kind == GEOJSON else canonical({"values": records})

    def _zipped(self, key: str, body: bytes, hold_s: float = 0.0) -> bytes:
        return self.queries.reader.cached(
            f"{key} gzip", lambda: gzip.compress(body, 6, mtime=0), hold_s
        )

    def _present(self) -> list[Value]:
        return self.queries.present()

    def _known(self, paddock: str) -> None:
        if not self.queries.known(paddock):
            raise HTTPException(404, f"no paddock {paddock[:64]!r}")

    async def _unexpected(self, request: Request, error: Exception) -> Response:
        self.log("request_failed", path=request.url.path, reason=repr(error))
        return _refusal(500, "the gateway failed at this; its log says how")


Handler = Callable[[Request], Awaitable[Response]]


def _sent(
    request: Request, body: bytes, kind: str, zipped: bytes | None = None, status: int = 200
) -> Response:
    headers = {"vary": "accept-encoding"} if zipped else {}
    if zipped and accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(zipped, status, {**headers, "content-encoding": "gzip"}, kind)
    return Response(body, status, headers, kind)


def accepts_gzip(accepted: str) -> bool:
    """Return True if an Accept-Encoding header allows gzip.

    >>> accepts_gzip("gzip, br"), accepts_gzip("gzip;q=0, identity"), accepts_gzip("br")
    (True, False, False)
    """
    for part in accepted.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return weight.replace(" ", "").rstrip("0").rstrip(".") not in ("q=", "q=0")
    return False


def _refusal(status: int, why: str) -> Response:
    return Response(canonical({"error": " ".join(why.split())}), status, media_type=JSON)


async def _http_error(request: Request, error: HTTPException) -> Response:
    answer = _refusal(error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer


async def _kgsm_error(request: Request, error: KgsmError) -> Response:
    if isinstance(error, DataError):
        return _refusal(422, str(error))
    if isinstance(error, StoreBroken):
        return _refusal(503, "the store is being restored; try again")
    return _refusal(503, "the gateway cannot do this now; its log says why")


def _read_parameters(kind: type[_Parameters], request: Request) -> _Parameters:
    """Return the parameters of a request; 422 names one that is unknown, wrong or given twice."""
    pairs = request.query_params.multi_items()
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise HTTPException(422, f"parameter {name[:64]!r} is given twice")
    try:
        return build_from_text(kind, dict(pairs))
    except ValueError as error:
        raise HTTPException(422, f"parameter {error}") from None


def _media(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _json(body: bytes) -> Any:
    try:
        return parse_json(body)
    except ValueError as error:
        raise HTTPException(400, f"not JSON ({error})") from None


async def _table(request: Request) -> Mapping[str, Any]:
    """Read the columns of a posted CSV table."""
    if _media(request) != "text/csv":
        raise HTTPException(415, "send a table as CSV, as text/csv")
    return await run_in_threadpool(_columns, await request.body())


def _columns(body: bytes) -> Mapping[str, Any]:
    from ...tables.reading import read_sheet
    from ..intake.rain_files import content_as_file

    with content_as_file(body) as path:
        try:
            return read_sheet(path).columns
        except DataError as error:
            raise DataError(str(error).replace(str(path), "the table")) from None
