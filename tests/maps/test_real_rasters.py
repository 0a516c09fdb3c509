"""Maps of real rasters against the same numbers read another way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_scenes import make_pixels, write_tif
from map_checks import assert_equal_to_predict, predicted

from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.model import Model
from kgsm_infer.scenes.grid import Window
from kgsm_infer.scenes.manifest import scene_from
from kgsm_infer.scenes.opening import open_stack
from kgsm_infer.scenes.reader import Reader
from kgsm_infer.tables.table import table_from_columns

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")


@pytest.mark.realdata
def test_flanders_linear_geotiffs(shared_data: Path, model: Model, tmp_path: Path) -> None:
    s1 = f"{shared_data}/flanders/s1-grd-sigma0-asc-weekly/*.tif"
    s2 = f"{shared_data}/flanders/s2-agri-weekly/*_mean.tif"
    raw = {
        "layers": {
            "vh_linear": {"files": s1, "band": "VH"},
            "red": {"files": s2, "band": "B04", "scale": 1e-4},
            "nir": {"files": s2, "band": "B08", "scale": 1e-4},
            "angle_deg": {"value": 39.0},
            "clay": {"value": 0.12},
        }
    }
    map_scene(model, scene_from(raw, "flanders"), tmp_path / "m.tif")
    columns: dict[str, list[object]] = {"site": [], "date": [], "vh_linear": [], "ndvi": []}
    for day in ("2024-03-04", "2024-03-11"):
        (radar,) = Path(s1).parent.glob(f"*_{day}_*.tif")
        (optical,) = Path(s2).parent.glob(f"*_{day}_*_mean.tif")
        with rasterio.open(radar) as one, rasterio.open(optical) as other:
            vh = one.read(2).astype(np.float64).ravel()
            red, nir = (other.read(band).astype(np.float64).ravel() * 1e-4 for band in (3, 4))
        columns["site"] += range(vh.size)
        columns["date"] += [day] * vh.size
        columns["vh_linear"] += vh.tolist()
        columns["ndvi"] += ((nir - red) / (nir + red)).tolist()
    full = {**columns, "angle_deg": [39.0] * 5408, "clay": [0.12] * 5408}
    result = model.predict(table_from_columns(full, features=["clay"]))
    expected = result.take(slice(2704, None))
    assert np.isfinite(expected.sm).mean() > 0.9
    assert_equal_to_predict(tmp_path / "m.tif", expected)


@pytest.mark.realdata
def test_yanco_soil_raster_under_simulated_backscatter(
    shared_data: Path, model: Model, tmp_path: Path
) -> None:
    """A real static raster of 100 m with holes, read in the window the (made-up) radar covers."""
    path = shared_data / "oznet" / "0_ancillary" / "var_static" / "AWC_100m_resampled.tif"
    where = rasterio.windows.Window(120, 920, 60, 60)
    with rasterio.open(path) as dataset:
        awc = dataset.read(1, window=where, masked=True).astype(np.float64).filled(np.nan)
        place = {"crs": dataset.crs, "transform": dataset.window_transform(where)}
    assert 0.1 < np.isnan(awc).mean() < 0.5
    made_up = make_pixels(60, 60)
    pixels = replace(made_up, planes={**made_up.planes, "clay": awc})
    layers: dict[str, object] = {"clay": {"file": str(path), "resample": "nearest"}}
    for name in ("vh_db", "ndvi", "angle_deg"):
        for date, values in zip(pixels.dates, pixels.planes[name], strict=True):
            write_tif(tmp_path / name / f"{date}.tif", values, **place)
        layers[name] = {"files": f"{tmp_path / name}/*.tif"}
    map_scene(model, scene_from({"layers": layers}, "SIMULATED"), tmp_path / "m.tif")
    expected = predicted(model, pixels)
    assert np.isnan(expected.sm[np.isnan(awc).ravel()]).all() and np.isfinite(expected.sm).any()
    assert_equal_to_predict(tmp_path / "m.tif", expected)


@pytest.mark.realdata
def test_worldcereal_uint16_netcdf(shared_data: Path, tmp_path: Path) -> None:
    """dB = 20 log10(DN) - 83, 65535 is missing, twelve dates from the file's time axis."""
    xarray = pytest.importorskip("xarray", reason="independent reader")
    path = shared_data / "worldcereal" / "worldcereal_preprocessed_inputs.nc"
    stack = open_stack(
        scene_from({"preset": "worldcereal", "files": str(path)}, "w"), "vh", ["ndvi", "vv_db"]
    )
    assert len(stack.dates) == 12 and str(stack.dates[0])[:10] == "2020-11-01"
    with xarray.open_dataset(path) as cube, Reader(stack) as reader:
        window = Window(10, 20, 30, 40)
        for k in range(12):
            part = {"t": k, "y": slice(10, 40), "x": slice(20, 60)}
            dn = cube["S1-SIGMA0-VH"].isel(part).values.astype(np.float64)
            vh = reader.column("vh_db", k, window)
            np.testing.assert_allclose(vh, 20 * np.log10(dn) - 83, rtol=1e-12)
            red, nir = (
                cube[name].isel(part).values.astype(np.float64) for name in
                ("S2-L2A-B04", "S2-L2A-B08")
            )  # fmt: skip
            ndvi = np.where((red == 65535) | (nir == 65535), np.nan, (nir - red) / (nir + red))
            np.testing.assert_allclose(reader.column("ndvi", k, window), ndvi, rtol=1e-9)
        assert -25 < float(np.median(vh)) < -8  # the convention is plausible
