"""Stream one file to or from a program on the host, as the work of an `Operation`."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator

from ringtasks.client.operation import LimitedWork
from ringtasks.common.capture import CapturedOutput
from ringtasks.common.descriptors import write_all
from ringtasks.common.threads import start_thread
from ringtasks.remote.marks import NoMarkError
from ringtasks.ssh.execution import Ending
from ringtasks.ssh.link import STDERR, Link, LinkLostError, NotStartedError

from .fd_session import FdSession

__all__ = ["FileStream"]

#: Seconds between progress checks; an overflow may last as long before it is noticed.
_LOOK_INTERVAL = 0.05
_MAX_STDERR_BYTES = 64 * 1024
_PIECE_BYTES = 32 * 1024


class FileStream(LimitedWork):
    """One run of a program that reads a local file, or writes one.

    :param script: run by the host, in ``shell``.
    :param file: a descriptor, which stays open.
    :param offset: the position in the file to begin at.
    :param most_bytes: the file receives the output, and no more than this many bytes in all; None:
        the file is the input.
    :param rate: bytes a second to send at most; None: unlimited.
    :param on_position: receives the position in the file now and then.
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
    ) -> None:
        super().__init__()
        self._script, self._shell = script, shell
        self._file, self._offset, self._most_bytes = file, offset, most_bytes
        self._rate = rate
        self._on_position = on_position
        self.output = CapturedOutput(_MAX_STDERR_BYTES)
        self.position = offset
        self.seconds = 0.0
        """Seconds that it ran, without the time to open a link."""
        self._has_overflowed = False
        self._fd_session: FdSession | None = None

    def _run_over(self, link: Link) -> Ending | None:
        on_stderr = functools.partial(self.output.add, STDERR)
        self._fd_session = fd_session = FdSession(link, on_stderr, self._deadline)
        if self._is_stopped:
            return None
        begun = time.monotonic()
        os.lseek(self._file, self._offset, os.SEEK_SET)
        nothing = os.open(os.devnull, os.O_RDWR)
        # A copy of the descriptor shares its position with the original, which shows the progress.
        writes = self._most_bytes is not None
        streams = (nothing, os.dup(self._file)) if writes else (self._source(), nothing)
        try:
            with self._watched():
                status = fd_session.run(self._script, self._shell, *streams)
        except LinkLostError as error:
            if not fd_session.has_begun or isinstance(error, NotStartedError):
                raise
            return None if self._is_late else Ending(lost=str(error))
        except NoMarkError as error:
            if writes:
                os.ftruncate(self._file, self._offset)
            if self._is_late:
                return None
            return Ending(status=error.status, unproven=error.evidence)
        finally:
            self.position = os.lseek(self._file, 0, os.SEEK_CUR)
            self.seconds = time.monotonic() - begun
        if self._has_overflowed or self._is_too_far():
            excess = f"sends more than the {self._most_bytes} bytes that may come"
            return Ending(status=1, error=excess)
        return None if status is None else Ending(status=status)

    def _interrupt(self) -> None:
        if self._fd_session is not None:
            self._fd_session.cancel()

    def _source(self) -> int:
        """Return the program's input: the file itself, or a pipe that is filled slowly."""
        if self._rate is None:
            return os.dup(self._file)
        reader, writer = os.pipe()
        start_thread(_trickle, os.dup(self._file), writer, self._rate, name="ringtasks-trickle")
        return reader

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Watch the file's position: the connection's holder may write the file itself."""
        if self._on_position is None and self._most_bytes is None:
            yield
            return
        is_over = threading.Event()
        looking = start_thread(self._look, is_over, name="ringtasks-progress")
        try:
            yield
        finally:
            is_over.set()
            looking.join()

    def _look(self, is_over: threading.Event) -> None:
        tell = self._on_position
        while not is_over.wait(_LOOK_INTERVAL):
            if self._is_too_far():
                self._has_overflowed = True
                self._interrupt()
                return
            if tell is not None:
                tell(os.lseek(self._file, 0, os.SEEK_CUR))

    def _is_too_far(self) -> bool:
        most = self._most_bytes
        return most is not None and os.lseek(self._file, 0, os.SEEK_CUR) > most


def _trickle(source: int, sink: int, rate: float) -> None:
    """Pass a file on at ``rate`` bytes a second, until its end or until its reader has ended."""
    started, passed = time.monotonic(), 0
    try:
        while piece := os.read(source, _PIECE_BYTES):
            write_all(sink, piece)
            passed += len(piece)
            time.sleep(max(0.0, started + passed / rate - time.monotonic()))
    except BrokenPipeError:
        return
    finally:
        os.close(source)
        os.close(sink)
