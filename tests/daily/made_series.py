"""Rain, truth and passes of known make."""

from dataclasses import dataclass, replace

import numpy as np

from kgsm_infer.daily.daily import Settings
from kgsm_infer.daily.parameters import Bucket, Parameters, PassErrors, Residual, SoilStore
from kgsm_infer.daily.run import PassValues
from kgsm_infer.daily.values import Values
from kgsm_infer.tables.weather import Series, Weather

RESIDUAL = Residual(
    mean=0.15,
    gamma=0.6,
    common_var=0.0008,
    common_phi=0.97,
    common_offset_var=0.0004,
    offset_var=0.0014,
    gain_var=0.06,
    paddock_var=0.002,
    paddock_phi=0.96,
    noise_var=0.0001,
)
BUCKET = Bucket(
    0.05,
    (SoilStore(35.0, 0.12, 0.17, 1.1, 0.3), SoilStore(180.0, 0.02, 0.19, 1.0, 0.33)),
    0.5,
    15.0,
    0.0055,
)
ERRORS = PassErrors(0.067, 0.045, 0.2)
SET = Parameters(
    "made", BUCKET, RESIDUAL, ERRORS, (0.0, 0.6), 1.0, "south", "MIT", "made", "a test"
)


@dataclass(frozen=True)
class Made:
    """Expected moisture of one shared rain series and values of passes: (D, 1), (D, N)."""

    rain: np.ndarray
    expected: np.ndarray
    seen: np.ndarray


def made(days=120, paddocks=25, every=6, seed=0, orbits=1):
    """Draw rain and passes; with two orbits each sees its own half, on days of its own."""
    from kgsm_infer.daily.bucket import run_bucket

    rng = np.random.default_rng(seed)
    rain = np.where(rng.random((days, 1)) < 0.25, rng.exponential(8.0, (days, 1)), 0.0)
    expected = run_bucket(BUCKET, rain, np.arange(days))
    level = np.cumsum(rng.normal(0, 0.005, (days, 1)), axis=0)
    truth = expected + level + rng.normal(0, 0.04, paddocks)
    seen = np.full((days, paddocks), np.nan)
    for orbit in range(orbits):
        mine = np.arange(paddocks) % orbits == orbit
        at = np.arange(3 + orbit * every // 2, days, every)
        shared = rng.normal(0, 0.045, (len(at), 1))
        seen[np.ix_(at, mine)] = (truth[at] + shared)[:, mine]
    seen += rng.normal(0, 0.06, seen.shape)
    seen[rng.random(seen.shape) < 0.1] = np.nan
    return Made(rain, expected, np.clip(seen, 0, 0.6))


def observations(seen, errors=ERRORS):
    """(D, N) values as observations, one pass a day."""
    day, paddock = np.nonzero(np.isfinite(seen))
    count, share = len(day), errors.persistent_share
    return PassValues(
        day,
        day,
        paddock,
        seen[day, paddock],
        np.full(count, errors.point**2 * (1 - share)),
        np.full(count, errors.date**2),
        np.ones(count),
        np.full(seen.shape[1], errors.point**2 * share),
    )


def with_residual(**changes):
    """The set with other numbers in its residual."""
    return replace(SET, residual=replace(RESIDUAL, **changes))


FIRST = 19000


def values_of(rows, quantity="sm", paddocks=("a", "b"), flags=None):
    """rows: (paddock index, day from FIRST on, value)."""
    paddock, day, value = (np.array(part) for part in zip(*rows, strict=True))
    nan = np.full(len(day), np.nan)
    return Values(
        "values.csv",
        quantity,
        paddocks,
        paddock.astype(np.int64),
        FIRST + day.astype(np.int64),
        nan,
        day.astype(np.int64),
        value.astype(float),
        nan,
        nan,
        np.zeros(len(day), np.int64) if flags is None else np.asarray(flags, np.int64),
    )


def weather_of(rain, first=FIRST, by="", names=("",)):
    rain = np.asarray(rain, float)
    return Weather(
        "rain.csv", by, {n: Series(first, rain, np.full(len(rain), np.nan)) for n in names}
    )


def today(day):
    return Settings(today=str(np.datetime64(FIRST + day, "D")), errors=ERRORS)


RAIN = np.where(np.arange(100) % 9 == 0, 12.0, 0.0)
ROWS = [(i, d, 0.15 + 0.05 * i) for d in range(0, 60, 6) for i in (0, 1)]
