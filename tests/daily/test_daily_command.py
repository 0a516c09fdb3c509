"""kgsm-infer daily from files to a file."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from made_series import SET

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.daily.command import Request, run_daily
from kgsm_infer.daily.parameters import read_parameters
from kgsm_infer.model.index import wetness_model


@pytest.fixture
def files(tmp_path):
    """Values of two paddocks and a rain file."""
    days = np.datetime64("2024-01-01") + np.arange(80)
    rng = np.random.default_rng(0)
    with open(tmp_path / "rain.csv", "w") as out:
        out.write("date,rain_mm\n")
        out.writelines(f"{day},{8.0 if i % 7 == 0 else 0.0}\n" for i, day in enumerate(days))
    with open(tmp_path / "values.csv", "w") as out:
        out.write("site,date,sm,sm_lower,sm_upper,soil_db,flags\n")
        for i in range(10, 70, 12):
            for site in ("north", "south"):
                sm = 0.2 + rng.normal(0, 0.03)
                out.write(f"{site},{days[i]},{sm:.4f},{sm - 0.13:.4f},{sm + 0.13:.4f},-12,\n")
    return tmp_path


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def request(folder, **changes):
    made = Request(
        folder / "values.csv", folder / "daily.csv", folder / "rain.csv", today="2024-03-10"
    )
    return replace(made, **changes)


def test_a_row_per_paddock_and_day(files):
    done = run_daily(request(files))
    read = rows(files / "daily.csv")
    assert done.paddocks == 2 and done.rows == len(read) == 2 * 67  # 11 January to 17 March
    assert list(read[0])[:5] == ["site", "date", "sm", "sm_lower", "sm_upper"]
    assert [read[0]["site"], read[0]["date"], read[-1]["date"]] == [
        "north",
        "2024-01-11",
        "2024-03-17",
    ]
    for row in read:
        assert float(row["sm_lower"]) <= float(row["sm"]) <= float(row["sm_upper"])
    assert any("'oznet'" in note for note in done.notes)


def test_stated_errors_weigh_the_passes(files):
    run_daily(request(files, sd_point=0.01, sd_date=0.01))
    exact = rows(files / "daily.csv")
    run_daily(request(files, sd_point=0.3, sd_date=0.3))
    vague = rows(files / "daily.csv")
    day = [i for i, row in enumerate(exact) if row["pass_sm"]]
    off = [
        np.mean([abs(float(r[i]["sm"]) - float(r[i]["pass_sm"])) for i in day])
        for r in (exact, vague)
    ]
    assert off[0] < 0.015 < off[1]
    assert all(float(exact[i]["radar_weight"]) > float(vague[i]["radar_weight"]) for i in day)


def test_errors_of_an_index_are_in_its_unit(files):
    text = (files / "values.csv").read_text().splitlines()
    plain = [",".join(line.split(",")[:3]) for line in text]
    (files / "values.csv").write_text("\n".join(plain).replace(",sm", ",wetness") + "\n")
    done = run_daily(request(files, sd_point=0.2, sd_date=0.1))
    assert "error of a pass: 0.200 of a paddock, 0.100 shared by its date" in done.notes
    assert list(rows(files / "daily.csv")[0])[2] == "wetness"
    card = wetness_model().card.error_variances
    done = run_daily(request(files, sd_point=0.2))  # without --model that of the shipped index
    date = card["date"] ** 0.5
    assert f"error of a pass: 0.200 of a paddock, {date:.3f} shared by its date" in done.notes


def test_simulated_data_says_so(files):
    text = (files / "values.csv").read_text().splitlines()
    marked = [text[0] + ",source", *(line + ",simulated" for line in text[1:])]
    (files / "values.csv").write_text("\n".join(marked) + "\n")
    done = run_daily(request(files))
    assert any("simulated" in note for note in done.notes)
    assert {row["source"] for row in rows(files / "daily.csv")} == {"simulated"}


def test_own_parameters(files):
    (files / "own.json").write_text(SET.to_json())
    assert read_parameters(files / "own.json") == SET
    done = run_daily(request(files, parameters=str(files / "own.json")))
    assert not any("fitted on" in note for note in done.notes)
    (files / "own.json").write_text(SET.to_json().replace('"format": 1', '"format": 9'))
    with pytest.raises(DataError, match=r"own.json: .*format 9"):
        read_parameters(files / "own.json")
    (files / "own.json").write_text(
        SET.to_json().replace('"capacity_mm": 35.0', '"capacity_mm": -1')
    )
    with pytest.raises(DataError, match="capacity_mm"):
        read_parameters(files / "own.json")
    with pytest.raises(UsageError, match="shipped: oznet"):
        read_parameters(files / "none.json")


def test_the_other_hemisphere(files):
    run_daily(request(files))
    south = rows(files / "daily.csv")
    run_daily(request(files, hemisphere="north"))
    north = rows(files / "daily.csv")
    assert sum(float(r["sm"]) for r in north) > sum(float(r["sm"]) for r in south)
    with pytest.raises(UsageError, match="--hemisphere 'east'"):
        run_daily(request(files, hemisphere="east"))


def test_a_table_and_a_model(files, tiny_model):
    table = tiny_model / "twin.csv"
    done = run_daily(
        Request(table, files / "daily.csv", model=tiny_model / "model.onnx", sd_point=0.05)
    )
    assert done.rows > 0 and any("simulated" in note for note in done.notes)
    assert {row["source"] for row in rows(files / "daily.csv")} == {"simulated"}


def test_the_command(files):
    command = [sys.executable, "-m", "kgsm_infer.app.cli", "daily", "values.csv"]
    command += ["--weather", "rain.csv", "-o", "out.csv", "--today", "2024-03-10"]
    command += ["--wilting-point", "0.08", "--field-capacity", "0.3", "--root-depth-mm", "600"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "134 rows of 2 paddocks" in done.stdout and "note: parameters" in done.stderr
    read = rows(files / "out.csv")
    assert 0 <= float(read[-1]["available_percent"]) <= 100 and read[-1]["refill_mm"]
    again = subprocess.run(
        [*command[:-2], "-o", "values.csv"], cwd=files, capture_output=True, text=True
    )
    assert again.returncode == 2 and "is also read" in again.stderr


@pytest.mark.parametrize("level", [0.2, 0.5])
def test_a_level_that_the_rain_does_not_explain_is_named(files, level):
    days = np.datetime64("2024-01-01") + np.arange(80)
    with open(files / "values.csv", "w") as out:
        out.write("site,date,sm,sm_lower,sm_upper\n")
        out.writelines(
            f"a,{days[i]},{level},{level - 0.1},{level + 0.1}\n" for i in range(0, 70, 6)
        )
    done = run_daily(request(files))
    at = {row["date"]: float(row["sm"]) for row in rows(files / "daily.csv")}
    gap = np.mean([at[str(days[i])] - level for i in range(0, 70, 6)])
    named = [note for note in done.notes if "do not fit this place" in note]
    if level == 0.2:
        assert not named
    else:
        assert gap < -0.05 and f"lie {-gap:.3f} below the passes" in named[0]


@pytest.mark.parametrize("sd", [-1.0, 0.0, float("nan"), 6.7])
def test_a_stated_error_is_above_0_and_at_most_1(files, sd):
    with pytest.raises(UsageError, match=r"--sd-point .* is above 0 and at most 1"):
        run_daily(request(files, sd_point=sd))


def test_days_without_rain_are_counted(files):
    lines = (files / "rain.csv").read_text().splitlines()
    (files / "rain.csv").write_text("\n".join(lines[:31] + lines[41:]) + "\n")
    done = run_daily(request(files))
    said = [note for note in done.notes if "have no rain" in note]
    assert len(said) == 1 and "10 of 60 days from 2024-01-11 to 2024-03-10" in said[0]


def test_weather_of_other_years_is_named(files):
    text = (files / "rain.csv").read_text().replace("2024-", "2022-")
    (files / "rain.csv").write_text(text.replace("2022-02-29", "2022-03-29").replace("\n\n", "\n"))
    lines = list(dict.fromkeys((files / "rain.csv").read_text().splitlines()))
    (files / "rain.csv").write_text("\n".join(lines[:50]) + "\n")
    done = run_daily(request(files))
    said = [note for note in done.notes if "have no rain" in note]
    assert len(said) == 1 and said[0].endswith("the file has 2022-01-01 to 2022-02-18")


def test_irrigation_outside_the_days_is_named(files):
    (files / "water.csv").write_text("paddock,date,mm\nnorth,2021-02-01,20\nnorth,2024-02-01,20\n")
    done = run_daily(request(files, irrigation=files / "water.csv"))
    said = [note for note in done.notes if "irrigations are not used" in note]
    assert len(said) == 1 and "1 of 2" in said[0] and "2024-01-01 to 2024-03-17" in said[0]


def test_simulated_irrigation_says_so(files):
    plain = rows(files / "values.csv")[-1]
    for source in ("gauge", "simulated"):
        text = f"paddock,date,mm,source\n{plain['site']},{plain['date'][:10]},20,{source}\n"
        (files / "water.csv").write_text(text)
        run_daily(request(files, irrigation=files / "water.csv"))
        found = {row.get("source", "") for row in rows(files / "daily.csv")}
        assert found == ({"simulated"} if source == "simulated" else {""})


def test_irrigation_changes_no_day_before_it(files):
    """A paddock with irrigation has a series of its own, which moved every day before."""
    run_daily(request(files))
    plain = rows(files / "daily.csv")
    (files / "water.csv").write_text("paddock,date,mm\nnorth,2024-02-20,20\n")
    run_daily(request(files, irrigation=files / "water.csv"))
    watered = rows(files / "daily.csv")
    before = [i for i, row in enumerate(plain) if row["date"] < "2024-02-20"]
    assert [plain[i] for i in before] == [watered[i] for i in before]
    after = [i for i, row in enumerate(plain) if row["date"] == "2024-02-20"]
    assert float(watered[after[0]]["sm"]) > float(plain[after[0]]["sm"])


@pytest.mark.parametrize(("lower", "upper", "said"), [
    ("0.3", "0.1", "row 2, column sm_lower: 0.3 is above sm"),
    ("0.1", "0.15", "row 2, column sm_upper: 0.15 is below sm"),
])  # fmt: skip
def test_an_interval_without_its_value_is_refused(files, lower, upper, said):
    lines = (files / "values.csv").read_text().splitlines()
    lines[1] = f"north,2024-01-11,0.2,{lower},{upper},-12,"
    (files / "values.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=said):
        run_daily(request(files))


def test_settings_of_other_paddocks_are_refused(files):
    (files / "limits.csv").write_text("paddock,wilting_point,field_capacity\nwest,0.1,0.3\n")
    with pytest.raises(DataError, match="has none of the paddocks; it has west, the values north"):
        run_daily(request(files, settings=files / "limits.csv"))


@pytest.mark.parametrize(("part", "key", "value"), [
    ("bucket", "dry", 1e300), ("bucket", "variance", 0), ("residual", "gamma", -1),
    ("residual", "paddock_phi", 1), ("errors", "point", 4),
])  # fmt: skip
def test_impossible_parameters_are_refused(files, part, key, value):
    raw = json.loads(SET.to_json())
    raw[part][key] = value
    (files / "own.json").write_text(json.dumps(raw))
    with pytest.raises(DataError, match=part):
        read_parameters(files / "own.json")


@pytest.mark.parametrize(
    "later",
    [
        "north,2024-03-09,0.45,0.01,0.9\n" * 1,
        "".join(
            f"{site},2024-03-{d:02d},0.4,0.0,0.9\n" for site in ("north", "x") for d in range(9, 20)
        ),
    ],
)
@pytest.mark.parametrize("by_site", [False, True])
def test_a_later_row_changes_no_earlier_day(tmp_path, later, by_site):
    """Of the values, with wider intervals and a paddock more; and of the rain of one paddock."""
    rng = np.random.default_rng(5)
    days = (np.datetime64("2024-01-01") + np.arange(80)).astype(str)
    rain = np.where(rng.random(80) < 0.3, 6.0, 0.0)
    values = "site,date,sm,sm_lower,sm_upper\n"
    for day in days[5:65:6]:
        for site in ("north", "south"):
            sm = rng.uniform(0.1, 0.3)
            values += f"{site},{day},{sm:.3f},{sm - 0.08:.3f},{sm + 0.08:.3f}\n"
    made = []
    for more, storm in (("", 0.0), (later, 30.0)):
        folder = tmp_path / str(storm)
        folder.mkdir()
        (folder / "values.csv").write_text(values + more)
        text = "site,date,rain_mm\n" if by_site else "date,rain_mm\n"
        for site in ("north", "south", "x") if by_site else ("",):
            for i, (day, mm) in enumerate(zip(days, rain, strict=True)):
                mm = storm if i == 75 and site in ("", "north") else 1.0 if site == "x" else mm
                cell = "" if 20 <= i < 30 and site != "x" else f"{mm}"  # a gap
                text += f"{site},{day},{cell}\n" if by_site else f"{day},{cell}\n"
        (folder / "rain.csv").write_text(text)
        run_daily(Request(folder / "values.csv", folder / "d.csv", weather=folder / "rain.csv"))
        made.append([row for row in rows(folder / "d.csv") if row["date"] < "2024-03-09"])
    of_both = [row for row in made[1] if row["site"] != "x"]
    assert made[0] == of_both and len(of_both) == 2 * 63


def test_a_file_without_values_says_why(files):
    text = "site,date,sm,flags\na,2024-01-11,0.2,\na,2024-01-11,0.3,\n"
    text += "a,2024-01-17,0.2,frozen_or_snow\n"
    (files / "values.csv").write_text(text)
    with pytest.raises(
        UsageError, match=r"2 rows, 1 of them flagged; rows 2 and 3: site a twice"
    ) as error:
        run_daily(request(files))
    assert "--keep" not in str(error.value)  # which daily does not have


def test_settings_of_unknown_paddocks_are_named(files):
    text = "id,wilting_point,field_capacity\nnorth,0.1,0.3\nSouth,0.1,0.3\n"
    (files / "settings.csv").write_text(text)
    done = run_daily(request(files, settings=files / "settings.csv"))
    assert any("1 paddocks are not in the values: South" in note for note in done.notes)
