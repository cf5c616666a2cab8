"""Errors of ringtasks, sorted by the next step of the caller.

::

    RingtasksError
    ├── UsageError (ValueError)               fix the call; nothing was sent
    │   ├── InventoryError                    fix the hosts file
    │   │   └── UnknownHostError (LookupError)    use one of the near names
    │   ├── UnknownJobError (LookupError)     look at 'inv jobs --all'
    │   └── AmbiguousJobError                 use a longer part of the job's id
    ├── RouteError (ConnectionError)          try the next route
    │   ├── HostKeyError                      another host answered, or the box was rebuilt
    │   └── AuthenticationError               check user and key: the host refused the log-in
    ├── UnreachableError (ConnectionError)    every route failed: read its ``failures``
    ├── OutcomeUnknownError (ConnectionError) check the host: the command may have started
    ├── AnswerError (ValueError)              look at the host: its answer is not in the format
    ├── OtherProgramError                     log in as another user: this one runs one program only
    ├── JobNotStartedError                    fix the cause that the host gives, or wait
    ├── LimitError (TimeoutError)             a time limit passed
    ├── ClusterError                          look at Ray's output on that host
    ├── NoEligibleHostError                   read the verdicts on the hosts, or wait
    ├── RendezvousError                       put the hosts of a run into one network
    ├── RunNotStartedError                    fix the cause in its text, or use another host
    ├── ProtocolError                         drop this link
    └── StateFileError (OSError)              warn and continue: nothing depends on the state

Every error carries its data as fields and makes its text from them:
``host: failure: evidence; next step``.  No error holds a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringtasks.common.program_name import as_typed
from ringtasks.common.text import TextEnum

__all__ = [
    "AmbiguousJobError",
    "AnswerError",
    "AuthenticationError",
    "ClusterError",
    "HostKeyError",
    "InventoryError",
    "JobNotStartedError",
    "LimitError",
    "NoEligibleHostError",
    "OtherProgramError",
    "OutcomeUnknownError",
    "ProtocolError",
    "Reason",
    "RendezvousError",
    "RingtasksError",
    "RouteError",
    "RunNotStartedError",
    "StateFileError",
    "UnknownHostError",
    "UnknownJobError",
    "UnreachableError",
    "UsageError",
]


class Reason(TextEnum):
    """The reason why a route failed; messages show the value."""

    NAME_NOT_FOUND = "name not found"
    REFUSED = "refused"
    NO_ROUTE = "no route"
    TIMED_OUT = "timed out"
    SILENT = "silent"
    RESET = "reset"
    NOT_SSH = "not SSH"
    OVERLOADED = "overloaded"
    OVERTAKEN = "overtaken"
    PROXY_MISSING = "proxy missing"
    PROXY_FAILED = "proxy failed"
    JUMP_FAILED = "jump host failed"
    KEY_EXCHANGE = "key exchange failed"
    HOST_KEY = "host key"
    AUTHENTICATION = "authentication refused"
    LINK_LOST = "link lost"
    OTHER_PROGRAM = "ran something else"
    UNRECOGNISED = "unrecognised failure"
    """Any other failure: only the evidence is known."""


#: The advice if the server ended the log-in after too many keys.
TOO_MANY_KEYS = "too many keys were offered: set ssh_key, or IdentitiesOnly in ~/.ssh/config"

#: The advice if a log-in ran out of time behind a banner.
NOT_APPROVED = "do what the host asks for within connect_timeout"

#: The advice if a log-in ran out of time without one.
SLOW_LOG_IN = (
    "the host answers, but the log-in takes longer: raise connect_timeout, "
    "or see whether 'ssh-add -l' answers"
)

#: The next step for each reason, in the imperative.
ADVICE = {
    Reason.NAME_NOT_FOUND: "check the spelling of the address and this machine's DNS",
    Reason.REFUSED: "check the port, and that sshd runs on the host",
    Reason.NO_ROUTE: "check this machine's network (is Tailscale up?)",
    Reason.TIMED_OUT: "check that the box is running and its firewall lets you in",
    Reason.SILENT: "the port is open, but no banner comes: is sshd overloaded, or starting?",
    Reason.RESET: "sshd or a firewall dropped it: try again, look at the host's sshd log",
    Reason.NOT_SSH: "something else listens on this port: check ssh_port",
    Reason.OVERLOADED: "too many log-ins at the same time: try again with a smaller --fanout",
    Reason.OVERTAKEN: "another route answered first",
    Reason.PROXY_MISSING: "install it, or remove the route from the hosts file",
    Reason.PROXY_FAILED: "check the proxy and its credentials",
    Reason.JUMP_FAILED: f"check the jump host with '{as_typed('check --host JUMP')}' "
    "(its name, or user@host:port)",
    Reason.KEY_EXCHANGE: "the server has no algorithm in common with us; 'ssh -vv' lists both",
    Reason.UNRECOGNISED: f"'{as_typed('--dry check')}' shows the ssh command: run it with -vv",
    Reason.HOST_KEY: "if the box was rebuilt, remove its line from the known-hosts file",
    Reason.AUTHENTICATION: "check ssh_user and ssh_key, and that the public key is on the host",
    Reason.LINK_LOST: "try again; if it repeats, look at the host's sshd log",
    Reason.OTHER_PROGRAM: "check ssh_user, or what the host forces this key or user to run",
}


class RingtasksError(Exception):
    """Base class of every error that ringtasks raises on purpose."""

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[Callable[..., RingtasksError], tuple[Any, ...]]:
        # Exceptions pickle their positional arguments; ours keep their data in fields.
        return _rebuild, (type(self), dict(self.__dict__))


class UsageError(RingtasksError, ValueError):
    """The call itself is wrong: exit status 2; nothing was sent or recorded."""

    def __init__(self, message: str) -> None:
        self.message = message

    def __str__(self) -> str:
        return self.message


class InventoryError(UsageError):
    """A hosts file cannot be used as it stands.

    ``line`` counts from 1; ``file``, ``line``, ``host`` and ``field_name`` are None if the fault
    has no such place.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        host: str | None = None,
        field_name: str | None = None,
    ) -> None:
        super().__init__(message)
        self.file, self.line = file, line
        self.host, self.field_name = host, field_name

    def __str__(self) -> str:
        place = self.file or ""
        if self.line is not None:
            place += f":{self.line}"
        parts = [place, self.host, self.field_name, self.message]
        return ": ".join(part for part in parts if part)


class UnknownHostError(InventoryError, LookupError):
    """No host, group or fact has that name; ``near`` are the closest names, best first."""

    def __init__(self, message: str, *, near: tuple[str, ...] = (), **place: Any) -> None:
        super().__init__(message, **place)
        self.near = near

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}; did you mean {', '.join(self.near)}?" if self.near else text


class UnknownJobError(UsageError, LookupError):
    """No job on the asked hosts has that id or name; ``unasked`` hosts could not be asked."""

    def __init__(self, job: str, unasked: tuple[str, ...] = ()) -> None:
        super().__init__(f"{job}: no such job")
        self.job, self.unasked = job, unasked

    def __str__(self) -> str:
        if not self.unasked:
            return f"{self.message}: '{as_typed('jobs --all')}' lists all jobs"
        return f"{self.message} on the hosts that answered; not reached: {', '.join(self.unasked)}"


class AmbiguousJobError(UsageError):
    """Several jobs have that name, or an id with that beginning."""

    def __init__(self, job: str, candidates: tuple[str, ...]) -> None:
        listed = "".join(f"\n  {candidate}" for candidate in candidates)
        super().__init__(f"{job}: means several jobs; use a longer id or --host:{listed}")
        self.job, self.candidates = job, candidates


class JobNotStartedError(RingtasksError):
    """The job was not started, or (``is_unknown``) it may have started: the answer was lost.

    ``evidence`` is the host's message, or the reason why it was not reached; ``status`` is the exit
    status of the start: 255 if the host was not reached or the link was lost.
    """

    def __init__(
        self, host: str, job: str, evidence: str, *, status: int, is_unknown: bool = False
    ) -> None:
        self.host, self.job, self.evidence = host, job, evidence
        self.status, self.is_unknown = status, is_unknown

    def __str__(self) -> str:
        if self.is_unknown:
            return f"{self.evidence}; '{as_typed('jobs')}' shows whether there is a job {self.job}"
        return f"{self.host}: not started: {self.evidence}"


class RouteError(RingtasksError, ConnectionError):
    """A route to a host failed; the command was not sent over it.

    ``elapsed`` is in seconds. ``evidence`` is the message of the system, the proxy or the server.
    """

    def __init__(
        self,
        host: str,
        route: str,
        reason: Reason,
        evidence: str = "",
        address: str = "",
        elapsed: float = 0.0,
        advice: str = "",
    ) -> None:
        self.host, self.route = host, route
        self.reason, self.evidence = reason, evidence
        self.address, self.elapsed = address, elapsed
        self.advice = advice or ADVICE[reason]

    @property
    def what(self) -> str:
        """The reason and its evidence: ``refused: Connection refused``."""
        reason = str(self.reason)
        if self.evidence.startswith(reason):  # "host key changed: …" names it already
            return self.evidence
        return f"{reason}: {self.evidence}" if self.evidence else reason

    def explain(self) -> str:
        """Return the text without the host: ``direct (203.0.113.10:22): refused: …; check …``."""
        where = f"{self.route} ({self.address})" if self.address else self.route
        return f"{where}: {self.what}; {self.advice}"

    def __str__(self) -> str:
        return f"{self.host}: {self.explain()}"


class HostKeyError(RouteError):
    """The server that answered did not show the host's pinned key."""


class AuthenticationError(RouteError):
    """The host answered but refused the log-in."""


class UnreachableError(RingtasksError, ConnectionError):
    """No route worked. ``failures`` holds one RouteError per route, in the order of attempts."""

    def __init__(self, host: str, failures: tuple[RouteError, ...] = ()) -> None:
        self.host, self.failures = host, failures

    @property
    def reason(self) -> str:
        """The reasons of all routes: ``tailscale: refused; direct: timed out``."""
        return "; ".join(f"{failure.route}: {failure.reason}" for failure in self.failures)

    def __str__(self) -> str:
        if not self.failures:
            return f"{self.host}: unreachable: it has no route; give it an address"
        tried = "\n".join(f"  {failure.explain()}" for failure in self.failures)
        return f"{self.host}: unreachable, no route worked:\n{tried}"


class OutcomeUnknownError(RingtasksError, ConnectionError):
    """The link broke when the command may already have started: it may or may not have run."""

    def __init__(self, host: str, route: str, evidence: str = "") -> None:
        self.host, self.route, self.evidence = host, route, evidence

    def __str__(self) -> str:
        why = f" ({self.evidence})" if self.evidence else ""
        return (
            f"{self.host}: outcome unknown: the link over {self.route} was lost{why} after the "
            "command was sent; it may have run or still be running: look before you repeat it"
        )


class LimitError(RingtasksError, TimeoutError):
    """A time limit passed: ``limit`` seconds, called ``name``."""

    def __init__(self, host: str, name: str, limit: float) -> None:
        self.host, self.name, self.limit = host, name, limit

    def __str__(self) -> str:
        return f"{self.host}: {self.name} of {self.limit:g} s passed"


class AnswerError(RingtasksError, ValueError):
    """A host's answer is not in the format that was asked for, or a number in it is out of bounds.

    ``field`` is the name of the value, ``evidence`` describes or shows it in printable characters.
    """

    def __init__(self, field: str, evidence: str) -> None:
        self.field, self.evidence = field, evidence

    def __str__(self) -> str:
        return f"the host answered something unexpected: {self.field}: {self.evidence}"


class OtherProgramError(RingtasksError):
    """The host was reached, but ran another program than it was asked for.

    Examples are a forced command and a login shell that refuses log-ins. ``evidence`` is the
    program's output, ``status`` its exit status, None if it did not end; ``advice`` names the
    setting to check.
    """

    def __init__(
        self,
        host: str,
        evidence: str,
        status: int | None = None,
        advice: str = ADVICE[Reason.OTHER_PROGRAM],
    ) -> None:
        self.host, self.evidence, self.status = host, evidence, status
        self.advice = advice

    @property
    def what(self) -> str:
        """The program's output, or its exit status if it printed nothing."""
        ended = "it did not end" if self.status is None else f"exit status {self.status}"
        return self.evidence or f"it printed nothing ({ended})"

    def __str__(self) -> str:
        return f"{self.host}: the host ran something else: {self.what}; {self.advice}"


class ClusterError(RingtasksError):
    """Ray did not start on a host, or its node did not join the cluster."""

    def __init__(self, host: str, evidence: str) -> None:
        self.host, self.evidence = host, evidence

    def __str__(self) -> str:
        return f"{self.host}: {self.evidence}"


class NoEligibleHostError(RingtasksError):
    """Of the hosts that were asked, too few can take a training run.

    ``is_unreachable``: none of them answered.
    """

    def __init__(self, eligible: int, needed: int, *, is_unreachable: bool = False) -> None:
        self.eligible, self.needed, self.is_unreachable = eligible, needed, is_unreachable

    def __str__(self) -> str:
        if self.is_unreachable:
            return f"train: no host answered: try '{as_typed('check')}'"
        found = f"only {self.eligible} of {self.needed} hosts" if self.eligible else "no host"
        return f"train: {found} can take the run: the lines above say why"


class RunNotStartedError(RingtasksError):
    """A training run was not started: the host lacks something that the run needs.

    ``is_unreachable``: it may have been lost meanwhile.
    """

    def __init__(self, host: str, evidence: str, *, is_unreachable: bool = True) -> None:
        self.host, self.evidence, self.is_unreachable = host, evidence, is_unreachable

    def __str__(self) -> str:
        return f"{self.host}: the run was not started: {self.evidence}"


class RendezvousError(RingtasksError):
    """The hosts of a run do not reach the first one, or it cannot listen for them."""

    def __init__(self, first: str, evidence: str, *, is_listening: bool = True) -> None:
        self.first, self.evidence, self.is_listening = first, evidence, is_listening

    def __str__(self) -> str:
        if not self.is_listening:
            return f"{self.first}: it cannot listen: {self.evidence}"
        return (
            f"{self.first}: the other hosts cannot reach it: {self.evidence}; "
            "put them into one tailnet, or pick hosts of one network"
        )


class ProtocolError(RingtasksError):
    """The peer violated the protocol: the link must be dropped."""

    def __init__(self, host: str, evidence: str) -> None:
        self.host, self.evidence = host, evidence

    def __str__(self) -> str:
        return f"{self.host}: protocol error: {self.evidence}"


class StateFileError(RingtasksError, OSError):
    """A state file (health, known hosts) could not be read or written."""

    def __init__(self, path: str, evidence: str) -> None:
        self.path, self.evidence = path, evidence

    def __str__(self) -> str:
        return f"{self.path}: {self.evidence}"


def _rebuild(cls: type[RingtasksError], fields: dict[str, Any]) -> RingtasksError:
    error = cls.__new__(cls)
    error.__dict__.update(fields)
    return error
