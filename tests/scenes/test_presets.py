"""Presets on made-up files of the products' names, bands, units and nodata values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_scenes import write_tif

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
