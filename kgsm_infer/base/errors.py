"""What can go wrong, and the exit code the commands give it (design §3).

0 ok, 2 usage, 3 bad data, 4 bad model, 5 missing extra or resource.
"""


def printable(text: str) -> str:
    """Text of a file as a terminal may show it: control and format characters escaped.

    >>> printable("Lot 7\\x1b[2J"), printable("Łąka")
    ('Lot 7\\\\x1b[2J', 'Łąka')
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


class KgsmError(Exception):
    """A reason in one line, meant for the person who ran the command."""

    exit_code = 1


class UsageError(KgsmError):
    """The call itself is wrong: an option, an argument, a configuration key."""

    exit_code = 2


class DataError(KgsmError):
    """A table or scene that cannot be what it says it is."""

    exit_code = 3


class ModelError(KgsmError):
    """A model file that is broken, foreign, newer, or not what its card says."""

    exit_code = 4


class MissingError(KgsmError):
    """An optional package or a resource (disk, file) that is not there."""

    exit_code = 5
