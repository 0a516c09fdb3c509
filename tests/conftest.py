"""Fixtures every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

TINY = """
[data]
table = "twin.csv"
licence = "simulated"

[inputs]
steps = 3
features = ["doy_sin"]
statics = ["clay"]

[wcm]
angle_rule = "column"

[network]
hidden = 4
members = 2

[training]
epochs = 3
batch = 64

[crossval]
folds = 2
models = ["mean", "wcm", "lstm", "kg-lstm"]
bootstrap = 50
"""


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
    (folder / "tiny.toml").write_text(TINY)
    fit_and_export(read_config(folder / "tiny.toml"), folder)
    return folder
