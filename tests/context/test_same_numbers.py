"""predict, predict --past, map, lazy Datasets, paddocks and the gateway give the same numbers."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_gateways import drop, made_gateway, made_model, scanned, stored
from numpy.typing import NDArray
from typer.testing import CliRunner

from kgsm_infer.app.cli import app
from kgsm_infer.base import flags as flag_bits
from kgsm_infer.context.definitions import HistoryRule, Typical

xr = pytest.importorskip("xarray", reason="lazy retrieval needs kgsm[cluster]")
pytest.importorskip("rasterio", reason="scenes need kgsm[raster]")

HEIGHT, WIDTH, PASSES = 4, 5, 12
NAMES = (
    "ndvi", "vh_scene_db", "vh_anomaly", "vh_anomaly_scene", "ndvi_over_scene",
    "vh_over_usual_db", "vh_between_scene",
)  # fmt: skip
PAST = HistoryRule("past", {"vh": Typical(3.0, -17.0, 2.0)})
SHAPE = (PASSES, HEIGHT, WIDTH)


def made_cube(seed: int = 7) -> Any:
    """Twelve passes, two a day, with gaps; every pixel is a paddock."""
    rng = np.random.default_rng(seed)
    day = np.cumsum(rng.choice([6, 12], PASSES // 2)).astype("timedelta64[D]")
    morning = np.datetime64("2018-03-01T05:30:12") + day
    times = np.sort(np.concatenate([morning, morning + np.timedelta64(12 * 3600 + 900, "s")]))
    vh_db = rng.normal(-17, 2, (PASSES, 1, 1)) + rng.normal(0, 1.2, SHAPE)
    planes = {
        "vh_db": vh_db,
        "ndvi": rng.normal(0.4, 0.15, SHAPE).clip(0.05, 0.8),
        "angle_deg": np.broadcast_to(rng.uniform(36, 41, (1, HEIGHT, WIDTH)), SHAPE).copy(),
    }
    for name in ("vh_db", "ndvi"):
        planes[name][rng.random(SHAPE) < 0.06] = np.nan
    planes["vh_db"][:, 1, 1] = planes["vh_db"][:-1, 3, 3] = np.nan
    cube = xr.Dataset(
        {name: (("time", "y", "x"), plane.astype("f4")) for name, plane in planes.items()},
        {
            "time": times.astype("datetime64[ns]"),
            "y": 5600000 - 10.0 * np.arange(HEIGHT) - 5,
            "x": 500000 + 10.0 * np.arange(WIDTH) + 5,
        },
    )
    for name in planes:
        cube[name].attrs["grid_mapping"] = "spatial_ref"
    pyproj = pytest.importorskip("pyproj", reason="the cube's CRS")
    wkt = pyproj.CRS(32631).to_wkt()
    attributes = {"crs_wkt": wkt, "grid_mapping_name": "transverse_mercator"}
    return cube.assign(spatial_ref=xr.DataArray(0, attrs=attributes))


def rows_of(cube: Any, passes: range, orbits: bool) -> dict[str, list[str]]:
    """The cube's pixels as columns of a table, row by row."""
    columns: dict[str, list[str]] = {"site": [], "field": [], "date": []}
    names = ("vh_db", "ndvi", "angle_deg")
    columns |= {name: [] for name in names} | ({"orbit": []} if orbits else {})
    for k in passes:
        for at in range(HEIGHT * WIDTH):
            columns["site"].append(f"p{at}")
            columns["field"].append(f"p{at}")
            columns["date"].append(f"{str(cube.time.values[k])[:19]}Z")
            for name in names:
                value = float(cube[name].values[k].flat[at])
                columns[name].append("" if np.isnan(value) else repr(value))
            if orbits:
                columns["orbit"].append("117" if k % 2 else "44")
    return columns


def write_table(path: Path, columns: dict[str, list[str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_outlines(path: Path, cube: Any) -> Path:
    features = []
    for at in range(HEIGHT * WIDTH):
        x, y = float(cube.x[at % WIDTH]), float(cube.y[at // WIDTH])
        ring = [[x - 5, y - 5], [x + 5, y - 5], [x + 5, y + 5], [x - 5, y + 5], [x - 5, y - 5]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        name = f"p{at}"
        features.append({"type": "Feature", "id": name, "properties": {}, "geometry": geometry})
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    return path


def call(*arguments: Any) -> str:
    run = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert run.exit_code == 0, run.output
    return run.output


def results(path: Path, passes: int = PASSES) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """sm and flags of an output table, in order of pass and pixel."""
    with path.open() as file:
        rows = sorted(
            csv.DictReader(file),
            key=lambda row: (row["date"], int((row.get("site") or row["id"])[1:])),
        )
    sm = [float(row["sm"] or "nan") for row in rows]
    bits = [bits_of(row["flags"]) for row in rows]
    return np.reshape(sm, (passes, -1)), np.reshape(bits, (passes, -1))


def bits_of(words: str) -> int:
    return sum(1 << flag_bits.NAMES.index(word) for word in words.split(";") if word)


def assert_same(sm: Any, bits: Any, expected: tuple[NDArray[Any], NDArray[Any]]) -> None:
    np.testing.assert_allclose(np.reshape(sm, (PASSES, -1)), expected[0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.reshape(bits, (PASSES, -1)), expected[1])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return made_model(folder, dynamic=NAMES, history=PAST, sm_std=0.05)


@pytest.mark.parametrize("orbits", [False, True])
def test_two_passes_a_day_give_the_same_numbers_on_every_path(
    model: Path, tmp_path: Path, orbits: bool
) -> None:
    """A scene has no orbits: its passes are compared with all earlier ones."""
    import kgsm_infer.xarray

    cube = made_cube()
    table = write_table(tmp_path / "t.csv", rows_of(cube, range(PASSES), orbits))
    outlines = write_outlines(tmp_path / "f.geojson", cube)
    call("predict", model, table, "-o", tmp_path / "o.csv")
    expected = results(tmp_path / "o.csv")
    assert np.isfinite(expected[0]).sum() > PASSES * HEIGHT * WIDTH / 2

    call("paddocks", model, table, outlines, "-o", tmp_path / "p.csv", "--all-dates")
    assert_same(*results(tmp_path / "p.csv"), expected)

    gateway = replace(made_gateway(tmp_path / "gateway", model=model))
    for k in range(PASSES):
        drop(gateway, rows_of(cube, range(k, k + 1), orbits), f"{k:02}.csv")
    scanned(gateway)
    values = [value for _, value in sorted(by_pass(stored(gateway)).items())]
    sm = [np.nan if value.sm is None else value.sm for value in values]
    assert_same(sm, [bits_of(value.flags) for value in values], expected)

    steps, past = kgsm_infer.load(model).card.steps, []
    for k in range(PASSES):
        window = range(max(0, k - steps + 1), k + 1)
        part = write_table(tmp_path / "part.csv", rows_of(cube, window, orbits))
        call("predict", model, part, "-o", tmp_path / "o1.csv", "--past", tmp_path / "past.csv")
        past.append([made[-1] for made in results(tmp_path / "o1.csv", len(window))])
    assert_same([sm for sm, _ in past], [bits for _, bits in past], expected)

    if orbits:
        return
    cube.to_netcdf(tmp_path / "cube.nc")
    layers = "".join(
        f'[layers.{name}]\nfile = "cube.nc"\nvariable = "{name}"\n'
        for name in ("vh_db", "ndvi", "angle_deg")
    )
    (tmp_path / "s.toml").write_text(layers)
    call("map", model, tmp_path / "s.toml", "-o", tmp_path / "o.nc", "--all-dates")
    with xr.open_dataset(tmp_path / "o.nc", mask_and_scale=False) as made:
        assert_same(made["sm"].values, made["flags"].values, expected)
    for stack in (cube, cube.chunk(time=3, y=2, x=3)):
        lazy = kgsm_infer.xarray.retrieve(model, stack.drop_vars("spatial_ref"), every=True)
        assert_same(lazy["sm"].values, lazy["flags"].values, expected)
    scene = tmp_path / "s.toml"
    call("paddocks", model, scene, outlines, "-o", tmp_path / "ps.csv", "--all-dates")
    assert_same(*results(tmp_path / "ps.csv"), expected)


def test_every_path_leaves_a_pass_of_the_future_out(model: Path, tmp_path: Path) -> None:
    import kgsm_infer.xarray

    cube = made_cube()
    times = cube.time.values.copy()
    times[-1] = np.datetime64("2099-06-01T05:30:12")
    cube, before = cube.assign_coords(time=times), PASSES - 1
    right = write_table(tmp_path / "right.csv", rows_of(cube, range(before), True))
    call("predict", model, right, "-o", tmp_path / "o.csv", "--past", tmp_path / "past.csv")
    expected, past = (tmp_path / "o.csv").read_text(), (tmp_path / "past.csv").read_text()
    (tmp_path / "past.csv").unlink()
    table = write_table(tmp_path / "t.csv", rows_of(cube, range(PASSES), True))
    options = ("-o", tmp_path / "o.csv", "--past", tmp_path / "past.csv")
    noted = call("predict", model, table, *options)
    assert "t.csv: row 222, column date: 2099-06-01T05:30:12Z: 20 rows are of the future" in noted
    made = (tmp_path / "o.csv").read_text()
    assert made.startswith(expected) and (tmp_path / "past.csv").read_text() == past
    assert np.isnan(results(tmp_path / "o.csv")[0][-1]).all()
    (tmp_path / "past.csv").unlink()
    call("predict", model, table, *options, "--allow-future")
    assert np.isfinite(results(tmp_path / "o.csv")[0][-1]).any()

    outlines = write_outlines(tmp_path / "f.geojson", cube)
    call("paddocks", model, table, outlines, "-o", tmp_path / "p.csv")
    assert "2099" not in (tmp_path / "p.csv").read_text()
    noted = call("wetness", table, "-o", tmp_path / "w.csv")
    assert "20 rows are of the future" in noted

    cube.to_netcdf(tmp_path / "cube.nc")
    names = ("vh_db", "ndvi", "angle_deg")
    layers = [f'[layers.{name}]\nfile = "cube.nc"\nvariable = "{name}"\n' for name in names]
    (tmp_path / "s.toml").write_text("".join(layers))
    noted = call("map", model, tmp_path / "s.toml", "-o", tmp_path / "o.nc", "--all-dates")
    assert "the acquisition of 2099-06-01 is of the future and left out" in noted
    with pytest.warns(UserWarning, match="2099-06-01 is of the future"):
        lazy = kgsm_infer.xarray.retrieve(model, cube.drop_vars("spatial_ref"), every=True)
    with xr.open_dataset(tmp_path / "o.nc", mask_and_scale=False) as made_map:
        assert made_map.sizes["time"] == lazy.sizes["time"] == before
        np.testing.assert_allclose(made_map["sm"].values, lazy["sm"].values, rtol=0, atol=1e-6)


def by_pass(values: Any) -> dict[tuple[int, int], Any]:
    return {(key[1], int(key[0][1:])): value for key, value in values.items()}


def test_each_context_and_each_code_is_computed_once(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts the comparisons with a past and the codes of text columns of one predict."""
    import kgsm_infer
    from kgsm_infer.context import from_tables
    from kgsm_infer.tables import table as tables

    calls: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(f"{name} {arguments[0]}" if name == "past" else name)
            return function(*arguments, **options)

        return call

    compare, codes = from_tables.compare_with_past, tables.text_codes
    monkeypatch.setattr(from_tables, "compare_with_past", counted("past", compare))
    monkeypatch.setattr(tables, "text_codes", counted("codes", codes))
    loaded = kgsm_infer.load(model)
    columns = rows_of(made_cube(), range(PASSES), orbits=True)
    loaded.predict(loaded.table_of({name: np.asarray(cells) for name, cells in columns.items()}))
    pasts = [call for call in calls if call != "codes"]
    assert sorted(pasts) == ["past vh_anomaly", "past vh_between", "past vh_over_usual_db"]
    assert calls.count("codes") == 3  # site, field, orbit
