"""Shared code of both commands: one-line errors, exit codes, signals, standard output.

Exit codes (design §3): 0 ok, 2 usage, 3 bad data, 4 bad model, 5 missing extra or resource;
130 and 143 stopped by Ctrl-C and SIGTERM; 1 an error in kgsm itself, with a traceback if --debug.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import (
    KgsmError,
    MissingError,
    SlowWarning,
    is_out_of_memory,
    printable,
    refuse_free_threading,
)
from .files import is_stdout
from .log import LOGGER


class Stopped(BaseException):
    """Ctrl-C or SIGTERM. A BaseException, so that no handler on the way catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(commands: Any, name: str) -> None:
    """Run a typer application; exit with a code, and with a one-line reason if it failed."""
    arguments = [item for item in sys.argv[1:] if item != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    for stream in (sys.stdout, sys.stderr):  # escape names the terminal cannot show
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code: int = 0
    try:
        refuse_free_threading(sys.version)
        others = debug or bool(sys.warnoptions)
        with _stopped_by_signals(), _warnings_as_notes(others), _log_as_notes(debug):
            commands(args=arguments, prog_name=name)
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except Stopped as stop:
        code = 128 + stop.number
        _tell(name, "stopped; no output was written")
    except Exception as error:  # noqa: BLE001  the last resort: a line, not a traceback
        if debug:
            import traceback

            traceback.print_exc()
        code = _reason(name, error)
    sys.exit(_flushed(name, code))


def say(text: str, output: str | Path | None = None) -> None:
    """Print a message; on stderr if the result itself goes to standard output."""
    aside = output is not None and is_stdout(output)
    for line in text.splitlines():
        print(printable(line), file=sys.stderr if aside else sys.stdout)


def note(text: str) -> None:
    """Print a remark on stderr."""
    print(f"note: {printable(text)}", file=sys.stderr)


def notes(lines: Iterable[str]) -> None:
    """Print remarks on stderr, one a line."""
    for line in lines:
        note(line)


def _reason(name: str, error: Exception) -> int:
    if isinstance(error, KgsmError):
        _tell(name, str(error))
        return error.exit_code
    if is_out_of_memory(error):
        _tell(name, "not enough memory for this input; give it in parts, or on a larger machine")
        return MissingError.exit_code
    if isinstance(error, OSError):
        # an open file has no name here; only if standard output fails again is it the cause
        place = "standard output" if _stdout_fails() else "a file could not be read or written"
        _tell(name, f"{error.filename or place}: {error.strerror or error}")
        return MissingError.exit_code
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    _tell(name, f"a fault of kgsm, not of your data ({what[:300]}); --debug shows where")
    return 1


def _stdout_fails() -> bool:
    """Return True if what waits for standard output cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


#: Characters of a reason; a bad cell may hold any number of them.
MOST_TOLD = 1500


def _tell(name: str, reason: str) -> None:
    line = " ".join(reason.split())  # one line, whatever a bad cell held, and not a long one
    if len(line) > MOST_TOLD:
        line = f"{line[: MOST_TOLD - 200]} ... {line[-200:]}"
    with suppress(OSError):
        print(f"{name}: {printable(line)}", file=sys.stderr)


def _flushed(name: str, code: int) -> int:
    """Flush standard output; return the exit code, or that of a failed flush."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # what is still in the buffer must not fail again when Python ends
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if code == 0 and not isinstance(error, BrokenPipeError):
            _tell(name, f"standard output: {error.strerror or error}")
            return MissingError.exit_code
    return code


@contextmanager
def _warnings_as_notes(others: bool) -> Iterator[None]:
    """Print warnings of kgsm as one-line remarks, without the place in the source.

    others: print those of libraries too; they are remarks on inputs that kgsm checks itself.
    """
    usual = warnings.showwarning

    def show(message: Any, category: Any, filename: str, *rest: Any, **more: Any) -> None:
        if issubclass(category, SlowWarning):
            note(str(message))
        elif others:
            usual(message, category, filename, *rest, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


class _Notes(logging.Handler):
    """Print log records as remarks on the present stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a closed stderr takes no remark
            note(record.getMessage())


@contextmanager
def _log_as_notes(debug: bool) -> Iterator[None]:
    """Print warnings of the package's logger as remarks; with ``debug`` all that it says."""
    handler, before = _Notes(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Raise :class:`Stopped` at Ctrl-C and SIGTERM; restore the handlers afterwards."""

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    before: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError):  # not in the main thread, where signals cannot be set
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
