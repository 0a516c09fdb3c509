"""The model in use, and putting another in its place without a stop.

``models/000012-001-HASH.onnx`` made the values of arrivals from number 12 on, until the next
entry. The folder is the log of models as the archive is of arrivals, so a database
built again gets each acquisition from the model that had it. A new file is tried first: card and
digests, then the last acquisition of every paddock through it. What fails goes to quarantine.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...base.errors import KgsmError, ModelError, UsageError
from ...base.files import sync_folder, write_whole
from ...base.quantities import UNKNOWN, Quantity, quantity_named
from ...model.onnx_reader import read_quantity
from ..config import Gateway
from ..intake.archive import digest_of, next_number
from ..log import Log
from ..store.database import Store
from .past import StoredInputs
from .retrieval import Loaded, load_model, retrieved

#: Of the paddocks the model in use gives a number, how many a new one must.
MIN_NUMBERS = 0.5
#: Entries kept; older acquisitions that are processed again get the oldest of them.
KEPT = 8

_ENTRY = re.compile(r"(\d{6,})-(\d{3})-([0-9a-f]{16})\.onnx")


@dataclass(frozen=True)
class Entry:
    """A model of the log. number: of the first arrival it is for; swap: order at one number."""

    path: Path
    number: int
    swap: int
    hash: str


def entries(gateway: Gateway) -> list[Entry]:
    """Return the log of models, oldest first."""
    found = []
    for path in gateway.models.iterdir():
        match = _ENTRY.fullmatch(path.name)
        if match:
            found.append(Entry(path, int(match[1]), int(match[2]), match[3]))
    return sorted(found, key=lambda entry: (entry.number, entry.swap))


def entry_for(log_of_models: list[Entry], number: int) -> Entry:
    """Return the model for an arrival of this number."""
    return next((e for e in reversed(log_of_models) if e.number <= number), log_of_models[0])


def newest(gateway: Gateway, log: Log) -> tuple[Entry, Loaded]:
    """Return the model in use, or the one before it where its file is broken, else ModelError."""
    for entry in reversed(entries(gateway)):
        try:
            return entry, load_model(entry.path, gateway.engine)
        except KgsmError as error:
            log("model_unusable", model=entry.path.name, reason=str(error))
    raise ModelError(f"{gateway.models}: holds no model that can be loaded")


def begin(store: Store, gateway: Gateway, log: Log) -> None:
    """Enter the configuration's model: the first, or one changed since; that is tried first.

    ModelError where the first cannot be loaded; a changed one that fails is only logged.
    """
    label_quantities(store, gateway, log)
    known = gateway.models / "configured"
    before = known.read_text().strip() if known.exists() else ""
    try:
        digest = digest_of(gateway.model)
        if digest == before:
            return
        have = entries(gateway)
        if not have:
            activate_model(gateway.model, load_model(gateway.model, gateway.engine), gateway, 0)
        elif have[-1].hash != digest[:16]:
            try:
                in_use: Loaded | None = newest(gateway, log)[1]
            except ModelError:  # none of the log loads any more, as after an update of kgsm
                in_use = None
            if in_use is None:
                tried = load_model(gateway.model, gateway.engine)
                check_quantity(tried, store, gateway.model.name)
            else:
                tried = try_model(gateway.model, store, in_use, gateway.engine)
            activate_model(gateway.model, tried, gateway, next_number(store, gateway.archive))
            log("model_in_use", model=tried.hash, before=have[-1].hash)
        with write_whole(known) as file:
            file.write(digest)
    except KgsmError as error:
        if not entries(gateway):
            raise
        log("model_refused", model=gateway.model.name, reason=str(error))


def try_model(path: Path, store: Store, in_use: Loaded, engine: str) -> Loaded:
    """Load a model and run it on the last acquisition of every paddock; ModelError if it fails."""
    loaded = load_model(path, engine)
    if loaded.hash == in_use.hash:
        raise ModelError(f"{path.name}: this model is in use already")
    check_quantity(loaded, store, path.name)
    rows = store.observations()
    if not rows:
        return loaded  # nothing to try it on yet
    keys = sorted({(row.paddock, row.acquired, row.orbit) for row in rows})
    last = {key[0]: key for key in keys}
    lacking = [name for name in loaded.inputs if not any(name in row.numbers for row in rows)]
    if lacking:
        raise ModelError(f"{path.name}: reads {', '.join(lacking)}, which no acquisition brings")
    bases = store.bases()
    has, had = (
        sum(
            v.sm is not None
            for v in retrieved(model, StoredInputs(rows, bases), set(last.values())).values()
        )
        for model in (loaded, in_use)
    )
    if has < MIN_NUMBERS * had:
        raise ModelError(
            f"{path.name}: gives {has} of {len(last)} paddocks a number on the last scene, "
            f"the model in use {had}"
        )
    return loaded


def check_quantity(loaded: Loaded, store: Store, name: str) -> None:
    """Refuse a model of another quantity than the stored values have: a series has one.

    name: of the model file, for the message. Of a store that an older kgsm let mix quantities,
    the one with the most values counts. ModelError where the model's is another.
    """
    counts = {
        quantity_named(text): count
        for text, count in store.quantity_counts().items()
        if quantity_named(text) is not UNKNOWN
    }
    if not counts:
        return
    series, own = max(counts, key=lambda quantity: counts[quantity]), loaded.model.card.retrieves
    if own != series:
        raise ModelError(
            f"{name}: retrieves {own.name} (unit {own.unit}), but the values of this gateway are "
            f"{series.name} (unit {series.unit}) and a series holds one quantity; run a second "
            "gateway with its own state folder for this model"
        )


def quantity_in_use(gateway: Gateway) -> Quantity:
    """Return the quantity of the model in use, or of the configured one before the first start."""
    have = entries(gateway) if gateway.models.is_dir() else []
    return read_quantity(have[-1].path if have else gateway.model)


def quantities_of(
    store: Store | None, gateway: Gateway, paddocks: Iterable[str]
) -> dict[str, Quantity]:
    """Return the quantity of each paddock's present state; without a state that of the model."""
    values = [] if store is None else store.latest()
    found = {value.paddock: quantity_named(value.quantity) for value in values}
    usual = quantity_in_use(gateway)
    return {name: found.get(name, usual) for name in paddocks}


def label_quantities(store: Store, gateway: Gateway, log: Log) -> None:
    """Give values stored by an older kgsm the quantity of the model that made them.

    The quantity is read from the model files that are kept. Values of a model that is gone get
    the quantity ``unknown``.
    """
    without = store.models_without_quantity()
    if not without:
        return
    files = {entry.hash: entry.path for entry in entries(gateway)}
    names = {
        model: (read_quantity(files[model]) if model in files else UNKNOWN).name
        for model in without
    }
    store.set_quantities(names)
    log(
        "quantities_labelled",
        models={model: name for model, name in names.items() if name != UNKNOWN.name},
        unknown=[model for model, name in names.items() if name == UNKNOWN.name],
    )


def activate_model(path: Path, loaded: Loaded, gateway: Gateway, number: int) -> Entry:
    """Enter a tried model for arrivals from ``number`` on: one rename, so all or nothing."""
    have = entries(gateway)
    swap = 1 + max((entry.swap for entry in have if entry.number == number), default=0)
    target = gateway.models / f"{number:06d}-{swap:03d}-{loaded.hash}.onnx"
    with write_whole(target, "wb") as copy, path.open("rb") as file:
        shutil.copyfileobj(file, copy)
    sync_folder(gateway.models)
    for old in have[: -(KEPT - 1)]:
        old.path.unlink(missing_ok=True)
    return Entry(target, number, swap, loaded.hash)


def roll_back(store: Store, gateway: Gateway) -> str:
    """Put the model before back in use, for what arrives from now on; returns its hash.

    UsageError where there is none. A gateway that runs takes it up at its next scan.
    """
    have = entries(gateway) if gateway.models.is_dir() else []
    before = [entry for entry in have if entry.hash != have[-1].hash]
    if not before:
        raise UsageError(f"{gateway.models}: no model was in use before; nothing to go back to")
    last = before[-1]
    loaded = load_model(last.path, gateway.engine)
    check_quantity(loaded, store, last.path.name)
    activate_model(last.path, loaded, gateway, next_number(store, gateway.archive))
    return last.hash
