"""What a command may write: never an input, a device or somebody's folder; and how it ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from running import PATIENCE_S

from kgsm_infer.base.errors import MissingError, UsageError
from kgsm_infer.base.files import MARKER, own_folder, preflight, write_whole

TABLE = "site,date,vh_db,ndvi\n" + "".join(f"a,2024-05-{d:02d},-15,0.3\n" for d in range(1, 9))
ISOLATE = ("isolate", "t.csv", "--a", "0.02")


def infer(*args: str, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kgsm_infer.app.cli", *args],
        cwd=cwd, text=True, capture_output=True, check=False, **options,  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path


@pytest.mark.parametrize("output", ["t.csv", "./t.csv", "link.csv", "hard.csv"])
def test_an_output_that_is_an_input_is_refused_and_untouched(folder: Path, output: str) -> None:
    (folder / "link.csv").symlink_to("t.csv")
    os.link(folder / "t.csv", folder / "hard.csv")
    done = infer(*ISOLATE, "-o", output, cwd=folder)
    assert done.returncode == 2 and "is also read" in done.stderr
    assert (folder / "t.csv").read_text() == TABLE


def test_a_model_or_its_sibling_is_never_written_over(tiny_model: Path) -> None:
    for name in ("model.onnx", "model.core.onnx"):
        before = (tiny_model / name).read_bytes()
        done = infer("predict", "model.onnx", "twin.csv", "-o", name, cwd=tiny_model)
        assert done.returncode == 2, done.stderr
        assert (tiny_model / name).read_bytes() == before


@pytest.mark.parametrize(
    ("past", "reason"),
    [("past.xlsx", "pasts are written as"), ("none/past.csv", "none"), ("o.csv", "written twice"),
     ("twin.csv", "is also read")],
)  # fmt: skip
def test_a_past_that_cannot_be_written_is_refused_before_anything_is(
    tiny_model: Path, past: str, reason: str
) -> None:
    done = infer("predict", "model.onnx", "twin.csv", "-o", "o.csv", "--past", past, cwd=tiny_model)
    assert done.returncode in (2, 5) and reason in done.stderr
    assert not (tiny_model / "o.csv").exists()


@pytest.mark.parametrize("suffix", ["xlsx", "csv.gz", "geojson", ""])
def test_a_suffix_that_is_not_written_is_refused(folder: Path, suffix: str) -> None:
    done = infer(*ISOLATE, "-o", f"o.{suffix}", cwd=folder)
    assert done.returncode == 2
    assert "results are written as .csv, .parquet or .pq" in done.stderr
    assert sorted(os.listdir(folder)) == ["t.csv"]


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_standard_output_is_the_result_and_nothing_else(folder: Path, output: str) -> None:
    done = infer(*ISOLATE, "-o", output, cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "site,date,soil_db,soil_fraction,flags" and len(lines) == 9
    assert "8 rows" in done.stderr
    assert sorted(os.listdir(folder)) == ["t.csv"]


def test_a_pipe_and_a_device_stay_what_they_are(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    places = ["pipe.csv"]
    if os.geteuid() == 0:
        os.mknod(folder / "null.csv", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        places.append("null.csv")
    for place in places:
        done = infer(*ISOLATE, "-o", place, cwd=folder)
        assert done.returncode == 2 and "no regular file" in done.stderr
        assert not stat.S_ISREG(os.stat(folder / place).st_mode)


def test_a_links_target_is_written_and_keeps_its_mode(folder: Path) -> None:
    (folder / "target.csv").write_text("old")
    (folder / "target.csv").chmod(0o640)
    (folder / "link.csv").symlink_to("target.csv")
    assert infer(*ISOLATE, "-o", "link.csv", cwd=folder).returncode == 0
    assert (folder / "link.csv").is_symlink()
    assert (folder / "target.csv").read_text().startswith("site,")
    assert stat.S_IMODE(os.stat(folder / "target.csv").st_mode) == 0o640


def test_one_output_twice_and_circles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="written twice"):
        preflight([tmp_path / "a.csv", tmp_path / "." / "a.csv"])
    (tmp_path / "circle.csv").symlink_to("circle.csv")
    with pytest.raises((UsageError, MissingError), match="circle"):
        preflight([tmp_path / "circle.csv"])
    with pytest.raises(UsageError, match="cannot be the name"):
        preflight([Path("a\0b.csv")])


def test_a_name_too_long_is_one_line(folder: Path) -> None:
    done = infer(*ISOLATE, "-o", "a" * 300 + ".csv", cwd=folder)
    assert done.returncode == 5 and "File name too long" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    # and one that is just short enough is written
    assert infer(*ISOLATE, "-o", "a" * 250 + ".csv", cwd=folder).returncode == 0


def test_somebody_elses_folder_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("mine")
    with pytest.raises(UsageError, match=r"holds metrics.json.*no \.kgsm file"):
        own_folder(tmp_path, ("parts", "metrics.json"))
    run = own_folder(tmp_path / "run", ("metrics.json",))
    (run / "metrics.json").write_text("ours")
    assert own_folder(run, ("metrics.json",)) == run and (run / MARKER).is_file()


def test_what_a_dead_process_left_is_swept_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / ".kgsm-0123.part").write_text("left behind")
    with write_whole(tmp_path / "a.csv") as outer:
        outer.write("a")
        with write_whole(tmp_path / "b.csv") as inner:
            inner.write("b")
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "b.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_standard_output_is_said_and_the_file_is_written(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kgsm_infer.app.cli", *ISOLATE, "-o", "o.csv"],
            cwd=folder, text=True, stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode == 5 and "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr and (folder / "o.csv").exists()


def test_a_terminal_without_the_letters_is_no_fault(folder: Path) -> None:
    (folder / "Łąka").mkdir()
    done = infer(
        *ISOLATE, "-o", "Łąka/o.csv", cwd=folder, env={**os.environ, "PYTHONIOENCODING": "cp1252"}
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "Łąka/o.csv").exists() and "8 rows" in done.stdout


def test_no_escape_sequence_of_a_cell_reaches_the_terminal(folder: Path) -> None:
    (folder / "t.csv").write_text(TABLE.replace("-15", "\x1b[2J-1x", 1))
    done = infer(*ISOLATE, "-o", "o.csv", cwd=folder)
    assert done.returncode == 3 and "\x1b" not in done.stderr and r"\x1b[2J" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_in_one_line(tmp_path: Path, number: int, code: int) -> None:
    script = (
        "import time, typer\nfrom kgsm_infer.base.command import run\n"
        "app = typer.Typer()\n"
        "@app.command()\ndef main():\n    print('ready', flush=True); time.sleep(600)\n"
        "run(app, 'kgsm-infer')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert told == "kgsm-infer: stopped; no output was written\n"


def test_a_fault_of_ours_is_a_line_and_its_traceback_behind_debug() -> None:
    script = (
        "import typer\nfrom kgsm_infer.base.command import run\napp = typer.Typer()\n"
        "@app.command()\ndef main():\n    raise RuntimeError('oh')\nrun(app, 'kgsm-infer')\n"
    )
    for arguments, lines in (([], 1), (["--debug"], 5)):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and "a fault of kgsm" in done.stderr
        assert (len(done.stderr.splitlines()) == 1) == (lines == 1)


def test_help_lines_are_whole(tmp_path: Path) -> None:
    for module, *command in (
        ("kgsm_infer.app.cli",),
        ("kgsm_infer.app.cli", "prepare"),
        ("kgsm_train.cli",),
        ("kgsm_train.cli", "data"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", module, *command, "--help"],
            capture_output=True, text=True, check=False,
            env={**os.environ, "COLUMNS": "80"},
        )  # fmt: skip
        assert done.returncode == 0
        assert "..." not in done.stdout.partition("Commands:")[2]
