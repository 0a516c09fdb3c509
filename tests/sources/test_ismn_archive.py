"""Whatever an ISMN folder holds: the archive's root, a network, a station, broken series."""

from __future__ import annotations

import random
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError
from kgsm_train.sources.columns import write_source
from kgsm_train.sources.ismn import SensorSelection, read_ismn

pytest.importorskip("ismn", reason="the extra [ismn] is not installed")
# a deprecation inside the ismn package, of pandas
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

NAME = "{net}_{net}_{station}_sm_0.050000_0.050000_Probe-A_20150101_20151231.stm"
SERIES = (
    "{net} {net} {station} 50.00000 10.00000 100.00 0.05 0.05 Probe-A\n"
    "2015/12/01 05:00 0.21 G OK\n2015/12/01 06:00 0.23 G OK\n"
)


def station(root, net="NETX", name="St1"):
    folder = root / net / name
    folder.mkdir(parents=True)
    path = folder / NAME.format(net=net, station=name)
    path.write_text(SERIES.format(net=net, station=name))
    return path


@pytest.mark.parametrize("below", ["", "NETX", "NETX/St1"])
def test_root_network_and_station_folders_give_the_same_row(tmp_path, below):
    station(tmp_path / "archive")
    table = read_ismn([tmp_path / "archive" / below]).columns
    assert table["site"].tolist() == ["NETX_St1_Probe-A_0.05-0.05m"]
    assert table["cluster"].tolist() == ["NETX"]
    np.testing.assert_allclose(table["sm"], [0.22])


def test_a_relative_folder_and_a_series_moved_elsewhere_keep_their_names(tmp_path, monkeypatch):
    path = station(tmp_path / "archive")
    monkeypatch.chdir(path.parent)
    assert read_ismn(["."]).columns["station"].tolist() == ["NETX_St1"]
    moved = tmp_path / "somewhere" / "else"
    moved.mkdir(parents=True)
    path.rename(moved / path.name)
    assert read_ismn([moved]).columns["station"].tolist() == ["NETX_St1"]
    with pytest.raises(DataError, match="is one series; give its station's folder"):
        read_ismn([moved / path.name])


BROKEN = {
    "empty": b"",
    "binary": bytes(range(256)) * 4,
    "header alone": b"NETX NETX Bad 50.0 10.0 100.0 0.05 0.05 Probe-A\n",
    "half a header": b"NETX NETX\n2015/12/01 05:00 0.21 G OK\n",
    "no place": b"NETX NETX Bad x y z 0.05 0.05 Probe-A\n2015/12/01 05:00 0.21 G OK\n",
    "no numbers": b"NETX NETX Bad 50 10 100 0.05 0.05 Probe-A\n2015/12/01 05:00 wet G OK\n",
    "true": b"NETX NETX Bad 50 10 100 0.05 0.05 Probe-A\n2015/12/01 05:00 true G OK\n",
    "date of five parts": (
        b"NETX NETX Bad 50 10 100 0.05 0.05 Probe-A\n2015/12/12/01 05:00 0.2 G OK\n"
        b"2015/12/01 06:00 0.2 G OK\n"
    ),
    "no dates": b"NETX NETX Bad 50 10 100 0.05 0.05 Probe-A\nyesterday 05:00 0.2 G OK\n",
    "a web page": b"<html><body>log in</body></html>",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_broken_series_costs_itself_and_is_said(tmp_path, kind, zipped):
    root = tmp_path / "archive"
    station(root)
    station(root, name="Bad").write_bytes(BROKEN[kind])
    for junk in (root / "readme.txt", root / "NETX" / "St1" / "._x.stm", root / "NETX" / "a.xml"):
        junk.write_bytes(b"\x00\xff")
    given = root
    if zipped:
        given = tmp_path / "archive.zip"
        with zipfile.ZipFile(given, "w") as content:
            for file in sorted(root.rglob("*")):
                content.write(file, file.relative_to(tmp_path))
    table = read_ismn([given])
    assert set(table.columns["station"]) == {"NETX_St1"}
    assert any("Bad" in note or "1 of 2 files" in note for note in table.notes)
    alone = root / "NETX" / "Bad"
    with pytest.raises(DataError, match="archive"):
        read_ismn([alone])


@pytest.mark.slow
def test_no_damage_to_an_archive_ends_in_anything_but_a_reason(tmp_path):
    rng = random.Random(1)
    for number in range(60):
        root = tmp_path / str(number)
        path = station(root)
        station(root, name="St2")
        raw = bytearray(path.read_bytes())
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(raw))
            if rng.random() < 0.3:
                del raw[at : at + rng.randint(1, 30)]
            else:
                raw[at] = rng.randrange(256)
            if not raw:
                break
        path.write_bytes(bytes(raw))
        with suppress(DataError):
            table = read_ismn([root])
            assert "NETX_St2_Probe-A_0.05-0.05m" in table.columns["site"]
            write_source(root / "out.csv", table)


def series(root, lines, year=2015, name="St1"):
    """Write one file of one sensor; lines without the closing flag of the provider."""
    folder = root / "NETX" / name
    folder.mkdir(parents=True, exist_ok=True)
    file = f"NETX_NETX_{name}_sm_0.050000_0.050000_Probe-A_{year}0101_{year}1231.stm"
    header = f"NETX NETX {name} 50.00000 10.00000 100.00 0.05 0.05 Probe-A\n"
    (folder / file).write_text(header + "".join(f"{line} G OK\n" for line in lines))


EVERY = SensorSelection(when="every")


def test_a_time_with_two_values_is_left_out_and_named(tmp_path):
    series(
        tmp_path / "a", ["2015/10/25 02:00 0.21", "2015/10/25 02:00 0.31", "2015/10/25 03:00 0.23"]
    )
    read = read_ismn([tmp_path / "a"], EVERY)
    assert read.columns["sm"].tolist() == [0.23]
    assert any("1 times with several values" in n and "0.21, 0.31" in n for n in read.notes)


@pytest.mark.parametrize("downloads", [1, 2])
def test_two_files_of_one_sensor_are_one_series(tmp_path, downloads):
    roots = [tmp_path / f"p{k}" for k in range(downloads)]
    series(roots[0], ["2015/12/01 05:00 0.21"])
    series(roots[-1], ["2016/03/01 05:00 0.31"], 2016)
    read = read_ismn(roots, EVERY)
    assert read.columns["sm"].tolist() == [0.21, 0.31]
    assert not any("could not be read" in note for note in read.notes)


def test_two_downloads_that_share_a_day_give_one_mean(tmp_path):
    series(tmp_path / "a", ["2015/12/01 05:00 0.20", "2015/12/01 06:00 0.30"])
    series(tmp_path / "b", ["2015/12/01 06:00 0.30", "2015/12/01 07:00 0.40"])
    read = read_ismn([tmp_path / "a", tmp_path / "b"])
    np.testing.assert_allclose(read.columns["sm"], [0.3])
    assert read.columns["readings"].tolist() == [3]


@pytest.mark.parametrize("value", ["-0.02", "21.0"])
def test_an_impossible_reading_costs_itself_and_is_named(tmp_path, value):
    series(tmp_path / "a", [f"2015/12/01 05:00 {value}", "2015/12/02 05:00 0.12"])
    series(tmp_path / "a", ["2015/12/01 05:00 0.21"], name="St2")
    read = read_ismn([tmp_path / "a"], EVERY)
    write_source(tmp_path / "o.csv", read)
    assert read.columns["sm"].tolist() == [0.12, 0.21]
    assert any("St1" in n and f"{float(value):g} is not a soil moisture" in n for n in read.notes)


def test_an_archive_of_impossible_readings_names_the_cause(tmp_path):
    series(tmp_path / "a", ["2015/12/01 05:00 21.0"])
    with pytest.raises(DataError, match="21 is not a soil moisture"):
        read_ismn([tmp_path / "a"])


@pytest.mark.parametrize("when", ["0000/12/02 06:00", '"" 06:00', "2315/12/02 06:00"])
def test_a_reading_without_a_possible_date_is_left_out(tmp_path, when):
    root = tmp_path / "archive"
    series(root, ["2015/12/01 06:00 0.21", f"{when} 0.4", "2015/12/01 18:00 0.21"])
    table = read_ismn([root])
    assert table.columns["date"].tolist() == ["2015-12-01"]
    np.testing.assert_allclose(table.columns["sm"], [0.21])
    assert any("without a date from 1900 to 2100" in note for note in table.notes)


@pytest.mark.parametrize("content", ["", "\ufeffNETX NETX St1 50 10 100 0.05 0.05 P\n", "<html>"])
def test_a_station_without_a_readable_series_has_its_cause(tmp_path, content):
    place = tmp_path / "NETX" / "St1"
    place.mkdir(parents=True)
    name = "NETX_NETX_St1_sm_0.050000_0.050000_P_20150101_20151231.stm"
    (place / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="no series of it has a header and a first reading"):
        read_ismn([tmp_path])
