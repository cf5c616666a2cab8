"""What a failed ``ssh`` has said on stderr, as our errors.

ssh(1) ends with 255 whatever went wrong: its texts are all there is.  They come from
``sshconnect.c``, ``sshconnect2.c``, ``packet.c`` and strerror(3), and are not translated.
"""

from __future__ import annotations

import json
import re

from ringtasks.common.text import printable
from ringtasks.errors import AuthenticationError, HostKeyError, Reason, RouteError
from ringtasks.ssh.routes import Route

__all__ = ["error_of"]

# The first that matches counts.
_TEXTS: tuple[tuple[str, Reason], ...] = (
    (r"REVOKED HOST KEY DETECTED", Reason.HOST_KEY),
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", Reason.HOST_KEY),
    (r"Host key verification failed", Reason.HOST_KEY),
    (r"Permission denied \(|Too many authentication failures", Reason.AUTHENTICATION),
    (r"Could not resolve hostname", Reason.NAME_NOT_FOUND),
    (r"timed out during banner exchange", Reason.SILENT),
    (r"Connection refused", Reason.REFUSED),
    (r"No route to host|Network is unreachable|Host is down", Reason.NO_ROUTE),
    (r"Cannot assign requested address|Can't assign requested address", Reason.NO_ROUTE),
    (r"(Connection|Operation) timed out", Reason.TIMED_OUT),
    (r"Bad remote protocol version|banner line contains invalid|Protocol mismatch", Reason.NOT_SSH),
    (r"Unable to negotiate|no matching .* found", Reason.KEY_EXCHANGE),
    (r"Connection reset|closed by remote host|Connection closed by|Broken pipe", Reason.RESET),
)
_CLASSES = {Reason.HOST_KEY: HostKeyError, Reason.AUTHENTICATION: AuthenticationError}
_FINGERPRINT = re.compile(r"(SHA256:\S+?)\.?$", re.M)
#: Lines that explain nothing.
_NOISE = re.compile(r"@@@|\*\*|Warning: |debug\d|^\s*$")


def error_of(
    host: str, route: Route, said: str, carrier_said: str | None, elapsed: float
) -> RouteError:
    """Why ``ssh`` found no way in.

    :param said: its stderr.
    :param carrier_said: that of its ProxyCommand; None: it had none.
    """
    reason, evidence = _reason_of(said, carrier_said, route)
    return _CLASSES.get(reason, RouteError)(
        host,
        route.name,
        reason,
        printable(evidence),
        route.address,
        elapsed,
    )


def _reason_of(said: str, carrier_said: str | None, route: Route) -> tuple[Reason, str]:
    lines = _telling(said)
    found = _first_match(lines, said)
    is_own_fault = found is not None and found[0] in (*_CLASSES, Reason.KEY_EXCHANGE)
    if carrier_said is not None and not is_own_fault:
        reason = Reason.PROXY_FAILED if route.proxy is not None else Reason.JUMP_FAILED
        return reason, _last_words(_telling(carrier_said) or lines)
    if found is not None:
        return found
    return Reason.KEY_EXCHANGE, lines[-1] if lines else "ssh ended without a word"


def _telling(said: str) -> list[str]:
    return [line for line in said.splitlines() if not _NOISE.search(line)]


def _first_match(lines: list[str], said: str) -> tuple[Reason, str] | None:
    for pattern, reason in _TEXTS:
        found = [line for line in lines if re.search(pattern, line)]
        if found or re.search(pattern, said):
            return reason, _evidence(reason, found, said)
    return None


def _evidence(reason: Reason, found: list[str], said: str) -> str:
    if reason is Reason.HOST_KEY and "REVOKED" in said:
        return "it showed a key that is REVOKED: this may be an impostor"
    if reason is Reason.HOST_KEY:
        shown = _FINGERPRINT.search(said)
        if shown:
            return f"IT SHOWED {shown[1]}, which is not the pinned key: this may be an impostor"
        return "it showed a key that is not the pinned one: this may be an impostor"
    return found[0] if found else ""


def _last_words(lines: list[str]) -> str:
    """The reason in a proxy's stderr: cloudflared's JSON log line if there is one."""
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("error"):
                return str(entry["error"])
    return lines[0] if lines else "it ended without a word"
