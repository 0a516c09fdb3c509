"""Presets on made-up files of the products' names, bands, units and nodata values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_scenes import write_tif

from kgsm_infer.base.errors import DataError
from kgsm_infer.scenes.manifest import scene_from

pytest.importorskip("rasterio", reason="maps need kgsm[raster]")

from kgsm_infer.scenes.grid import Window
from kgsm_infer.scenes.opening import open_stack
from kgsm_infer.scenes.reader import Reader

DB = np.linspace(-22, -12, 12).reshape(3, 4)
ANGLE = 39.0
SIGMA_TO_GAMMA_DB = -10 * np.log10(np.cos(np.deg2rad(ANGLE)))


def _vh(folder: Path, raw: dict[str, Any]) -> tuple[np.ndarray, Any]:
    """sigma0 in dB of the only acquisition, and its date."""
    stack = open_stack(scene_from(raw, "scene", folder), "vh", [])
    with Reader(stack) as reader:
        return reader.column("vh_db", 0, Window(0, 0, 3, 4)), stack.dates[0]


def _with_hole(values: np.ndarray, nodata: float) -> np.ndarray:
    out = values.copy()
    out[0, 0] = nodata
    return out


def _check(got: np.ndarray) -> None:
    expected = _with_hole(DB, np.nan)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_earth_engine_export(tmp_path: Path) -> None:
    bands = [_with_hole(DB + 6, 0), _with_hole(DB, 0), np.full((3, 4), ANGLE)]
    name = "S1A_IW_GRDH_1SDV_20240304T055001_20240304T055026_052841_0665AB_1234.tif"
    write_tif(tmp_path / name, bands, names=("VV", "VH", "angle"))
    got, date = _vh(tmp_path, {"preset": "earthengine-grd", "files": "*.tif"})
    _check(got)
    assert date == np.datetime64("2024-03-04T05:50:01")


def test_hyp3_rtc_power_with_its_angle_map_in_radians(tmp_path: Path) -> None:
    stem = tmp_path / "S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A"
    gamma = _with_hole(10 ** ((DB + SIGMA_TO_GAMMA_DB) / 10), 0)
    write_tif(stem / f"{stem.name}_VH.tif", gamma, nodata=0)
    write_tif(stem / f"{stem.name}_inc_map_ell.tif", np.full((3, 4), np.deg2rad(ANGLE)), nodata=0)
    got, date = _vh(tmp_path, {"preset": "hyp3-rtc", "files": "*/"})
    _check(got)
    assert date == np.datetime64("2018-01-28T16:12:01")


@pytest.mark.parametrize(
    ("preset", "name", "nodata", "date"),
    [
        (
            "opera-rtc-s1",
            "OPERA_L2_RTC-S1_T012-023790-IW1_20230609T123456Z_20230610T01Z_S1A_30_v1.0_VH.tif",
            np.nan,
            "2023-06-09T12:34:56",
        ),
        (
            "planetary-rtc",
            "S1A_IW_GRDH_1SDV_20220101T001122_20220101T001147_041269_04E7A1_rtc_iw-vh.rtc.tiff",
            -32768,
            "2022-01-01T00:11:22",
        ),
    ],
)
def test_gamma0_products_with_a_stated_angle(
    tmp_path: Path, preset: str, name: str, nodata: float, date: str
) -> None:
    gamma = _with_hole(10 ** ((DB + SIGMA_TO_GAMMA_DB) / 10), nodata)
    write_tif(tmp_path / name, gamma, nodata=nodata)
    raw: dict[str, Any] = {"preset": preset, "files": ""}
    got, when = _vh(tmp_path, {**raw, "layers": {"angle_deg": {"value": ANGLE}}})
    _check(got)
    assert when == np.datetime64(date)


def test_cdse_linear_sigma0(tmp_path: Path) -> None:
    linear = _with_hole(10 ** (DB / 10), 0)
    write_tif(tmp_path / "openEO_2024-03-04Z.tif", [linear * 4, linear], names=("VV", "VH"))
    got, date = _vh(tmp_path, {"preset": "cdse", "files": "*.tif"})
    _check(got)
    assert date == np.datetime64("2024-03-04")


@pytest.mark.parametrize("key", ["description", "DESCRIPTION", "band_name"])
def test_band_names_that_stand_in_the_metadata_alone(tmp_path: Path, key: str) -> None:
    import rasterio

    linear = _with_hole(10 ** (DB / 10), 0)
    path = write_tif(tmp_path / "openEO_2024-03-04Z.tif", [linear * 4, linear])
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(1, **{key: "VV"})
        dataset.update_tags(2, **{key: "VH"})
    got, _ = _vh(tmp_path, {"preset": "cdse", "files": "*.tif"})
    _check(got)


HYP3 = "S1A_IW_20180128T161201_DVP_RTC30_G_{}uned_FD6A_VH.tif"


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("gp", 10 ** ((DB + SIGMA_TO_GAMMA_DB) / 10)),
        ("gd", DB + SIGMA_TO_GAMMA_DB),
        ("ga", 10 ** ((DB + SIGMA_TO_GAMMA_DB) / 20)),
        ("sp", 10 ** (DB / 10)),
        ("sd", DB),
        ("sa", 10 ** (DB / 20)),
    ],
)
def test_hyp3_says_in_its_name_what_it_is(tmp_path: Path, kind: str, stored: np.ndarray) -> None:
    write_tif(tmp_path / HYP3.format(kind), _with_hole(stored, 0), nodata=0)
    raw = {"preset": "hyp3-rtc", "files": "", "layers": {"angle_deg": {"value": ANGLE}}}
    _check(_vh(tmp_path, raw)[0])


def test_a_manifest_that_contradicts_its_products_is_refused(tmp_path: Path) -> None:
    for kind in ("gp", "sd"):
        write_tif(tmp_path / kind / HYP3.format(kind), DB)
    for kind, layer, words in (
        (
            "gp",
            "vh_linear",
            "is gamma0 linear by its name, and not vh_linear; name",
        ),
        ("sd", "vh_linear", "is db by its name, and not vh_linear; name the layer vh_db"),
    ):
        with pytest.raises(DataError, match=words):
            scene_from({"layers": {layer: {"files": f"{kind}/*.tif"}}}, "s", tmp_path)
    (tmp_path / "sd" / HYP3.format("sd")).rename(tmp_path / "gp" / HYP3.format("sd"))
    with pytest.raises(DataError, match="mixes db and gamma0_linear by their names"):
        scene_from({"preset": "hyp3-rtc", "files": "gp/"}, "s", tmp_path)


@pytest.mark.parametrize("wrong", ["red", "nir", "both"])
def test_sentinel_2_as_stored_is_no_reflectance(tmp_path: Path, wrong: str) -> None:
    """Baseline 04.00: 1e4 x reflectance + 1000. Scaled rightly NDVI is (.39 - .09) / .48."""
    write_tif(tmp_path / "vh_20240304.tif", DB)
    for band, number in (("red", 1900), ("nir", 4900)):
        write_tif(tmp_path / f"{band}_20240304.tif", np.full((3, 4), number), dtype="uint16")
    scaling = {"scale": 1e-4, "offset": -0.1}
    layers: dict[str, Any] = {"vh_db": {"files": "vh_*.tif"}}
    for band in ("red", "nir"):
        plain = wrong in (band, "both")
        layers[band] = {"files": f"{band}_*.tif", **({} if plain else scaling)}
    with pytest.raises(DataError, match=r"is not a reflectance .* state the layer's scale"):
        open_stack(scene_from({"layers": layers}, "s", tmp_path), "vh", ["ndvi"])
    for band in ("red", "nir"):
        layers[band] |= scaling
    stack = open_stack(scene_from({"layers": layers}, "s", tmp_path), "vh", ["ndvi"])
    with Reader(stack) as reader:
        ndvi = reader.column("ndvi", 0, Window(0, 0, 3, 4))
    np.testing.assert_allclose(ndvi, 0.3 / 0.48, atol=1e-6)


@pytest.mark.parametrize(("layer", "fill"), [("vh_db", -9999), ("clay", -32768), ("clay", 1e20)])
def test_a_fill_value_nobody_named_is_refused(tmp_path: Path, layer: str, fill: float) -> None:
    write_tif(tmp_path / "vh_20240304.tif", DB)
    write_tif(tmp_path / "f_20240304.tif", _with_hole(DB, fill))
    layers = {"vh_db": {"files": "vh_*.tif"}, layer: {"files": "f_*.tif"}}
    with pytest.raises(DataError, match=f"holds {fill:.6g}, a common fill value".replace("+", ".")):
        open_stack(scene_from({"layers": layers}, "s", tmp_path), "vh", [layer])
    layers[layer]["nodata"] = fill  # type: ignore[assignment]
    open_stack(scene_from({"layers": layers}, "s", tmp_path), "vh", [layer])
