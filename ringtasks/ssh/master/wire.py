"""The multiplexing protocol's messages as bytes, and back.  Pure.

A frame is a length and that many bytes, which begin with the message's type; numbers are uint32, a
string is its length and its bytes (RFC 4251 section 5).  A frame that is too long, cut short, of an
unknown type or with extra bytes is refused, since nothing after it can be trusted.

Sources: OpenSSH's ``PROTOCOL.mux``, and ``mux.c`` if the two differ.  A port to connect to is a
number in every request, although section 3 calls it a string (``mux_master_process_stdio_fwd``).
The OK that section 2 promises after the descriptors of a session is never sent
(``mux_master_process_new_session``): the answer is the session-opened message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import ProtocolError

__all__ = [
    "MAX_FRAME_BYTES",
    "VERSION",
    "Alive",
    "Answer",
    "ExitMessage",
    "Frames",
    "Hello",
    "NewSession",
    "Ok",
    "Refused",
    "SessionOpened",
    "TtyAllocFail",
    "alive_check",
    "decode",
    "hello",
    "new_session",
    "new_stdio_forward",
    "terminate",
]

VERSION = 4  # mux.c, SSHMUX_VER
#: A master's limit (channels.c, CHANNEL_MUX_MAX_PACKET); its own messages are far shorter.
MAX_FRAME_BYTES = 256 * 1024

# PROTOCOL.mux section 11.
_MSG_HELLO = 0x00000001
_C_NEW_SESSION = 0x10000002
_C_ALIVE_CHECK = 0x10000004
_C_TERMINATE = 0x10000005
_C_NEW_STDIO_FWD = 0x10000008
_S_OK = 0x80000001
_S_PERMISSION_DENIED = 0x80000002
_S_FAILURE = 0x80000003
_S_EXIT_MESSAGE = 0x80000004
_S_ALIVE = 0x80000005
_S_SESSION_OPENED = 0x80000006
_S_TTY_ALLOC_FAIL = 0x80000008
_NO_ESCAPE_CHAR = 0xFFFFFFFF  # section 2


class NewSession(NamedTuple):
    """A program to start.

    :param command: the shell's command line or, with ``is_subsystem``, the subsystem's name; empty:
        the login shell.
    :param terminal_kind: ``TERM``; None: no terminal.
    :param environment: ``NAME=value`` each; a master drops what its ``SendEnv`` does not permit.
    :param wants_agent: forward our agent, if the master's ``ForwardAgent`` permits it.
    """

    command: str = ""
    is_subsystem: bool = False
    terminal_kind: str | None = None
    environment: tuple[str, ...] = ()
    wants_agent: bool = False


class Hello(NamedTuple):
    """The master's first message: its version and extensions."""

    version: int
    extensions: tuple[tuple[bytes, bytes], ...] = ()


class Ok(NamedTuple):
    """The request was granted."""

    request_id: int


class Refused(NamedTuple):
    """The request failed, or the master's user has denied it (ssh_config(5), ControlMaster ask)."""

    request_id: int
    reason: str


class ExitMessage(NamedTuple):
    """A program has ended with an exit status; output may still follow."""

    session_id: int
    status: int


class Alive(NamedTuple):
    """The master answers an alive check with its process id."""

    request_id: int
    pid: int


class SessionOpened(NamedTuple):
    """The host has opened a channel, and the request to start the program has been sent."""

    request_id: int
    session_id: int


class TtyAllocFail(NamedTuple):
    """The host allocated no terminal; the program may have been started without one."""

    session_id: int


Answer = Hello | Ok | Refused | ExitMessage | Alive | SessionOpened | TtyAllocFail


def hello() -> bytes:
    """Encode the first message of either side (section 1)."""
    return _frame(_u32(_MSG_HELLO), _u32(VERSION))


def new_session(request_id: int, session: NewSession) -> bytes:
    """Encode a session request (section 2). Three descriptors follow: stdin, stdout, stderr.

    :raises ValueError: a string has a NUL, on which a master hangs up, or the command is too long.
    """
    return _frame(
        _u32(_C_NEW_SESSION),
        _u32(request_id),
        _string(""),  # reserved
        _u32(session.terminal_kind is not None),
        _u32(False),  # X11
        _u32(session.wants_agent),
        _u32(session.is_subsystem),
        _u32(_NO_ESCAPE_CHAR),
        _string(session.terminal_kind or ""),
        _string(session.command),
        *(_string(variable) for variable in session.environment),
    )


def new_stdio_forward(request_id: int, host: str, port: int) -> bytes:
    """Encode a stdio forward (section 3). Two descriptors follow: stdin, stdout."""
    return _frame(_u32(_C_NEW_STDIO_FWD), _u32(request_id), _string(""), _string(host), _u32(port))


def alive_check(request_id: int) -> bytes:
    """Encode an alive check (section 4)."""
    return _frame(_u32(_C_ALIVE_CHECK), _u32(request_id))


def terminate(request_id: int) -> bytes:
    """Encode a termination (section 5). A master may end before its answer is sent."""
    return _frame(_u32(_C_TERMINATE), _u32(request_id))


class Frames:
    """A splitter of a byte stream into frames."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, received: bytes) -> None:
        """Add received bytes."""
        self._received += received

    def next(self) -> Answer | None:
        """Return the next whole message, or None: more bytes are needed.

        :raises ProtocolError: it is not a message that a master may send.
        """
        if len(self._received) < 4:
            return None
        (size,) = struct.unpack_from(">I", self._received)
        if size > MAX_FRAME_BYTES:
            raise _refused(f"a frame of {size} bytes")
        if len(self._received) < 4 + size:
            return None
        payload = bytes(self._received[4 : 4 + size])
        del self._received[: 4 + size]
        return decode(payload)

    @property
    def is_between(self) -> bool:
        """True if the stream may end here: no message has begun."""
        return not self._received


def decode(payload: bytes) -> Answer:
    """Decode one message without its length.

    :raises ProtocolError: it is not a message that a master may send.
    """
    fields = _MessageReader(payload)
    kind = fields.u32()
    if kind not in _DECODERS:
        raise _refused(f"a message of unknown type 0x{kind:08x}")
    answer = _DECODERS[kind](fields)
    fields.expect_end()
    return answer


class _MessageReader:
    """The fields of a message, in order."""

    def __init__(self, payload: bytes) -> None:
        self._rest = payload

    @property
    def has_more(self) -> bool:
        return bool(self._rest)

    def u32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def string(self) -> bytes:
        return self._take(self.u32())

    def text(self) -> str:
        return self.string().decode("utf-8", "replace")

    def expect_end(self) -> None:
        if self._rest:
            raise _refused(f"{len(self._rest)} bytes too many in a message")

    def _take(self, size: int) -> bytes:
        if size > len(self._rest):
            raise _refused("a message that is cut short")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _decode_hello(fields: _MessageReader) -> Hello:
    version, extensions = fields.u32(), []
    while fields.has_more:
        extensions.append((fields.string(), fields.string()))
    return Hello(version, tuple(extensions))


# Arguments are evaluated from left to right, which is the order of the fields.
_DECODERS: dict[int, Callable[[_MessageReader], Answer]] = {
    _MSG_HELLO: _decode_hello,
    _S_OK: lambda fields: Ok(fields.u32()),
    _S_PERMISSION_DENIED: lambda fields: Refused(fields.u32(), fields.text()),
    _S_FAILURE: lambda fields: Refused(fields.u32(), fields.text()),
    _S_EXIT_MESSAGE: lambda fields: ExitMessage(fields.u32(), fields.u32()),
    _S_ALIVE: lambda fields: Alive(fields.u32(), fields.u32()),
    _S_SESSION_OPENED: lambda fields: SessionOpened(fields.u32(), fields.u32()),
    _S_TTY_ALLOC_FAIL: lambda fields: TtyAllocFail(fields.u32()),
}


def _frame(*fields: bytes) -> bytes:
    payload = b"".join(fields)
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a request of {len(payload)} bytes: a master takes {MAX_FRAME_BYTES}")
    return _u32(len(payload)) + payload


def _u32(number: int) -> bytes:
    return struct.pack(">I", number)


def _string(text: str) -> bytes:
    # A surrogate escape (PEP 383) goes out as the byte it stands for.
    encoded = text.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise ValueError("has a NUL character")
    return _u32(len(encoded)) + encoded


def _refused(evidence: str) -> ProtocolError:
    return ProtocolError("control master", evidence)
