"""Every path gives the same numbers: predict, maps, lazy arrays, paddocks, pass by pass.

Seeded draws of passes in two relative orbits, two a day, with gaps, masked pixels, frames of one
pass, frozen soil and days without NDVI. Numbers agree to 1e-6 within an engine and to 1e-5 between
engines; flags are equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_outlines import polygon, write_geojson
from made_scenes import NORTH, STEP, WEST, write_tif
from numpy.typing import NDArray
from tiny_experiment import TINY

import kgsm_infer
from kgsm_infer.base import flags
from kgsm_infer.context.state_file import compare_table, read_past, write_past
from kgsm_infer.maps.lazy import retrieve
from kgsm_infer.maps.options import Execution, RetrievalOptions
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.index import NAME as WETNESS
from kgsm_infer.model.model import Model
from kgsm_infer.model.result import Retrieval
from kgsm_infer.paddocks.of_scene import paddocks_of_scene
from kgsm_infer.paddocks.of_table import paddocks_of_table
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.outlines import read_outlines
from kgsm_infer.tables.passes import pass_starts
from kgsm_infer.tables.table import Table, table_from_columns

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")
xr = pytest.importorskip("xarray", reason="lazy retrieval needs kgsm[cluster]")
pytest.importorskip("dask.array", reason="lazy retrieval needs kgsm[cluster]")
pytest.importorskip("zarr", reason="Zarr maps need kgsm[cluster]")
pytest.importorskip("exactextract", reason="paddocks on rasters need kgsm[raster]")

ENGINES = ("native", "onnxruntime")
SEEDS = (1, 2)
SHAPE = (4, 5)
COLUMNS = ("vh_db", "vv_db", "ndvi", "angle_deg", "temp_c")
TIMES = ("time", "y", "x")
#: Paddocks as (top, left, bottom, right) in pixels.
FIELDS = {"north": (0, 0, 2, 3), "south": (2, 1, 4, 5)}
#: Flags of a pixel outside paddocks, a field of one pixel, that a table row does not have.
ALONE = np.uint16(flags.CONTEXT_MISSING)


@dataclass(frozen=True)
class Drawn:
    """Frames of passes. times: (F,) datetime64[s].  orbits: (F,).  planes: name -> (F, y, x)."""

    times: NDArray[np.datetime64]
    orbits: NDArray[np.str_]
    planes: dict[str, NDArray[np.float64]]

    @cached_property
    def passes(self) -> NDArray[np.datetime64]:
        """(D,) start of each pass."""
        return np.unique(pass_starts(self.times))

    @property
    def stamps(self) -> list[str]:
        """The times as text in UTC."""
        return [f"{time}Z" for time in self.times]

    def table(self, model: Model, frames: Any = slice(None)) -> Table:
        """One row per pixel and frame."""
        n = SHAPE[0] * SHAPE[1]
        times, orbits = self.times[frames], self.orbits[frames]
        columns: dict[str, Any] = {
            "site": np.tile([f"p{i}" for i in range(n)], len(times)),
            "date": np.repeat(times.astype(str), n),
            "orbit": np.repeat(orbits, n),
        }
        columns |= {name: plane[frames].ravel() for name, plane in self.planes.items()}
        columns["field"] = columns["site"]
        return table_from_columns(
            columns, features=model.table_features(), reads=model.columns_read()
        )

    def fields(self, model: Model) -> Table:
        """One row per paddock and pass: columns averaged in float64, backscatter as power."""
        rows: dict[str, list[Any]] = {name: [] for name in ("site", "date", "orbit", *COLUMNS)}
        starts = pass_starts(self.times)
        for name, (top, left, bottom, right) in FIELDS.items():
            for start in self.passes:
                frames = np.flatnonzero(starts == start)
                rows["site"].append(name)
                rows["date"].append(str(start))
                rows["orbit"].append(self.orbits[frames[0]])
                for column in COLUMNS:
                    planes = self.planes[column][frames]
                    first = planes[0]
                    for later in planes[1:]:
                        first = np.where(np.isnan(first), later, first)
                    values = first[top:bottom, left:right]
                    known = values[np.isfinite(values)]
                    power = 10 ** (known / 10) if column.endswith("_db") else known
                    mean = power.mean() if known.size >= values.size / 2 else np.nan
                    rows[column].append(10 * np.log10(mean) if column.endswith("_db") else mean)
        return table_from_columns(
            {**rows, "field": rows["site"]},
            features=model.table_features(),
            reads=model.columns_read(),
        )


def drawn(seed: int) -> Drawn:
    """Draw passes of two orbits over 30 days; one of them has two frames."""
    rng = np.random.default_rng(seed)
    start = np.datetime64("2024-03-01T00:00:00")
    clock = {"22D": "05:30:12", "117A": "17:02:44"}
    frames = [
        (start + np.timedelta64(6 * k, "D") + _since_midnight(clock[orbit]), orbit)
        for k in range(7)
        for orbit in clock
    ]
    left_out = rng.choice(len(frames) - 2, 4, replace=False)  # the last day has both
    frames = [frame for at, frame in enumerate(frames) if at not in left_out]
    split = int(rng.integers(1, len(frames) - 1))
    frames.insert(split + 1, (frames[split][0] + np.timedelta64(25, "s"), frames[split][1]))
    shape = (len(frames), *SHAPE)
    orbits = np.asarray([orbit for _, orbit in frames])
    vh_db = rng.normal(-17, 2, shape) + np.where(orbits == "22D", 0.0, 1.5)[:, None, None]
    vh_db[rng.random(shape) < 0.05] = np.nan
    vh_db[rng.random(shape) < 0.02] = 3.0  # buildings
    vv_db = vh_db + 7 - 9 * (vh_db > 0)
    ndvi = rng.uniform(0.1, 0.8, shape)
    ndvi[rng.random(shape) < 0.05] = np.nan
    ndvi[1] = np.nan  # a cloud
    vh_db[2, :, :3] = vv_db[2, :, :3] = np.nan  # the edge of a frame
    angle_deg = np.where(orbits == "22D", 34.0, 41.0)[:, None, None] + rng.uniform(0, 1, shape)
    temp_c = np.where(rng.random(shape) < 0.1, -2.0, 8.0)
    later = split + 1
    for values in (vh_db, vv_db):  # the frames share no pixel
        values[split, 2:], values[later, :2] = np.nan, np.nan
    for values in (ndvi, angle_deg, temp_c):
        values[later] = values[split]
    planes = {"vh_db": vh_db, "vv_db": vv_db, "ndvi": ndvi, "angle_deg": angle_deg}
    planes["temp_c"] = temp_c
    return Drawn(
        np.asarray([time for time, _ in frames], "datetime64[s]"),
        orbits,
        {name: plane.astype("f4").astype("f8") for name, plane in planes.items()},
    )


def _since_midnight(clock: str) -> np.timedelta64:
    return np.datetime64(f"2000-01-01T{clock}") - np.datetime64("2000-01-01T00:00:00")


def geotiff_scene(folder: Path, draw: Drawn) -> Path:
    """A manifest of one GeoTIFF per frame and layer, with stated orbits."""
    layers: dict[str, Any] = {}
    for name, plane in draw.planes.items():
        files = {}
        for stamp, values in zip(draw.stamps, plane, strict=True):
            path = write_tif(folder / name / f"{stamp.replace(':', '')}.tif", values)
            files[stamp] = str(path)
        layers[name] = {"files": files}
        if name == "vh_db":
            layers[name]["orbits"] = dict(zip(draw.stamps, draw.orbits.tolist(), strict=True))
    manifest = folder / "scene.json"
    manifest.write_text(json.dumps({"layers": layers}))
    return manifest


def dataset(draw: Drawn) -> Any:
    """The frames as a Dataset with a coordinate of orbits."""
    height, width = SHAPE
    return xr.Dataset(
        {name: (TIMES, plane.astype(np.float32)) for name, plane in draw.planes.items()},
        {
            "time": draw.times.astype("datetime64[ns]"),
            "orbit": ("time", draw.orbits),
            "y": NORTH - STEP * (np.arange(height) + 0.5),
            "x": WEST + STEP * (np.arange(width) + 0.5),
        },
    )


def cube_scene(folder: Path, draw: Drawn) -> Path:
    """A manifest of one NetCDF cube, whose variable ``orbit`` is read."""
    dataset(draw).to_netcdf(folder / "cube.nc")
    layers = {
        name: {"file": "cube.nc", "variable": name, "crs": "EPSG:32631"} for name in draw.planes
    }
    manifest = folder / "cube.json"
    manifest.write_text(json.dumps({"layers": layers}))
    return manifest


@pytest.fixture(scope="module")
def past_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with a window of three passes that reads its place's past and its scene."""
    from kgsm_train.config import read_config
    from kgsm_train.fit import fit_and_export
    from kgsm_train.sources.simulate import Twin, write_twin

    folder = tmp_path_factory.mktemp("past")
    write_twin(folder / "twin.csv", Twin(sites=6, years=1, seed=1))
    text = TINY.replace('["doy_sin"]', '["doy_sin", "ndvi", "vh_anomaly", "vh_anomaly_fields"]')
    text = text.replace('statics = ["clay"]\n', "").replace("epochs = 3", "epochs = 1")
    head = '[head]\nkind = "none"\nhistory = "past"\ntypical_looks = 3\n'
    (folder / "past.toml").write_text(f"{text}\n{head}")
    fit_and_export(read_config(folder / "past.toml"), folder)
    return folder / "model.onnx"


@pytest.fixture(scope="module", params=["trained", "index"])
def path(request: pytest.FixtureRequest, past_model: Path) -> str:
    """A model file, or the name of the label-free index."""
    return str(past_model) if request.param == "trained" else WETNESS


@pytest.fixture(scope="module", params=SEEDS)
def draw(request: pytest.FixtureRequest) -> Drawn:
    return drawn(request.param)


@pytest.fixture(scope="module")
def predicted(path: str, draw: Drawn) -> dict[str, Retrieval]:
    """Each engine's values of the table's passes, pixel by pixel, in order of time."""
    found = {}
    for engine in ENGINES:
        model = kgsm_infer.load(path, engine=engine)
        found[engine] = model.predict(draw.table(model))
    return found


def cubes(result: Retrieval) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield (D, y, x) of each variable of a retrieval."""
    for name in ("sm", "lower", "upper", "flags"):
        yield name, getattr(result, name).reshape(-1, *SHAPE)


def variable(model: Model, name: str) -> str:
    """The name of a variable in an output."""
    return model.card.retrieves.column_of(
        {"lower": "sm_lower", "upper": "sm_upper"}.get(name, name)
    )


def assert_cube(model: Model, cube: Any, expected: Retrieval, dates: Any = slice(None)) -> None:
    for name, values in cubes(expected):
        found = np.asarray(cube[variable(model, name)])
        if name == "flags":
            np.testing.assert_array_equal(found.astype(np.uint16), values[dates])
        else:
            np.testing.assert_allclose(found, values[dates], rtol=0, atol=1e-6, err_msg=name)


def test_a_draw_has_what_it_is_drawn_for(draw: Drawn, predicted: dict[str, Retrieval]) -> None:
    days = draw.passes.astype("datetime64[D]")
    assert len(np.unique(days)) < len(days) < len(draw.times)
    raised = np.bitwise_or.reduce(predicted["native"].flags)
    for name in ("missing_input", "input_out_of_range", "frozen_or_snow", "context_missing"):
        assert raised & flags.mask_of(name)
    assert np.isfinite(predicted["native"].sm).mean() > 0.4


def test_engines_agree(predicted: dict[str, Retrieval]) -> None:
    native, other = (predicted[engine] for engine in ENGINES)
    np.testing.assert_array_equal(native.flags, other.flags)
    for name in ("sm", "lower", "upper"):
        np.testing.assert_allclose(
            getattr(native, name), getattr(other, name), rtol=0, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("engine", ENGINES)
def test_maps_equal_predict(
    tmp_path: Path, path: str, draw: Drawn, predicted: dict[str, Retrieval], engine: str
) -> None:
    model, expected = kgsm_infer.load(path, engine=engine), predicted[engine]
    cube, files = read_scene(cube_scene(tmp_path, draw)), read_scene(geotiff_scene(tmp_path, draw))
    map_scene(model, files, tmp_path / "m.nc", RetrievalOptions(every=True))
    with xr.open_dataset(tmp_path / "m.nc", mask_and_scale=False) as found:
        assert_cube(model, found, expected)
    map_scene(
        model,
        cube,
        tmp_path / "m.zarr",
        RetrievalOptions(every=True),
        execution=Execution(threads=2),
    )
    with xr.open_zarr(tmp_path / "m.zarr", mask_and_scale=False) as found:
        assert_cube(model, found, expected)
    for at in (len(draw.passes) // 2, len(draw.passes) - 1):
        map_scene(
            model, files, tmp_path / f"{at}.tif", RetrievalOptions(date=f"{draw.passes[at]}Z")
        )
        with rasterio.open(tmp_path / f"{at}.tif") as bands:
            found = dict(zip(bands.descriptions, bands.read(), strict=True))
        assert_cube(model, found, expected, at)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("chunks", [None, {"time": 1, "y": 3, "x": 2}])
def test_lazy_arrays_equal_predict(
    path: str,
    draw: Drawn,
    predicted: dict[str, Retrieval],
    engine: str,
    chunks: dict[str, int] | None,
) -> None:
    model, stack = kgsm_infer.load(path, engine=engine), dataset(draw)
    found = retrieve(path, stack.chunk(chunks) if chunks else stack, every=True, engine=engine)
    assert (found[variable(model, "sm")].chunks is None) == (chunks is None)
    found = found.compute(scheduler="synchronous")
    assert found["time"].values.astype("datetime64[s]").tolist() == draw.passes.tolist()
    assert_cube(model, found, predicted[engine])


def test_held_vegetation_equals_predict(tmp_path: Path, past_model: Path, draw: Drawn) -> None:
    """The clouded day is filled from the days before, within the gap alone."""
    model = kgsm_infer.load(past_model, engine="native")
    for days in (6.5, 30.0):
        hold = {"hold_vegetation_days": days}
        expected = model.predict(draw.table(model), **hold)
        old = (expected.flags & flags.VEGETATION_OLD) != 0
        assert 0.02 < old.mean() < 0.3
        scene = read_scene(geotiff_scene(tmp_path, draw))
        map_scene(
            model,
            scene,
            tmp_path / "m.nc",
            RetrievalOptions(every=True, **hold),
            execution=Execution(threads=2),
        )
        with xr.open_dataset(tmp_path / "m.nc", mask_and_scale=False) as found:
            assert_cube(model, found, expected)
        for stack in (dataset(draw), dataset(draw).chunk(y=3, x=2)):
            found = retrieve(str(past_model), stack, every=True, engine="native", **hold)
            assert_cube(model, found.compute(scheduler="synchronous"), expected)
        last = draw.passes[-1]
        map_scene(model, scene, tmp_path / "m.tif", RetrievalOptions(date=f"{last}Z", **hold))
        with rasterio.open(tmp_path / "m.tif") as bands:
            assert_cube(
                model, dict(zip(bands.descriptions, bands.read(), strict=True)), expected, -1
            )
        outlines = paddock_outlines(tmp_path)
        table = draw.fields(model)
        of_fields = model.predict(table, **hold)
        assert days < 12 or (of_fields.flags & flags.VEGETATION_OLD).any()
        for lines in (
            paddocks_of_table(model, table, outlines, RetrievalOptions(every=True, **hold)),
            paddocks_of_scene(
                model, scene, outlines, tmp_path / "p.csv", RetrievalOptions(every=True, **hold)
            ),
        ):
            for row, line in enumerate(lines):
                np.testing.assert_allclose(line.sm, of_fields.sm[row], rtol=0, atol=1e-6)
                held = bool(of_fields.flags[row] & flags.VEGETATION_OLD)
                assert not held or "vegetation_old" in line.flags or not np.isfinite(line.sm)


def paddock_outlines(folder: Path) -> Any:
    """Read outlines of FIELDS."""
    shapes = {
        name: polygon(
            [[WEST + STEP * x, NORTH - STEP * y]
             for x, y in ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))]
        )
        for name, (top, left, bottom, right) in FIELDS.items()
    }  # fmt: skip
    return read_outlines(write_geojson(folder / "f.geojson", shapes))


@pytest.mark.parametrize("engine", ENGINES)
def test_paddocks_of_scene_and_table_equal_predict(
    tmp_path: Path, path: str, draw: Drawn, engine: str
) -> None:
    model = kgsm_infer.load(path, engine=engine)
    outlines = paddock_outlines(tmp_path)
    table = draw.fields(model)
    expected = model.predict(table)
    of_table = paddocks_of_table(model, table, outlines, RetrievalOptions(every=True))
    scene = read_scene(geotiff_scene(tmp_path, draw))
    of_scene = paddocks_of_scene(
        model, scene, outlines, tmp_path / "p.csv", RetrievalOptions(every=True)
    )
    assert len(of_scene) == len(of_table) == len(table) == len(FIELDS) * len(draw.passes)
    for row, (one, other) in enumerate(zip(of_scene, of_table, strict=True)):
        assert (one.id, other.id) == (table.site[row], table.site[row])
        assert np.datetime64(one.date.removesuffix("Z")) == table.date[row]
        for found in (one.sm, other.sm):
            np.testing.assert_allclose(found, expected.sm[row], rtol=0, atol=1e-6)
        assert other.flags == flags.names(int(expected.flags[row]))
        if np.isfinite(one.sm):  # those of its pixels are added
            assert set(other.flags.split(";")) <= set(one.flags.split(";")) | {""}


@pytest.mark.parametrize("engine", ENGINES)
def test_pass_by_pass_with_a_state_file_equals_predict(
    tmp_path: Path, path: str, draw: Drawn, predicted: dict[str, Retrieval], engine: str
) -> None:
    model, expected = kgsm_infer.load(path, engine=engine), dict(cubes(predicted[engine]))
    state, starts, steps = tmp_path / "past.csv", pass_starts(draw.times), model.card.steps
    for at, start in enumerate(draw.passes):
        since = draw.passes[max(0, at - steps + 1)]
        table = draw.table(model, (starts >= since) & (starts <= start))
        compared = compare_table(
            table, model.looks_back(), model.card.history, read_past(state).past, steps
        )
        found = model.predict(compared.table, thin=compared.missing)
        write_past(state, compared.past)
        for name, values in cubes(found):
            if name == "flags":
                np.testing.assert_array_equal(values[-1], expected[name][at])
            else:
                np.testing.assert_allclose(values[-1], expected[name][at], rtol=0, atol=1e-6)
