"""SFTP over a control master: Paramiko's client, with bulk transfers as fast as scp(1)'s.

The requests are larger than Paramiko's 32 KiB, since each request costs it the same; many are sent
before the first answer, without a thread; and data is copied as rarely as Python allows.

Sources: draft-ietf-secsh-filexfer-02 sections 3 and 6; OpenSSH's PROTOCOL section 4.8.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from contextlib import closing, suppress
from typing import Any

import paramiko
from paramiko.sftp import (
    CMD_EXTENDED,
    CMD_EXTENDED_REPLY,
    CMD_STATUS,
    CMD_WRITE,
    SFTPError,
)

from ringtasks.errors import ProtocolError
from ringtasks.ssh.link import LinkLostError, NoSFTPError, SessionRefusedError
from ringtasks.ssh.sftp_client import (
    UNDER_WAY_BYTES,
    ReadAheadFile,
    SFTPClient,
    check_attributes,
    started,
)

from . import wire
from .control import Control, DeniedError
from .sftp_stream import SFTPStream
from .usage import MasterUse
from .wire import NewSession

__all__ = ["open_sftp"]

_SMALLEST_REQUEST = 32 * 1024  # every server accepts this (section 3)
_LARGEST_WRITE = 255 * 1024  # OpenSSH: sftp-common.h, SFTP_MAX_MSG_LENGTH less 1 KiB
#: Larger ones save nothing: malloc(3) would allocate and free each answer's memory anew.
_LARGEST_READ = 64 * 1024
_SFTP_ERRORS = (OSError, EOFError, paramiko.SSHException, SFTPError)


def open_sftp(use: MasterUse, control: Control) -> paramiko.SFTPClient:
    """Start the host's SFTP server; the client owns both from now on.

    :raises SessionRefusedError: the host opens no more sessions.
    :raises NoSFTPError: the host starts no SFTP server.
    :raises LinkLostError: the master is gone.
    """
    deadline = time.monotonic() + use.timeout
    stream, theirs = SFTPStream.pair(control, use.is_master_alive, use.end)
    try:
        with closing(theirs):
            _request(control, theirs.fileno(), use.timeout)
        stream.settimeout(use.timeout)
        client: paramiko.SFTPClient = started(stream, deadline, _MuxSFTPClient)
        stream.settimeout(use.silence_timeout)
    except BaseException as error:
        stream.close()
        if isinstance(error, LinkLostError) or not isinstance(error, _SFTP_ERRORS):
            raise
        if not use.is_master_alive():
            raise LinkLostError(f"the control master is gone: {error}") from error
        if isinstance(error, NoSFTPError):
            raise
        raise NoSFTPError(b"", f"no SFTP server answers: {error}") from error
    return client


def _request(control: Control, descriptor: int, timeout: float) -> None:
    try:
        with open("/dev/null", "wb") as nothing:  # noqa: PTH123  # no thread reads stderr
            streams = [descriptor, descriptor, nothing.fileno()]
            request = NewSession("sftp", is_subsystem=True)
            control.request(wire.new_session, request, descriptors=streams)
        control.await_session(timeout)
    except DeniedError as error:
        raise SessionRefusedError(str(error)) from error
    except (OSError, ProtocolError) as error:
        raise LinkLostError(str(error)) from error


class _MuxSFTPClient(SFTPClient):
    """Paramiko's client; each file of it is a `_File`."""

    sock: SFTPStream

    def __init__(self, stream: SFTPStream) -> None:
        super().__init__(stream)  # type: ignore[arg-type]  # has the methods that Paramiko calls
        self.read_bytes, self.write_bytes = self._largest_requests()

    def open(self, filename: Any, mode: str = "r", bufsize: int = -1) -> Any:
        file: Any = super().open(filename, mode, bufsize)
        file.__class__ = _File
        file.prepare_writes(self.write_bytes)
        return file

    file = open

    def send_write(self, file: _File, offset: int, piece: memoryview) -> int:
        """Request the write of a piece, without copying it; return the request's number."""
        number = self.reserve_number(file)
        head = struct.pack(">BII", CMD_WRITE, number, len(file.handle)) + file.handle
        head += struct.pack(">QI", offset, len(piece))
        self.sock.send_parts(struct.pack(">I", len(head) + len(piece)) + head, piece)
        return number

    def send_packet(self, kind: int, packet: Any) -> None:
        body = packet.asbytes()
        self.sock.send_parts(struct.pack(">IB", len(body) + 1, kind), body)

    def read_packet(self) -> tuple[int, bytes]:
        size, kind = struct.unpack(">IB", self.sock.recv_exactly(5))
        if size >> 24 or not size:
            raise SFTPError("Garbage packet received")
        body = self.sock.recv_exactly(size - 1)
        check_attributes(kind, body)
        return kind, body

    def _largest_requests(self) -> tuple[int, int]:
        """Ask ``limits@openssh.com``: the longest packet, read and write, and the most handles."""
        try:
            kind, answer = self.request(CMD_EXTENDED, "limits@openssh.com")
        except OSError:  # the server does not know this request
            return _SMALLEST_REQUEST, _SMALLEST_REQUEST
        if kind != CMD_EXTENDED_REPLY:
            return _SMALLEST_REQUEST, _SMALLEST_REQUEST
        _, read_bytes, write_bytes = (int(answer.get_int64()) for _ in range(3))
        return (
            max(_SMALLEST_REQUEST, min(read_bytes, _LARGEST_READ)),
            max(_SMALLEST_REQUEST, min(write_bytes, _LARGEST_WRITE)),
        )


class _File(ReadAheadFile):
    """A file with read-ahead and write-behind."""

    pipelined: bool

    def prepare_writes(self, write_bytes: int) -> None:
        """Set up the fields: an existing file gets this class, without an ``__init__``."""
        self._write_bytes = write_bytes
        self._writes_at_once = max(1, UNDER_WAY_BYTES // write_bytes)
        self._writes: deque[int] = deque()

    def write_some(self, data: Any) -> int:
        piece = memoryview(data)[: self._write_bytes]
        self._writes.append(self.sftp.send_write(self, self.remote_position, piece))
        self._confirm_writes(self._writes_at_once if self.pipelined else 0)
        return len(piece)

    def _confirm_writes(self, left: int) -> None:
        """Wait for the oldest answers, until ``left`` are open; the host's error is raised."""
        while len(self._writes) > left:
            kind, answer = self._await(self._writes.popleft())
            if kind != CMD_STATUS:
                raise SFTPError("Expected status")
            self.sftp.raise_status(answer)

    def close_once(self, async_: bool = False) -> None:
        if async_:  # called by the garbage collector, which cannot report an error
            with suppress(Exception):
                super().close_once(async_)
            return
        try:
            if not self.is_closed:
                self._confirm_writes(0)
        finally:
            super().close_once(async_)

    def _is_wanted(self, number: int) -> bool:
        return number in self._writes or super()._is_wanted(number)
