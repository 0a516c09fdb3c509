"""Tasks of a new user, done with the commands that README prints and with nothing else."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from documented_inputs import shortened

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
MODULES = {"kgsm-infer": "kgsm_infer.app.cli", "kgsm-train": "kgsm_train.cli"}

pytestmark = pytest.mark.slow


def command(start: str) -> list[str]:
    """Return the words of the one command in README that starts so, without its comment."""
    lines = re.findall(r"^    (kgsm-.*)$", README, re.M)
    (found,) = {line.partition("#")[0].strip() for line in lines if line.startswith(start)}
    return shlex.split(found)


def do(start: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of README; it must succeed."""
    program, *words = command(start)
    done = subprocess.run(
        [sys.executable, "-m", MODULES[program], *words], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def is_picture(path: Path) -> bool:
    """True for a PNG that is not blank."""
    content = path.read_bytes()
    return content.startswith(b"\x89PNG") and len(content) > 5000


def test_an_earth_engine_export_without_probes_gives_numbers_and_a_picture(tmp_path: Path) -> None:
    """The export has the columns of the script in docs/earth_engine.md."""
    rng = np.random.default_rng(3)
    lines = ["site,time,VV,VH,angle,orbit_pass,relative_orbit,pixels"]
    for day in range(12):
        for place in ("home", "river", "hill"):
            vh = -17 + rng.normal(0, 1.5)
            time = f"2023-{1 + day // 2:02d}-{1 + day % 2 * 12:02d}T08:31:05Z"
            lines.append(f"{place},{time},{vh + 6:.3f},{vh:.3f},38.5,DESCENDING,16,78")
    (tmp_path / "kgsm_s1.csv").write_text("\n".join(lines) + "\n")
    do("kgsm-infer wetness kgsm_s1.csv -o", tmp_path)
    rows = (tmp_path / "wetness.csv").read_text().splitlines()
    values = [float(row.split(",")[2]) for row in rows[1:]]
    assert len(values) == 36 and all(0 < value < 1 for value in values)
    do("kgsm-infer plot wetness.csv", tmp_path)
    assert is_picture(tmp_path / "wetness.png")


def test_ten_labelled_sites_give_an_honest_score_and_a_model(tmp_path: Path) -> None:
    """Labels follow VH on new dates too, with noise."""
    rng = np.random.default_rng(5)
    lines = ["site,date,vh_db,angle_deg,ndvi,sm"]
    for day in range(10):
        wet = rng.uniform(0, 1)
        for site in range(10):
            sm = 0.08 + 0.25 * wet + rng.normal(0, 0.02)
            vh = -22 + 22 * sm + rng.normal(0, 0.5)
            date = np.datetime64("2023-03-01") + 12 * day
            lines.append(f"s{site},{date},{vh:.3f},38.0,0.3,{max(sm, 0.01):.3f}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    do("kgsm-train init", tmp_path)
    experiment = tmp_path / "experiment.toml"
    experiment.write_text(shortened(experiment.read_text()))
    scored = do("kgsm-train crossval experiment.toml", tmp_path)
    assert "new" in scored.stdout and (tmp_path / "run/report.html").exists()
    do("kgsm-train fit experiment.toml", tmp_path)
    assert {"model.onnx", "card.json"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_a_model_gives_rows_the_series_of_one_paddock_and_a_hint(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes((tiny_model / "model.onnx").read_bytes())
    text = (tiny_model / "twin.csv").read_text()
    first = text.splitlines()[1].partition(",")[0]
    (tmp_path / "observations.csv").write_text(re.sub(f"^{first},", "north,", text, flags=re.M))
    done = do("kgsm-infer predict", tmp_path)
    assert re.search(r"note: \d+ rows lack history: ", done.stderr)
    do("kgsm-infer plot soil_moisture.csv", tmp_path)
    assert is_picture(tmp_path / "north.png")
