"""The pins of hosts: of the inventory (``ssh_host_key``), else of our known-hosts file.

Authorities and revoked keys are also those of the user's own known-hosts files.  Our file has
OpenSSH's format, so that ``ssh`` can use it too (``HostKeyAlias``).  Lines are only ever added, one
whole line at a time, under a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ringtasks.common import one_look
from ringtasks.common.fork import RenewedLock
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.regular_file import open_regular
from ringtasks.common.text import printable
from ringtasks.errors import StateFileError, UsageError
from ringtasks.inventory.host_settings import DEFAULT_SSH_PORT, SSHConfig, addresses
from ringtasks.inventory.state_files import known_hosts_file

from .host_key_settings import HostKeySettings, host_key_settings
from .host_keys import HostKey, Pins
from .known_hosts import (
    CERT_AUTHORITY,
    REVOKED,
    Entries,
    Entry,
    UnreadableLine,
    known_name,
    names_of,
)
from .routes import tcp_routes

__all__ = ["KnownHosts", "names_of_host"]

_SHOWN_CHARACTERS = 60  # of an unreadable line


class KnownHosts:
    """The known-hosts file, and the inventory's keys that take its place."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or known_hosts_file()

    def pins(self, config: SSHConfig, shown: HostKey | None = None) -> Pins:
        """Return all known keys of this host.

        :param shown: the host's key, for a KnownHostsCommand that wants to be told it.
        :raises UsageError: ``ssh_host_key`` is not a public key.
        :raises HostKeyError: the file exists but cannot be read, or a line of it that may be
            about this host. Without the pins, accepting any key would be unsafe.
        """
        if config.ssh_host_key:
            given = _given(config.ssh_host_key, config.id)
            return given._replace(revoked=self._found(config, shown, is_pinned=True).revoked)
        if config.is_ephemeral:
            return self._found(config, shown, is_pinned=True, wants_keys=False)
        return self._found(config, shown)

    def pin(self, config: SSHConfig, key: HostKey, *, is_authority: bool = False) -> bool:
        """Keep ``key`` for the host; False if another one was pinned meanwhile, or it was revoked.

        :param is_authority: the key is not the host's, but its certifying authority's.
        :raises StateFileError: the file cannot be written.
        :raises HostKeyError: as in `pins`.
        """
        with self._locked() as descriptor, _reading.lock:
            pins = self._found(config, key)
            if key in pins.revoked:
                return False
            if pins.is_pinned:
                return key in (pins.authorities if is_authority else pins.keys)
            marker = CERT_AUTHORITY if is_authority else ""
            self._add(descriptor, Entry(marker, known_name(config.id), key))
            return True

    def _found(
        self,
        config: SSHConfig,
        shown: HostKey | None,
        *,
        is_pinned: bool = False,
        wants_keys: bool = True,
    ) -> Pins:
        """Return the keys in the files.

        :param is_pinned: the inventory has a pin, or wants none.
        """
        own, names = self._own(config), names_of(config.id)
        keys = [entry.key for entry in own.about(names) if not entry.marker] if wants_keys else []
        settings = host_key_settings(config)._replace(shown=shown)
        marked = self._marked(config, settings, own)
        if wants_keys and not keys:
            keys += _keys_of_user(settings, config)
        authorities = [entry for entry in marked if entry.marker == CERT_AUTHORITY]
        pins = Pins(
            _each_once(keys),
            _each_once(entry.key for entry in marked if entry.marker == REVOKED),
            _each_once(entry.key for entry in authorities),
            needs_certificate=not all(entry.is_for_all for entry in authorities),
            is_strict=settings.is_strict and wants_keys,
        )
        damage = own.damage_about(names, is_pinned=is_pinned or pins.is_pinned)
        self._check(config, str(self.path), damage)
        return pins

    def _marked(self, config: SSHConfig, settings: HostKeySettings, own: Entries) -> list[Entry]:
        """Return the lines with a marker about the host, in our file and in the user's."""
        marked: list[Entry] = []
        names: Sequence[str] = ()
        for file, entries in ((str(self.path), own), *_files_of_user(settings, config)):
            if entries.has_marked:
                names = names or (*names_of(config.id), *_addresses(config, settings.alias))
                marked += [entry for entry in entries.about(names) if entry.marker]
                self._check(config, file, entries.damage_about((), names, is_pinned=True))
        return marked

    def _check(self, config: SSHConfig, file: str, damage: UnreadableLine | None) -> None:
        if damage is not None:
            from .refused_host_key import refused_key

            shown = printable(damage.text[:_SHOWN_CHARACTERS])
            raise refused_key(
                config,
                f"{file}:{damage.number}: this line cannot be read: '{shown}…'",
                "fix or remove that line: it may hold the host's key",
            )

    def _own(self, config: SSHConfig) -> Entries:
        try:
            with _reading.lock:
                known = _known(str(self.path))
        except OSError as error:
            from .refused_host_key import refused_key

            evidence = f"{self.path}: cannot be read: {error.strerror}"
            raise refused_key(
                config, evidence, "make it readable: it holds the pinned host keys"
            ) from error
        for damage in known.entries.damaged:
            _warn(f"{self.path}:{damage.number}: this line cannot be read: fix or remove it")
        return known.entries

    def _add(self, descriptor: int, entry: Entry) -> None:
        """Write one line, and add it to the cached entries without reading the file anew."""
        size_bytes = os.fstat(descriptor).st_size
        is_torn = size_bytes > 0 and os.pread(descriptor, 1, size_bytes - 1) != b"\n"
        line = f"{entry}\n".encode()
        written = b"\n" + line if is_torn else line
        known = _read.get((str(self.path), False))
        is_current = known is not None and known.version == _version_of(descriptor)
        try:
            if os.write(descriptor, written) != len(written):
                raise OSError(0, "it was cut short: is the disk full?")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size_bytes)  # a partial line would be unreadable later
            raise StateFileError(str(self.path), f"cannot be written: {error.strerror}") from error
        if known is not None and is_current:
            known.entries.add(entry)
            _read[str(self.path), False] = known._replace(version=_version_of(descriptor))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        while True:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            except OSError as error:
                raise StateFileError(
                    str(self.path), f"cannot be written: {error.strerror}"
                ) from error
            with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)):
                # Held for one read and one write of a line, so it needs no time limit.
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                except OSError as error:
                    why = f"cannot be locked: {error.strerror}"
                    raise StateFileError(str(self.path), why) from error
                if _is_at(descriptor, self.path):
                    yield descriptor
                    return


def names_of_host(config: SSHConfig) -> tuple[str, ...]:
    """Return the names that a certificate of the host may be for.

    They are its addresses as ``ssh`` gets them, and its name in the inventory; or only the name
    that replaces them (ssh_config(5), HostKeyAlias): behind one address there may be several hosts.
    """
    alias = host_key_settings(config).alias
    if alias is not None:
        return (alias,)
    others = (address for route, address in addresses(config).items() if route != "direct")
    places = (config.host.lower(), config.name, *others)
    return tuple(dict.fromkeys(name for name in places if name))


def _given(text: str, host: str) -> Pins:
    """Parse the inventory's entry: a key, or an authority."""
    marker, _, rest = text.strip().partition(" ")
    try:
        if marker == CERT_AUTHORITY:
            return Pins(authorities=(HostKey.parse(rest),), needs_certificate=True)
        return Pins((HostKey.parse(text),))
    except ValueError as error:
        raise UsageError(f"{host}: ssh_host_key: {error}") from error


def _addresses(config: SSHConfig, alias: str | None = None) -> Iterator[str]:
    """Yield the names under which ``ssh`` would look up the host if it got an address.

    :param alias: the name that replaces them (ssh_config(5), HostKeyAlias).
    """
    if alias is not None:
        yield alias
        return
    ports = {route.host: route.port for route in tcp_routes(config)}
    for name in names_of_host(config):
        yield name
        port = ports.get(name, config.port)
        if port != DEFAULT_SSH_PORT:
            yield f"[{name}]:{port}"


def _each_once(keys: Iterable[HostKey]) -> tuple[HostKey, ...]:
    return tuple(dict.fromkeys(keys))


def _files_of_user(settings: HostKeySettings, config: SSHConfig) -> Iterator[tuple[str, Entries]]:
    """Yield the marked lines of UserKnownHostsFile and GlobalKnownHostsFile (ssh_config(5)).

    The other lines are about addresses, so they are not read unless the settings say that only
    known hosts are accepted: a rented box's address of today is another box's tomorrow.
    """
    paths = settings.files
    yield from _marked(_paths_of_user(os.environ.get("HOME")) if paths is None else paths)
    if settings.command is not None:
        yield settings.command, Entries(settings.printed(config))


def _keys_of_user(settings: HostKeySettings, config: SSHConfig) -> Iterator[HostKey]:
    """Yield the keys that the user's settings make known: of files if they are strict."""
    if settings.command is None and not settings.is_strict:
        return
    names = tuple(_addresses(config, settings.alias))
    sources = [Entries(settings.printed(config))] if settings.command is not None else []
    if settings.is_strict:
        paths = settings.files
        for path in _paths_of_user(os.environ.get("HOME")) if paths is None else paths:
            with contextlib.suppress(OSError):
                sources.append(_known(path).entries)
    for entries in sources:
        yield from (entry.key for entry in entries.about(names) if not entry.marker)


@functools.lru_cache(maxsize=8)  # a run on many hosts calls it for each host
def _paths_of_user(_home: str | None) -> tuple[str, ...]:
    folders = (Path.home() / ".ssh", "known_hosts"), (Path("/etc/ssh"), "ssh_known_hosts")
    return tuple(f"{folder}/{name}{suffix}" for folder, name in folders for suffix in ("", "2"))


def _known(path: str, *, only_marked: bool = False) -> _KnownFile:
    """Return the entries of a file, which is read anew only after a change.

    :raises OSError: it cannot be read.
    """
    try:
        known, version = _read.get((path, only_marked)), _version_of(path)
        if known is None or known.version != version:
            with os.fdopen(open_regular(path), "rb") as file:
                version = _version_of(file.fileno())
                known = _KnownFile(version, Entries(file.read(), only_marked=only_marked))
            _read[path, only_marked] = known
        return known
    except (FileNotFoundError, NotADirectoryError):
        return _NONE


@one_look.kept
def _marked(paths: tuple[str, ...]) -> Sequence[tuple[str, Entries]]:
    """Return the marked lines of the files that have any, by file."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):  # like ssh, skip a file that cannot be read
            entries = _known(path, only_marked=True).entries
            if entries.has_marked:
                found.append((path, entries))
    return found


def _version_of(file: str | int) -> tuple[int, ...]:
    """Return the values that distinguish one state of a file from the next.

    :raises OSError: it cannot be examined, or is not a regular file.
    """
    status = os.stat(file)  # noqa: PTH116  # a descriptor, too
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISCHR(status.st_mode):
        raise OSError(0, "it is not a regular file")  # a FIFO would block
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _KnownFile(NamedTuple):
    """The entries of one version of the file; the version is empty if it does not exist."""

    version: tuple[int, ...]
    entries: Entries


_NONE = _KnownFile((), Entries())
#: The last reads. A run on a thousand hosts asks thousands of times, and adds a thousand lines.
_read: dict[tuple[str, bool], _KnownFile] = {}
#: Held while our own file and its cached entries may differ: else a thread that looks just after
#: another thread has added a line would read the whole file, a third of a large run's cost.
_reading = RenewedLock()
#: The warnings that this process has given already.
_warned: set[str] = set()


def _is_at(descriptor: int, path: Path) -> bool:
    """Return False if an open file was replaced since (ssh-keygen -R and -H do that)."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _warn(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        print(f"ringtasks: warning: {text}", file=sys.stderr)
