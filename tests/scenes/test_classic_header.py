"""Headers of classic NetCDF files: intact ones of every version are read, damaged ones refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError
from kgsm_infer.scenes.classic_header import check_classic

netCDF4 = pytest.importorskip("netCDF4")

FORMATS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]


def written(path: Path, form: str, records: int | None = 3, streams: int = 2) -> bytes:
    """Write variables with and without records, attributes of several types and odd lengths."""
    with netCDF4.Dataset(path, "w", format=form) as file:
        if records is not None:
            file.createDimension("time", None)
        file.createDimension("x", 5)
        file.title = "seven b"
        for number in range(streams if records is not None else 0):
            one = file.createVariable(f"a{number}", "i1", ("time", "x"))
            one.units, one.flags = "1", np.asarray([1, 2, 3], np.int8)
            one[:] = np.ones((records, 5), np.int8)
        fixed = file.createVariable("fixed", "f8", ("x",))
        fixed.valid_range = np.asarray([0.0, 1.0])
        fixed[:] = np.arange(5)
        file.createVariable("scalar", "i2", ())[:] = 7
    return path.read_bytes()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("records", "streams"), [(3, 2), (3, 1), (0, 2), (None, 0)])
def test_an_intact_header_is_read_and_a_cut_file_refused(tmp_path, form, records, streams) -> None:
    content = written(tmp_path / "a.nc", form, records, streams)
    check_classic(tmp_path / "a.nc")
    for size in (5, 20, 60, len(content) // 2, len(content) - 8):
        (tmp_path / "cut.nc").write_bytes(content[:size])
        with pytest.raises(DataError, match="truncated download"):
            check_classic(tmp_path / "cut.nc")


@pytest.mark.parametrize("form", FORMATS)
def test_no_count_can_exceed_the_file(tmp_path, form) -> None:
    """Each four bytes of the header as a huge number: refused, or what is announced fits."""
    content = written(tmp_path / "a.nc", form)
    damaged, refused = tmp_path / "b.nc", 0
    for at in range(4, content.index(b"scalar"), 4):
        changed = content[:at] + b"\x20\x00\x00\x03" + content[at + 4 :]
        damaged.write_bytes(changed)
        try:
            check_classic(damaged)
        except DataError:
            refused += 1
            continue
        with netCDF4.Dataset(damaged) as file:  # attributes or names differ, sizes do not
            sizes = [math.prod(one.shape) for one in file.variables.values()]
            assert sum(sizes) <= len(content)
    assert refused > 20


@pytest.mark.parametrize("reader", ["cube", "raster", "tags"])
def test_every_reader_checks_the_header(tmp_path, reader) -> None:
    from kgsm_infer.scenes.cubes import cube_attribute, open_cube
    from kgsm_infer.scenes.rasters import open_raster

    content = written(tmp_path / "a.nc", FORMATS[0])
    path = tmp_path / ("b.tif" if reader == "raster" else "b.nc")
    path.write_bytes(content[:12] + b"\x20\x00\x00\x03" + content[16:])
    if reader == "tags":
        assert cube_attribute(str(path), "fixed", "SIMULATED") == ""
        return
    with pytest.raises(DataError, match=r"header is damaged at byte 16 \(536870915 entries"):
        open_raster(str(path)) if reader == "raster" else open_cube("b", str(path), "fixed", None)


def test_other_files_are_left_to_their_readers(tmp_path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    check_classic(tmp_path / "a.tif")
    check_classic(tmp_path / "absent.nc")
    check_classic(tmp_path)
    (tmp_path / "v9.nc").write_bytes(b"CDF\x09" + b"\0" * 40)
    with pytest.raises(DataError, match="unknown version 9"):
        check_classic(tmp_path / "v9.nc")
