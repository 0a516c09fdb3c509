"""Canonical form of keys, so that two spellings of one key are one place or one orbit.

Files of one farm spell a key in several ways: a data frame with an empty cell turns ``12`` into
``12.0``, macOS decomposes accents (NFD) and other systems compose them (NFC), Parquet can hold
names as bytes. Every reader applies these functions before it compares keys.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

from .text_column import TextColumn, decoded, shorten

_WHOLE = re.compile(r"(-?\d+)\.0+", re.ASCII)
_WHOLE_COMMA = re.compile(r"(-?\d+),0+", re.ASCII)
#: Whole numbers as R writes them: 1e+05.
_SCIENTIFIC = re.compile(r"-?\d(?:\.\d+)?e\+\d\d", re.ASCII)
_DIRECTIONS = {"ASC": "ASCENDING", "DESC": "DESCENDING"}
#: All blanks; the characters 1c to 1f separate the parts of a key.
_BLANKS = re.compile(r"[^\S\x1c-\x1f]+")
#: Characters that cannot be seen: byte order mark and zero-width space.
_INVISIBLE = re.compile("[\ufeff\u200b]")


def canonical_id(value: object, decimal_comma: bool = False) -> str:
    """Return the canonical form of a name: text in NFC, whole numbers without decimals.

    Blanks around it and invisible characters are removed, and blanks within it are single spaces.
    Upper and lower case, and leading zeros, distinguish names. decimal_comma: of the file.
    DataError for bytes that are not UTF-8.

    >>> [canonical_id(name) for name in (12, 12.0, "12.0", b"12", " 12 ", "012", "1e+05")]
    ['12', '12', '12', '12', '12', '012', '100000']
    >>> canonical_id("Ca\\u0303o") == canonical_id("C\\u00e3o")
    True
    """
    text = decoded(value) if isinstance(value, bytes) else str(value)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    text = _BLANKS.sub(" ", text).strip()
    if whole := (_WHOLE_COMMA if decimal_comma else _WHOLE).fullmatch(text):
        return whole.group(1)
    if _SCIENTIFIC.fullmatch(text) and float(text).is_integer() and abs(float(text)) < 2**53:
        return str(int(float(text)))
    return text


def canonical_name(name: str) -> str:
    """Return the canonical form of a column's or property's name: NFC, no invisible characters.

    >>> canonical_name("argile_te\\u0301") == canonical_name(" argile_t\\u00e9\\ufeff")
    True
    """
    if not name.isascii():
        name = unicodedata.normalize("NFC", _INVISIBLE.sub("", name))
    return name.strip()


def name_note(source: str, names: Mapping[str, str], what: str = "column") -> str:
    """Describe the names that :func:`canonical_name` changed, or "". names: written -> canonical.

    >>> name_note("t.csv", {"e\\u0301": "\\u00e9", "date": "date"})
    't.csv: column e\\\\u0301 is read as \\\\xe9'
    """
    changed = [
        f"{ascii(old)[1:-1]} is read as {ascii(new)[1:-1]}"
        for old, new in names.items()
        if old.strip() != new
    ]
    return f"{source}: {what} {', '.join(changed[:3])}" if changed else ""


def canonical_orbit(text: str) -> str:
    """Return the canonical form of an orbit: upper case, parts joined by ``-``, whole numbers.

    >>> canonical_orbit("69.0") == canonical_orbit(" 069 ") == canonical_orbit("69")
    True
    >>> canonical_orbit("descending_69.0"), canonical_orbit("desc 69")
    ('DESCENDING-69', 'DESCENDING-69')
    """
    parts = re.split(r"[-_\s]+", canonical_id(text).upper())
    plain = "-".join(_DIRECTIONS.get(part, part) for part in parts)
    return re.sub(r"\b0*(\d+)(?:\.0+)?(?![\d.])", r"\1", plain)


#: Text columns of a table that are compared with other files -> their canonical form.
KEY_COLUMNS: Mapping[str, Callable[[str], str]] = {
    **dict.fromkeys(("site", "field", "cell", "paddock"), canonical_id),
    "orbit": canonical_orbit,
}


def case_note(source: str, names: Iterable[str]) -> str:
    """Name two of distinct names that differ in upper and lower case alone, or "".

    >>> case_note("v.csv", ["North", "south", "north"])
    'v.csv: North and north are two paddocks; write one name one way'
    """
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(name.casefold(), name)
        if other != name:
            return f"{source}: {other} and {name} are two paddocks; write one name one way"
    return ""


def spelling_note(place: str, written: TextColumn, canonical: TextColumn) -> str:
    """Describe the cells that :func:`canonical_id` or :func:`canonical_orbit` changed, or "".

    place: file and column.

    >>> two = TextColumn.of(["12", "12"])
    >>> spelling_note("t.csv: column site", TextColumn.of(["12.0", "12"]), two)
    't.csv: column site: 12.0 is read as 12'
    """
    if canonical is written:
        return ""
    pairs = dict.fromkeys(zip(written, canonical, strict=True))
    changed = [pair for pair in pairs if pair[0] != pair[1]]
    if not changed:
        return ""
    old, new = map(shorten, changed[0])
    if unicodedata.normalize("NFKC", old) == unicodedata.normalize("NFKC", new):  # look alike
        old, new = (ascii(text)[1:-1] for text in changed[0])
    more = len(changed) - 1
    others = f" (and {more} more {'spelling' if more == 1 else 'spellings'})" if more else ""
    return f"{place}: {old} is read as {new}{others}"
