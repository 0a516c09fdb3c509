"""Run a function of a request in a separate thread, and stop it if the request is cancelled."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

_T = TypeVar("_T")


class Cancelled(BaseException):
    """Raised inside the function of a request that timed out."""


async def run_cancellable(function: Callable[..., _T], *arguments: Any) -> _T:
    """Return ``function(*arguments)``; raises :class:`Cancelled` in its thread on a timeout.

    The exception is delivered between two steps of Python, so a long step of native code ends
    first. It reaches the thread only while the function runs: a thread that has not begun it yet
    returns without it, and one that has finished it is left alone.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_T] = loop.create_future()
    gate = threading.Lock()
    runs: bool | None = None  # None before the function begins, False once it must not be stopped

    def settle(result: Any, error: BaseException | None) -> None:
        if not outcome.done():
            if error is None:
                outcome.set_result(result)
            else:
                outcome.set_exception(error)

    def work() -> None:
        nonlocal runs
        result, error = None, None
        try:
            with gate:
                if runs is False:  # the request was cancelled before
                    return
                runs = True
            try:
                result = function(*arguments)
            except Exception as caught:  # noqa: BLE001  passed on to the request
                error = caught
            with gate:  # an exception that was sent before is delivered here at the latest
                runs = False
        except Cancelled:
            return
        with suppress(RuntimeError):  # the server ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    thread = threading.Thread(target=work, name="retrieve", daemon=True)
    thread.start()
    try:
        return await outcome
    except asyncio.CancelledError:
        with gate:
            if runs and thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident), ctypes.py_object(Cancelled)
                )
            runs = False
        raise
