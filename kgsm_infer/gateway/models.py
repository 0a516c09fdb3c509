"""The model in use, and putting another in its place without a stop.

A model file dropped into the spool is tried: card and digests, then the last acquisition of
every paddock through it. What passes is kept in ``models/`` and named in the store in one
transaction; the one before stays, for :func:`roll_back`. What fails goes to quarantine.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..errors import KgsmError, ModelError, UsageError
from ..files import whole
from .config import Gateway
from .log import Log
from .retrieve import Loaded, load_model, retrieved
from .spool import sync_folder
from .store import Store

#: Of the paddocks the model in use gives a number, how many a new one must.
MIN_NUMBERS = 0.5
IN_USE, BEFORE = "model", "model_before"


def model_in_use(store: Store, gateway: Gateway, log: Log) -> Loaded:
    """The model the store names; the one before, then the configuration's, where it is broken.

    ModelError where not even that can be loaded.
    """
    for key in (IN_USE, BEFORE):
        name = store.fact(key)
        if not name:
            continue
        try:
            return load_model(gateway.models / name, gateway.engine)
        except KgsmError as error:
            log("model_unusable", model=name, reason=str(error))
    return load_model(gateway.model, gateway.engine)


def try_model(path: Path, store: Store, in_use: Loaded, engine: str) -> Loaded:
    """Load a model and run it on the last acquisition of every paddock; ModelError if it fails."""
    loaded = load_model(path, engine)
    if loaded.hash == in_use.hash:
        raise ModelError(f"{path.name}: this model is in use already")
    rows = store.observations()
    if not rows:
        return loaded  # nothing to try it on yet
    newest = {(row.paddock, row.acquired, row.orbit) for row in rows}
    last = {key[0]: key for key in sorted(newest)}
    lacking = [name for name in loaded.inputs if not any(name in row.numbers for row in rows)]
    if lacking:
        raise ModelError(f"{path.name}: reads {', '.join(lacking)}, which no acquisition brings")
    bases = store.bases()
    made, before = (retrieved(model, rows, set(last.values()), bases) for model in (loaded, in_use))
    has, had = (sum(value.sm is not None for value in some.values()) for some in (made, before))
    if has < MIN_NUMBERS * had:
        raise ModelError(
            f"{path.name}: gives {has} of {len(last)} paddocks a number on the last scene, "
            f"the model in use {had}"
        )
    return loaded


def put_in_use(path: Path, loaded: Loaded, store: Store, gateway: Gateway) -> Loaded:
    """Keep a tried model and name it in the store, both at once or not at all."""
    name = f"{loaded.hash}{'.core' if loaded.model.role == 'core' else ''}.onnx"
    with whole(gateway.models / name, "wb") as copy, path.open("rb") as file:
        shutil.copyfileobj(file, copy)
    sync_folder(gateway.models)
    kept = load_model(gateway.models / name, gateway.engine)
    with store.transaction():
        store.put_fact(BEFORE, store.fact(IN_USE) or "")
        store.put_fact(IN_USE, name)
    for old in gateway.models.glob("*.onnx"):
        if old.name not in (store.fact(IN_USE), store.fact(BEFORE)):
            os.unlink(old)
    return kept


def roll_back(store: Store, gateway: Gateway) -> str:
    """Put the model before back in use; returns its name. UsageError where there is none."""
    now, before = store.fact(IN_USE), store.fact(BEFORE)
    if now is None or before is None:
        raise UsageError("no model was put in use since the configuration's; nothing to go back to")
    load_model(gateway.models / before if before else gateway.model, gateway.engine)
    with store.transaction():
        store.put_fact(IN_USE, before)
        store.put_fact(BEFORE, now)
    return before or gateway.model.name
