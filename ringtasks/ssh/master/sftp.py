"""SFTP over a control master: Paramiko's client, its bulk paths made as quick as scp(1)'s.

The requests are larger than Paramiko's 32 KiB, since each costs it the same; many are under way
at once, without a thread; and a piece is copied as rarely as Python can.

Sources: draft-ietf-secsh-filexfer-02 sections 3 and 6; OpenSSH's PROTOCOL section 4.8.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import paramiko
from paramiko.sftp import (
    CMD_DATA,
    CMD_EXTENDED,
    CMD_EXTENDED_REPLY,
    CMD_READ,
    CMD_STATUS,
    CMD_WRITE,
    SFTPError,
    int64,
)

from ringtasks.errors import ProtocolError
from ringtasks.ssh.link import LinkLostError, NoSFTPError, SessionRefusedError
from ringtasks.ssh.sftp_start import ProvenStart, started

from .control import Control, DeniedError
from .sftp_stream import SFTPStream
from .wire import NewSession

__all__ = ["open_sftp"]

_SMALLEST_REQUEST = 32 * 1024  # what any server takes (section 3)
_LARGEST_WRITE = 255 * 1024  # OpenSSH: sftp-common.h, SFTP_MAX_MSG_LENGTH less 1 KiB
#: Larger ones save nothing: malloc(3) would get and give back each answer's memory anew.
_LARGEST_READ = 64 * 1024
#: Bytes asked for or sent and not yet answered: twice what ssh lets be under way (channels.h,
#: CHAN_SES_WINDOW_DEFAULT), so that the line never waits for us.
_UNDER_WAY_BYTES = 4 * 1024 * 1024


def open_sftp(
    control: Control,
    timeout: float,
    *,
    is_master_alive: Callable[[], bool],
    on_close: Callable[[], None],
    silence_timeout: float | None = None,
) -> paramiko.SFTPClient:
    """Start the host's SFTP server; ``control`` is the session's from now on.

    :raises SessionRefusedError: the host opens no more sessions.
    :raises NoSFTPError: the host starts no SFTP server.
    :raises LinkLostError: the master is gone.
    """
    stream, theirs = SFTPStream.pair(control, is_master_alive, on_close)
    try:
        with closing(theirs):
            _request(control, theirs.fileno(), timeout)
        stream.settimeout(timeout)
        client: paramiko.SFTPClient = started(stream, timeout, _Client)
        stream.settimeout(silence_timeout)
    except LinkLostError:
        stream.close()
        raise
    except (OSError, EOFError, paramiko.SSHException, SFTPError) as error:
        stream.close()
        if not is_master_alive():
            raise LinkLostError(f"the control master is gone: {error}") from error
        if isinstance(error, NoSFTPError):
            raise
        raise NoSFTPError(b"", f"no SFTP server answers: {error}") from error
    except BaseException:
        stream.close()
        raise
    return client


def _request(control: Control, descriptor: int, timeout: float) -> None:
    try:
        with open("/dev/null", "wb") as nothing:  # noqa: PTH123  # stderr has nobody to read it
            control.send_new_session(
                NewSession("sftp", is_subsystem=True), [descriptor, descriptor, nothing.fileno()]
            )
        control.await_session(timeout)
    except DeniedError as error:
        raise SessionRefusedError(str(error)) from error
    except (OSError, ProtocolError) as error:
        raise LinkLostError(str(error)) from error


class _Client(ProvenStart, paramiko.SFTPClient):
    """Paramiko's client; a file of it is a `_File`."""

    sock: SFTPStream  # type: ignore[assignment]  # Paramiko calls what it is given a channel

    def __init__(self, stream: SFTPStream) -> None:
        super().__init__(stream)  # type: ignore[arg-type]  # has what Paramiko calls
        self.read_bytes, self.write_bytes = self._largest_requests()

    def open(self, filename: Any, mode: str = "r", bufsize: int = -1) -> Any:
        file: Any = super().open(filename, mode, bufsize)
        file.__class__ = _File  # Paramiko has no place to say which class it is to be
        file.prepare(self.read_bytes, self.write_bytes)
        return file

    file = open

    def send_write(self, file: _File, offset: int, piece: memoryview) -> int:
        """Ask for a piece to be written, without copying it; the request's number."""
        rpc: Any = self
        with rpc._lock:
            number: int = rpc.request_number
            rpc.request_number += 1
            rpc._expecting[number] = file
        head = struct.pack(">BII", CMD_WRITE, number, len(file.handle)) + file.handle
        head += struct.pack(">QI", offset, len(piece))
        self.sock.send_parts(struct.pack(">I", len(head) + len(piece)) + head, piece)
        return number

    def _send_packet(self, kind: int, packet: Any) -> None:
        body = packet.asbytes()
        self.sock.send_parts(struct.pack(">IB", len(body) + 1, kind), body)

    def _read_packet(self) -> tuple[int, bytes]:
        size, kind = struct.unpack(">IB", self.sock.recv_exactly(5))
        if size >> 24 or not size:
            raise SFTPError("Garbage packet received")
        return kind, self.sock.recv_exactly(size - 1)

    def _largest_requests(self) -> tuple[int, int]:
        """``limits@openssh.com``: the longest packet, read and write, and the most handles."""
        rpc: Any = self
        try:
            kind, answer = rpc._request(CMD_EXTENDED, "limits@openssh.com")
        except OSError:  # it does not know this request
            return _SMALLEST_REQUEST, _SMALLEST_REQUEST
        if kind != CMD_EXTENDED_REPLY:
            return _SMALLEST_REQUEST, _SMALLEST_REQUEST
        _, read_bytes, write_bytes = (int(answer.get_int64()) for _ in range(3))
        return (
            max(_SMALLEST_REQUEST, min(read_bytes, _LARGEST_READ)),
            max(_SMALLEST_REQUEST, min(write_bytes, _LARGEST_WRITE)),
        )


class _File(paramiko.SFTPFile):
    """A file that is read ahead and written behind, without a thread."""

    sftp: Any
    handle: Any
    pipelined: bool
    _realpos: int
    _pos: int
    _rbuffer: bytes
    _closed: bool

    def prepare(self, read_bytes: int, write_bytes: int) -> None:
        """What ``__init__`` would do."""
        self.MAX_REQUEST_SIZE = read_bytes
        self._write_bytes = write_bytes
        self._reads_at_once = max(1, _UNDER_WAY_BYTES // read_bytes)
        self._writes_at_once = max(1, _UNDER_WAY_BYTES // write_bytes)
        self._answers: dict[int, tuple[int, Any]] = {}
        self._awaited = 0
        self._writes: deque[int] = deque()
        self._reads: deque[tuple[int, int, int]] = deque()
        """The number, offset and size of each request that was sent ahead."""
        self._ahead_from = self._ahead_to = 0

    def prefetch(
        self, file_size: int | None = None, max_concurrent_requests: int | None = None
    ) -> None:
        """Read ahead from here on; how many requests at once is decided by their size."""
        end = self.stat().st_size if file_size is None else file_size
        self._reads.clear()
        self._ahead_from, self._ahead_to = self._realpos, end or 0

    def read(self, size: int | None = None) -> bytes:
        if size is None or size < self.MAX_REQUEST_SIZE or self._rbuffer or not self._is_ahead():
            plain: bytes = super().read(size)
            return plain
        parts, wanted = [], size
        while wanted >= self.MAX_REQUEST_SIZE and self._is_ahead():
            part = self._next_part()
            if not part:
                break
            parts.append(part)
            self._realpos += len(part)
            self._pos += len(part)
            wanted -= len(part)
        if wanted and self._is_ahead():
            parts.append(memoryview(super().read(wanted)))
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        if not self._is_ahead():
            chunk: bytes = super()._read(size)  # type: ignore[misc]  # the stubs lack it
            return chunk
        return bytes(self._next_part())

    def _is_ahead(self) -> bool:
        """Whether what comes next in the file was asked for already."""
        self._ask_ahead()
        if self._reads and self._reads[0][1] == self._realpos:
            return True
        self._stop_ahead()  # at the end, or somebody has gone elsewhere in the file
        return False

    def _next_part(self) -> memoryview:
        number, _, asked = self._reads.popleft()
        kind, answer = self._await(number)
        if kind == CMD_STATUS:
            self._stop_ahead()
            self.sftp._convert_status(answer)  # raises; EOFError at the end of the file
        if kind != CMD_DATA:
            raise SFTPError("Expected data")
        part: memoryview = answer.packet.getbuffer()[8:]  # after its number and its length
        if len(part) < asked:  # a server may bring less; the rest is asked for anew
            self._reads.clear()
            self._ahead_from = self._realpos + len(part)
        return part

    def _ask_ahead(self) -> None:
        while len(self._reads) < self._reads_at_once and self._ahead_from < self._ahead_to:
            size = min(self.MAX_REQUEST_SIZE, self._ahead_to - self._ahead_from)
            number = self.sftp._async_request(
                self, CMD_READ, self.handle, int64(self._ahead_from), size
            )
            self._reads.append((number, self._ahead_from, size))
            self._ahead_from += size

    def _stop_ahead(self) -> None:
        self._reads.clear()
        self._ahead_to = 0

    def _write(self, data: Any) -> int:
        piece = memoryview(data)[: self._write_bytes]
        self._writes.append(self.sftp.send_write(self, self._realpos, piece))
        self._confirm_writes(self._writes_at_once if self.pipelined else 0)
        return len(piece)

    def _confirm_writes(self, left: int) -> None:
        """Wait for the oldest answers, until so many are left; an error of the host's is raised."""
        while len(self._writes) > left:
            kind, answer = self._await(self._writes.popleft())
            if kind != CMD_STATUS:
                raise SFTPError("Expected status")
            self.sftp._convert_status(answer)

    def _close(self, async_: bool = False) -> None:
        if async_:  # by the garbage collector, which has nobody to tell
            with suppress(Exception):
                super()._close(async_)  # type: ignore[misc]  # the stubs lack it
            return
        try:
            if not self._closed:
                self._confirm_writes(0)
        finally:
            super()._close(async_)  # type: ignore[misc]  # the stubs lack it

    def _await(self, number: int) -> tuple[int, Any]:
        self._awaited = number
        while number not in self._answers:
            self.sftp._read_response()  # hands on whatever comes
        return self._answers.pop(number)

    def _async_response(self, kind: int, answer: Any, number: int) -> None:
        is_wanted = number == self._awaited or number in self._writes
        if is_wanted or any(number == read[0] for read in self._reads):
            self._answers[number] = kind, answer
