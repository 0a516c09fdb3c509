"""Find what other packages provide by entry points (docs/integrate.md).

    kgsm.presets      layers of an archive's products, for scene manifests
    kgsm.sources      readers of published tables, as ``kgsm-train data NAME``
    kgsm.publishers   destinations of a gateway's values

A provider that cannot be loaded costs its own name only. The reason is logged once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .log import LOGGER

#: Returns why a loaded object is not what its group needs; empty for one that is.
Check = Callable[[Any], str]


@cache
def _found(group: str) -> Mapping[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.name in found:
            LOGGER.warning(
                "%s: %s is provided twice; %s is used", group, point.name, found[point.name].value
            )
        found.setdefault(point.name, point)
    return found


@cache
def _loaded(group: str, name: str, check: Check) -> Any:
    """Return the object, or None with a logged reason."""
    point = _found(group)[name]
    try:
        content = point.load()
        reason = check(content)
    except (Exception, SystemExit) as error:  # noqa: BLE001  a provider may raise anything
        reason = f"{type(error).__name__}: {error}"
    if not reason:
        return content
    package = getattr(point.dist, "name", None) or point.value
    LOGGER.warning("%s of package %s cannot be used as one of %s: %s", name, package, group, reason)
    return None


def forget() -> None:
    """Search again at the next use, for tests."""
    _found.cache_clear()
    _loaded.cache_clear()


class Provided(Mapping[str, Any]):
    """Names of a group: those of kgsm, then those of other packages.

    Names of kgsm are found first and cannot be replaced. Other packages are searched when a name
    is not one of kgsm's, or when all names are listed.
    """

    def __init__(self, group: str, check: Check, own: Mapping[str, Any] | None = None) -> None:
        self.group, self.own, self._check = group, dict(own or {}), check

    def __getitem__(self, name: str) -> Any:
        if name in self.own:
            return self.own[name]
        if name not in _found(self.group):
            raise KeyError(name)
        content = _loaded(self.group, name, self._check)
        if content is None:
            raise KeyError(name)
        return content

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        for name in _found(self.group):
            if name not in self.own and _loaded(self.group, name, self._check) is not None:
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)


def not_callable(content: Any) -> str:
    """Return the reason why an object is not a function; empty for one that is."""
    return "" if callable(content) else f"a {type(content).__name__}, not a function"
