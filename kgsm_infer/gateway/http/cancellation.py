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
    first. The thread is of this call alone: a late exception meets nothing else.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not outcome.done():
            if error is None:
                outcome.set_result(result)
            else:
                outcome.set_exception(error)

    def work() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except Cancelled:
            return
        except Exception as caught:  # noqa: BLE001  passed on to the request
            error = caught
        with suppress(RuntimeError):  # the server ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    thread = threading.Thread(target=work, name="retrieve", daemon=True)
    thread.start()
    try:
        return await outcome
    except asyncio.CancelledError:
        if thread.ident is not None and thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(Cancelled)
            )
        raise
