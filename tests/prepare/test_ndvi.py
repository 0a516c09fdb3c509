"""prepare ndvi: each product's numbers, masks and traps, on small files written here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from typer.testing import CliRunner

from kgsm_infer.app.cli import app
from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.prepare.ndvi import Wanted, prepare_ndvi
from kgsm_infer.prepare.products import find_products
from kgsm_infer.prepare.reflectance import (
    PRODUCTS,
    albedo,
    fmask_clear,
    landsat_clear,
    modis_clear,
    reflectance,
    scl_clear,
)
from kgsm_infer.prepare.vegetation import WORLDCOVER, of_cover, vwc_of
from kgsm_infer.scenes.grid import Grid
from kgsm_infer.scenes.manifest import read_scene

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

WEST, NORTH = 400000.0, 6150000.0
#: What Landsat Collection 2 and Sentinel-2 say of an ordinary clear pixel.
CLEAR_QA, VEGETATION = 21824, 4


def write(path: Path, image: Any, step: float, dtype: str = "uint16", north: float = NORTH) -> None:
    image = np.asarray(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": 1, "crs": "EPSG:32755", "dtype": dtype}
    transform = rasterio.Affine(step, 0, WEST, 0, -step, north)
    height, width = image.shape
    with rasterio.open(
        path, "w", height=height, width=width, transform=transform, **profile
    ) as out:
        out.write(image.astype(dtype), 1)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def landsat(folder: Path, day: str = "20200110", sensor: str = "LC08", **changes: Any) -> Path:
    """A scene of 8 x 10 pixels: red 0.10, nir 0.40, so NDVI 0.6."""
    name = f"{sensor}_L2SP_092084_{day}_20200824_02_T1"
    numbers = {"blue": 0.05, "green": 0.08, "red": 0.1, "nir": 0.4, "swir1": 0.25, "swir2": 0.15}
    bands = {"LC08": "234567", "LE07": "123457"}[sensor]
    qa = np.full((8, 10), CLEAR_QA)
    for (row, column), bit in changes.pop("qa", {}).items():
        qa[row, column] |= 1 << bit
    for band, (key, value) in zip(bands, numbers.items(), strict=True):
        stored = np.full((8, 10), round((value + 0.2) / 2.75e-5))
        for (row, column), number in changes.get(key, {}).items():
            stored[row, column] = number
        write(folder / name / f"{name}_SR_B{band}.TIF", stored, 30)
    write(folder / name / f"{name}_QA_PIXEL.TIF", qa, 30)
    return folder / name


def sentinel2(folder: Path, baseline: int, stored_red: int, stored_nir: int) -> Path:
    root = folder / f"S2A_MSIL2A_20240304T001101_N{baseline:04}_R073_T55HDB_20240304T020000.SAFE"
    image = root / "GRANULE/L2A/IMG_DATA"
    for band, value in (("B04", stored_red), ("B08", stored_nir)):
        write(image / f"R10m/T55HDB_20240304T001101_{band}_10m.tif", np.full((8, 8), value), 10)
    scl = np.full((4, 4), VEGETATION)
    scl[0, 1] = 9
    write(image / "R20m/T55HDB_20240304T001101_SCL_20m.tif", scl, 20, "uint8")
    return root


def modis(folder: Path, doy: str = "2016049", snow: bool = True) -> Path:
    """2016-02-18: red 0.1, nir 0.3; a magnitude inversion, a fill and a snowy pixel."""
    stem = f"MCD43A4.061_{{}}_doy{doy}_aid0001.tif"
    nir, quality = np.full((3, 4), 3000), np.zeros((3, 4))
    nir[2, 3], quality[2, 3], quality[1, 1] = 32767, 255, 1
    write(folder / stem.format("Nadir_Reflectance_Band1"), np.full((3, 4), 1000), 500, "int16")
    write(folder / stem.format("Nadir_Reflectance_Band2"), nir, 500, "int16")
    for band in "12":
        name = stem.format(f"BRDF_Albedo_Band_Mandatory_Quality_Band{band}")
        write(folder / name, quality, 500, "uint8")
    if snow:
        flags = np.zeros((3, 4))
        flags[0, 2] = 1
        name = stem.replace("MCD43A4", "MCD43A2").format("Snow_BRDF_Albedo")
        write(folder / name, flags, 500, "uint8")
    return folder


def test_stored_numbers_become_reflectance():
    """USGS: 0.0000275 DN - 0.2, valid 7273 to 43636; ESA: (DN - 1000) / 10000; MODIS: DN 1e-4."""
    assert_allclose(reflectance(PRODUCTS["landsat"], [7273, 43636]), [7.5e-6, 0.99999], atol=1e-6)
    assert np.isnan(reflectance(PRODUCTS["landsat"], [0, 7272, 43637, 65535])).all()
    assert_allclose(reflectance(PRODUCTS["sentinel2"], [1000, 3500], -1000), [0, 0.25])
    assert np.isnan(reflectance(PRODUCTS["sentinel2"], [0, 999, 65535], -1000)).all()
    assert_allclose(reflectance(PRODUCTS["modis"], [0, 4321]), [0, 0.4321])
    assert np.isnan(reflectance(PRODUCTS["modis"], [32767, -100])).all()
    assert np.isnan(reflectance(PRODUCTS["nbar"], [-999, 0])).all()


def test_masks_by_the_producers_tables():
    bits = {0: "fill", 1: "dilated cloud", 2: "cirrus", 3: "cloud", 4: "shadow"}
    for bit in bits:
        assert not landsat_clear(CLEAR_QA | 1 << bit)
    assert landsat_clear(CLEAR_QA) and not landsat_clear(0)
    snow = CLEAR_QA | 1 << 5
    assert not landsat_clear(snow) and landsat_clear(snow, snow=True)
    assert landsat_clear(CLEAR_QA | 1 << 7)  # water is measured like any other
    assert_array_equal(np.flatnonzero(scl_clear(np.arange(12))), [2, 4, 5, 6, 7])
    assert_array_equal(np.flatnonzero(scl_clear(np.arange(12), snow=True)), [2, 4, 5, 6, 7, 11])
    assert_array_equal(np.flatnonzero(fmask_clear(np.arange(6))), [1, 5])
    assert_array_equal(modis_clear([0, 1, 255]), [True, True, False])
    assert_array_equal(modis_clear([0, 1, 255], best=True), [True, False, False])
    assert_array_equal(modis_clear([0, 0, 0], [0, 1, 255]), [True, False, False])
    assert_array_equal(modis_clear([0, 0, 0], [0, 1, 255], snow=True), [True, True, False])


def test_albedo_of_a_grey_surface_is_its_reflectance():
    """The weights of each set add up to 1 within 2 %, as those of a mean must."""
    for product in PRODUCTS.values():
        grey = {band: np.asarray([0.2]) for band in product.albedo if band}
        value = albedo(product, grey, np.asarray([True]))
        assert_allclose(value, 0.2, atol=0.005)
    assert np.isnan(
        albedo(
            PRODUCTS["modis"],
            grey | {"nir2": np.nan * grey["red"], "red": grey["red"]},
            np.asarray([True]),
        )
    )


@pytest.mark.parametrize("sensor", ["LC08", "LE07"])
def test_landsat(tmp_path, sensor):
    """Band 4 is red of Landsat 8 and near infrared of Landsat 7."""
    scene = landsat(tmp_path, sensor=sensor, qa={(1, 2): 3, (0, 0): 5}, red={(5, 5): 0})
    days = prepare_ndvi(find_products([scene]).images, tmp_path / "out", Wanted(albedo=True))
    ndvi = read(tmp_path / "out/ndvi_2020-01-10_landsat.tif")
    assert {tuple(at) for at in np.argwhere(np.isnan(ndvi)).tolist()} == {(1, 2), (0, 0), (5, 5)}
    assert_allclose(np.nanmean(ndvi), 0.6, atol=2e-4)
    expected = 0.356 * 0.05 + 0.130 * 0.1 + 0.373 * 0.4 + 0.085 * 0.25 + 0.072 * 0.15 - 0.0018
    made = read(tmp_path / "out/albedo_2020-01-10_landsat.tif")
    assert_allclose(np.nanmean(made), expected, atol=1e-4)
    assert_allclose(days[0].clear, 77 / 80)
    layers = read_scene(tmp_path / "out/vegetation_landsat.toml").layers
    assert set(layers) == {"ndvi", "albedo"}


@pytest.mark.parametrize(("baseline", "add"), [(301, 0), (400, 1000), (510, 1000)])
def test_sentinel2_baselines_give_one_number(tmp_path, baseline, add):
    """The same surface before and after 2022-01-25: 1000 was added to every number."""
    sentinel2(tmp_path, baseline, 1000 + add, 4000 + add)
    prepare_ndvi(find_products([tmp_path]).images, tmp_path / "out", Wanted())
    ndvi = read(tmp_path / "out/ndvi_2024-03-04_sentinel2.tif")
    assert_allclose(np.nanmean(ndvi), 0.6, atol=1e-6)
    assert_array_equal(np.isnan(ndvi).nonzero(), ([0, 0, 1, 1], [2, 3, 2, 3]))  # cloud, 20 m


def test_sentinel2_metadata_counts_for_more_than_the_name(tmp_path):
    root = sentinel2(tmp_path, 9999, 2000, 5000)
    with pytest.raises(DataError, match="--boa-offset -1000"):
        find_products([tmp_path])
    assert find_products([tmp_path], boa_offset=0.0).images[0].add == 0
    xml = (
        "<a><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE><BOA_ADD_OFFSET_VALUES_LIST>"
        '<BOA_ADD_OFFSET band_id="0">-1000</BOA_ADD_OFFSET></BOA_ADD_OFFSET_VALUES_LIST></a>'
    )
    (root / "MTD_MSIL2A.xml").write_text(xml)
    assert find_products([tmp_path]).images[0].add == -1000
    (root / "MTD_MSIL2A.xml").write_text(xml.replace(">10000<", ">1000<"))
    with pytest.raises(DataError, match="1000 is not 10000"):
        find_products([tmp_path])
    (root / "MTD_MSIL2A.xml").write_text(xml[:40])
    with pytest.raises(DataError, match="truncated"):
        find_products([tmp_path])
    for damaged in ("", "nan", "inf", "-1O00"):
        (root / "MTD_MSIL2A.xml").write_text(xml.replace(">-1000<", f">{damaged}<"))
        with pytest.raises(DataError, match="its offsets are not numbers"):
            find_products([tmp_path])


def test_modis(tmp_path):
    modis(tmp_path)
    days = prepare_ndvi(find_products([tmp_path]).images, tmp_path / "out", Wanted())
    ndvi = read(tmp_path / "out/ndvi_2016-02-18_modis.tif")
    assert {tuple(at) for at in np.argwhere(np.isnan(ndvi)).tolist()} == {(0, 2), (2, 3)}
    assert_allclose(np.nanmean(ndvi), 0.5, atol=1e-6)
    assert days[0].note == ""
    modis(tmp_path / "other", snow=False)
    days = prepare_ndvi(find_products([tmp_path / "other"]).images, tmp_path / "out2", Wanted())
    assert "snow is not masked" in days[0].note


def test_nbar_of_digital_earth_australia(tmp_path):
    stem = "ga_ls8c_{}_3-2-1_092084_2016-02-05_final_{}.tif"
    for band, value in (("band04", 1000), ("band05", 4000), ("band02", 500)):
        stored = np.full((4, 4), value)
        stored[3, 3] = -999
        write(tmp_path / stem.format("nbart", band), stored, 30, "int16")
    fmask = np.ones((4, 4))
    fmask[0, :3] = 2, 3, 5
    write(tmp_path / stem.format("oa", "fmask"), fmask, 30, "uint8")
    prepare_ndvi(find_products([tmp_path]).images, tmp_path / "out", Wanted())
    ndvi = read(tmp_path / "out/ndvi_2016-02-05_nbar.tif")
    assert {tuple(at) for at in np.argwhere(np.isnan(ndvi)).tolist()} == {(0, 0), (0, 1), (3, 3)}
    assert_allclose(ndvi[1, 1], 0.6, rtol=1e-6)


def grid_of(step: float, height: int, width: int) -> Grid:
    crs = rasterio.crs.CRS.from_epsg(32755).to_wkt()
    return Grid(crs, (step, 0.0, WEST, 0.0, -step, NORTH), width, height)


def test_a_requested_grid_takes_the_mean_of_clear_pixels(tmp_path):
    """60 m from 30 m: three clear of four make a pixel, one does not."""
    clouds = {(0, 0): 3, (2, 2): 3, (2, 3): 3, (3, 2): 3}
    bright = round((0.9 + 0.2) / 2.75e-5)
    scene = landsat(tmp_path, qa=clouds, nir={(0, 1): bright})
    prepare_ndvi(find_products([scene]).images, tmp_path / "out", Wanted(grid_of(60, 4, 5)))
    ndvi = read(tmp_path / "out/ndvi_2020-01-10_landsat.tif")
    assert ndvi.shape == (4, 5)
    assert_allclose(ndvi[0, 0], (0.6 + 0.6 + 0.8) / 3, atol=1e-3)
    assert np.isnan(ndvi[1, 1]) and np.isnan(ndvi).sum() == 1


def test_two_images_of_a_day_become_one_on_a_grid(tmp_path):
    one = landsat(tmp_path / "a", qa={(r, c): 3 for r in range(8) for c in range(5)})
    two = tmp_path / "b"
    for file in one.iterdir():  # the same path, the next row of the orbit
        target = two / file.name.replace("092084", "092085")
        image = read(file)
        write(target, np.full_like(image, CLEAR_QA) if "QA" in file.name else image, 30)
    found = find_products([tmp_path / "a", two]).images
    own = prepare_ndvi(found, tmp_path / "own", Wanted())
    assert len(own) == 1 and own[0].clear == 1
    days = prepare_ndvi(found, tmp_path / "out", Wanted(grid_of(30, 8, 10)))
    assert len(days) == 1 and days[0].clear == 1


def test_finished_days_are_kept_and_changed_ones_made_again(tmp_path):
    scene = landsat(tmp_path, qa={(1, 2): 3})
    for kept in (False, True):
        day = prepare_ndvi(find_products([scene]).images, tmp_path / "out", Wanted())[0]
        assert (day.kept, day.clear) == (kept, 79 / 80)
    assert not prepare_ndvi(find_products([scene]).images, tmp_path / "out", Wanted(snow=True))[
        0
    ].kept
    landsat(tmp_path, qa={(1, 2): 3, (1, 3): 3})
    assert (
        prepare_ndvi(find_products([scene]).images, tmp_path / "out", Wanted())[0].clear == 78 / 80
    )


def test_simulated_images_make_simulated_vegetation(tmp_path):
    scene = landsat(tmp_path)
    with rasterio.open(next(scene.glob("*B5*")), "r+") as dataset:
        dataset.update_tags(SIMULATED="made by a test")
    prepare_ndvi(find_products([scene]).images, tmp_path / "out", Wanted())
    with rasterio.open(tmp_path / "out/ndvi_2020-01-10_landsat.tif") as dataset:
        assert dataset.tags()["SIMULATED"] == "made by a test"
    assert read_scene(tmp_path / "out/vegetation_landsat.toml").simulated


def test_vwc_by_hand_and_as_files(tmp_path):
    """1.9134 N**2 - 0.3215 N + stem (N_ref - N_min) / (1 - N_min)."""
    foliage = 1.9134 * 0.6**2 - 0.3215 * 0.6
    assert_allclose(vwc_of(0.6, 0.8, 0.2, 20), foliage + 1.5 * 0.6 / 0.8, rtol=1e-6)  # the year's
    assert_allclose(vwc_of(0.6, 0.8, 0.2, 30), foliage + 1.5 * 0.4 / 0.8, rtol=1e-6)  # the day's
    assert_allclose(vwc_of(0.6, 0.8, -0.2, 40), foliage + 3.5 * 0.6, rtol=1e-6)
    assert np.isnan(vwc_of(0.6, 0.8, 0.2, 7)) and np.isnan(vwc_of(np.nan, 0.8, 0.2, 30))
    assert [cover.code for cover in WORLDCOVER] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100]
    assert np.isnan(of_cover([10, 80], "b")).all()

    landsat(tmp_path, "20200110")
    landsat(tmp_path, "20200603", nir={(r, c): 14545 for r in range(8) for c in range(10)})
    cover = np.full((8, 10), 30)
    cover[:, 5:] = 10
    write(tmp_path / "cover/worldcover.tif", cover, 30, "uint8")
    wanted = Wanted(grid_of(30, 8, 10), worldcover=tmp_path / "cover/worldcover.tif")
    prepare_ndvi(find_products([tmp_path]).images, tmp_path / "out", wanted)
    low = read(tmp_path / "out/ndvi_2020-06-03_landsat.tif")[0, 0]
    vwc = read(tmp_path / "out/vwc_kg_m2_2020-01-10_landsat.tif")
    assert_allclose(vwc[0, 0], foliage + 1.5 * (0.6 - low) / (1 - low), rtol=2e-3)
    assert_allclose(vwc[0, 9], foliage + 12.77 * (0.6 - low) / (1 - low), rtol=2e-3)
    b = read(tmp_path / "out/b_m2_kg.tif")
    assert_allclose(b[0, 0], 0.084) and np.isnan(b[0, 9])
    with pytest.raises(UsageError, match="a grid that all days share"):
        prepare_ndvi([], tmp_path / "out", Wanted(worldcover=tmp_path / "x.tif"))


def test_what_is_wrong_is_said_in_a_line(tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        find_products([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no Landsat Collection 2"):
        find_products([tmp_path / "empty"])
    (tmp_path / "empty/MCD43A4.A2016049.h29v12.061.hdf").write_bytes(b"")
    with pytest.raises(DataError, match="is HDF, which rasterio"):
        find_products([tmp_path / "empty"])
    scene = landsat(tmp_path / "a")
    next(scene.glob("*B4*")).write_bytes(b"II*\x00 cut")
    with pytest.raises(DataError, match="cannot be opened as a raster"):
        prepare_ndvi(find_products([scene]).images, tmp_path / "out", Wanted())
    next(scene.glob("*QA*")).unlink()
    with pytest.raises(DataError, match="has no mask band"):
        find_products([scene])
    scene = landsat(tmp_path / "b")
    far = Grid(grid_of(30, 1, 1).crs, (30.0, 0.0, 700000.0, 0.0, -30.0, NORTH), 4, 4)
    with pytest.raises(DataError, match="does not cover the place"):
        prepare_ndvi(find_products([scene]).images, tmp_path / "out", Wanted(far))
    write(next(scene.glob("*B5*")), np.ones((4, 4)), 30)
    with pytest.raises(DataError, match="are they of one image"):
        prepare_ndvi(find_products([scene]).images, tmp_path / "out", Wanted())
    assert not list((tmp_path / "out").glob("*"))  # nothing half written


def test_the_command(tmp_path):
    scene = landsat(tmp_path, qa={(1, 2): 3})
    run = CliRunner().invoke
    result = run(app, ["prepare", "ndvi", str(scene), "-o", str(tmp_path / "out"), "--dry-run"])
    assert "2020-01-10 Landsat Collection 2 Level 2: LC08" in result.output
    result = run(app, ["prepare", "ndvi", str(scene), "-o", str(tmp_path / "out"), "--albedo"])
    assert result.exit_code == 0, result.output
    assert "2020-01-10 landsat: 98.8% clear" in result.output


def sentinel2_bands(folder, stem, red, nir, *, bands="B04 B08 SCL", west=4e5, dtype="uint16"):
    """Bands of a Sentinel-2 image in a folder shared by several, 20 x 20 pixels of 10 m."""
    folder.mkdir(parents=True, exist_ok=True)
    for band, value in (("B04", red), ("B08", nir), ("SCL", 4)):
        if band in bands.split():
            kind = "uint8" if band == "SCL" else dtype
            with rasterio.open(
                folder / f"{stem}_{band}_10m.tif", "w", driver="GTiff", width=20, height=20,
                count=1, dtype=kind, crs="EPSG:32755",
                transform=rasterio.Affine(10, 0, west, 0, -10, 6150000),
            ) as file:  # fmt: skip
                file.write(np.full((1, 20, 20), value, kind))


def found_ndvi(tmp_path, source, offset=0.0):
    """NDVI of every file made of a folder: name to sorted values."""
    made = prepare_ndvi(find_products([source], offset).images, tmp_path / "out", Wanted())
    values = {}
    for day in made:
        with rasterio.open(day.files[0]) as file:
            plane = file.read(1)
        finite = plane[np.isfinite(plane)].astype(float).round(4)
        values[day.files[0].name] = sorted(set(finite.tolist()))
    return values


def test_dates_in_one_folder_are_images_of_their_own(tmp_path):
    sentinel2_bands(tmp_path / "s2", "2022-06-01_Sentinel-2_L2A", 800, 3200)
    sentinel2_bands(tmp_path / "s2", "2022-06-11_Sentinel-2_L2A", 1600, 2400)
    assert found_ndvi(tmp_path, tmp_path / "s2") == {
        "ndvi_2022-06-01_sentinel2.tif": [0.6],
        "ndvi_2022-06-11_sentinel2.tif": [0.2],
    }


def test_a_date_that_lacks_a_band_is_left_out_by_name(tmp_path):
    sentinel2_bands(tmp_path / "s2", "2022-06-01_Sentinel-2_L2A", 800, 3200, bands="B04 SCL")
    sentinel2_bands(tmp_path / "s2", "2022-06-11_Sentinel-2_L2A", 1600, 2400)
    search = find_products([tmp_path / "s2"], 0.0)
    assert [image.day for image in search.images] == ["2022-06-11"]
    assert search.left_out == {"s2 2022-06-01": "has no nir band; was it downloaded?"}


@pytest.mark.parametrize("layout", ["flat", "safe"])
def test_tiles_of_a_day_become_one_image(tmp_path, layout):
    for tile, west, red, nir in (("T55HDV", 4e5, 800, 3200), ("T55HEV", 400200.0, 1600, 2400)):
        if layout == "flat":
            sentinel2_bands(tmp_path / "s", f"{tile}_20220616T001111", red, nir, west=west)
            continue
        safe = "S2A_USER_PRD_MSIL2A_PDMC_20220620T000000_R073_V20220616T001111_20220616T001111.SAFE"
        granule = tmp_path / "s" / safe / "GRANULE" / f"S2A_USER_MSI_L2A_TL_{tile}_N02.04"
        stem = f"S2A_USER_MSI_L2A_TL_SGS__20220620T001111_A005_{tile}"
        sentinel2_bands(granule / "IMG_DATA" / "R10m", stem, red, nir, west=west)
    assert found_ndvi(tmp_path, tmp_path / "s") == {"ndvi_2022-06-16_sentinel2.tif": [0.2, 0.6]}


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_an_image_that_cannot_be_read_costs_itself(tmp_path, damage):
    """A tile of a day, and a day of its own; the others are made."""
    sentinel2_bands(tmp_path / "s", "T55HDV_20220616T001111", 800, 3200)
    sentinel2_bands(tmp_path / "s", "T55HEV_20220616T001111", 1600, 2400, west=400200.0)
    sentinel2_bands(tmp_path / "s", "T55HDV_20220626T001111", 800, 3200)
    for file in (tmp_path / "s").glob("*_B08_*"):
        if "T55HDV" in file.name:
            whole = file.read_bytes()
            content = {"cut": whole[:-200], "empty": b"", "text": b"<html>busy</html>"}[damage]
            file.write_bytes(content)
    told = []
    images = find_products([tmp_path / "s"], 0.0).images
    made = prepare_ndvi(images, tmp_path / "out", Wanted(), tell=told.append)
    assert [day.day for day in made] == ["2022-06-16"]
    assert len(told) == 2 and all(re.search("_B08_10m.tif: .*cannot be", one) for one in told)
    assert found_ndvi(tmp_path, tmp_path / "s") == {"ndvi_2022-06-16_sentinel2.tif": [0.2]}
    sentinel2_bands(tmp_path / "s", "T55HDV_20220616T001111", 800, 3200)  # downloaded again
    assert found_ndvi(tmp_path, tmp_path / "s") == {"ndvi_2022-06-16_sentinel2.tif": [0.2, 0.6]}


def test_the_baseline_of_a_granule_gives_the_offset(tmp_path):
    safe = "S2A_USER_PRD_MSIL2A_PDMC_20220620T000000_R073_V20220616T001111_20220616T001111.SAFE"
    granule = tmp_path / "s" / safe / "GRANULE" / "S2A_OPER_MSI_L2A_TL_A005_T55HDV_N04.00"
    sentinel2_bands(granule / "IMG_DATA", "T55HDV_20220616T001111", 3000, 4000)
    assert found_ndvi(tmp_path, tmp_path / "s", None) == {"ndvi_2022-06-16_sentinel2.tif": [0.2]}


def test_reflectance_as_fractions_is_refused_by_its_type(tmp_path):
    sentinel2_bands(tmp_path / "s2", "2022-06-01_Sentinel-2_L2A", 0.08, 0.32, dtype="float32")
    with pytest.raises(DataError, match=r"B04_10m\.tif: holds float32, perhaps reflectance"):
        found_ndvi(tmp_path, tmp_path / "s2")


def test_far_images_of_a_day_ask_for_a_place(tmp_path):
    sentinel2_bands(tmp_path / "s2", "T55HDV_20220616T001111", 800, 3200)
    sentinel2_bands(tmp_path / "s2", "T55HEV_20220616T001111", 800, 3200, west=900000.0)
    with pytest.raises(DataError, match="name the place with --fields or --bounds"):
        found_ndvi(tmp_path, tmp_path / "s2")


def test_the_masks_of_a_file_are_honoured(tmp_path):
    """A nodata value, a mask and the alpha band of the red band each leave their pixels out."""
    from rasterio.enums import ColorInterp

    sentinel2_bands(tmp_path / "s", "T55HDV_20220616T001111", 800, 3200)
    path = tmp_path / "s" / "T55HDV_20220616T001111_B04_10m.tif"
    values = np.full((20, 20), 800, np.uint16)
    values[0] = 9999
    profile = {
        "driver": "GTiff", "width": 20, "height": 20, "dtype": "uint16", "crs": "EPSG:32755",
        "transform": rasterio.Affine(10, 0, 4e5, 0, -10, 6150000),
    }  # fmt: skip
    for kind in ("nodata", "mask", "alpha"):
        nodata = 9999 if kind == "nodata" else None
        bands = 2 if kind == "alpha" else 1
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", count=bands, nodata=nodata, **profile) as file,
        ):
            file.write(values, 1)
            if kind == "mask":
                file.write_mask(values != 9999)
            if kind == "alpha":
                file.write(np.where(values == 9999, 0, 255).astype(np.uint16), 2)
                file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        for grid in (None, Grid(file.crs.to_wkt(), (20.0, 0, 4e5, 0, -20.0, 6150000.0), 10, 10)):
            images = find_products([tmp_path / "s"], 0.0).images
            (day,) = prepare_ndvi(images, tmp_path / f"{kind}{grid is None}", Wanted(grid))
            assert_allclose(read(day.files[0])[1:], 0.6, rtol=1e-6)
            top = read(day.files[0])[0]
            assert np.isnan(top).all() if grid is None else np.allclose(top, 0.6)


def test_a_place_a_full_turn_away_is_the_same(tmp_path):
    folder = tmp_path / "m"
    modis(folder)
    for path in folder.iterdir():
        with rasterio.open(path, "r+") as file:
            file.crs, file.transform = "EPSG:4326", rasterio.Affine(0.01, 0, 354, 0, -0.01, 42)
    lon_lat = rasterio.crs.CRS.from_epsg(4326).to_wkt()
    grid = Grid(lon_lat, (0.01, 0, -6.0, 0, -0.01, 42.0), 4, 3)
    (day,) = prepare_ndvi(find_products([folder]).images, tmp_path / "out", Wanted(grid))
    assert day.clear == pytest.approx(10 / 12)
    elsewhere = Grid(lon_lat, (0.01, 0, 6.0, 0, -0.01, 42.0), 4, 3)
    with pytest.raises(DataError, match="does not cover the place"):
        prepare_ndvi(find_products([folder]).images, tmp_path / "o2", Wanted(elsewhere))


def versions(folder: Path, kind: str) -> tuple[str, str]:
    """An older version with NDVI 0.2 and a newer one with 0.6, and a name of each."""
    if kind == "sentinel2":
        older = sentinel2(folder, 301, 2000, 3000)
        newer = sentinel2(folder, 510, 1800, 4200)
    elif kind == "sentinel2 in one folder":
        name = "S2A_MSIL2A_20220616T001111_{}_R073_T55HDV_20220620T000000"
        sentinel2_bands(folder, name.format("N0301"), 2000, 3000)
        sentinel2_bands(folder, name.format("N0510"), 1800, 4200)
        return "N0301", "N0510"
    elif kind == "landsat":
        older, newer = landsat(folder), landsat(folder)
        newer = folder / older.name.replace("20200824", "20230824")
        older.rename(newer)
        for path in newer.iterdir():
            path.rename(newer / path.name.replace("20200824", "20230824"))
        older = landsat(folder, nir={(0, column): 14545 for column in range(10)})
    else:
        modis(folder)
        for path in folder.iterdir():
            if "Reflectance_Band2" in path.name:
                write(
                    folder / path.name.replace(".061", ".006"), np.full((3, 4), 1500), 500, "int16"
                )
            else:
                (folder / path.name.replace(".061", ".006")).write_bytes(path.read_bytes())
        return "006", "061"
    return older.name, newer.name


@pytest.mark.parametrize("kind", ["sentinel2", "sentinel2 in one folder", "landsat", "modis"])
def test_the_newest_version_counts_and_the_other_is_named(tmp_path, kind):
    older, newer = versions(tmp_path / "s", kind)
    told = []
    images = find_products([tmp_path / "s"]).images
    assert len(images) == 2
    for _ in range(2):  # files that are kept say it too
        told.clear()
        (day,) = prepare_ndvi(images, tmp_path / "out", Wanted(), tell=told.append)
        assert len(told) == 1 and f"is an older version of {day.names[0]}, which is used" in told[0]
        assert older in told[0].partition(":")[0] and newer in day.names[0]
    assert day.kept
    values = read(day.files[0])
    expected = 0.5 if kind == "modis" else 0.6
    assert_allclose(values[np.isfinite(values)], expected, atol=1e-4)


def test_an_older_version_is_used_where_the_newest_cannot_be_read(tmp_path):
    sentinel2(tmp_path / "s", 301, 2000, 3000)
    newer = sentinel2(tmp_path / "s", 510, 1800, 4200)
    next(newer.rglob("*_B08_10m.tif")).write_bytes(b"")
    told = []
    (day,) = prepare_ndvi(
        find_products([tmp_path / "s"]).images, tmp_path / "out", Wanted(), tell=told.append
    )
    assert "N0301" in day.names[0] and len(told) == 1 and "N0510" in told[0]


@pytest.mark.parametrize("kind", ["modis", "nbar"])
def test_bands_of_two_versions_are_not_mixed(tmp_path, kind):
    folder = tmp_path / "s"
    if kind == "modis":
        modis(folder)
        for path in folder.glob("*Reflectance_Band1*"):
            path.rename(folder / path.name.replace(".061", ".006"))
    else:
        for status, band in (("final", "04"), ("interim", "05"), ("final", "fmask")):
            name = (
                f"ga_ls8c_{'oa' if band == 'fmask' else 'nbart'}_3-2-1_092084_2024-03-01_{status}"
            )
            number = "fmask" if band == "fmask" else f"band{band}"
            write(folder / f"{name}_{number}.tif", np.full((4, 4), 1), 30, "int16")
    with pytest.raises(DataError, match="holds no complete image"):
        find_products([folder])


def test_an_image_without_a_pixel_in_the_result_is_named(tmp_path):
    sentinel2_bands(tmp_path / "s", "T55HDV_20220616T001111", 800, 3200)
    sentinel2_bands(tmp_path / "s", "T55HEV_20220616T001111", 1600, 2400)
    told = []
    (day,) = prepare_ndvi(
        find_products([tmp_path / "s"], 0.0).images, tmp_path / "out", Wanted(), tell=told.append
    )
    assert day.names == ("s 2022-06-16 T55HDV",)
    assert told == [
        "left out s 2022-06-16 T55HEV: has no pixel of its own: s 2022-06-16 T55HDV covers them"
    ]


def test_every_file_that_is_not_read_is_named(tmp_path):
    sentinel2_bands(tmp_path / "s", "T55HDV_20220616T001111_N0301", 800, 3200)
    sentinel2_bands(tmp_path / "s" / "x", "T55HDV_20220626T001111", 800, 3200)  # no baseline
    write(
        tmp_path / "s" / "hls" / "HLS.L30.T55HDV.2022167T001111.v2.0.B04.tif", np.ones((2, 2)), 30
    )
    (tmp_path / "s" / "S2A.zip").touch()
    (tmp_path / "s" / "MCD43A4.hdf").touch()
    search = find_products([tmp_path / "s"])
    assert [image.day for image in search.images] == ["2022-06-16"]
    reasons = {name.partition(" ")[0]: why for name, why in search.left_out.items()}
    assert "unpack it" in reasons["S2A.zip"] and "rasterio's wheels" in reasons["MCD43A4.hdf"]
    assert "no known product" in reasons["hls/HLS.L30.T55HDV.2022167T001111.v2.0.B04.tif"]
    assert "pass --boa-offset" in reasons["x"] and len(reasons) == 4


@pytest.mark.parametrize("kind", ["landsat", "sentinel2", "folder of a SAFE"])
def test_products_of_level_1_are_named_as_such(tmp_path, kind):
    folder = tmp_path / "s"
    sentinel2_bands(folder, "T55HDV_20220616T001111", 800, 3200)
    place = folder
    if kind == "landsat":
        for band in ("B4", "B5", "QA_PIXEL"):
            name = f"LC08_L1TP_092084_20200110_20200824_02_T1_{band}.TIF"
            write(folder / name, np.ones((4, 4)), 30)
    else:
        place = folder / "S2A_MSIL1C_20220626T001111_N0400_R073_T55HDV_20220626T020000.SAFE"
        sentinel2_bands(place / "GRANULE" / "IMG_DATA", "T55HDV_20220626T001111", 800, 3200)
    cause = "Landsat Level 1" if kind == "landsat" else "Level 1C"
    if kind == "folder of a SAFE":
        with pytest.raises(DataError, match=cause):
            find_products([place], 0.0)
        return
    search = find_products([folder], 0.0)
    assert [image.day for image in search.images] == ["2022-06-16"]
    (why,) = search.left_out.values()
    assert cause in why


def test_bands_in_two_crs_are_not_one_image(tmp_path):
    sentinel2_bands(tmp_path / "s", "T55HDV_20220616T001111", 800, 3200)
    with rasterio.open(tmp_path / "s" / "T55HDV_20220616T001111_B08_10m.tif", "r+") as file:
        file.crs = "EPSG:32756"
    with pytest.raises(DataError, match=r"B08_10m\.tif: has another CRS than the red band"):
        found_ndvi(tmp_path, tmp_path / "s")
