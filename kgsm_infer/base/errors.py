"""Errors and the exit codes of the commands (design §3).

0 ok, 2 usage, 3 bad data, 4 bad model, 5 missing extra or resource.
"""


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
