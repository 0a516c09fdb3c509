"""Compute the coefficients of the polynomials in csrc: python tools/polynomials.py

Each elementary function of the vector tiers is a polynomial on a range reduced exactly, of the
smallest relative error a polynomial of its degree can have, its coefficients then rounded to
float32. The script prints them in the form of csrc, with the error of the rounded
polynomial alone. csrc/kgsm.h gives the error of the whole function, including the rounding of its
sums. tests/kernels/test_constants.py compares the printed digits with csrc.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Method = Callable[[Callable[[Values], Values], float, float, int], Values]

#: 1 + f runs over a whole octave around 1.
OCTAVE = (np.sqrt(0.5) - 1, np.sqrt(2.0) - 1)


def remez(target: Callable[[Values], Values], low: float, high: float, degree: int) -> Values:
    """Return coefficients, lowest power first, of the smallest relative error on [low, high].

    Remez exchange: a polynomial whose error is equal and of changing sign at degree + 2 points
    is the best there is; the points move to where the error is largest until it is so.
    """
    x = _chebyshev(low, high, 100_001)
    y = target(x)
    count = degree + 2
    at = np.linspace(0, len(x) - 1, count).round().astype(np.int64)
    sign = (-1.0) ** np.arange(count)
    for _ in range(60):
        # p(x) / y + E (+1, -1, ...) = 1 at the chosen points
        powers = x[at, None] ** np.arange(degree + 1) / y[at, None]
        fit = np.linalg.solve(np.column_stack([powers, sign]), np.ones(count))[:-1]
        error = np.polynomial.polynomial.polyval(x, fit) / y - 1
        runs = np.split(np.arange(len(x)), np.flatnonzero(np.diff(np.sign(error))) + 1)
        largest = np.asarray([run[np.abs(error[run]).argmax()] for run in runs])
        while len(largest) > count:
            first_is_less = abs(error[largest[0]]) < abs(error[largest[-1]])
            largest = largest[1:] if first_is_less else largest[:-1]
        if len(largest) < count or np.array_equal(largest, at):
            break
        at = largest
    return fit


def lawson(target: Callable[[Values], Values], low: float, high: float, degree: int) -> Values:
    """Fit by weighted least squares, weights raised where the error is largest (Lawson).

    300 rounds come within a few units of the last digit of :func:`remez`. db_of_share was made
    so and keeps its digits: others would move every isolated value in its last bit.
    """
    x = _chebyshev(low, high, 4001)
    y = target(x)
    powers = x[:, None] ** np.arange(degree + 1)
    weight = np.full(len(x), 1 / len(x))
    for _ in range(300):
        root = np.sqrt(weight)
        fit = np.linalg.lstsq(powers * (root / y)[:, None], root, rcond=None)[0]
        error = np.abs(powers @ fit / y - 1)
        weight *= error + 1e-3 * error.max()
        weight /= weight.sum()
    return np.asarray(fit)


@dataclass(frozen=True)
class Polynomial:
    """One polynomial of csrc: file, function, definition and method."""

    file: str
    function: str
    formula: str
    target: Callable[[Values], Values]
    low: float
    high: float
    degree: int
    method: Method = remez

    def coefficients(self) -> NDArray[np.float32]:
        """Return the coefficients of csrc, highest power first, (degree + 1,)."""
        return np.float32(self.method(self.target, self.low, self.high, self.degree))[::-1]

    def error(self) -> float:
        """Return the largest relative error of the rounded polynomial."""
        x = np.linspace(self.low, self.high, 100_001)
        value = np.polynomial.polynomial.polyval(x, self.coefficients()[::-1].astype(np.float64))
        return float(np.abs(value / self.target(x) - 1).max())


def per_x(function: Callable[[Values], Values], limit: float) -> Callable[[Values], Values]:
    """Return function(x) / x, and its limit at 0."""
    return lambda x: np.where(x == 0, limit, function(x) / np.where(x == 0, 1, x))


def _chebyshev(low: float, high: float, count: int) -> Values:
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.linspace(np.pi, 0, count))


def _of_square(function: Callable[[Values], Values]) -> Callable[[Values], Values]:
    return lambda square: function(np.sqrt(square))


POLYNOMIALS = (
    Polynomial(
        "wcm_body.h",
        "exp2_minus_one",
        "(2**f - 1) / f",
        per_x(lambda f: np.expm1(f * np.log(2)), np.log(2)),
        -0.5,
        0.5,
        5,
    ),
    Polynomial(
        "wcm_body.h",
        "to_db_v",
        "log2(1 + f) / f",
        per_x(lambda f: np.log1p(f) / np.log(2), 1 / np.log(2)),
        *OCTAVE,
        9,
    ),
    Polynomial(
        "wcm_body.h",
        "cos_deg_v",
        "sin(x) / x in powers of x**2",
        _of_square(per_x(np.sin, 1.0)),
        0.0,
        (np.pi / 2) ** 2,
        4,
    ),
    Polynomial(
        "wcm_body.h",
        "db_of_share",
        "10 log10(1 + f) / f",
        per_x(lambda f: 10 * np.log1p(f) / np.log(10), 10 / np.log(10)),
        *OCTAVE,
        7,
        lawson,
    ),
    Polynomial("lstm_body.h", "exp2_clamped", "2**f", np.exp2, -0.5, 0.5, 5),
)


def main() -> None:
    """Print all of them, as C."""
    for item in POLYNOMIALS:
        print(
            f"/* csrc/{item.file}, {item.function}: {item.formula} on [{item.low:.6g}, "
            f"{item.high:.6g}], relative error {item.error():.1e} */"
        )
        print(", ".join(f"{_hex(float(value))}f" for value in item.coefficients()))


def _hex(value: float) -> str:
    """Format a float32 in C's hexadecimal form, without the zeros float64 has behind it.

    >>> _hex(1.5), _hex(-0.1875)
    ('0x1.8p+0', '-0x1.8p-3')
    """
    mantissa, exponent = value.hex().split("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}"


if __name__ == "__main__":
    main()
