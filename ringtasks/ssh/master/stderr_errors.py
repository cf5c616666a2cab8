"""The stderr of a failed ``ssh``, as our errors.

ssh(1) exits with 255 for every failure, so its texts are the only evidence.  They come from
``sshconnect.c``, ``sshconnect2.c``, ``packet.c`` and strerror(3), and are not translated.
"""

from __future__ import annotations

import contextlib
import re

from ringtasks.common.text import bounded, printable
from ringtasks.errors import AnswerError, AuthenticationError, HostKeyError, Reason, RouteError
from ringtasks.remote.answers import json_fields
from ringtasks.ssh.host_keys import IMPOSTOR, Pins
from ringtasks.ssh.routes import Route

__all__ = ["BAD_CERTIFICATE", "error_of", "refused_methods", "telling", "told"]

_HOST_KEY = (
    r"REVOKED HOST KEY DETECTED|REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed"
)
# The first match counts.
_TEXTS: tuple[tuple[str, Reason], ...] = (
    (_HOST_KEY, Reason.HOST_KEY),
    (r"Permission denied \(|Too many authentication failures", Reason.AUTHENTICATION),
    (r"Could not resolve hostname", Reason.NAME_NOT_FOUND),
    (r"timed out during banner exchange", Reason.SILENT),
    (r"Connection refused", Reason.REFUSED),
    (r"No route to host|Network is unreachable|Host is down", Reason.NO_ROUTE),
    (r"Cannot assign requested address|Can't assign requested address", Reason.NO_ROUTE),
    (r"(Connection|Operation) timed out", Reason.TIMED_OUT),
    (r"Bad remote protocol version|banner line contains invalid|Protocol mismatch", Reason.NOT_SSH),
    (r"Unable to negotiate|no matching .* found", Reason.KEY_EXCHANGE),
    (r"Exceeded MaxStartups", Reason.OVERLOADED),
    (r"Connection reset|closed by remote host|Connection closed by|Broken pipe", Reason.RESET),
)
_CLASSES = {Reason.HOST_KEY: HostKeyError, Reason.AUTHENTICATION: AuthenticationError}
#: sshkey.c, sshkey_cert_check_host: a certificate by a known authority that is not valid.
BAD_CERTIFICATE = re.compile(r"^Certificate (?:invalid: )?(.+)", re.M)
_NO_PINS = Pins()
_SHOWN = re.compile(r"(SHA256:\S+?)\.?$", re.M)
_SHOWN_IN_DEBUG = re.compile(r"Server host (?:key|certificate): (\S+ SHA256:[\w+/]+)")
#: Lines without an explanation.
_NOISE = re.compile(r"@@@|\*\*|Warning: |debug\d|^\s*$")


def error_of(
    host: str,
    route: Route,
    said: str,
    carrier_said: str | None,
    elapsed: float,
    pins: Pins = _NO_PINS,
) -> RouteError:
    """Return the error for a failed ``ssh``.

    :param said: its stderr.
    :param carrier_said: the stderr of its ProxyCommand; None: it had none.
    :param pins: the host's known keys.
    """
    reason, evidence = _reason_of(said, carrier_said, route)
    if reason is Reason.HOST_KEY:
        evidence = _of_host_key(evidence, pins)
    return _CLASSES.get(reason, RouteError)(
        host,
        route.name,
        reason,
        printable(evidence),
        route.address,
        elapsed,
    )


def told(said: str) -> str:
    """Return the lines of a banner or of ssh that explain something, made printable."""
    return bounded(telling(said))


def telling(said: str) -> str:
    """Return the lines of a banner or of ssh that explain something, as they are."""
    return "\n".join(_telling(said))


def refused_methods(said: str) -> tuple[str, ...]:
    """Return the methods that the server would go on with; empty: ssh names none."""
    found = re.search(r"Permission denied \(([\w,@.-]+)\)", said)
    return tuple(found[1].split(",")) if found else ()


def _reason_of(said: str, carrier_said: str | None, route: Route) -> tuple[Reason, str]:
    lines = _telling(said)
    found = _first_match(lines, said)
    is_own_fault = found is not None and found[0] in (*_CLASSES, Reason.KEY_EXCHANGE)
    if carrier_said is not None and not is_own_fault:
        if re.search(_HOST_KEY, carrier_said):
            return Reason.JUMP_FAILED, f"the jump host: {_of_host_key(carrier_said, _NO_PINS)}"
        reason = Reason.PROXY_FAILED if route.proxy is not None else Reason.JUMP_FAILED
        return reason, _last_words(_telling(carrier_said) or lines)
    if found is not None:
        return found
    return Reason.UNRECOGNISED, " / ".join(lines[-4:]) or "ssh ended without a word"


def _telling(said: str) -> list[str]:
    return [line for line in said.splitlines() if not _NOISE.search(line)]


def _first_match(lines: list[str], said: str) -> tuple[Reason, str] | None:
    for pattern, reason in _TEXTS:
        found = [line for line in lines if re.search(pattern, line)]
        if found or re.search(pattern, said):
            return reason, said if reason is Reason.HOST_KEY else found[0] if found else ""
    return None


def _of_host_key(said: str, pins: Pins) -> str:
    found = _SHOWN_IN_DEBUG.search(said) or _SHOWN.search(said)
    shown = f"host key changed: got {found[1] if found else 'another key'}"
    bad = BAD_CERTIFICATE.search(said)
    if "REVOKED" in said:
        why = "which is REVOKED"
    elif bad:
        why = f"with a bad certificate: {bad[1].strip()}"
    else:
        why = pins.demand if pins.is_pinned else "expected the pinned key"
    return f"{shown}, {why}: {IMPOSTOR}"


def _last_words(lines: list[str]) -> str:
    """Return the reason in a proxy's stderr: from cloudflared's JSON log line if there is one."""
    for line in reversed(lines):
        if line.startswith("{"):
            with contextlib.suppress(AnswerError):
                return json_fields(line).text("error")
    return lines[0] if lines else "it ended without output"
