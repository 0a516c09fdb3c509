"""What pixels take from their scene, their paddock and their past."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_scenes import NORTH, WEST, make_pixels, write_scene
from map_checks import assert_equal_to_predict, predicted, read_map
from other_cards import with_card

from kgsm_infer.base import flags
from kgsm_infer.context.definitions import CONTEXT, SPANS, HistoryRule, Typical
from kgsm_infer.context.from_tables import compute_context
from kgsm_infer.maps import lazy
from kgsm_infer.maps import plan as map_plan
from kgsm_infer.maps.blocks import retrieve_block
from kgsm_infer.maps.context import make_context
from kgsm_infer.maps.labels import PaddockLabels
from kgsm_infer.maps.options import Execution, RetrievalOptions
from kgsm_infer.maps.plan import plan_map
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.card import Channel
from kgsm_infer.model.model import Model
from kgsm_infer.scenes.grid import Grid, Window
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.reader import Reader
from kgsm_infer.tables.table import table_from_columns

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")


def _reading(model: Model, name: str) -> Model:
    """The model, its dynamic feature renamed: what it reads is a context instead."""
    channels = tuple(
        Channel(name, "dB", "dynamic", -15.0, 3.0, -60.0, 60.0)
        if channel.role == "dynamic"
        else channel
        for channel in model.card.channels
    )
    return with_card(model, channels=channels)


@pytest.mark.usefixtures("small_blocks")
def test_the_scene_mean_is_that_of_a_table(model: Model, scene: Path, tmp_path: Path) -> None:
    model, pixels = _reading(model, "vh_scene_db"), make_pixels()
    map_scene(model, read_scene(scene), tmp_path / "m.tif", execution=Execution(threads=2))
    expected = predicted(model, pixels)
    assert not (expected.flags & flags.CONTEXT_MISSING).any()
    assert_equal_to_predict(tmp_path / "m.tif", expected)


def _square(top: int, left: int, bottom: int, right: int) -> dict[str, object]:
    x0, x1, y0, y1 = (WEST + 10 * left, WEST + 10 * right, NORTH - 10 * bottom, NORTH - 10 * top)
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.mark.parametrize("enough", [2, 5])
@pytest.mark.parametrize("name", ["vh_field_db", "vh_over_usual_db", "vh_over_driest_db"])
def test_a_fields_context_is_that_of_the_paddocks_pixels(
    model: Model, scene: Path, monkeypatch: pytest.MonkeyPatch, name: str, enough: int
) -> None:
    """enough: dates that make a history; the scene has four."""
    if CONTEXT[name].shared_by.is_past:
        changed = replace(CONTEXT[name], minimum_rows=enough)
        monkeypatch.setitem(CONTEXT, name, changed)  # type: ignore[arg-type]
    monkeypatch.setattr(map_plan, "BLOCK_SIDE", 16)
    model, pixels = _reading(model, name), make_pixels()
    field = np.full((20, 30), "", object)
    field[2:9, 3:25], field[12:18, 10:20] = "a", "b"
    columns = {**pixels.columns(), "field": field.ravel().tolist() * 4}
    table = table_from_columns(columns, features=["clay"])
    last = table.date == np.datetime64("2024-04-09")
    expected = model.predict(table).take(last)
    few = (expected.flags & flags.CONTEXT_MISSING) != 0
    known = (field != "").ravel() if name == "vh_field_db" else np.full(600, enough < 4)
    assert not few[known & np.isfinite(expected.sm)].any()
    assert few[~known].sum() >= 0.9 * (~known).sum()

    plan = plan_map(model, read_scene(scene))
    plan = replace(plan, paddocks=(_square(2, 3, 9, 25), _square(12, 10, 18, 20)))
    context = make_context(plan, threads=2)
    mean = compute_context(table, "vh_field_db")[0].reshape(4, 20, 30)
    got = context.fields["vh_field_db"][0]
    np.testing.assert_allclose(got[3], [mean[3, 2, 3], mean[3, 12, 10]], rtol=1e-12)
    with Reader(plan.stack) as reader:
        block = retrieve_block(plan, reader, Window(0, 0, 20, 30), context)
    np.testing.assert_array_equal(block.flags.ravel(), expected.flags)
    np.testing.assert_allclose(block.sm.ravel(), expected.sm, rtol=0, atol=1e-6)


def test_the_mean_over_fields_is_over_the_outlines(model: Model, scene: Path) -> None:
    """Pixels outside the outlines do not count, and a large paddock counts as a small one."""
    model, pixels = _with_rule(model, "vh_anomaly_fields", "past"), make_pixels()
    field = np.full((20, 30), "", object)
    field[2:9, 3:25], field[12:18, 10:20] = "a", "b"
    columns = {**pixels.columns(), "field": field.ravel().tolist() * 4}
    inside = np.tile(field.ravel() != "", 4)
    columns = {name: np.asarray(cells)[inside].tolist() for name, cells in columns.items()}
    table = table_from_columns(columns, features=["clay"])
    expected, fields = compute_context(table, "vh_anomaly_fields", model.card.history)
    plan = plan_map(model, read_scene(scene), RetrievalOptions(every=True))
    plan = replace(plan, paddocks=(_square(2, 3, 9, 25), _square(12, 10, 18, 20)))
    values, count = make_context(plan, threads=2).scenes["vh_anomaly_fields"]
    for day, date in enumerate(np.unique(table.date)):
        first = np.flatnonzero(table.date == date)[0]
        assert abs(values[day] - expected[first]) < 1e-9
        assert count[day] == fields[first] == 2


def test_a_field_context_without_outlines_is_flagged(
    model: Model, scene: Path, tmp_path: Path
) -> None:
    map_scene(_reading(model, "vh_field_db"), read_scene(scene), tmp_path / "m.tif")
    assert (read_map(tmp_path / "m.tif")[1] & flags.CONTEXT_MISSING).all()


def test_a_stated_context_is_believed(model: Model, scene: Path, tmp_path: Path) -> None:
    model, pixels = _reading(model, "vh_field_db"), make_pixels()
    values = ", ".join(f"{date} = {-15 - i}.0" for i, date in enumerate(pixels.dates))
    scene.write_text(scene.read_text() + f"[layers.vh_field_db]\nvalues = {{{values}}}\n")
    map_scene(model, read_scene(scene), tmp_path / "m.tif")
    stated = np.broadcast_to(-15.0 - np.arange(4)[:, None, None], (4, 20, 30))
    pixels = replace(pixels, planes={**pixels.planes, "vh_field_db": stated})
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, pixels))


def _with_rule(model: Model, name: str, span: str) -> Model:
    """The model, reading a context and making histories by a rule of its own."""
    rule = HistoryRule(span, {"vh": Typical(looks=2.0, usual_db=-16.0, swing_db=1.5)})
    model = _reading(model, name)
    return with_card(model, history=rule)


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize(
    "name",
    ["vh_anomaly", "vh_anomaly_scene", "vh_anomaly_fields", "ndvi_over_scene", "vh_between",
     "vh_between_scene", "vh_over_usual_db"],
)  # fmt: skip
def test_what_is_made_of_a_past_is_the_same_in_table_map_and_cube(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, span: str
) -> None:
    """Every pixel a field of its own, as in a scene without outlines; two dates are mapped."""
    monkeypatch.setattr(map_plan, "BLOCK_SIDE", 16)
    model, pixels = _with_rule(model, name, span), make_pixels()
    columns = {**pixels.columns(), "field": pixels.columns()["site"]}
    table = table_from_columns(columns, features=["clay"])
    result = model.predict(table)
    alone = np.uint16(flags.CONTEXT_MISSING)  # a field of one pixel says so in a map
    for date in ("2024-03-28", "2024-04-09"):
        rows = table.date == np.datetime64(date)
        map_scene(
            model,
            read_scene(scene),
            tmp_path / f"{date}.tif",
            RetrievalOptions(date=date),
            execution=Execution(threads=2),
        )
        (sm, *_), mask = read_map(tmp_path / f"{date}.tif")
        np.testing.assert_allclose(sm.ravel(), result.sm[rows], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(mask.ravel() & ~alone, result.flags[rows] & ~alone)
    xarray = pytest.importorskip("xarray", reason="lazy retrieval needs kgsm[cluster]")
    pytest.importorskip("dask.array", reason="lazy retrieval needs kgsm[cluster]")
    monkeypatch.setattr(lazy, "_model", lambda *_: model)
    dims = ("time", "y", "x")
    cube = xarray.Dataset(
        {key: (dims[-plane.ndim :], plane) for key, plane in pixels.planes.items()},
        coords={"time": np.asarray(pixels.dates, "datetime64[ns]")},
    )
    for stack in (cube, cube.chunk(y=7, x=11)):
        made = lazy.retrieve("model.onnx", stack, every=True).compute(scheduler="synchronous")
        np.testing.assert_allclose(made.sm.values.ravel(), result.sm, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(made.flags.values.ravel() & ~alone, result.flags & ~alone)


@pytest.mark.parametrize(
    "name",
    ["vh_scene_db", "vh_anomaly", "vh_anomaly_scene", "vh_anomaly_fields", "vh_between",
     "vh_over_usual_db"],
)  # fmt: skip
@pytest.mark.parametrize("nonsense_db", [30.0, -9999.0, -np.inf])
def test_a_value_that_cannot_be_is_in_no_mean_and_no_past(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, nonsense_db: float
) -> None:
    """A fill nobody declared counts as missing for others and for later dates, map and cube."""
    model = _with_rule(model, name, "past")
    missing, filled = make_pixels(), make_pixels()
    missing.planes["vh_db"][1, 3:9, 4:12] = np.nan
    filled.planes["vh_db"][1, 3:9, 4:12] = nonsense_db
    date = "2024-04-09"
    for folder, pixels in (("missing", missing), ("filled", filled)):
        scene = read_scene(write_scene(tmp_path / folder, pixels))
        map_scene(model, scene, tmp_path / f"{folder}.tif", RetrievalOptions(date=date))
    (expected, *_), _ = read_map(tmp_path / "missing.tif")
    (sm, *_), _ = read_map(tmp_path / "filled.tif")
    np.testing.assert_allclose(sm, expected, rtol=0, atol=1e-6)
    xarray = pytest.importorskip("xarray", reason="lazy retrieval needs kgsm[cluster]")
    monkeypatch.setattr(lazy, "_model", lambda *_: model)
    dims = ("time", "y", "x")
    made = [
        lazy.retrieve(
            "model.onnx",
            xarray.Dataset(
                {key: (dims[-plane.ndim :], plane) for key, plane in pixels.planes.items()},
                coords={"time": np.asarray(pixels.dates, "datetime64[ns]")},
            ),
            every=True,
        ).sm.values
        for pixels in (missing, filled)
    ]
    np.testing.assert_allclose(made[1], made[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(made[0][-1], expected.reshape(made[0][-1].shape), rtol=0, atol=1e-6)


def test_a_field_that_has_shown_one_state_only_is_between_nothing() -> None:
    columns = {"site": ["a", "a"], "field": ["f", "f"], "date": ["2024-03-04", "2024-03-16"]}
    table = table_from_columns({**columns, "vh_db": [-15.0, -15.0]})
    assert np.isnan(compute_context(table, "vh_between")[0]).all()
    table = table_from_columns({**columns, "vh_db": [-15.0, -12.0]})
    assert compute_context(table, "vh_between")[0].tolist() == [0.0, 1.0]
    past, count = compute_context(table, "vh_between", HistoryRule("past"))
    assert np.isnan(past[0]) and past[1] == 1.0 and count.tolist() == [1, 2]


def test_each_block_burns_its_outlines_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three passes over the scene burn each outline once per block it meets, with equal labels."""
    from rasterio import features

    grid = Grid(rasterio.crs.CRS.from_epsg(32631).to_wkt(), (10.0, 0, 0, 0, -10.0, 0), 64, 64)
    rng = np.random.default_rng(3)
    squares = [(x, y, *rng.integers(20, 90, 2)) for x, y in rng.integers(-50, 600, (60, 2))]
    shapes = [
        {"type": "Polygon", "coordinates": [[[x, -y], [x + w, -y], [x + w, -y - h], [x, -y]]]}
        for x, y, w, h in ((*map(int, square),) for square in squares)
    ]
    burned: list[int] = []
    plain = features.rasterize

    def counting(items: Any, **options: Any) -> Any:
        burned.extend(index for _, index in items)
        return plain(items, **options)

    whole = np.full((64, 64), -1, np.int32)
    plain([(shape, at) for at, shape in enumerate(shapes)][::-1], out=whole,
          transform=rasterio.Affine(*grid.transform))  # fmt: skip
    monkeypatch.setattr(features, "rasterize", counting)
    labels = PaddockLabels(shapes, grid)
    blocks = [Window(row, col, 16, 32) for row in range(0, 64, 16) for col in (0, 32)]
    for _ in range(3):
        for block in blocks:
            np.testing.assert_array_equal(labels.of(block), whole[block.slices].ravel())
    first = len(burned)
    assert first <= 4 * len(shapes)  # a shape of 9 pixels meets at most 4 blocks
    assert len(set(burned)) >= 50
