"""Where the coefficients in csrc/wcm_body.h and csrc/vec.h come from: python csrc/polynomials.py

Weighted least squares in float64 on Chebyshev points, the weights raised where the relative
error is largest (Lawson), which goes to the minimax polynomial. Coefficients are then
rounded to float32. What is left of the error, in the printed line, is that of the
polynomial alone; that of the whole function, rounding included, stands in kgsm.h.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def minimax(target: Callable[[Values], Values], low: float, high: float, degree: int) -> Values:
    """Coefficients, lowest power first, of the smallest relative error on [low, high]."""
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.linspace(np.pi, 0, 4001))
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


def show(name: str, target: Callable[[Values], Values], low: float, high: float, n: int) -> None:
    """Print one polynomial as C."""
    fit = np.float32(minimax(target, low, high, n)).astype(np.float64)
    x = np.linspace(low, high, 100_001)
    x = x[x != 0]
    worst = np.abs(np.polynomial.polynomial.polyval(x, fit) / target(x) - 1).max()
    print(f"/* {name}, [{low:.6g}, {high:.6g}], relative error {worst:.1e} */")
    print(", ".join(f"{np.float32(c):.9g}f" for c in fit))


def per_x(function: Callable[[Values], Values], limit: float) -> Callable[[Values], Values]:
    """function(x) / x, and its limit at 0."""
    return lambda x: np.where(x == 0, limit, function(x) / np.where(x == 0, 1, x))


def main() -> None:
    """Print all of them."""
    show("(2**r - 1) / r", per_x(lambda r: np.expm1(r * np.log(2)), np.log(2)), -0.5, 0.5, 5)
    root = np.sqrt(2)
    log2 = per_x(lambda f: np.log1p(f) / np.log(2), 1 / np.log(2))
    show("log2(1 + f) / f", log2, root / 2 - 1, root - 1, 9)
    sine = per_x(lambda u: np.sin(np.pi / 2 * u), np.pi / 2)
    show("sin(pi/2 u) / u in powers of u**2", lambda v: sine(np.sqrt(v)), 0, 1, 4)


if __name__ == "__main__":
    main()
