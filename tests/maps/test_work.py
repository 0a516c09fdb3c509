"""Accidents: killed, full disks, two runs at once; what is done is kept, nothing wrong is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made_scenes import make_pixels, write_scene
from map_checks import assert_equal_to_predict, predicted

from kgsm_infer.errors import MissingError, UsageError
from kgsm_infer.maps import work as map_work
from kgsm_infer.maps.blocks import Block
from kgsm_infer.maps.plan import plan_map
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model import Model
from kgsm_infer.scenes.manifest import read_scene

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")

REPOSITORY = Path(__file__).resolve().parents[2]

DRIVER = (
    "from kgsm_infer.maps import plan, work; plan.BLOCK_SIDE = 32; work.SYNC_EVERY_S = 0; "
    "from kgsm_infer.cli import main; main()"
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
        done = marks.read_bytes().count(1) if marks.exists() else 0
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
    assert steps > 500
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
    map_scene(model, read_scene(scene), tmp_path / "m.tif", progress=lambda *now: told.append(now))
    assert len(seen) == 4 and len(set(seen)) == 4 and told[0] == (480, 600)
    assert told[-1] == (600, 600) and first == seen[:2]
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, make_pixels()))

    shutil.move(tmp_path / "kept", tmp_path / ".m.tif.work")
    seen.clear()
    map_scene(model, read_scene(scene), tmp_path / "m.tif", date="2024-03-28")
    assert len(seen) == 4
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
        map_work.worked_out(plan, output),
        pytest.raises(UsageError, match="another kgsm-infer is writing it"),
        map_work.worked_out(plan, output),
    ):
        pass
