"""A long stack: each file is opened once, each stored tile decoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counting import raster_opens
from made_scenes import write_tif

from kgsm_infer.maps import plan as map_plan
from kgsm_infer.maps.options import Execution, RetrievalOptions
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.model import Model
from kgsm_infer.scenes import rasters, tiles
from kgsm_infer.scenes.cubes import Cube
from kgsm_infer.scenes.grid import Window
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.tiles import TileStore, unit_of

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")

SIZE, TILE, DATES = 96, 32, 12


@pytest.fixture
def long_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of fewer pixels than a tile, and a cache of GDAL that holds none of them."""
    monkeypatch.setattr(map_plan, "BLOCK_SIDE", 16)
    monkeypatch.setattr(map_plan, "GDAL_CACHE_BYTES", 0)
    monkeypatch.setattr(tiles, "UNIT_SIDE", TILE)


def _days() -> list[str]:
    return [str(np.datetime64("2024-01-01") + 12 * at) for at in range(DATES)]


def _planes(seed: int = 0, side: int = SIZE) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (DATES, side, side)
    return {"vh_db": rng.normal(-16, 2, shape), "ndvi": rng.uniform(0.1, 0.8, shape)}


def _write(folder: Path, **profile: Any) -> Path:
    text = "[layers.angle_deg]\nvalue = 39.0\n[layers.clay]\nvalue = 0.2\n"
    options = {"blockxsize": TILE, "blockysize": TILE, "compress": "deflate", **profile}
    for name, planes in _planes().items():
        for day, plane in zip(_days(), planes, strict=True):
            write_tif(folder / name / f"{day}.tif", plane, **options)
        text += f'[layers.{name}]\nfiles = "{name}/*.tif"\n'
    (folder / "scene.toml").write_text(text)
    return folder / "scene.toml"


@contextmanager
def _decodes() -> Iterator[Counter[tuple[Any, ...]]]:
    """Count the stored tiles that windows read from GDAL touch, by file and band."""
    counter: Counter[tuple[Any, ...]] = Counter()
    plain = rasters.Raster._decode

    def counting(self: Any, band: int, window: Window, **options: Any) -> Any:
        rows, cols = self.tile
        for row in range(window.row // rows, -(-(window.row + window.height) // rows)):
            for col in range(window.col // cols, -(-(window.col + window.width) // cols)):
                counter[self.path, band, row, col] += 1
        return plain(self, band, window, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rasters.Raster, "_decode", counting)
        yield counter


@pytest.mark.parametrize("threads", [1, 2])
def test_all_dates_open_each_file_and_decode_each_tile_once(
    model: Model, tmp_path: Path, long_stack: None, threads: int
) -> None:
    """The check samples two files of a layer before; opens and decodes stay below 1.1 each."""
    scene = _write(tmp_path / "s")
    stored = 2 * DATES * (SIZE // TILE) ** 2
    with raster_opens() as opened, _decodes() as decoded:
        map_scene(
            model,
            read_scene(scene),
            tmp_path / "m.nc",
            RetrievalOptions(every=True),
            execution=Execution(threads=threads),
        )
    files = [path for path in opened if path.parent.parent.name == "s"]
    assert len(files) == 2 * DATES
    assert sum(opened[path] for path in files) <= 1.1 * len(files)
    samples = 2 * 2 * (SIZE // TILE) ** 2 * 3  # 3 windows over the whole of 2 files of 2 layers
    assert sum(decoded.values()) - samples <= 1.1 * stored
    assert not list(tmp_path.glob(".*"))


def test_a_map_is_the_same_with_and_without_kept_tiles(
    model: Model, tmp_path: Path, long_stack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the bytes: strips, tiles, bands by pixel, a mask, and grids shifted by pixels."""
    for number, profile in enumerate((
        {"tiled": False, "blockysize": 1},
        {"blockxsize": 64, "blockysize": 16},
        {"dtype": "float64", "compress": "lzw"},
    )):  # fmt: skip
        scene = _write(tmp_path / f"s{number}", **profile)
        made = []
        for keep in (True, False):
            if not keep:
                monkeypatch.setattr(TileStore, "keep", lambda *_: None)
            output = tmp_path / f"{number}{keep}.nc"
            map_scene(model, read_scene(scene), output, RetrievalOptions(every=True))
            made.append(output.read_bytes())
        monkeypatch.undo()
        monkeypatch.setattr(map_plan, "BLOCK_SIDE", 16)
        monkeypatch.setattr(map_plan, "GDAL_CACHE_BYTES", 0)
        assert made[0] == made[1]


def test_bands_stored_by_pixel_are_decoded_together(
    model: Model, tmp_path: Path, long_stack: None
) -> None:
    """One tile holds all dates, and is decoded once for all of them."""
    folder, dates = tmp_path / "s", str([str(day) for day in _days()]).replace("'", '"')
    text = "[layers.angle_deg]\nvalue = 39.0\n[layers.clay]\nvalue = 0.2\n"
    for name, planes in _planes().items():
        write_tif(folder / f"{name}.tif", planes, blockxsize=TILE, blockysize=TILE,
                  interleave="pixel", compress="deflate")  # fmt: skip
        text += f'[layers.{name}]\nfile = "{name}.tif"\ndates = {dates}\n'
    (folder / "scene.toml").write_text(text)
    with _decodes() as decoded:
        map_scene(
            model,
            read_scene(folder / "scene.toml"),
            tmp_path / "m.nc",
            RetrievalOptions(every=True),
        )
    samples = 2 * 2 * (SIZE // TILE) ** 2 * 3
    assert sum(decoded.values()) - samples <= 1.1 * 2 * (SIZE // TILE) ** 2


def test_chunks_of_several_dates_are_decoded_together(
    model: Model, tmp_path: Path, long_stack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NetCDF cube in chunks of 6 dates: each chunk is read once."""
    xarray = pytest.importorskip("xarray", reason="cubes need kgsm[cluster]")
    pytest.importorskip("netCDF4", reason="cubes need kgsm[cluster]")
    step = 10.0
    coords = {
        "time": np.asarray(_days(), "datetime64[ns]"),
        "y": ("y", 5.65e6 - step * (np.arange(SIZE) + 0.5), {"units": "m", "axis": "Y"}),
        "x": ("x", 6e5 + step * (np.arange(SIZE) + 0.5), {"units": "m", "axis": "X"}),
    }
    planes = {name: (("time", "y", "x"), plane) for name, plane in _planes().items()}
    chunks = {name: {"chunksizes": (6, TILE, TILE), "zlib": True} for name in planes}
    xarray.Dataset(planes, coords).to_netcdf(tmp_path / "c.nc", encoding=chunks)
    text = "[layers.angle_deg]\nvalue = 39.0\n[layers.clay]\nvalue = 0.2\n"
    for name in planes:
        text += f'[layers.{name}]\nfile = "c.nc"\nvariable = "{name}"\ncrs = "EPSG:32631"\n'
    (tmp_path / "scene.toml").write_text(text)
    reads: list[Window] = []
    plain = Cube._decode

    def counting(self: Any, band: int, window: Window, deep: int) -> Any:
        reads.append(window)
        return plain(self, band, window, deep)

    monkeypatch.setattr(Cube, "_decode", counting)
    maps = [tmp_path / "kept.nc", tmp_path / "plain.nc"]
    map_scene(model, read_scene(tmp_path / "scene.toml"), maps[0], RetrievalOptions(every=True))
    samples, chunks_stored = 2 * 2 * 3, 2 * (DATES // 6) * (SIZE // TILE) ** 2
    assert len(reads) - samples <= 1.1 * chunks_stored
    monkeypatch.setattr(TileStore, "keep", lambda *_: None)
    map_scene(model, read_scene(tmp_path / "scene.toml"), maps[1], RetrievalOptions(every=True))
    assert maps[0].read_bytes() == maps[1].read_bytes()


@pytest.mark.parametrize("most", [0, 40_000, 10_000_000])
def test_any_window_reads_the_same_however_little_is_kept(tmp_path: Path, most: int) -> None:
    """The ring overwrites its oldest tiles; a tile that does not fit is decoded each time."""
    rng = np.random.default_rng(most)
    bands = {(f"f{at}", 1): rng.random((70, 90)).astype("f4") for at in range(3)}
    store = TileStore()
    store.keep(tmp_path, 1)
    store._most = most
    for _ in range(300):
        key = list(bands)[rng.integers(3)]
        row, col = int(rng.integers(70)), int(rng.integers(90))
        window = Window(row, col, int(rng.integers(1, 71 - row)), int(rng.integers(1, 91 - col)))
        unit = unit_of((16, 32), 70, 90, depth=int(rng.choice([1, 200])))
        found = store.read(
            key, unit, (70, 90), window, lambda below, key=key: {key: bands[key][below.slices]}
        )
        np.testing.assert_array_equal(found, bands[key][window.slices])
    assert sum(slot.stop - slot.start for slot in store._slots.values()) <= most
    store.close()


def test_a_full_disk_ends_the_keeping_and_not_the_map(
    model: Model, tmp_path: Path, long_stack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = _write(tmp_path / "s")
    map_scene(model, read_scene(scene), tmp_path / "a.nc", RetrievalOptions(every=True))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiles, "write_at", full)
    map_scene(model, read_scene(scene), tmp_path / "b.nc", RetrievalOptions(every=True))
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()


def test_gdal_keeps_64_mb_of_decoded_blocks() -> None:
    """rasterio takes the number as bytes: a cache of 64 bytes decodes a tile for each window."""
    from rasterio.env import get_gdal_config

    from kgsm_infer.scenes.gdal import gdal

    with gdal():
        assert get_gdal_config("GDAL_CACHEMAX") == 64_000_000


def test_files_closed_between_tiles_give_the_same_map(
    model: Model, tmp_path: Path, long_stack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no room for open files, each is opened again for each of the nine tiles."""
    scene = _write(tmp_path / "s")
    map_scene(model, read_scene(scene), tmp_path / "a.nc", RetrievalOptions(every=True))
    monkeypatch.setattr(tiles, "OPEN_BYTES", 0)
    with raster_opens() as opened:
        map_scene(model, read_scene(scene), tmp_path / "b.nc", RetrievalOptions(every=True))
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()
    assert max(opened.values()) == (SIZE // TILE) ** 2
