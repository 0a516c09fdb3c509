"""kgsm-infer daily --crop: root zones from a file of crops."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.daily.command import Request, run_daily
from kgsm_infer.daily.root_zone import Crop, RootSoil, RootStart, Water, balance_root_zone
from kgsm_infer.daily.units import Stated

HEAD = ("planted,initial_days,development_days,mid_days,late_days,kcb_initial,kcb_mid,kcb_end,"
        "root_initial_m,root_m,height_m,depletion")  # fmt: skip
COTTON = "2024-01-15,20,20,20,15,0.15,1.13,0.52,0.18,0.8,1.2,0.65"
DAYS = 90
FIRST = np.datetime64("2024-01-01")
RAIN = np.where(np.arange(DAYS) % 7 == 0, 8.0, 0.0)


@pytest.fixture
def files(tmp_path):
    with open(tmp_path / "rain.csv", "w") as out:
        out.write("date,rain_mm,et0_mm\n")
        out.writelines(f"{FIRST + i},{RAIN[i]},6\n" for i in range(DAYS))
    with open(tmp_path / "values.csv", "w") as out:
        out.write("site,date,sm\n")
        for i in range(0, DAYS, 12):
            out.write(f"north,{FIRST + i},0.2\nsouth,{FIRST + i},0.25\n")
    (tmp_path / "crop.csv").write_text(f"{HEAD}\n{COTTON}\n")
    (tmp_path / "irrigation.csv").write_text("paddock,date,mm\nnorth,2024-02-20,40\n")
    return tmp_path


def run(folder, **changes):
    request = Request(
        folder / "values.csv", folder / "daily.csv", folder / "rain.csv", today="2024-03-30",
        crop=folder / "crop.csv", soil=Stated(wilting_point=0.1, field_capacity=0.3),
        irrigation=folder / "irrigation.csv",
    )  # fmt: skip
    done = run_daily(replace(request, **changes))
    with open(folder / "daily.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return done, {name: [row for row in rows if row["site"] == name] for name in ("north", "south")}


def numbers(rows, column):
    return np.array([float(row[column] or "nan") for row in rows])


def test_columns_are_those_of_the_balance_in_the_season(files):
    _, rows = run(files)
    mm = numbers(rows["south"], "root_zone_mm")
    assert np.isnan(mm[:14]).all() and np.isfinite(mm[14:89]).all() and np.isnan(mm[89:]).all()
    sm, passed = numbers(rows["south"], "sm"), numbers(rows["south"], "pass_sm")
    season = slice(14, 89)
    crop = Crop(19737, (20, 20, 20, 15), (0.15, 1.13, 0.52), (0.18, 0.8), 1.2, 0.65)
    one = np.ones((75, 1))
    made = balance_root_zone(
        RootSoil(np.array([0.1]), np.array([0.3])),
        crop,
        Water(19737, RAIN[season, None], 6 * one, 0 * one),
        RootStart(sm[[13]], sm[[14]]),
        np.where(np.isfinite(passed), sm, np.nan)[season, None],
    )
    # the filtered moisture before planting differs a little from that of the day alone
    assert np.abs(made.depletion_mm[:, 0] - mm[season]).max() < 6
    percent = numbers(rows["south"], "root_zone_percent")[season]
    assert ((percent >= 0) & (percent <= 100)).all()
    np.testing.assert_allclose(percent, 100 * (1 - mm[season] / made.available_mm[:, 0]), atol=0.3)


@pytest.mark.parametrize(("start", "depleted"), [("0.15", 0.15), ("0.35", 0.0), ("", None)])
def test_a_measured_start_replaces_that_of_the_surface(files, start, depleted):
    _, rows = run(files)
    without = numbers(rows["south"], "root_zone_mm")
    (files / "crop.csv").write_text(f"{HEAD},start_sm\n{COTTON},{start}\n")
    _, rows = run(files)
    mm, percent = (numbers(rows["south"], f"root_zone_{name}")[14:89] for name in ("mm", "percent"))
    if depleted is None:
        np.testing.assert_array_equal(mm, without[14:89])
        return
    sm, passed = numbers(rows["south"], "sm"), numbers(rows["south"], "pass_sm")
    season, one = slice(14, 89), np.ones((75, 1))
    made = balance_root_zone(
        RootSoil(np.array([0.1]), np.array([max(0.3, float(start))])),
        Crop(19737, (20, 20, 20, 15), (0.15, 1.13, 0.52), (0.18, 0.8), 1.2, 0.65),
        Water(19737, RAIN[season, None], 6 * one, 0 * one),
        RootStart(np.array([float(start)]), sm[[14]]),
        np.where(np.isfinite(passed), sm, np.nan)[season, None],
    )
    np.testing.assert_allclose(mm, made.depletion_mm[:, 0], atol=0.06)
    np.testing.assert_allclose(
        percent, 100 * (1 - made.depletion_mm / made.available_mm)[:, 0], atol=0.3
    )
    # before the first water is used: below field capacity, over the first 0.18 m of roots
    assert mm[0] == pytest.approx(180 * depleted, abs=8)


def test_irrigation_of_one_paddock_refills_it(files):
    _, rows = run(files)
    north, south = (numbers(rows[name], "root_zone_mm") for name in ("north", "south"))
    at = 50
    assert north[at] - north[at - 1] < south[at] - south[at - 1] - 30
    done, _ = run(files, irrigation=None)
    assert any("without --irrigation its water is missing" in note for note in done.notes)


def test_a_day_without_demand_leaves_no_number_after_it(files):
    text = (files / "rain.csv").read_text().replace("2024-02-10,0.0,6", "2024-02-10,0.0,")
    (files / "rain.csv").write_text(text)
    _, rows = run(files)
    mm = numbers(rows["south"], "root_zone_mm")
    assert np.isfinite(mm[14:40]).all() and np.isnan(mm[40:]).all()


def test_a_crop_of_one_paddock_leaves_the_other_empty(files):
    (files / "crop.csv").write_text(f"paddock,{HEAD}\nnorth,{COTTON}\n")
    _, rows = run(files)
    assert np.isnan(numbers(rows["south"], "root_zone_mm")).all()
    north = numbers(rows["north"], "root_zone_mm")
    assert np.isfinite(north).any()
    (files / "crop.csv").write_text(f"{HEAD}\n{COTTON}\n")
    _, rows = run(files)
    np.testing.assert_array_equal(numbers(rows["north"], "root_zone_mm"), north)


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        (",0.65", ",65", "depletion"),
        ("0.15,1.13", "1.13,0.15", "rise from initial to mid"),
        ("2024-01-15", "soon", "planted|date"),
        ("kcb_mid", "kcb", "no column 'kcb_mid'"),
        (",1.2,", ",,", "height_m"),
    ],
)
def test_a_wrong_file_is_named(files, old, new, cause):
    text = f"{HEAD}\n{COTTON}\n".replace(old, new, 1)
    (files / "crop.csv").write_text(text)
    with pytest.raises(DataError, match=cause):
        run(files)
    assert not (files / "daily.csv").exists()


def test_a_start_in_percent_is_refused(files):
    (files / "crop.csv").write_text(f"{HEAD},start_sm\n{COTTON},24\n")
    with pytest.raises(DataError, match=r"start_sm.*in percent"):
        run(files)


def test_what_the_balance_needs_is_asked_for(files):
    with pytest.raises(UsageError, match="wilting-point"):
        run(files, soil=Stated())
    text = (files / "rain.csv").read_text().replace(",et0_mm", "").replace(",6\n", "\n")
    (files / "rain.csv").write_text(text)
    with pytest.raises(UsageError, match="et0_mm"):
        run(files)


def test_without_a_crop_the_surface_is_filtered(files):
    _, rows = run(files, crop=None, root_zone_days=15.0, soil=Stated(), irrigation=None)
    sm, made = (numbers(rows["south"], name) for name in ("sm", "root_zone_sm"))
    # Eq 6 of Albergel et al. 2008 in its sum: weights that decay with age
    age = np.subtract.outer(np.arange(DAYS), np.arange(DAYS))
    weight = np.where(age >= 0, np.exp(-age / 15.0), 0.0)
    np.testing.assert_allclose(made, weight @ sm / weight.sum(1), atol=2e-5)
    with pytest.raises(UsageError, match="root-zone-days"):
        run(files, root_zone_days=0.0)


def test_two_crops_of_a_paddock_at_one_time_are_refused(files):
    later = COTTON.replace("2024-01-15", "2024-03-30")
    (files / "crop.csv").write_text(f"{HEAD}\n{COTTON}\n{later}\n")  # one after the other
    run(files)
    (files / "crop.csv").write_text(f"{HEAD}\n{COTTON}\n{later.replace('03-30', '03-01')}\n")
    with pytest.raises(DataError, match="row 3, column planted: 2024-03-01 is within the season"):
        run(files)
