"""Run the commands and settings of docs/gateway.md, with a running gateway and a broker."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from documented import ROOT, Shown, documented, in_shell, is_run
from made_brokers import MOSQUITTO, Broker, free_port
from made_gateways import columns_of, made_model, write_outlines
from running import PATIENCE_S, Running

from kgsm_infer.gateway.config import read_gateway

PAGE = [item for item in documented(ROOT / "docs/gateway.md") if is_run(item)]
COMMANDS = [item for item in PAGE if item.kind == "command"]
#: The client of Debian's mosquitto-clients, with the broker's address and password added.
PUBLISH = """#!{python}
import ssl, sys
import paho.mqtt.client as paho
client = paho.Client(paho.CallbackAPIVersion.VERSION2)
client.username_pw_set({user!r}, {password!r})
client.tls_set_context(ssl.create_default_context(cafile={ca!r}))
client.connect("localhost", {port})
client.loop_start()
client.publish(sys.argv[2], sys.argv[4], qos=1).wait_for_publish({patience})
client.disconnect()
"""


def settings(port: int) -> str:
    """Return a gateway.toml of one paddock, 7, that serves on ``port``."""
    return f'name = "NAME"\nmodel = "model.onnx"\nstable_s = 0.0\n[serve]\nport = {port}\n'


def write_pass(path: Path, day: int) -> None:
    """Write the table of one pass over paddock 7."""
    columns = {**columns_of(day, paddocks=1), "site": ["7"]}
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


@pytest.mark.slow
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_the_commands_run(tmp_path: Path) -> None:
    """The port is a free one; /etc is a folder here."""
    made_model(tmp_path)
    write_outlines(tmp_path / "paddocks.geojson", 1)
    (tmp_path / "rain.csv").write_text("date,rain_mm\n2024-01-05,3.0\n")
    (tmp_path / "irrigation.csv").write_text("paddock,date,mm\n7,2024-01-04,20\n")
    port = free_port()
    with ExitStack() as stack:
        broker = Broker(tmp_path)
        broker.start()
        stack.callback(broker.kill)
        text = f"{settings(port)}{broker.toml}probes = true\n[weather]\nmqtt = true\n"
        # cp writes into the spool: a file that is still empty must not count as complete
        text = text.replace("stable_s = 0.0", "stable_s = 60.0")
        (tmp_path / "gateway.toml").write_text(text)
        publish = PUBLISH.format(
            python=sys.executable,
            user=broker.username,
            password=broker.password,
            ca=str(broker.folder / "cert.pem"),
            port=broker.port,
            patience=PATIENCE_S,
        )
        write_pass(tmp_path / "spool/first.csv", 3)
        os.utime(tmp_path / "spool/first.csv", (10**9, 10**9))  # it stands still for long
        write_pass(tmp_path / "pass.csv", 6)
        start, *others = [item for item in COMMANDS if not item.text.startswith("pip ")]
        program, *words = shlex.split(start.text)
        assert program == "kgsm-infer"
        watched = stack.enter_context(Running(*words, cwd=tmp_path))
        for event in ("stored", "serving", "states_published"):
            watched.until(event)
        answers: dict[str, str] = {}
        watered: list[str] = []  # events of the commands that bring water
        offline = [item for item in others if item.text.startswith("kgsm-infer")]
        for item in others:
            if item in offline:
                continue
            command = item.text.replace("localhost:8480", f"localhost:{port}")
            command = command.replace("curl ", "curl -sS --fail-with-body ")
            command = command.replace("/etc/kgsm", str(tmp_path / "etc/kgsm"))
            answers[item.text] = in_shell(item, tmp_path, command, mosquitto_pub=publish)
            # the message says the same as the POST: while both wait in the spool, they are one file
            if water := re.search(r"\b(rain|irrigation)\b", item.text):
                is_message = item.text.startswith("mosquitto_pub")
                watered.append("seen_before" if is_message else f"{water[1]}_stored")
                watched.until(watered[-1])
        latest = next(text for command, text in answers.items() if "latest.csv" in command)
        assert latest.splitlines()[0].startswith("paddock,") and latest.splitlines()[1][0] == "7"
        file_post_and_message = ["rain_stored", "rain_stored", "seen_before"]
        assert [event for event in watered if "irrigation" not in event][
            :3
        ] == file_post_and_message
        assert (tmp_path / "etc/kgsm/gateway.toml").is_file()
        assert watched.stop() == 0
    (tmp_path / "gateway.toml").write_text(settings(port))
    for item in offline:
        in_shell(item, tmp_path, item.text)


@pytest.mark.parametrize(
    "item", [item for item in PAGE if item.kind == "toml"], ids=lambda item: item.text.split()[0]
)
def test_the_settings_are_read(item: Shown, tmp_path: Path) -> None:
    made_model(tmp_path)
    for name in ("ca.pem", "mqtt-password"):
        (tmp_path / name).write_text("a secret of the farm")
    (tmp_path / "farmos-keys.toml").write_text('7 = "KEY"\n')
    (tmp_path / "gateway.toml").write_text(settings(8480) + item.text)
    gateway = read_gateway(tmp_path / "gateway.toml")
    (section,) = set(re.findall(r"^\[(\w+)\]", item.text, re.M))
    assert getattr(gateway, section) is not None


def test_the_printed_records_have_the_keys_of_records(tmp_path: Path) -> None:
    """Their ellipses stand for more keys."""
    from kgsm_infer.gateway.http.openapi import document

    known = json.dumps(document("x"))
    for item in PAGE:
        if item.kind == "listing" and item.text.startswith('{"paddock"'):
            keys = re.findall(r'"(\w+)":', item.text)
            assert len(keys) > 10
            assert not [key for key in keys if f'"{key}"' not in known]
