"""The cached answers of sources: one file each in the state folder, mode 0600, replaced at once.

A file holds the checked hosts, the times of the last answer and of the last attempt, and the error
of that attempt.  Neither the file nor its name contains a provider's key.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common import file_lock
from ringtasks.common.atomic_file import replace_file
from ringtasks.common.digest import digest
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.regular_file import UNUSABLE, read_regular
from ringtasks.inventory.state_files import state_folder

from .checking import from_json
from .kinds import digest_of
from .model import Listing, Source

__all__ = ["Cached", "file_of", "folder", "locked", "read", "write"]

_VERSION = 1


class Cached(NamedTuple):
    """A source's last answer, and the last attempt to get one. Times are Unix seconds; 0: never."""

    listing: Listing = Listing()
    fetched_at: float = 0.0
    tried_at: float = 0.0
    elapsed: float = 0.0
    """Seconds that the last attempt took."""
    error: str = ""
    """The error of the last attempt; empty: it succeeded."""


def folder() -> Path:
    """Return the folder of the cache files."""
    return state_folder() / "sources"


def file_of(source: Source) -> Path:
    """Return the file for a source; other programs, addresses and accounts have other files."""
    where = str(Path(source.file).parent.absolute()) if source.command else ""
    identity = [source.kind, source.command, source.url, where, digest_of(source.kind)]
    return folder() / f"{source.kind}-{digest(json.dumps(identity), 16)}.json"


def read(file: Path) -> Cached:
    """Return the content of a cache file; a missing or damaged one is empty."""
    try:
        status = file.stat()
    except OSError:
        return Cached()
    return _read_version(file, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=32)  # each look-up of a jump host reads the inventory
def _read_version(file: Path, *_version: int) -> Cached:
    try:
        stored = json.loads(read_regular(file))
        if stored["version"] != _VERSION:
            return Cached()
        fetched_at, tried_at, elapsed = (
            float(stored[name]) for name in ("fetched_at", "tried_at", "elapsed")
        )
        return Cached(from_json(stored), fetched_at, tried_at, elapsed, str(stored["error"]))
    except UNUSABLE:
        return Cached()


def write(file: Path, cached: Cached) -> bool:
    """Replace a cache file; False: it cannot be written, so the next process asks again."""
    own = cached._asdict()
    listing = own.pop("listing")._asdict()
    try:
        replace_file(file, json.dumps({"version": _VERSION, **own, **listing}))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def locked(file: Path, timeout: float) -> Iterator[None]:
    """Hold the lock of a cache file, unless it cannot be made, or was held for ``timeout`` s."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # a read-only state folder
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            held.enter_context(file_lock.locked(file.with_suffix(".lock"), timeout))
        yield
