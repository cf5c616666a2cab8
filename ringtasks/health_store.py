"""The health file: one JSON file that every ringtasks process reads and writes.

Each change is one read, one merge and one write under a lock, and the write replaces the file in
one step (rename(2)), so no count is lost and a crash leaves the old file or the new one.  Nothing is
synced to the disk: health is a memory, not a ledger, and a power cut leaves at worst a damaged file,
which is set aside.  Trouble with the file is a warning, never the end of a run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .config import health_file
from .errors import StateFileError
from .health import Outcome, SSHHealth

__all__ = ["HealthStore", "to_json"]

_VERSION = 1
_LOCK_TIMEOUT = 5.0
_LOCK_POLL_INTERVAL = 0.005

_FIELDS: dict[str, tuple[type, ...]] = {
    "last_success": (float, int, type(None)),
    "last_failure": (float, int, type(None)),
    "consecutive_failures": (int,),
    "consecutive_successes": (int,),
    "total_successes": (int,),
    "total_failures": (int,),
    "last_reason": (str,),
    "probing_since": (float, int, type(None)),
}

_warned: set[str] = set()


class HealthStore:
    """Reads and writes the health file.

    :param path: default `config.health_file`.
    :param warn: told of trouble with the file, once a process for each kind; default: stderr.
    """

    def __init__(
        self, path: Path | None = None, *, warn: Callable[[str], None] | None = None
    ) -> None:
        # A link stays a link: its target is what is replaced.
        self.path = Path(os.path.realpath(path or health_file()))
        self._warn = warn or _warn_once

    def load(self) -> dict[str, SSHHealth]:
        """Every host's health by name; empty where there is no file, or none that can be read."""
        try:
            return self._read()
        except StateFileError as error:
            self._warn(str(error))
            return {}

    def get(self, name: str) -> SSHHealth:
        """One host's health; a fresh one for a host that was never tried."""
        return self.load().get(name, SSHHealth())

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes, all in one go."""
        noted = list(outcomes)

        def count(hosts: dict[str, SSHHealth]) -> None:
            for outcome in noted:
                hosts[outcome.host] = _after(hosts.get(outcome.host, SSHHealth()), outcome)

        if noted:
            self._update(count)

    def reset(self, names: Iterable[str] | None = None) -> int:
        """Forget hosts (None: all); the number of those that were known."""
        forgotten: list[str] = []

        def forget(hosts: dict[str, SSHHealth]) -> None:
            forgotten.extend(name for name in (names or list(hosts)) if hosts.pop(name, None))

        self._update(forget)
        return len(forgotten)

    def claim_probe(self, name: str, route: str, now: float) -> bool:
        """Take the one attempt that a recovering route allows: True for exactly one caller."""
        claimed: list[bool] = []

        def claim(hosts: dict[str, SSHHealth]) -> None:
            host = hosts.get(name, SSHHealth())
            health = host.transports.get(route, SSHHealth())
            if not health.is_being_probed(now):
                transports = {**host.transports, route: replace(health, probing_since=now)}
                hosts[name] = replace(host, transports=transports)
                claimed.append(True)

        return not self._update(claim) or bool(claimed)

    def _update(self, change: Callable[[dict[str, SSHHealth]], None]) -> bool:
        """Whether the change is in the file."""
        try:
            with self._locked():
                hosts = self._read_or_set_aside()
                change(hosts)
                self._write(hosts)
        except StateFileError as error:
            self._warn(str(error))
            return False
        return True

    def _read(self) -> dict[str, SSHHealth]:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StateFileError(str(self.path), f"cannot be read: {error.strerror}") from error
        try:
            return _from_json(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _DamagedError(str(self.path), f"is damaged ({error})") from error

    def _read_or_set_aside(self) -> dict[str, SSHHealth]:
        try:
            return self._read()
        except _DamagedError as error:
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.time():.0f}")
            with contextlib.suppress(OSError):
                os.replace(self.path, aside)
            self._warn(f"{error}: it was set aside as {aside.name}, and counting starts anew")
            return {}

    def _write(self, hosts: dict[str, SSHHealth]) -> None:
        now = time.time()
        document = {
            "version": _VERSION,
            "hosts": {name: to_json(health, now) for name, health in hosts.items()},
        }
        # The lock is ours, so one name is enough, and what a killed writer left is overwritten.
        draft = self.path.with_name(f".{self.path.name}.new")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, 0o600)
                json.dump(document, file, indent=1, ensure_ascii=False)
            os.replace(draft, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise StateFileError(str(self.path), f"cannot be written: {error.strerror}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # The file itself is replaced at each write, so the lock is on one beside it.
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            if not self.path.parent.is_dir():
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateFileError(str(self.path), f"cannot be written: {error.strerror}") from error
        try:
            self._acquire(descriptor)
            yield
        finally:
            os.close(descriptor)  # and the lock with it

    def _acquire(self, descriptor: int) -> None:
        # flock(2) has no time limit of its own, and a signal to interrupt it belongs to the caller.
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                    raise StateFileError(
                        str(self.path), f"cannot be locked: {error.strerror}"
                    ) from error
            else:
                return
            if time.monotonic() > deadline:
                raise StateFileError(str(self.path), f"was locked for {_LOCK_TIMEOUT:g} s")
            time.sleep(_LOCK_POLL_INTERVAL)


class _DamagedError(StateFileError):
    """The file is there but is not what we write."""


def to_json(health: SSHHealth, now: float) -> dict[str, Any]:
    """A host's entry in the file; what is computed stands there too, for people."""
    entry: dict[str, Any] = {name: getattr(health, name) for name in _FIELDS}
    entry["is_healthy"] = health.is_healthy
    entry["success_rate"] = round(health.success_rate, 4)
    entry["circuit_state"] = health.circuit_state_at(now)
    if health.transports:
        entry["transports"] = {
            route: to_json(known, now) for route, known in health.transports.items()
        }
    return entry


def _from_json(document: Any) -> dict[str, SSHHealth]:
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']!r}, expected {_VERSION}")
    return {name: _health_from_json(entry) for name, entry in document["hosts"].items()}


def _health_from_json(entry: dict[str, Any]) -> SSHHealth:
    known: dict[str, Any] = {}
    for name, types in _FIELDS.items():
        if name in entry:
            if not isinstance(entry[name], types) or isinstance(entry[name], bool):
                raise TypeError(f"{name} is {entry[name]!r}")
            known[name] = entry[name]
    transports = entry.get("transports", {})
    known["transports"] = {route: _health_from_json(own) for route, own in transports.items()}
    return SSHHealth(**known)


def _after(health: SSHHealth, outcome: Outcome) -> SSHHealth:
    transports = dict(health.transports)
    for route in outcome.routes:
        known = transports.get(route.route, SSHHealth())
        transports[route.route] = (
            known.succeeded(outcome.at) if route.success else known.failed(outcome.at, route.reason)
        )
    health = replace(health, transports=transports)
    if outcome.success is None:
        return health
    return (
        health.succeeded(outcome.at) if outcome.success else health.failed(outcome.at, outcome.reason)
    )


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        print(f"ringtasks: warning: {text}", file=sys.stderr)
