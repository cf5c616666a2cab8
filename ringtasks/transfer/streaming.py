"""The bytes of one file to a program on the host, or from one, as work of `SSHClient.perform`."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ringtasks.client.result import SSHResult
from ringtasks.remote.marks import NoMarkError
from ringtasks.ssh.execution import Ending
from ringtasks.ssh.link import Link, LinkLostError
from ringtasks.ssh.link_pool import Report

from .fd_session import Conduit

__all__ = ["Stream"]

_LOOK_INTERVAL = 0.2  # seconds between looks at how far it is
_MAX_STDERR_BYTES = 64 * 1024
_PIECE_BYTES = 32 * 1024


class Stream:
    """One run of a program that reads a file of this machine, or whose output is one.

    :param script: what the host runs, in ``shell``.
    :param path: the file; it is made where it is written.
    :param offset: where in the file to begin.
    :param writes: the file gets the output; else it is the input.
    :param rate: bytes a second to send at most; None: as fast as it goes.
    :param on_position: is told where in the file it is, now and then.
    :param limit: seconds, None for no limit.
    """

    def __init__(
        self,
        script: str,
        shell: str,
        path: Path,
        offset: int,
        *,
        writes: bool,
        rate: float | None = None,
        on_position: Callable[[int], None] | None = None,
        limit: float | None = None,
    ) -> None:
        self._script, self._shell = script, shell
        self._path, self._offset, self._writes = path, offset, writes
        self._rate = rate
        self._on_position = on_position
        self.limit = limit
        self.report = Report()
        self.is_interrupted = False
        self.position = offset
        self.seconds = 0.0
        """How long it ran, without the time to open a link."""
        self._started = time.monotonic()
        self._is_cancelled = self._timed_out = False
        self._conduit: Conduit | None = None
        self._stderr = b""

    def run_over(self, link: Link) -> Ending:
        """:raises LinkLostError: nothing was started.
        :raises OSError: the file cannot be opened.
        """
        self._conduit = conduit = Conduit(link, self._take_stderr)
        if self._is_cancelled:
            return Ending(interrupted=True)
        flags = os.O_WRONLY | os.O_CREAT if self._writes else os.O_RDONLY
        file = os.open(self._path, flags, 0o600)
        begun = time.monotonic()
        try:
            os.lseek(file, self._offset, os.SEEK_SET)
            nothing = os.open(os.devnull, os.O_RDWR)
            # A copy shares its position with the original, which tells how far the other is.
            streams = (nothing, os.dup(file)) if self._writes else (self._source(file), nothing)
            with self._limited(), self._watched(file):
                status = conduit.run(self._script, self._shell, *streams)
        except LinkLostError as error:
            if not conduit.has_begun:
                raise
            return Ending(lost=str(error))
        except NoMarkError as error:
            return Ending(status=error.status, unproven=error.evidence, timed_out=self._timed_out)
        finally:
            self.position = os.lseek(file, 0, os.SEEK_CUR)
            self.seconds = time.monotonic() - begun
            os.close(file)
        if status is None:
            return Ending(timed_out=self._timed_out, interrupted=not self._timed_out)
        return Ending(status=status)

    def cancel(self) -> None:
        """End it, from another thread."""
        self._is_cancelled = True
        if self._conduit is not None:
            self._conduit.cancel()

    def result(
        self, host: str, returncode: int, link: Link | None, error: str | None = None
    ) -> SSHResult:
        if self._timed_out:
            error = f"{host}: the time limit of {self.limit:g} s passed"
        return SSHResult(
            success=returncode == 0 and error is None,
            returncode=returncode,
            stdout="",
            stderr=self._stderr.decode("utf-8", "replace"),
            elapsed_ms=round((time.monotonic() - self._started) * 1000, 3),
            command=str(self._path),
            host=host,
            transport_used=link.route if link else None,
            timed_out=self._timed_out,
            error=error,
            stderr_bytes=self._stderr,
        )

    def _source(self, file: int) -> int:
        """What the program is to read: the file itself, or a pipe that is filled slowly."""
        if self._rate is None:
            return os.dup(file)
        reader, writer = os.pipe()
        arguments = (os.dup(file), writer, self._rate)
        threading.Thread(target=_trickle, args=arguments, daemon=True).start()
        return reader

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        if self.limit is None:
            yield
            return

        def pass_() -> None:
            self._timed_out = True
            self.cancel()

        timer = threading.Timer(max(0.0, self._started + self.limit - time.monotonic()), pass_)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def _watched(self, file: int) -> Iterator[None]:
        tell = self._on_position
        if tell is None:
            yield
            return
        is_over = threading.Event()

        def look() -> None:
            while not is_over.wait(_LOOK_INTERVAL):
                tell(os.lseek(file, 0, os.SEEK_CUR))

        looking = threading.Thread(target=look, name="ringtasks-progress", daemon=True)
        looking.start()
        try:
            yield
        finally:
            is_over.set()
            looking.join()

    def _take_stderr(self, chunk: bytes) -> None:
        self._stderr = (self._stderr + chunk)[-_MAX_STDERR_BYTES:]


def _trickle(source: int, sink: int, rate: float) -> None:
    """Pass a file on at ``rate`` bytes a second, until its end or until nobody reads it."""
    started, passed = time.monotonic(), 0
    try:
        while piece := os.read(source, _PIECE_BYTES):
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(sink, rest) :]
            passed += len(piece)
            time.sleep(max(0.0, started + passed / rate - time.monotonic()))
    except BrokenPipeError:
        return
    finally:
        os.close(source)
        os.close(sink)
