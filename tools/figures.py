"""Make the figures of the documentation again: ``python tools/figures.py FOLDER``.

``make docs`` makes them into build/figures, from where the site takes them. A figure whose data or
programs are not there is not made; the site then has the one in docs/, and the output says so.
``python tools/figures.py docs`` renews those.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / os.environ.get("OUT", "demo-out")
FIELDS = ROOT.parent / "shared/data/worldcereal_fields/dekad_2023_FRA.geoparquet"
PADDOCK = "Paddock 5"


class Missing(Exception):
    """Data or a program of a figure is not there."""


def need(path: Path, remedy: str) -> Path:
    """Return a path that exists; Missing names it."""
    if not path.exists():
        raise Missing(f"{path.name} is not there; {remedy}")
    return path


def run(*words: object, cwd: Path) -> None:
    """Run Python with the package of this folder; Missing where it fails."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"{words[0]} ended with {done.returncode}"]
        raise Missing(said[-1])


def infer(*words: object, cwd: Path) -> None:
    """Run ``kgsm-infer``."""
    run("-m", "kgsm_infer.app.cli", *words, cwd=cwd)


def france(target: Path, work: Path) -> None:
    """Draw the picture of the tutorial by its commands."""
    fields = need(FIELDS, "the tutorial names the data set")
    run(ROOT / "examples/france/tables.py", fields, work, cwd=work)
    infer("wetness", "radar.csv", "-o", "wetness.csv", cwd=work)
    days = ["--hemisphere", "north", "--today", "2024-01-30", "-o", "daily.csv"]
    infer("daily", "wetness.csv", "--weather", "rain.csv", *days, cwd=work)
    two = ["--paddock", "595430", "--paddock", "2870709"]
    infer("plot", "daily.csv", *two, "-o", target / "france.png", cwd=work)


def paddocks(target: Path, work: Path) -> None:
    """Draw the map of simulated paddocks, with the model and table of make demo."""
    model = need(OUT / "model.onnx", "make demo makes it")
    outlines = ROOT / "examples/farm/paddocks.geojson"
    words = ["--id", "site", "-o", "paddocks.geojson", "--quicklook", target / "paddocks.png"]
    infer("paddocks", model, OUT / "twin.csv", outlines, *words, cwd=work)


def performance(target: Path, work: Path) -> None:
    """Draw the ratios of make bench."""
    result = need(OUT / "bench.json", "make bench makes it")
    run(ROOT / "benchmarks/report.py", result, target / "performance.png", cwd=work)


def gateway(target: Path, work: Path) -> None:
    """Draw the page on a desktop and a phone: simulated passes and water, made-up outlines."""
    model = need(OUT / "model.onnx", "make demo makes it")
    chromium = need(Path(shutil.which("chromium") or "chromium"), "apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Missing("playwright is not installed ([test])") from None
    (work / "spool").mkdir()
    words = ["-o", "twin.csv", "--weather", "rain.csv", "--irrigated-every-days", 60]
    run("-m", "kgsm_train.cli", "simulate", *words, cwd=work)
    _write_irrigation(work / "rain.csv", work / "irrigation.csv")
    for name in ("twin.csv", "rain.csv", "irrigation.csv"):  # not twin.json, the truth
        shutil.copy(work / name, work / "spool" / name)
    shutil.copy(model, work / "model.onnx")
    shutil.copy(ROOT / "examples/farm/paddocks.geojson", work)
    (work / "gateway.toml").write_text(
        'name = "twin"\ntitle = "A simulated farm"\nmodel = "model.onnx"\nstable_s = 0.0\n'
        '[paddocks]\noutlines = "paddocks.geojson"\nid = "site"\nname = "label"\n'
        "[daily]\nwilting_point = 0.1\nfield_capacity = 0.34\nroot_depth_mm = 500\n"
        "refill_percent = 20\n[page]\ntimezone = 'Australia/Melbourne'\n[serve]\nport = 0\n"
    )
    watch = [sys.executable, "-m", "kgsm_infer.app.cli", "watch", "gateway.toml"]
    log = work / "log.jsonl"
    with log.open("w") as stderr:
        served = subprocess.Popen(
            watch, cwd=work, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=stderr
        )
    try:
        url = _address(log, served)
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
            desktop = browser.new_context(viewport={"width": 1200, "height": 900}, locale="en-AU")
            phone = browser.new_context(
                viewport={"width": 390, "height": 844},
                device_scale_factor=2,
                is_mobile=True,
                color_scheme="dark",
                locale="en-AU",
            )
            for context, name in ((desktop, "desktop"), (phone, "phone")):
                page = context.new_page()
                page.clock.set_fixed_time("2022-12-31T02:00:00Z")
                page.goto(url)
                page.locator("svg#map path[data-i]").first.wait_for()
                if name == "phone":
                    page.get_by_role("button", name=PADDOCK, exact=True).click()
                    page.locator("dialog .big").wait_for()
                page.screenshot(path=target / f"gateway-{name}.png")
            browser.close()
    finally:
        served.terminate()
        try:
            served.wait(60)
        except subprocess.TimeoutExpired:
            served.kill()
            served.wait()


def _write_irrigation(rain: Path, target: Path) -> None:
    """Write the irrigation of a simulated weather file as the gateway reads it."""
    with rain.open(newline="") as file, target.open("w", newline="") as made:
        writer = csv.writer(made)
        writer.writerow(("paddock", "date", "mm"))
        for row in csv.DictReader(file):
            if float(row["irrigation_mm"]) > 0:
                writer.writerow((row["site"], row["date"], row["irrigation_mm"]))


def _address(log: Path, served: subprocess.Popen[bytes]) -> str:
    """Wait until the gateway has values for days and serves; return its address."""
    import json

    for _ in range(1200):
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
        found = [line["url"] for line in lines if line["event"] == "serving"]
        if found and any(line["event"] == "days_updated" for line in lines):
            with urlopen(f"{found[0]}v1/daily") as answer:
                if len(answer.read()) > 1000:
                    return str(found[0])
        if served.poll() is not None:
            break
        time.sleep(0.1)
    raise Missing(f"the gateway does not serve: {log.read_text()[-300:]}")


#: Figures -> the function that makes them.
FIGURES: dict[str, Callable[[Path, Path], None]] = {
    "france.png": france,
    "gateway-desktop.png, gateway-phone.png": gateway,
    "paddocks.png": paddocks,
    "performance.png": performance,
}


def main(target: Path) -> None:
    """Make each figure, or say why the one in docs/ is used."""
    target.mkdir(parents=True, exist_ok=True)
    for names, make in FIGURES.items():
        with tempfile.TemporaryDirectory() as work:
            try:
                make(target, Path(work))
            except Missing as reason:
                print(f"{names}: kept as in docs/: {reason}")
            else:
                print(f"{names}: made")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
