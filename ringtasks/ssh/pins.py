"""The pins of hosts: of the inventory (``ssh_host_key``), else of our known-hosts file.

The file has OpenSSH's format, so that ``ssh`` can use it too (``HostKeyAlias``).  It is only ever
added to, one whole line at a time, under a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ringtasks.common.text import printable
from ringtasks.errors import HostKeyError, Reason, StateFileError, UsageError
from ringtasks.inventory.config import SSHConfig, known_hosts_file

from .host_keys import HostKey, Pins
from .known_hosts import REVOKED, Damage, Entries, Entry, known_name, names_of

__all__ = ["KnownHosts"]

_SHOWN_CHARACTERS = 60  # of a line that cannot be read


class KnownHosts:
    """The known-hosts file, and what the inventory says in its place."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or known_hosts_file()

    def pins(self, config: SSHConfig) -> Pins:
        """The keys that are known of this host.

        :raises UsageError: ``ssh_host_key`` is not a public key.
        :raises HostKeyError: the file is there but cannot be read, or a line of it that may be
            about this host. Not knowing the pins is no licence to accept any key.
        """
        if config.ssh_host_key:
            given: tuple[HostKey, ...] = (_key_of(config.ssh_host_key, config.id),)
        elif config.is_ephemeral:
            given = ()
        else:
            return self._found(config)
        return self._found(config, is_pinned=True)._replace(keys=given)

    def pin(self, config: SSHConfig, key: HostKey) -> bool:
        """Keep ``key`` for the host; False if another one was pinned meanwhile, or revoked.

        :raises StateFileError: the file cannot be written.
        :raises HostKeyError: as in `pins`.
        """
        with self._locked() as descriptor, _reading:
            pins = self._found(config)
            if not pins.keys and key not in pins.revoked:
                self._add(descriptor, Entry("", known_name(config.id), key))
                return True
        return key in pins.keys and key not in pins.revoked

    def _found(self, config: SSHConfig, *, is_pinned: bool = False) -> Pins:
        entries = self._known(config).entries
        names = names_of(config.id)
        about = list(dict.fromkeys(entries.about(names)))
        pins = Pins(
            tuple(entry.key for entry in about if not entry.marker),
            tuple(entry.key for entry in about if entry.marker == REVOKED),
        )
        damage = entries.damage_about(names, is_pinned=is_pinned or bool(pins.keys))
        if damage is not None:
            raise self._unknown(config, damage)
        return pins

    def _unknown(self, config: SSHConfig, damage: Damage) -> HostKeyError:
        shown = printable(damage.text[:_SHOWN_CHARACTERS])
        return HostKeyError(
            config.id,
            route="",
            reason=Reason.HOST_KEY,
            evidence=f"{self.path}:{damage.number}: this line cannot be read: '{shown}…'",
            advice="mend or remove that line: it may hold the host's key",
        )

    def _known(self, config: SSHConfig) -> _Known:
        """What stands in the file, read anew only when it has changed."""
        try:
            with _reading:
                known, version = _read.get(self.path), _Version.of(self.path)
                if known is None or known.version != version:
                    known = _read[self.path] = self._read_anew()
        except (FileNotFoundError, NotADirectoryError):
            return _Known(None, Entries())
        except OSError as error:
            raise HostKeyError(
                config.id,
                route="",
                reason=Reason.HOST_KEY,
                evidence=f"{self.path}: cannot be read: {error.strerror}",
                advice="make it readable: it holds the pinned host keys",
            ) from error
        return known

    def _read_anew(self) -> _Known:
        with self.path.open("rb") as file:
            known = _Known(_Version.of(file.fileno()), Entries(file.read()))
        for damage in known.entries.damaged:
            _warn(f"{self.path}:{damage.number}: this line cannot be read: mend or remove it")
        return known

    def _add(self, descriptor: int, entry: Entry) -> None:
        """Write one line, and know of it without reading all anew."""
        size_bytes = os.fstat(descriptor).st_size
        is_torn = size_bytes > 0 and os.pread(descriptor, 1, size_bytes - 1) != b"\n"
        line = f"{entry.names} {entry.key.type} {entry.key.blob}\n".encode()
        written = b"\n" + line if is_torn else line
        known = _read.get(self.path)
        is_current = known is not None and known.version == _Version.of(descriptor)
        try:
            if os.write(descriptor, written) != len(written):
                raise OSError(0, "it was cut short: is the disk full?")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size_bytes)  # a part of a line would be a damaged one
            raise StateFileError(str(self.path), f"cannot be written: {error.strerror}") from error
        if known is not None and is_current:
            known.entries.add(entry)
            _read[self.path] = known._replace(version=_Version.of(descriptor))

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
                # Held for one read and one write of a line: no need for a limit.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _is_at(descriptor, self.path):
                    yield descriptor
                    return


def _key_of(text: str, host: str) -> HostKey:
    try:
        return HostKey.parse(text)
    except ValueError as error:
        raise UsageError(f"{host}: ssh_host_key: {error}") from error


class _Version(NamedTuple):
    """What tells one state of a file from the next."""

    device: int
    inode: int
    size_bytes: int
    changed_at_ns: int

    @classmethod
    def of(cls, file: Path | int) -> _Version:
        """:raises OSError: it cannot be looked at, or holds no lines."""
        status = os.stat(file)  # noqa: PTH116  # a descriptor, too
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISCHR(status.st_mode):
            raise OSError(0, "it is not a regular file")  # a FIFO would keep us waiting
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class _Known(NamedTuple):
    """The lines in one version of the file (None: it is not there)."""

    version: _Version | None
    entries: Entries


#: What was read last. A run on a thousand hosts asks thousands of times, and adds a thousand lines.
_read: dict[Path, _Known] = {}
#: Held while the file and what is known of it may differ: else a thread that looks just after
#: another one's line was added would read all of it, which made a third of a large run's cost.
_reading = threading.RLock()
#: Told once a process.
_warned: set[str] = set()


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether a file has not been replaced since it was opened (ssh-keygen -R and -H do that)."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _warn(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        print(f"ringtasks: warning: {text}", file=sys.stderr)
