"""The API: its document, its answers, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import pytest
from made_brokers import free_port
from made_gateways import Events, columns_of, drop, made_gateway, made_model, scanned
from running import PATIENCE_S, wait_for
from starlette.testclient import TestClient

from kgsm_infer import load
from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.http import limits
from kgsm_infer.gateway.http.api import Api
from kgsm_infer.gateway.http.limits import RequestLimits
from kgsm_infer.gateway.http.openapi import document
from kgsm_infer.gateway.http.serve import _OPEN, Server
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.tables.table import table_from_columns


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    gateway = made_gateway(folder, paddocks=4, model=made_model(folder / "m"))
    for day in (0, 12, 6):
        drop(gateway, columns_of(day), f"{day}.csv")
        scanned(gateway)
    return gateway


def application(gateway, **changes):
    api = Api(gateway, load_paddocks(gateway), Events())
    options = {"token": None, "hosts": frozenset(), "body_bytes": 10_000, "requests_per_s": 0.0}
    return RequestLimits(api.application(), **{**options, **changes})


@pytest.fixture
def clients():
    """Clients of applications; one thread each, as in the server."""
    with ExitStack() as stack:

        def client(gateway, base_url="http://testserver", **changes):
            made = TestClient(
                application(gateway, **changes), base_url=base_url, raise_server_exceptions=False
            )
            return stack.enter_context(made)

        yield client


@pytest.fixture
def client(gateway, clients):
    return clients(gateway)


def csv_of(columns):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def test_the_document_is_openapi(gateway):
    from openapi_spec_validator import OpenAPIV31SpecValidator, validate

    validate(document("Soil moisture"), cls=OpenAPIV31SpecValidator)


def test_answers_fit_the_schemas_of_the_document(tmp_path, gateway, clients):
    """Records and health are made from the dataclasses that the document is made from."""
    jsonschema = pytest.importorskip("jsonschema")
    client = clients(gateway)
    document = client.get("/openapi.json").json()
    resolver = {"components": document["components"]}

    def check(path, answer):
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]
        of = schema["application/json"]["schema"]
        jsonschema.Draft202012Validator({**of, **resolver}).validate(answer)

    values = client.get("/v1/latest").json()
    check("/v1/latest", values)
    with Store(gateway.database) as store:
        store.put_probes([("p1", "", 1704067200, 0.3)])
    check("/v1/latest", client.get("/v1/latest").json())
    check("/health", client.get("/health").json())
    empty = clients(made_gateway(tmp_path, model=gateway.model))
    assert empty.get("/health").json()["status"] == "empty"
    check("/health", empty.get("/health").json())
    for wrong in ({"status": "fine"}, {"quarantined": -1}, {"threads": {"mqtt": {}}}):
        with pytest.raises(jsonschema.ValidationError):
            check("/health", {**client.get("/health").json(), **wrong})
    for wrong in ({"revision": -1}, {"unit": "1"}, {"probe": {}}, {"probes": None}):
        with pytest.raises(jsonschema.ValidationError):
            check("/v1/latest", {"values": [{**values["values"][0], **wrong}]})


def test_latest_in_three_forms_says_the_same(client):
    values = client.get("/v1/latest").json()["values"]
    rows = list(csv.DictReader(io.StringIO(client.get("/v1/latest.csv").text)))
    features = client.get("/v1/latest.geojson").json()["features"]
    assert len(values) == len(rows) == len(features) == 4
    for value, row, feature in zip(values, rows, features, strict=True):
        assert value["acquired_at"] == "2024-01-13T00:00:00Z" == row["acquired_at"]
        assert float(row["sm"]) == value["sm"] == feature["properties"]["sm"]
        assert row["flags"] == ";".join(value["flags"])
        assert feature["geometry"]["type"] == "Polygon"
    one = client.get("/v1/latest", params={"paddock": "p2"}).json()["values"]
    assert one == [values[2]]


def test_history_is_in_order_and_limited(client):
    def series(**asked):
        answer = client.get("/v1/history", params={"paddock": "p1", **asked})
        assert answer.status_code == 200, answer.text
        return [(item["acquired_at"][:10], item["revision"]) for item in answer.json()["values"]]

    assert series() == [("2024-01-01", 1), ("2024-01-07", 1), ("2024-01-13", 2)]
    assert series(revisions="true")[-2:] == [("2024-01-13", 1), ("2024-01-13", 2)]
    assert series(since="2024-01-07", limit=1) == [("2024-01-13", 2)]
    assert len(client.get("/v1/history.csv?paddock=p1").text.splitlines()) == 4


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("/v1/history", 422),
        ("/v1/history?paddock=nobody", 404),
        ("/v1/history?paddock=p1&since=yesterday", 422),
        ("/v1/history?paddock=p1&limit=0", 422),
        ("/v1/history?paddock=p1&limit=99999999999999999999", 422),
        ("/v1/history?paddock=p1&limit=²", 422),
        ("/v1/latest?padock=p1", 422),
        ("/v1/latest?paddock=../../gateway.toml", 404),
        ("/../gateway.toml", 404),
        ("/%2e%2e/gateway.toml", 404),
        ("/v1/%00", 404),
        ("/archive", 404),
    ],
)
def test_what_is_refused(client, asked, status):
    answer = client.get(asked)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_retrieve_gives_what_storing_would_and_stores_nothing(client, gateway):
    body = csv_of(columns_of(18))
    before = client.get("/health").json()["stored"]
    answer = client.post("/v1/retrieve", content=body, headers={"content-type": "text/csv"})
    assert answer.status_code == 200, answer.text
    values = answer.json()["values"]
    days = (0, 6, 12, 18)
    whole = {k: [c for day in days for c in columns_of(day)[k]] for k in columns_of(0)}
    expected = load(gateway.model).predict(table_from_columns(whole))
    assert [item["sm"] for item in values] == pytest.approx(
        expected.sm[-4:].astype(float).tolist(), abs=2e-6
    )
    assert client.get("/health").json()["stored"] == before


def test_a_posted_table_goes_into_the_spool(tmp_path, gateway, clients):
    own = made_gateway(tmp_path, model=gateway.model)
    scanned(own)
    client = clients(own)
    body = csv_of(columns_of(0))
    answer = client.post("/v1/acquisitions", content=body, headers={"content-type": "text/csv"})
    assert answer.status_code == 202
    assert answer.json()["rows"] == 4
    assert len(scanned(own).named("stored")) == 1
    assert len(client.get("/v1/latest").json()["values"]) == 4
    bad = body.replace("-01-01", "-13-01")
    answer = client.post("/v1/acquisitions", content=bad, headers={"content-type": "text/csv"})
    assert (answer.status_code, list(own.spool.iterdir())) == (422, [])
    assert "is not an ISO 8601 date" in answer.json()["error"]


def test_what_is_posted_before_the_first_watch_is_used_by_it(tmp_path, clients):
    model = made_model(tmp_path / "m", probes={"date": 0.004, "field": 0.002, "point": 0.001})
    own = made_gateway(tmp_path / "g", model=model, paddocks=4)
    client = clients(own)
    reading = {"paddock": "p0", "at": "2024-01-01T05:00:00Z", "sm": 0.4}
    assert client.post("/v1/probes", json={"readings": [reading]}).status_code == 201
    body = csv_of(columns_of(0))
    answer = client.post("/v1/acquisitions", content=body, headers={"content-type": "text/csv"})
    assert answer.status_code == 202
    assert [item["event"] for item in scanned(own)] == ["probes_used", "stored"]
    values = client.get("/v1/latest").json()["values"]
    assert [value["probes"] for value in values] == [1] * 4


def test_probes_stand_beside_the_value(client):
    good = {"paddock": "p1", "at": "2024-01-13T03:00:00Z", "sm": 0.3, "sensor": "a"}
    other = {**good, "sensor": "b", "sm": 0.2}
    assert client.post("/v1/probes", json={"readings": [good, other]}).status_code == 201
    (value,) = client.get("/v1/latest?paddock=p1").json()["values"]
    assert value["probe"] == {"at": "2024-01-13T03:00:00Z", "sm": 0.25, "sensors": 2}
    for wrong in ({**good, "sm": 25}, {**good, "paddock": "x"}, {**good, "at": "now"}, {}, 3):
        answer = client.post("/v1/probes", json={"readings": [wrong]})
        assert answer.status_code == 422
        assert "readings[0]" in answer.json()["error"]


def test_a_body_is_of_its_type_and_size(client):
    post = client.post
    assert post("/v1/retrieve", content="a", headers={"content-type": "a/b"}).status_code == 415
    assert post("/v1/probes", content="{", headers={"content-type": "application/json"}
                ).status_code == 400  # fmt: skip
    nan = '{"readings": [{"paddock": "p1", "at": "2024-01-01", "sm": NaN}]}'
    assert post("/v1/probes", content=nan, headers={"content-type": "application/json"}
                ).status_code == 400  # fmt: skip
    large = post("/v1/retrieve", content="x" * 10_001, headers={"content-type": "text/csv"})
    assert large.status_code == 413

    def chunks():
        for _ in range(20):
            yield b"x" * 1000

    chunked = post("/v1/retrieve", content=chunks(), headers={"content-type": "text/csv"})
    assert chunked.status_code == 413
    assert client.delete("/v1/latest").status_code == 405


def test_a_token_is_asked_for_and_no_other_does(gateway, clients):
    client = clients(gateway, token="0123456789abcdef")
    assert client.get("/v1/latest").status_code == 401
    assert "Basic" in client.get("/").headers["www-authenticate"]
    assert client.get("/v1/latest", headers={"authorization": "Bearer x"}).status_code == 401
    assert client.get("/v1/latest", headers={"authorization": "Basic ???"}).status_code == 401
    bearer = {"authorization": "Bearer 0123456789abcdef"}
    assert client.get("/v1/latest", headers=bearer).status_code == 200
    assert client.get("/v1/latest", auth=("anyone", "0123456789abcdef")).status_code == 200


def test_a_page_elsewhere_cannot_reach_a_loopback_gateway(gateway, clients):
    hosts = frozenset({"127.0.0.1", "localhost"})
    client = clients(gateway, hosts=hosts, base_url="http://evil.example")
    assert client.get("/v1/latest").status_code == 421
    local = clients(gateway, hosts=hosts, base_url="http://localhost:8480")
    answer = local.get("/v1/latest", headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_a_client_in_a_hurry_is_slowed(gateway, clients, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: now[0]))
    client = clients(gateway, requests_per_s=5.0)
    answers = [client.get("/health").status_code for _ in range(20)]
    assert answers == [200] * 10 + [429] * 10
    now[0] += 0.625  # three more requests at five a second
    answers = [client.get("/health").status_code for _ in range(5)]
    assert answers == [200] * 3 + [429] * 2


def test_metrics_are_prometheus(client):
    from prometheus_client.parser import text_string_to_metric_families

    families = {f.name: f for f in text_string_to_metric_families(client.get("/metrics").text)}
    assert families["kgsm_rows"].samples
    assert families["kgsm_newest_acquisition_seconds"].samples[0].value == 1705104000


def test_ngsi_and_sensorthings_answer(client):
    entities = client.get("/v1/ngsi-ld")
    assert entities.headers["content-type"].startswith("application/ld+json")
    assert len(entities.json()) == 4
    assert len(client.get("/v1/sensorthings").json()["value"]) == 4


@pytest.mark.slow
def test_schemathesis_finds_nothing(gateway):
    import schemathesis

    app = application(gateway, body_bytes=200_000)
    schema = schemathesis.openapi.from_dict(document("Soil moisture"))
    schema.app = app
    from hypothesis import HealthCheck, Phase, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, response_schema_conformance]

    for operation in schema.get_all_operations():
        strategy = operation.ok().as_strategy()

        def run(case):
            case.call_and_validate(checks=checks)

        from hypothesis import given

        settings(
            max_examples=25, deadline=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate], database=None,
        )(given(case=strategy)(run))()  # fmt: skip


# -- over real connections -----------------------------------------------------------------


@contextmanager
def serving(gateway, **options):
    events = Events()
    server = Server(gateway, load_paddocks(gateway), events, **options)
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def server(gateway):
    import dataclasses

    own = dataclasses.replace(gateway, serve=dataclasses.replace(
        gateway.serve, port=0, connections=150, body_mb=0.01
    ))  # fmt: skip
    with serving(own) as server:
        yield server


def healthy(server) -> bool:
    """Whether the server answers /health; a refused connection counts as no."""
    try:
        url = f"http://127.0.0.1:{server.port}/health"
        return urllib.request.urlopen(url, timeout=PATIENCE_S).status == 200
    except OSError:
        return False


def open_connections(server) -> int:
    """Return the number of connections that count towards the server's limit."""
    opened = [reference() for reference in _OPEN[server._socket].keyrefs()]
    return sum(other is not None and other.fileno() >= 0 for other in opened)


def is_closed(client) -> bool:
    """Whether the server has closed this connection, without waiting."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_dribbling_clients_are_cut_while_others_are_served(server):
    """Headers a byte at a time, a body a byte at a time, and silence."""
    beginnings = (
        b"GET /v1/latest HT",
        b"POST /v1/probes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 500\r\n\r\n{",
        b"",
    )
    clients = []
    for at in range(60):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(beginnings[at % 3])
        client.setblocking(False)
        clients.append((client, at % 3))
    cut = set()

    def all_cut():
        for at, (client, kind) in enumerate(clients):
            if at in cut:
                continue
            try:
                if kind < 2:
                    client.send(b"x")
                if client.recv(4096) == b"":
                    cut.add(at)
            except BlockingIOError:
                pass
            except OSError:
                cut.add(at)
        assert healthy(server)
        time.sleep(0.1)
        return len(cut) == 60

    wait_for(all_cut, lambda: f"{len(cut)} of 60 cut")
    for client, _ in clients:
        client.close()


def test_more_connections_than_allowed_are_closed(server):
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    try:
        wait_for(lambda: sum(map(is_closed, clients)) >= 40)
    finally:
        for client in clients:
            client.close()
    # until it notices that they are gone it closes new ones, of the next test too
    wait_for(lambda: not open_connections(server))
    assert healthy(server)


def test_malformed_requests_leave_it_alive(server):
    for bad in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 70_000,
                b"POST /v1/probes HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
                b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
            try:
                client.sendall(bad)
                client.recv(4096)
            except OSError:
                pass
    assert healthy(server)


def test_tls(tmp_path, gateway, broker):
    import dataclasses

    serve = dataclasses.replace(
        gateway.serve, port=0, token="0123456789abcdef",
        cert_file=broker.folder / "cert.pem", key_file=broker.folder / "key.pem",
    )  # fmt: skip
    with serving(dataclasses.replace(gateway, serve=serve)) as server:
        context = ssl.create_default_context(cafile=broker.folder / "cert.pem")
        request = urllib.request.Request(
            f"https://localhost:{server.port}/v1/latest",
            headers={"Authorization": "Bearer 0123456789abcdef"},
        )
        assert urllib.request.urlopen(request, context=context, timeout=PATIENCE_S).status == 200


def test_answers_follow_the_store_even_when_it_is_replaced(tmp_path, gateway, clients):
    own = made_gateway(tmp_path, model=gateway.model)
    client = clients(own)
    assert client.get("/v1/latest").json() == {"values": []}
    assert client.get("/health").json()["status"] == "empty"
    drop(own, columns_of(0), "a.csv")
    scanned(own)
    assert len(client.get("/v1/latest").json()["values"]) == 4
    for path in own.state.glob("gateway.db*"):
        path.unlink()
    Store(own.database).close()
    assert client.get("/v1/latest").json() == {"values": []}


def test_readings_do_not_cost_a_page_each_and_arrivals_are_shown_at_once(
    tmp_path, gateway, clients, monkeypatch
):
    from kgsm_infer.gateway.http import page

    own = made_gateway(tmp_path, model=gateway.model, paddocks=4)
    drop(own, columns_of(0), "0.csv")
    scanned(own)
    made, plain = [], page.render_page
    monkeypatch.setattr(page, "render_page", lambda *all: made.append(1) or plain(*all))
    client = clients(own)
    first = client.get("/").content
    for minute in range(20):
        with Store(own.database) as store:
            store.put_probes([("p1", "", 1704067200 + 60 * minute, 0.3)])
        assert client.get("/", headers={"accept-encoding": "gzip"}).content == first
        latest = client.get("/v1/latest?paddock=p1").json()["values"][0]
        assert latest["probe"]["at"] == f"2024-01-01T00:{minute:02d}:00Z"
    assert len(made) == 1
    drop(own, columns_of(6), "6.csv")
    scanned(own)
    assert client.get("/").content != first
    assert len(made) == 2


def test_many_threads_ask_at_once(server):
    failures = []

    def ask():
        try:
            for _ in range(20):
                url = f"http://127.0.0.1:{server.port}/v1/latest"
                body = urllib.request.urlopen(url, timeout=PATIENCE_S).read()
                assert len(json.loads(body)["values"]) == 4
        except (OSError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def answer_to(server, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
        client.sendall(request)
        return client.recv(4096)


def test_two_lengths_and_cleartext_http2_are_refused(server):
    both = answer_to(
        server,
        b"POST /v1/probes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    )
    assert both.startswith(b"HTTP/1.1 400")
    upgrade = answer_to(
        server,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    )
    assert upgrade.startswith(b"HTTP/1.1 505")
    prior = answer_to(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    assert b"newest_acquisition" not in prior and prior[3:4] != b"\4"
    assert healthy(server)


def test_a_websocket_is_refused_and_gzip_is_optional(server):
    asked = answer_to(
        server,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    assert asked.startswith(b"HTTP/1.1 403")
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: "
    assert b"content-encoding: gzip" in answer_to(server, head + b"br, gzip;q=0.5\r\n\r\n")
    assert b"content-encoding" not in answer_to(server, head + b"gzip;q=0, identity\r\n\r\n")
    assert healthy(server)


def test_one_client_cannot_take_all_connections(tmp_path, gateway):
    import dataclasses

    serve = dataclasses.replace(gateway.serve, connections_per_client=8)
    capped = Server(dataclasses.replace(gateway, serve=serve), load_paddocks(gateway), Events())
    capped.start()
    many = [socket.create_connection(("127.0.0.1", capped.port)) for _ in range(20)]
    try:
        wait_for(lambda: sum(map(is_closed, many)) >= 12)
        other = socket.create_connection(
            ("127.0.0.1", capped.port), source_address=("127.0.0.2", 0), timeout=PATIENCE_S
        )
        with other:
            other.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        for client in many:
            client.close()
        capped.close()


def test_a_retrieval_that_times_out_is_cancelled():
    import asyncio

    from kgsm_infer.gateway.http.cancellation import run_cancellable

    ended = threading.Event()

    async def ask():
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:

            def forever():
                try:
                    loop.call_soon_threadsafe(limit.reschedule, loop.time())  # it has begun
                    while True:
                        sum(range(1000))
                finally:
                    ended.set()

            await run_cancellable(forever)

    with pytest.raises(TimeoutError):
        asyncio.run(ask())
    assert ended.wait(PATIENCE_S)
    assert asyncio.run(run_cancellable(lambda: 7)) == 7
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_cancellable(lambda: 1 / 0))


def test_a_cancellation_before_or_after_the_retrieval_is_quiet(monkeypatch):
    """Sent to a thread at its beginning or end, the exception would be logged as a traceback."""
    import asyncio

    from kgsm_infer.gateway.http.cancellation import run_cancellable

    loud = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: loud.append(failure.exc_type))

    async def ask(seconds, size):
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await run_cancellable(sum, range(size))

    for turn in range(300):
        asyncio.run(ask(1e-5 * (turn % 30), 100 * (turn % 20)))
    for thread in threading.enumerate():
        if thread.name == "retrieve":
            thread.join(PATIENCE_S)
    assert loud == []


def test_csv_cells_cannot_be_formulas(gateway):
    from kgsm_infer.gateway.http.queries import Queries, as_csv

    found = Queries(gateway, load_paddocks(gateway)).latest()[0]
    text = as_csv([{**found, "paddock": "=1+1"}]).decode()
    assert text.splitlines()[1].startswith("'=1+1,")


def test_health_names_files_in_quarantine_disk_and_version(gateway, clients):
    from kgsm_infer import __version__
    from kgsm_infer.gateway.health import ErrorMemory

    gateway.quarantine.mkdir(exist_ok=True)
    (gateway.quarantine / "bad.csv").write_text("x")
    (gateway.quarantine / "bad.csv.reason.txt").write_text("why")
    try:
        health = clients(gateway).get("/health").json()
        metrics = clients(gateway).get("/metrics").text
    finally:
        for path in gateway.quarantine.iterdir():
            path.unlink()
    assert (health["quarantined"], health["version"]) == (1, __version__)
    assert health["disk"]["free_mb"] > 0 and health["newest_age_days"] > 0
    assert "kgsm_quarantined_files 1.0" in metrics and "kgsm_disk_free_megabytes" in metrics
    memory = ErrorMemory(Events())
    memory("stored", file="a.csv")
    assert memory.last is None
    memory("quarantined", file="a.csv", reason="no column date")
    assert memory.last.reason == "a.csv: no column date"


def test_each_error_of_the_health_is_an_event_of_the_log():
    from pathlib import Path

    from kgsm_infer.gateway import health

    folder = Path(health.__file__).parent
    source = "".join(
        path.read_text() for path in folder.rglob("*.py") if path != Path(health.__file__)
    )
    # some are made of a name and an end: f"{kind}_refused"
    assert {
        name
        for name in health.ERRORS
        if f'"{name}"' not in source and f'}}_{name.rpartition("_")[2]}"' not in source
    } == set()


NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx)")
def test_behind_nginx_with_its_host_below_a_path(tmp_path, gateway):
    import dataclasses

    serve = dataclasses.replace(gateway.serve, hosts=("farm.example.com",))
    server = Server(dataclasses.replace(gateway, serve=serve), load_paddocks(gateway), Events())
    server.start()
    port = free_port()
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;"
        f" fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u;"
        f" scgi_temp_path {tmp_path}/s; server {{ listen 127.0.0.1:{port};"
        f" location /soil {{ rewrite ^/soil/?(.*)$ /$1 break;"
        f" proxy_pass http://127.0.0.1:{server.port}; proxy_set_header Host $host; }} }} }}\n"
    )
    process = subprocess.Popen([NGINX, "-c", tmp_path / "nginx.conf", "-p", tmp_path])

    def get(path, host):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    try:
        wait_for(lambda: get("/soil/", "farm.example.com") == 200)
        assert get("/soil", "farm.example.com") == 200
        assert get("/soil/health", "farm.example.com") == 200
        assert get("/soil/", "elsewhere.example.com") == 421
    finally:
        process.terminate()
        process.wait()
        server.close()
