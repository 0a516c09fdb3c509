"""Write the documents of a model file: MODEL_CARD.md and model.stac.json.

Both are made from the card in the file alone. The STAC item
follows the machine-learning-model extension, https://stac-extensions.github.io/mlm/ (1.6).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kgsm_infer.app.output import in_words
from kgsm_infer.base import flags
from kgsm_infer.base.files import write_whole
from kgsm_infer.model.card import Card

from ..evaluation.metrics import number
from ..learning.samples import Source

MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.6.0/schema.json"
FILE_SCHEMA = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
#: sha2-256 and its length, as the multihash of the file extension begins.
MULTIHASH_SHA256 = "1220"


def write_model_card(folder: Path, card: Card) -> Path:
    """Write ``MODEL_CARD.md`` into the folder of the model's files."""
    path = folder / "MODEL_CARD.md"
    with write_whole(path) as out:
        out.write(model_card(card))
    return path


def model_card(card: Card) -> str:
    """Format the card as Markdown."""
    data, wcm = card.training_data, card.wcm
    title = "knowledge-guided LSTM" if wcm else "LSTM on raw backscatter"
    lines = [f"# Soil moisture from Sentinel-1: {title}", ""]
    if card.simulated:
        lines += [
            "> **SIMULATED DATA.** This model was trained on simulated observations. It shows that "
            "the method works; it does not know real soil.",
            "",
        ]
    if card.no_skill:
        lines += [f"> **No skill.** {card.no_skill} Every number carries the flag `no_skill`.", ""]
    lines += [
        f"Surface soil moisture (0–5 cm, m³/m³) of the last of {card.steps} acquisitions of "
        "one place. Made by kgsm; method of Yu, Filippi and Bishop.",
        "",
        "## Use",
        "",
        "    kgsm-infer predict model.onnx observations.csv -o soil_moisture.csv",
        "",
        "or any ONNX runtime with `model.onnx`: isolation, gaps, scaling, LSTM, NaN and flags are "
        "in the graph, for N of at least 1 window. Meant for places and seasons like those of the "
        "training data; a row unlike them is flagged `outside_domain`. Not for irrigation control "
        "without a look at the flags.",
        "",
        "## Inputs",
        "",
        "| input | unit | mean in training | standard deviation |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {channel.name} ({channel.role}) | {channel.unit} | {channel.mean:.4g} | "
        f"{channel.std:.4g} |"
        for channel in card.channels
    ]
    low, high = card.limits.sigma0_db
    lines += [
        "",
        f"σ⁰ of {card.polarisation.upper()} from {low:g} to {high:g} dB. Values beyond these "
        "limits give NaN and the flag `input_out_of_range`.",
        "",
    ]
    if wcm:
        angle = "the angle column" if wcm.needs_angle else f"{wcm.angle_ref_deg:g}° throughout"
        lines += [
            f"Water cloud model: A = {wcm.a:.5f} (learnt), B = {wcm.b:g}, E = {wcm.e:g}; "
            f"vegetation water content by rule `{wcm.vwc_rule}`; incidence angle: {angle}. Below a "
            f"soil fraction of {wcm.min_soil_fraction:g} the result is NaN with the flag "
            "`soil_signal_lost`.",
            "",
        ]
    words = in_words(card)
    if words:
        lines += ["## Physics head", "", "```", *words, "```", ""]
    lines += [
        "## Training data",
        "",
        f"{data['samples']} labelled samples of {data['sites']} sites, {data['first']} to "
        f"{data['last']}. Licence: {data['licence']}. Table sha256 `{data['sha256']}`.",
        "",
        "## How well",
        "",
    ]
    if card.validation:
        lines += _how_well(card.validation)
    else:
        lines += ["Not cross-validated: nothing is known of its error.", ""]
    if card.interval:
        lines += [
            f"`sm_lower` … `sm_upper` is a {card.interval['level']:.0%} interval "
            f"({card.interval['method']}, {card.interval['groups']} groups): "
            f"{card.interval['lower']:+.3f} to {card.interval['upper']:+.3f} m³/m³ where nothing "
            f"scales it{_scaled(card.interval)}. Interval coverage on dates and groups that it "
            f"was made without: {card.interval['cross_coverage']:.1%} of the labels"
            f"{_coverage_ranges(card.interval)}.",
            "",
        ]
    else:
        lines += ["No interval: `sm_lower` and `sm_upper` stay empty.", ""]
    lines += [
        "## Limits",
        "",
        f"- Flags: {', '.join(f'`{name}`' for name in flags.NAMES)}. With the first three and "
        "`frozen_or_snow` the value is NaN.",
        "- Frozen soil looks dry to radar; give `temp_c` or `snow_cover` to have it flagged.",
        "- Domain check: "
        + ("dissimilarity index against the training data." if card.domain else "none."),
        f"- {card.members} members of {card.hidden} hidden units; kgsm {card.kgsm_version}.",
    ]
    return "\n".join(lines) + "\n"


def _how_well(scores: Mapping[str, Any]) -> list[str]:
    """Format the scores of each regime, the headline first."""
    lines = [
        f"In {scores['folds']} folds of groups and {scores.get('blocks', 0)} blocks of dates, each "
        "row predicted by a model that had not seen its group, its date, or either:",
        "",
        "| asked of | rows | groups | dates | RMSE | bias | R | R within dates | field-mean RMSE "
        "| field-mean R |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    first = scores.get("regime", "new groups")
    regimes = {first: scores}
    if scores.get("measured_vegetation"):
        regimes[f"{first}, vegetation measured on the date"] = scores["measured_vegetation"]
    regimes |= scores.get("other", {})
    for name, one in regimes.items():
        mean = one.get("group_mean") or {"rmse": None, "r": None}
        lines.append(
            f"| {name} | {one['n']} | {one['groups']} | {one.get('dates', '–')} | "
            f"{number(one['rmse'], '.4f')} | {number(one['bias'], '+.4f')} | "
            f"{number(one['r'], '.3f')} | "
            f"{number((one.get('within_dates') or {}).get('r'), '.2f')} | "
            f"{number(mean['rmse'], '.4f')} | {number(mean['r'], '.3f')} |"
        )
    note = [f"No score on new dates: {scores['note']}.", ""] if scores.get("note") else []
    within = scores.get("within_dates") or {}
    low = (within.get("interval_95") or (None, None))[0]
    if low is not None and low <= 0:
        note.append("The model cannot rank fields on one day: R within dates is not above 0.")
        note.append("")
    return [*lines, "", *note]


def _coverage_ranges(interval: Mapping[str, Any]) -> str:
    """Return the range of the interval coverage over dates and over groups."""
    text = ""
    for by in ("date", "group"):
        values = list((interval.get(f"coverage_by_{by}") or {}).values())
        text += f", by {by} from {min(values):.0%} to {max(values):.0%}" if values else ""
    return text


def _scaled(interval: Mapping[str, Any]) -> str:
    """Describe the terms that scale an interval, and that of a field's mean."""
    text = ""
    if interval.get("terms"):
        names = ", ".join(term["name"] for term in interval["terms"])
        low, high = interval["bounds"]
        text = f", {low:g} to {high:g} times that by {names}"
    field = interval.get("field")
    if field:
        text += f"; for the mean of a field {field['lower']:+.3f} to {field['upper']:+.3f}"
    return text


def write_stac_item(folder: Path, card: Card, source: Source, name: str = "model") -> Path:
    """Write ``NAME.stac.json`` for the files NAME.onnx and NAME.core.onnx in ``folder``."""
    path = folder / f"{name}.stac.json"
    item = stac_item(folder, card, source, name)
    with write_whole(path) as out:
        out.write(json.dumps(item, indent=1, allow_nan=False) + "\n")
    return path


def stac_item(folder: Path, card: Card, source: Source, name: str) -> dict[str, Any]:
    """Make a STAC item with the MLM extension, as plain JSON values.

    Its place is the box around the training sites, or none where the table has no lat, lon.
    """
    box = _box(source)
    data = card.training_data
    properties: dict[str, Any] = {
        "datetime": None,
        "start_datetime": f"{data['first']}Z",
        "end_datetime": f"{data['last']}Z",
        "description": "Surface soil moisture (0-5 cm, m3 m-3) from Sentinel-1 backscatter"
        + (". SIMULATED DATA" if card.simulated else ""),
        "mlm:name": f"kgsm {card.kind}",
        "mlm:architecture": "LSTM",
        "mlm:tasks": ["regression"],
        "mlm:framework": "ONNX",
        "mlm:accelerator_constrained": False,
        "mlm:pretrained": True,
        "mlm:pretrained_source": None,
        "mlm:total_parameters": _parameters(card),
        "mlm:hyperparameters": {
            "steps": card.steps,
            "hidden": card.hidden,
            "members": card.members,
            **({"A": card.wcm.a, "B": card.wcm.b, "E": card.wcm.e} if card.wcm else {}),
        },
        "mlm:input": _inputs(card),
        "mlm:output": [
            {
                "name": "sm",
                "tasks": ["regression"],
                "result": {"shape": [-1], "dim_order": ["batch"], "data_type": "float32"},
                "classification:classes": [],
                "post_processing_function": None,
            }
        ],
    }
    if box:
        west, south, east, north = box
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM_SCHEMA, FILE_SCHEMA],
        "id": f"kgsm-{card.kind}-{card.graph_sha256['complete'][:12]}",
        **({"bbox": list(box)} if box else {}),
        "geometry": {"type": "Polygon", "coordinates": [ring]} if box else None,
        "properties": properties,
        "links": [],
        "assets": {
            "model": _asset(folder / f"{name}.onnx", "Everything in one graph", ["mlm:model"]),
            "core": _asset(
                folder / f"{name}.core.onnx", "The LSTM behind the C core", ["mlm:weights"]
            ),
        },
    }


def _inputs(card: Card) -> list[dict[str, Any]]:
    """List the inputs of the complete graph, in its order."""
    plane: tuple[list[int], list[str]] = ([-1, card.steps], ["batch", "time"])
    found = [_input("sigma0_db", [f"{card.polarisation}_db"], *plane)]
    if card.wcm:
        found.append(_input(card.wcm.vegetation_name, [card.wcm.vegetation_name], *plane))
        if card.wcm.needs_angle:
            found.append(_input("angle_deg", ["angle_deg"], *plane))
    found.append(_input("day", ["day"], *plane))
    dynamic, statics = card.names("dynamic"), card.names("static")
    if dynamic:
        shape = [-1, card.steps, len(dynamic)]
        found.append(_input("features", dynamic, shape, ["batch", "time", "variable"]))
    if statics:
        found.append(_input("statics", statics, [-1, len(statics)], ["batch", "variable"]))
    return found


def _input(
    name: str, variables: Sequence[str], shape: Sequence[int], dim_order: Sequence[str]
) -> dict[str, Any]:
    return {
        "name": name,
        "bands": [],
        "variables": list(variables),
        "input": {"shape": list(shape), "dim_order": list(dim_order), "data_type": "float32"},
        "value_scaling": None,  # the graph scales
        "resize_type": None,
        "pre_processing_function": None,
    }


def _asset(path: Path, title: str, roles: Sequence[str]) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "href": f"./{path.name}",
        "title": title,
        "type": "application/octet-stream; framework=onnx",
        "roles": [*roles, "data"],
        "mlm:artifact_type": "onnx",
        "file:size": len(content),
        "file:checksum": MULTIHASH_SHA256 + hashlib.sha256(content).hexdigest(),
    }


def _parameters(card: Card) -> int:
    """Count weights and biases of the LSTMs and heads, and A where it is learnt."""
    channels, hidden = card.layout.channels, card.hidden
    lstm = 4 * hidden * (channels + hidden + 2)
    return card.members * (lstm + hidden + 1) + (card.wcm is not None)


def _box(source: Source) -> tuple[float, float, float, float] | None:
    numbers: Mapping[str, Any] = source.table.numbers
    if "lat" not in numbers or "lon" not in numbers:
        return None
    lat, lon = (np.asarray(numbers[name])[np.isfinite(numbers[name])] for name in ("lat", "lon"))
    if not len(lat) or not len(lon):
        return None
    box = (lon.min(), lat.min(), lon.max(), lat.max())
    west, south, east, north = (round(float(value), 6) for value in box)
    return west, south, east, north
