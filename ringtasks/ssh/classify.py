"""The translation of foreign errors on the way to a host: those of Python, Paramiko and the system.

Matching is by type and errno; by Paramiko's text only if it has no type (``SSHException``).
"""

from __future__ import annotations

import errno
import re
import socket

from ringtasks.errors import Reason

from .banner import NotSSHError

__all__ = ["classify"]

#: sshd's message to a client that it drops (its sshd.c, drop_connection).
_OVERLOADED = "Exceeded MaxStartups"

_BY_ERRNO = {
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.EHOSTUNREACH: Reason.NO_ROUTE,
    errno.ENETUNREACH: Reason.NO_ROUTE,
    errno.EHOSTDOWN: Reason.NO_ROUTE,
    errno.EADDRNOTAVAIL: Reason.NO_ROUTE,
    errno.ENETDOWN: Reason.NO_ROUTE,
    errno.EACCES: Reason.NO_ROUTE,  # a local firewall's REJECT
    errno.EPERM: Reason.NO_ROUTE,
    errno.ECONNRESET: Reason.RESET,
    errno.EPIPE: Reason.RESET,
    errno.ECONNABORTED: Reason.RESET,
    errno.ETIMEDOUT: Reason.TIMED_OUT,
}


#: Paramiko has one type for these (``SSHException``); the texts are its own.
_BY_TEXT = (
    (r"incompatible (ssh )?(peer|server)|no acceptable", Reason.KEY_EXCHANGE),
    (r"no existing session|no authentication methods available", Reason.AUTHENTICATION),
    (r"error reading ssh protocol banner", Reason.NOT_SSH),
    (r"key-exchange timed out|negotiation failed|eof|connection lost|dropped", Reason.RESET),
)


def classify(error: BaseException) -> tuple[Reason, str]:
    """Return why a route failed before the log-in, and the evidence, from its exception."""
    evidence = _text(error)
    if isinstance(error, socket.gaierror):
        return Reason.NAME_NOT_FOUND, evidence
    if isinstance(error, NotSSHError) and _OVERLOADED in evidence:
        return Reason.OVERLOADED, f"it answered {evidence!r}"
    if isinstance(error, NotSSHError):
        return Reason.NOT_SSH, f"it answered {evidence!r}"
    if isinstance(error, TimeoutError) and error.errno is None:
        return Reason.TIMED_OUT, evidence
    if isinstance(error, EOFError):
        return Reason.RESET, evidence or "closed by the host"
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno], evidence
    for pattern, reason in _BY_TEXT:
        if re.search(pattern, evidence, re.IGNORECASE):
            return reason, evidence
    return Reason.UNRECOGNISED, f"{type(error).__name__}: {evidence}" if evidence else repr(error)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
