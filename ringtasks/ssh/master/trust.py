"""What an ``ssh`` is told to trust: the known-hosts files of one start, and how they are varied.

ssh compares the principals of a certificate with one name, and cannot be told to accept either a
certificate or a first contact.  So for a host with an authority it may take several starts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ringtasks.inventory.config import SSHConfig
from ringtasks.ssh.host_keys import HostKey, Pins
from ringtasks.ssh.known_hosts import CERT_AUTHORITY, REVOKED, Entries, Entry
from ringtasks.ssh.pins import KnownHosts, names_of_host
from ringtasks.ssh.routes import Route
from ringtasks.ssh.ssh_config import ask

from .command import Hop, Trust, alias, is_plain, trust_of
from .identity import jump_config
from .stderr_errors import BAD_CERTIFICATE

__all__ = ["MAX_HOPS", "FirstContact", "Terms", "Trusts", "new_file"]

MAX_HOPS = 8  # a jump host that is its own jump host would go on for ever
# sshkey.c, sshkey_cert_check_authority
_OTHER_NAME = "name is not a listed principal"


class Terms:
    """The name under which the host is looked up, and what is accepted from it."""

    def __init__(self, config: SSHConfig, route: Route) -> None:
        # The address may be one that ~/.ssh/config knows.
        if route.name == "direct":
            config = replace(config, name=config.id, host=route.host, port=route.port)
        self.config = config
        known = KnownHosts().pins(config)
        self._certified = [name for name in names_of_host(config) if is_plain(name)]
        if not known.authorities or not self._certified:
            self._certified = [alias(config)]
        self.name = self._certified.pop(0)
        # An authority for all hosts comes before a first contact, not in its place.
        self._falls_back = bool(known.authorities) and not known.is_pinned
        self.pins = known._replace(needs_certificate=True) if self._falls_back else known

    def vary(self, said: str) -> bool:
        """Whether there is something else to try, after ``ssh`` has refused the host's key.

        :param said: what it said.
        """
        if _OTHER_NAME in said and self._certified:
            self.name = self._certified.pop(0)
            return True
        is_told = BAD_CERTIFICATE.search(said) or "REVOKED" in said
        return not is_told and self.take_first_contact()

    def take_first_contact(self) -> bool:
        """Accept any key where only an authority for all hosts is known; whether that is new."""
        if not self._falls_back:
            return False
        self._falls_back = False
        self.name = alias(self.config)
        self.pins = self.pins._replace(authorities=(), needs_certificate=False)
        return True

    def first_contacts(self) -> Iterator[FirstContact]:
        """The authorities to pin, once ``ssh`` has accepted a certificate."""
        if self._falls_back and not self.config.is_ephemeral:
            for key in self.pins.authorities[:1]:
                yield FirstContact(self.config, key, is_authority=True)


class FirstContact(NamedTuple):
    """A key that ``ssh`` has accepted for want of a pin."""

    config: SSHConfig
    key: HostKey
    is_authority: bool = False


class Trusts:
    """The known-hosts files of one start: one for the host, and one for each jump host."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._known: list[tuple[SSHConfig, Trust]] = []

    def of(self, terms: Terms) -> Trust:
        """A file with the host's pins."""
        return self._write(terms.config, terms.pins, terms.name)

    def hop(self, config: SSHConfig) -> Hop | None:
        """The jump host on the way to a host, if there is one."""
        jump = jump_config(config)
        if jump is None or len(self._known) > MAX_HOPS:
            return None
        terms = Terms(jump, hop_route(jump))
        terms.take_first_contact()
        return Hop(jump, hop_route(jump), self.of(terms), self.hop(jump))

    def first_contacts(self) -> Iterator[FirstContact]:
        """The keys that ``ssh`` has added to its files."""
        for number, (config, trust) in enumerate(self._known):
            if trust.policy == "accept-new" and not config.is_ephemeral:
                for entry in Entries(self._path(number).read_bytes()).about([trust.name]):
                    if not entry.marker:
                        yield FirstContact(config, entry.key)

    def _write(self, config: SSHConfig, pins: Pins, name: str) -> Trust:
        path = self._path(len(self._known))
        trust = trust_of(pins, path, name)._replace(has_command=_has_known_hosts_command(config))
        marked = {"": pins.keys, REVOKED: pins.revoked, CERT_AUTHORITY: pins.authorities}
        lines = [Entry(marker, name, key) for marker, keys in marked.items() for key in keys]
        with new_file(path) as file:
            os.write(file, "".join(f"{line}\n" for line in lines).encode())
        self._known.append((config, trust))
        return trust

    def _path(self, number: int) -> Path:
        return Path(f"{self._socket}.hosts{number}")


def hop_route(jump: SSHConfig) -> Route:
    """The one route that a jump host is reached by: no race is held inside an ``ssh``."""
    if jump.host:
        return Route("direct", jump.host, jump.port)
    return Route("tailscale", jump.tailscale_ip or "", jump.tailscale_port)


def _has_known_hosts_command(config: SSHConfig) -> bool:
    answer = ask(config.host or config.id, user=config.user, file=config.ssh_config_file)
    return answer is not None and answer.get("knownhostscommand", "none") != "none"


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[int]:
    """A file that was not there before; for its owner only."""
    # Appended to: two programs may write to it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
