"""Paramiko's SFTP client, for hosts whose names are not UTF-8 and whose answers are not true.

Names are text with ``surrogateescape``, as everywhere in Python, so that each name works in the
next request. Counts and lengths in an answer are compared with its real content before memory is
allocated for them. A file is read ahead without a thread, up to the end that the host reports: many
files of /sys and /proc are shorter or longer than their listed size.

The first packet of a server is its version.  Text in its place comes from a forced command, or from
a login file: sshd starts a server program (``Subsystem``, unless it is ``internal-sftp``) through
the user's login shell.

Source: draft-ietf-secsh-filexfer-02 sections 4 to 7.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import paramiko
from paramiko.sftp import (
    CMD_ATTRS,
    CMD_CLOSE,
    CMD_DATA,
    CMD_HANDLE,
    CMD_INIT,
    CMD_NAME,
    CMD_OPENDIR,
    CMD_READ,
    CMD_READDIR,
    CMD_READLINK,
    CMD_REALPATH,
    CMD_STATUS,
    CMD_VERSION,
    SFTP_EOF,
    SFTPError,
    int64,
)

from ringtasks.common.threads import start_timer

from .link import NoSFTPError
from .paramiko_private import PublicSFTPClient, PublicSFTPFile, attributes_from

__all__ = ["UNDER_WAY_BYTES", "ReadAheadFile", "SFTPClient", "check_attributes", "started"]

_HEAD = struct.Struct(">IBI")
"""The first packet's length without itself, its type, the version."""
_PROTOCOL_VERSION = 3
#: More than the names of all extensions need.
_MAX_VERSION_BYTES = 64 * 1024
_EVIDENCE_BYTES = 4096

_SMALLEST_REQUEST = 32 * 1024  # every server accepts this (section 3)
#: Bytes requested and not yet answered: twice ssh's window (channels.h,
#: CHAN_SES_WINDOW_DEFAULT), so that the line never waits for us.
UNDER_WAY_BYTES = 4 * 1024 * 1024
_MOST_NAMES = 1_000_000  # in one folder
_HEAD_BYTES = 64  # of an answer with data, at most
_EXTENDED = paramiko.SFTPAttributes.FLAG_EXTENDED
#: The fields of attributes that a flag announces, and their sizes (section 5).
_FIELDS = ((0x1, 8), (0x2, 8), (0x4, 4), (0x8, 8))


class SFTPClient(PublicSFTPClient):
    """Paramiko's client; each file of it is a `ReadAheadFile`.

    :ivar on_close: called once, when the client is closed.
    """

    sock: Any
    read_bytes = _SMALLEST_REQUEST
    on_close: Callable[[], None] | None = None

    def start_version(self) -> int:
        """Return the server's version; Paramiko calls it when a client is made.

        :raises NoSFTPError: no server answers.
        """
        message = paramiko.Message()
        message.add_int(_PROTOCOL_VERSION)
        # A program that ends at once may close the channel before this; its output tells more.
        with contextlib.suppress(OSError, EOFError):
            self.send_packet(CMD_INIT, message)
        head = self._received(_HEAD.size)
        size, kind, version = _HEAD.unpack(head.ljust(_HEAD.size, b"\0"))
        if kind != CMD_VERSION or not 5 <= size <= _MAX_VERSION_BYTES:
            raise NoSFTPError((head + self._at_hand()).partition(b"\0")[0])  # text has no NUL
        extensions = self._received(size - 5)
        if len(extensions) < size - 5:
            raise NoSFTPError(b"")
        return int(version)

    def _received(self, size: int) -> bytes:
        """Receive ``size`` bytes, or fewer at any kind of end."""
        received = b""
        with contextlib.suppress(OSError, EOFError):
            while len(received) < size and (more := self.sock.recv(size - len(received))):
                received += more
        return received

    def _at_hand(self) -> bytes:
        """Return more of the bytes that have already arrived."""
        with contextlib.suppress(OSError, EOFError):
            return bytes(self.sock.recv(_EVIDENCE_BYTES)) if self.sock.recv_ready() else b""
        return b""

    def close(self) -> None:
        super().close()
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()

    def open(self, filename: Any, mode: str = "r", bufsize: int = -1) -> Any:
        file: Any = super().open(filename, mode, bufsize)
        file.__class__ = ReadAheadFile  # Paramiko has no setting for the class of its files
        file.prepare(self.read_bytes)
        return file

    file = open

    def listdir_attr(self, path: str = ".") -> list[paramiko.SFTPAttributes]:
        """Return the content of a folder, without ``.`` and ``..``.

        :raises OSError: it has more names than is plausible.
        """
        found = list(islice(self.listdir_iter(path), _MOST_NAMES + 1))
        if len(found) > _MOST_NAMES:
            raise OSError(f"more than {_MOST_NAMES} names in one folder")
        return found

    def listdir_iter(
        self, path: bytes | str = ".", read_aheads: int = 0
    ) -> Iterator[paramiko.SFTPAttributes]:
        """Yield the content of a folder, one answer after the other; none is read ahead."""
        handle = self._answer(CMD_HANDLE, CMD_OPENDIR, self.adjust_path(path)).get_binary()
        try:
            with contextlib.suppress(EOFError):
                while True:
                    answer = self._answer(CMD_NAME, CMD_READDIR, handle)
                    yield from (item for item in _names(answer) if item.filename not in (".", ".."))
        finally:  # the caller may stop; the answer tells nothing, and a host may not send it
            with contextlib.suppress(OSError, EOFError):
                self.ask_ahead(type(None), CMD_CLOSE, handle)

    def readlink(self, path: Any) -> str:
        return self._one_name(CMD_READLINK, path)

    def normalize(self, path: Any) -> str:
        return self._one_name(CMD_REALPATH, path)

    def symlink(self, source: Any, dest: Any) -> None:
        super().symlink(_encoded(source), dest)

    def adjust_path(self, path: Any) -> bytes:
        adjusted: bytes = super().adjust_path(_encoded(path))
        return adjusted

    def _one_name(self, kind: int, path: Any) -> str:
        names = list(_names(self._answer(CMD_NAME, kind, self.adjust_path(path))))
        if len(names) != 1:
            raise OSError(f"the host answers with {len(names)} names for one")
        return names[0].filename

    def _answer(self, expected: int, kind: int, *arguments: Any) -> paramiko.Message:
        answer: paramiko.Message
        answered, answer = self.request(kind, *arguments)
        if answered != expected:
            raise SFTPError(f"Expected an answer of kind {expected}, got {answered}")
        return answer

    def read_packet(self) -> tuple[int, bytes]:
        kind, body = super().read_packet()
        check_attributes(kind, body)
        return kind, body


def started(channel: Any, deadline: float, kind: Callable[[Any], Any]) -> Any:
    """Return the client ``kind(channel)`` if its server answers in time.

    :param deadline: by `time.monotonic`.

    :raises NoSFTPError: no server answers.
    """
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        with contextlib.suppress(OSError, EOFError):  # the connection has just ended
            channel.close()

    seconds = max(0.0, deadline - time.monotonic())
    timer = start_timer(seconds, give_up, name="ringtasks-sftp-limit")
    try:
        return kind(channel)
    except NoSFTPError as error:
        if is_late.is_set() and not error.said:
            raise NoSFTPError(b"", "no answer in time") from error
        raise
    finally:
        timer.cancel()


class ReadAheadFile(PublicSFTPFile):
    """A file with read-ahead, without a thread."""

    sftp: Any
    handle: Any

    def prepare(self, read_bytes: int) -> None:
        """Set up the fields: an existing file gets this class, without an ``__init__``."""
        self.MAX_REQUEST_SIZE = read_bytes
        self._reads_at_once = max(1, UNDER_WAY_BYTES // read_bytes)
        self._answers: dict[int, tuple[int, Any]] = {}
        self._awaited = 0
        self._reads: deque[tuple[int, int, int]] = deque()
        """The number, offset and size of each request that was sent ahead."""
        self._ahead_from = self._ahead_to = 0

    def prefetch(
        self, file_size: int | None = None, max_concurrent_requests: int | None = None
    ) -> None:
        """Read ahead from here on; the size of the requests decides how many are sent at once."""
        end = self.stat().st_size if file_size is None else file_size
        self._reads.clear()
        self._ahead_from, self._ahead_to = self.remote_position, end or 0

    def read(self, size: int | None = None) -> bytes:
        if (
            size is None
            or size < self.MAX_REQUEST_SIZE
            or self.has_buffered
            or not self._is_ahead()
        ):
            plain: bytes = super().read(size)
            return plain
        parts, wanted = [], size
        while wanted >= self.MAX_REQUEST_SIZE and self._is_ahead():
            part = self._next_part()
            if not part:
                break
            parts.append(part)
            self.advance(len(part))
            wanted -= len(part)
        if wanted and self._is_ahead():
            parts.append(memoryview(super().read(wanted)))
        return b"".join(parts)

    def read_some(self, size: int) -> bytes:
        if not self._is_ahead():
            chunk: bytes = super().read_some(size)
            return chunk
        return bytes(self._next_part())

    def _is_ahead(self) -> bool:
        """Return True if the next bytes of the file have been requested already."""
        self._ask_ahead()
        if self._reads and self._reads[0][1] == self.remote_position:
            return True
        self._stop_ahead()  # at the end, or after a seek
        return False

    def _next_part(self) -> memoryview:
        """Return the next bytes; none at the end of the file."""
        number, _, asked = self._reads.popleft()
        kind, answer = self._await(number)
        if kind == CMD_STATUS:
            self._stop_ahead()
            if answer.get_int() == SFTP_EOF:
                return memoryview(b"")
            answer.rewind()
            answer.get_int()  # the request's number
            self.sftp.raise_status(answer)  # raises
        if kind != CMD_DATA:
            raise SFTPError("Expected data")
        part: memoryview = answer.packet.getbuffer()[8:]  # after its number and its length
        if len(part) < asked:  # a server may send less; the rest is requested anew
            self._reads.clear()
            self._ahead_from = self.remote_position + len(part)
        return part

    def _ask_ahead(self) -> None:
        while len(self._reads) < self._reads_at_once and self._ahead_from < self._ahead_to:
            size = min(self.MAX_REQUEST_SIZE, self._ahead_to - self._ahead_from)
            number = self.sftp.ask_ahead(self, CMD_READ, self.handle, int64(self._ahead_from), size)
            self._reads.append((number, self._ahead_from, size))
            self._ahead_from += size

    def _stop_ahead(self) -> None:
        self._reads.clear()
        self._ahead_to = 0

    def _await(self, number: int) -> tuple[int, Any]:
        self._awaited = number
        while number not in self._answers:
            self.sftp.read_response()  # dispatches any answer
        return self._answers.pop(number)

    def _is_wanted(self, number: int) -> bool:
        return number == self._awaited or any(number == read[0] for read in self._reads)

    def on_answer(self, kind: int, answer: Any, number: int) -> None:
        if len(answer.packet.getbuffer()) > self.MAX_REQUEST_SIZE + _HEAD_BYTES:
            raise SFTPError("the host answers with more bytes than it was asked for")
        if self._is_wanted(number):
            self._answers[number] = kind, answer


def check_attributes(kind: int, body: bytes) -> None:
    """Verify that attributes announce no more extensions than fit; Paramiko would read them all.

    :raises SFTPError: they announce more.
    """
    if kind == CMD_ATTRS:
        _check_extensions(body, 4)


def _names(answer: paramiko.Message) -> list[paramiko.SFTPAttributes]:
    """Return the names of an answer, with their attributes.

    :raises OSError: it has fewer names than it announces.
    """
    buffer = answer.packet.getbuffer()
    found = []
    for _ in range(answer.get_int()):
        if answer.packet.tell() >= len(buffer):
            raise OSError("the host announces more names than it sends")
        name, longname = (answer.get_string().decode("utf-8", "surrogateescape") for _ in range(2))
        _check_extensions(buffer, answer.packet.tell())
        found.append(attributes_from(answer, name, longname))
    return found


def _check_extensions(buffer: bytes | memoryview, start: int) -> None:
    if len(buffer) < start + 4:
        raise SFTPError("Attributes are cut short")
    (flags,) = struct.unpack_from(">I", buffer, start)
    if not flags & _EXTENDED:
        return
    place = start + 4 + sum(size for flag, size in _FIELDS if flags & flag)
    left = len(buffer) - place - 4
    if left < 0 or struct.unpack_from(">I", buffer, place)[0] * 8 > left:
        raise SFTPError("Attributes announce more than they hold")


def _encoded(path: Any) -> Any:
    return path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
