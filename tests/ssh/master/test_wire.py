"""The mux protocol's messages against byte literals.

The literals follow ``mux.c`` of OpenSSH 9.9 (and 9.2, which does not differ), function by function;
numbers are PROTOCOL.mux section 11.
"""

from __future__ import annotations

import pytest

from ringtasks.errors import ProtocolError
from ringtasks.ssh.master import wire
from ringtasks.ssh.master.wire import (
    Alive,
    ExitMessage,
    Frames,
    Hello,
    NewSession,
    Ok,
    Refused,
    SessionOpened,
    TtyAllocFail,
)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(
            wire.hello(),
            b"\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x00\x04",
            id="mux_client_hello_exchange",
        ),
        pytest.param(
            wire.alive_check(7),
            b"\x00\x00\x00\x08\x10\x00\x00\x04\x00\x00\x00\x07",
            id="mux_client_request_alive",
        ),
        pytest.param(
            wire.terminate(7),
            b"\x00\x00\x00\x08\x10\x00\x00\x05\x00\x00\x00\x07",
            id="mux_client_request_terminate",
        ),
        pytest.param(
            wire.new_stdio_forward(7, "db", 5432),
            b"\x00\x00\x00\x16\x10\x00\x00\x08\x00\x00\x00\x07"
            b"\x00\x00\x00\x00"  # reserved
            b"\x00\x00\x00\x02db"
            b"\x00\x00\x15\x38",  # a number, though PROTOCOL.mux says string
            id="mux_client_request_stdio_fwd",
        ),
        pytest.param(
            wire.new_session(7, NewSession("id", False, "xterm", ("A=1",))),
            b"\x00\x00\x00\x36\x10\x00\x00\x02\x00\x00\x00\x07"
            b"\x00\x00\x00\x00"  # reserved
            b"\x00\x00\x00\x01"  # tty
            b"\x00\x00\x00\x00\x00\x00\x00\x00"  # X11, agent
            b"\x00\x00\x00\x00"  # subsystem
            b"\xff\xff\xff\xff"  # no escape character
            b"\x00\x00\x00\x05xterm"
            b"\x00\x00\x00\x02id"
            b"\x00\x00\x00\x03A=1",
            id="mux_client_request_session",
        ),
    ],
)
def test_mux_request_bytes_equal_those_of_openssh(sent: bytes, expected: bytes) -> None:
    assert sent == expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param(b"\x00\x00\x00\x01\x00\x00\x00\x04", Hello(4), id="hello-9.2"),
        pytest.param(
            b"\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x04info\x00\x00\x00\x010",
            Hello(4, ((b"info", b"0"),)),
            id="hello-10",
        ),
        pytest.param(b"\x80\x00\x00\x01\x00\x00\x00\x07", Ok(7), id="reply_ok"),
        pytest.param(
            b"\x80\x00\x00\x02\x00\x00\x00\x07\x00\x00\x00\x02no", Refused(7, "no"), id="denied"
        ),
        pytest.param(
            b"\x80\x00\x00\x03\x00\x00\x00\x07\x00\x00\x00\x02no",
            Refused(7, "no"),
            id="failure",
        ),
        pytest.param(
            b"\x80\x00\x00\x04\x00\x00\x00\x02\x00\x00\x00\xff",
            ExitMessage(2, 255),
            id="mux_exit_message",
        ),
        pytest.param(
            b"\x80\x00\x00\x05\x00\x00\x00\x07\x00\x00\x10\x00", Alive(7, 4096), id="alive"
        ),
        pytest.param(
            b"\x80\x00\x00\x06\x00\x00\x00\x07\x00\x00\x00\x02",
            SessionOpened(7, 2),
            id="mux_session_confirm",
        ),
        pytest.param(
            b"\x80\x00\x00\x08\x00\x00\x00\x02", TtyAllocFail(2), id="mux_tty_alloc_failed"
        ),
    ],
)
def test_mux_answer_of_openssh_is_parsed(payload: bytes, expected: wire.Answer) -> None:
    assert wire.decode(payload) == expected


@pytest.mark.parametrize(
    ("payload", "evidence"),
    [
        pytest.param(b"", "cut short", id="empty"),
        pytest.param(b"\x80\x00\x00", "cut short", id="half a type"),
        pytest.param(b"\x80\x00\x00\x05\x00\x00\x00\x07", "cut short", id="no pid"),
        pytest.param(
            b"\x80\x00\x00\x03\x00\x00\x00\x07\x00\x00\x00\x09no", "cut short", id="half a reason"
        ),
        pytest.param(b"\x80\x00\x00\x01\x00\x00\x00\x07!", "1 bytes too many", id="too long"),
        pytest.param(b"\x10\x00\x00\x04\x00\x00\x00\x07", "0x10000004", id="a client's message"),
        pytest.param(b"\x80\x00\x00\x0f\x00\x00\x00\x07", "0x8000000f", id="proxy mode"),
    ],
)
def test_malformed_mux_message_is_refused(payload: bytes, evidence: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        wire.decode(payload)

    assert evidence in raised.value.evidence


def test_frames_do_not_depend_on_chunk_boundaries() -> None:
    frames = Frames()
    stream = b"\x00\x00\x00\x08\x80\x00\x00\x01\x00\x00\x00\x07" * 2
    found = []

    for position in range(len(stream)):
        frames.feed(stream[position : position + 1])
        found.append(frames.next())

    assert [answer for answer in found if answer] == [Ok(7), Ok(7)]
    assert found[11] == found[23] == Ok(7)
    assert frames.is_between


def test_oversized_frame_is_refused_before_it_is_received() -> None:
    frames = Frames()
    frames.feed(b"\x00\x04\x00\x01")

    with pytest.raises(ProtocolError, match="a frame of 262145 bytes"):
        frames.next()


def test_stream_that_ends_within_a_frame_is_an_error() -> None:
    frames = Frames()
    frames.feed(b"\x00\x00\x00\x08\x80")

    assert frames.next() is None
    assert not frames.is_between


@pytest.mark.parametrize(
    "session",
    [
        NewSession("echo \0"),
        NewSession(environment=("A=\0",)),
        NewSession(terminal_kind="\0"),
        NewSession("x" * wire.MAX_FRAME_BYTES),
    ],
    ids=["command", "environment", "terminal", "too long"],
)
def test_request_that_would_make_the_master_hang_up_is_not_sent(session: NewSession) -> None:
    with pytest.raises(ValueError, match=r"NUL|a master takes"):
        wire.new_session(0, session)


def test_non_text_bytes_reach_the_host_unchanged() -> None:
    command = b"cat \xff".decode("utf-8", "surrogateescape")

    assert b"\x00\x00\x00\x05cat \xff" in wire.new_session(0, NewSession(command))
