"""``kgsm-infer watch`` and ``serve`` as a person runs them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from made_brokers import free_port
from made_gateways import Events, columns_of, drop, made_gateway, made_model, stored
from running import COMMAND, PATIENCE_S, Running

from kgsm_infer.gateway.config import read_gateway
from kgsm_infer.gateway.records import iso
from kgsm_infer.gateway.service import loop


def run(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, **options
    )


def asked(url, data=None, headers=None):
    request = urllib.request.Request(url, data=data, headers=headers or {})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return answer.status, answer.read()


def split_by_date(table: Path, folder: Path):
    """A whole table as one file per date."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    folder.mkdir(parents=True, exist_ok=True)
    for date in sorted({row["date"] for row in rows}):
        with (folder / f"{date[:10]}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(row for row in rows if row["date"] == date)


def test_a_table_goes_from_the_spool_to_the_answer(tiny_model, tmp_path):
    shutil.copy(tiny_model / "model.onnx", tmp_path)
    split_by_date(tiny_model / "twin.csv", tmp_path / "spool")
    (tmp_path / "gateway.toml").write_text(
        'model = "model.onnx"\nstable_s = 0.0\n[serve]\nport = 0\n'
    )
    done = run("watch", tmp_path / "gateway.toml", "--once")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events[-1] == "stopping" and "stored" in events
    predicted = run("predict", tiny_model / "model.onnx", tiny_model / "twin.csv", "-o",
                    tmp_path / "p.csv")  # fmt: skip
    assert predicted.returncode == 0
    with (tmp_path / "p.csv").open() as file:
        last = {row["site"]: row for row in csv.DictReader(file)}
    with Running("serve", tmp_path / "gateway.toml") as served:
        url = served.until("serving")["url"].rstrip("/")
        status, body = asked(f"{url}/v1/latest")
        assert status == 200
        values = {item["paddock"]: item for item in json.loads(body)["values"]}
        assert values.keys() == last.keys()
        for site, row in last.items():
            assert values[site]["acquired_at"][:10] == row["date"][:10]
            expected = float(row["sm"]) if row["sm"] else None
            assert values[site]["sm"] == pytest.approx(expected, abs=2e-6)
            assert values[site]["source"] == "simulated"
        assert served.stop() == 0


def test_a_dropped_file_is_taken_at_once_and_sigterm_ends_it(tmp_path):
    gateway = made_gateway(tmp_path, "[serve]\nport = 0\nwith_watch = false\n")
    text = gateway.source.read_text()  # so that b.csv is not whole before it is closed
    gateway.source.write_text(text.replace("stable_s = 0.0", "stable_s = 60.0"))
    with Running("watch", gateway.source) as watched:
        watched.until("ready")
        drop(gateway, columns_of(0), "a.csv")
        assert watched.until("stored")["values"] == 4
        with (gateway.spool / "b.csv").open("w") as file:  # written in place: close says it
            file.write(
                Path(next(gateway.archive.glob("*.csv"))).read_text().replace("-01-01", "-01-07")
            )
        watched.until("stored")
        assert watched.stop() == 0
    assert watched.lines[-1]["event"] == "stopping"
    assert len(stored(gateway)) == 8
    assert not (gateway.state / "running").exists()


def test_once_says_by_its_exit_code_that_something_was_bad(tmp_path):
    gateway = made_gateway(tmp_path)
    gateway.spool.mkdir()
    (gateway.spool / "bad.csv").write_text("x\n")
    done = run("watch", gateway.source, "--once")
    assert done.returncode == 3
    assert "1 files went to" in done.stderr


def _half(gateway):
    (gateway.spool / "half.csv").write_bytes(b"site,date,vh_db\np0,2024-01-01,-1")


@pytest.mark.parametrize(
    ("leave", "left"),
    [
        (lambda gateway: None, (0, 0, 0, "")),
        (lambda gateway: (gateway.spool / "bad.csv").write_text("x\n"), (1, 0, 0, "")),
        (_half, (0, 1, 0, "")),  # its writer may still go on
        (lambda gateway: (gateway.spool / "folder").mkdir(), (0, 1, 0, "")),
        (lambda gateway: (gateway.spool / "a.csv").symlink_to("/dev/null"), (0, 1, 0, "")),
    ],
)
def test_once_states_what_stayed_behind(tmp_path, leave, left):
    gateway = made_gateway(tmp_path)
    drop(gateway, columns_of(0), "good.csv")
    leave(gateway)
    remains = loop.watch(gateway, once=True, log=Events())
    assert (remains.quarantined, remains.left_behind, remains.unsent, remains.short) == left
    assert bool(remains) == any(left)
    assert len(stored(gateway)) == 4


def test_once_states_messages_and_files_it_could_not_send_or_store(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "PUBLISH_S", 0.2)
    text = f'[mqtt]\nhost = "127.0.0.1"\nport = {free_port()}\ntls = false\n'
    gateway = made_gateway(tmp_path, text)
    drop(gateway, columns_of(0), "good.csv")
    assert loop.watch(gateway, once=True, log=Events()).unsent == 4
    full = made_gateway(tmp_path / "full", "[keep]\nfree_mb = 1e9\n")
    drop(full, columns_of(0), "good.csv")
    remains = loop.watch(full, once=True, log=Events())
    assert remains.left_behind == 1 and "MB are free" in remains.short


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("modell = 1", "modell is not a known key; did you mean model?"),
        ('spool = "state/in"', "spool and state must be two folders"),
        (
            '[mqtt]\nhost = "h"\npassword = "secret"',
            "secrets are not kept in this file; name a file in password_file",
        ),
        ('[mqtt]\nhost = "h"\ntls = false\nusername="u"\npassword_env = "KGSM_TEST"', "use TLS"),
        ('[farmos]\nurl = "http://farm.example/{stream}"', "unencrypted; use https"),
        ('[serve]\ntoken_env = "KGSM_TEST"', "a token has at least 16 characters"),
        ("[keep]\nsteps = 0", "keep.steps is 0, expected a whole number of at least 1"),
        ("name = 'a/b'", "name is a/b, expected 1 to 64 letters, digits"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, text, reason, monkeypatch):
    monkeypatch.setenv("KGSM_TEST", "short")
    path = tmp_path / "gateway.toml"
    path.write_text(
        f'{text}\nmodel = "m.onnx"\n' if "[" not in text else f'model = "m.onnx"\n{text}'
    )
    done = run("watch", path)
    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_open_address_needs_a_token_and_tls(tmp_path, monkeypatch):
    gateway = made_gateway(tmp_path, '[serve]\nhost = "0.0.0.0"\nport = 0\n')
    done = run("serve", gateway.source)
    assert (done.returncode, "needs a token" in done.stderr) == (2, True)
    with gateway.source.open("a") as file:
        file.write('token_env = "KGSM_TOKEN"\n')
    monkeypatch.setenv("KGSM_TOKEN", "0123456789abcdef")
    done = run("serve", gateway.source)
    assert (done.returncode, "needs TLS" in done.stderr) == (2, True)
    with Running("serve", gateway.source, "--behind-proxy") as served:
        port = served.until("serving")["url"].rstrip("/").rpartition(":")[2]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            asked(f"http://127.0.0.1:{port}/v1/latest")
        token = {"Authorization": "Bearer 0123456789abcdef"}
        assert asked(f"http://127.0.0.1:{port}/v1/latest", headers=token)[0] == 200
        served.stop()
        assert "0123456789abcdef" not in json.dumps(served.lines)


@pytest.mark.realdata
@pytest.mark.parametrize("keep", ["empty", "mean", "refuse"])
def test_boort(tmp_path, shared_data, keep):
    """Three dates, 174 outlines, 173 of them in the table; on one date all 60 stand twice.

    Their two rows have one polarisation each, and angles that differ: a model that reads the
    angle has no number for them and says why.
    """
    model = made_model(tmp_path / "m")
    split_by_date(shared_data / "boort" / "boort.csv", tmp_path / "spool")
    (tmp_path / "gateway.toml").write_text(
        f'model = "{model}"\nstable_s = 0.0\ncontradictions = "{keep}"\n'
        f'[paddocks]\nid = "polygon_id"\n'
        f'outlines = "{shared_data / "boort" / "paddocks.geojson"}"\n'
    )
    done = run("watch", tmp_path / "gateway.toml", "--once")
    gateway = read_gateway(tmp_path / "gateway.toml")
    found = stored(gateway)
    if keep == "refuse":
        assert done.returncode == 3
        reason = (gateway.quarantine / "2022-01-21.csv.reason.txt").read_text()
        assert "site 11 twice at 2022-01-21" in reason
        assert len(found) == 173 + 155
        return
    assert done.returncode == 0
    assert len(found) == 173 + 155 + 60
    last = [value for value in found.values() if iso(value.acquired).startswith("2022-01-21")]
    why = [value for value in last if "angle_deg" in value.reason]
    assert len(why) == (60 if keep == "empty" else 0)
    assert all(value.sm is None and "missing_input" in value.flags for value in why)
    numbered = [value.paddock for value in last if value.sm is not None]
    assert len(numbered) == (0 if keep == "empty" else 55)
    assert len({key[0] for key in found}) == 173
    assert "130" not in {key[0] for key in found}
    assert sum(value.sm is not None for value in found.values()) > 0
    assert os.listdir(gateway.spool) == []


def test_the_command_line_loads_nothing_of_the_gateway_but_its_commands():
    code = "import kgsm_infer.app.cli, sys; print(*[m for m in sys.modules if 'gateway' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert set(done.stdout.split()) <= {"kgsm_infer.gateway", "kgsm_infer.gateway.cli"}
