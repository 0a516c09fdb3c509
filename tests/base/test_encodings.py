"""Every file of text is read with a byte order mark, and UTF-16 is named as the cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from kgsm_infer.base.errors import KgsmError
from kgsm_infer.base.schema import parse_json, parse_toml

OUTLINE = {
    "type": "Feature", "id": "a", "properties": {},
    "geometry": {"type": "Polygon", "coordinates": [[[1, 1], [1.1, 1], [1.1, 1.1], [1, 1]]]},
}  # fmt: skip
KML = """<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>
<Placemark><ExtendedData><Data name="id"><value>a</value></Data></ExtendedData><Polygon>
<outerBoundaryIs><LinearRing><coordinates>1,1 1.1,1 1.1,1.1 1,1</coordinates></LinearRing>
</outerBoundaryIs></Polygon></Placemark></Document></kml>"""
CONFIG = '[data]\ntable = "t.csv"\n'
TABLE = "site,date,vh_db\na,2024-01-01,-17\n"


@dataclass(frozen=True)
class TextReader:
    """A file of text and what reads it; the result is compared by its text."""

    name: str
    content: str | Callable[[], str]
    read: Callable[[Path], Any]


def manifest(path: Path) -> Any:
    from kgsm_infer.scenes.manifest import read_scene

    return {name: layer.value for name, layer in read_scene(path).layers.items()}


def outlines(path: Path) -> Any:
    from kgsm_infer.scenes.outlines import read_outlines

    found = read_outlines(path)
    return found.ids, found.geometries


def config(path: Path) -> Any:
    from kgsm_train.config import read_config

    path.with_name("t.csv").write_text(TABLE)
    return read_config(path).inputs


def defaults(path: Path) -> Any:
    from kgsm_infer.app.cli import app
    from kgsm_infer.app.defaults import read_defaults

    return read_defaults(path, typer.main.get_command(app))


def parameters(path: Path) -> Any:
    from kgsm_infer.daily.parameters import read_parameters

    return read_parameters(path)


def gateway(path: Path) -> Any:
    from kgsm_infer.gateway.config import read_gateway

    return read_gateway(path)


def table(path: Path) -> Any:
    from kgsm_infer.tables.table import read_table

    found = read_table(path)
    return found.site, found.date_text, found.numbers


def weather(path: Path) -> Any:
    from kgsm_infer.tables.reading import read_sheet

    return {name: list(map(str, values)) for name, values in read_sheet(path).columns.items()}


def state(path: Path) -> Any:
    from kgsm_infer.context.state_file import read_past

    return read_past(path).past


def state_text() -> str:
    import tempfile

    from kgsm_infer.context.definitions import HistoryRule, Typical
    from kgsm_infer.context.state_file import compare_table, write_past
    from kgsm_infer.tables.table import table_from_columns

    dates = np.arange("2023-01-01", "2023-01-13", dtype="M8[D]").astype(str)
    columns = {"site": ["Ca\u0303o"] * 12, "orbit": ["44"] * 12, "date": dates}
    made = table_from_columns({**columns, "vh_db": np.linspace(-20, -15, 12)})
    rule = HistoryRule("past", {"vh": Typical(3.0, -17.0, 2.0)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "past.csv"
        write_past(path, compare_table(made, ["vh_anomaly"], rule, {}, 2).past)
        return path.read_text(encoding="utf-8")


def parameters_text() -> str:
    from kgsm_infer.base.schema import as_plain
    from kgsm_infer.daily.parameters import read_parameters

    return json.dumps(as_plain(read_parameters("oznet")))


SETTINGS = [
    TextReader("m.toml", 'title = "é"\n[layers.vh_db]\nvalue = -17.0\n', manifest),
    TextReader("m.json", '{"layers": {"vh_db": {"value": -17.0}}}', manifest),
    TextReader("o.geojson", json.dumps(OUTLINE), outlines),
    TextReader("c.toml", CONFIG, config),
    TextReader("d.toml", "[paddocks]\nmin-valid = 0.5\n", defaults),
    TextReader("p.json", parameters_text, parameters),
]  # fmt: skip
TABLES = [
    TextReader("t.csv", TABLE, table),
    TextReader("w.csv", "date,rain_mm\n2024-01-01,3.5\n", weather),
    TextReader("past.csv", state_text, state),
]


def both(reader: TextReader, folder: Path, encoding: str) -> tuple[str, Path]:
    content = reader.content if isinstance(reader.content, str) else reader.content()
    path = folder / reader.name
    path.write_bytes(content.encode("utf-8"))
    expected = repr(reader.read(path))
    path.write_bytes(content.encode(encoding))
    return expected, path


@pytest.mark.parametrize("reader", SETTINGS + TABLES, ids=lambda reader: reader.name)
def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path, reader: TextReader) -> None:
    expected, path = both(reader, tmp_path, "utf-8-sig")
    assert repr(reader.read(path)) == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("reader", SETTINGS, ids=lambda reader: reader.name)
def test_another_encoding_is_named(tmp_path: Path, reader: TextReader, encoding: str) -> None:
    _, path = both(reader, tmp_path, encoding)
    cause = "UTF-32" if encoding == "utf-32" else "UTF-16"
    with pytest.raises(KgsmError, match=f"{cause} text; save it as UTF-8"):
        reader.read(path)


@pytest.mark.parametrize("reader", TABLES, ids=lambda reader: reader.name)
def test_tables_of_spreadsheets_may_be_utf_16(tmp_path: Path, reader: TextReader) -> None:
    """Excel saves "Unicode text" so, with a mark."""
    expected, path = both(reader, tmp_path, "utf-16")
    assert repr(reader.read(path)) == expected
    path.write_bytes(path.read_bytes()[2:])
    with pytest.raises(KgsmError, match="UTF-16"):
        reader.read(path)


def test_kml_with_a_byte_order_mark(tmp_path: Path) -> None:
    pytest.importorskip("pyogrio")
    plain, marked = tmp_path / "a.kml", tmp_path / "b.kml"
    plain.write_text(KML)
    marked.write_bytes(b"\xef\xbb\xbf" + KML.encode())
    assert outlines(plain) == outlines(marked)


def test_texts_with_a_byte_order_mark() -> None:
    assert parse_toml("\ufeffa = 1") == parse_json("\ufeff" + '{"a": 1}') == {"a": 1}
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match=r"not UTF-8 text \(byte 5\)"):
        parse_json(b'{"a":\xe9}')
