"""The errors of a Connection that cannot be opened, each with the type that Fabric users catch.

Paramiko and the system have a type for most failures on the way to a host.  `also_paramikos`
gives an `UnreachableError` the type that plain Fabric would have raised, in addition to its own, so
that handlers written for Fabric go on working.  If several routes failed in different ways, the one
that came furthest counts: it says most about the host.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import paramiko
from paramiko.ssh_exception import NoValidConnectionsError

from ringtasks.common.text import bounded, counted, printable
from ringtasks.errors import (
    SLOW_LOG_IN,
    AuthenticationError,
    HostKeyError,
    Reason,
    RouteError,
    UnreachableError,
)
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.failure_table import classify, classify_disconnect
from ringtasks.ssh.key_files import ENCRYPTED
from ringtasks.ssh.refused_log_in import NO_KEY, explain
from ringtasks.ssh.routes import Route

from .log_in import Refusal, RefusedError

__all__ = [
    "BadHostKeyError",
    "ConnectTimedOutError",
    "HostNotFoundError",
    "JumpFailedError",
    "LogInRefusedError",
    "NegotiationError",
    "NoAlgorithmError",
    "NoConnectionError",
    "NoPassphraseError",
    "NoPasswordsError",
    "ProxyFailedError",
    "also_paramikos",
    "route_error",
]


class LogInRefusedError(UnreachableError, paramiko.AuthenticationException):
    """The host can be reached and refuses the log-in."""


class NoPassphraseError(LogInRefusedError, paramiko.PasswordRequiredException):
    """The log-in is refused, and a key was left out because no passphrase was given."""


class NoPasswordsError(LogInRefusedError, paramiko.BadAuthenticationType):
    """A password was given, but the host takes none."""

    @property
    def allowed_types(self) -> list[str]:  # type: ignore[override]  # an attribute there
        """The methods that the host takes; empty after pickling."""
        refusals = (_refusal_of(failure) for failure in _own_failures(self))
        return [method for refusal in refusals if refusal for method in refusal.methods]


class BadHostKeyError(UnreachableError, paramiko.BadHostKeyException):
    """The host did not show its pinned key. The keys are in the evidence, not in ``key``."""

    def __init__(self, host: str, failures: tuple[RouteError, ...] = ()) -> None:
        super().__init__(host, failures)
        self.hostname = host


class NegotiationError(UnreachableError, paramiko.SSHException):
    """The peer answered without a log-in: no SSH banner, no common algorithm, a reset."""


class NoAlgorithmError(NegotiationError, paramiko.ssh_exception.IncompatiblePeer):
    """Both sides have no version or algorithm in common."""


class JumpFailedError(NegotiationError, paramiko.ChannelException):
    """The jump host does not reach the host."""

    code = 2  # RFC 4254 section 5.1, SSH_OPEN_CONNECT_FAILED

    @property
    def text(self) -> str:  # type: ignore[override]  # an attribute there
        """The reason, as ``ChannelException`` has it."""
        return str(self)


class ProxyFailedError(NegotiationError, paramiko.ProxyCommandFailure):
    """The ProxyCommand ended before the host answered."""

    @property
    def command(self) -> str:  # type: ignore[override]  # an attribute there
        """The routes, in place of the command line, which may hold secrets."""
        return self.reason

    @property
    def error(self) -> str:  # type: ignore[override]  # an attribute there
        """The reason, as ``ProxyCommandFailure`` has it."""
        return str(self)


class ConnectTimedOutError(UnreachableError, TimeoutError):
    """The address does not answer in time."""


class NoConnectionError(UnreachableError, NoValidConnectionsError):  # type: ignore[misc]  # both pickle themselves; ours comes first
    """The address refuses connections, or there is no network route to it."""

    @property
    def errors(self) -> Mapping[tuple[str, int] | tuple[str, int, int, int], Exception]:  # type: ignore[override]  # an attribute there, which pickling would have to keep
        """The map of ``NoValidConnectionsError``: address and port to the error."""
        return {_address(failure.address): failure for failure in self.failures}


class HostNotFoundError(UnreachableError, socket.gaierror):
    """The host's name is unknown."""


#: The errors, from the failure that came furthest to the one that reached no machine at all.
_BY_REASON: dict[type[UnreachableError], tuple[Reason, ...]] = {
    LogInRefusedError: (Reason.AUTHENTICATION,),
    BadHostKeyError: (Reason.HOST_KEY,),
    NoAlgorithmError: (Reason.KEY_EXCHANGE,),
    NegotiationError: (
        Reason.LINK_LOST,
        Reason.OVERLOADED,
        Reason.RESET,
        Reason.NOT_SSH,
        Reason.SILENT,
        Reason.UNRECOGNISED,
    ),
    JumpFailedError: (Reason.JUMP_FAILED,),
    ProxyFailedError: (Reason.PROXY_FAILED,),
    ConnectTimedOutError: (Reason.TIMED_OUT, Reason.OVERTAKEN),
    NoConnectionError: (Reason.REFUSED, Reason.NO_ROUTE, Reason.PROXY_MISSING),
    HostNotFoundError: (Reason.NAME_NOT_FOUND,),
}


#: The kinds in the texts of ``paramiko.IncompatiblePeer``, and Paramiko's names for their lists.
_LISTS = {
    "acceptable kex": ("kex_algo_list", "kex"),
    "acceptable host key": ("server_key_algo_list", "key_types"),
    "acceptable ciphers": ("client_encrypt_algo_list", "ciphers"),
    "acceptable macs": ("client_mac_algo_list", "digests"),
}
#: Names in the list of key exchanges that are none.
_NO_KEX = ("kex-strict-", "ext-info-")


def also_paramikos(error: UnreachableError) -> UnreachableError:
    """Return the same error, with the type that Paramiko or the system has for it."""
    failures = list(_own_failures(error))
    for kind, reasons in _BY_REASON.items():
        if any(failure.reason in reasons for failure in failures):
            kind = _of_log_in(failures) if kind is LogInRefusedError else kind
            return kind(error.host, error.failures)
    return error


def _own_failures(error: UnreachableError) -> Iterator[RouteError]:
    """Yield the failures of all routes; those of a jump host in place of its failure."""
    for failure in error.failures:
        if isinstance(failure.__cause__, UnreachableError):
            yield from _own_failures(failure.__cause__)
        else:
            yield failure


def _of_log_in(failures: Sequence[RouteError]) -> type[LogInRefusedError]:
    if any(ENCRYPTED in failure.evidence for failure in failures):
        return NoPassphraseError
    refusals = [refusal for failure in failures if (refusal := _refusal_of(failure))]
    if any(refusal.has_password and not refusal.takes_passwords for refusal in refusals):
        return NoPasswordsError
    return LogInRefusedError


def _refusal_of(failure: RouteError) -> Refusal | None:
    cause = failure.__cause__
    return cause.refusal if isinstance(cause, RefusedError) else None


def route_error(
    error: Exception, ssh: SSHConfig, route: Route, elapsed: float, transport: Any = None
) -> RouteError:
    """Translate an exception of Paramiko's during the log-in to our own error.

    :param transport: the `Transport`, which knows what the server said last and what it offers.
    """
    if isinstance(error, HostKeyError):  # raised by code that does not know the route
        error.route, error.address, error.elapsed = route.name, route.address, elapsed
        return error
    at: dict[str, Any] = {"route": route.name, "address": route.address, "elapsed": elapsed}
    if isinstance(error, paramiko.AuthenticationException):
        return _refused(error, ssh, at)
    if said := getattr(transport, "disconnect_text", ""):
        finding = classify_disconnect(transport.disconnect_code, said)
    else:
        finding = classify(error)
    reason, evidence, advice = finding
    if "private key file" in evidence:
        return _refused(error, ssh, at)
    if reason is Reason.TIMED_OUT:
        advice = SLOW_LOG_IN
    offered, is_unknown = _offered(evidence, transport)
    if offered:
        evidence += f"; the server has {bounded(', '.join(offered))}"
        advice = "set use_control_master: OpenSSH may know one" if is_unknown else advice
    kind = AuthenticationError if reason is Reason.AUTHENTICATION else RouteError
    return kind(ssh.id, reason=reason, evidence=printable(evidence), advice=advice, **at)


def _offered(evidence: str, transport: Any) -> tuple[list[str], bool]:
    """Return the server's algorithms of the kind that failed; True: Paramiko has none of them."""
    for kind, (name, attribute) in _LISTS.items():
        names = getattr(transport, "offered", {}).get(name, ())
        if kind in evidence and names:
            options = transport.get_security_options()
            known = [each for each in names if _is_known(options, attribute, each)]
            return [each for each in names if not each.startswith(_NO_KEX)], not known
    return [], False


def _is_known(options: Any, attribute: str, name: str) -> bool:
    """Return True if Paramiko has an algorithm, whatever the settings allow."""
    try:
        setattr(options, attribute, (name,))
    except ValueError:
        return False
    return True


def _refused(error: Exception, ssh: SSHConfig, at: dict[str, Any]) -> AuthenticationError:
    """Return the error of a refused log-in, with the fault of the key file if one is found."""
    refusal = error.refusal if isinstance(error, RefusedError) else None
    evidence = f"user {ssh.user}: {_told(error, refusal)}"
    refused = AuthenticationError(ssh.id, reason=Reason.AUTHENTICATION, evidence=evidence, **at)
    explain(refused, ssh, refusal.methods if refusal else ())
    if refusal is not None and refusal.has_password and refusal.takes_passwords:
        refused.advice = "check the user and the password"
    return refused


def _told(error: Exception, refusal: Refusal | None) -> str:
    if refusal is None:
        return printable(str(error))
    faults = "".join(f"; {printable(fault)}" for fault in refusal.faults)
    offered = f"{counted(refusal.key_count, 'key')} offered"
    if refusal.said:
        return f"{offered}; the server said: {refusal.said}{faults}"
    if refusal.accepted:
        return f"the server accepted {' and '.join(refusal.accepted)}, and wants more{faults}"
    if refusal.has_password:
        taken = refusal.takes_passwords
        password = "the password was refused" if taken else "the host takes no passwords"
        return f"{offered}; {password}{faults}"
    if not refusal.key_count and refusal.methods and "publickey" not in refusal.methods:
        return f"the server accepts no keys{faults}"
    if not refusal.key_count and faults:
        return f"no key was offered{faults}"
    if not refusal.key_count:
        return f"{NO_KEY}{faults}"
    return f"{offered}, none accepted{faults}"


def _address(text: str) -> tuple[str, int]:
    """Split `Route.address` into host and port; a tunnel's name has no port."""
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdigit() else (text, 0)
