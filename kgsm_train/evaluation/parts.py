"""Finished parts of a cross-validation, kept so that a run that was stopped goes on.

A part is one model on one split. It counts again only where everything its numbers depend on
is the same: data, configuration, and the code that made it.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer import kernels
from kgsm_infer.base.errors import DataError, raise_if_machine
from kgsm_infer.base.files import write_whole
from kgsm_infer.base.fingerprint import code_digest, content_digest, fingerprint
from kgsm_infer.base.schema import as_plain, build, parse_json
from kgsm_infer.model.onnx_reader import SHIPPED

from ..config import as_json
from ..learning.learnt import Learnt
from .splits import Split, SplitExperiment

#: Rooms between a table and a prediction.
CODE = (
    *(f"kgsm_infer.{room}" for room in ("base", "kernels", "tables", "context", "model")),
    *(f"kgsm_train.{room}" for room in ("config", "models", "learning")),
    *(f"kgsm_train.evaluation.{room}" for room in ("folds", "splits", "crossval")),
)
#: Bytes a part may have.
MOST_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Part:
    """One model on one split: predictions of the test rows, and what was learnt.

    index: (K,) rows tested.  sm: (K,) float32, NaN where there is no number.
    seconds: what it took.
    """

    model: str
    split: Split
    index: NDArray[np.int64]
    sm: NDArray[np.float32]
    learnt: Learnt
    seconds: float


def code_of_parts() -> str:
    """Return the digest of the code a part depends on, and the kernels in use."""
    return fingerprint(code_digest(*CODE), kernels.in_use())


def part_key(experiment: SplitExperiment, model: str, split: Split) -> str:
    """Return the key of a part: its rows, labels, configuration and code."""
    config, source, design = experiment.config, experiment.source, experiment.design
    settings = as_json(config)
    settings["data"].pop("table")  # its content counts, not its name
    settings["crossval"] = {"train_groups": config.crossval.train_groups}
    rows = [design.train_rows(split), design.test_rows(split)]
    digest = hashlib.sha256()
    for array in (*rows, source.label[rows[0]]):
        digest.update(np.ascontiguousarray(array).tobytes() + b"\0")
    shipped = content_digest(SHIPPED[model]) if model in SHIPPED else None
    return fingerprint(
        settings, source.sha256, code_of_parts(), model, split.name, digest.hexdigest(), shipped
    )


def part_path(parts: Path, model: str, split: Split) -> Path:
    """Return the path of a part."""
    return parts / f"{model}-{split.name}.npz"


def write_part(parts: Path, part: Part, key: str) -> None:
    """Keep a part, whole or not at all."""
    with write_whole(part_path(parts, part.model, part.split), "wb") as out:
        learnt = json.dumps(as_plain(part.learnt), allow_nan=False)
        np.savez(out, key=key, index=part.index, sm=part.sm, learnt=learnt, seconds=part.seconds)


def read_part(
    parts: Path, model: str, split: Split, key: str, rows: NDArray[np.int64]
) -> Part | None:
    """Read a part kept under this ``key`` with these test ``rows``; None where there is none.

    DataError for a file that is no part: cut short, or of other content than it must have.
    """
    path = part_path(parts, model, split)
    if not path.is_file():
        return None
    found = _arrays(path)
    if str(found["key"]) != key:
        return None
    index, sm = found["index"], found["sm"]
    if not np.array_equal(index, rows) or sm.shape != index.shape or sm.dtype != np.float32:
        raise DataError(f"{path}: sm: not a finished part (other rows than its split); delete it")
    seconds = float(found["seconds"]) if found["seconds"].dtype == np.float64 else -1.0
    if not 0 <= seconds < 1e9:
        raise DataError(f"{path}: seconds: not a finished part (no duration); delete it")
    learnt = _learnt(str(found["learnt"]), f"{path}: learnt")
    return Part(model, split, index, sm, learnt, seconds)


def _learnt(text: str, where: str) -> Learnt:
    """Read the JSON text of a part."""
    try:
        return build(Learnt, parse_json(text))
    except ValueError as error:
        raise DataError(f"{where}: {error}; delete the file") from None


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a part, each of a plain type and none larger than the file may be."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > MOST_BYTES:
                raise ValueError("too large")
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in ("key", "index", "sm", "learnt", "seconds")}
    except Exception as error:  # noqa: BLE001  damaged zips and headers share no base
        if isinstance(error, OSError):
            raise_if_machine(error, str(path))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a finished part ({reason[:100]}); delete it") from None
    if any(found[name].ndim != 0 for name in ("key", "learnt", "seconds")):
        raise DataError(f"{path}: not a finished part (its shape); delete it")
    return found
