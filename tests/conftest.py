"""Fixtures and settings of the whole suite."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tiny_experiment import TINY

#: Scripts that another Python runs: pytest cannot import what they need.
collect_ignore = ["home_assistant_validation.py"]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

#: Folders and modules below tests/ whose results come from the kernels. ``make test`` runs them
#: twice, on the C core and on the NumPy twin, and the doctests of kgsm_infer with them.
BOTH_ENGINES = (
    "context",
    "daily/test_daily_twin.py",
    "gateway/test_correction.py",
    "gateway/test_recovery.py",
    "gateway/test_service.py",
    "gateway/test_taking.py",
    "kernels/test_four_engines.py",
    "maps/test_differential.py",
    "maps/test_map_numbers.py",
    "model/test_backscatter_range.py",
    "model/test_engines.py",
    "model/test_index.py",
    "model/test_model.py",
    "paddocks/test_of_scene.py",
    "prepare/test_fuse.py",
    "tables/test_table.py",
)

#: Modules and folders whose tests share something slow to make. pytest-xdist runs each on one
#: worker, so that it is made once.
ONE_WORKER = (
    "evaluation/test_crossval.py",
    "evaluation/test_experiments.py",
    "evaluation/test_report.py",
    "gateway/test_page.py",
    "kernels/test_core_alone.py",
    "house/test_walls.py",
    "maps/test_differential.py",
    "packages",
)

_TESTS = Path(__file__).parent
_PACKAGE = _TESTS.parent / "kgsm_infer"
_MEASURED = [_PACKAGE, *(_TESTS / room.name for room in _PACKAGE.iterdir())]
_BOTH_ENGINES = [*(_TESTS / home for home in BOTH_ENGINES), _PACKAGE]
_ONE_WORKER = [_TESTS / home for home in ONE_WORKER]

# A busy machine must not fail a property: no deadline and no check of how fast examples are made.
settings.register_profile(
    "kgsm", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("kgsm")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out modules without tests of both engines where only those are selected.

    Importing all modules takes each worker of pytest-xdist 12 s of processor time.
    """
    selected = config.option.markexpr.startswith("both_engines")
    if not selected or collection_path.suffix != ".py" or _below(collection_path, _BOTH_ENGINES):
        return None
    return True


@pytest.hookimpl(tryfirst=True)  # before pytest selects by -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of :data:`BOTH_ENGINES` and those whose lines are not counted.

    Tracing doubles the processor time of Python 3.11. Lines are counted in the tests of the rooms
    of kgsm_infer, in this process, except properties of many examples and slow tests.
    """
    for item in items:
        if _below(item.path, _BOTH_ENGINES):
            item.add_marker("both_engines")
        is_property = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if is_property or item.get_closest_marker("slow") or not _below(item.path, _MEASURED):
            item.add_marker("no_cover")


def _below(path: Path, homes: list[Path]) -> bool:
    return any(path.is_relative_to(home) for home in homes)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute the tests of one of :data:`ONE_WORKER` together and all others singly.

    ``--dist loadgroup`` of pytest-xdist 3.8 distributes all tests singly under pytest 9.2, because
    it renames ``item._nodeid``, which is gone.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByHome(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = _TESTS.parent / nodeid.partition("::")[0]
            return next((str(home) for home in _ONE_WORKER if path.is_relative_to(home)), nodeid)

    return ByHome(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; skips, with the reason, where absent."""
    if not SHARED.is_dir():
        pytest.skip("real data are not beside the project (../shared/data)")
    return SHARED


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small simulated table, its experiment and a model fitted on it.

    ``twin.csv``, ``tiny.toml``, ``model.onnx``, ``model.core.onnx``, ``card.json``.
    """
    from kgsm_train.config import read_config
    from kgsm_train.fit import fit_and_export
    from kgsm_train.sources.simulate import Twin, write_twin

    folder = tmp_path_factory.mktemp("tiny")
    write_twin(folder / "twin.csv", Twin(sites=6, years=1, seed=1))
    _clay_in_percent(folder / "twin.csv")
    (folder / "tiny.toml").write_text(TINY)
    fit_and_export(read_config(folder / "tiny.toml"), folder)
    return folder


def _clay_in_percent(path: Path) -> None:
    """From 0 to 100 over the sites, so that a test may choose any clay and stay in range."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    clay = [float(row["clay"]) for row in rows]
    for row, value in zip(rows, clay, strict=True):
        row["clay"] = f"{100 * (value - min(clay)) / (max(clay) - min(clay)):.6g}"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> Any:
    """The tiny model, loaded from its core graph."""
    import kgsm_infer

    return kgsm_infer.load(tiny_model / "model.core.onnx")


@pytest.fixture(scope="session")
def interval_model(model: Any) -> Any:
    """The tiny model with an interval on its card."""
    from other_cards import with_card

    interval = {"level": 0.9, "lower": -0.05, "upper": 0.07}
    return with_card(model, interval=interval)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """The manifest of a small made-up scene, in a folder of its own."""
    from made_scenes import make_pixels, write_scene

    pytest.importorskip("rasterio", reason="scenes need kgsm[raster]")
    return write_scene(tmp_path / "scene", make_pixels())


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps in blocks of 16 pixels, so that a small scene has several."""
    from kgsm_infer.maps import plan

    monkeypatch.setattr(plan, "BLOCK_SIDE", 16)


@pytest.fixture
def scene_and_map(tmp_path: Path, scene: Path, interval_model: Any) -> tuple[Path, Any, Any]:
    """A scene, and sm and flags of its map."""
    import numpy as np
    import rasterio

    from kgsm_infer.maps.run import map_scene
    from kgsm_infer.scenes.manifest import read_scene

    pytest.importorskip("exactextract", reason="paddocks on rasters need kgsm[raster]")
    map_scene(interval_model, read_scene(scene), tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as dataset:
        return scene, dataset.read(1), dataset.read(4).astype(np.uint16)
