"""examples/integrate/predict.mjs: the complete graph in JavaScript gives the numbers of Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import kgsm_infer
from kgsm_infer.base import flags

SCRIPT = Path(__file__).resolve().parents[2] / "examples/integrate/predict.mjs"


def test_javascript_gives_the_same_numbers(tiny_model: Path, tmp_path: Path) -> None:
    modules = Path(os.environ.get("KGSM_NODE_MODULES", "node_modules")).resolve()
    if shutil.which("node") is None or not (modules / "onnxruntime-web").is_dir():
        pytest.skip("needs node, and onnxruntime-web in $KGSM_NODE_MODULES (npm install)")
    model = kgsm_infer.load(tiny_model / "model.onnx", engine="onnxruntime")
    card, rng = model.card, np.random.default_rng(3)
    shape = (5, card.steps)
    sigma0_db = rng.uniform(-19, -12, shape)
    sigma0_db[1, -1], sigma0_db[2, 0], sigma0_db[3, -1] = np.nan, np.nan, 30.0
    day = np.tile(19800.0 + 6 * np.arange(card.steps), (5, 1))
    planes = {
        "sigma0_db": sigma0_db,
        "ndvi": rng.uniform(0.1, 0.6, shape),
        "angle_deg": rng.uniform(32, 44, shape),
        "day": day,
        "features": rng.uniform(-1, 1, (*shape, len(card.names("dynamic")))),
        "statics": rng.uniform(10, 40, (5, len(card.names("static")))),
    }
    expected = model.retrieve(
        sigma0_db, planes["ndvi"], planes["angle_deg"], planes["features"],
        statics=planes["statics"], days=day,
    )  # fmt: skip
    (tmp_path / "node_modules").symlink_to(modules)
    shutil.copy(SCRIPT, tmp_path)
    plain = json.dumps({name: values.tolist() for name, values in planes.items()})
    (tmp_path / "planes.json").write_text(plain.replace("NaN", "null"))
    done = subprocess.run(
        ["node", "predict.mjs", str(tiny_model / "model.onnx"), "planes.json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    got = json.loads(done.stdout.splitlines()[-1])
    sm = np.asarray([np.nan if item["sm"] is None else item["sm"] for item in got])
    assert np.isfinite(sm).sum() == 3
    np.testing.assert_allclose(sm, expected.sm, rtol=0, atol=1e-5)
    outside = flags.OUTSIDE_DOMAIN
    for item, mask in zip(got, expected.flags, strict=True):
        assert flags.mask_of(";".join(item["flags"])) & ~outside == int(mask) & ~outside
