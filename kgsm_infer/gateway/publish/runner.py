"""Run each publisher in a separate thread.

General architecture. The transaction that stores a value also puts one message per publisher into
the table ``outbox``, so nothing is published that a power cut could take back and nothing stored
is forgotten. A publisher takes its messages from there in order and removes each once the other
side has acknowledged it; a record may therefore be sent twice, never not at all, and equal keys
carry equal bytes.

This module has the one thread, wait and restart for all of them: :func:`run_publisher` calls
:meth:`Publisher.publish` again after each commit, and after a wait that grows where it failed
(:class:`~kgsm_infer.gateway.threads.Backoff`). A new destination is a class with that method.

    mqtt            records and present states to a broker, with Home Assistant's discovery
    farmos          numbers into data streams, over HTTPS
    provided        each record to a function of another package
    ngsi_ld, sensorthings   formats only: the API serves them, nothing is pushed
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...base.errors import KgsmError
from ..log import Log
from ..store.failures import StoreBroken
from ..threads import Backoff, Task


class Publisher(Protocol):
    """A destination of stored values.

    name: of its messages in the outbox.  waits_event: log event of a failure, with the reason.
    """

    name: str
    waits_event: str
    backoff: Backoff

    def publish(self, task: Task) -> str | None:
        """Publish what is queued; returns None when done, else the reason why something is left.

        One that keeps a connection returns when the connection ends. It must return soon after
        ``task.stopping`` is set and ``task.signal`` with it, and call ``task.expect`` before it
        waits for anything longer than a minute.
        """
        ...


def run_publisher(publisher: Publisher, log: Log, damaged: Callable[[], None]) -> Task:
    """Create the thread of a publisher. damaged: called where the database is damaged."""

    def run(task: Task) -> str | None:
        task.signal.clear()
        try:
            return publisher.publish(task)
        except StoreBroken as error:
            damaged()
            return str(error)
        except (KgsmError, OSError, ValueError) as error:
            return str(error) or type(error).__name__

    def failed(reason: str, wait_s: float) -> None:
        log(publisher.waits_event, reason=reason, wait_s=round(wait_s, 1))

    return Task(publisher.name, run, log, publisher.backoff, failed)
