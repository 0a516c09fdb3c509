"""Errors and the exit codes of the commands (design §3).

0 ok, 2 usage, 3 bad data, 4 bad model, 5 missing extra or resource.
"""

from __future__ import annotations

import errno
import re

#: Words of libraries that have no memory, which share no exception.
_NO_MEMORY = re.compile(
    r"out ?of ?memory|not enough memory|bad_?alloc|can(?:no|')t allocate|unable to allocate"
    r"|failed to (?:allocate|map segment)|can't start new thread|memory allocation|malloc",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    """Escape control and format characters of a text, for terminals.

    >>> printable("Lot 7\\x1b[2J"), printable("Łąka")
    ('Lot 7\\\\x1b[2J', 'Łąka')
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


class KgsmError(Exception):
    """Base of the expected errors; its text is one line for the user."""

    exit_code = 1


class UsageError(KgsmError):
    """The call itself is wrong: an option, an argument, a configuration key."""

    exit_code = 2


class DataError(KgsmError):
    """A table, scene or other input file is invalid."""

    exit_code = 3


class ModelError(KgsmError):
    """A model file is damaged, foreign, too new, or contradicts its card."""

    exit_code = 4


class MissingError(KgsmError):
    """An optional package or a resource (disk, file) is missing."""

    exit_code = 5


class SlowWarning(RuntimeWarning):
    """The C core is not installed, and NumPy computes at a fraction of its speed."""


def refuse_free_threading(version: str) -> None:
    """Raise :class:`MissingError` for a Python without the GIL, named by ``sys.version``.

    The C core and the caches are not tested without it.

    >>> refuse_free_threading("3.13.0 (main, Oct 7 2024) [GCC 12]")
    >>> refuse_free_threading("3.13.0 free-threading build")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    kgsm_infer.base.errors.MissingError: kgsm is not tested on free-threaded Python; use the ...
    """
    if "free-threading build" in version:
        raise MissingError(
            "kgsm is not tested on free-threaded Python; use the standard build of Python"
        )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return True if an error, or one that it was raised from, says that memory is short.

    >>> is_out_of_memory(OSError(12, "Cannot allocate memory")), is_out_of_memory(OSError(28, "x"))
    (True, False)
    >>> is_out_of_memory(RuntimeError("std::bad_alloc")), is_out_of_memory(None)
    (True, False)
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if _NO_MEMORY.search(f"{type(error).__name__} {error}"):
            return True
        error = error.__cause__ or error.__context__
    return False


def raise_if_machine(error: BaseException, place: str) -> None:
    """Raise MissingError if the machine, not the file that was read, is the cause of an error.

    The causes are memory, the number of open files, and the disk of temporary files.

    A reader of many files leaves out one that is broken; without memory, or on a full disk of
    temporary files, it must not leave out all of them.
    """
    if is_out_of_memory(error):
        raise MissingError(f"{place}: not enough memory to read it") from None
    if getattr(error, "errno", None) == errno.EMFILE or "Too many open files" in str(error):
        raise MissingError(
            f"{place}: too many open files; raise the limit of the system (ulimit -n)"
        ) from None
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise MissingError(
            f"{place}: the disk of temporary files is full; name another folder in TMPDIR"
        ) from None
