"""Errors carry data, make their text from it, and survive a pickle."""

from __future__ import annotations

import errno
import pickle
import socket

import pytest

from ringtasks import errors
from ringtasks.common.text import printable
from ringtasks.errors import (
    ADVICE,
    AmbiguousJobError,
    AnswerError,
    AuthenticationError,
    ClusterError,
    HostKeyError,
    InventoryError,
    JobNotStartedError,
    LimitError,
    NoEligibleHostError,
    OtherProgramError,
    OutcomeUnknownError,
    ProtocolError,
    Reason,
    RendezvousError,
    RingtasksError,
    RouteError,
    RunNotStartedError,
    StateFileError,
    UnknownHostError,
    UnknownJobError,
    UnreachableError,
    UsageError,
)
from ringtasks.ssh.failure_table import classify
from ringtasks.ssh.stream import NotSSHError

REFUSED = RouteError("box", "direct", Reason.REFUSED, "Connection refused", "192.0.2.1:22", 0.1)
EXAMPLES: list[tuple[RingtasksError, type[Exception], str]] = [
    (UsageError("--cmd is missing"), ValueError, "--cmd is missing"),
    (
        InventoryError("bad", file="h.yaml", line=3, host="box", field_name="ssh_port"),
        ValueError,
        "h.yaml:3: box: ssh_port: bad",
    ),
    (
        UnknownHostError("unknown host 'bx'", near=("box",)),
        LookupError,
        "unknown host 'bx'; did you mean box?",
    ),
    (
        REFUSED,
        ConnectionError,
        "box: direct (192.0.2.1:22): refused: Connection refused; "
        "check the port, and that sshd runs on the host",
    ),
    (
        HostKeyError("box", "direct", Reason.HOST_KEY, "changed", advice="look"),
        ConnectionError,
        "box: direct: host key: changed; look",
    ),
    (
        AuthenticationError("box", "direct", Reason.AUTHENTICATION, "no"),
        ConnectionError,
        "box: direct: authentication refused: no; "
        "check ssh_user and ssh_key, and that the public key is on the host",
    ),
    (
        UnreachableError("box", (REFUSED,)),
        ConnectionError,
        f"box: unreachable, no route worked:\n  {REFUSED.explain()}",
    ),
    (
        UnreachableError("box"),
        ConnectionError,
        "box: unreachable: it has no route; give it an address",
    ),
    (
        OutcomeUnknownError("box", "direct", "reset"),
        ConnectionError,
        "box: outcome unknown: the link over direct was lost (reset) after the command was sent; "
        "it may have run or still be running: look before you repeat it",
    ),
    (LimitError("box", "the limit", 1.5), TimeoutError, "box: the limit of 1.5 s passed"),
    (
        NoEligibleHostError(1, 2),
        RingtasksError,
        "train: only 1 of 2 hosts can take the run: the lines above say why",
    ),
    (ProtocolError("box", "nonsense"), RingtasksError, "box: protocol error: nonsense"),
    (StateFileError("/s", "is full"), OSError, "/s: is full"),
    (UnknownJobError("x"), LookupError, "x: no such job: 'inv jobs --all' lists all jobs"),
    (
        AmbiguousJobError("x", ("x1 on box", "x2 on box")),
        ValueError,
        "x: means several jobs; use a longer id or --host:\n  x1 on box\n  x2 on box",
    ),
    (
        JobNotStartedError("box", "x", "no space", status=1),
        RingtasksError,
        "box: not started: no space",
    ),
    (
        AnswerError("process id", "'x'"),
        ValueError,
        "the host answered something unexpected: process id: 'x'",
    ),
    (
        OtherProgramError("box", "Please login as ubuntu", 0),
        RingtasksError,
        "box: the host ran something else: Please login as ubuntu; check ssh_user, or what the "
        "host forces this key or user to run",
    ),
    (ClusterError("box", "no ray"), RingtasksError, "box: no ray"),
    (
        RunNotStartedError("box", "no venv"),
        RingtasksError,
        "box: the run was not started: no venv",
    ),
    (
        RendezvousError("a", "b: refused"),
        RingtasksError,
        "a: the other hosts cannot reach it: b: refused; put them into one tailnet, or pick hosts "
        "of one network",
    ),
]


@pytest.mark.parametrize(("error", "builtin", "text"), EXAMPLES, ids=lambda e: type(e).__name__)
def test_each_error_states_its_cause_and_next_step(
    error: RingtasksError, builtin: type[Exception], text: str
) -> None:
    assert str(error) == text
    assert isinstance(error, builtin)


@pytest.mark.parametrize("error", [e for e, _, _ in EXAMPLES], ids=lambda e: type(e).__name__)
def test_each_error_survives_a_pickle_with_its_fields(error: RingtasksError) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert repr(copy) == repr(error)
    assert str(copy) == str(error)


def test_error_examples_cover_every_error_class() -> None:
    public = {getattr(errors, name) for name in errors.__all__} - {Reason, RingtasksError}

    assert {type(error) for error, _, _ in EXAMPLES} == public


def test_every_reason_has_advice() -> None:
    assert set(ADVICE) == set(Reason)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), Reason.NAME_NOT_FOUND),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), Reason.REFUSED),
        (OSError(errno.EHOSTUNREACH, "x"), Reason.NO_ROUTE),
        (OSError(errno.ENETUNREACH, "x"), Reason.NO_ROUTE),
        (OSError(errno.ETIMEDOUT, "x"), Reason.TIMED_OUT),
        (TimeoutError("x"), Reason.TIMED_OUT),
        (ConnectionResetError(errno.ECONNRESET, "x"), Reason.RESET),
        (BrokenPipeError(errno.EPIPE, "x"), Reason.RESET),
        (EOFError(), Reason.RESET),
        (NotSSHError("HTTP/1.1 400"), Reason.NOT_SSH),
        (OSError(errno.EIO, "x"), Reason.UNRECOGNISED),
        (RuntimeError("x"), Reason.UNRECOGNISED),
    ],
)
def test_foreign_error_is_classified_by_its_reason(error: Exception, reason: Reason) -> None:
    assert classify(error)[0] is reason


def test_remote_text_in_errors_cannot_control_the_terminal() -> None:
    assert (
        printable("a\x1b[2Jb\r\n c\x9bd")
        == "a\N{REPLACEMENT CHARACTER}[2Jb c\N{REPLACEMENT CHARACTER}d"
    )
