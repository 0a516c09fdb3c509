"""The report: one page that needs nothing beside it and says what the numbers say."""

from __future__ import annotations

import base64
import dataclasses
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from kgsm_train.config import read_config
from kgsm_train.evaluation.board import Paired
from kgsm_train.evaluation.crossval import crossvalidate
from kgsm_train.evaluation.report import findings, sites_to_show, verdict
from kgsm_train.evaluation.rundir import write_run
from kgsm_train.evaluation.trust import held_out_domain


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    config = read_config(
        tiny_model / "tiny.toml",
        changes={
            "crossval": {
                "folds": 3,
                "models": ["same-date-mean", "wcm", "lstm", "kg-lstm"],
                "date_blocks": 2,
            }
        },
    )
    folder = tmp_path_factory.mktemp("report")
    result = crossvalidate(config, folder)
    return config, folder, result, write_run(folder, result)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(run):
    _, folder, _, _ = run
    text = (folder / "report.html").read_text()
    page = Tags()
    page.feed(text)
    assert not page.open, "every tag is closed"
    assert not [tag for tag, _ in page.found if tag in ("script", "link", "iframe")]
    assert "http://" not in text and "https://" not in text and "url(" not in text
    pictures = [attrs for tag, attrs in page.found if tag == "img"]
    assert len(pictures) >= 8
    for picture in pictures:
        assert picture["alt"]
        content = base64.b64decode(picture["src"].removeprefix("data:image/png;base64,"))
        assert content.startswith(b"\x89PNG") and len(content) > 5000


def test_simulated_data_say_so(run):
    assert "SIMULATED DATA" in (run[1] / "report.html").read_text()


def test_the_same_run_gives_the_same_page(run, tmp_path):
    _, folder, result, _ = run
    write_run(tmp_path, result)
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def test_the_verdict_is_made_of_the_numbers(run):
    _, _, result, board = run
    said = verdict(board, findings(board, result))
    models = board.first.models
    rivals = {name: model.pooled.rmse for name, model in models.items() if name != "same-date-mean"}
    assert f"{min(rivals.values()):.4f}" in said[0]
    gap = board.first.ours_minus["wcm"]
    about = next(text for text in said if "WCM:" in text)
    low, high = gap.interval
    word = "better than" if high < 0 else "worse than" if low > 0 else "not told apart from"
    assert word in about and f"{gap.difference:+.4f}" in about
    assert not any("Same-date" in text for text in said), "a reference is no rival"
    worse = dataclasses.replace(board.first, ours_minus={"lstm": Paired(0.2, (0.1, 0.3))})
    changed = dataclasses.replace(board, regimes={**board.regimes, board.headline: worse})
    assert any("worse than LSTM" in t for t in verdict(changed, findings(board, result)))


def test_the_sites_shown_run_from_best_to_worst(run):
    _, _, result, _ = run
    shown = sites_to_show(result, "kg-lstm")
    error = result.predicted["kg-lstm"] - result.source.label
    rmse = [np.sqrt(np.nanmean(error[result.source.table.site == name] ** 2)) for name in shown]
    assert rmse == sorted(rmse) and len(shown) == 5


def test_held_out_rows_are_measured_to_other_folds_only(run):
    """Rows moved far off are outside in their own fold although they resemble each other."""
    from kgsm_train.learning.samples import samples_of

    config, _, result, _ = run
    samples = samples_of(result.source, config, "lstm")
    moved = samples.observed.statics.copy()
    moved[result.design.fold == 0] += 5.0 * np.ptp(moved)
    observed = dataclasses.replace(samples.observed, statics=moved)
    far = held_out_domain(
        config, dataclasses.replace(samples, observed=observed), result.design.fold, None
    )
    near = held_out_domain(config, samples, result.design.fold, None)
    assert near.outside_share < 0.1
    assert np.median(far.index[result.design.fold[samples.labelled] == 0]) > 2 * np.median(
        near.index
    )


def test_a_run_without_networks_is_reported_too(tiny_model, tmp_path):
    config = read_config(
        tiny_model / "tiny.toml", changes={"crossval": {"models": ["mean", "ridge-no-radar"]}}
    )
    result = crossvalidate(config, tmp_path)
    write_run(tmp_path, result)
    text = (tmp_path / "report.html").read_text()
    assert "no A to profile" in text and "Ridge, no radar" in text
    assert not re.search(r"KG-LSTM is ", text)


def test_no_table_is_wider_than_a_page_of_1280_pixels(run):
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed ([test])")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto((run[1] / "report.html").as_uri())
        boxes = page.locator(".scroll")
        widths = [boxes.nth(i).evaluate("e => [e.scrollWidth, e.clientWidth]") for i in range(4)]
        browser.close()
    assert all(content <= box for content, box in widths)


def test_no_title_of_the_scores_is_cut(run, tmp_path, monkeypatch):
    """The title lies within the picture, where the reference has a long name too."""
    from kgsm_train.evaluation import figures

    _, _, _, board = run
    ends = []

    def measure(figure, path):
        figure.draw_without_rendering()
        box = figure._suptitle.get_window_extent()
        ends.append((box.x0, figure.bbox.width - box.x1))

    monkeypatch.setattr(figures, "save", measure)
    monkeypatch.setattr(
        figures, "title", lambda name: f"{name} that knows the forward model, one look"
    )
    figures.score_bars(tmp_path / "scores.png", board, "simulated data")
    assert ends and min(ends[0]) > 0
