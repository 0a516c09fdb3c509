"""Send the state of the service to systemd (sd_notify): a datagram to its socket."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(message: str) -> None:
    """Send ``READY=1``, ``WATCHDOG=1``, ``STOPPING=1`` …; nothing without a socket."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or address[0] not in "/@":
        return
    if address[0] == "@":  # Linux's abstract namespace
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(message.encode(), address)


def watchdog_s() -> float | None:
    """Return the seconds between two beats of the watchdog, half of WatchdogSec, or None."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    owner = os.environ.get("WATCHDOG_PID")
    return microseconds / 2e6 if owner in (None, str(os.getpid())) else None
