"""The known failures on the way to a host: the evidence of each, its reason and the next step.

Nothing else classifies a failure.  One that no row describes is "unrecognised", and its evidence
is shown as it is.  The texts of ssh are those of ``sshconnect.c``, ``sshconnect2.c``, ``packet.c``
and ``kex.c``, which are not translated; the codes of a disconnection are those of RFC 4253 section
11.1.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable, Set

from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import ADVICE, NOT_APPROVED, SLOW_LOG_IN, TOO_MANY_KEYS, Reason, RouteError

from .stream import NotSSHError

__all__ = [
    "FAILURES",
    "LONGER_KEY",
    "Classified",
    "Failure",
    "add_banner",
    "by_disconnect",
    "by_ssh_lines",
    "classify",
    "classify_disconnect",
]


class Failure(NamedTuple):
    """A kind of failure, and the evidence that proves it: any one of these.

    :ivar types: the exception is of one of them.
    :ivar errnos: the exception has one of these numbers.
    :ivar answer: the pattern of the text that a server sent in place of its banner.
    :ivar paramiko: the pattern of the text of an exception of Paramiko, which has no type for it.
    :ivar ssh: the pattern of a line that ``ssh`` prints.
    :ivar disconnect: the pattern of ``CODE: text``, with which a server ended the connection.
    :ivar observed: the code of ringtasks that notices it by itself, as a module's name.
    :ivar fix: the next step, if it differs from that of the reason.
    """

    name: str
    reason: Reason
    types: tuple[type[BaseException], ...] = ()
    errnos: Set[int] = frozenset()
    answer: str = ""
    paramiko: str = ""
    ssh: str = ""
    disconnect: str = ""
    observed: tuple[str, ...] = ()
    fix: str = ""

    @property
    def advice(self) -> str:
        """The next step."""
        return self.fix or ADVICE[self.reason]


LONGER_KEY = "give the host a longer key, or lower RequiredRSASize in ~/.ssh/config"
#: ssh's line has the address between these words, which may hold any character.
_FROM = r"^(\S+: )?Connection (closed|reset) by "


def _no_common(kind: str, paramikos_name: str, sshs_name: str, keyword: str) -> Failure:
    """Return the row for a server that has no algorithm of a kind in common with us."""
    return Failure(
        f"no common {kind}",
        Reason.KEY_EXCHANGE,
        paramiko=rf"^Incompatible ssh (peer|server) \(no acceptable {paramikos_name}",
        ssh=rf"^Unable to negotiate with .*: no matching {sshs_name} found",
        fix=f"allow one that the server has, for this host in ~/.ssh/config: {keyword} +NAME",
    )


#: The first row counts that describes a failure.
FAILURES: tuple[Failure, ...] = (
    Failure(
        "too many keys",
        Reason.AUTHENTICATION,
        disconnect=r"^\d+: Too many authentication failures",  # auth.c, auth_maxtries_exceeded
        fix=TOO_MANY_KEYS,
    ),
    Failure(
        "no further method",
        Reason.AUTHENTICATION,
        disconnect=r"^14: ",  # SSH_DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE
    ),
    Failure(
        "unknown user",
        Reason.AUTHENTICATION,
        disconnect=r"^15: ",  # SSH_DISCONNECT_ILLEGAL_USER_NAME
        fix="check ssh_user",
    ),
    Failure(
        "log-in refused",
        Reason.AUTHENTICATION,
        ssh=r"^\S+: Permission denied \(",
        observed=("ssh.inprocess.connection_errors",),
    ),
    Failure(
        "host key",
        Reason.HOST_KEY,
        paramiko=r"^Host key for server .* does not match",  # keys that the caller has loaded
        ssh=r"^Host key verification failed",
        observed=("ssh.refused_host_key",),
    ),
    Failure(
        "short host key",
        Reason.HOST_KEY,
        ssh=r"Bad server host key: Invalid key length",
        observed=("ssh.refused_host_key",),
        fix=LONGER_KEY,
    ),
    Failure(
        "old protocol",
        Reason.KEY_EXCHANGE,
        paramiko=r"^Incompatible version",
        ssh=r"^Protocol major versions differ",
        fix="update the server: it speaks version 1 of the protocol only",
    ),
    _no_common("key exchange", "kex", "key exchange method", "KexAlgorithms"),
    _no_common("host key", "host key", "host key type", "HostKeyAlgorithms"),
    _no_common("cipher", "ciphers", "cipher", "Ciphers"),
    _no_common("MAC", "macs", "MAC", "MACs"),
    Failure(
        "no common algorithm",
        Reason.KEY_EXCHANGE,
        paramiko=r"^Incompatible ssh (peer|server) \(no acceptable",
        disconnect=r"^3: ",  # SSH_DISCONNECT_KEY_EXCHANGE_FAILED
    ),
    Failure(
        "too many log-ins",
        Reason.OVERLOADED,
        answer=r"^Exceeded MaxStartups",  # sshd.c, drop_connection
        disconnect=r"^12: ",  # SSH_DISCONNECT_TOO_MANY_CONNECTIONS
    ),
    Failure(
        "penalty",
        Reason.REFUSED,
        answer=r"^Not allowed at this time",  # sshd.c, from OpenSSH 9.8 on
        fix="wait: sshd refuses this address for some time (PerSourcePenalties in sshd_config)",
    ),
    Failure("no SSH banner", Reason.NOT_SSH, types=(NotSSHError,)),
    Failure(
        "other address family",
        Reason.NAME_NOT_FOUND,
        # On systems where its number is that of no other error.
        errnos=frozenset(code for code in (getattr(socket, "EAI_ADDRFAMILY", 0),) if code < 0),
        ssh=r"^ssh: Could not resolve hostname .*: Address family for hostname not supported",
        fix="the address is of the other family: check AddressFamily in ~/.ssh/config",
    ),
    Failure(
        "unknown name",
        Reason.NAME_NOT_FOUND,
        types=(socket.gaierror, UnicodeError),  # UnicodeError: a label that no name can have
        ssh=r"^ssh: Could not resolve hostname ",
    ),
    Failure(
        "refused connection",
        Reason.REFUSED,
        errnos={errno.ECONNREFUSED},
        ssh=r"^ssh: connect to .*: Connection refused",
    ),
    Failure(
        "no network route",
        Reason.NO_ROUTE,
        # The last two: a firewall of this machine.
        errnos={errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
        | {errno.EACCES, errno.EPERM},
        ssh=r"^ssh: connect to .*: (No route to host|Network is unreachable|Host is down"
        r"|Permission denied|Operation not permitted)",
    ),
    Failure(
        "unusable address",
        Reason.NO_ROUTE,
        errnos={errno.EINVAL, errno.EAFNOSUPPORT},
        ssh=r"^ssh: connect to .*: (Invalid argument|Address family not supported by protocol)",
        fix="an address in fe80::/10 needs a zone (fe80::1%eth0); 'ip route get' shows the route",
    ),
    Failure(
        "no such local address",
        Reason.NO_ROUTE,
        errnos={errno.EADDRNOTAVAIL},
        ssh=r"^(ssh: connect to .*|bind \S+): Can(no|')t assign requested address",
        fix="check BindAddress in ~/.ssh/config, and that IPv6 is on if the address needs it: "
        "'ip addr' shows the addresses of this machine",
    ),
    Failure(
        "no banner in time",
        Reason.SILENT,
        ssh=r"timed out during banner exchange",
        observed=("ssh.dialing",),
    ),
    Failure(
        "log-in not approved in time",
        Reason.TIMED_OUT,
        observed=("ssh.master.start",),
        fix=NOT_APPROVED,
    ),
    Failure(
        "log-in not finished in time",
        Reason.TIMED_OUT,
        observed=("ssh.master.start",),
        fix=SLOW_LOG_IN,
    ),
    Failure(
        "no answer in time",
        Reason.TIMED_OUT,
        types=(TimeoutError,),
        errnos={errno.ETIMEDOUT},
        paramiko=r"^No existing session",  # the time for the key exchange is over
        ssh=r"^ssh: connect to .*: (Connection|Operation) timed out|^Connection to .* timed out$",
        observed=("ssh.dialing", "ssh.master.start", "ssh.master.log_in", "client.connectivity"),
    ),
    Failure(
        "broken connection",
        Reason.RESET,
        types=(EOFError,),
        errnos={errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED},
        paramiko=r"^(Error reading SSH protocol banner|Negotiation failed|SSH session not active)",
        ssh=rf"{_FROM}|: (Connection reset by peer|Connection closed by remote host|Broken pipe)$|"
        r"^Connection to .* closed by remote host",
        observed=("ssh.master.start",),
    ),
    Failure("overtaken", Reason.OVERTAKEN, observed=("ssh.dialing",)),
    Failure(
        "proxy not installed",
        Reason.PROXY_MISSING,
        observed=("ssh.proxies", "ssh.master.start"),
    ),
    Failure(
        "proxy failed",
        Reason.PROXY_FAILED,
        observed=("ssh.proxies", "ssh.dialing", "ssh.master.stderr_errors", "ssh.master.start"),
    ),
    Failure(
        "forbidden forwarding",
        Reason.JUMP_FAILED,
        paramiko=r"^ChannelException\(1,",  # RFC 4254 section 5.1
        ssh=r"^channel \d+: open failed: administratively prohibited",
        fix="allow it in the jump host's sshd_config: AllowTcpForwarding, PermitOpen",
    ),
    Failure(
        "no connection behind the jump host",
        Reason.JUMP_FAILED,
        paramiko=r"^ChannelException\(2,",
        ssh=r"^channel \d+: open failed: connect failed",
        fix="check ssh_host and ssh_port, as the jump host sees them",
    ),
    Failure(
        "jump host failed",
        Reason.JUMP_FAILED,
        observed=("ssh.dialing", "ssh.master.stderr_errors"),
    ),
    Failure(
        "link lost",
        Reason.LINK_LOST,
        observed=("ssh.link_pool", "ssh.master.open", "client.connectivity"),
    ),
    Failure("another program", Reason.OTHER_PROGRAM, observed=("client.connectivity",)),
)

_DISCONNECT = r"^Received disconnect from .* port \d+:(\d+: .*)"
#: packet.c, sshpkt_vfatal: after the line that tells more.
_SUMMARY = r"^Connection (to|closed by|reset by) .* port \d+( timed out)?$"


class Classified(NamedTuple):
    """The reason of a failure, the evidence, and the next step."""

    reason: Reason
    evidence: str
    advice: str = ""


def classify(error: BaseException) -> Classified:
    """Return the reason for which a route failed, from an exception of Python or Paramiko."""
    row = next((row for row in FAILURES if _is_shown_by(row, error)), None)
    evidence = (error.strerror if isinstance(error, OSError) else "") or str(error)
    evidence = getattr(error, "text", evidence)  # of a ChannelException
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


def by_ssh_lines(lines: Iterable[str]) -> tuple[Failure, str] | None:
    """Return the row for what ``ssh`` printed, and the line that shows it.

    The last line counts that a row describes: those of the server's banner come before ssh's own.
    A summary, which ssh prints at its end, counts only if no row describes another line.
    """
    latest_first = list(reversed(list(lines)))
    for line in sorted(latest_first, key=lambda line: re.search(_SUMMARY, line) is not None):
        row = _by_ssh_line(line)
        if row is not None:
            return row, line
    return None


def add_banner(error: RouteError, banner: str) -> None:
    """Add a server's banner, the only reason it gives if it closes the connection after that.

    PAM's modules do so for an account that has expired, or while the host shuts down.
    """
    if error.reason is Reason.RESET and banner:
        error.evidence += f"; the host said: {banner}"
        error.advice = "see the host's words; its sshd log may tell more"


def by_disconnect(code_and_text: str) -> Failure | None:
    """Return the row for ``CODE: text``, with which a server ended the connection."""
    rows = (row for row in FAILURES if row.disconnect)
    return next((row for row in rows if re.search(row.disconnect, code_and_text)), None)


def _by_ssh_line(line: str) -> Failure | None:
    ended = re.search(_DISCONNECT, line)
    if ended is not None:
        return by_disconnect(ended[1])
    return next((row for row in FAILURES if row.ssh and re.search(row.ssh, line)), None)


def _is_shown_by(row: Failure, error: BaseException) -> bool:
    if row.answer and isinstance(error, NotSSHError):
        return re.search(row.answer, str(error)) is not None
    if isinstance(error, OSError) and error.errno is not None and row.errnos:
        return error.errno in row.errnos
    if isinstance(error, row.types):
        return not isinstance(error, TimeoutError) or error.errno is None
    # Paramiko is not imported here: a command over a control master needs nothing of it.
    is_paramikos = any(kind.__name__ == "SSHException" for kind in type(error).__mro__)
    return bool(is_paramikos and row.paramiko and re.search(row.paramiko, str(error)))
