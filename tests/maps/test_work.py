"""Accidents: killed, full disks, two runs at once; what is done is kept, nothing wrong is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_scenes import make_pixels, write_scene
from map_checks import assert_equal_to_predict, predicted

import kgsm_infer
from kgsm_infer.base.errors import MissingError, UsageError
from kgsm_infer.maps import run as map_run
from kgsm_infer.maps import work as map_work
from kgsm_infer.maps.blocks import Block
from kgsm_infer.maps.options import Execution, RetrievalOptions
from kgsm_infer.maps.plan import plan_map
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.model import Model
from kgsm_infer.scenes.manifest import read_scene

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")

REPOSITORY = Path(__file__).resolve().parents[2]

DRIVER = (
    "from kgsm_infer.maps import plan, work; plan.BLOCK_SIDE = 32; work.SYNC_EVERY_S = 0; "
    "from kgsm_infer.app.cli import main; main()"
)


def _command(tiny_model: Path, scene: Path, output: Path) -> list[str]:
    return [sys.executable, "-c", DRIVER, "map", str(tiny_model / "model.core.onnx"), str(scene),
            "-o", str(output)]  # fmt: skip


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    tiny_model: Path, tmp_path: Path
) -> None:
    """KGSM_KILLS sets how many kills; docs/maps.md was written after 50."""
    scene = write_scene(tmp_path / "scene", make_pixels(200, 200))
    reference = tmp_path / "reference.tif"
    subprocess.run(_command(tiny_model, scene, reference), check=True, env=_environment())
    output = tmp_path / "m.tif"
    command = _command(tiny_model, scene, output)
    rng = random.Random(1)
    done_before = 0
    kills = int(os.environ.get("KGSM_KILLS", "4"))
    for _ in range(kills):
        process = subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.1, 2.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if output.exists():  # it came through before the kill: whole, and again from nothing
            assert output.read_bytes() == reference.read_bytes()
            output.unlink()
            done_before = 0
            continue
        marks = output.parent / ".m.tif.work" / "done"
        done = np.count_nonzero(np.fromfile(marks, "<u8")) if marks.exists() else 0
        assert done >= done_before
        done_before = done
    subprocess.run(command, check=True, env=_environment())
    assert output.read_bytes() == reference.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tif", "reference.tif", "scene"]


#: Counts calls that change the disk, in the file named first; before number STEP the process is
#: killed as by kill -9.
DYING = """
import os, shutil, signal, sys
count, step, log = 0, int(sys.argv.pop(1)), sys.argv.pop(1)
def dying(real):
    def call(*arguments, **options):
        global count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        with open(log, "w") as file:
            file.write(str(count))
        return real(*arguments, **options)
    return call
for module, names in ((os, ("pwrite", "fsync", "replace", "posix_fallocate")),
                      (shutil, ("rmtree",))):
    for name in names:
        setattr(module, name, dying(getattr(module, name)))
"""


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr"])
def test_killed_at_chosen_steps_it_ends_with_the_same_numbers(
    tiny_model: Path, tmp_path: Path, suffix: str
) -> None:
    """The first and last steps, where files are made and renamed, and some between."""
    scene = write_scene(tmp_path / "scene", make_pixels(64, 64))
    reference, output = tmp_path / f"reference{suffix}", tmp_path / f"m{suffix}"
    log = tmp_path / "log"

    def run(step: int, path: Path) -> int:
        plain = _command(tiny_model, scene, path)
        command = [
            plain[0],
            "-c",
            DYING + DRIVER,
            str(step),
            str(log),
            *plain[3:],
            "--threads",
            "1",
        ]
        done = subprocess.run(command, env=_environment(), capture_output=True, check=False)
        return done.returncode

    def content(path: Path) -> dict[str, bytes]:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return {str(file.relative_to(path)): file.read_bytes() for file in files}

    assert run(0, reference) == 0
    steps = int(log.read_text())
    assert steps > 50
    for step in (2, steps // 3, steps - 2, steps - 1, steps):
        assert run(step, output) in (-signal.SIGKILL, 0)
        assert not output.exists() or content(output) == content(reference)
        if step % 2:  # another time what was done is lost, and it starts from nothing
            assert run(0, output) == 0
            assert content(output) == content(reference)
            assert not (tmp_path / f".m{suffix}.work").exists()
            shutil.rmtree(output) if output.is_dir() else output.unlink()
    assert run(0, output) == 0
    assert content(output) == content(reference)


@pytest.mark.usefixtures("small_blocks")
def test_only_what_is_left_is_computed_and_another_job_starts_afresh(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = map_work.retrieve_block, []

    def stopping(*args: object) -> Block:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(args[2])
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(map_work, "retrieve_block", stopping)
    with pytest.raises(KeyboardInterrupt):
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert not (tmp_path / "m.tif").exists()
    first = list(seen)
    told: list[tuple[int, int]] = []

    def counting(*args: object) -> Block:
        seen.append(args[2])
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(map_work, "retrieve_block", counting)
    shutil.copytree(tmp_path / ".m.tif.work", tmp_path / "kept")
    map_scene(
        model,
        read_scene(scene),
        tmp_path / "m.tif",
        execution=Execution(progress=lambda *now: told.append(now)),
    )
    assert len(seen) == 3 and len(set(seen)) == 3 and told[0] == (480, 600)
    assert told[-1] == (600, 600) and first == seen[:2]
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, make_pixels()))

    shutil.move(tmp_path / "kept", tmp_path / ".m.tif.work")
    seen.clear()
    map_scene(model, read_scene(scene), tmp_path / "m.tif", RetrievalOptions(date="2024-03-28"))
    assert len(seen) == 3
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, make_pixels(), -2))


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr"])
def test_a_write_that_fails_leaves_no_output_and_can_be_repeated(
    tiny_model: Path, tmp_path: Path, suffix: str
) -> None:
    """Files may not grow beyond a limit: the work files fit, the output does not."""
    scene = write_scene(tmp_path / "scene", make_pixels(128, 128))
    output = tmp_path / f"m{suffix}"
    command = _command(tiny_model, scene, output)
    limit = 4 * 128 * 128 + (100 if suffix != ".zarr" else 0)
    if suffix == ".zarr":  # its chunks are small: there the work files do not fit
        limit = 1000
    limited = [command[0], "-c", f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, "
               f"({limit}, {limit})); {DRIVER}", *command[3:]]  # fmt: skip
    # a coverage run writes a file of its own in every process, which would hit the limit too
    environment = {k: v for k, v in _environment().items() if not k.startswith("COV")}
    run = subprocess.run(limited, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 5, run.stderr
    assert "not written" in run.stderr.splitlines()[-1]  # libtiff says its own word before
    assert "Traceback" not in run.stderr
    assert not output.exists()
    subprocess.run(command, check=True, env=_environment())
    assert output.exists()


def test_a_full_disk_is_said_before_work_begins(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MissingError, match=r"m.tif: not written, the disk is too full"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


def test_two_runs_on_one_output_do_not_meet(model: Model, scene: Path, tmp_path: Path) -> None:
    plan = plan_map(model, read_scene(scene))
    output = tmp_path / "m.tif"
    with (
        map_work.compute_map(plan, output),
        pytest.raises(UsageError, match="another kgsm-infer is writing it"),
        map_work.compute_map(plan, output),
    ):
        pass


def _stopped_before_the_output(
    model: Model, scene: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of a run whose blocks are all done; the patch is taken back."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(map_run, "write_cog", stop)
        with pytest.raises(KeyboardInterrupt):
            map_scene(model, read_scene(scene), output)
    return output.parent / f".{output.name}.work"


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", ["sm", "flags", "done"])
def test_a_bit_that_flipped_is_noticed_and_its_block_computed_again(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = _stopped_before_the_output(model, scene, tmp_path / "m.tif", monkeypatch)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 16
    (folder / name).write_bytes(content)
    told: list[tuple[int, int]] = []
    map_scene(
        model,
        read_scene(scene),
        tmp_path / "m.tif",
        execution=Execution(progress=lambda *now: told.append(now)),
    )
    assert 0 < told[0][0] < 600  # one block of four is not taken as it lies there
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, make_pixels()))


def test_a_bit_that_flips_before_the_output_is_written_ends_the_run(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = map_work._Writer._mark

    def marking(self: map_work._Writer) -> None:
        real(self)
        path = tmp_path / ".m.tif.work" / "sm_upper"
        content = bytearray(path.read_bytes())
        content[7] ^= 1
        path.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr(map_work._Writer, "_mark", marking)
        with pytest.raises(MissingError, match="a work file does not read back as it was comp"):
            map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert not (tmp_path / "m.tif").exists()
    map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, make_pixels()))


@pytest.mark.parametrize("what", ["engine", "tier", "code"])
def test_what_one_engine_or_version_began_no_other_ends(
    model: Model,
    tiny_model: Path,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    _stopped_before_the_output(model, scene, tmp_path / "m.tif", monkeypatch)
    if what == "engine":
        pytest.importorskip("onnxruntime", reason="the other engine")
        other = {"native": "onnxruntime", "onnxruntime": "native"}[model.engine]
        model = kgsm_infer.load(tiny_model / "model.core.onnx", engine=other)
    elif what == "tier":
        monkeypatch.setattr(map_work.kernels, "tier_name", lambda *rooms: "another")
    else:
        monkeypatch.setattr(map_work, "code_digest", lambda *rooms: "another")
    told: list[tuple[int, int]] = []
    map_scene(
        model,
        read_scene(scene),
        tmp_path / "m.tif",
        execution=Execution(progress=lambda *now: told.append(now)),
    )
    assert told[0] == (0, 600)


def test_folders_of_others_are_left_alone(model: Model, scene: Path, tmp_path: Path) -> None:
    theirs = tmp_path / ".m.tif.work"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    with pytest.raises(
        UsageError, match=r"\.m\.tif\.work is where its work files would be.*no \.kgsm file of kgsm"
    ):
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    store = tmp_path / "m.zarr"
    store.mkdir()
    (store / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"is a folder without a \.kgsm file of ours"):
        map_scene(model, read_scene(scene), store)
    for folder in (theirs, store):
        assert (folder / "thesis.txt").read_text() == "years of work"
    (tmp_path / ".n.tif.work").symlink_to(theirs)
    (theirs / ".kgsm").touch()
    with pytest.raises(UsageError, match=r"has no \.kgsm file of kgsm"):
        map_scene(model, read_scene(scene), tmp_path / "n.tif")


@pytest.mark.usefixtures("small_blocks")
def test_links_in_a_work_folder_are_not_followed(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _stopped_before_the_output(model, scene, tmp_path / "m.tif", monkeypatch)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "sm").write_bytes((folder / "sm").read_bytes())
    before = (tmp_path / "theirs" / "sm").read_bytes()
    (folder / "sm").unlink()
    (folder / "sm").symlink_to(tmp_path / "theirs" / "sm")
    (folder / "map.tif").symlink_to(tmp_path / "theirs" / "sm")
    (folder / "old").symlink_to(tmp_path / "theirs")
    map_scene(model, read_scene(scene), tmp_path / "m.tif", RetrievalOptions(date="2024-03-28"))
    assert (tmp_path / "theirs" / "sm").read_bytes() == before
    assert not folder.exists()


def test_an_output_that_is_a_link_is_written_through_and_keeps_its_mode(
    model: Model, scene: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "real.tif").write_bytes(b"old")
    (tmp_path / "disk" / "real.tif").chmod(0o640)
    (tmp_path / "m.tif").symlink_to(tmp_path / "disk" / "real.tif")
    map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert (tmp_path / "m.tif").is_symlink()
    assert (tmp_path / "disk" / "real.tif").stat().st_mode & 0o777 == 0o640
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, make_pixels()))
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real.tif"]


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr"])
def test_room_for_the_output_is_asked_before_work_begins(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The work files fit, the output beside them would not."""
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(map_work.shutil, "disk_usage", lambda _: usage._replace(free=14 * 600 - 1))
        patch.setattr(map_work, "retrieve_block", None)  # nothing may be computed
        with pytest.raises(MissingError, match="not written, the disk is too full for it"):
            map_scene(model, read_scene(scene), tmp_path / f"m{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


def test_the_lock_outlives_the_folder_and_nobody_else_takes_it(
    model: Model, scene: Path, tmp_path: Path
) -> None:
    plan = plan_map(model, read_scene(scene))
    with map_work.compute_map(plan, tmp_path / "m.tif") as work:
        shutil.rmtree(work.folder)  # as its owner does at the end
        with (
            pytest.raises(UsageError, match="another kgsm-infer is writing it"),
            map_work.compute_map(plan, tmp_path / "m.tif"),
        ):
            pass
        work.folder.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]
