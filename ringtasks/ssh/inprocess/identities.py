"""The keys that a log-in in process offers, in their order.

They are: the key and the files that the caller names, then, as with OpenSSH (``sshconnect2.c``,
``pubkey_prepare``), the keys with certificates, the agent's keys that ssh's files name, its other
keys, and the keys that only ssh's files name, or else the usual files in ``~/.ssh``.  A key that
cannot be read is left out, and its fault is kept for the error.  With ``IdentitiesOnly``
(ssh_config(5)) the agent offers only the named keys.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from paramiko.agent import AgentKey, AgentSSH
from paramiko.pkey import PublicBlob

from ringtasks.common.local_user import expanded_home
from ringtasks.ssh.home_files import USUAL_KEYS
from ringtasks.ssh.openssh import run
from ringtasks.ssh.paramiko_private import connect_agent

from .private_keys import KINDS, key_of_file, parsed_key

__all__ = ["Identities"]

_ADD_TIMEOUT = 5.0  # seconds for ssh-add


@dataclass(eq=False, repr=False)
class Identities:
    """The sources of the keys.

    :ivar files: those that the caller names.
    :ivar configured_files: those that ssh's files name; with ``has_usual_files`` there are none.
    :ivar agent_socket: in place of ``SSH_AUTH_SOCK``.
    :ivar certificates: files of certificates (ssh_config(5), CertificateFile).
    """

    key: paramiko.PKey | None = None
    files: tuple[str, ...] = ()
    configured_files: tuple[str, ...] = ()
    passphrase: str | None = None
    has_agent: bool = True
    has_usual_files: bool = True
    is_named_only: bool = False
    agent_socket: str | None = None
    certificates: tuple[str, ...] = ()
    is_accepted: Callable[[str], bool] = lambda _: True
    """Whether keys of a type are offered (ssh_config(5), PubkeyAcceptedAlgorithms)."""
    rsa_bits: int = 0
    """The least size of an RSA key (ssh_config(5), RequiredRSASize)."""
    time_left: Callable[[], float] = lambda: 10.0
    """The seconds that the log-in has left; an agent may ask a person for a touch or a consent."""
    adds_to_agent: str = "no"
    """Whether the agent gets a key that was accepted (ssh_config(5), AddKeysToAgent)."""
    faults: list[str] = field(default_factory=list)
    """The files that could not be used, each with the reason."""
    _files_of_keys: dict[bytes, str] = field(default_factory=dict)
    _offered: set[bytes] = field(default_factory=set)

    @property
    def is_own_key_first(self) -> bool:
        """True if only named keys are offered, and the first needs neither agent nor passphrase."""
        return self.is_named_only and isinstance(self.key, KINDS)

    def __iter__(self) -> Iterator[Any]:
        """Yield each key once, one with a certificate before the same key without."""
        for key in self._keys():
            for offered in (*self._certified(key), key):
                public = offered.public_blob
                kind = public.key_type if public else offered.get_name()
                blob = _blob(offered)
                if blob not in self._offered and self._is_allowed(key, kind):
                    self._offered.add(blob)
                    yield offered

    def _is_allowed(self, key: Any, kind: str) -> bool:
        """Return True if ssh's files allow a key to be offered; else note why not."""
        fault = ""
        if not self.is_accepted(kind):
            fault = f"PubkeyAcceptedAlgorithms leaves out a key of type {kind}"
        elif key.get_name() == "ssh-rsa" and key.get_bits() < self.rsa_bits:
            fault = f"RequiredRSASize leaves out a key of {key.get_bits()} bits"
        if fault and fault not in self.faults:
            self.faults.append(fault)
        return not fault

    def cannot_sign(self, key: Any) -> None:
        """Offer the same key again if there is another source of it: this one cannot sign."""
        self._offered.discard(_blob(key))

    def add_to_agent(self, key: Any) -> None:
        """Give the agent a key of a file that the server has accepted, if ssh's files say so.

        A key that needs a passphrase is left out: ssh-add would have to ask for it.
        """
        file = self._files_of_keys.get(key.asbytes())
        if file is None or self.adds_to_agent in ("no", "false", "ask"):
            return
        how = {"yes": [], "true": [], "confirm": ["-c"]}
        options = how.get(self.adds_to_agent, ["-t", self.adds_to_agent])
        environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
        if self.agent_socket:
            environment["SSH_AUTH_SOCK"] = self.agent_socket
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # like ssh, go on
            run(["ssh-add", "-q", *options, "--", file], _ADD_TIMEOUT, environment)

    def _keys(self) -> Iterator[Any]:
        if self.key is not None:
            yield self.key
        for file in self.files:
            yield from self._in_file(file)
        configured = self._usual_files() if self.has_usual_files else self.configured_files
        yield from self._with_certificates(configured)
        if self.has_agent:
            yield from self._in_agent(configured)
        for file in configured:
            yield from self._in_file(file)

    def _usual_files(self) -> tuple[str, ...]:
        paths = [Path.home() / ".ssh" / name for name in USUAL_KEYS]
        return tuple(str(path) for path in paths if path.is_file())

    def _in_file(self, file: str) -> Iterator[paramiko.PKey]:
        path = expanded_home(file.removesuffix("-cert.pub"))
        try:
            key = key_of_file(path) or parsed_key(path.read_bytes(), self.passphrase)
        except (paramiko.SSHException, ValueError, OSError) as error:
            fault = f"{file}: {getattr(error, 'strerror', None) or error}"
            if fault not in self.faults:
                self.faults.append(fault)
            return
        self._files_of_keys[key.asbytes()] = str(path)
        certificate = Path(f"{path}-cert.pub")
        if certificate.is_file():
            with contextlib.suppress(ValueError, OSError):
                yield _with_certificate(key, str(certificate))
        yield key

    def _with_certificates(self, files: Sequence[str]) -> Iterator[Any]:
        """Yield the keys with certificates: OpenSSH offers these before all others."""
        if not self.certificates and not any(Path(f"{file}-cert.pub").is_file() for file in files):
            return
        for file in files:
            for key in self._in_file(file):
                yield from (key,) if key.public_blob else self._certified(key)
        for key in self._agent_keys if self.has_agent else ():
            yield from self._certified(key)

    def _in_agent(self, configured: Sequence[str]) -> Iterator[AgentKey]:
        """Yield the agent's keys, those that are named first."""
        keys = self._agent_keys
        if not keys:
            return
        named = set(_named((*self.files, *configured)))
        yield from (key for key in keys if key.asbytes() in named)
        if not self.is_named_only:
            yield from (key for key in keys if key.asbytes() not in named)

    @functools.cached_property
    def _agent_keys(self) -> tuple[AgentKey, ...]:
        """The keys of the agent; none if it does not answer in half of the time that is left.

        ssh would wait for ever, and Paramiko, too, if it looked for ``SSH_AUTH_SOCK`` itself.
        """
        path = (
            os.environ.get("SSH_AUTH_SOCK", "") if self.agent_socket is None else self.agent_socket
        )
        if not path:
            return ()
        try:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(self.time_left() / 2)
            agent = AgentSSH()
            try:
                connection.connect(path)
                connect_agent(agent, connection)
            except BaseException:
                connection.close()
                raise
        except TimeoutError:
            self.faults.append(f"the agent at {path} does not answer: try 'ssh-add -l'")
        except (OSError, paramiko.SSHException):
            pass
        else:
            connection.settimeout(self.time_left())  # of a signature
            return tuple(agent.get_keys())
        return ()

    def _certified(self, key: Any) -> Iterator[Any]:
        for file in self.certificates:
            with contextlib.suppress(ValueError, OSError, paramiko.SSHException):
                yield _with_certificate(key, file)


def _blob(key: Any) -> bytes:
    """Return the public part of a key as it is offered: with its certificate."""
    blob: bytes = key.public_blob.key_blob if key.public_blob else key.asbytes()
    return blob


def _named(files: Sequence[str]) -> Iterator[bytes]:
    """Yield the public parts of the named keys; a public key beside the file will do."""
    for file in files:
        path = expanded_home(file)
        for public in (path, Path(f"{path}.pub"), Path(f"{path}-cert.pub")):
            with contextlib.suppress(ValueError, OSError, paramiko.SSHException):
                yield PublicBlob.from_file(str(public)).key_blob
        if (key := key_of_file(path)) is not None:
            yield key.asbytes()


def _with_certificate(key: Any, file: str) -> Any:
    """Return a copy of a key with its certificate.

    :raises ValueError: the certificate is for another key.
    """
    from ringtasks.ssh.certificates import is_for

    blob = PublicBlob.from_file(os.path.expanduser(file))  # noqa: PTH111  # a string is wanted
    if not is_for(blob.key_blob, key.asbytes()):
        raise ValueError(f"{file} is for another key")
    import copy

    certified = copy.copy(key)
    certified.public_blob = blob
    return certified
