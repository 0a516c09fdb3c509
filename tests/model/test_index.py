"""The label-free index: its formula, its flags, its file, and what it is worth on Anand."""

from __future__ import annotations

import csv
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import kgsm_infer
from kgsm_infer.app.cli import app
from kgsm_infer.base import flags
from kgsm_infer.base.errors import UsageError
from kgsm_infer.model.index import SoilLimits, stated_limits, wetness_model, wetness_of
from kgsm_infer.model.onnx_reader import SHIPPED, read_model_file
from kgsm_infer.tables.table import table_from_columns

DATES = [f"2024-{month:02d}-05" for month in range(1, 8)]


def fields(dates: int = 7, count: int = 12, seed: int = 0) -> dict[str, list[object]]:
    """Fields of one site each, VH between -20 and -12 dB."""
    rng = np.random.default_rng(seed)
    rows = [(f"f{i}", date) for date in DATES[:dates] for i in range(count)]
    return {
        "site": [site for site, _ in rows],
        "date": [date for _, date in rows],
        "vh_db": rng.uniform(-20, -12, len(rows)).round(3).tolist(),
        "ndvi": rng.uniform(0.1, 0.5, len(rows)).round(3).tolist(),
    }


LOOKS, USUAL_DB, SWING_DB = 3, -16.8, 3.3


def by_hand(vh_db: list[float], date: list[str], site: list[str], field: list[str]) -> list[float]:
    """The index of each row in plain Python floats, pass by pass; scipy's normal distribution."""
    norm = pytest.importorskip("scipy.stats").norm
    rows = range(len(site))

    def z(row: int) -> float:
        past = [
            vh_db[i]
            for i in rows
            if site[i] == site[row] and date[i] <= date[row] and not math.isnan(vh_db[i])
        ]
        n, mean = len(past), sum(past) / max(len(past), 1)
        variance = sum((x - mean) ** 2 for x in past) / max(n, 1)
        usual = (n * mean + LOOKS * USUAL_DB) / (n + LOOKS)
        return (vh_db[row] - usual) / math.sqrt((n * variance + LOOKS * SWING_DB**2) / (n + LOOKS))

    found = []
    for row in rows:
        in_field: dict[str, list[float]] = {}
        for i in rows:
            if date[i] == date[row] and not math.isnan(vh_db[i]):
                in_field.setdefault(field[i], []).append(z(i))
        means = [sum(values) / len(values) for values in in_field.values()]
        found.append(float(norm.cdf(0.5 * z(row) + 0.5 * sum(means) / len(means))))
    return found


@pytest.mark.parametrize("points", [1, 3])
def test_the_formula_in_float64(points: int) -> None:
    """points: of a field; a field of several points counts once in the mean of the pass."""
    columns = fields(count=5 + points)
    columns["vh_db"][3] = math.nan  # type: ignore[index]
    field = ["a" if int(site[1:]) < points else site for site in columns["site"]]
    expected = by_hand(columns["vh_db"], columns["date"], columns["site"], field)  # type: ignore[arg-type]
    result = wetness_of(table_from_columns({**columns, "field": field}))
    np.testing.assert_allclose(result.sm, expected, rtol=0, atol=1e-6)
    number = np.isfinite(result.sm)
    assert number.sum() == len(field) - 1
    few = np.asarray(columns["date"]) < DATES[4]
    few |= np.asarray(columns["site"]) == "f3"  # one look less
    assert ((result.flags[number] == 0) | few[number]).all()


def test_no_later_pass_is_used() -> None:
    columns = fields()
    whole = wetness_of(table_from_columns(columns)).sm
    until = [date <= DATES[3] for date in columns["date"]]
    early = {name: [x for x, keep in zip(cells, until, strict=True) if keep]
             for name, cells in columns.items()}  # fmt: skip
    np.testing.assert_array_equal(wetness_of(table_from_columns(early)).sm, whole[until])


@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_farm_of_few_fields_has_its_context(count: int) -> None:
    """A value on the first day; from the fifth look on there is no flag."""
    result = wetness_of(table_from_columns(fields(count=count)))
    assert np.isfinite(result.sm).all()
    missing = (result.flags & flags.CONTEXT_MISSING) != 0
    assert missing.reshape(7, count).all(axis=1).tolist() == [True] * 4 + [False] * 3
    assert missing.sum() == 4 * count


def test_missing_vegetation_takes_no_number_away() -> None:
    columns = fields()
    columns["ndvi"] = [0.9 if i == 0 else None for i in range(len(columns["site"]))]
    result = wetness_of(table_from_columns(columns))
    without = wetness_of(table_from_columns({k: v for k, v in columns.items() if k != "ndvi"}))
    np.testing.assert_array_equal(result.sm, without.sm)
    dense = (result.flags & flags.DENSE_VEGETATION) != 0
    assert np.flatnonzero(dense).tolist() == [0]
    np.testing.assert_array_equal(result.flags & ~np.uint16(flags.DENSE_VEGETATION), without.flags)
    given = wetness_of(table_from_columns({**columns, "vwc_kg_m2": [6.0] * len(columns["site"])}))
    assert ((given.flags & flags.DENSE_VEGETATION) != 0).all()


def test_the_shipped_file_is_the_one_that_is_made(tmp_path: Path) -> None:
    from kgsm_train.export.wetness import write_wetness

    made = read_model_file(write_wetness(tmp_path).complete)
    shipped = read_model_file(SHIPPED["wetness"])
    assert shipped.card == made.card and shipped.content == made.content


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_it_is_a_model_like_any_other(engine: str) -> None:
    model = kgsm_infer.load("wetness", engine=engine)
    columns = fields()
    table = table_from_columns({**columns, "field": columns["site"]})
    expected = wetness_of(table_from_columns(columns))
    result = model.predict(table)
    np.testing.assert_allclose(result.sm, expected.sm, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(result.flags, expected.flags)


def test_what_the_radar_cannot_see_through_is_flagged() -> None:
    columns = fields()
    columns["ndvi"][0], columns["vh_db"][1] = 0.9, None  # type: ignore[index]
    columns["temp_c"] = [-3.0 if i == 2 else 8.0 for i in range(len(columns["site"]))]
    result = wetness_of(table_from_columns(columns))
    assert np.isfinite(result.sm[0]) and result.flags[0] & flags.DENSE_VEGETATION
    assert np.isnan(result.sm[1]) and result.flags[1] & flags.MISSING_INPUT
    assert np.isnan(result.sm[2]) and result.flags[2] & flags.FROZEN_OR_SNOW


def test_limits_are_stated_or_there_is_no_soil_moisture() -> None:
    table = table_from_columns(fields())
    index, sm = wetness_of(table), wetness_of(table, SoilLimits(0.05, 0.40, "stated"))
    np.testing.assert_allclose(sm.sm, 0.05 + 0.35 * index.sm, rtol=0, atol=1e-6)
    assert wetness_model().card.quantity == "wetness"
    assert wetness_model(SoilLimits(0.05, 0.40, "stated")).card.quantity == "sm"
    for options in [(0.1, None, None, None), (None, None, 0.4, None), (0.1, 0.3, 0.4, 0.2)]:
        with pytest.raises(UsageError, match="limits"):
            stated_limits(*options)
    with pytest.raises(UsageError, match="0 <= dry < wet <= 1"):
        stated_limits(5.0, 40.0, None, None)
    assert stated_limits(None, None, None, None) is None


def test_a_model_with_limits_stays_one_in_another_process() -> None:
    limited = wetness_model(SoilLimits(0.05, 0.40, "stated"))
    again = pickle.loads(pickle.dumps(limited))
    assert again == limited and again != wetness_model() and again.card.quantity == "sm"
    columns = fields()
    table = table_from_columns({**columns, "field": columns["site"]})
    np.testing.assert_array_equal(again.predict(table).sm, limited.predict(table).sm)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run(*arguments: object, given: bytes | None = None) -> str:
    done = CliRunner().invoke(
        app, [str(item) for item in arguments], catch_exceptions=False, input=given
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_outputs_call_it_what_it_is(tmp_path: Path) -> None:
    columns = fields()
    columns |= {"sand": [0.4] * 84, "clay": [0.2] * 84, "field": columns["site"]}
    with open(tmp_path / "t.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    told = run("wetness", tmp_path / "t.csv", "-o", tmp_path / "o.csv")
    assert "Saxton & Rawls (2006)" in told
    rows = rows_of(tmp_path / "o.csv")
    assert list(rows[0]) == ["site", "date", "wetness", "sm", "sm_dry", "sm_wet", "flags"]
    assert 0.13 < float(rows[0]["sm_dry"]) < 0.15 and 0.45 < float(rows[0]["sm_wet"]) < 0.47
    run("predict", "wetness", tmp_path / "t.csv", "-o", tmp_path / "p.csv")
    rows = rows_of(tmp_path / "p.csv")
    assert list(rows[0]) == ["site", "date", "wetness", "flags"]
    ring = [[149.0, -35.0], [149.01, -35.0], [149.01, -35.01], [149.0, -35.0]]
    feature = {"type": "Feature", "id": "f0", "properties": {},
               "geometry": {"type": "Polygon", "coordinates": [ring]}}  # fmt: skip
    outlines = {"type": "FeatureCollection", "features": [feature]}
    (tmp_path / "f.geojson").write_text(json.dumps(outlines))
    run("paddocks", "wetness", tmp_path / "t.csv", tmp_path / "f.geojson",
        "-o", tmp_path / "p.geojson")  # fmt: skip
    properties = json.loads((tmp_path / "p.geojson").read_text())["features"][0]["properties"]
    assert "wetness" in properties and "sm" not in properties
    assert "no label was used" in run("info", "wetness")


def test_a_table_on_standard_input_is_read_as_predict_reads_it(tmp_path: Path) -> None:
    """With a texture; two rows that contradict each other cost one number, and it is said."""
    columns = fields()
    columns |= {"sand": [0.4] * 84, "clay": [0.2] * 84}
    rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    twice = rows[0].replace(str(columns["vh_db"][0]), "-13.579")
    given = "\n".join([",".join(columns), *rows, twice])
    told = run("wetness", "-", "-o", tmp_path / "o.csv", given=f"{given}\n".encode())
    assert "site f0 twice" in told and "Saxton & Rawls" in told
    found = rows_of(tmp_path / "o.csv")
    assert found[0]["wetness"] == "" and found[0]["flags"].startswith("missing_input")
    assert all(row["sm"] for row in found[1:84])


@pytest.mark.realdata
def test_its_score_on_anand(shared_data: Path) -> None:
    """R and RMSE per point, VH alone, pass by pass, all 14 dates; the typical place is French."""
    from kgsm_train.evaluation.index_score import score_index

    shipped, *others = score_index(shared_data / "anand/dev.csv", 0.05, 0.40, ["sm_copied"])
    assert (shipped.labels, shipped.dates) == (1079, 14)
    assert shipped.r >= 0.585 and shipped.rmse <= 0.104
    assert abs(shipped.r - 0.595) < 0.001 and abs(shipped.rmse - 0.1039) < 0.0002
    assert all(abs(one.r - shipped.r) < 0.01 for one in others), "the prior hardly moves R"
    variances = wetness_model().card.error_variances
    assert variances is not None
    for name in ("date", "field", "point"):
        assert abs(variances[name] - getattr(shipped.error, name)) < 5e-5
