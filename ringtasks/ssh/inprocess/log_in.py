"""The log-in over Paramiko, in the order of OpenSSH (RFC 4252; ``sshconnect2.c``).

``none`` comes first: it tells the server's methods, and Tailscale's SSH server needs nothing else.
Then come keys, a password that was given, and, at a terminal only, the server's questions.  A key
that cannot sign, or that the server refuses, makes way for the next one.

OpenSSH's sshd delays its refusal of ``none`` by 5 to 9 ms (auth2.c, ensure_minimum_time_since).  So
there a named key comes before ``none``, if neither a password nor a question to a person could
follow: sshd counts a later ``none`` as a failure (MaxAuthTries), and may end the connection.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import paramiko

from ringtasks.common.light_typing import NamedTuple
from ringtasks.ssh.keywords import methods_of_openssh
from ringtasks.ssh.paramiko_private import PublicAuthHandler
from ringtasks.ssh.patience import Patience
from ringtasks.ssh.prompts import ANSWER_TIMEOUT, ask
from ringtasks.ssh.refused_log_in import KEYS_ARE_OFF, TOO_MANY

from .agent_forwarding import agent_socket
from .algorithms import is_accepted
from .identities import Identities

__all__ = ["InProcessLogIn", "Refusal", "RefusedError", "with_log_in"]

#: The methods in the order of OpenSSH (ssh_config(5), PreferredAuthentications).
_METHODS = ("publickey", "keyboard-interactive", "password")
_OPENSSH = "SSH-2.0-OpenSSH_"
#: The arguments that Paramiko would use itself, without an ``auth_strategy``.
_OF_LOG_IN = (
    "pkey", "key_filename", "passphrase", "password", "allow_agent", "look_for_keys",
)  # fmt: skip
#: ssh_config(5): the keyword that turns a method off.
_SWITCHES = {
    "publickey": "pubkeyauthentication",
    "keyboard-interactive": "kbdinteractiveauthentication",
    "password": "passwordauthentication",
}
_OFF = ("no", "false")


def with_log_in(
    connect_kwargs: Mapping[str, Any],
    user: str,
    ssh_config: Mapping[str, Any],
    patience: Patience,
    is_named_only: bool,
) -> dict[str, Any]:
    """Return the arguments with a `InProcessLogIn` in place of those for Paramiko's own log-in.

    A strategy of the caller's own stays.

    :param is_named_only: offer the named keys only, as ssh does with ``IdentitiesOnly``.
    """
    others = {name: value for name, value in connect_kwargs.items() if name not in _OF_LOG_IN}
    if others.get("auth_strategy") is not None:
        return others
    identities = _identities(connect_kwargs, ssh_config, is_named_only)
    identities.time_left = patience.remaining
    password = connect_kwargs.get("password")
    others.setdefault("compress", ssh_config.get("compression") == "yes")
    methods = _methods(ssh_config)
    if "publickey" not in methods:
        identities.faults.append(KEYS_ARE_OFF)
    log_in = InProcessLogIn(user, identities, patience, password, methods)
    log_in.tries = int(ssh_config.get("numberofpasswordprompts", log_in.tries))
    others["auth_strategy"] = log_in
    return others


def _identities(
    given: Mapping[str, Any], ssh_config: Mapping[str, Any], is_named_only: bool
) -> Identities:
    named = given.get("key_filename") or ()
    files = (named,) if isinstance(named, str) else tuple(named)
    configured = ssh_config.get("identityfile", ())
    has_usual_files = given.get("look_for_keys", True) and "identityfile" not in ssh_config
    socket = agent_socket(ssh_config)
    return Identities(
        key=given.get("pkey"),
        files=tuple(file for file in files if file not in configured),
        configured_files=tuple(file for file in files if file in configured),
        passphrase=given.get("passphrase") or given.get("password"),
        has_agent=given.get("allow_agent", True) and socket != "",
        has_usual_files=has_usual_files and not is_named_only,
        is_named_only=is_named_only or ssh_config.get("identitiesonly") == "yes",
        agent_socket=socket,
        certificates=tuple(ssh_config.get("certificatefile", ())),
        faults=[f"{name} works with OpenSSH only" for name in methods_of_openssh(ssh_config)],
        rsa_bits=int(ssh_config.get("requiredrsasize", 0)),
        adds_to_agent=ssh_config.get("addkeystoagent", "no"),
        is_accepted=lambda key_type: is_accepted(key_type, ssh_config),
    )


def _methods(ssh_config: Mapping[str, Any]) -> list[str]:
    preferred = ssh_config.get("preferredauthentications", ",".join(_METHODS)).split(",")
    known = [name for name in preferred if name in _METHODS]
    return [name for name in known if ssh_config.get(_SWITCHES[name]) not in _OFF]


class Refusal(NamedTuple):
    """The state of a log-in that the server did not let in.

    :ivar methods: those that the server would go on with.
    :ivar accepted: those that it has accepted, as a part of what it wants.
    :ivar key_count: the keys that were offered.
    :ivar faults: the keys that could not be used, with the reasons.
    :ivar said: the text with which the server ended the connection.
    :ivar has_password: the caller gave one.
    """

    methods: tuple[str, ...]
    accepted: tuple[str, ...]
    key_count: int
    faults: tuple[str, ...]
    said: str = ""
    has_password: bool = False

    @property
    def takes_passwords(self) -> bool:
        """True if the server asks for passwords, by either method."""
        return not {"password", "keyboard-interactive"}.isdisjoint(self.methods)


class RefusedError(paramiko.AuthenticationException):
    """The server accepted no method."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__("Authentication failed.")
        self.refusal = refusal


class InProcessLogIn:
    """One log-in; Paramiko calls `authenticate` (``SSHClient.connect``, ``auth_strategy``)."""

    tries: int = 3
    """The number of questions to a person (ssh_config(5), NumberOfPasswordPrompts)."""

    def __init__(
        self,
        user: str,
        identities: Identities,
        patience: Patience,
        password: str | None = None,
        methods: Sequence[str] = _METHODS,
    ) -> None:
        self._user, self._identities, self._patience = user, identities, patience
        self._password = password
        self._methods = methods if password is None else sorted(methods, key=_by_given_password)
        self._accepted: list[str] = []
        self._faults: list[str] = []
        self._key_count = 0
        self._key: Any = None  # the last one that was offered, unless it was refused
        self._transport: Any = None
        self._is_openssh = self._is_service_open = False
        self._last_allowed: tuple[str, ...] = ()

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Log in.

        :raises RefusedError: no method was accepted.
        :raises TimeoutError: the server did not answer in time.
        :raises SSHException: the connection was lost.
        """
        self._transport = transport
        self._is_openssh = transport.remote_version.startswith(_OPENSSH)
        left: dict[str, Iterator[_Request]] = {
            "publickey": self._keys(),
            "password": self._passwords(),
            "keyboard-interactive": self._dialogues(),
            "none": iter([lambda handler: handler.auth_none(self._user, handler.answered)]),
        }
        allowed: tuple[str, ...] = ("publickey" if self._begins_with_key() else "none",)
        self._last_allowed = allowed
        while allowed:
            usable = [m for m in self._methods if m in allowed]
            if not self._accepted:
                usable.append("none")
            method = next((m for m in usable if m in left), None)
            if method is None:
                raise RefusedError(self._refusal(allowed))
            request = next(left[method], None)
            if request is None:
                del left[method]
            else:
                allowed = self._requested(request)
        if self._key is not None:
            self._identities.add_to_agent(self._key)

    def _begins_with_key(self) -> bool:
        if not self._is_openssh or self._password is not None or self._patience.may_ask:
            return False
        first = next(iter(self._methods), None)
        return first == "publickey" and self._identities.is_own_key_first

    def _is_hasty(self) -> bool:
        """Return True if the first request need not wait until the server accepts the service.

        It saves a round trip.  RSA waits: the algorithm of its signature depends on the server's
        extensions (RFC 8308), which may come a moment after the key exchange.
        """
        return self._is_openssh and (self._key is None or "rsa" not in self._key.get_name())

    def _keys(self) -> Iterator[_Request]:
        for key in self._identities:

            def request(handler: _Handler, key: Any = key) -> None:
                handler.auth_publickey(self._user, key, handler.answered)

            self._key_count += 1
            self._key = key
            yield request

    def _passwords(self) -> Iterator[_Request]:
        if self._password is not None:
            yield self._with_password(self._password)
        for _ in range(self.tries if self._patience.may_ask else 0):
            yield self._with_password(ask(f"{self._user}'s password:", is_shown=False))

    def _with_password(self, password: str) -> _Request:
        return lambda handler: handler.auth_password(self._user, password, handler.answered)

    def _dialogues(self) -> Iterator[_Request]:
        if self._password is not None:
            yield self._dialogue(self._with_given_password)
        for _ in range(self.tries if self._patience.may_ask else 0):
            yield self._dialogue(_asked_at_terminal)

    def _dialogue(self, answer: _Answer) -> _Request:
        def request(handler: _Handler) -> None:
            handler.answer = answer
            handler.auth_interactive(self._user, handler.pass_on, handler.answered)

        return request

    def _with_given_password(self, _text: str, questions: _Questions) -> list[str]:
        """Answer as Paramiko does: the one question there is wants the password."""
        return [self._password or ""] if len(questions) == 1 else []

    def _requested(self, request: _Request) -> tuple[str, ...]:
        """Return the methods that the server wants next; none: the log-in has succeeded."""
        is_awaited = not self._is_service_open and not self._is_hasty()
        handler = _Handler(self._transport, self._patience, self._is_service_open, is_awaited)
        self._transport.auth_handler = handler
        request(handler)
        handler.await_answer()
        self._is_service_open = True
        if handler.fault is not None:  # this key cannot sign
            self._faults.append(str(handler.fault))
            self._identities.cannot_sign(self._key)
            return self._last_allowed
        if handler.is_authenticated():
            return ()
        if not self._transport.is_active():
            self._raise_ended(handler)
        self._transport.get_exception()  # of this request: no later one must find it
        if handler.is_partial:
            self._accepted.append(handler.auth_method)
        elif handler.auth_method == "publickey":
            self._key = None
            if "publickey" not in handler.methods:  # the server has not looked at it
                self._key_count -= 1
        self._last_allowed = handler.methods
        return handler.methods

    def _raise_ended(self, handler: _Handler) -> None:
        if handler.auth_method == "none" and self._key_count:  # the log-in was over before it
            raise RefusedError(self._refusal(self._last_allowed))
        said = getattr(self._transport, "disconnect_text", "")
        if TOO_MANY in said:
            raise RefusedError(self._refusal(self._last_allowed, said))
        raise self._transport.get_exception() or EOFError("closed by the host in the log-in")

    def _refusal(self, methods: tuple[str, ...], said: str = "") -> Refusal:
        faults = (*self._identities.faults, *dict.fromkeys(self._faults))
        has_password = self._password is not None
        return Refusal(methods, tuple(self._accepted), self._key_count, faults, said, has_password)


_Request = Callable[["_Handler"], None]
_Questions = Sequence[tuple[str, bool]]
_Answer = Callable[[str, _Questions], list[str]]


def _by_given_password(method: str) -> int:
    return ("publickey", "password", "keyboard-interactive").index(method)


def _asked_at_terminal(text: str, questions: _Questions) -> list[str]:
    answers = []
    for question, is_shown in questions:
        answers.append(ask(f"{text} {question}" if text else question, is_shown=is_shown))
        text = ""
    return answers


class _Answered(queue.SimpleQueue[Callable[[], object] | None]):
    """Paramiko's event for the answer, which is None here; before it come things to be done."""

    def set(self) -> None:
        self.put(None)


class _Handler(PublicAuthHandler):
    """Paramiko's handler of one request, which asks for the service once and hears banners.

    Paramiko calls most of it in the thread that reads; questions are answered in the thread that
    waits, which Ctrl-C can interrupt.
    """

    def __init__(
        self, transport: Any, patience: Patience, is_service_open: bool, is_service_awaited: bool
    ) -> None:
        super().__init__(transport)
        self.answered: Any = _Answered()  # Paramiko wants an Event, and calls set() only
        self.methods: tuple[str, ...] = ()
        self.is_partial = False
        self.fault: paramiko.SSHException | None = None
        self.answer: _Answer = _asked_at_terminal
        self._patience = patience
        self._is_service_open, self._is_service_awaited = is_service_open, is_service_awaited
        self._answers: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def await_answer(self) -> None:
        """Wait for the server's answer; meanwhile answer its questions, and show its banner.

        :raises TimeoutError: none came in time.
        """
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    heard = self.answered.get(timeout=self._patience.until_look())
                    if heard is None:
                        return
                    heard()
                self._patience.show()
                if self._patience.is_over():
                    raise TimeoutError(self._lateness())
        finally:
            self._answers.put([])  # the reading thread may still wait for it

    def pass_on(self, title: str, instructions: str, questions: _Questions) -> list[str]:
        """Return the answers to the server's questions, from the thread that waits."""
        text = f"{title} {instructions}".strip()
        self.answered.put(lambda: self._answers.put(self.answer(text, questions)))
        with contextlib.suppress(queue.Empty):
            return self._answers.get(timeout=ANSWER_TIMEOUT)
        return []

    def _lateness(self) -> str:
        said = f"; it said: {self._patience.banner}" if self._patience.banner else ""
        return f"the log-in was not answered in {self._patience.elapsed():.1f} s{said}"

    def request_service(self) -> None:
        if not self._is_service_open:
            super().request_service()
        if not self._is_service_awaited:
            accepted = paramiko.Message()
            accepted.add_string("ssh-userauth")
            accepted.rewind()
            self._send_request(accepted)

    def on_accepted_service(self, message: paramiko.Message) -> None:
        if self._is_service_awaited:
            self._send_request(message)

    def _send_request(self, message: paramiko.Message) -> None:
        try:
            super().on_accepted_service(message)
        except paramiko.SSHException as error:
            self.fault = error
            self.answered.set()

    def on_failure(self, message: paramiko.Message) -> None:
        self.methods, self.is_partial = tuple(message.get_list()), message.get_boolean()
        message.rewind()
        super().on_failure(message)

    def on_banner(self, message: paramiko.Message) -> None:
        self._patience.hear(message.get_string().decode("utf-8", "replace"))
        self.answered.put(self._patience.show)  # later, as a rule
