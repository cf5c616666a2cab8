"""Search what is sent for a file that is worth resuming, while the connection is being opened.

The host's rsync looks for the rest of an unfinished file before it looks at a file.  For 20,000
small files that takes a third of the time that rsync takes if none has changed.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

from ringtasks.common.fork import RenewedLock

__all__ = ["LARGE_BYTES", "WAIT", "LargeFiles", "searching"]

#: A smaller file is sent from its beginning if the one before was cut off.
LARGE_BYTES = 1024 * 1024
_BLOCK_BYTES = 512  # find(1), -size
#: Seconds for which the hosts wait for a search: about as long as it takes for 50,000 files.
WAIT = 0.1


class LargeFiles:
    """A search below local paths, by ``find``, which runs at the same time as this process.

    Get one by `searching`.

    :param follow: the targets of symbolic links are sent.
    """

    def __init__(self, paths: Sequence[str], *, follow: bool) -> None:
        blocks = LARGE_BYTES // _BLOCK_BYTES
        options = ["-L"] if follow else []
        command = ["find", *options, *paths, "-type", "f", "-size", f"+{blocks - 1}", "-print"]
        self.users = 0
        self._reading = threading.Lock()
        self._has_found: bool | None = None
        """None: the search has not ended."""
        self._awaited_until: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):  # there is no find
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )

    def close(self) -> None:
        """End the search."""
        if self._process is not None:
            with self._process as process:
                process.kill()

    def may_exist(self) -> bool:
        """Return False if the search has ended and found none."""
        if self._process is None or self._process.stdout is None:
            return True
        stdout = self._process.stdout
        with self._reading:
            if self._has_found is None:
                poll = select.poll()  # unlike select(2), it takes descriptors from 1024 on
                poll.register(stdout, select.POLLIN)
                # Once for all hosts: they would wait one after the other.
                self._awaited_until = self._awaited_until or time.monotonic() + WAIT
                if poll.poll(max(0, self._awaited_until - time.monotonic()) * 1000):
                    self._has_found = bool(stdout.read(1)) or self._process.wait() != 0
            return self._has_found is not False


_lock = RenewedLock()
_searches: dict[tuple[object, ...], LargeFiles] = {}


@contextlib.contextmanager
def searching(paths: Sequence[str], *, follow: bool) -> Iterator[LargeFiles]:
    """Yield the search below these paths; the hosts to which they are sent now have one in common.

    :param follow: as in `LargeFiles`.
    """
    key = (*paths, follow)
    with _lock.lock:
        search = _searches.get(key) or _searches.setdefault(key, LargeFiles(paths, follow=follow))
        search.users += 1
    try:
        yield search
    finally:
        with _lock.lock:
            search.users -= 1
            if not search.users:
                del _searches[key]
                search.close()
