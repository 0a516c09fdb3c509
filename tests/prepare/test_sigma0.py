"""prepare sigma0 against a product whose σ⁰ is known, on real annotation and a real DEM."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_safe import simulated_safe
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from kgsm_infer.app.cli import app
from kgsm_infer.base.errors import DataError, MissingError, UsageError
from kgsm_infer.prepare import heights, sampling
from kgsm_infer.prepare.calibration import BORDER, border, read_calibration, read_noise
from kgsm_infer.prepare.geometry import earth_fixed, locate, orbit_of
from kgsm_infer.prepare.grids import grid_of
from kgsm_infer.prepare.heights import Terrain, ellipsoid_heights, lon_lat, surface_of
from kgsm_infer.prepare.safe import Product, read_product
from kgsm_infer.prepare.sampling import Options
from kgsm_infer.prepare.sigma0 import passes_of, prepare_pass
from kgsm_infer.scenes.grid import Grid, Window
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.opening import open_stack

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
sarsen = pytest.importorskip("sarsen", reason="sarsen is not installed")
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

BOX = (12.48, 41.985, 12.51, 42.005)  # within the DEM of Rome
UNDULATION_M = 48.6
FILLED = {"lines": (7900, 8400), "samples": (21900, 22450)}  # the box lies within


def truth(lines: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """-15 to -5 dB in waves of some 2 km, and a rectangle of nothing."""
    db = -10 - 5 * np.sin(pixels / 300) * np.cos(lines / 400)[:, None]
    hole = ((lines > 8100) & (lines < 8120))[:, None] & ((pixels > 22150) & (pixels < 22170))
    return np.where(hole, np.nan, 10 ** (db / 10))


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Path:
    return next((shared_data / "sentinel1_safe/tests/data").glob("*.SAFE"))


@pytest.fixture(scope="module")
def dem(real: Path) -> Path:
    return real.parent / "Rome-30m-DEM.tif"


@pytest.fixture(scope="module")
def made(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated_safe(real, tmp_path_factory.mktemp("safe"), truth, **FILLED)


@pytest.fixture(scope="module")
def geoid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("geoid") / "undulation.tif"
    transform = rasterio.Affine(0.5, 0, 12, 0, -0.5, 43)
    options = {"height": 4, "width": 4, "crs": "EPSG:4326", "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", dtype="float32", count=1, **options) as file:
        file.write(np.full((4, 4), UNDULATION_M, np.float32), 1)
    return path


@pytest.fixture(scope="module")
def terrain(dem: Path, geoid: Path) -> Terrain:
    return Terrain((dem,), None, geoid)


def positions(product: Product, terrain: Terrain, grid: Grid):
    heights = ellipsoid_heights(surface_of(terrain), grid)
    return locate(product, orbit_of(product), earth_fixed(*lon_lat(grid), heights))


def first_band(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        assert np.isnan(dataset.nodata)
        return dataset.read(1)


def by_layer(report) -> dict[str, Path]:
    return {re.split(r"_\d{3}[AD]_", file.stem)[1]: file for file in report.files}


def test_tie_points_lie_where_the_annotation_says(real):
    """Geocoding by the orbit against the processor's own grid: under a sample everywhere."""
    product = read_product(real)
    tie = product.tie_points
    points = earth_fixed(tie.lon_deg.values, tie.lat_deg.values, tie.height_m.values)
    at = locate(product, orbit_of(product), points)
    lines, pixels = np.meshgrid(tie.lon_deg.lines, tie.lon_deg.pixels, indexing="ij")
    assert_allclose(at.line, lines, atol=0.3)
    assert_allclose(at.pixel, pixels, atol=0.6)
    assert_allclose(tie.angle_deg.at(at.line, at.pixel), tie.angle_deg.values, atol=0.02)


def test_an_ascending_pass_in_the_south(real):
    """Mirrored at the equator the same points lie on the same lines and samples."""
    product = read_product(real)
    south = replace(product, state_positions_m=product.state_positions_m * [1, 1, -1], pass_="A")
    tie = product.tie_points
    points = earth_fixed(tie.lon_deg.values, -tie.lat_deg.values, tie.height_m.values)
    north = earth_fixed(tie.lon_deg.values, tie.lat_deg.values, tie.height_m.values)
    one, other = locate(south, orbit_of(south), points), locate(product, orbit_of(product), north)
    assert_allclose(one.line, other.line, atol=1e-3)
    assert_allclose(one.pixel, other.pixel, atol=1e-3)
    assert south.pass_id == "S1B_20211223T051122_022A"


@pytest.mark.parametrize("resolution", [10, 20, 30])
def test_known_sigma0_is_recovered(made, terrain, tmp_path, resolution):
    grid = grid_of(BOX, "EPSG:4326", resolution)
    (frames,) = passes_of([made]).passes
    report = prepare_pass(frames, terrain, grid, tmp_path)
    files = by_layer(report)
    at = positions(frames[0], terrain, grid)
    got = 10 * np.log10(first_band(files["vv_sigma0"]))
    wanted = -10 - 5 * np.sin(at.pixel / 300) * np.cos(at.line / 400)
    known = np.isfinite(got)
    assert known.mean() > 0.99
    error = got[known] - wanted[known]
    assert abs(np.median(error)) < 0.005
    if resolution > 10:  # the mean of several samples rounds less
        assert np.percentile(np.abs(error), 99) < 0.05
    assert np.percentile(np.abs(error), 50) < 0.05
    angle = first_band(files["angle"])
    grid_angle = frames[0].tie_points.angle_deg.at(at.line, at.pixel)
    assert np.abs(angle - grid_angle).max() < 0.02
    local = first_band(files["local_angle"])
    assert abs(np.nanmedian(local - angle)) < 1.0
    assert np.nanstd(local - angle) > 0.5  # hills


def test_every_sample_is_within_rounding(made, terrain, tmp_path):
    """At 10 m a pixel is a sample; its error is what half a DN does, not more."""
    grid = grid_of(BOX, "EPSG:4326", 10)
    (frames,) = passes_of([made]).passes
    product = frames[0]
    got = first_band(by_layer(prepare_pass(frames, terrain, grid, tmp_path))["vv_sigma0"])
    at = positions(product, terrain, grid)
    line, pixel = np.rint(at.line), np.rint(at.pixel)
    calibration = read_calibration(product.channels["vv"])
    for row in range(0, grid.height, 40):
        for col in range(0, grid.width, 40):
            where = np.array([line[row, col]]), np.array([pixel[row, col]])
            exact = truth(*where)[0, 0]
            scale, noise = calibration.sigma.on(*where)[0, 0], calibration.noise.on(*where)[0, 0]
            dn = np.sqrt(exact * scale**2 + noise)
            assert abs(got[row, col] - exact) <= (dn + 0.25) / scale**2 * 1.001


def test_nan_where_dn_is_0(made, terrain, tmp_path):
    grid = grid_of(BOX, "EPSG:4326", 10)
    (frames,) = passes_of([made]).passes
    report = prepare_pass(frames, terrain, grid, tmp_path)
    at = positions(frames[0], terrain, grid)
    line, pixel = np.rint(at.line), np.rint(at.pixel)
    hole = (line > 8100) & (line < 8120) & (pixel > 22150) & (pixel < 22170)
    assert hole.sum() > 100
    assert np.array_equal(np.isnan(first_band(by_layer(report)["vv_sigma0"])), hole)


def test_noise_left_in_is_too_bright(real, terrain, tmp_path):
    """At -20 dB noise adds 1.0 dB in the median of the image, up to 2.2 dB at a swath's edge."""
    dark = simulated_safe(  # waves, so that the rounding differs from sample to sample
        real, tmp_path, lambda lines, pixels: 0.01 * (1 + 0.3 * np.sin(pixels / 9)), **FILLED
    )
    grid = grid_of(BOX, "EPSG:4326", 20)
    (frames,) = passes_of([dark]).passes
    clean = prepare_pass(frames, terrain, grid, tmp_path / "clean")
    noisy = prepare_pass(frames, terrain, grid, tmp_path / "noisy", Options(denoise=False))
    clean_db, noisy_db = (
        10 * np.log10(first_band(by_layer(report)["vv_sigma0"])) for report in (clean, noisy)
    )
    assert abs(np.nanmedian(clean_db) + 20) < 0.05
    assert 0.3 < np.nanmedian(noisy_db) + 20 < 2.5
    with rasterio.open(by_layer(noisy)["vv_sigma0"]) as dataset:
        assert dataset.tags()["THERMAL_NOISE"] == "not removed"
    assert "thermal noise was left in, as asked" in noisy.notes


def test_the_first_azimuth_vector_everywhere_would_be_wrong(real):
    """What xarray-sentinel gives for a GRD: half a decibel of noise off in other swaths."""
    noise = read_calibration(read_product(real).channels["vv"]).noise
    lines, pixels = np.arange(0, 16705.0, 25), np.arange(0, 25900.0, 25)
    ours = noise.on(lines, pixels)
    first = np.interp(lines, noise.azimuth[0].lines, noise.azimuth[0].values)
    theirs = noise.range_.on(lines, pixels) * first[:, None]
    assert [block.swath for block in noise.azimuth] == ["IW1", "IW2", "IW3"]
    first_swath = pixels <= 8889
    assert_allclose(theirs[:, first_swath], ours[:, first_swath])
    assert 0.4 < np.abs(10 * np.log10(theirs / ours)).max() < 0.6


def test_calibration_against_xarray_sentinel(real):
    """The second source of A_σ: xarray-sentinel's reader and xarray's interpolation."""
    from xarray_sentinel import sentinel1

    channel = read_product(real).channels["vv"]
    theirs = sentinel1.open_calibration_dataset(str(channel.calibration))
    lines, pixels = np.arange(100, 16000, 777.0), np.arange(3, 26000, 501.0)
    for name, ours in (("sigmaNought", "sigma"), ("betaNought", "beta")):
        wanted = theirs[name].interp(line=lines, pixel=pixels).values
        got = getattr(read_calibration(channel), ours).on(lines, pixels)
        assert_allclose(got, wanted, rtol=1e-6)


def test_negative_power_stays_in_the_mean_and_has_no_decibel(real, terrain, tmp_path):
    """Samples at the noise level: half of them negative; their mean stays unbiased."""
    rng = np.random.default_rng(1)

    def speckled(lines, pixels):
        noise = calibration.noise.on(lines, pixels)
        power = (0.0005 * calibration.sigma.on(lines, pixels) ** 2 + noise) * rng.gamma(
            4.4, 1 / 4.4, (len(lines), len(pixels))
        )
        return (power - noise) / calibration.sigma.on(lines, pixels) ** 2

    calibration = read_calibration(read_product(real).channels["vv"])
    dark = simulated_safe(real, tmp_path, speckled, **FILLED)
    (frames,) = passes_of([dark]).passes
    fine = prepare_pass(frames, terrain, grid_of(BOX, "EPSG:4326", 10), tmp_path / "10")
    coarse = prepare_pass(frames, terrain, grid_of(BOX, "EPSG:4326", 100), tmp_path / "100")
    values = first_band(by_layer(fine)["vv_sigma0"])
    assert np.nanmin(values) > 0
    assert 0.2 < fine.below_noise["vv"] < 0.6
    assert abs(fine.share["vv"] - (1 - fine.below_noise["vv"])) < 0.01
    mean = np.nanmean(first_band(by_layer(coarse)["vv_sigma0"]))
    assert abs(10 * np.log10(mean / 0.0005)) < 0.5  # dropping the negatives adds 2 dB
    assert 10 * np.log10(np.nanmean(values) / 0.0005) > 1.5


def test_the_geoid_trap_is_refused(made, dem, geoid, tmp_path):
    grid = grid_of(BOX, "EPSG:4326", 30)
    (frames,) = passes_of([made]).passes
    with pytest.raises(MissingError, match=r"us_nga_egm96_15\.tif.*pyproj sync.*--geoid"):
        prepare_pass(frames, Terrain((dem,)), grid, tmp_path / "a")
    call = ["prepare", "sigma0", str(made), "--dem", str(dem), "-o", str(tmp_path / "a")]
    call += ["--bounds", ",".join(str(v) for v in BOX)]
    plan = CliRunner().invoke(app, [*call, "--dry-run"])
    assert plan.exit_code == 0 and "us_nga_egm96_15.tif" in plan.output and "frames" in plan.output
    with pytest.raises(UsageError, match="says its heights are EGM96 height, not ellipsoid"):
        prepare_pass(frames, Terrain((dem,), "ellipsoid"), grid, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with rasterio.open(dem) as dataset:
        profile, heights = dataset.profile, dataset.read(1)
    mute, above = tmp_path / "mute.tif", tmp_path / "ellipsoidal.tif"
    with rasterio.open(mute, "w", **{**profile, "crs": "EPSG:4326"}) as dataset:
        dataset.write(heights, 1)
    with pytest.raises(DataError, match="does not say what its heights are over"):
        prepare_pass(frames, Terrain((mute,)), grid, tmp_path / "a")
    profile.update(crs="EPSG:4326", dtype="float32")
    with rasterio.open(above, "w", **profile) as dataset:
        dataset.write(heights.astype(np.float32) + np.float32(UNDULATION_M), 1)
    product = frames[0]
    right = positions(product, Terrain((dem,), None, geoid), grid)
    same = positions(product, Terrain((above,), "ellipsoid"), grid)
    assert_allclose(same.pixel, right.pixel, atol=1e-3)
    taken = positions(product, Terrain((mute,), "ellipsoid"), grid)
    shift_m = np.abs(taken.pixel - right.pixel) * product.pixel_spacing_m
    assert 45 < shift_m.mean() < 60  # 48.6 m / tan 44°: what is refused above
    with pytest.raises(UsageError, match="need no --geoid"):
        surface_of(Terrain((above,), "ellipsoid", geoid))


def test_a_geoid_file_that_is_none(made, dem, tmp_path):
    path = tmp_path / "wrong.tif"
    options = {"crs": "EPSG:4326", "transform": rasterio.Affine(1, 0, 12, 0, -1, 43)}
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=1, height=2, width=2, **options
    ) as file:
        file.write(np.full((2, 2), 4860, np.float32), 1)
    with pytest.raises(DataError, match="not a geoid file in metres"):
        prepare_pass(
            passes_of([made]).passes[0],
            Terrain((dem,), None, path),
            grid_of(BOX, "EPSG:4326", 30),
            tmp_path / "out",
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_frames_of_a_pass_are_merged(made, real, terrain, tmp_path):
    """The second frame starts 3 s later; where the first has only DN 0 its numbers stand."""
    step = 1500
    one = simulated_safe(real, tmp_path / "a", lambda *_: 0.1, (7900, 8150), FILLED["samples"])
    two = simulated_safe(
        real, tmp_path / "b", lambda *_: 0.2, (8100 - step, 8400 - step), FILLED["samples"]
    )
    later = two.with_name(two.name.replace("051122", "051124"))
    two.rename(later)
    annotation = next(later.glob("annotation/*.xml"))
    product = read_product(real)
    start = product.first_line + np.timedelta64(round(step * product.line_interval_s * 1e9), "ns")
    text = annotation.read_text()
    old = re.search("<productFirstLineUtcTime>(.*)</productFirstLineUtcTime>", text)[1]
    annotation.write_text(
        text.replace(f"Utc>{old}", "").replace(
            f"<productFirstLineUtcTime>{old}", f"<productFirstLineUtcTime>{start}"[:-3]
        )
    )
    (frames,) = passes_of([later, one]).passes
    assert [frame.name for frame in frames] == [one.stem, later.stem]
    grid = grid_of(BOX, "EPSG:4326", 10)
    report = prepare_pass(frames, terrain, grid, tmp_path / "out")
    got = 10 * np.log10(first_band(by_layer(report)["vv_sigma0"]))
    line = positions(frames[0], terrain, grid).line
    first, second = line < 8149, line > 8151
    assert first.sum() > 1000 and second.sum() > 1000
    assert abs(np.median(got[first]) + 10) < 0.05
    assert abs(np.median(got[second]) - 10 * np.log10(0.2)) < 0.05
    assert np.isfinite(got).all()
    with pytest.raises(UsageError, match="given twice"):
        passes_of([one, made])


def test_only_the_lines_of_the_place_are_read(made, terrain, tmp_path, monkeypatch):
    read = []
    original = sampling._read
    monkeypatch.setattr(
        sampling, "_read", lambda *call: (read.append(call[2:]), original(*call))[1]
    )
    (frames,) = passes_of([made]).passes
    grid = grid_of(BOX, "EPSG:4326", 20)
    prepare_pass(frames, terrain, grid, tmp_path)
    top, bottom = min(lines.start for lines, _ in read), max(lines.stop for lines, _ in read)
    assert FILLED["lines"][0] < top < bottom < FILLED["lines"][1]
    pixels = sum(len(lines) * len(samples) for lines, samples in read)
    assert pixels < 3 * grid.width * grid.height * 4


def test_gamma0_of_flat_ground_is_sigma0_over_cosine(made, terrain, tmp_path):
    """On hills it is another thing; its median over all slopes stays near."""
    grid = grid_of(BOX, "EPSG:4326", 20)
    (frames,) = passes_of([made]).passes
    level = tmp_path / "level.tif"
    transform = rasterio.Affine(0.001, 0, 12.3, 0, -0.001, 42.2)
    options = {"height": 400, "width": 400, "crs": "EPSG:4979", "transform": transform}
    with rasterio.open(level, "w", driver="GTiff", dtype="float32", count=1, **options) as file:
        file.write(np.full((400, 400), 100, np.float32), 1)
    flat = Terrain((level,), "ellipsoid")
    gamma = prepare_pass(frames, flat, grid, tmp_path / "g", Options(gamma0=True))
    sigma = prepare_pass(frames, flat, grid, tmp_path / "s")
    angle = first_band(by_layer(sigma)["angle"])
    ratio = first_band(by_layer(gamma)["vv_gamma0"]) / first_band(by_layer(sigma)["vv_sigma0"])
    error_db = 10 * np.log10(ratio * np.cos(np.radians(angle)))
    assert abs(np.nanmedian(error_db)) < 0.3
    hills = prepare_pass(frames, terrain, grid, tmp_path / "h", Options(gamma0=True))
    assert np.isfinite(first_band(by_layer(hills)["vv_gamma0"])).mean() > 0.98


def test_both_polarisations_by_the_command(real, dem, geoid, tmp_path):
    """VV and VH, angle, manifest; everything says SIMULATED; a second run keeps the files."""
    dual = tmp_path / "dual" / real.name
    shutil.copytree(real, dual, copy_function=shutil.copyfile)
    for file in [dual, *dual.rglob("*")]:
        file.chmod(0o755 if file.is_dir() else 0o644)
    for file in list(dual.rglob("*-vv-*")):
        shutil.copyfile(file, file.with_name(file.name.replace("-vv-", "-vh-")))
    safe = simulated_safe(dual, tmp_path / "made", lambda *_: 0.05, **FILLED)
    box = ",".join(str(value) for value in BOX)
    call = ["prepare", "sigma0", str(safe), "--dem", str(dem), "--geoid", str(geoid)]
    call += ["--bounds", box, "--resolution", "30", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert "SIMULATED" in result.output
    again = CliRunner().invoke(app, call)
    assert "finished before, kept" in again.output
    scene = read_scene(tmp_path / "out" / "scene_022D.toml")
    assert scene.title.startswith("SIMULATED")
    stack = open_stack(scene, "vh", ["vv_db", "angle_deg"])
    assert str(stack.dates[0]) == "2021-12-23T05:11:22"
    assert {"vh_linear", "angle_deg"} <= set(stack.layers)
    for file in (tmp_path / "out").glob("*.tif"):
        with rasterio.open(file) as dataset:
            tags = dataset.tags()
            assert "SIMULATED" in tags["SIMULATED"]
            assert tags["LOOKS"].startswith("3 x 3")
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    dry = CliRunner().invoke(app, [*call[:-1], str(tmp_path / "dry"), "--dry-run"])
    assert dry.exit_code == 0
    assert not (tmp_path / "dry").exists()


NOISE = """<noise><adsHeader/>
<noiseRangeVectorList count="2">
  <noiseRangeVector><line>0</line><pixel count="2">0 100</pixel>
    <noiseRangeLut count="2">10 20</noiseRangeLut></noiseRangeVector>
  <noiseRangeVector><line>100</line><pixel count="1">0</pixel>
    <noiseRangeLut count="1">30</noiseRangeLut></noiseRangeVector>
</noiseRangeVectorList>
<noiseAzimuthVectorList count="2">
  <noiseAzimuthVector><swath>IW1</swath>
    <firstAzimuthLine>0</firstAzimuthLine><firstRangeSample>0</firstRangeSample>
    <lastAzimuthLine>100</lastAzimuthLine><lastRangeSample>49</lastRangeSample>
    <line count="1">50</line><noiseAzimuthLut count="1">2</noiseAzimuthLut>
  </noiseAzimuthVector>
  <noiseAzimuthVector><swath>IW2</swath>
    <firstAzimuthLine>0</firstAzimuthLine><firstRangeSample>50</firstRangeSample>
    <lastAzimuthLine>100</lastAzimuthLine><lastRangeSample>90</lastRangeSample>
    <line count="3">0 50 100</line><noiseAzimuthLut count="3">1 3 1</noiseAzimuthLut>
  </noiseAzimuthVector>
</noiseAzimuthVectorList></noise>"""


def test_noise_vectors_of_length_1_and_of_different_length(tmp_path):
    path = tmp_path / "noise.xml"
    path.write_text(NOISE)
    noise = read_noise(path)
    got = noise.on(np.array([0.0, 25.0, 100.0]), np.array([0.0, 49.0, 50.0, 91.0]))
    ranged = [[10, 14.9, 15, 19.1], [15, 18.675, 18.75, 21.825], [30, 30, 30, 30]]
    factor = [[2, 2, 1, 1], [2, 2, 2, 2], [2, 2, 1, 1]]  # sample 91: the nearest block's
    assert_allclose(got, np.multiply(ranged, factor))
    assert noise.uncovered(101, 92) >= 0


def test_the_last_azimuth_block_holds_to_the_end_of_the_image(tmp_path):
    path = tmp_path / "noise.xml"
    path.write_text(NOISE)
    noise = read_noise(path)
    last = max(block.bounds[1] for block in noise.azimuth)
    lines, pixels = np.array([last, last + 500.0]), np.array([0.0])
    ranged = noise.range_.on(lines, pixels)
    at_end, beyond = noise.on(lines, pixels) / ranged
    assert_allclose(beyond, at_end)
    assert noise.uncovered(last + 501, 1) == 500
    assert noise.uncovered(last + 1, 1) == 0


def test_noise_before_ipf_2_9_and_of_zeros(tmp_path):
    path = tmp_path / "noise.xml"
    old = NOISE.split("<noiseAzimuthVectorList")[0] + "</noise>"
    old = old.replace("noiseRangeVector", "noiseVector").replace("noiseRangeLut", "noiseLut")
    path.write_text(old)
    assert_allclose(read_noise(path).on(np.array([0.0]), np.array([50.0])), [[15]])
    assert read_noise(path).removed
    path.write_text(old.replace(">10 20<", ">0 0<").replace(">30<", ">0<"))
    assert not read_noise(path).removed
    path.write_text(old.replace('count="2">10 20', 'count="3">10 20'))
    with pytest.raises(DataError, match="says 3 numbers and holds 2"):
        read_noise(path)
    path.write_text("<noise/>")
    with pytest.raises(DataError, match="holds no noise vector"):
        read_noise(path)


def test_border_noise_is_cut_off_and_not_the_land_behind():
    signal = np.full((40, 60), 5.0)
    signal[:, :10] = np.where(np.arange(10) % 4 == 0, 1.0, -1.0)  # stray samples in the border
    signal[3, 30] = -1.0  # speckle in the land
    cut = border(signal, (False, False, True, False))
    assert cut[:, :8].all() and not cut[:, 10:].any()
    assert border(-signal[:, ::-1], (False, False, False, True)).shape == signal.shape
    assert border(np.full((3, 2 * BORDER), -1.0), (False, False, True, False)).sum() == 3 * BORDER


def broken(made: Path, tmp_path: Path, name: str) -> Path:
    copy = tmp_path / made.name
    shutil.copytree(made, copy)
    if name == "no annotation":
        next(copy.glob("annotation/*.xml")).unlink()
    if name == "no noise":
        next(copy.glob("annotation/calibration/noise*")).unlink()
    if name == "no manifest":
        (copy / "manifest.safe").unlink()
    if name in ("cut annotation", "cut calibration"):
        where = "annotation/*.xml" if "annotation" in name else "annotation/calibration/cal*"
        file = next(copy.glob(where))
        file.write_bytes(file.read_bytes()[:40_000])
    if name == "cut measurement":
        file = next(copy.glob("measurement/*"))
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    if name == "empty measurement":
        next(copy.glob("measurement/*")).write_bytes(b"")
    if name == "no measurement":
        next(copy.glob("measurement/*")).unlink()
    return copy


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no annotation", r"annotation/s1b.*xml: is missing"),
        ("no noise", r"noise-s1b.*xml: is missing"),
        ("no manifest", r"manifest\.safe: is missing"),
        ("no measurement", r"measurement/s1b.*tiff: is missing"),
        ("cut annotation", "not whole XML.*truncated"),
        ("cut calibration", "not whole XML.*truncated"),
        ("cut measurement", "truncated download"),
        ("empty measurement", "truncated download"),
    ],
)
def test_a_broken_product_is_one_line_and_leaves_nothing(made, dem, geoid, tmp_path, name, reason):
    copy = broken(made, tmp_path, name)
    call = ["prepare", "sigma0", str(copy), "--dem", str(dem), "--geoid", str(geoid)]
    call += ["--bounds", ",".join(str(v) for v in BOX), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, call)
    assert isinstance(result.exception, DataError)
    assert re.search(reason, str(result.exception)), result.exception
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_the_real_product_has_no_pixels(real, terrain, tmp_path):
    (frames,) = passes_of([real]).passes
    with pytest.raises(DataError, match="vv measurement is 0 wherever it was read"):
        prepare_pass(frames, terrain, grid_of(BOX, "EPSG:4326", 30), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [((2.0, 48.0, 2.05, 48.05), "has no height"), ((12.46, 41.96, 12.40, 41.99), "are not west")],
)
def test_a_place_that_is_not_there(made, terrain, tmp_path, bounds, reason):
    (frames,) = passes_of([made]).passes
    with pytest.raises((DataError, UsageError), match=reason):
        prepare_pass(frames, terrain, grid_of(bounds, "EPSG:4326", 30), tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_place_outside_the_image(made, tmp_path):
    level = tmp_path / "level.tif"
    options = {"crs": "EPSG:4979", "transform": rasterio.Affine(0.01, 0, 1, 0, -0.01, 49)}
    with rasterio.open(
        level, "w", driver="GTiff", dtype="float32", count=1, height=200, width=200, **options
    ) as file:
        file.write(np.zeros((200, 200), np.float32), 1)
    (frames,) = passes_of([made]).passes
    grid = grid_of((2.0, 48.0, 2.05, 48.05), "EPSG:4326", 30)
    with pytest.raises(DataError, match="does not see the grid asked for"):
        prepare_pass(frames, Terrain((level,)), grid, tmp_path / "out")


@pytest.mark.parametrize(
    ("crs", "reason"), [("EPSG:4326", "in metres"), ("EPSG:99999", "not a CRS"), ("x", "not a CRS")]
)
def test_a_wrong_crs_is_refused(crs, reason):
    with pytest.raises(UsageError, match=reason):
        grid_of(BOX, "EPSG:4326", 10, crs)


def test_blocks_do_not_change_a_number(made, terrain, tmp_path, monkeypatch):
    grid = grid_of(BOX, "EPSG:4326", 20)
    (frames,) = passes_of([made]).passes
    whole = by_layer(prepare_pass(frames, terrain, grid, tmp_path / "whole"))
    monkeypatch.setattr("kgsm_infer.prepare.sigma0.BLOCK", 90)
    parts = by_layer(prepare_pass(frames, terrain, grid, tmp_path / "parts"))
    for name, path in whole.items():
        off = 0.02 if name == "local_angle" else 0.0  # degrees; GDAL warps a DEM by blocks too
        one, other = first_band(parts[name]), first_band(path)
        assert_allclose(one, other, rtol=1e-5, atol=off, err_msg=name)


def test_a_product_without_vv_and_vh(made, terrain, tmp_path):
    copy = tmp_path / made.name
    shutil.copytree(made, copy)
    for file in list(copy.rglob("*-vv-*")):
        file.rename(file.with_name(file.name.replace("-vv-", "-hh-")))
    (frames,) = passes_of([copy]).passes
    with pytest.raises(DataError, match="holds hh, and vv or vh is needed"):
        prepare_pass(frames, terrain, grid_of(BOX, "EPSG:4326", 30), tmp_path / "out")


def test_a_full_disk_is_told_and_leaves_nothing(made, terrain, tmp_path):
    """A limit on the size of files stands for the disk."""
    call = ["prepare", "sigma0", str(made), "--dem", str(terrain.dems[0])]
    call += ["--geoid", str(terrain.geoid), "--bounds", ",".join(str(v) for v in BOX)]
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); "
        "from kgsm_infer.app.cli import main; main()"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", script, *call, "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "is the disk full?" in done.stderr
    assert list(out.iterdir()) == []


def shortened(made: Path, tmp_path: Path, kind: str) -> Path:
    """A copy whose annotation of a kind ends at line 8000, before the place does."""
    from xml.etree import ElementTree

    copy = tmp_path / made.name
    shutil.copytree(made, copy)
    pattern, outer, tag = {
        "calibration": ("annotation/calibration/cal*", "calibrationVectorList", "line"),
        "noise": ("annotation/calibration/noise*", "noiseRangeVectorList", "line"),
        "lines of the grid": (
            "annotation/*.xml", "geolocationGrid/geolocationGridPointList", "line",
        ),
        "samples of the grid": (
            "annotation/*.xml", "geolocationGrid/geolocationGridPointList", "pixel",
        ),
        "orbit": ("annotation/*.xml", "generalAnnotation/orbitList", "time"),
    }[kind]  # fmt: skip
    file = next(copy.glob(pattern))
    tree = ElementTree.parse(file)
    entries = tree.getroot().find(outer)
    for entry in list(entries):
        value = entry.find(tag).text.strip()
        late = value > "2021-12-23T05:11:31" if tag == "time" else float(value) > 8000
        if late:
            entries.remove(entry)
    tree.write(file)
    return copy


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("calibration", r"the vv calibration does not cover \d+ of 16705 lines"),
        ("noise", r"the vv noise does not cover \d+ of 16705 lines"),
        ("lines of the grid", r"the geolocation grid does not cover \d+ of 16705 lines"),
        ("samples of the grid", r"the geolocation grid does not cover \d+ of 26102 samples"),
    ],
)
def test_annotation_that_ends_early_is_held_and_counted(made, terrain, tmp_path, kind, note):
    (frames,) = passes_of([shortened(made, tmp_path, kind)]).passes
    grid = grid_of(BOX, "EPSG:4326", 60)
    for kept in (False, True):  # files that are kept say it too
        report = prepare_pass(frames, terrain, grid, tmp_path / "out")
        assert report.kept == kept
        assert any(re.search(note, text) for text in report.notes), report.notes
    assert np.isfinite(first_band(by_layer(report)["vv_sigma0"])).mean() > 0.99


def test_an_orbit_that_ends_before_the_image_is_refused(made, tmp_path):
    with pytest.raises(DataError, match=r"its state vectors are of .* a truncated annotation"):
        read_product(shortened(made, tmp_path, "orbit"))


def test_a_broken_product_costs_itself_and_the_newest_version_counts(made, dem, geoid, tmp_path):
    cut = broken(made, tmp_path / "cut", "no annotation")
    older = tmp_path / made.name.replace("_5371", "_0000")
    shutil.copytree(made, older)
    call = ["prepare", "sigma0", str(cut), str(older), str(made), "--dem", str(dem)]
    call += ["--geoid", str(geoid), "--bounds", ",".join(str(v) for v in BOX)]
    call += ["--resolution", "60", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert re.search(r"left out \S+cut\S+: .*is missing", result.output)
    assert f"left out {older}: is an older version of {made.stem}, which is used" in result.output
    with rasterio.open(next((tmp_path / "out").glob("*_vv_sigma0.tif"))) as file:
        assert file.tags()["PRODUCTS"] == made.stem


def test_a_frame_whose_calibration_cannot_be_read_costs_itself(made, real, terrain, tmp_path):
    bad = broken(made, tmp_path / "bad", "cut calibration")
    later = bad.with_name(bad.name.replace("051122", "051147"))
    bad.rename(later)
    annotation = next(later.glob("annotation/*.xml"))
    old = "<productFirstLineUtcTime>2021-12-23T05:11:22"
    annotation.write_text(annotation.read_text().replace(old, old[:-2] + "47"))
    (frames,) = passes_of([made, later]).passes
    assert len(frames) == 2
    report = prepare_pass(frames, terrain, grid_of(BOX, "EPSG:4326", 60), tmp_path / "out")
    assert any(re.match("left out .*not whole XML", text) for text in report.notes)
    with rasterio.open(by_layer(report)["vv_sigma0"]) as file:
        assert file.tags()["PRODUCTS"] == made.stem


@pytest.mark.parametrize("kind", ["nodata", "no tag", "mask", "scaled"])
def test_a_void_of_a_dem_has_no_height_however_it_is_marked(tmp_path, kind):
    """Bilinear heights beside a void are those of the land, and none is between."""
    heights = np.full((20, 20), 100.0)
    heights[8:12, 8:12] = -32768
    path, scale = tmp_path / "dem.tif", 0.5 if kind == "scaled" else 1.0
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", width=20, height=20, count=1, dtype="int16",
            crs="EPSG:32632", nodata=-32768 if kind in ("nodata", "scaled") else None,
            transform=rasterio.Affine(30, 0, 5e5, 0, -30, 5e6),
        ) as file,
    ):  # fmt: skip
        stored = np.where(heights < 0, heights, heights / scale).astype(np.int16)
        file.write(np.where(heights < 0, 50, stored) if kind == "mask" else stored, 1)
        file.scales = (scale,)
        if kind == "mask":
            file.write_mask(heights > 0)
    grid = Grid(file.crs.to_wkt(), (10.0, 0, 5e5, 0, -10.0, 5e6), 60, 60)
    found = ellipsoid_heights(surface_of(Terrain((path,), "ellipsoid")), grid)
    assert np.isnan(found[26:34, 26:34]).all()
    assert_allclose(found[np.isfinite(found)], 100.0)
    assert np.isfinite(found).sum() >= 60 * 60 - 14 * 14


def test_a_dem_is_read_by_parts_of_bounded_size(tmp_path, monkeypatch):
    """A DEM of 1 m below pixels of 10 m took 1.4 GB for one block."""
    path, metres = tmp_path / "dem.tif", np.random.default_rng(1).uniform(0, 900, (20, 20))
    with rasterio.open(
        path, "w", driver="GTiff", width=20, height=20, count=1, dtype="float64",
        crs="EPSG:32632", transform=rasterio.Affine(30, 0, 5e5, 0, -30, 5e6),
    ) as file:  # fmt: skip
        file.write(metres, 1)
    surface = surface_of(Terrain((path,), "ellipsoid"))
    grid = Grid(file.crs.to_wkt(), (10.0, 0, 5e5, 0, -10.0, 5e6), 60, 60)
    whole = ellipsoid_heights(surface, grid)
    pixels = []
    plain = heights.Raster.stored
    monkeypatch.setattr(
        heights.Raster,
        "stored",
        lambda raster, band, window, rule: (
            pixels.append(window.height * window.width) or plain(raster, band, window, rule)
        ),
    )
    monkeypatch.setattr(heights, "MOST_PIXELS", 200)
    assert_allclose(ellipsoid_heights(surface, grid), whole, rtol=0, atol=1e-6)
    assert len(pixels) == 4 and max(pixels) <= 200


@pytest.mark.parametrize(
    ("crs", "atol_m"), [("EPSG:32632", 1e-6), ("EPSG:4326", 1e-3)], ids=["metres", "degrees"]
)
@pytest.mark.parametrize("step_m", [1, 5])
def test_heights_of_a_fine_dem_are_the_same_in_every_block(tmp_path, step_m, crs, atol_m):
    """A change of the kernel from block to block was a step of up to 0.4 m between blocks."""
    x_step, y_step, west, north = step_m, step_m, 5e5, 5e6
    if crs == "EPSG:4326":
        (west,), (north,) = rasterio.warp.transform("EPSG:32632", crs, [5e5], [5e6])
        x_step, y_step = step_m / 111195 / np.cos(np.deg2rad(north)), step_m / 111195
    path, size = tmp_path / "dem.tif", round(1010 / step_m)
    y, x = np.mgrid[:size, :size] * step_m
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=1, dtype="float32",
        crs=crs, transform=rasterio.Affine(x_step, 0, west, 0, -y_step, north),
    ) as file:  # fmt: skip
        file.write((300 + 80 * np.sin(x / 60) * np.cos(y / 45)).astype(np.float32), 1)
    surface = surface_of(Terrain((path,), "ellipsoid"))
    grid = Grid(
        rasterio.crs.CRS.from_epsg(32632).to_wkt(), (10.0, 0, 5e5 + 3, 0, -10.0, 5e6 - 3), 100, 100
    )
    whole = ellipsoid_heights(surface, grid)
    for row in (0, 50):
        part = Window(row, row, 50, 50)
        assert_allclose(
            ellipsoid_heights(surface, grid.part(part)), whole[part.slices], rtol=0, atol=atol_m
        )
