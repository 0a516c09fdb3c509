"""Missing pixels: one rule for files, reading paths and grids, compared with netCDF4 and GDAL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

netCDF4 = pytest.importorskip("netCDF4")
rasterio = pytest.importorskip("rasterio")

from kgsm_infer.base.errors import DataError  # noqa: E402
from kgsm_infer.scenes.grid import Grid, Window  # noqa: E402
from kgsm_infer.scenes.manifest import scene_from  # noqa: E402
from kgsm_infer.scenes.opening import open_series  # noqa: E402
from kgsm_infer.scenes.reader import Reader  # noqa: E402
from kgsm_infer.scenes.sources import opened  # noqa: E402
from kgsm_infer.scenes.validity import Validity, cf_declared  # noqa: E402

UTM = "EPSG:32631"
WHOLE = Window(0, 0, 4, 5)


def write_tif(path, bands, *, step=20.0, west=600000.0, north=5650000.0, crs=UTM, **profile):
    bands = np.atleast_3d(bands) if np.ndim(bands) == 2 else np.asarray(bands)
    bands = np.moveaxis(bands, -1, 0) if bands.shape[-1] == 1 else bands
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
        dtype=bands.dtype, crs=crs, transform=rasterio.Affine(step, 0, west, 0, -step, north),
        **profile,
    ) as dataset:  # fmt: skip
        dataset.write(bands)
    return str(path)


def write_cube(path, stored, attributes, fill=None, *, lon=None):
    """One (time, y, x) variable of packed numbers."""
    with netCDF4.Dataset(path, "w", format="NETCDF3_CLASSIC") as file:
        for name, size in zip(("time", "y", "x"), stored.shape, strict=True):
            file.createDimension(name, size)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time[:] = "days since 2022-05-01", 3 + 12 * np.arange(len(stored))
        y, x = (file.createVariable(name, "f8", (name,)) for name in ("y", "x"))
        if lon is None:
            y[:] = 5649990 - 20 * np.arange(stored.shape[1])
            x[:] = 600010 + 20 * np.arange(stored.shape[2])
            crs = file.createVariable("crs", "i4", ())
            crs.crs_wkt = rasterio.crs.CRS.from_string(UTM).to_wkt()
        else:
            y.units, x.units = "degrees_north", "degrees_east"
            y[:] = 40.05 - 0.01 * np.arange(stored.shape[1])
            x[:] = lon + 0.01 * np.arange(stored.shape[2])
        variable = file.createVariable(
            "v", stored.dtype.str[1:], ("time", "y", "x"), fill_value=fill
        )
        variable.set_auto_maskandscale(False)
        if lon is None:
            variable.grid_mapping = "crs"
        for key, value in attributes.items():
            setattr(variable, key, value)
        variable[:] = stored
    return f'netcdf:"{path}":v'


def read_plane(path, window=WHOLE, layer=None):
    """The first date of a file as the reader decodes it."""
    source = opened(path)
    try:
        scale, offset = source.scaling(1)
        return source.stored(1, window, layer or Validity()) * scale + offset
    finally:
        source.close()


UNSIGNED = {"_Unsigned": "true", "scale_factor": np.float32(0.004), "add_offset": np.float32(-0.08)}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"valid_range": np.asarray([0, -6], np.int8)},  # 0 to 250, in the signed type
        {"valid_min": np.int8(1)},
        {"missing_value": np.int8(-1)},
    ],
)
def test_unsigned_bytes_are_masked_as_netcdf4_masks_them(tmp_path: Path, more) -> None:
    stored = np.full((2, 4, 5), 120, np.uint8)
    stored[:, :, 4], stored[:, 0, 0] = 255, 0
    path = write_cube(tmp_path / "c.nc", stored.view(np.int8), {**UNSIGNED, **more}, np.int8(-1))
    with netCDF4.Dataset(tmp_path / "c.nc") as file:
        expected = np.ma.filled(file["v"][0].astype(np.float64), np.nan)
    assert read_plane(path) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        (np.asarray([-0.2, 1.0]), [True, True, False, True]),  # physical, as converted MODIS has it
        (np.asarray([-2000, 10000], np.int16), [True, True, False, True]),
        (np.asarray([-2000.0, 10000.0]), [True, True, False, True]),  # packed, written as floats
        (np.asarray([0.0, 1.0]), [True, True, False, False]),
    ],
)
def test_a_valid_range_in_physical_or_packed_units(bounds, kept) -> None:
    stored = np.asarray([[5000, 10000, 12000, -1500]], np.int16)
    declared = cf_declared({"valid_range": bounds}, stored.dtype, 1e-4, 0.0)
    from kgsm_infer.scenes.validity import masked

    assert np.isfinite(masked(stored, Validity(), declared)[0]).tolist() == kept


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_an_alpha_band_of_any_type_masks_on_both_grids(tmp_path: Path, dtype: str) -> None:
    for name, step, shape in (("same", 20.0, (4, 5)), ("fine", 10.0, (8, 10))):
        bands = np.full((2, *shape), 40, dtype)
        bands[1] = 1
        bands[:, :, -shape[1] // 5 :] = 0
        if dtype == "float64":  # an alpha of NaN is none
            bands[1, :, -shape[1] // 5 :] = np.nan
        path = write_tif(tmp_path / f"{name}.tif", bands, step=step)
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [
                rasterio.enums.ColorInterp.gray,
                rasterio.enums.ColorInterp.alpha,
            ]
    grid = Grid(
        rasterio.crs.CRS.from_string(UTM).to_wkt(), (20.0, 0, 600000.0, 0, -20.0, 5650000.0), 5, 4
    )
    same = read_plane(str(tmp_path / "same.tif"))
    source = opened(str(tmp_path / "fine.tif"))
    fine = source.on(grid, "average").stored(1, WHOLE, Validity())
    source.close()
    assert np.isfinite(same).sum() == 16
    assert np.array_equal(same, fine, equal_nan=True)


def test_nodata_of_a_vrts_own_band_holds_on_every_grid(tmp_path: Path) -> None:
    """Band 1 has nodata 0, band 2 has nodata 7: what is resampled keeps each band's own."""
    first = write_tif(tmp_path / "a.tif", np.full((4, 5), 3, np.int16), nodata=0)
    second = np.full((4, 5), 5, np.int16)
    second[:, 0], second[:, 1] = 7, 0
    second_path = write_tif(tmp_path / "b.tif", second, nodata=7)
    bands = "".join(
        f'<VRTRasterBand dataType="Int16" band="{i}"><NoDataValue>{nodata}</NoDataValue>'
        f'<SimpleSource><SourceFilename relativeToVRT="0">{path}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for i, (path, nodata) in enumerate(((first, 0), (second_path, 7)), start=1)
    )
    wkt = rasterio.crs.CRS.from_string(UTM).to_wkt().replace('"', "&quot;")
    (tmp_path / "ab.vrt").write_text(
        f'<VRTDataset rasterXSize="5" rasterYSize="4"><SRS>{wkt}</SRS>'
        f"<GeoTransform>600000, 20, 0, 5650000, 0, -20</GeoTransform>{bands}</VRTDataset>"
    )
    source = opened(str(tmp_path / "ab.vrt"))
    grid = source.grid
    half = Grid(grid.crs, (20.0, 0, 600010.0, 0, -20.0, 5650000.0), 4, 4)
    here = source.stored(2, WHOLE, Validity())
    there = source.on(half, "nearest").stored(2, Window(0, 0, 4, 4), Validity())
    moved = source.on(grid.part(Window(0, 1, 4, 4)), "nearest")
    shifted = moved.stored(2, Window(0, 0, 4, 4), Validity())
    source.close()
    assert np.isnan(here[:, 0]).all() and (here[:, 1] == 0).all()
    assert np.array_equal(shifted, here[:, 1:], equal_nan=True)
    assert np.isfinite(there[:, 0]).all(), "7 is missing, 0 of this band is a value"


@pytest.mark.parametrize("nodata", [None, 0.0])
def test_frames_padded_with_zero_power_do_not_hide_each_other(tmp_path: Path, nodata) -> None:
    power = 10 ** (np.linspace(-18, -14, 20).reshape(4, 5) / 10)
    for second, rows in (("12", slice(2, None)), ("37", slice(None, 2))):
        frame = power.astype(np.float32)
        frame[rows] = 0
        write_tif(tmp_path / f"vh_20220504T0530{second}.tif", frame, nodata=nodata)
    scene = scene_from({"layers": {"vh_linear": {"files": "vh_*.tif"}}}, "s", tmp_path)
    stack = open_series(scene, "vh_db")
    with Reader(stack) as reader:
        merged = reader.column("vh_db", 0, WHOLE)
    assert merged == pytest.approx(10 * np.log10(power), abs=1e-5)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero"),
    [
        (np.float32, 1.0, 0),
        (np.uint16, 1e-4, 29),
        (np.uint16, 1e-4, 113),
        (np.uint16, float(np.float32(1e-4)), 29),
    ],
)
def test_zero_power_has_no_weight_in_an_average(
    tmp_path: Path, dtype: type, scale: float, zero: int
) -> None:
    fine = np.full((8, 10), zero + 0.01 / scale).round(2).astype(dtype)
    fine[:, ::2] = zero
    path = write_tif(tmp_path / "vh_20220504.tif", fine, step=10.0)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (scale,), (-round(zero * scale, 10),)
    layers = {"vh_linear": {"files": "vh_*.tif", "resample": "average"}}
    scene = scene_from({"layers": layers}, "s", tmp_path)
    grid = Grid(
        rasterio.crs.CRS.from_string(UTM).to_wkt(), (20.0, 0, 600000.0, 0, -20.0, 5650000.0), 5, 4
    )
    with Reader(open_series(scene, "vh_db", grid)) as reader:
        assert reader.column("vh_db", 0, WHOLE) == pytest.approx(np.full((4, 5), -20.0), abs=1e-5)


@pytest.mark.parametrize("lon", [-5.95, 354.05])
def test_longitudes_a_turn_apart_are_one_place(tmp_path: Path, lon: float) -> None:
    stored = np.arange(48, dtype=np.float32).reshape(1, 6, 8)
    source = opened(write_cube(tmp_path / "c.nc", stored, {}, lon=lon))
    crs = rasterio.crs.CRS.from_epsg(4326).to_wkt()
    grid = Grid(crs, (0.005, 0, -5.94, 0, -0.005, 40.04), 6, 5)
    here = source.on(grid, "nearest").stored(1, Window(0, 0, 5, 6), Validity())
    source.close()
    row = np.floor((40.055 - grid.y) / 0.01).astype(int)
    col = np.floor((grid.x + 5.955) / 0.01).astype(int)
    assert np.array_equal(here, stored[0][np.ix_(row, col)])


def test_a_large_source_is_read_in_parts_with_the_same_result(tmp_path, monkeypatch) -> None:
    from kgsm_infer.scenes import resampling

    noise = np.random.default_rng(3).normal(size=(120, 130)).astype(np.float32)
    noise[40:60, 30:50] = np.nan
    source = opened(write_tif(tmp_path / "n.tif", noise, step=3.0))
    grid = Grid(source.grid.crs, (20.0, 0, 600000.0, 0, -20.0, 5650000.0), 19, 18)
    seen, window = source.on(grid, "average"), Window(0, 0, 18, 19)
    whole = seen.stored(1, window, Validity())
    monkeypatch.setattr(resampling, "MOST_PIXELS", 700)
    parts = seen.stored(1, window, Validity())
    source.close()
    assert parts == pytest.approx(whole, abs=1e-6, nan_ok=True)


@given(st.lists(st.sampled_from([0.0, -9999.0, 3.5, np.nan, -1e30]), min_size=1, max_size=8))
def test_a_stated_nodata_replaces_the_declared_one(values) -> None:
    from kgsm_infer.scenes.validity import Declared, masked

    stored = np.asarray([values], np.float32)
    own = masked(stored, Validity(nodata=-9999.0), Declared((3.5,)))
    expected = [np.nan if v == -9999.0 else np.float64(np.float32(v)) for v in values]
    assert np.array_equal(own[0], expected, equal_nan=True)


def test_a_layer_that_lies_elsewhere_is_refused_with_both_places(tmp_path: Path) -> None:
    write_tif(tmp_path / "vh_20220504.tif", np.full((4, 5), 0.01, np.float32))
    write_tif(tmp_path / "ndvi_20220504.tif", np.full((4, 5), 0.4, np.float32), west=900000.0)
    layers = {"vh_linear": {"files": "vh_*.tif"}, "ndvi": {"files": "ndvi_*.tif"}}
    from kgsm_infer.scenes.opening import open_stack

    with pytest.raises(DataError, match=r"ndvi_20220504\.tif.*does not lie over the scene"):
        open_stack(scene_from({"layers": layers}, "s", tmp_path), "vh", ["ndvi"])


@pytest.mark.parametrize("version", [2, 3])
def test_unsigned_bytes_of_zarr_are_masked_too(tmp_path: Path, version: int) -> None:
    """JSON has no signed bytes: the fill value of Zarr 3 is the integer -1."""
    xr = pytest.importorskip("xarray")
    stored = np.full((1, 4, 5), 120, np.uint8)
    stored[:, :, 4] = 255
    attributes = {**UNSIGNED, "_FillValue": np.int8(-1), "grid_mapping": "crs"}
    crs = {"crs_wkt": rasterio.crs.CRS.from_string(UTM).to_wkt()}
    made = xr.Dataset(
        {"v": (("time", "y", "x"), stored.view(np.int8), attributes), "crs": ((), 0, crs)},
        {
            "time": np.asarray(["2024-05-01"], "M8[ns]"),
            "y": 5649990.0 - 20 * np.arange(4),
            "x": 600010.0 + 20 * np.arange(5),
        },
    )
    made.to_zarr(tmp_path / "c.zarr", zarr_format=version)
    found = read_plane(f'ZARR:"{tmp_path / "c.zarr"}":/v')
    assert np.isnan(found[:, 4]).all()
    assert found[:, :4] == pytest.approx(120 * 0.004 - 0.08, abs=1e-6)


@pytest.mark.parametrize("method", ["average", "bilinear", "cubic", "nearest"])
@pytest.mark.parametrize("step", [10.0, 30.0, 13.0])
def test_an_impossible_value_has_no_weight_in_an_average(
    tmp_path: Path, method: str, step: float
) -> None:
    """NDVI of 0.5 beside an undeclared 32767: no mean lies between."""
    from kgsm_infer.scenes.gdal import gdal
    from kgsm_infer.scenes.manifest import scene_from
    from kgsm_infer.scenes.opening import open_series
    from kgsm_infer.scenes.reader import Reader

    stored = np.full((1, 12, 12), 5000, np.int16)
    stored[:, 4:8, 4:8] = 32767
    write_tif(tmp_path / "ndvi_20240501.tif", stored, step=20.0)
    layers = {"ndvi": {"files": "ndvi_*.tif", "scale": 1e-4, "resample": method}}
    bounds = [600000.0, 5650000.0 - 240, 600240.0, 5650000.0]
    grid = {"crs": UTM, "bounds": bounds, "resolution": step}
    with gdal():
        scene = scene_from({"layers": layers, "grid": grid}, "s.toml", tmp_path)
        stack = open_series(scene, "ndvi")
        with Reader(stack) as reader:
            whole = Window(0, 0, stack.grid.height, stack.grid.width)
            found = reader.column("ndvi", 0, whole)
    values = set(found[np.isfinite(found)].round(4).tolist())
    assert values <= ({0.5, 3.2767} if method == "nearest" else {0.5}) and 0.5 in values
