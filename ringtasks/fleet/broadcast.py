"""One input for many readers: a temporary file that each of them reads at its own pace."""

from __future__ import annotations

import io
import tempfile
import threading
from typing import BinaryIO

__all__ = ["Broadcast"]

_CHUNK_BYTES = 64 * 1024


class Broadcast:
    """Reads ``source`` as it arrives, in a thread of its own.

    The input may be endless, so it is kept in an unnamed file (on disk from a megabyte on).
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._kept = tempfile.SpooledTemporaryFile(max_size=1024 * 1024)  # noqa: SIM115
        self._size_bytes = 0
        self._is_complete = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, name="ringtasks-stdin-all", daemon=True).start()

    def reader(self) -> BinaryIO:
        """Return a reader of the whole input; its ``read1`` waits for more input."""
        return _Reader(self)  # type: ignore[return-value]  # has what `execution.pass_on` calls

    def _read(self) -> None:
        read = getattr(self._source, "read1", self._source.read)
        chunk = b"begin"
        while chunk:
            try:
                chunk = read(_CHUNK_BYTES)
            except (OSError, ValueError):  # closed
                chunk = b""
            with self._changed:
                self._kept.seek(self._size_bytes)
                self._kept.write(chunk)
                self._size_bytes += len(chunk)
                self._is_complete = not chunk
                self._changed.notify_all()


class _Reader(io.RawIOBase):
    def __init__(self, broadcast: Broadcast) -> None:
        super().__init__()
        self._all = broadcast
        self._position = 0
        self._is_closed = False

    def read1(self, size: int = _CHUNK_BYTES) -> bytes:
        everything = self._all
        with everything._changed:
            while not self._is_closed and self._position == everything._size_bytes:
                if everything._is_complete:
                    return b""
                everything._changed.wait()
            if self._is_closed:
                return b""
            everything._kept.seek(self._position)
            chunk = everything._kept.read(min(size, everything._size_bytes - self._position))
            self._position += len(chunk)
            return chunk

    def close(self) -> None:
        """Make a waiting `read1` return; callable from any thread."""
        with self._all._changed:
            self._is_closed = True
            self._all._changed.notify_all()
        super().close()
