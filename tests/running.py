"""``kgsm-infer`` commands that run until told, and their log lines."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

COMMAND = [sys.executable, "-m", "kgsm_infer.app.cli"]


class Running:
    """A command in the background; its log is read all the time, so that it never blocks."""

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

    def until(self, event, seconds=30.0):
        """The next line of this event, after the one asked for before."""
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
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        self.process.stderr.close()
