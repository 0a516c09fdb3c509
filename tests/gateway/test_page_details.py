"""Details of the page that people rely on: local days, age, colours, long series, small shapes."""

from __future__ import annotations

import colorsys
import gzip
import re
import urllib.request
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from made_gateways import (
    Events,
    columns_of,
    drop,
    made_gateway,
    made_model,
    scanned,
    write_outlines,
)
from running import PATIENCE_S

from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.http import page as page_module
from kgsm_infer.gateway.http.serve import Server

CSS = (Path(page_module.__file__).parent / "page.css").read_text()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def served():
    servers = []

    def serve(gateway):
        server = Server(gateway, load_paddocks(gateway), Events())
        server.start()
        servers.append(server)
        return f"http://127.0.0.1:{server.port}/"

    yield serve
    for server in servers:
        server.close()


def text_of(url):
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    return gzip.decompress(urllib.request.urlopen(request, timeout=PATIENCE_S).read()).decode()


def test_a_morning_in_boort_is_of_the_local_day(tmp_path, model, served):
    """A pass at 19:30 UTC of the 22nd is at 06:30 of the 23rd in summer."""
    text = '[serve]\nport = 0\n[page]\ntimezone = "Australia/Melbourne"\n'
    gateway = made_gateway(tmp_path, text, paddocks=2, model=model)
    columns = columns_of(0, paddocks=2)
    columns["date"] = ["2024-01-22T19:30:41Z"] * 2
    drop(gateway, columns, "a.csv")
    scanned(gateway)
    shown = text_of(served(gateway))
    assert "2024-01-23 06:30" in shown
    assert "2024-01-22" not in re.sub(r'(datetime|data-t|data-at)="[^"]*"', "", shown)


def test_an_old_value_stays_with_its_age(tmp_path, model, browser, served):
    """The newest pass gave p1 no number: that of six days before is shown, and how old it is."""
    gateway = made_gateway(tmp_path, "[serve]\nport = 0\n", paddocks=2, model=model)
    for day in (0, 6):
        columns = columns_of(day, paddocks=2)
        columns["vh_db"][1] = "" if day == 6 else columns["vh_db"][1]
        drop(gateway, columns, f"{day}.csv")
    scanned(gateway)
    url = served(gateway)
    context = browser.new_context(timezone_id="UTC", locale="en-GB")
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    page.clock.set_fixed_time("2024-01-08T12:00:00Z")
    page.goto(url)
    row = page.locator("tr[data-p=p1]").inner_text()
    assert re.search(r"\d+ %", row) and "7 days ago" in row
    assert "The newest pass" in row  # and that it gave no value
    assert "7 days ago" not in page.locator("tr[data-p=p0]").inner_text()
    context.close()


def colours():
    found = {}
    for name, colour in re.findall(r"\.(c[0-5]) \{ fill: #([0-9a-f]{6})", CSS):
        channels = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        found[name] = channels
    return [found[f"c{at}"] for at in range(6)]


def test_the_palette_goes_from_dry_to_wet_without_grey():
    def luminance(channels):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))  # WCAG 2.2, relative luminance

    hls = [colorsys.rgb_to_hls(*channels) for channels in colours()]
    assert min(saturation for _, _, saturation in hls) > 0.25  # no grey
    lights = [luminance(channels) for channels in colours()]
    assert lights == sorted(lights, reverse=True)  # wet is darker: it reads without colour too
    assert min(a - b for a, b in pairwise(lights)) > 0.02
    hues = [360 * hue for hue, _, _ in hls]
    assert 30 <= hues[0] <= 60 and 200 <= hues[-1] <= 260  # yellow to blue
    assert hues == sorted(hues)


def test_a_series_of_more_than_400_passes_is_shown_whole(tmp_path, model, browser, served):
    gateway = made_gateway(tmp_path, "[serve]\nport = 0\n", paddocks=1, model=model)
    tables = [columns_of(day, paddocks=1) for day in range(0, 2 * 450, 2)]
    drop(gateway, {name: [c for t in tables for c in t[name]] for name in tables[0]}, "all.csv")
    scanned(gateway)
    context = browser.new_context()
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    page.goto(served(gateway))
    page.get_by_role("button", name="p0", exact=True).click()
    dialog = page.get_by_role("dialog", name="p0")
    chart = dialog.get_by_role("img", name="History of 450 passes")
    chart.wait_for()
    years = [text for text in chart.locator("text").all_text_contents() if "20" in text]
    assert any("2024" in text for text in years) and any("2026" in text for text in years)
    dialog.get_by_text("All values").first.click()
    rows = dialog.locator("details[open] tbody tr")
    rows.last.wait_for()  # the table is filled when the browser reports that it was opened
    assert rows.count() == 450
    context.close()


@pytest.mark.parametrize("width", [1200, 390])
def test_small_paddocks_far_apart_are_reachable(tmp_path, model, browser, served, width):
    """Two groups 60 km apart: each paddock is 1 % of the map, and a button zooms to its group."""
    import json

    gateway = made_gateway(tmp_path, "[serve]\nport = 0\n", paddocks=6, model=model)
    path = tmp_path / "paddocks.geojson"
    write_outlines(path, 6)
    content = json.loads(path.read_text())
    for feature in content["features"][3:]:
        feature["geometry"]["coordinates"] = [
            [[x + 0.5, y - 0.4] for x, y in ring] for ring in feature["geometry"]["coordinates"]
        ]
    path.write_text(json.dumps(content))
    drop(gateway, columns_of(0, paddocks=6), "a.csv")
    scanned(gateway)
    context = browser.new_context(viewport={"width": width, "height": 844})
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    page.goto(served(gateway))
    shape = page.locator("svg#map path[data-i]").nth(4)

    def size():
        box = shape.bounding_box()
        return min(box["width"], box["height"])

    before = size()
    buttons = page.locator("button[data-b]")
    assert buttons.count() == 2
    letters = [buttons.nth(at).get_attribute("aria-label") for at in range(2)]
    assert all("3" in letter for letter in letters)  # paddocks of each group
    sizes = []
    for at in range(2):  # one of them shows the fifth paddock large enough for a finger
        buttons.nth(at).click()
        sizes.append(size())
    assert max(sizes) > max(24, 3 * before)
    context.close()
