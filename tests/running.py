"""Run ``kgsm-infer`` commands in the background and follow their logs.

Tests wait for events, never for a length of time. :data:`PATIENCE_S` bounds each wait so that a
fault ends the test; it is far above the time a busy machine needs.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

#: Upper bound of one wait, in seconds. No test asserts a duration.
PATIENCE_S = 300.0
COMMAND = [sys.executable, "-m", "kgsm_infer.app.cli"]


def wait_for(holds, describe=lambda: "", seconds=PATIENCE_S):
    """Wait until ``holds()`` is true; AssertionError with ``describe()`` after ``seconds``."""
    limit = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > limit:
            raise AssertionError(f"not reached within {seconds:.0f} s: {describe()}")
        time.sleep(0.02)


class Running:
    """A command in the background. A thread reads its log, so that the command never blocks."""

    def __init__(self, *arguments, **options):
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True, **options
        )
        self.lines, self._seen, self.text = [], {}, ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self._news:
                self.text += line
                try:
                    self.lines.append(json.loads(line))
                except ValueError:
                    self.lines.append({"event": "", "text": line})
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def until(self, event, seconds=PATIENCE_S):
        """Return the next line of this event after the one returned before.

        Raises AssertionError with the whole log where the command ends, or ``seconds`` pass, first.
        """
        limit = time.monotonic() + seconds
        with self._news:
            while True:
                for at in range(self._seen.get(event, 0), len(self.lines)):
                    if self.lines[at]["event"] == event:
                        self._seen[event] = at + 1
                        return self.lines[at]
                left = limit - time.monotonic()
                if left <= 0 or (
                    not self._news.wait(min(left, 0.2)) and not self._reader.is_alive()
                ):
                    raise AssertionError(f"no {event}: {self.text}")

    def stop(self):
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        if failure is not None:
            print(self.text)  # pytest shows it with the failure
        if self.process.poll() is None:
            self.kill()
        self.process.stderr.close()
