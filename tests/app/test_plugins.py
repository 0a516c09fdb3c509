"""Entry points of a distribution that is made here, in a folder on the path."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documented import ROOT, documented

from kgsm_infer.base import plugins
from kgsm_infer.base.errors import DataError
from kgsm_infer.scenes.manifest import scene_from
from kgsm_infer.scenes.presets import PRESETS

(SNIPPET,) = [
    item.text
    for item in documented(ROOT / "docs/integrate.md")
    if item.kind == "python" and "def my_archive" in item.text
]
(ENTRIES,) = [
    item.text
    for item in documented(ROOT / "docs/integrate.md")
    if item.kind == "toml" and "entry-points" in item.text
]
BROKEN = """[kgsm.presets]
bad_module = no_such_module:x
bad_layers = my_kgsm:NUMBER
cdse = my_kgsm:PRESET

[kgsm.sources]
bad_source = my_kgsm:NUMBER
ends = ends_the_process:x
failing = my_kgsm:failing
leaving = my_kgsm:leaving
"""


def entry_points(toml: str) -> str:
    """Return the tables of a pyproject.toml as the installed entry_points.txt."""
    import tomllib

    groups = tomllib.loads(toml)["project"]["entry-points"]
    return "".join(
        f"[{group}]\n" + "".join(f"{name} = {where}\n" for name, where in points.items()) + "\n"
        for group, points in groups.items()
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the page's package and one with faults; the caches are empty before and after."""
    site = tmp_path / "site"
    for name, text in (("my_kgsm", entry_points(ENTRIES)), ("faulty", BROKEN)):
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(text)
    more = "\nNUMBER = 7\n\n\ndef failing(path):\n    raise RuntimeError('no such record')\n"
    more += "\n\ndef leaving(path):\n    ' '\n    raise SystemExit(0)\n"
    (site / "ends_the_process.py").write_text("raise SystemExit('no licence')\n")
    (site / "my_kgsm.py").write_text(SNIPPET + more)
    monkeypatch.syspath_prepend(str(site))
    plugins.forget()
    yield site
    plugins.forget()
    sys.modules.pop("my_kgsm", None)


def test_a_preset_is_used_and_a_broken_one_costs_itself(
    package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a_20240304_vh.tif").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "kgsm_infer"):
        names = list(PRESETS)
    assert "my-archive" in names and names.count("cdse") == 1
    assert "bad_module" not in names and "bad_layers" not in names
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert any("bad_module of package faulty" in text and "no_such_module" in text for text in said)
    assert any("bad_layers" in text and "not a mapping of layers" in text for text in said)
    assert "vh_linear" in PRESETS["cdse"]  # kgsm's own
    scene = scene_from({"preset": "my-archive", "files": "a"}, "s", tmp_path)
    assert list(scene.layers) == ["vh_gamma0_linear"]
    with pytest.raises(DataError, match=r"preset is other, expected one of .*my-archive"):
        scene_from({"preset": "other", "files": "a"}, "s", tmp_path)


def run(site: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``kgsm-train data`` in another process with the package installed."""
    code = "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]; "
    code += "from kgsm_train.cli import main; main()"
    command = [sys.executable, "-c", code, site, ROOT, "data", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=site)


def test_a_source_is_a_command(package: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("station,day,moisture\na,2024-01-01,21\na,2024-01-02,23\n")
    done = run(package, "my-network", tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == "a,2024-01-01,0.21"
    shown = run(package, "--help")
    assert "my-network" in shown.stdout and "oznet" in shown.stdout
    assert "bad_source" not in shown.stdout
    assert "note: bad_source of package faulty" in shown.stderr
    assert "note: ends of package faulty" in shown.stderr and "no licence" in shown.stderr
    assert "Make a table with the source leaving." in shown.stdout
    refused = run(package, "failing", tmp_path / "in.csv", "-o", tmp_path / "no.csv")
    assert refused.returncode == 3 and not (tmp_path / "no.csv").exists()
    assert "source failing failed with RuntimeError: no such record" in refused.stderr
    assert "Traceback" not in refused.stderr
    refused = run(package, "leaving", tmp_path / "in.csv", "-o", tmp_path / "no.csv")
    assert refused.returncode == 3 and "source leaving failed with SystemExit" in refused.stderr


def test_library_code_logs_and_configures_nothing(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import kgsm_infer

    with caplog.at_level(logging.INFO, "kgsm_infer"):
        kgsm_infer.load(tiny_model / "model.core.onnx")
    (said,) = [record.getMessage() for record in caplog.records if record.name == "kgsm_infer"]
    assert "model.core.onnx: sha256 " in said and said.endswith("engine native")
    code = "import logging, kgsm_infer.app.cli; print(logging.getLogger().handlers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("debug", [True, False])
def test_the_command_prints_the_log_with_debug(
    tiny_model: Path, tmp_path: Path, debug: bool
) -> None:
    command = [sys.executable, "-m", "kgsm_infer.app.cli", "predict"]
    command += [str(tiny_model / name) for name in ("model.core.onnx", "twin.csv")]
    command += ["-o", str(tmp_path / "out.csv"), *(["--debug"] if debug else [])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert bool(re.search(r"^note: .*model\.core\.onnx: sha256 ", done.stderr, re.M)) == debug


def test_no_color_is_followed(tmp_path: Path) -> None:
    """A table of scores that rich prints on a terminal has no colour where NO_COLOR is set."""
    code = "from kgsm_train.evaluation.display import _print_table; "
    code += "_print_table([('model', 'R'), ('index', '0.65')], 'scores')"
    env = {**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env
    )
    assert "0.65" in done.stdout
    styles = {
        part for text in re.findall(r"\x1b\[([\d;]+)m", done.stdout) for part in text.split(";")
    }
    assert not styles - {"0", "1", "2", "3", "4"}  # bold, dim, italic, underlined
