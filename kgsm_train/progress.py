"""Type of the progress callback."""

from __future__ import annotations

from collections.abc import Callable

#: Called with a part's name, epochs done, their limit, and the best RMSE so far (NaN: none).
PartProgress = Callable[[str, int, int, float], None]
