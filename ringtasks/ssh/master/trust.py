"""The trust that an ``ssh`` is given: the known-hosts files of one start, and their variants.

ssh compares the principals of a certificate with one name, and cannot be told to accept either a
certificate or a first contact.  So a host with an authority may need several starts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ringtasks.common.light_typing import NamedTuple
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.evaluated_config import settings_of
from ringtasks.ssh.home_files import home_arguments
from ringtasks.ssh.host_key_settings import host_key_settings
from ringtasks.ssh.host_keys import HostKey, Pins
from ringtasks.ssh.known_hosts import CERT_AUTHORITY, REVOKED, Entries, Entry, known_name
from ringtasks.ssh.pins import KnownHosts, names_of_host
from ringtasks.ssh.routes import Route, hop_route

from .command import Hop, Trust, trust_of
from .identity import MAX_HOPS, jump_config
from .stderr_errors import BAD_CERTIFICATE

__all__ = ["FirstContact", "KeyPolicy", "KnownHostsFiles", "new_file"]

# sshkey.c, sshkey_cert_check_authority
_OTHER_NAME = "name is not a listed principal"


class KeyPolicy:
    """The name for the look-up of the host's key, and the keys that are accepted."""

    def __init__(self, config: SSHConfig, route: Route) -> None:
        # ~/.ssh/config may have changed the address.
        if route.name == "direct":
            config = replace(
                config,
                name=config.id,
                host=route.host,
                port=route.port,
                ssh_config_host=config.name_in_ssh_config,
            )
        self.config = config
        known = KnownHosts().pins(config)
        self._certified = [name for name in names_of_host(config) if known_name(name) == name]
        if not known.authorities or not self._certified:
            self._certified = [known_name(config.id)]
        self.name = self._certified.pop(0)
        # An authority for all hosts is tried before a first contact, not instead of it.
        self._falls_back = bool(known.authorities) and not known.is_pinned
        self.pins = known._replace(needs_certificate=True) if self._falls_back else known

    def vary(self, said: str) -> bool:
        """Change the terms after ``ssh`` has refused the host's key; False: nothing is left to try.

        :param said: its stderr.
        """
        if _OTHER_NAME in said and self._certified:
            self.name = self._certified.pop(0)
            return True
        is_told = BAD_CERTIFICATE.search(said) or "REVOKED" in said
        return not is_told and self.take_first_contact()

    def take_first_contact(self) -> bool:
        """Accept any key if only an authority for all hosts is known; True if that is a change."""
        if not self._falls_back:
            return False
        self._falls_back = False
        self.name = known_name(self.config.id)
        self.pins = self.pins._replace(authorities=(), needs_certificate=False)
        return True

    def first_contacts(self) -> Iterator[FirstContact]:
        """Yield the authorities to pin, once ``ssh`` has accepted a certificate."""
        if self._falls_back and not self.config.is_ephemeral:
            for key in self.pins.authorities[:1]:
                yield FirstContact(self.config, key, is_authority=True)


class FirstContact(NamedTuple):
    """A key that ``ssh`` has accepted without a pin."""

    config: SSHConfig
    key: HostKey
    is_authority: bool = False


class KnownHostsFiles:
    """The known-hosts files of one start: one for the host, and one for each jump host."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._known: list[tuple[SSHConfig, Trust]] = []

    def of(self, terms: KeyPolicy) -> Trust:
        """Write a file with the host's pins; return the trust in it."""
        return self._write(terms.config, terms.pins, terms.name)

    def hop(self, config: SSHConfig) -> Hop | None:
        """Return the jump host on the way to a host, if there is one."""
        jump = jump_config(config)
        if jump is None or len(self._known) > MAX_HOPS:
            return None
        route = hop_route(jump)
        terms = KeyPolicy(jump, route)
        terms.take_first_contact()
        trust = self.of(terms)
        return Hop(jump, route, trust, self.hop(jump), home_arguments(jump))

    def first_contacts(self) -> Iterator[FirstContact]:
        """Yield the keys that ``ssh`` has added to its files."""
        for number, (config, trust) in enumerate(self._known):
            if trust.policy == "accept-new" and not config.is_ephemeral:
                for entry in Entries(self._path(number).read_bytes()).about([trust.name]):
                    if not entry.marker:
                        yield FirstContact(config, entry.key)

    def _write(self, config: SSHConfig, pins: Pins, name: str) -> Trust:
        path = self._path(len(self._known))
        settings, of_keys = settings_of(config), host_key_settings(config)
        # A program that wants to be told the host's key is run by ssh itself: it prints the name
        # that it is told.
        is_run = of_keys.needs_key and not (pins.keys or pins.authorities or config.is_ephemeral)
        trust = trust_of(pins, path, of_keys.usual_name(config) if is_run else name)._replace(
            has_command=of_keys.command is not None and not is_run,
            configured=tuple(filter(None, (settings.get("hostkeyalgorithms") or "").split(","))),
        )
        marked = {"": pins.keys, REVOKED: pins.revoked, CERT_AUTHORITY: pins.authorities}
        lines = [Entry(marker, trust.name, key) for marker, keys in marked.items() for key in keys]
        with new_file(path) as file:
            os.write(file, "".join(f"{line}\n" for line in lines).encode())
        self._known.append((config, trust))
        return trust

    def _path(self, number: int) -> Path:
        return Path(f"{self._socket}.hosts{number}")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[int]:
    """Create a file that did not exist; only its owner may read and write it."""
    # Opened for appending, since two programs may write to it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
