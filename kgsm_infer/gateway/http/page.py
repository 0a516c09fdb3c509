"""Render the page for the people of a farm: a map and a list of the same paddocks, no build step.

The page answers in this order: are the values current, how wet is each paddock, what changed.
A paddock shows its newest value with the date of its pass, even if a later pass gave none. The
map colours classes of the values; the list says the same in words, so that a screen reader, a
keyboard and a phone have all of it. ``page.js`` adds ages, the refresh, zoom, a filter and the
history of a paddock; without it the page still shows every value with its date.

The style and the script are inside the page, so it works below any path of a proxy.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.resources import files
from itertools import pairwise
from statistics import median
from string import ascii_uppercase
from typing import Any
from zoneinfo import ZoneInfo

from ...base.quantities import SOIL_MOISTURE, UNKNOWN, WETNESS, Quantity, quantity_named
from ...daily.percentiles import rank_of
from ..config import Gateway, Page
from ..records import iso, number_of
from ..update.models import quantity_in_use
from .map_drawing import Drawing, draw_outlines
from .queries import PaddockState, Queries
from .strings import CATALOGUE, SCRIPT_KEYS, flag_text

#: Widths of a class of values, smallest first, from which the map's classes are chosen.
CLASS_WIDTHS: Mapping[Quantity, tuple[float, ...]] = {
    SOIL_MOISTURE: (1, 2, 5, 10, 20),
    WETNESS: (0.05, 0.1, 0.2),
    UNKNOWN: (),
}
#: Most classes of the map, which is the number of its colours.
MOST_CLASSES = 6
#: Seconds within which acquisitions belong to one pass.
PASS_S = 3600
#: Days ahead in which the page names the paddocks that reach their threshold.
SOON_DAYS = 7
#: Most paddocks that are named in one sentence.
MOST_NAMES = 6
#: Largest number of groups of paddocks with a button each.
MOST_GROUPS = 12


def choose_bounds(numbers: Sequence[float], quantity: Quantity) -> tuple[float, ...]:
    """Return bounds between the classes of a map: round numbers that suit the values.

    numbers: in percent of volume, or of the index.

    >>> choose_bounds([12.0, 18.0, 31.0], SOIL_MOISTURE)
    (15, 20, 25, 30)
    >>> choose_bounds([20.2, 20.4], SOIL_MOISTURE), choose_bounds([], WETNESS)
    ((20, 21), ())
    """
    if not numbers or not CLASS_WIDTHS[quantity]:
        return ()
    low, high = min(numbers), max(numbers)
    for width in CLASS_WIDTHS[quantity]:
        first, last = math.floor(low / width + 1e-9), math.floor(high / width + 1e-9)
        if last - first < MOST_CLASSES:
            break
    if first == last:
        ends = range(first, first + 2)
    else:
        ends = range(first + 1, min(last, first + MOST_CLASSES - 1) + 1)
    return tuple(round(end * width, 2) for end in ends)


def class_of(number: float | None, bounds: Sequence[float]) -> str:
    """Return the colour class of a value, ``c0`` (dry) to ``c5`` (wet), ``x`` for no value.

    >>> class_of(3.0, (10, 20)), class_of(10.0, (10, 20)), class_of(99.0, (10, 20))
    ('c0', 'c2', 'c5')
    >>> class_of(None, (10, 20)), class_of(3.0, ())
    ('x', 'x')
    """
    if number is None or not bounds:
        return "x"
    at = sum(number >= bound for bound in bounds)
    return f"c{round(at * (MOST_CLASSES - 1) / len(bounds))}"


def render_page(queries: Queries, language: str) -> bytes:
    """Return the page in a language of the catalogue, UTF-8."""
    view = View(queries.gateway, queries.states(), language, _drawing(queries))
    content = "".join((*view.header(), "<main>", view.map(), view.list(), "</main>"))
    version = hashlib.sha256(content.encode()).hexdigest()[:16]
    texts, page = view.texts, queries.gateway.page
    script = {
        "language": language,
        "timezone": page.timezone,
        "stale_days": page.stale_days,
        "texts": {key: texts[key] for key in SCRIPT_KEYS},
    }
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{html.escape(queries.gateway.title)}</title><style>{_asset('page.css')}</style>"
        f'</head><body><p id="offline" role="alert" hidden></p><div id="live" '
        f'data-version="{version}">{content}</div><div id="tip" hidden></div>'
        '<dialog aria-labelledby="dt"><form method="dialog"><button class="close" '
        f'aria-label="{texts["close"]}">×</button></form><h2 id="dt"></h2><div id="dd"></div>'
        f'</dialog><script type="application/json" id="settings">{_json(script)}</script>'
        f"<noscript><p>{texts['no_script']}</p></noscript>"
        f"<script>{_asset('page.js')}</script></body></html>"
    ).encode()


def content_policy() -> str:
    """Return the Content-Security-Policy of the page: its own style and script by their hashes."""
    hashes = {
        name: base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()
        for name in ("page.css", "page.js")
    }
    return (
        f"default-src 'none'; script-src 'sha256-{hashes['page.js']}'; "
        f"style-src 'sha256-{hashes['page.css']}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _json(content: Any) -> str:
    """Return JSON that cannot end the script element it is in."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _drawing(queries: Queries) -> Drawing:
    outlines = queries.paddocks.outlines_lon_lat
    return draw_outlines({name: shape for name, shape in outlines.items() if shape})


@dataclass(frozen=True)
class View:
    """The states of a farm in one language. states: every paddock, in the order of the list."""

    gateway: Gateway
    states: Sequence[PaddockState]
    language: str
    drawing: Drawing

    @property
    def texts(self) -> Mapping[str, str]:
        return CATALOGUE[self.language]

    @property
    def settings(self) -> Page:
        return self.gateway.page

    @cached_property
    def quantity(self) -> Quantity:
        """The quantity of most values; without values that of the model in use."""
        names = [state.shown["quantity"] for state in self.states if state.shown is not None]
        if not names:
            return quantity_in_use(self.gateway)
        return quantity_named(max(sorted(set(names)), key=names.count))

    @cached_property
    def numbers(self) -> Mapping[str, float]:
        """The value of each paddock that has one of the page's quantity."""
        return {
            state.paddock: number
            for state in self.states
            if state.shown is not None
            and state.shown["quantity"] == self.quantity.name
            and (number := number_of(state.shown)) is not None
        }

    @cached_property
    def bounds(self) -> tuple[float, ...]:
        """The bounds of the map's classes: those of the settings, or chosen from the values."""
        if self.settings.thresholds and self.quantity is not UNKNOWN:
            return self.settings.thresholds
        return choose_bounds(list(self.numbers.values()), self.quantity)

    @cached_property
    def newest(self) -> int | None:
        """The newest acquisition of a paddock, seconds since 1970."""
        return max((state.acquired for state in self.states if state.acquired), default=None)

    @cached_property
    def today(self) -> str | None:
        """The day of the daily values, None without any."""
        return next((s.today["date"] for s in self.states if s.today is not None), None)

    def is_old(self, state: PaddockState) -> bool:
        """Return True if a paddock's value is of an earlier day or pass than the newest one."""
        if state.shown is None or self.newest is None:
            return False
        if self.today is not None:
            return state.shown is not state.today
        return self.is_late(state)

    def is_late(self, state: PaddockState) -> bool:
        """Return True if a paddock's newest pass with a number is earlier than the newest pass."""
        if state.value is None or self.newest is None:
            return False
        return _seconds(state.value["acquired_at"]) < self.newest - PASS_S

    # -- numbers and dates -----------------------------------------------------------------

    def change_text(self, change: float) -> str:
        """Return a change with its direction, to the digits that are shown."""
        digits = 0 if self.quantity.in_percent else 2
        rounded = round(change, digits)
        if rounded == 0:
            return "0"
        text = f"{abs(rounded):.{digits}f}".replace(".", self.texts["decimal"])
        return f"▲ +{text}" if rounded > 0 else f"▼ −{text}"

    def number(self, number: float, quantity: Quantity) -> str:
        """Return a number with its unit."""
        if quantity.in_percent:
            return f"{number:.0f} %"
        text = f"{number:.2f}".replace(".", self.texts["decimal"])
        return self.texts[f"number.{quantity.name}"].format(n=text)

    def time(self, acquired_at: str, with_hour: bool = False) -> str:
        """Return a date in the farm's time zone; ``page.js`` adds its age."""
        zone = UTC if self.settings.timezone is None else ZoneInfo(self.settings.timezone)
        local = datetime.fromisoformat(acquired_at).astimezone(zone)
        text = f"{local:%Y-%m-%d %H:%M}" if with_hour else f"{local:%Y-%m-%d}"
        if self.settings.timezone is None and with_hour:
            text += " UTC"
        return f'<time{" data-h" if with_hour else ""} datetime="{acquired_at}">{text}</time>'

    def day(self, date: str) -> str:
        """Return a local day of the farm; ``page.js`` adds its age."""
        return f'<time data-day datetime="{date}">{date}</time>'

    # -- parts of the page -----------------------------------------------------------------

    def header(self) -> Iterable[str]:
        """Return the title and the answers: is it current, how wet, what changed."""
        texts, escape = self.texts, html.escape
        yield f"<header><h1>{escape(self.gateway.title)}</h1>"
        yield '<p id="stale" role="status" hidden></p>'
        shown = (one for state in self.states for one in (state.value, state.today) if one)
        if any("source" in one for one in shown):
            yield f'<p class="sim"><strong>{texts["simulated"]}</strong></p>'
        if self.today is not None:
            yield f"<p>{texts['daily.values']}</p>".format(time=self.day(self.today))
            yield from (self._todo(), self._level(), self._changes())
        yield from self._newest_pass()
        if self.today is None:
            yield from (self._level(), self._changes())
        yield f'<p class="soft">{texts[f"intro.{self.quantity.name}"]}</p>'
        yield '<ul id="health" role="status" hidden></ul></header>'

    def _newest_pass(self) -> Iterable[str]:
        """Return when the newest pass was, and how many paddocks it has values for."""
        texts = self.texts
        if self.newest is None:
            yield f"<p>{texts['pass.none']}</p>"
        else:
            current = [s for s in self.states if s.value is not None and not self.is_late(s)]
            yield '<p id="newest">' + texts["pass.newest"].format(
                time=self.time(iso(self.newest), with_hour=True),
                n=len(current),
                m=len(self.states),
            )
            old = [s.value["acquired_at"] for s in self.states if s.value and self.is_late(s)]
            if old:
                yield " " + texts["pass.older"].format(n=len(old), time=self.time(min(old)))
            yield "</p>"

    def _level(self) -> str:
        """Return the median and the extremes of the newest pass."""
        titles = {state.paddock: state.title for state in self.states if not self.is_old(state)}
        numbers = {name: number for name, number in self.numbers.items() if name in titles}
        if len(numbers) < 2 or self.quantity is UNKNOWN:
            return ""
        low, high = (pick(numbers, key=lambda name: numbers[name]) for pick in (min, max))
        return f"<p>{self.texts['level']}</p>".format(
            median=self.number(median(numbers.values()), self.quantity),
            low_name=html.escape(titles[low]),
            low=self.number(numbers[low], self.quantity),
            high_name=html.escape(titles[high]),
            high=self.number(numbers[high], self.quantity),
        )

    def _todo(self) -> str:
        """Return which paddocks are below their threshold, and which will be soon."""
        texts, days = self.texts, {s.title: s.today["days_left"] for s in self.states if s.today}
        if all(s.today is None or s.today["threshold"] is None for s in self.states):
            return ""
        below = [title for title, left in days.items() if left == 0]
        soon = [title for title, left in days.items() if left is not None and 0 < left <= SOON_DAYS]
        found = [("below", below)] * bool(below) + [("soon", soon)] * bool(soon)
        said = [
            texts[f"todo.{kind}"].format(names=self._names(some), n=SOON_DAYS)
            for kind, some in found
        ]
        mark = "warn" if found else "soft"
        text = " ".join(said) or texts["todo.none"].format(n=SOON_DAYS)
        return f'<p id="todo" class="{mark}">{text}</p>'

    def _names(self, titles: Sequence[str]) -> str:
        """Return names in a row; of many the first, and how many more."""
        names = html.escape(", ".join(titles[:MOST_NAMES]))
        more = len(titles) - MOST_NAMES
        return names if more <= 0 else self.texts["todo.more"].format(names=names, n=more)

    def _changes(self) -> str:
        """Return how many paddocks are wetter and drier, to the digits that are shown."""
        digits = 0 if self.quantity.in_percent else 2
        changes = [
            round(change, digits)
            for state in self.states
            if not self.is_old(state) and (change := state.change) is not None
        ]
        if not changes:
            return ""
        text = self.texts["change" if self.today is None else "change.week"]
        return f"<p>{text}</p>".format(
            wetter=sum(change > 0 for change in changes),
            drier=sum(change < 0 for change in changes),
            same=sum(change == 0 for change in changes),
        )

    def _class_of(self, state: PaddockState) -> str:
        return class_of(self.numbers.get(state.paddock), self.bounds)

    def map(self) -> str:
        """Return the map with its legend and buttons; empty without outlines."""
        texts, drawing = self.texts, self.drawing
        if not drawing.shapes:
            return ""
        paths = "".join(
            f'<path class="{self._class_of(state)}{" old" if self.is_old(state) else ""}" '
            f'data-i="{at}" data-l="{shape.label_x} {shape.label_y} {shape.label_width}" '
            f'd="{shape.path}"/>'
            for at, state in enumerate(self.states)
            if (shape := drawing.shapes.get(state.paddock)) is not None
        )
        groups = drawing.groups[:MOST_GROUPS]
        boxes = [f"{g.box.x} {g.box.y} {g.box.width} {g.box.height}" for g in groups]
        buttons = "".join(
            f'<button data-n="{letter}" data-b="{box}" aria-label="'
            f'{texts["zoom.group"].format(letter=letter, n=len(group.paddocks))}">'
            f"{letter} · {len(group.paddocks)}</button>"
            for letter, group, box in zip(ascii_uppercase, groups, boxes, strict=False)
        )
        return (
            f'<section aria-label="{texts["map"]}">{self._legend()}<div class="map">'
            f'<svg id="map" viewBox="0 0 {drawing.width} {drawing.height}" aria-hidden="true">'
            '<defs><pattern id="h" width="6" height="6" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate(45) scale({max(drawing.width, drawing.height) / 800:.3g})">'
            '<path class="h" d="M0 0V6"/></pattern></defs>'
            f'{paths}<g id="names"></g></svg></div><div class="zoom">'
            f'<button data-z="2" aria-label="{texts["zoom.in"]}">+</button>'
            f'<button data-z=".5" aria-label="{texts["zoom.out"]}">−</button>'
            f'<button data-z="0" aria-label="{texts["zoom.all"]}">⤢</button>{buttons}</div>'
            "</section>"
        )

    def _legend(self) -> str:
        texts, bounds = self.texts, self.bounds
        items: list[tuple[str, str]] = []
        if bounds:
            ends = [f"{bound:g}".replace(".", texts["decimal"]) for bound in bounds]
            labels = [
                texts["legend.under"].format(n=ends[0]),
                *(f"{a}–{b}" for a, b in pairwise(ends)),
                texts["legend.over"].format(n=ends[-1]),
            ]
            lowest = (bounds[0] - 1, *bounds)
            items = [(class_of(n, bounds), text) for n, text in zip(lowest, labels, strict=True)]
        if any(self.is_old(state) for state in self.states):
            items.append(("c2 old", texts["legend.old"]))
        items.append(("x", texts["legend.none"]))
        listed = "".join(f'<li><i class="k {kind}"></i>{text}</li>' for kind, text in items)
        scale = texts[f"scale.{self.quantity.name}"]
        return (
            f'<ul class="legend" aria-label="{texts["legend"]}, {scale}">'
            f'<li class="soft">{scale}:</li>{listed}</ul>'
        )

    def list(self) -> str:
        """Return the table of paddocks."""
        texts = self.texts
        rows = "".join(self._row(at, state) for at, state in enumerate(self.states))
        orders = {"i": "name", "v": "dry", "-v": "wet", "d": "change"}
        options = "".join(
            f'<option value="{value}">{texts[f"order.{name}"]}</option>'
            for value, name in orders.items()
        )
        change = "change" if self.today is None else "week"
        names = ("paddock", self.quantity.name, change, "pass", "remarks")
        csv = "v1/latest.csv" if self.today is None else "v1/daily.csv"
        heads = "".join("<th>" + texts[f"column.{name}"] + "</th>" for name in names)
        return (
            f'<section aria-label="{texts["list"]}"><div class="tools">'
            f'<label>{texts["find"]} <input type="search" id="find" autocomplete="off"></label>'
            f'<label>{texts["order"]} <select id="order">{options}</select></label>'
            f'<a data-to="{csv}" href="{csv}">{texts["csv"]}</a></div>'
            f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></section>"
        )

    def _row(self, at: int, state: PaddockState) -> str:
        value, change, found = state.value, state.change, state.shown
        number = None if found is None else number_of(found)
        shown = self.texts["no_value"]
        if found is not None and number is not None:
            shown = self.number(number, quantity_named(found["quantity"]))
        when = "" if value is None else self.time(value["acquired_at"])
        sort = self.numbers.get(state.paddock)
        old = ' class="old"' if self.is_old(state) else ""
        day = "" if state.today is None else ' data-t="1"'
        return (
            f'<tr data-i="{at}" data-p="{html.escape(state.paddock)}" '
            f'data-v="{"" if sort is None else sort}" '
            f'data-d="{"" if change is None else round(change, 4)}"{day}{old}><th scope="row">'
            f"<button>{html.escape(state.title)}</button></th>"
            f'<td><i class="k {self._class_of(state)}"></i>{shown}</td>'
            f"<td>{'' if change is None else self.change_text(change)}</td>"
            f"<td>{when}</td><td>{' '.join(self._remarks(state))}</td></tr>"
        )

    def _remarks(self, state: PaddockState) -> Iterable[str]:
        texts, newest, value = self.texts, state.newest, state.value
        if state.today is not None:
            yield from self._farm_units(state.today)
        if newest is None:
            yield texts["never"]
        else:
            if value is not None and value["acquired_at"] != newest["acquired_at"]:
                yield texts["newest.none"].format(time=self.time(newest["acquired_at"]))
            explained = [html.escape(flag_text(texts, flag)) for flag in newest["flags"]]
            if number_of(newest) is None and not explained and newest["reason"]:
                explained = [html.escape(f"{newest['reason'][:1].upper()}{newest['reason'][1:]}.")]
            yield from explained
        if value is not None and "probes" in value:
            change = f"{100 * value['sm_correction']:+.1f}".replace(".", texts["decimal"])
            yield texts["corrected"].format(n=value["probes"], change=change)
        if state.probe is not None:
            yield texts["probe"].format(
                n=f"{100 * state.probe['sm']:.0f}", time=self.time(state.probe["at"])
            )

    def _farm_units(self, today: Mapping[str, Any]) -> Iterable[str]:
        """Return what today's value means on a farm, where the paddock has limits."""
        texts, left = self.texts, today["days_left"]
        if left is not None:
            yield (
                f'<b class="stale">{texts["daily.below"]}</b>'
                if left == 0
                else texts["daily.left"].format(n=round(left))
            )
        if today["available_percent"] is not None:
            yield texts["daily.available"].format(n=round(today["available_percent"]))
        if today["refill_mm"] is not None:
            yield texts["daily.refill"].format(n=round(today["refill_mm"]))
        if (rank := rank_of(today.get("drier_than"))) is not None:
            yield texts["daily.drier" if rank.is_drier else "daily.wetter"].format(n=rank.tenths)
        for flag in ("rain_missing", "no_pass"):
            if flag in today["flags"]:
                yield texts[f"flag.{flag}"]


def _seconds(acquired_at: str) -> int:
    return int(datetime.fromisoformat(acquired_at).timestamp())
