"""The translation of foreign errors on the way to a host: those of Python, Paramiko and the system.

The rules are those of `failure_table`.
"""

from __future__ import annotations

from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import ADVICE, Reason

from .banner import NotSSHError
from .failure_table import by_disconnect, by_exception

__all__ = ["Classified", "classify", "classify_disconnect"]


class Classified(NamedTuple):
    """The reason of a failure, the evidence, and the next step."""

    reason: Reason
    evidence: str
    advice: str


def classify(error: BaseException) -> Classified:
    """Return the reason for which a route failed before the log-in, from its exception."""
    row = by_exception(error)
    evidence = _text(error)
    if isinstance(error, NotSSHError):
        evidence = f"it answered {evidence!r}"
    if row is not None:
        return Classified(row.reason, evidence or "closed by the host", row.advice)
    told = f"{type(error).__name__}: {evidence}" if evidence else repr(error)
    return Classified(Reason.UNRECOGNISED, told, ADVICE[Reason.UNRECOGNISED])


def classify_disconnect(code: int, text: str) -> Classified:
    """Return the reason for which a server ended the connection (RFC 4253 section 11.1)."""
    row = by_disconnect(f"{code}: {text}")
    reason = Reason.UNRECOGNISED if row is None else row.reason
    advice = ADVICE[reason] if row is None else row.advice
    return Classified(reason, f"the server ended the connection: {text} (code {code})", advice)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
