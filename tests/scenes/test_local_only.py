"""Nothing a manifest or a file of outlines contains is fetched or read behind the user's back."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("pyogrio")

from kgsm_infer.base.errors import DataError, UsageError  # noqa: E402
from kgsm_infer.scenes.manifest import read_scene  # noqa: E402
from kgsm_infer.scenes.opening import open_stack  # noqa: E402
from kgsm_infer.scenes.outlines import read_outlines  # noqa: E402


@pytest.fixture
def listener():
    """A server that counts requests; every test here ends with none."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    assert asked == []


def vrt_of(name: str, relative: int = 0) -> str:
    return (
        '<VRTDataset rasterXSize="5" rasterYSize="4"><SRS>EPSG:32631</SRS>'
        "<GeoTransform>600000, 20, 0, 5650000, 0, -20</GeoTransform>"
        '<VRTRasterBand dataType="Float32" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def write_vh(path: Path) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=4, width=5, dtype="float32", crs="EPSG:32631",
        transform=rasterio.Affine(20, 0, 600000, 0, -20, 5650000),
    ) as dataset:  # fmt: skip
        dataset.write(np.full((1, 4, 5), -16, np.float32))
    return path


def scene_of(folder: Path, name: str) -> Path:
    (folder / "s.toml").write_text(f'[layers.vh_db]\nfiles = {{2022-05-04 = "{name}"}}\n')
    return folder / "s.toml"


WMS = '<GDAL_WMS><Service name="TMS"><ServerUrl>{url}/x</ServerUrl></Service></GDAL_WMS>'


@pytest.mark.parametrize("name", ["vh.tif", "vh.img", "vh.jp2"])
@pytest.mark.parametrize("kind", ["vrt", "wms"])
def test_a_raster_that_holds_another_kind_is_not_opened(tmp_path, listener, name, kind) -> None:
    write_vh(tmp_path / "real.tif")
    other = vrt_of(f"/vsicurl/{listener}/nd.tif") if kind == "vrt" else WMS.format(url=listener)
    (tmp_path / name).write_text(other)
    with pytest.raises(DataError, match="cannot be opened as a raster"):
        open_stack(read_scene(scene_of(tmp_path, name)), "vh", [])


@pytest.mark.parametrize("inner", ["/vsicurl/{url}/nd.tif", "{url}/nd.tif", "<VRTDataset/>"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_vrt_with_an_address_needs_the_network_allowed(tmp_path, listener, inner, depth) -> None:
    name = inner.format(url=listener).replace("<", "&lt;")
    (tmp_path / "deep.vrt").write_text(vrt_of(name))
    (tmp_path / "vh.vrt").write_text(vrt_of(name if depth == 1 else "deep.vrt", depth - 1))
    with pytest.raises(UsageError, match="not a local file"):
        read_scene(scene_of(tmp_path, "vh.vrt"))


def test_a_vrt_of_local_files_is_read(tmp_path: Path) -> None:
    write_vh(tmp_path / "real.tif")
    (tmp_path / "vh.vrt").write_text(vrt_of("real.tif", 1))
    assert len(open_stack(read_scene(scene_of(tmp_path, "vh.vrt")), "vh", []).dates) == 1


OGR_VRT = (
    "<?xml version='1.0'?><!-- kml --><OGRVRTDataSource><OGRVRTLayer name='x'>"
    "<SrcDataSource>{where}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
)


@pytest.mark.parametrize("name", ["f.kml", "f.gpkg", "f.fgb", "f.gml", "f.shp", "f.dat"])
def test_outlines_that_refer_to_others_are_refused(tmp_path, listener, name) -> None:
    for where in (f"{listener}/x.geojson", f"/vsicurl/{listener}/x.geojson", "/etc/hostname"):
        (tmp_path / name).write_text(OGR_VRT.format(where=where))
        with pytest.raises(DataError, match=r"holds OGRVRTDataSource|its content is no"):
            read_outlines(tmp_path / name)


def test_outlines_in_a_zip_that_refer_to_others_are_refused(tmp_path, listener) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.writestr("a/f.kml", OGR_VRT.format(where=f"{listener}/x.geojson"))
    with pytest.raises(DataError, match="holds OGRVRTDataSource"):
        read_outlines(tmp_path / "f.zip")


def test_readers_without_a_manifest_open_local_files_only(tmp_path, listener) -> None:
    """DEM, geoid, land cover, fusion and downloads of a catalogue."""
    from kgsm_infer.prepare.heights import Terrain, surface_of
    from kgsm_infer.prepare.landcover import land_cover
    from kgsm_infer.prepare.pairs import read_pairs
    from kgsm_infer.scenes.grid import Grid
    from kgsm_infer.scenes.rasters import open_raster

    content = vrt_of(f"/vsicurl/{listener}/nd.tif")
    far, local = tmp_path / "far.vrt", write_vh(tmp_path / "near.tif")
    far.write_text(content)
    grid = Grid("EPSG:32631", (20.0, 0.0, 600000.0, 0.0, -20.0, 5650000.0), 5, 4)
    manifest = tmp_path / "p.toml"
    manifest.write_text('quantity="ndvi"\n[fine]\nfiles={2022-05-04="far.vrt"}\n'
                        '[coarse]\nfiles={2022-05-04="near.tif"}\n')  # fmt: skip

    for read in (
        lambda: surface_of(Terrain((far,))),
        lambda: surface_of(Terrain((local,), "egm96", far)),
        lambda: land_cover(rasterio, far, grid),
        lambda: open_raster(str(far)),
        lambda: read_pairs(manifest),
    ):
        with pytest.raises((DataError, UsageError), match="not a local file"):
            read()


def test_a_manifest_of_fusion_names_no_address(tmp_path, listener) -> None:
    from kgsm_infer.prepare.pairs import read_pairs

    manifest = tmp_path / "p.toml"
    for name in (f"{listener}/nd.tif", f"/vsicurl/{listener}/nd.tif"):
        manifest.write_text(f'quantity="ndvi"\n[fine]\nfiles={{2022-05-04="{name}"}}\n'
                            f'[coarse]\nfiles={{2022-05-04="{name}"}}\n')  # fmt: skip
        with pytest.raises(UsageError, match="fetched from a network; download it"):
            read_pairs(manifest)


def documents(address: str) -> dict[str, str]:
    """Documents that GDAL would fetch addresses for, whatever the name of their file."""
    return {
        "vsicurl": vrt_of(f"/vsicurl/{address}/a.tif"),
        "address": vrt_of(f"{address}/b.tif"),
        "service": f'<GDAL_WMS><Service name="TMS"><ServerUrl>{address}/c</ServerUrl></Service>'
        "<DataWindow><SizeX>5</SizeX><SizeY>4</SizeY></DataWindow></GDAL_WMS>",
    }


def read_all(folder: Path, name: str) -> None:
    from kgsm_infer.scenes.grid import Window
    from kgsm_infer.scenes.reader import Reader

    manifest = folder / "s.toml"
    manifest.write_text(f'[layers.vh_db]\nfiles = {{2024-03-04 = "{name}"}}\n')
    stack = open_stack(read_scene(manifest), "vh", [], ())
    with Reader(stack) as reader:
        reader.column("vh_db", 0, Window(0, 0, 4, 5))


@pytest.mark.parametrize("kind", ["vsicurl", "address", "service"])
@pytest.mark.parametrize("end", [".msk", ".ovr", ".msk.msk"])
def test_a_document_beside_a_raster_is_not_opened(tmp_path, listener, kind, end):
    path = write_vh(tmp_path / "vh.tif")
    write_vh(tmp_path / "vh.tif.msk")
    Path(f"{path}{end}").write_text(documents(listener)[kind])
    with pytest.raises(
        DataError, match="is not a TIFF file, so it cannot be the mask or overviews of"
    ):
        read_all(tmp_path, "vh.tif")


@pytest.mark.parametrize("kind", ["vsicurl", "address", "service"])
def test_a_document_behind_a_virtual_raster_is_not_opened(tmp_path, listener, kind):
    (tmp_path / "inner.tif").write_text(documents(listener)[kind])
    (tmp_path / "top.vrt").write_text(vrt_of("inner.tif", 1))
    with pytest.raises(DataError, match=r"inner\.tif: cannot be opened as a raster"):
        read_all(tmp_path, "top.vrt")
    write_vh(tmp_path / "inner.tif")
    read_all(tmp_path, "top.vrt")
    (tmp_path / "top.vrt.msk").write_text(documents(listener)[kind])
    with pytest.raises(DataError, match=r"top\.vrt\.msk: is not a TIFF file"):
        read_all(tmp_path, "top.vrt")
