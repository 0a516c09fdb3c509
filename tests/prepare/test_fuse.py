"""prepare fuse: daily images from pairs, whole, resumed, and what each method is worth."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from typer.testing import CliRunner

from kgsm_infer import kernels
from kgsm_infer.app.cli import app
from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.kernels import fusion
from kgsm_infer.kernels.fusion import Fusion, FusionBlock, Pair
from kgsm_infer.prepare import fuse as fuse_module
from kgsm_infer.prepare.compare import by_method, leave_one_out
from kgsm_infer.prepare.fuse import Run, fuse_series, make_plan, present_shares
from kgsm_infer.prepare.methods import (
    DEFAULT_METHOD,
    METHODS,
    box_sum,
    detail,
    fuse_block,
    score,
)
from kgsm_infer.prepare.pairs import read_pairs
from kgsm_infer.scenes.manifest import read_scene

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

FINE = ("2016-02-05", "2016-02-21", "2016-03-08")
COARSE = (
    "2016-01-30",
    "2016-02-05",
    "2016-02-10",
    "2016-02-14",
    "2016-02-21",
    "2016-03-01",
    "2016-03-08",
)
SHAPE = (46, 70)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(100, 0, 400000, 0, -100, 6150000)
    height, width = image.shape
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "crs": "EPSG:32755"}
    with rasterio.open(
        path, "w", **profile, height=height, width=width, transform=transform, nodata=-9999
    ) as out:
        out.write(np.where(np.isnan(image), -9999, image).astype(np.float32), 1)


def ndvi_of(day: str) -> np.ndarray:
    """Fields that green up at their own speed, with texture."""
    rng = np.random.default_rng(1)
    field = rng.random((8, 10)).repeat(7, 0).repeat(7, 1)[: SHAPE[0], : SHAPE[1]]
    t = (np.datetime64(day) - np.datetime64("2016-01-30")).astype(int) / 40
    return 0.2 + 0.5 * field * t + 0.04 * rng.normal(size=SHAPE)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three fine and seven coarse images, a cloud in a fine one and one in a coarse one."""
    for day in FINE:
        image = ndvi_of(day)
        if day == FINE[1]:
            image[3:6, 5:9] = np.nan
        write(tmp_path / f"fine/{day}_ndvi.tif", image)
    for day in COARSE:
        image = ndvi_of(day) + 0.01
        blocks = image[:45].reshape(9, 5, 14, 5).mean(axis=(1, 3)).repeat(5, 0).repeat(5, 1)
        image = np.concatenate([blocks, blocks[-1:]])
        if day == "2016-02-14":
            image[30:35, 20:25] = np.nan
        write(tmp_path / f"coarse/{day}_ndvi.tif", image)
    path = tmp_path / "pairs.toml"
    path.write_text(
        'quantity = "ndvi"\nsimulated = true\n'
        '[fine]\nfiles = "fine/*_ndvi.tif"\n[coarse]\nfiles = "coarse/*_ndvi.tif"\n'
    )
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


def series(manifest: Path, folder: Path, **options: Any) -> list[fuse_module.FusedDay]:
    pairs, how = read_pairs(manifest), Run(**options)
    return fuse_series(pairs, folder, how, make_plan(pairs, how, present_shares(pairs)))


def test_every_day_between_is_made_and_its_gaps_are_counted(manifest, tmp_path):
    out = tmp_path / "daily"
    result = run("fuse", manifest, "-o", out, "--method", "unbiased", "--radius", 6, "--patch", 20)
    assert result.exit_code == 0, result.output
    assert "3 days fused by unbiased, 3 measured" in result.output
    assert "1 days before 2016-02-05" in result.output
    rows = list(csv.DictReader((out / "days.csv").open()))
    assert [row["day"] for row in rows] == list(COARSE[1:])
    by_day = {row["day"]: row for row in rows}
    assert by_day["2016-02-10"]["missing"] == "12"  # the cloud of the later fine image
    assert by_day["2016-02-14"]["missing"] == str(12 + 25)
    assert by_day["2016-02-21"]["source"] == "measured"
    assert by_day["2016-03-01"]["before"] == "2016-02-21"
    with rasterio.open(out / "ndvi_2016-02-14.tif") as dataset:
        tags, image = dataset.tags(), dataset.read(1)
        assert np.isnan(dataset.nodata)
    assert np.isnan(image).sum() == 37
    assert tags["SIMULATED"] and tags["METHOD"] == "unbiased"
    assert tags["PAIR"] == "2016-02-05 2016-02-21"
    assert "SIMULATED" in (out / "ndvi.toml").read_text()
    assert_array_equal(read(out / "ndvi_2016-02-05.tif"), np.float32(ndvi_of("2016-02-05")))


def test_blocks_and_days_together_give_the_kernels_numbers(manifest, tmp_path, monkeypatch):
    """Patches of 20 rows, written block by block, are the twin's values over the whole image."""
    series(manifest, tmp_path / "a", method="unbiased", radius=5, patch=20, threads=2)
    monkeypatch.setattr(fuse_module, "DAYS_TOGETHER", 1)
    series(manifest, tmp_path / "b", method="unbiased", radius=5, patch=20)
    fine = [read(tmp_path / f"fine/{FINE[i]}_ndvi.tif") for i in (0, 1)]
    coarse = [read(tmp_path / f"coarse/{day}_ndvi.tif") for day in (FINE[0], FINE[1])]
    pair = Pair(
        *(np.where(x == -9999, np.nan, x) for x in (fine[0], coarse[0], fine[1], coarse[1]))
    )
    today = read(tmp_path / "coarse/2016-02-10_ndvi.tif")[None]
    expected = []
    for start in range(0, SHAPE[0], 20):
        line = [
            fusion.patch_sigma(f, 20)[start // 20].repeat(20)[: SHAPE[1]]
            for f in (pair.fine1, pair.fine2)
        ]
        count = min(20, SHAPE[0] - start)
        rule = Fusion(5, 20, -1, 1)
        expected.append(
            fusion.fuse_rows(rule, FusionBlock(pair, today, line, range(start, start + count)))[0]
        )
    one = read(tmp_path / "a/ndvi_2016-02-10.tif")
    assert_allclose(one, np.concatenate(expected), atol=2e-6)
    assert_array_equal(one, read(tmp_path / "b/ndvi_2016-02-10.tif"))


def test_a_stopped_run_goes_on_and_a_changed_input_is_made_anew(manifest, tmp_path, monkeypatch):
    out = tmp_path / "daily"
    monkeypatch.setattr(fuse_module, "DAYS_TOGETHER", 1)
    pairs, how = read_pairs(manifest), Run(radius=4, patch=20)
    plan = make_plan(pairs, how, present_shares(pairs))

    def stop(done: int, _: int) -> None:
        if done > 4.5 * SHAPE[0] * SHAPE[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuse_series(pairs, out, how, plan, stop)
    left = sorted(path.name for path in out.iterdir())
    assert len(left) == 4 and all(name.endswith(".tif") for name in left)
    days = fuse_series(pairs, out, how, plan)
    assert sum(day.kept for day in days) == 4
    write(tmp_path / "coarse/2016-02-10_ndvi.tif", ndvi_of("2016-02-10"))
    days = series(manifest, out, radius=4, patch=20)
    assert [day.day for day in days if not day.kept] == ["2016-02-10"]
    days = series(manifest, out, radius=4, patch=20, method="estarfm")
    assert [day.source for day in days if not day.kept] == ["fused"] * 3
    series(manifest, out, radius=4, patch=20, method="linear")  # leaves a file for every day
    series(manifest, out, radius=4, patch=20, method="unbiased")
    layer = read_scene(out / "ndvi.toml").layers["ndvi"]
    assert [str(item.date)[:10] for item in layer.slices] == list(COARSE[1:])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_writes_a_series(manifest, tmp_path, method):
    days = series(manifest, tmp_path / "out", method=method, radius=4, patch=30)
    made = {day.day: day for day in days}
    assert made["2016-02-10"].present > 0.9 * SHAPE[0] * SHAPE[1]
    if method == "linear":  # needs no coarse image, so no day is left out
        assert len(days) == 33 and made["2016-02-14"].missing == 12
    image = read(tmp_path / "out/ndvi_2016-02-10.tif")
    error = image - ndvi_of("2016-02-10")
    assert np.sqrt(np.nanmean(error**2)) < 0.08


def test_the_simple_methods_by_hand():
    rng = np.random.default_rng(0)
    fine1, coarse1, fine2, coarse2, coarse0 = rng.random((5, 9, 11)).astype(np.float32)
    coarse0[2, 3] = np.nan
    pair, rule = Pair(fine1, coarse1, fine2, coarse2), Fusion(radius=2)
    block = FusionBlock(pair, coarse0[None], np.ones((2, 11)), range(1, 7))
    when = np.asarray([0.25])
    line = 0.75 * fine1 + 0.25 * fine2
    assert_allclose(fuse_block("linear", rule, block, when)[0], line[1:7], rtol=1e-6)
    anomaly = line + coarse0 - (0.75 * coarse1 + 0.25 * coarse2)
    assert_allclose(fuse_block("linear-anomaly", rule, block, when)[0], anomaly[1:7], rtol=1e-5)
    got = fuse_block("unbiased-window", rule, block, when)[0]
    at = np.s_[2:7, 4:9]  # the window of row 4, column 6
    held = np.isfinite(coarse0[at])
    sides = []
    for fine, coarse in ((fine1, coarse1), (fine2, coarse2)):
        change = (coarse0[at] - coarse[at])[held].mean(dtype=float)
        sides.append((1 / abs(change), fine[4, 6] + (coarse - fine)[at][held].mean() + change))
    expected = sum(e * value for e, value in sides) / sum(e for e, _ in sides)
    assert_allclose(got[3, 6], expected, rtol=1e-5)
    assert np.isnan(got[1, 3])
    # with sigma 0 no pixel is similar, and unbiased ESTARFM falls back on just that
    none = replace(block, sigma=np.zeros((2, 11)))
    assert_allclose(fuse_block("unbiased", rule, none, when)[0], got, rtol=1e-5)
    with pytest.raises(ValueError, match="not one of linear"):
        fuse_block("magic", rule, block, when)


def test_scores_by_hand():
    rng = np.random.default_rng(0)
    truth = rng.random((20, 30)).astype(np.float32)
    perfect = score(truth, truth)
    assert (perfect.rmse, perfect.bias, perfect.detail_kept) == (0, 0, 1)
    assert_allclose(score(truth / 2, truth).detail_kept, 0.5, rtol=1e-6)
    flat = np.full_like(truth, 0.5)
    assert score(flat, truth).detail_kept == pytest.approx(0, abs=1e-9)
    truth[0] = np.nan
    assert score(truth + 1, truth).pixels == 19 * 30
    assert_allclose(score(truth + 1, truth).bias, 1, rtol=1e-6)
    assert score(truth * np.nan, truth).pixels == 0
    assert_array_equal(box_sum(np.ones((4, 5)), 1)[0], [4, 6, 6, 6, 4])
    assert_allclose(detail(np.full((5, 5), 3.0), 1), 0, atol=1e-12)


def test_leaving_one_out_finds_the_better_method(manifest, tmp_path):
    """Fields that green up at constant speed: the line in time is right but for the texture."""
    out = tmp_path / "scores.csv"
    result = run("fuse-methods", manifest, "-o", out, "--radius", 5, "--patch", 20)
    assert result.exit_code == 0, result.output
    assert "SIMULATED images" in result.output
    rows = list(csv.DictReader(out.open()))
    assert [row["method"] for row in rows] == list(METHODS)
    assert {row["day"] for row in rows} == {FINE[1]}
    rmse = {row["method"]: float(row["rmse"]) for row in rows}
    assert rmse["linear"] == min(rmse.values())
    assert float(rows[0]["detail_kept"]) > 0.95


def test_two_fine_images_are_scored_one_sided(manifest):
    (manifest.parent / f"fine/{FINE[1]}_ndvi.tif").unlink()
    found = leave_one_out(read_pairs(manifest), Run(radius=4, patch=20), ("linear", "unbiased"))
    assert [(item.day, item.sides) for item in found[::2]] == [
        (FINE[2], "one-sided"),
        (FINE[0], "one-sided"),
    ]
    assert by_method(found)["linear"]["images"] == 2


def test_coarse_images_simulated_from_fine_ones_say_so(manifest, tmp_path):
    text = manifest.read_text().replace("simulated = true\n", "")
    text = re.sub(r"\[coarse\].*", "[coarse]\nblock_mean = 5\nnoise = 0.01\n", text, flags=re.S)
    manifest.write_text(text)
    pairs = read_pairs(manifest)
    assert pairs.simulated
    from kgsm_infer.prepare.pairs import Images

    with Images(pairs) as images:
        whole = images.coarse(0, slice(0, 46))
        assert_array_equal(images.coarse(0, slice(7, 23)), whole[7:23])  # in any block the same
        mean = ndvi_of(FINE[0])[:5, :5].mean()
        assert abs(whole[0, 0] - mean) < 0.05 and whole[0, 0] != np.float32(mean)
    result = run("fuse-methods", manifest, "--method", "linear", "--radius", 4)
    assert "SIMULATED coarse images: means of 5 x 5" in result.output


def test_images_that_say_simulated_count_for_more_than_the_manifest(manifest):
    manifest.write_text(manifest.read_text().replace("simulated = true\n", ""))
    assert not read_pairs(manifest).simulated
    with rasterio.open(manifest.parent / f"coarse/{COARSE[0]}_ndvi.tif", "r+") as dataset:
        dataset.update_tags(SIMULATED="made by a test")
    assert read_pairs(manifest).simulated


def test_a_clouded_fine_image_is_no_partner(manifest):
    image = np.full(SHAPE, np.nan)
    image[0, :9] = 0.3
    write(manifest.parent / f"fine/{FINE[1]}_ndvi.tif", image)
    pairs = read_pairs(manifest)
    plan = make_plan(pairs, Run(), present_shares(pairs))
    assert plan.measured == (0, 2) and "0.3% of its pixels" in plan.skipped[0]
    assert len(plan.intervals) == 1
    assert np.datetime64(FINE[1]) in plan.intervals[0].days  # fused from the others instead


def test_what_is_wrong_is_said_in_a_line(manifest, tmp_path):
    good = manifest.read_text()
    for bad, reason in (
        (good.replace('quantity = "ndvi"', ""), "quantity is missing"),
        (good.replace('"ndvi"\n', '"lai"\n'), "limits = "),
        (good + "[extra]\n", "extra is not a known key"),
        (good.replace("[coarse]", "[other]"), "other is not a known key"),
        (good.replace("coarse/*", "nothing/*"), "no file matches"),
        (
            good.replace('files = "coarse/*_ndvi.tif"', "block_mean = 1"),
            "coarse.block_mean is 1, expected a whole number of at least 2",
        ),
        ("quantity = [", "not a manifest of pairs"),
    ):
        manifest.write_text(bad)
        with pytest.raises(DataError, match=reason):
            read_pairs(manifest)
    manifest.write_text(good)
    pairs = read_pairs(manifest)
    with pytest.raises(UsageError, match="not one of linear"):
        Run("magic").rule(pairs)
    with pytest.raises(UsageError, match="1 to 1024"):
        Run(radius=0).rule(pairs)
    result = run("fuse", manifest, "-o", tmp_path / "x", "--from", "tomorrow")
    assert result.exception is not None and "--from" in str(result.exception)
    with pytest.raises(DataError, match="no such file"):
        read_pairs(tmp_path / "none.toml")
    (tmp_path / f"coarse/{FINE[0]}_ndvi.tif").unlink()
    (tmp_path / f"coarse/{FINE[1]}_ndvi.tif").unlink()
    pairs = read_pairs(manifest)
    with pytest.raises(DataError, match="two days with both images, there are 1"):
        make_plan(pairs, Run(), present_shares(pairs))


def test_dry_run_writes_nothing(manifest, tmp_path):
    result = run("fuse", manifest, "-o", tmp_path / "x", "--dry-run", "--to", "2016-02-28")
    assert f"2016-02-05 to 2016-02-21: 2 days by {DEFAULT_METHOD}" in result.output
    assert not (tmp_path / "x").exists()


@pytest.mark.realdata
def test_the_authors_day_by_one_command(shared_data, tmp_path):
    if kernels.engine_name() == "numpy":
        pytest.skip("the twin takes minutes; tests/kernels/test_fusion.py holds it to the file")
    folder = shared_data / "ubestarfm"
    manifest = tmp_path / "lst.toml"
    manifest.write_text(
        f'quantity = "lst_k"\n[fine]\nfiles = "{folder}/Landsat_LST*.tif"\n'
        f'[coarse]\nfiles = "{folder}/MOD11A1_LST*.tif"\n'
    )
    result = run("fuse", manifest, "-o", tmp_path / "out", "--method", "unbiased")
    assert result.exit_code == 0, result.output
    fused = read(tmp_path / "out/lst_k_2016-02-18.tif")
    authors = read(folder / "fused_result_rows_0_200.tif")
    apart = np.abs(fused[:200].view(np.int32).astype(int) - authors.view(np.int32))
    assert apart.max() <= 1


def _cube(folder, name, values, packed=False, turn=0.0):
    """Write six coarse dates as NetCDF or Zarr; returns the manifest of a fusion with them."""
    xarray = pytest.importorskip("xarray", reason="cubes need kgsm[raster]")
    coords = {
        "time": np.asarray(SERIES, "datetime64[ns]"),
        "y": 5649990 - 20.0 * np.arange(4),
        "x": 600010 + 20.0 * np.arange(5) + turn,
    }
    data = np.broadcast_to(values, (6, 4, 5)).astype(np.float32)
    crs = {"crs_wkt": rasterio.crs.CRS.from_epsg(32631).to_wkt(),
           "grid_mapping_name": "transverse_mercator"}  # fmt: skip
    dataset = xarray.Dataset(
        {"ndvi": (("time", "y", "x"), data, {"grid_mapping": "crs"}), "crs": ((), 0, crs)}, coords
    )
    pack = {"dtype": "int16", "scale_factor": 1e-4, "_FillValue": -3000}
    encoding = {"ndvi": pack if packed else {}}
    if name.endswith(".zarr"):
        dataset.to_zarr(folder / name, mode="w", encoding=encoding, zarr_format=2)
    else:
        dataset.to_netcdf(folder / name, encoding=encoding)
    for day in (SERIES[0], SERIES[-1]):
        place = {"crs": "EPSG:32631", "transform": rasterio.Affine(20, 0, 6e5, 0, -20, 5.65e6)}
        with rasterio.open(folder / f"fine_{day}.tif", "w", driver="GTiff", width=5, height=4,
                           count=1, dtype="float32", **place) as file:  # fmt: skip
            file.write(np.full((4, 5), 0.4, np.float32), 1)
    path = folder / "p.toml"
    path.write_text(
        'quantity = "ndvi"\n[fine]\nfiles = "fine_*.tif"\n'
        f'[coarse]\nfile = "{name}"\nvariable = "ndvi"\n'
    )
    return path


SERIES = ["2022-05-04", "2022-05-16", "2022-05-28", "2022-06-09", "2022-06-21", "2022-07-03"]


@pytest.mark.parametrize("name", ["coarse.nc", "coarse.zarr"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_series_in_one_cube_is_fused(tmp_path, name, packed):
    done = CliRunner().invoke(
        app, ["prepare", "fuse", str(_cube(tmp_path, name, 0.4, packed)), "-o", str(tmp_path / "o")]
    )
    assert done.exit_code == 0, done.output
    made = sorted((tmp_path / "o").glob("ndvi_*.tif"))
    assert [file.stem[5:] for file in made] == SERIES
    for file in made:
        np.testing.assert_allclose(read(file), 0.4, atol=1e-6)


def test_missing_pixels_of_a_packed_cube_are_missing(tmp_path):
    values = np.full((4, 5), 0.4)
    values[:, 4] = np.nan
    done = CliRunner().invoke(
        app,
        ["prepare", "fuse", str(_cube(tmp_path, "c.nc", values, True)), "-o", str(tmp_path / "o")],
    )
    assert done.exit_code == 0, done.output
    between = read(tmp_path / "o" / "ndvi_2022-05-16.tif")
    assert np.isfinite(between[:, :4]).all() and np.isnan(between[:, 4]).all()
