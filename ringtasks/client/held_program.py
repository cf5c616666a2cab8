"""A program on a host that runs as long as its stdin is open, in a thread of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from ringtasks.common.fork import not_for_children
from ringtasks.common.threads import start_thread
from ringtasks.ssh.link import STDOUT

from .ask import Ask
from .result import SSHResult
from .ssh_client import SSHClient

__all__ = ["HeldProgram"]


class HeldProgram:
    """The program, from its start to `end`; the host sees the end of its stdin then.

    ``stdout`` and ``stderr`` are the first ``most_bytes`` of each: a host may send any amount.
    ``result`` is None until the program has ended.

    :param ask: the program, without input and callbacks.
    """

    def __init__(self, client: SSHClient, ask: Ask, most_bytes: int) -> None:
        self.stdout = self.stderr = b""
        self.result: SSHResult | None = None
        self._most_bytes = most_bytes
        self._changed, self._has_ended = threading.Condition(), False
        reader, self._writer = os.pipe()
        not_for_children(self)
        self._thread = start_thread(self._run, client, ask, reader, name="ringtasks-held")

    def descriptors(self) -> list[int]:
        """Return the end of the pipe that keeps the program running."""
        return [self._writer]

    def wait_for(self, is_told: Callable[[bytes], bool], timeout: float) -> None:
        """Wait until ``is_told`` is true of stdout, the program has ended, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or is_told(self.stdout), timeout)

    def end(self, timeout: float) -> None:
        """Close the program's stdin, and wait for its end."""
        writer, self._writer = self._writer, -1
        os.close(writer)
        self._thread.join(timeout)

    def _run(self, client: SSHClient, ask: Ask, reader: int) -> None:
        try:
            with os.fdopen(reader, "rb", buffering=0) as stdin:
                self.result = client.ask(ask._replace(stdin=stdin, on_output=self._take))
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _take(self, stream: int, chunk: bytes) -> None:
        with self._changed:
            if stream == STDOUT:
                self.stdout = (self.stdout + chunk)[: self._most_bytes]
            else:
                self.stderr = (self.stderr + chunk)[: self._most_bytes]
            self._changed.notify_all()
