"""One pinned host key per host, whatever the route.

The three routes must lead to the same machine, so a key is kept under the host's *name*, not under
the address it was seen at.  The file has OpenSSH's format (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT),
so that ``ssh`` can use it too (``HostKeyAlias``).  The first contact pins (``accept-new`` of
ssh_config(5), StrictHostKeyChecking); a changed key is refused, and nothing is accepted over a pin.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .config import SSHConfig, known_hosts_file
from .errors import StateFileError

__all__ = ["HostKey", "KnownHosts", "Verdict", "judge"]


class HostKey(NamedTuple):
    """A public key: its type (``ssh-ed25519``) and its base64 blob."""

    type: str
    blob: str

    @classmethod
    def parse(cls, line: str) -> HostKey:
        """From ``ssh-ed25519 AAAA… [comment]``.

        :raises ValueError: it is not a public key.
        """
        key_type, blob, *_ = [*line.split(), "", ""]
        try:
            decoded = base64.b64decode(blob, validate=True)
        except ValueError:
            decoded = b""
        # RFC 4253 section 6.6: the blob opens with the type's name, length first.
        if decoded[4 : 4 + len(key_type)].decode("ascii", "replace") != key_type or not key_type:
            raise ValueError(
                f"expected a public key such as 'ssh-ed25519 AAAA…', got {line[:40]!r}"
            )
        return cls(key_type, blob)

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` prints it: ``SHA256:…``."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return "SHA256:" + base64.b64encode(digest).rstrip(b"=").decode()

    def __str__(self) -> str:
        return f"{self.type} {self.fingerprint}"


class Verdict(NamedTuple):
    """What to do with the key that a server showed: trust it or not, and pin it or not."""

    is_trusted: bool
    is_new: bool = False


def judge(offered: HostKey, pins: Iterable[HostKey], *, is_ephemeral: bool = False) -> Verdict:
    """Whether to trust ``offered``, given every key that is pinned for the host.  Pure.

    A key of another type than the pinned one is a changed key: an impostor chooses what it shows.
    """
    known = tuple(pins)
    if known:
        return Verdict(is_trusted=offered in known)
    return Verdict(is_trusted=True, is_new=not is_ephemeral)


class KnownHosts:
    """The pins: of the inventory (``ssh_host_key``), else of our known-hosts file."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or known_hosts_file()

    def pins(self, config: SSHConfig) -> tuple[HostKey, ...]:
        """The keys that are accepted for this host; empty if any is.

        :raises ValueError: ``ssh_host_key`` is not a public key.
        :raises StateFileError: the file is there but cannot be read. Not knowing the pins is no
            licence to accept any key.
        """
        if config.ssh_host_key:
            return (HostKey.parse(config.ssh_host_key),)
        if config.is_ephemeral:
            return ()
        return self._known().entries.get(config.id, ())

    def pin(self, config: SSHConfig, key: HostKey) -> bool:
        """Keep ``key`` for the host; False if somebody has pinned another one meanwhile.

        :raises StateFileError: the file cannot be written.
        """
        with self._locked() as file, _reading:
            known = self._known()
            pins = known.entries.get(config.id, ())
            if not pins:
                line = f"{config.id} {key.type} {key.blob}\n".encode()
                file.write(line)
                file.flush()
                self._remember(known, config.id, key, _Version.of(file.fileno()), len(line))
        return not pins or key in pins

    def _known(self) -> _Known:
        """What stands in the file, read anew only when it has changed."""
        try:
            with _reading:
                known = _read.get(self.path)
                if known is None or known.version != _Version.of(self.path):
                    with self.path.open("rb") as file:
                        version = _Version.of(file.fileno())
                        known = _read[self.path] = _Known(version, _parse(file.read()))
        except FileNotFoundError:
            return _Known(None, {})
        except OSError as error:
            raise StateFileError(str(self.path), f"cannot be read: {error.strerror}") from error
        return known

    def _remember(
        self, known: _Known, name: str, key: HostKey, version: _Version, size_bytes: int
    ) -> None:
        """After a line of ``size_bytes`` was added, and nothing else."""
        if known.version and version.size_bytes == known.version.size_bytes + size_bytes:
            known.entries[name] = (key,)
            _read[self.path] = _Known(version, known.entries)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise StateFileError(str(self.path), f"cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "ab") as file:
            # Held for one read and one write of a line: no need for a limit.
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


class _Version(NamedTuple):
    """What tells one state of a file from the next."""

    device: int
    inode: int
    size_bytes: int
    changed_at_ns: int

    @classmethod
    def of(cls, file: Path | int) -> _Version:
        status = os.stat(file)  # noqa: PTH116  # a descriptor, too
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class _Known(NamedTuple):
    """The keys by name, in one version of the file (None: it is not there)."""

    version: _Version | None
    entries: dict[str, tuple[HostKey, ...]]


#: What was read last. A run on a thousand hosts asks thousands of times, and adds a thousand lines.
_read: dict[Path, _Known] = {}
#: Held while the file and what is known of it may differ: else a thread that looks just after
#: another one's line was added would read all of it, which made a third of a large run's cost.
_reading = threading.RLock()


def _parse(text: bytes) -> dict[str, tuple[HostKey, ...]]:
    entries: dict[str, tuple[HostKey, ...]] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        names, _, rest = line.strip().partition(" ")
        if names.startswith(("#", "@")) or not rest:
            continue
        with contextlib.suppress(ValueError):
            key = HostKey.parse(rest)
            for name in names.split(","):
                entries[name] = (*entries.get(name, ()), key)
    return entries
