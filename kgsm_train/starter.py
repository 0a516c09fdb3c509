"""Write a commented experiment that fits a table."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from kgsm_infer.base.errors import DataError
from kgsm_infer.base.files import write_whole
from kgsm_infer.tables.table import Table, read_table

from .config import Config, read_config

#: Share of rows that must have an angle for it to be used.
COMPLETE = 0.95


def write_starter(table: Path, output: Path) -> Config:
    """Write an experiment for ``table`` to ``output``, and return it as read back.

    DataError for a table without ``sm``, VH or VV, or with fewer than two places.
    """
    text = starter_text(
        read_table(table, reads=(), option=""), os.path.relpath(table.absolute(), output.parent)
    )
    with write_whole(output) as file:
        file.write(text)
    return read_config(output)


def starter_text(table: Table, path: str) -> str:
    """Return the TOML of an experiment; ``path`` is the table's as the file names it."""
    share = {name: float(np.isfinite(values).mean()) for name, values in table.numbers.items()}
    labels = np.isfinite(table.numbers.get("sm", np.full(len(table), np.nan)))
    if not labels.any():
        raise DataError(
            f"{table.source}: no soil moisture in a column 'sm'; without labels use "
            "kgsm-infer wetness, which needs no training"
        )
    radar = [pol for pol in ("vh", "vv") if share.get(f"{pol}_db", 0) > 0]
    if not radar:
        raise DataError(f"{table.source}: no backscatter in a column 'vh_db' or 'vv_db'")
    fields = np.asarray(table.text["field"]) if "field" in table.text else table.site
    groups = len(set(fields[labels].tolist()))
    if groups < 2:
        raise DataError(
            f"{table.source}: labels of one {'field' if 'field' in table.text else 'site'}; "
            "a score on new fields needs at least two"
        )
    group = "field" if "field" in table.text else "site"
    dates = len(np.unique(table.date[labels].astype("datetime64[D]")))
    steps = int(np.clip(np.median(np.unique(table.site, return_counts=True)[1]) // 2, 2, 5))
    foliage = share.get("ndvi", 0) > 0
    plants = "ndvi" if foliage else "vwc_kg_m2"
    has_plants = share.get(plants, 0) > 0
    features = [plants] * has_plants + [f"{pol}_db" for pol in radar[1:]] + [f"{radar[0]}_anomaly"]
    models = ["mean", "same-date-mean", *(["wetness"] if radar[0] == "vh" else [])]
    models += [*(["wcm"] if has_plants else []), "ridge", "forest", "lstm"]
    angle = "column" if share.get("angle_deg", 0) >= COMPLETE else "constant"
    rule = "foliage" if foliage or not has_plants else "column"
    simulated = "simulated" in set(table.text.get("source", ()))
    few = (
        "" if dates >= 3 else "# Fewer than three dates have labels: new dates cannot be scored.\n"
    )
    return f"""\
# {int(labels.sum())} labels, {len(set(table.site.tolist()))} sites, {dates} dates with labels.
# kgsm-train crossval THIS_FILE -o run      scores of every model on new {group}s and new dates
# kgsm-train fit THIS_FILE -o run           the model, with the interval of the cross-validation
{few}
[data]
table = {json.dumps(Path(path).as_posix())}
group = "{group}"            # never split between folds; use "field" if a field has several points
licence = "{"simulated" if simulated else "not stated"}"    # of your data, for the model's card
# drop = ["column"]         # 0/1 columns that mark labels to leave out
# weather = "rain.csv"      # daily rain, for features such as "rain_api_mm" (docs/weather.md)

[inputs]
polarisation = "{radar[0]}"
steps = {steps}                   # acquisitions in a window
features = {json.dumps(features)}   # any numeric column; an anomaly compares a place with its past
# statics = ["clay"]        # columns that do not change in time

[head]
kind = "index"              # the label-free index with limits fitted to your labels
network = false             # true adds an LSTM
others = []                 # further columns of the head

[wcm]
vwc_rule = "{rule}"        # "foliage": vegetation from ndvi; "column": from vwc_kg_m2
angle_rule = "{angle}"      # "column" needs angle_deg on every row

[network]
hidden = 16                 # of the LSTM that is compared
members = 2

[training]
epochs = 100
patience = 20

[crossval]
folds = {min(4, groups)}                   # folds of {group}s
models = {json.dumps([*models, "index"])}   # the last is the one compared with the others
"""
