"""The reason of an error is its cause: a full disk, little memory, or standard output."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from kgsm_infer.base import command, extras, files
from kgsm_infer.base.errors import DataError, MissingError, is_out_of_memory
from kgsm_infer.base.files import workshop
from kgsm_infer.model import engines

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def small_files():
    """No file may be larger than 4 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def reason_of_command(capsys, failing):
    """Run a command that fails, and return its exit code and its line."""
    with pytest.raises(SystemExit) as end:
        command.run(lambda **_: failing(), "kgsm-test")
    return end.value.code, capsys.readouterr().err.strip()


def raising(error):
    def fail():
        raise error

    return fail


def test_a_write_in_a_workshop_names_the_folder(tmp_path, small_files):
    def write():
        with workshop(tmp_path) as part:
            (part / "model.onnx").write_bytes(bytes(10_000))

    with pytest.raises(MissingError, match=rf"^{tmp_path}: not written \(File too large\)$"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_fit_on_a_full_disk_names_its_folder(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from made_models import card_of, network_of

    from kgsm_train.export.files import write_files

    network = network_of(None)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: raising(FULL)())
    with pytest.raises(MissingError, match=rf"^{tmp_path}: not written, the disk is full$"):
        write_files(network, card_of(network), tmp_path, "model")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_file_passes_a_workshop(tmp_path):
    absent = FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "input.csv"))
    with pytest.raises(FileNotFoundError), workshop(tmp_path):
        raise absent


def test_a_draft_that_the_disk_has_no_room_for_is_not_begun(tmp_path, monkeypatch):
    pytest.importorskip("rasterio", reason="rasters need kgsm[raster]")
    from kgsm_infer.prepare.grids import Draft
    from kgsm_infer.scenes.grid import Grid

    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=100))
    grid = Grid("EPSG:32631", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 30, 30)
    with pytest.raises(MissingError, match=rf"^{tmp_path}: not written, the disk is full$"):
        Draft(tmp_path / ".kgsm-1.parts" / "vh.draft", grid)


def test_only_standard_output_is_blamed_for_itself(capsys, monkeypatch):
    code, line = reason_of_command(capsys, raising(FULL))
    assert (code, line) == (
        5, "kgsm-test: a file could not be read or written: No space left on device",
    )  # fmt: skip
    full = open("/dev/full", "w")  # noqa: SIM115  closed below
    full.write("x")
    monkeypatch.setattr(sys, "stdout", full)
    assert command._stdout_fails()
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space"):
        full.close()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np.exceptions.AxisError("Unable to allocate 3 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libgdal.so: failed to map segment from shared object"),
    ],
)
def test_little_memory_is_the_reason_of_a_command(capsys, error):
    assert is_out_of_memory(error)
    code, line = reason_of_command(capsys, raising(error))
    assert code == 5 and "not enough memory" in line and "fault of kgsm" not in line


def test_the_cause_of_an_error_counts():
    wrapped = RuntimeError("Read failed. See previous exception for details.")
    wrapped.__cause__ = RuntimeError("CPLE_OutOfMemory")
    assert is_out_of_memory(wrapped)
    assert not is_out_of_memory(RuntimeError("NetCDF: HDF error"))


def test_a_package_that_memory_does_not_reach_is_not_called_missing(monkeypatch):
    monkeypatch.setattr(
        extras,
        "import_module",
        lambda _: raising(ImportError("x.so: failed to map segment from shared object"))(),
    )
    with pytest.raises(MissingError, match="not enough memory to load netCDF4"):
        extras.optional("netCDF4", what="cubes")


def test_an_engine_without_memory_is_not_a_bad_model():
    class Session:
        def run(self, *_):
            raise RuntimeError("[ONNXRuntimeError] : Failed to allocate memory for buffer")

    with pytest.raises(MissingError, match="not enough memory for onnxruntime"):
        engines._run(Session(), [], {})


def test_a_chunk_that_memory_does_not_reach_is_not_a_truncated_file(tmp_path):
    """HDF5 reports a lack of memory as an error of the file."""
    netcdf = pytest.importorskip("netCDF4", reason="cubes need kgsm[raster]")
    path = tmp_path / "ndvi.nc"
    with netcdf.Dataset(path, "w") as file:
        for name, size in (("time", 2), ("y", 2000), ("x", 2000)):
            file.createDimension(name, size)
            axis = file.createVariable(name, "f8", (name,))
            axis[:] = np.arange(size)
        file["time"].units = "days since 2022-05-01"
        values = file.createVariable(
            "ndvi", "f4", ("time", "y", "x"), zlib=True, chunksizes=(2, 2000, 2000)
        )
        values[:] = 0.4
    script = (
        "import resource, sys\n"
        "from kgsm_infer.scenes.cubes import open_cube\n"
        "from kgsm_infer.scenes.grid import Window\n"
        "from kgsm_infer.scenes.validity import Validity\n"
        "cube = open_cube(sys.argv[1], sys.argv[1], 'ndvi', 'EPSG:32631')\n"
        "cube.stored(1, Window(0, 0, 1, 1), Validity()) if len(sys.argv) > 2 else None\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 40_000_000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    cube.stored(1, Window(0, 0, 1, 1), Validity())\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("MissingError") and "not enough memory to read" in done.stdout


def test_a_truncated_raster_is_still_one(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="rasters need kgsm[raster]")
    from kgsm_infer.scenes.grid import Window
    from kgsm_infer.scenes.rasters import open_raster
    from kgsm_infer.scenes.validity import Validity

    path = tmp_path / "vh.tif"
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "float32"}
    place = {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 56e5)}
    with rasterio.open(path, "w", **profile, **place) as file:
        file.write(np.ones((64, 64), np.float32), 1)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(DataError, match=r"cannot be read .*a truncated download") as error:
        open_raster(str(path)).stored(1, Window(0, 0, 64, 64), Validity())
    assert "previous exception" not in str(error.value)


def test_remarks_of_libraries_are_not_printed(capsys):
    def noisy():
        warnings.warn("Dataset has no geotransform", UserWarning, stacklevel=1)

    with pytest.raises(SystemExit) as end:
        command.run(lambda **_: noisy(), "kgsm-test")
    assert end.value.code == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [FULL, MemoryError()])
def test_a_reader_of_many_files_does_not_leave_all_out(tmp_path, monkeypatch, error):
    """ISMN: one file of a station cannot be staged."""
    pytest.importorskip("ismn", reason="archives need kgsm[ismn]")
    from kgsm_train.sources import ismn_archive

    station = tmp_path / "NETX" / "St1"
    station.mkdir(parents=True)
    name = "NETX_NETX_St1_sm_0.050000_0.050000_Probe-A_20150101_20151231.stm"
    (station / name).write_text("NETX NETX St1 50.0 10.0 100.0 0.05 0.05 Probe-A\n")
    monkeypatch.setattr(ismn_archive, "_interface", lambda: lambda *_, **__: raising(error)())
    with pytest.raises(MissingError, match=r"TMPDIR|not enough memory"), \
            ismn_archive.opened(tmp_path):  # fmt: skip
        pass


def test_too_many_open_files_is_no_fault_of_a_file(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio", reason="rasters need kgsm[raster]")
    from kgsm_infer.scenes import rasters

    few = rasterio.errors.RasterioIOError("vh.tif: Too many open files")
    monkeypatch.setattr(rasters, "open_dataset", lambda *_, **__: raising(few)())
    with pytest.raises(MissingError, match=r"vh\.tif: too many open files; raise the limit"):
        rasters.open_raster("vh.tif")


def test_a_failing_disk_names_the_table(tmp_path, monkeypatch):
    from kgsm_infer.tables import reading

    path = tmp_path / "t.csv"
    path.write_text("site,date\n")
    broken = OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(reading, "read_plain", lambda *_: raising(broken)())
    with pytest.raises(DataError, match=r"t\.csv: cannot be read \(Input/output error\)"):
        reading.read_sheet(path)
