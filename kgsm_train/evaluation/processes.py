"""Work shared by processes that never outlive the run.

Each process works on one task after another and reports on its own pipe. When the run is
stopped, by whatever signal, no process stays behind: a worker that notices its parent gone
ends itself, SIGKILL included.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from kgsm_infer.base.errors import KgsmError, MissingError

from ..progress import PartProgress

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

#: How often a worker looks whether its parent is still there.
LOOK_SECONDS = 0.5


def share(
    work: Callable[[_Task, PartProgress], _Result],
    tasks: Sequence[_Task],
    jobs: int,
    progress: PartProgress | None,
) -> Iterator[_Result]:
    """Yield the results of ``work`` on ``tasks`` by several processes, as they are done.

    ``work`` must pickle. An error in it ends the run, and so does a worker that dies.
    """
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, SpawnProcess] = {}
    todo = list(tasks)[::-1]
    try:
        for _ in range(min(jobs, len(todo))):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_serve, args=(theirs, work, os.getpid()), daemon=True)
            with _stop_held_back():
                worker.start()
                workers[ours] = worker
            theirs.close()
            ours.send(todo.pop())
        while workers:
            for pipe in wait(list(workers)):
                assert isinstance(pipe, Connection)
                kind, content = _message(pipe, workers[pipe])
                if kind == "progress":
                    if progress is not None:
                        progress(*content)
                    continue
                if kind == "error":
                    raise content
                if todo:
                    pipe.send(todo.pop())
                else:
                    pipe.send(None)
                    workers.pop(pipe).join()
                yield content
    finally:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.join(5.0)
            if worker.is_alive():
                worker.kill()


@contextmanager
def _stop_held_back() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM until a worker has started and is known.

    A worker that loses its parent while it reads what it is to do prints a traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _message(pipe: Connection, worker: SpawnProcess) -> tuple[str, Any]:
    try:
        kind, content = pipe.recv()
    except (EOFError, ConnectionError):
        worker.join(1.0)
        code = worker.exitcode
        raise MissingError(
            f"a worker process died (exit {code}); was memory short? finished parts are kept, "
            "call again with fewer --jobs"
        ) from None
    return str(kind), content


def _serve(pipe: Connection, work: Callable[[Any, PartProgress], Any], parent: int) -> None:
    """Run the loop of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        while (task := pipe.recv()) is not None:
            try:
                pipe.send(("done", work(task, lambda *event: pipe.send(("progress", event)))))
            except KgsmError as error:
                pipe.send(("error", error))
    except (EOFError, ConnectionError):
        return  # the parent is gone


def _end_with(parent: int) -> None:
    """End this process when its parent is another one than it was born to."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
