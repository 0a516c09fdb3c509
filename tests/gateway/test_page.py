"""The page in a real browser, Debian's chromium: desktop and phone, light and dark."""

from __future__ import annotations

import gzip
import json
import re
import urllib.request

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_gateways import (
    DAY,
    Events,
    columns_of,
    drop,
    made_gateway,
    made_model,
    scanned,
    write_outlines,
)
from running import PATIENCE_S

from kgsm_infer.base import flags
from kgsm_infer.base.quantities import SOIL_MOISTURE
from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.http.map_drawing import draw_outlines
from kgsm_infer.gateway.http.page import choose_bounds, class_of
from kgsm_infer.gateway.http.serve import Server
from kgsm_infer.gateway.http.strings import CATALOGUE
from kgsm_infer.gateway.store.database import Store

PADDOCKS = 174


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("farm")
    model = made_model(folder / "m", probes={"date": 0.004, "field": 0.002, "point": 0.001})
    gateway = made_gateway(
        folder, '[serve]\nport = 0\n', paddocks=PADDOCKS, model=model
    )  # fmt: skip
    for day in (0, 6, 12):
        columns = columns_of(day, paddocks=PADDOCKS)
        columns["vh_db"][5] = "" if day == 12 else columns["vh_db"][5]
        columns = {name: cells[:-1] for name, cells in columns.items()}  # one is never seen
        drop(gateway, columns, f"{day}.csv")
    scanned(gateway)
    with Store(gateway.database) as store:  # of the last pass
        store.put_probes((name, "", 1704067200 + 12 * DAY, 0.45) for name in ("p3", "p4"))
    scanned(gateway)
    server = Server(gateway, load_paddocks(gateway), Events())
    server.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.close()


@pytest.fixture(params=["desktop", "phone"])
def page(request, browser, url):
    sizes = {
        "desktop": {"viewport": {"width": 1200, "height": 900}},
        "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
    }
    context = browser.new_context(**sizes[request.param])
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    wrong, asked = [], []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda one: asked.append(one.url))
    page.goto(url)
    yield page
    context.close()
    assert wrong == []
    assert all(one.startswith((url, "data:")) for one in asked)  # nothing from outside


def read(url):
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    return urllib.request.urlopen(request, timeout=PATIENCE_S).read()


def test_it_is_small(url):
    page = read(url)
    assert len(page) <= 40_000
    assert len(gzip.decompress(page)) > len(page)


def test_all_is_there_without_scripts(url):
    text = gzip.decompress(read(url)).decode()
    assert text.count("<tr data-i=") == text.count('" data-l="')
    assert text.count("<tr data-i=") == PADDOCKS
    last = re.search(r'<tr [^>]*data-p="p5".*?</tr>', text)[0]
    assert 'class="old"' in last and "2024-01-07" in last  # the newest pass gave no value
    assert "The newest pass, " in last and "2024-01-13" in last
    unseen = re.search(rf'<tr [^>]*data-p="p{PADDOCKS - 1}".*?</tr>', text)[0]
    assert 'data-v=""' in unseen and "no value" in unseen
    assert "The satellite data for this paddock are incomplete." in text
    assert "No satellite pass has covered this paddock yet." in text
    assert "nan" not in re.search(r"<tbody>.*</tbody>", text)[0].lower()


def test_map_list_and_detail(page):
    assert page.locator("svg#map path[data-i]").count() == PADDOCKS
    rows = page.get_by_role("row")
    assert rows.count() == PADDOCKS + 1
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("button", name="p7", exact=True).focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="p7")
    dialog.wait_for()
    dialog.locator(".big").wait_for()
    assert re.fullmatch(r"\d+ %", dialog.locator(".big").inner_text())
    assert dialog.get_by_role("img", name="History of 3 passes").count() == 1
    assert "few earlier satellite passes" in dialog.inner_text()
    said = re.search(r"Corrected with probes \(2\): [+-]\d+\.\d % of volume\.", dialog.inner_text())
    row = page.locator("tr[data-p=p7]").inner_text()
    assert said
    assert said[0] in row  # the list says the same
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    page.wait_for_function("document.activeElement.textContent === 'p7'")  # focus comes back


def test_a_tap_on_the_map_opens_the_paddock_and_a_drag_does_not(page):
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    map_box = page.locator("svg#map").bounding_box()
    middle = map_box["x"] + map_box["width"] / 2, map_box["y"] + map_box["height"] / 2
    before = page.locator("svg#map").get_attribute("viewBox")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1] + 30, steps=4)
    page.mouse.up()
    assert page.locator("svg#map").get_attribute("viewBox") != before
    assert page.locator("dialog[open]").count() == 0
    found = page.evaluate(
        "() => { const m = document.querySelector('#map').getBoundingClientRect();"
        "for (const p of document.querySelectorAll('#map path[data-i]')) {"
        "const b = p.getBoundingClientRect(), x = b.x + b.width / 2, y = b.y + b.height / 2;"
        "if (x > m.x + 60 && x < m.right - 60 && y > m.y + 60 && y < m.bottom - 60"
        " && y > 0 && y < innerHeight) return [x, y]; } return null; }"
    )
    page.mouse.click(*found)
    page.locator("dialog[open] .big").wait_for()


def test_find_and_order(page):
    page.get_by_label("Find").fill("p17")
    visible = page.locator("tbody tr:visible th").all_inner_texts()
    assert visible == ["p17", "p170", "p171", "p172", "p173"]
    page.get_by_label("Find").fill("")
    page.get_by_label("Order").select_option("driest first")
    values = [row.get_attribute("data-v") for row in page.locator("tbody tr").all()]
    numbers = [float(value) for value in values if value]
    assert numbers == sorted(numbers)
    assert values[-1] == "" and values[-2] != ""  # no value is neither dry nor wet


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(browser, url, scheme):
    context = browser.new_context(color_scheme=scheme)
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    page.goto(url)
    ink, paper = page.evaluate(
        "() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; }"
    )

    def luminance(color):
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(ink), luminance(paper)])
    assert (high + 0.05) / (low + 0.05) > 7  # WCAG 2.2, AAA
    assert (luminance(paper) > 0.5) == (scheme == "light")
    context.close()


def test_a_wrong_clock_says_no_age(browser, url):
    context = browser.new_context()
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    page.clock.set_fixed_time(1_000_000)  # 1970: the box and the phone lost the time
    page.goto(url)
    assert "ago" not in page.locator("body").inner_text()
    context.close()


def test_colours_are_clamped_and_corners_keep_their_shape():
    bounds = (10, 15, 20, 25, 30)
    found = [class_of(p, bounds) for p in (-5, 9.99, 10, 29.9, 30, 250)]
    assert found == ["c0", "c0", "c1", "c4", "c5", "c5"]
    square = {"type": "Polygon", "coordinates": [[[143, -36], [144, -36], [144, -35], [143, -36]]]}
    drawing = draw_outlines({"a": square})
    width, height = drawing.width, drawing.height
    # a degree of longitude is cos(latitude) of a degree of latitude, here at 35.5 degrees
    assert (width - 160) / (height - 160) == pytest.approx(0.8141, abs=1e-3)
    assert drawing.shapes["a"].path.startswith("M80 ")


def test_names_from_elsewhere_cannot_act(tmp_path, url):
    model = made_model(tmp_path / "m")
    gateway = made_gateway(tmp_path, "[serve]\nport = 0\n", model=model)
    columns = columns_of(0)
    columns["site"][0] = '"><script>alert(1)</script>'
    drop(gateway, columns, "a.csv")
    scanned(gateway)
    server = Server(gateway, load_paddocks(gateway), Events())
    server.start()
    text = gzip.decompress(read(f"http://127.0.0.1:{server.port}/")).decode()
    server.close()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


@given(st.lists(st.floats(0, 60), min_size=1, max_size=50))
def test_classes_cover_the_values(numbers):
    bounds = choose_bounds(numbers, SOIL_MOISTURE)
    assert 1 <= len(bounds) <= 5
    assert list(bounds) == sorted(set(bounds))
    assert all(class_of(number, bounds) != "x" for number in numbers)
    if max(numbers) - min(numbers) >= 1:
        assert len({class_of(number, bounds) for number in (min(numbers), max(numbers))}) == 2


def test_every_language_has_every_text_and_explains_every_flag():
    english = CATALOGUE["en"]
    assert set(CATALOGUE) == {"en", "es", "fr", "de", "hi"}
    for language, texts in CATALOGUE.items():
        assert list(texts) == list(english), language
        for key, text in texts.items():
            assert text.strip(), (language, key)
            assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", english[key])), key
        assert {f"flag.{name}" for name in flags.NAMES} <= set(texts)


@pytest.mark.parametrize("language", sorted(CATALOGUE))
def test_the_browser_chooses_the_language(browser, url, language):
    context = browser.new_context(locale=language)
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(url)
    texts = CATALOGUE[language]
    assert page.locator("html").get_attribute("lang") == language
    assert texts["intro.soil_moisture"] in page.locator("header").inner_text()
    page.get_by_role("button", name="p7", exact=True).click()
    page.locator("dialog .big").wait_for()
    assert texts["all"] in page.locator("dialog").inner_text()
    context.close()
    assert wrong == []


def made_page(folder, browser, settings, *, hours=20.5, paddocks=2, model=None):
    """Return a gateway with one pass on 2024-01-01 at ``hours`` UTC."""
    gateway = made_gateway(
        folder, f"[serve]\nport = 0\n{settings}", paddocks=paddocks,
        model=model or made_model(folder / "m"),
    )  # fmt: skip
    columns = columns_of(0, paddocks=paddocks)
    columns["date"] = [f"2024-01-01T{int(hours):02}:{int(hours % 1 * 60):02}:00Z"] * paddocks
    drop(gateway, columns, "0.csv")
    scanned(gateway)
    return gateway


def test_days_are_those_of_the_farm_and_age_is_marked(tmp_path, browser):
    gateway = made_page(tmp_path, browser, '[page]\ntimezone = "Australia/Melbourne"\n')
    server = Server(gateway, load_paddocks(gateway), Events())
    server.start()
    address = f"http://127.0.0.1:{server.port}/"
    try:
        # 20:30 UTC of the 1st is 07:30 of the 2nd at the farm
        assert "2024-01-02 07:30" in gzip.decompress(read(address)).decode()
        context = browser.new_context(timezone_id="Europe/Madrid", locale="en-GB")
        context.set_default_timeout(1000 * PATIENCE_S)
        page = context.new_page()
        page.clock.set_fixed_time("2024-01-03T21:00:00Z")
        page.goto(address)
        assert "2 Jan 2024, 07:30, 2 days ago" in page.locator("#newest").inner_text()
        assert page.locator("#stale").is_hidden()
        page.clock.set_fixed_time("2024-01-17T21:00:00Z")
        page.goto(address)
        assert "more than 14 days" in page.locator("#stale").inner_text()
        assert page.locator("td .stale").count() == 2
        context.close()
    finally:
        server.close()


def test_the_page_refreshes_itself_and_says_when_it_cannot(tmp_path, browser):
    gateway = made_page(tmp_path, browser, "")
    server = Server(gateway, load_paddocks(gateway), Events())
    server.start()
    context = browser.new_context()
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    page.clock.install()
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.get_by_label("Order").select_option("v")
    before = page.locator("#newest").inner_text()
    drop(gateway, columns_of(12, paddocks=2), "12.csv")
    scanned(gateway)
    page.clock.run_for(125_000)
    page.wait_for_function("before => document.querySelector('#newest').innerText !== before",
                           arg=before)  # fmt: skip
    assert page.get_by_label("Order").input_value() == "v"  # the choice of the reader stays
    assert page.locator("tbody tr td:nth-child(3)").first.inner_text() != ""  # a change is shown
    server.close()
    page.clock.run_for(125_000)
    page.locator("#offline").wait_for()
    assert "No answer from the gateway" in page.locator("#offline").inner_text()
    context.close()


@pytest.fixture(scope="module")
def daily_url(tmp_path_factory):
    """A gateway with daily values: rain of 90 days, 3 of them missing, and no forecast."""
    folder = tmp_path_factory.mktemp("daily")
    limits = "wilting_point = 0.5\nfield_capacity = 0.95\nroot_depth_mm = 400\n"  # all are below
    gateway = made_gateway(
        folder, f"[serve]\nport = 0\n[daily]\n{limits}refill_percent = 60\n",
        paddocks=PADDOCKS, model=made_model(folder / "m"),
    )  # fmt: skip
    for day in (0, 6, 12):
        drop(gateway, columns_of(day, paddocks=PADDOCKS), f"{day}.csv")
    dates = [str(np.datetime64("2023-10-16") + day) for day in range(90)]
    rain = ["" if 60 <= day < 63 else 6.0 * (day % 9 == 0) for day in range(90)]
    drop(gateway, {"date": dates, "rain_mm": rain}, "rain.csv")
    scanned(gateway)
    server = Server(gateway, load_paddocks(gateway), Events())
    server.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.close()


def test_daily_values_come_first_and_say_what_to_do(daily_url):
    page = read(daily_url)
    assert len(page) <= 40_000
    text = gzip.decompress(page).decode()
    today = re.search(r'<time data-day datetime="([^"]+)">', text)[1]
    assert today == "2024-01-13"
    assert text.index("Values of ") < text.index('id="todo"') < text.index("Newest satellite pass")
    values = json.loads(gzip.decompress(read(f"{daily_url}v1/daily")))["values"]
    assert len(values) == PADDOCKS
    for one in values[::40]:
        row = re.search(rf'<tr [^>]*data-p="{one["paddock"]}".*?</tr>', text)[0]
        assert f"{one['sm_percent']:.0f} %" in row
        assert f"Plant-available water: {round(one['available_percent'])}\xa0%." in row
        assert f"To refill: {round(one['refill_mm'])}\xa0mm." in row
        assert ("Below the threshold." in row) == (one["sm"] < one["threshold"])
    below = [one["paddock"] for one in values if one["days_left"] == 0]
    assert len(below) == sum(one["sm"] < one["threshold"] for one in values)
    said = re.search('<p id="todo" class="warn">(.*?)</p>', text)[1]
    assert said.startswith("Below the threshold: p")
    assert f"and {len(below) - 6} more" in said


@pytest.mark.parametrize("width", [1200, 390])
def test_the_chart_of_days_shows_what_is_known(browser, daily_url, width):
    context = browser.new_context(viewport={"width": width, "height": 844}, locale="en-AU")
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    wrong = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(daily_url)
    page.get_by_role("button", name="p7", exact=True).click()
    dialog = page.get_by_role("dialog", name="p7")
    chart = dialog.get_by_role("img", name="Chart of 13 days")
    chart.wait_for()
    series = json.loads(gzip.decompress(read(f"{daily_url}v1/daily?paddock=p7")))["values"]
    assert dialog.locator(".big").inner_text() == f"{series[-1]['sm_percent']:.0f} %"
    assert chart.locator("circle.dot").count() == 3
    wet = sum(bool(one["rain_mm"]) for one in series)
    assert chart.locator("rect.rain").count() == wet > 0
    assert chart.locator("rect.unknown").count() == 0
    assert chart.locator("path.limit").count() == chart.locator("path.band").count() == 1
    dialog.get_by_text("All values").first.click()
    dialog.locator("details[open] tbody tr").first.wait_for()  # filled once it is open
    assert dialog.locator("details[open] tbody tr").count() == len(series)
    assert dialog.get_by_text("History of 3 passes").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert wrong == []
    context.close()


def test_chart_text_can_be_read_on_a_phone(browser, url):
    context = browser.new_context(viewport={"width": 360, "height": 700}, is_mobile=True)
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    page.goto(url)
    page.get_by_role("button", name="p7", exact=True).click()
    page.locator("svg.chart text").first.wait_for()
    sizes = page.evaluate(
        "() => { const s = document.querySelector('svg.chart');"
        "const scale = s.getBoundingClientRect().width / s.viewBox.baseVal.width;"
        "return [...s.querySelectorAll('text')]"
        ".map(t => scale * parseFloat(getComputedStyle(t).fontSize)); }"
    )
    assert min(sizes) >= 12
    assert any("2024" in text for text in page.locator("svg.chart text").all_text_contents())
    context.close()


def test_a_removed_paddock_leaves_the_page_and_thresholds_colour_it(tmp_path, browser):
    gateway = made_page(tmp_path, browser, "[page]\nthresholds = [1.0, 99.0]\n", paddocks=3)
    write_outlines(tmp_path / "paddocks.geojson", 2)
    server = Server(gateway, load_paddocks(gateway), Events())
    server.start()
    text = gzip.decompress(read(f"http://127.0.0.1:{server.port}/")).decode()
    latest = gzip.decompress(read(f"http://127.0.0.1:{server.port}/v1/latest")).decode()
    server.close()
    assert re.findall(r'data-p="(\w+)"', text) == ["p0", "p1"]
    assert '"p2"' not in latest
    assert "under 1<" in text and "1–99" in text and "99 and over" in text
    assert text.count('<path class="c2"') + text.count('<path class="c0"') == 2


def test_groups_of_paddocks_far_apart_have_buttons():
    def square(west, south):
        ring = [[west, south], [west + 0.01, south], [west + 0.01, south + 0.01], [west, south]]
        return {"type": "Polygon", "coordinates": [ring]}

    drawing = draw_outlines(
        {"a": square(143.0, -36.0), "b": square(143.012, -36.0), "c": square(144.0, -35.5)}
    )
    assert [set(group.paddocks) for group in drawing.groups] == [{"a", "b"}, {"c"}]
    assert draw_outlines({"a": square(143, -36)}).groups == ()
