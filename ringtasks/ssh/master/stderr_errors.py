"""The stderr of a failed ``ssh``, as our errors.

ssh(1) exits with 255 for every failure, so its texts are the only evidence (`failure_table`).
"""

from __future__ import annotations

import re

from ringtasks.common.text import bounded, printable
from ringtasks.errors import AuthenticationError, HostKeyError, Reason, RouteError
from ringtasks.ssh import host_keys, openssh
from ringtasks.ssh.failure_table import Classified, by_ssh_lines
from ringtasks.ssh.host_keys import IMPOSTOR, IS_REVOKED, UNKNOWN, Pins
from ringtasks.ssh.proxies import error_of_cloudflared
from ringtasks.ssh.routes import Route

__all__ = ["BAD_CERTIFICATE", "banner_in", "error_of", "refused_methods", "telling"]

_CLASSES = {Reason.HOST_KEY: HostKeyError, Reason.AUTHENTICATION: AuthenticationError}
#: Evidence that ssh's last line lacks.
_HOST_KEY = "REVOKED HOST KEY|HOST IDENTIFICATION HAS CHANGED|Host key verification"
_OTHER_KEY = "REVOKED|HOST IDENTIFICATION HAS CHANGED"
#: There were keys to compare with.
_KNOWN_KEYS = rf"{_OTHER_KEY}|[Hh]ost key is known for|Certificate invalid"
#: sshkey.c, sshkey_cert_check_host: a certificate by a known authority that is not valid.
BAD_CERTIFICATE = re.compile(r"^Certificate (?:invalid: )?(.+)", re.M)
_NO_PINS = Pins()
_SHOWN = r"(?m)(SHA256:\S+?)\.?$"
_SHOWN_IN_DEBUG = r"Server host (?:key|certificate): (\S+ SHA256:[\w+/]+)"
#: Lines without an explanation.
_NOISE = (
    r"@@@|\*\*|Warning: |debug\d|^\s*$|^Permission denied, please try again"
    r"|^Authenticated (to .* )?using \"|^Transferred: sent |^Bytes per second: sent "
)


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
    reason, evidence, advice = _finding(said, carrier_said, route)
    if reason is Reason.HOST_KEY and re.search(_HOST_KEY, said):
        evidence = _of_host_key(said, pins)
    kind, shown = _CLASSES.get(reason, RouteError), printable(evidence)
    return kind(host, route.name, reason, shown, route.address, elapsed, advice)


def telling(said: str) -> str:
    """Return the lines of a banner or of ssh that explain something, as they are."""
    return "\n".join(_telling(said))


def banner_in(said: str) -> str:
    """Return the lines that are not ssh's own words about the failure, made printable."""
    return bounded("\n".join(line for line in _telling(said) if by_ssh_lines([line]) is None))


def refused_methods(said: str) -> tuple[str, ...]:
    """Return the methods that the server would go on with; empty: ssh names none."""
    found = re.search(r"Permission denied \(([\w,@.-]*)\)", said)
    return tuple(found[1].split(",")) if found else ()


def _finding(said: str, carrier_said: str | None, route: Route) -> Classified:
    lines = _telling(said)
    found = by_ssh_lines(lines)
    is_own_fault = found is not None and found[0].reason in (*_CLASSES, Reason.KEY_EXCHANGE)
    if carrier_said is not None and not is_own_fault:
        return _of_carrier(carrier_said, lines, route)
    if found is not None:
        row, line = found
        return Classified(row.reason, line, row.advice)
    evidence = " / ".join(lines[-4:]) or "ssh ended without a word"
    advice = openssh.OTHER_SSH if re.search(openssh.CANNOT_START, evidence) else ""
    return Classified(Reason.UNRECOGNISED, evidence, advice)


def _of_carrier(said: str, lines: list[str], route: Route) -> Classified:
    """Return the failure of the ProxyCommand, which is the jump host's ``ssh`` or a proxy."""
    if re.search(_HOST_KEY, said):
        return Classified(Reason.JUMP_FAILED, f"the jump host: {_of_host_key(said, _NO_PINS)}", "")
    reason = Reason.PROXY_FAILED if route.proxy is not None else Reason.JUMP_FAILED
    words = _telling(said) or lines or ["it ended without output"]
    known = by_ssh_lines(words)
    if known is not None and known[0].reason is reason is Reason.JUMP_FAILED:
        return Classified(reason, known[1], known[0].advice)
    return Classified(reason, error_of_cloudflared(words) or words[0], "")


def _telling(said: str) -> list[str]:
    return [line for line in said.splitlines() if not re.search(_NOISE, line)]


def _of_host_key(said: str, pins: Pins) -> str:
    if not pins.is_pinned and not re.search(_KNOWN_KEYS, said):
        return " / ".join(_telling(said)[-4:])  # ssh could not check it
    found = re.search(_SHOWN_IN_DEBUG, said) or re.search(_SHOWN, said)
    shown = f"host key changed: got {found[1] if found else 'another key'}"
    bad = BAD_CERTIFICATE.search(said)
    is_unknown = pins.is_pinned and pins.demand == UNKNOWN
    if is_unknown and not re.search(_OTHER_KEY, said) and not bad:
        return f"{UNKNOWN}: it showed {found[1]}" if found else UNKNOWN
    if "REVOKED" in said:
        why = IS_REVOKED
    elif bad:
        why = f"{host_keys.BAD_CERTIFICATE}: {bad[1].strip()}"
    elif is_unknown:
        why = "expected the one that KnownHostsCommand prints"
    else:
        why = pins.demand if pins.is_pinned else "expected the pinned key"
    return f"{shown}, {why}: {IMPOSTOR}"
