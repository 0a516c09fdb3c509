"""Draw charts of paddocks: one, or a sheet of several, as PNG, SVG or one HTML file.

Days are a line with its 90 % band, passes are dots, rain hangs from the top as bars, days after
today are dashed. A file of passes has dots with their intervals only.
"""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import DataError
from ..base.extras import optional
from ..base.files import write_whole
from .filter import Array
from .percentiles import rank_of
from .series import PaddockSeries, SeriesFile

SUFFIXES = (".png", ".svg", ".html")
#: Paddocks of one file, at most; a sheet of more cannot be read.
MOST_CHARTS = 60
WIDTH, HEIGHT = 8.0, 3.4
_LINE, _RAIN, _PASS, _WATER = "#1b6ca8", "#7fb2d9", "#202020", "#2e8b57"
#: Share of the height that the largest rain takes.
_RAIN_SHARE = 0.3

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.4 sans-serif; margin: 1rem auto; max-width: 60rem; padding: 0 1rem }}
svg {{ width: 100%; height: auto }}
table {{ border-collapse: collapse }}
td, th {{ padding: .2rem .8rem; text-align: left; border-bottom: 1px solid #ddd }}
.simulated {{ color: #a00; font-weight: bold }}
</style></head><body>
<h1>{title}</h1>
{remark}{charts}</body></html>
"""


def draw_series(
    path: str | Path,
    series: SeriesFile,
    paddocks: Sequence[PaddockSeries],
    threshold: float | None = None,
) -> None:
    """Draw the paddocks to ``path`` (one of SUFFIXES), whole or not at all.

    threshold: in the unit of the axis, drawn as a line. DataError where there is nothing to draw
    or more than MOST_CHARTS paddocks; MissingError without matplotlib.
    """
    path = Path(path)
    if len(paddocks) > MOST_CHARTS:
        raise DataError(
            f"{series.source}: has {len(paddocks)} paddocks, a sheet holds {MOST_CHARTS}; choose "
            "with --paddock"
        )
    if not any(np.isfinite(one.value).any() for one in paddocks):
        raise DataError(f"{series.source}: no paddock chosen has a value; nothing to draw")
    suffix = path.suffix.lower()
    if suffix == ".html":
        svgs = [_image(series, [one], threshold, "svg") for one in paddocks]
        content = page_of(svgs, _title(series, paddocks), series.simulated)
    else:
        content = _image(series, paddocks, threshold, suffix[1:])
    with write_whole(path, "wb") as file:
        file.write(content)


def page_of(svgs: Sequence[bytes], title: str, simulated: bool, below: str = "") -> bytes:
    """Return one HTML page that needs no other file. below: HTML after the pictures."""
    remark = '<p class="simulated">Simulated data.</p>\n' if simulated else ""
    charts = "\n".join(_without_prolog(svg) for svg in svgs)
    page = _PAGE.format(title=html.escape(title), remark=remark, charts=charts + below)
    return page.encode("utf-8")


def image_of(figure: Any, kind: str, **options: Any) -> bytes:
    """Return a figure as bytes of ``png`` or ``svg``, the same for the same figure."""
    made = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    # text stays text, so that it can be searched and copied
    with optional("matplotlib", what="a chart").rc_context(
        {"svg.hashsalt": "kgsm", "svg.fonttype": "none"}
    ):
        figure.savefig(made, format=kind, metadata=metadata, **options)
    return made.getvalue()


def _image(
    series: SeriesFile, paddocks: Sequence[PaddockSeries], threshold: float | None, kind: str
) -> bytes:
    """Return the picture of all paddocks in one figure, as bytes of ``png`` or ``svg``."""
    matplotlib = optional("matplotlib", "dates", "figure", "style", what="a chart")
    columns = 1 if len(paddocks) <= 3 else 2 if len(paddocks) <= 12 else 3
    rows = -(-len(paddocks) // columns)
    size = (WIDTH * (1.0 if columns == 1 else 0.75 * columns), HEIGHT * rows + 0.5)
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    most_rain = max(float(np.nanmax(one.rain_mm, initial=0.0)) for one in paddocks)
    axes = grid.ravel()
    for one, ax in zip(paddocks, axes, strict=False):
        if most_rain > 0:
            _draw_rain(ax, one, most_rain)
        _draw(ax, one, is_daily=series.is_daily, threshold=threshold)
        locator = matplotlib.dates.AutoDateLocator(minticks=3, maxticks=7)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))
    for ax in axes[len(paddocks) :]:
        ax.set_axis_off()
    low, high = axes[0].get_ylim()
    if most_rain > 0:  # room for the bars above the band
        high += (high - low) * _RAIN_SHARE * 0.7
    axes[0].set_ylim(min(0.0, low), high)
    figure.supylabel(series.label, fontsize="medium")
    if len(paddocks) > 1 or series.simulated:
        figure.suptitle(_title(series, paddocks))
    _legend(figure, axes[: len(paddocks)], 3 * columns)
    return image_of(figure, kind, dpi=110)


def _title(series: SeriesFile, paddocks: Sequence[PaddockSeries]) -> str:
    first = np.datetime_as_string(min(one.time[0] for one in paddocks), "D")
    last = np.datetime_as_string(max(one.time[-1] for one in paddocks), "D")
    where = f"paddock {paddocks[0].name}" if len(paddocks) == 1 else f"{len(paddocks)} paddocks"
    return f"{'SIMULATED: ' if series.simulated else ''}{where}, {first} to {last}"


def _draw(ax: Any, one: PaddockSeries, *, is_daily: bool, threshold: float | None) -> None:
    """Draw the values of one paddock on its axes."""
    ax.set_title(one.name + rank_text(one), loc="left", fontsize="medium", parse_math=False)
    if is_daily:
        ahead = one.is_forecast
        # the dashed line begins where the full one ends
        joined = ahead | np.append(ahead[1:], False)
        ax.fill_between(
            one.time, one.lower, one.upper, color=_LINE, alpha=0.18, linewidth=0, label="90 % band"
        )
        ax.plot(one.time, _where(~ahead, one.value), color=_LINE, label="each day")
        if ahead.any():
            ax.plot(one.time, _where(joined, one.value), "--", color=_LINE, label="outlook")
            wetted = ahead & (one.irrigated != one.value)
            if np.isfinite(one.irrigated[wetted]).any():
                after = wetted | np.append(wetted[1:], False)
                ax.plot(
                    one.time,
                    _where(after, one.irrigated),
                    ":",
                    color=_WATER,
                    label="outlook with the planned irrigation",
                )
    elif np.isfinite(one.lower).any():
        below, above = one.value - one.lower, one.upper - one.value
        bars = np.maximum(np.stack([below, above]), 0)
        ax.errorbar(
            one.time,
            one.value,
            yerr=bars,
            fmt="none",
            ecolor=_LINE,
            alpha=0.5,
            label="90 % interval",
        )
    if np.isfinite(one.passed).any():
        ax.plot(one.time, one.passed, "o", color=_PASS, markersize=4, label="radar pass")
    if threshold is not None:
        ax.axhline(
            threshold,
            color="#b03030",
            linewidth=1,
            linestyle="-.",
            label=f"threshold {threshold:g}",
        )
    ax.grid(alpha=0.25)


def rank_text(one: PaddockSeries) -> str:
    """Return the rank of the last day that is not forecast among the passes, or ""."""
    share = one.drier_than[~one.is_forecast]
    rank = rank_of(float(share[-1])) if len(share) else None
    if rank is None:
        return ""
    return f" – {'drier' if rank.is_drier else 'wetter'} than {rank.tenths} of 10 passes here"


def _draw_rain(ax: Any, one: PaddockSeries, most: float) -> None:
    """Draw the rain downwards from the top, on a second axis."""
    above = ax.twinx()
    wet = one.rain_mm > 0
    above.bar(
        one.time[wet],
        one.rain_mm[wet],
        width=np.timedelta64(20, "h"),
        color=_RAIN,
        label="rain (mm)",
    )
    above.set_ylim(most / _RAIN_SHARE, 0)
    ticks = [tick for tick in (10.0, 20.0, 50.0, 100.0, 200.0, 500.0) if tick <= most][-2:]
    above.set_yticks(ticks or [round(most, 1)])
    above.tick_params(colors="#4a7fa8", labelsize="small")
    above.set_ylabel("rain (mm)", loc="top", color="#4a7fa8", fontsize="small")
    ax.set_zorder(above.get_zorder() + 1)
    ax.patch.set_visible(False)


def _where(at: Any, values: Array) -> Array:
    return np.where(at, values, np.nan)


def _legend(figure: Any, axes: Sequence[Any], columns: int) -> None:
    """Place one legend for all charts below them."""
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=min(len(found), columns),
            frameon=False,
            fontsize="small",
        )


def _without_prolog(svg: bytes) -> str:
    """Return the ``<svg>`` element alone, for a page."""
    text = svg.decode("utf-8")
    return text[text.index("<svg") :]
