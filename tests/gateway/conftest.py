"""Fixtures of the gateway's tests: a broker, a subscriber and a substitute for farmOS."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
from made_brokers import MOSQUITTO, Broker, Listener, Streams
from made_daily import FIRST
from made_gateways import DAY

from kgsm_infer.gateway.service import clock

CHROMIUM = shutil.which("chromium")


@pytest.fixture
def broker(tmp_path_factory):
    if MOSQUITTO is None or shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    made = Broker(tmp_path_factory.mktemp("broker"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def listener(broker):
    made = Listener(broker)
    yield made
    made.close()


@pytest.fixture
def streams():
    made = Streams()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def today(monkeypatch):
    """Set the date of the clock, days after 2024-01-01."""

    def set_clock(day, hour=12.0):
        now = (FIRST + day) * DAY + hour * 3600
        monkeypatch.setattr(clock.time, "time", lambda: now)

    monkeypatch.setattr(clock, "RELEASED", np.datetime64("2023-01-01", "s"))
    set_clock(13)
    return set_clock
