"""Stream one file to or from a program on the host, as work of `SSHClient.perform`."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

from ringtasks.client.result import SSHResult
from ringtasks.remote.marks import NoMarkError
from ringtasks.ssh.execution import Ending
from ringtasks.ssh.link import Link, LinkLostError
from ringtasks.ssh.link_pool import RouteReport

from .fd_session import FdSession

__all__ = ["Stream"]

#: Seconds between progress checks; an overflow may last as long before it is noticed.
_LOOK_INTERVAL = 0.05
_MAX_STDERR_BYTES = 64 * 1024
_PIECE_BYTES = 32 * 1024


class Stream:
    """One run of a program that reads a local file, or writes one.

    :param script: run by the host, in ``shell``.
    :param file: a descriptor, which stays open.
    :param offset: the position in the file to begin at.
    :param most_bytes: the file receives the output, and no more than this many bytes in all; None:
        the file is the input.
    :param rate: bytes a second to send at most; None: unlimited.
    :param on_position: receives the position in the file now and then.
    :param limit: seconds, None for no limit.
    """

    def __init__(
        self,
        script: str,
        shell: str,
        file: int,
        offset: int,
        *,
        most_bytes: int | None = None,
        rate: float | None = None,
        on_position: Callable[[int], None] | None = None,
        limit: float | None = None,
    ) -> None:
        self._script, self._shell = script, shell
        self._file, self._offset, self._most_bytes = file, offset, most_bytes
        self._rate = rate
        self._on_position = on_position
        self.limit = limit
        self.report = RouteReport()
        self.is_interrupted = False
        self.position = offset
        self.seconds = 0.0
        """Seconds that it ran, without the time to open a link."""
        self.has_overflowed = False
        """True if it was ended because more bytes came than ``most_bytes`` allows."""
        self._started = time.monotonic()
        self._is_cancelled = self._timed_out = False
        self._conduit: FdSession | None = None
        self._stderr = b""

    def run_over(self, link: Link) -> Ending:
        """Run the program over ``link``.

        :raises LinkLostError: nothing was started.
        """
        self._conduit = fd_session = FdSession(link, self._take_stderr)
        if self._is_cancelled:
            return Ending(interrupted=True)
        begun = time.monotonic()
        os.lseek(self._file, self._offset, os.SEEK_SET)
        nothing = os.open(os.devnull, os.O_RDWR)
        # A copy of the descriptor shares its position with the original, which shows the progress.
        writes = self._most_bytes is not None
        streams = (nothing, os.dup(self._file)) if writes else (self._source(), nothing)
        try:
            with self._limited(), self._watched():
                status = fd_session.run(self._script, self._shell, *streams)
        except LinkLostError as error:
            if not fd_session.has_begun:
                raise
            return Ending(lost=str(error))
        except NoMarkError as error:
            if writes:
                os.ftruncate(self._file, self._offset)
            return Ending(status=error.status, unproven=error.evidence, timed_out=self._timed_out)
        finally:
            self.position = os.lseek(self._file, 0, os.SEEK_CUR)
            self.seconds = time.monotonic() - begun
        if self.has_overflowed or self._is_too_far():
            self.has_overflowed = True
            return Ending(status=1)
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
        if self.has_overflowed:
            error = f"{host}: sends more than the {self._most_bytes} bytes that may come"
        elif self._timed_out:
            error = f"{host}: the time limit of {self.limit:g} s passed"
        return SSHResult(
            success=returncode == 0 and error is None,
            returncode=returncode,
            stdout="",
            stderr=self._stderr.decode("utf-8", "replace"),
            elapsed_ms=round((time.monotonic() - self._started) * 1000, 3),
            command=self._script,
            host=host,
            transport_used=link.route if link else None,
            timed_out=self._timed_out,
            error=error,
            stderr_bytes=self._stderr,
        )

    def _source(self) -> int:
        """Return the program's input: the file itself, or a pipe that is filled slowly."""
        if self._rate is None:
            return os.dup(self._file)
        reader, writer = os.pipe()
        arguments = (os.dup(self._file), writer, self._rate)
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
    def _watched(self) -> Iterator[None]:
        """Watch the file's position: the connection's holder may write the file itself."""
        if self._on_position is None and self._most_bytes is None:
            yield
            return
        is_over = threading.Event()
        looking = threading.Thread(
            target=self._look, args=(is_over,), name="ringtasks-progress", daemon=True
        )
        looking.start()
        try:
            yield
        finally:
            is_over.set()
            looking.join()

    def _look(self, is_over: threading.Event) -> None:
        tell = self._on_position
        while not is_over.wait(_LOOK_INTERVAL):
            if self._is_too_far():
                self.has_overflowed = True
                self.cancel()
                return
            if tell is not None:
                tell(os.lseek(self._file, 0, os.SEEK_CUR))

    def _is_too_far(self) -> bool:
        most = self._most_bytes
        return most is not None and os.lseek(self._file, 0, os.SEEK_CUR) > most

    def _take_stderr(self, chunk: bytes) -> None:
        self._stderr = (self._stderr + chunk)[-_MAX_STDERR_BYTES:]


def _trickle(source: int, sink: int, rate: float) -> None:
    """Pass a file on at ``rate`` bytes a second, until its end or until its reader has ended."""
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
