"""One canonical form of a key in every reader that compares keys.

12 and 12.0, composed (NFC) and decomposed (NFD) letters, bytes of Parquet, and orbits with and
without decimals or in another case are one key; the change is noted.
"""

from __future__ import annotations

import json
import string
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgsm_infer.base.errors import DataError
from kgsm_infer.context.state_file import Key, read_past, write_past
from kgsm_infer.daily.forcing import read_irrigation
from kgsm_infer.daily.series import read_series, select
from kgsm_infer.daily.units import read_settings
from kgsm_infer.probes import read_probes
from kgsm_infer.scenes.outlines import read_outlines
from kgsm_infer.tables.keys import canonical_id, canonical_orbit
from kgsm_infer.tables.table import read_table, table_from_columns
from kgsm_infer.tables.text_column import TextColumn, decoded
from kgsm_infer.tables.weather import read_weather, with_weather
from kgsm_train.sources.earth_engine import read_earth_engine

NFC, NFD = (unicodedata.normalize(form, "Região São João") for form in ("NFC", "NFD"))
#: Spellings of one key -> its canonical form.
SPELLINGS = [
    *[("12", spelling) for spelling in ("12", "12.0", "12.00", " 12 ", "\ufeff12")],
    *[(NFC, spelling) for spelling in (NFC, NFD, NFD.replace(" ", "\u00a0"), f"{NFC}\u200b")],
    *[("100000", spelling) for spelling in ("100000", "1e+05", "100000.0")],
]
OTHERS = ["012", "12.5", "-12", "12a", "1e5x", "North", "north", "NORTH", "12 0"]


def table_of(**columns):
    rows = len(next(iter(columns.values())))
    made = {"date": [f"2024-05-{day:02d}" for day in range(1, rows + 1)], "vh_db": [-15.0] * rows}
    return table_from_columns({**made, **columns})


@pytest.mark.parametrize(("canonical", "spelling"), SPELLINGS)
def test_spellings_have_one_canonical_form(canonical, spelling):
    assert canonical_id(spelling) == canonical
    assert canonical_id(spelling.encode()) == canonical


def test_other_names_stay_apart():
    assert len({canonical_id(name) for name in OTHERS}) == len(OTHERS)
    assert [canonical_id(name) for name in OTHERS] == OTHERS


@given(st.text(max_size=12))
def test_the_canonical_form_is_its_own(text):
    assert canonical_id(canonical_id(text)) == canonical_id(text)
    assert canonical_orbit(canonical_orbit(text)) == canonical_orbit(text)
    assert canonical_id(unicodedata.normalize("NFD", text)) == canonical_id(text)


@given(st.integers(-(2**52), 2**52))
def test_a_whole_number_is_one_key_as_integer_float_and_text(number):
    spellings = (number, float(number), str(number), f"{number}.0", np.float64(number))
    spelt = {canonical_id(spelling) for spelling in spellings if "e" not in str(spelling)}
    assert spelt == {str(number)}


@given(st.text(string.ascii_letters + string.digits + " _-", min_size=1, max_size=8))
def test_bytes_and_fixed_widths_are_text(name):
    assert canonical_id(np.bytes_(name.encode())) == canonical_id(name)
    assert decoded(name.encode() + b"\0\0\0") == name


@pytest.mark.parametrize("column", ["site", "field", "cell", "paddock"])
@pytest.mark.parametrize(("canonical", "spelling"), SPELLINGS)
def test_every_key_column_of_a_table(column, canonical, spelling):
    keys = {"site": ["a", "a"]} if column != "site" else {}
    table = table_of(**keys, **{column: [canonical, spelling]})
    found = table.site if column == "site" else table.text[column]
    assert list(found) == [canonical, canonical]
    changed = spelling.strip() not in (canonical, f"\ufeff{canonical}")
    assert any(f"column {column}: " in note for note in table.notes) >= changed


def test_the_note_tells_letters_apart_that_look_alike():
    table = table_of(site=[NFC, NFD])
    assert table.notes == (f"table: column site: {ascii(NFD)[1:-1]} is read as {ascii(NFC)[1:-1]}",)


@pytest.mark.parametrize(
    "spellings",
    [
        ("69", "69.0", "069", 69, 69.0),
        ("DESCENDING", "descending", "Desc", "DESC "),
        ("DESCENDING-16", "descending_16", "Descending 16.0"),
    ],
)
def test_orbits(spellings):
    table = table_of(site=["a"] * len(spellings), orbit=[str(one) for one in spellings])
    assert set(table.text["orbit"]) == {spellings[0]}


def test_a_file_with_decimal_commas(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("site;date;vh_db\n12;2024-05-01;-15,5\n12,0;2024-05-13;-16,5\n")
    assert list(read_table(path).site) == ["12", "12"]


@pytest.mark.parametrize("kind", ["binary", "large_binary", "fixed", "dictionary", "view"])
def test_parquet_names_of_bytes(tmp_path, kind):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    types = {
        "binary": pyarrow.binary(),
        "large_binary": pyarrow.large_binary(),
        "fixed": pyarrow.binary(5),
        "view": pyarrow.binary(),
        "dictionary": pyarrow.binary(),
    }
    names = pyarrow.array([b"north", b"south", None], types[kind])
    if kind == "dictionary":
        names = names.dictionary_encode()
    table = pyarrow.table(
        {"site": ["a", "b", "c"], "date": ["2024-05-01"] * 3, "field": names, "vh_db": [-15.0] * 3}
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    assert list(read_table(tmp_path / "t.parquet").text["field"]) == ["north", "south", ""]


def test_bytes_that_are_not_text_are_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"site": [b"\xff\xfe"], "date": ["2024-05-01"], "vh_db": [-15.0]})
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: column site: .*is not UTF-8 text"):
        read_table(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column site: .*is not UTF-8 text"):
        table_of(site=[b"\xff", b"a"])


def test_numbers_and_dates_of_bytes():
    table = table_of(site=[b"a", b"a"], vh_db=[b"-15.5", b""], date=[b"2024-05-01", b"2024-05-13"])
    assert table.numbers["vh_db"][0] == -15.5 and np.isnan(table.numbers["vh_db"][1])


def test_names_of_columns_as_bytes():
    table = table_from_columns({b"site": ["a"], b"date": ["2024-05-01"], b"vh_db": [-15.0]})
    assert table.numbers["vh_db"].tolist() == [-15.0]


@pytest.mark.parametrize(("canonical", "spelling"), SPELLINGS)
def test_probes(tmp_path, canonical, spelling):
    path = tmp_path / "probes.csv"
    path.write_text(f"site,date,sm\n{spelling},2024-05-01,0.2\n", "utf-8")
    assert list(read_probes(path).site) == [canonical]


@pytest.mark.parametrize(("canonical", "spelling"), SPELLINGS)
def test_weather(tmp_path, canonical, spelling):
    path = tmp_path / "rain.csv"
    days = "".join(f"{spelling},2024-05-{day:02d},{day}\n" for day in range(1, 4))
    path.write_text(f"site,date,rain_mm\n{days}", "utf-8")
    weather = read_weather(path)
    assert list(weather.places) == [canonical]
    table = with_weather(table_of(site=[canonical]), weather, ["rain_day_mm"])
    assert table.numbers["rain_day_mm"].tolist() == [1.0]
    assert (weather.note in table.notes) or not weather.note


def test_one_day_of_one_place_in_two_spellings_is_twice(tmp_path):
    path = tmp_path / "rain.csv"
    path.write_text("site,date,rain_mm\n12,2024-05-01,1\n12.0,2024-05-01,2\n")
    with pytest.raises(DataError, match="rows 2 and 3: one day twice"):
        read_weather(path)


@pytest.mark.parametrize(("canonical", "spelling"), SPELLINGS)
@pytest.mark.parametrize("by", ["id", "name"])
def test_outlines_of_geojson(tmp_path, canonical, spelling, by):
    square = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    feature = {"type": "Feature", "properties": {by: spelling, "sand": 0.4}, "geometry": square}
    path = tmp_path / "farm.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}), "utf-8")
    assert read_outlines(path, None if by == "id" else by).ids == (canonical,)
    if by == "id":
        assert read_settings(path) == {canonical: {"sand": 0.4}}


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb"])
@pytest.mark.parametrize(("canonical", "value"), [("12", 12), ("12", 12.0), (NFC, NFD)])
def test_outlines_of_other_formats(tmp_path, canonical, value, suffix):
    pyogrio = pytest.importorskip("pyogrio", reason="other formats need kgsm[raster]")
    shapely = pytest.importorskip("shapely", reason="other formats need kgsm[raster]")
    path = tmp_path / f"farm{suffix}"
    pyogrio.raw.write(
        path,
        np.asarray([shapely.to_wkb(shapely.box(0, 0, 1, 1))], object),
        [np.asarray([value])],
        ["paddock"],
        geometry_type="Polygon",
        crs="EPSG:4326",
    )
    assert read_outlines(path, "paddock").ids == (canonical,)


def test_outlines_in_two_spellings_occur_twice(tmp_path):
    square = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    features = [
        {"type": "Feature", "properties": {"id": name}, "geometry": square} for name in (NFC, NFD)
    ]
    path = tmp_path / "farm.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    with pytest.raises(DataError, match="occurs twice"):
        read_outlines(path)


@pytest.mark.parametrize(("canonical", "spelling"), SPELLINGS)
def test_irrigation_and_settings(tmp_path, canonical, spelling):
    path = tmp_path / "water.csv"
    path.write_text(f"paddock,date,mm\n{spelling},2024-05-01,20\n", "utf-8")
    assert read_irrigation(path, (canonical,)).paddock == (canonical,)
    path.write_text(f"site,sand,clay\n{spelling},0.4,0.2\n", "utf-8")
    assert list(read_settings(path)) == [canonical]


def test_the_paddock_of_a_chart(tmp_path):
    path = tmp_path / "values.csv"
    path.write_text(f"id,date,sm\n{NFD},2024-05-01,0.2\n12.0,2024-05-01,0.3\n", "utf-8")
    series = read_series(path)
    assert [one.name for one in select(series, [NFC, "12"])] == [NFC, "12"]
    assert [one.name for one in select(series, [NFD, "12.0"])] == [NFC, "12"]


def test_the_state_file(tmp_path):
    path = tmp_path / "past.csv"
    write_past(path, {Key("site", name, "69.0", "vh_db"): None for name in ()})
    row = "2,site,{},{},vh_db,0,,,,,,,2024-05-01T05:30:00=-15.0\n"
    head = path.read_text()
    path.write_text(head + row.format("12.0", "descending-69.0") + row.format(NFD, "69"), "utf-8")
    names = [(key.name, key.orbit) for key in read_past(path).past]
    assert names == [("12", "DESCENDING-69"), (NFC, "69")]
    path.write_text(head + row.format("12.0", "69") + row.format("12", "069"), "utf-8")
    with pytest.raises(DataError, match="row 3, column name: '12': site 12 also occurs"):
        read_past(path)


@pytest.mark.parametrize(("canonical", "spelling"), SPELLINGS)
def test_labels_of_the_training(tmp_path, canonical, spelling):
    export, labels, ndvi = (tmp_path / name for name in ("s1.csv", "sm.csv", "ndvi.csv"))
    export.write_text(
        "site,time,VV,VH,angle,orbit_pass,relative_orbit\n"
        f"{canonical},2024-05-01T05:30:00Z,-9,-15,38,descending,69.0\n",
        "utf-8",
    )
    labels.write_text(f"site,date,sm\n{spelling},2024-05-01T05:00:00Z,0.2\n", "utf-8")
    ndvi.write_text(f"site,time,NDVI\n{spelling},2024-05-02T10:00:00Z,0.4\n", "utf-8")
    joined = read_earth_engine(export, labels, ndvi).columns
    assert joined["site"].tolist() == [canonical]
    assert joined["sm"].tolist() == [0.2] and joined["ndvi"].tolist() == [0.4]
    assert joined["orbit"].tolist() == ["DESCENDING-69"]


def test_an_unchanged_column_is_not_copied():
    column = TextColumn.of(["a", "b", "a"])
    assert column.changed(canonical_id) is column


def test_a_table_of_the_gateway_and_its_outlines(tmp_path):
    from kgsm_infer.gateway.farm import Paddocks
    from kgsm_infer.gateway.intake.tables import TableRules, rows_of_columns

    square = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    features = [
        {"type": "Feature", "properties": {"id": name}, "geometry": square} for name in (NFC, 12)
    ]
    path = tmp_path / "farm.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    cells = {"site": [NFD, "12.0"], "date": ["2024-05-01"] * 2, "vh_db": [-15.0, -16.0]}
    found = rows_of_columns(cells, "t.csv", TableRules(Paddocks(read_outlines(path)), {}))
    assert [row.paddock for row in found.rows] == [NFC, "12"] and not found.left_out
    assert any("12.0" in note or "Regia" in note for note in found.notes)


def test_probes_of_a_table_in_other_spellings(tmp_path):
    """A probe belongs to the rows of its site, however either file spells it."""
    from kgsm_infer.probes import _rows_of_probe

    path = tmp_path / "probes.csv"
    path.write_text(f"site,date,sm\n12.0,2024-05-01,0.2\n{NFD},2024-05-01,0.3\n", "utf-8")
    probes, table = read_probes(path), table_of(site=["12", NFC])
    fields, here = np.asarray(table.site), np.ones(2, bool)
    found = [_rows_of_probe(table, fields, here, probes, i).tolist() for i in range(2)]
    assert found == [[0], [1]]


COMPOSED, DECOMPOSED = "argilé", "argile\u0301"


@pytest.mark.parametrize("kind", ["csv", "quoted", "parquet", "columns", "frame"])
def test_names_of_columns_have_one_form_which_is_noted(tmp_path, kind) -> None:
    columns = {"\ufeffsite": ["a"], "date": ["2024-01-01"], f" {DECOMPOSED}": [0.25]}
    source: Any = columns
    if kind in ("csv", "quoted"):
        cells = [f'"{name}"' if kind == "quoted" else name for name in columns]
        source = tmp_path / "t.csv"
        source.write_text(f"{','.join(cells)}\na,2024-01-01,0.25\n", encoding="utf-8")
    elif kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        source = tmp_path / "t.parquet"
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), source)
    elif kind == "frame":
        source = pytest.importorskip("pandas").DataFrame(columns)
    table = read_table(source, features=[COMPOSED])
    assert table.numbers[COMPOSED].tolist() == [0.25]
    assert any("argile\\u0301 is read as argil\\xe9" in note for note in table.notes)


def test_two_columns_that_look_alike_are_refused() -> None:
    with pytest.raises(DataError, match=r"column 'argilé' is a duplicate \('argil\\xe9', "):
        read_table({"site": ["a"], "date": ["2024-01-01"], COMPOSED: [0.25], DECOMPOSED: [0.5]})


@pytest.mark.parametrize("kind", ["geojson", "gpkg"])
def test_names_of_properties_have_one_form_which_is_noted(tmp_path, kind) -> None:
    ring = [[1, 1], [1.1, 1], [1.1, 1.1], [1, 1]]
    feature = {
        "type": "Feature",
        "properties": {"cle\u0301": "Ca\u0303o", DECOMPOSED: 0.25},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    path = tmp_path / "f.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    if kind == "gpkg":
        pyogrio = pytest.importorskip("pyogrio")
        shapely = pytest.importorskip("shapely")
        geometry = np.asarray([shapely.to_wkb(shapely.Polygon(ring))], object)
        path = tmp_path / "f.gpkg"
        values = [np.asarray(["Ca\u0303o"], object), np.asarray([0.25])]
        pyogrio.raw.write(
            path,
            geometry,
            values,
            ["cle\u0301", DECOMPOSED],
            geometry_type="Polygon",
            crs="EPSG:4326",
        )
    for asked in ("clé", "cle\u0301"):
        outlines = read_outlines(path, asked)
        assert outlines.ids == ("Cão",)
        assert outlines.properties[0][COMPOSED] == 0.25
        names, ids = outlines.notes
        assert "property cle\\u0301 is read as cl\\xe9, argile\\u0301 is read as" in names
        assert "paddock: Ca\\u0303o is read as C\\xe3o" in ids


def test_layers_of_a_manifest_and_columns_of_a_configuration_have_that_form(tmp_path) -> None:
    from kgsm_infer.scenes.manifest import scene_from
    from kgsm_train.config import Inputs

    assert COMPOSED in scene_from({"layers": {DECOMPOSED: {"value": 0.25}}}, "s").layers
    assert Inputs(statics=(DECOMPOSED,)).statics == (COMPOSED,)


def test_the_column_of_paddocks_is_found_in_either_form(tmp_path) -> None:
    from kgsm_infer.paddocks.of_table import rows_without_outline

    ring = [[1, 1], [1.1, 1], [1.1, 1.1], [1, 1]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    path = tmp_path / "f.geojson"
    path.write_text(json.dumps({"type": "Feature", "id": "a", "properties": {}, "geometry": shape}))
    columns = {"site": ["1"], "date": ["2024-01-01"], DECOMPOSED: ["a"], "vh_db": [-17.0]}
    table = read_table(columns)
    for name in (COMPOSED, DECOMPOSED):
        assert rows_without_outline(table, read_outlines(path), name) == ""
