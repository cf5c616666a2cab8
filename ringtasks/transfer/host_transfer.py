"""One host's part of a running transfer: its results so far, and retries after lost links."""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ringtasks.client.ask import Ask
from ringtasks.client.result import SSHResult
from ringtasks.client.retries import LinkRetries
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.cancellation import Cancellation
from ringtasks.common.disk_space import is_full, no_space
from ringtasks.common.text import printable
from ringtasks.errors import RingtasksError
from ringtasks.exit_status import INTERRUPTED, TIMED_OUT, UNREACHABLE

from .options import CopyRules, Options
from .probe import PathProbe, path_probe
from .results import HostTransfer, OnProgress, TransferProgress
from .rsync import Rsync, RsyncResult, Rules
from .rsync_output import Change, Meter

if TYPE_CHECKING:
    from .sftp_tree import TreeCopy

__all__ = ["SPECIAL", "HostCopy", "HostTransferError", "Pace"]

#: Completes an error about a target.
SPECIAL = "is a pipe, a socket or a device, which a file does not replace: give another name"

#: One attempt, at this many bytes a second (None: unlimited).
Move = Callable[[Rsync, float | None], RsyncResult]

#: The number of lost links that a transfer survives; each attempt resumes the one before.
_MOST_LOSSES = 100
# Drop dd's statistics.
_DD_FIGURES = re.compile(r"^[\d+]+ (records|bytes) .*$", re.MULTILINE)

#: Seconds between two losses within which a link counts as unstable.
_UNSTABLE_INTERVAL = 10.0
_RATE_SHARE = 0.5
_LEAST_RATE, _GUESSED_RATE = 256 * 1024.0, 8 * 1024 * 1024.0  # bytes a second


class HostTransferError(RingtasksError):
    """A host's transfer cannot continue; this becomes the error of its `HostTransfer`.

    ``what`` does not name the host.
    """

    def __init__(self, what: str, returncode: int = 1) -> None:
        self.what, self.returncode = what, returncode

    def __str__(self) -> str:
        return self.what


class HostCopy:
    """The state of one host's transfer; for one thread.

    :param on_progress: receives the progress now and then.
    """

    def __init__(
        self,
        client: SSHClient,
        options: Options,
        stop: Cancellation,
        on_progress: OnProgress | None,
    ) -> None:
        self.client, self.options, self.stop = client, options, stop
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._route: str | None = None
        self._changes: defaultdict[str, dict[str, Change]] = defaultdict(dict)
        """By their kinds and names."""
        self._sent_bytes = self._received_bytes = 0
        self._retries = LinkRetries(_MOST_LOSSES)
        self.checked = 0
        self.has_sent = False
        self._pace = Pace()
        self.total_bytes: int | None = None
        self.notes: list[str] = []

    @property
    def host(self) -> str:
        return self.client.config.id

    @property
    def remaining(self) -> float | None:
        """The seconds left of the time limit; None: there is no limit.

        :raises HostTransferError: no time is left.
        """
        if self.options.timeout is None:
            return None
        left = self._started + self.options.timeout - time.monotonic()
        if left <= 0:
            raise self._passed()
        return left

    @property
    def sent(self) -> list[Change]:
        """The copied files, those of earlier attempts too."""
        return list(self._changes["sent"].values())

    def path_probe(self, target: str | None = None, sources: str | None = None) -> PathProbe:
        """Run `probe.path_probe`, and repeat it after each lost link.

        :raises HostTransferError: the host cannot be asked.
        """
        found: list[PathProbe] = []

        def ask() -> SSHResult:
            found.append(path_probe(self.client, target, sources, timeout=self.remaining))
            return found[-1].result

        self.retry_on_lost_link(ask)
        return found[-1]

    def ask(self, script: str, timeout: float) -> SSHResult:
        """Run a script that may run twice.

        :raises HostTransferError: it did not succeed.
        """
        return self._succeeded(self.answer(script, timeout))

    def answer(self, script: str, timeout: float, stdin: bytes | None = None) -> SSHResult:
        """Run a script that may run twice; return its result, or that of the last lost link.

        :raises HostTransferError: no time is left, or the transfer was interrupted.
        """
        return self._answered(lambda: self.ask_once(script, timeout, stdin))

    def ask_once(self, script: str, timeout: float, stdin: bytes | None = None) -> SSHResult:
        """Run a script until it ends or the transfer is interrupted.

        :raises HostTransferError: no time is left.
        """
        left = self.remaining
        limit = timeout if left is None else min(timeout, left)
        given = None if stdin is None else io.BytesIO(stdin)
        return self.client.ask(Ask(script, limit, "/", stdin=given, cancellation=self.stop))

    def add(self, change: Change, *, is_checked: bool = False) -> None:
        """Record a change."""
        self._changes[change.kind][change.name] = change
        self.checked += is_checked

    def move(self, by_rsync: Move | None, by_sftp: Callable[[], TreeCopy]) -> None:
        """Move a tree until it is done, and retry after each lost link.

        :param by_rsync: None: this machine has no rsync. If either side has none, SFTP is used.
        :raises HostTransferError: it cannot be done.
        """
        runner = Rsync(self.client, stop=self.stop)

        def over_sftp() -> SSHResult:
            if self.options.sparse or self.options.hard_links:
                side = "this machine" if by_rsync is None else "the host"
                told = f"need rsync on both sides, and {side} has none: install it"
                raise HostTransferError(f"sparse and hard_links {told}")
            copy = by_sftp()
            with self.stop.calling(copy.cancel):
                result = self.client.perform(copy, str(copy), self.remaining)
            for change in copy.changes:
                self.add(change)
            return result

        def attempt() -> SSHResult:
            if by_rsync is None:
                return over_sftp()
            started = time.monotonic()
            moved = by_rsync(runner, self._pace.rate)
            if moved.is_missing:
                return over_sftp()
            if moved.result.is_unknown:
                self._pace.lost(0, time.monotonic() - started)
            for change in moved.changes:
                self._changes[change.kind][change.name] = change
            self._sent_bytes += moved.sent_bytes
            self._received_bytes += moved.received_bytes
            return moved.result

        self.retry_on_lost_link(attempt)

    def stream(
        self, script: str, file: int, offset: int, most_bytes: int | None = None
    ) -> SSHResult:
        """Make one attempt to send the rest of a file, or to receive it (`FileStream`)."""
        from .streaming import FileStream

        told = self._on_progress
        started = time.monotonic()

        def tell(position: int) -> None:
            if told is not None:
                rate = (position - offset) / max(time.monotonic() - started, 0.001)
                told(TransferProgress(self.host, position, self.total_bytes, rate))

        receives = most_bytes is not None
        stream = FileStream(
            script,
            self.client.config.shell,
            file,
            offset,
            most_bytes=most_bytes,
            rate=None if receives else self._pace.rate,
            on_position=tell if told is not None else None,
        )
        self.has_sent = True
        with self.stop.calling(stream.cancel):
            result = self.client.perform(stream, script, self.remaining, stream.output)
        moved = stream.position - offset
        if result.is_unknown:
            self._pace.lost(moved, stream.seconds)
        if receives:
            self._received_bytes += moved
        else:
            self._sent_bytes += moved
        return result

    def retry_on_lost_link(self, attempt: Callable[[], SSHResult]) -> SSHResult:
        """Repeat an attempt that may run twice while the host's link is lost.

        :raises HostTransferError: it failed for another reason, or too often.
        """
        return self._succeeded(self._answered(attempt))

    def _succeeded(self, result: SSHResult) -> SSHResult:
        if not result.success:
            raise HostTransferError(self._told(result), _status(result))
        return result

    def _answered(self, attempt: Callable[[], SSHResult]) -> SSHResult:
        """Return the result of an attempt that is repeated while the host's link is lost."""
        while True:
            self.remaining  # noqa: B018  # raises if no time is left
            result = attempt()
            self._route = result.transport_used or self._route
            delay = self._retries.delay(result)
            if result.success:
                return result
            if result.timed_out:
                self.remaining  # noqa: B018  # as above; else a script had a shorter limit
            if self.stop.is_cancelled:
                raise HostTransferError("interrupted", INTERRUPTED)
            if delay is None:
                return result
            remaining = self.remaining
            self.stop.wait(delay if remaining is None else min(delay, remaining))

    def meter(self) -> Callable[[Meter], None] | None:
        """Return the callback for rsync's progress; None if there is no observer."""
        told = self._on_progress
        if told is None:
            return None

        def tell(meter: Meter) -> None:
            total = self.total_bytes
            if total is None and meter.percent:
                total = meter.done_bytes * 100 // meter.percent
            told(TransferProgress(self.host, meter.done_bytes, total, meter.rate))

        return tell

    def rules(self, **chosen: Any) -> Rules:
        """Return the options as rules for rsync."""
        own = {field.name: getattr(self.options, field.name) for field in fields(CopyRules)}
        return Rules(**own, **chosen)

    def ended(self, returncode: int = 0, error: str | None = None) -> HostTransfer:
        """Return the host's result."""
        changes = self._changes
        return HostTransfer(
            host=self.host,
            returncode=returncode,
            error=error,
            files=len(changes["sent"]),
            bytes=sum(change.size_bytes for change in changes["sent"].values()),
            checked=self.checked,
            sent_bytes=self._sent_bytes,
            received_bytes=self._received_bytes,
            resumed=self._retries.losses,
            elapsed_ms=round((time.monotonic() - self._started) * 1000, 3),
            transport_used=self._route,
            notes=tuple(self.notes),
            names=tuple(changes["sent"]),
            deleted=tuple(changes["deleted"]),
            made=tuple(changes["made"]),
            replaced={name: change.link for name, change in changes["replaced"].items()},
            skipped=tuple(changes["skipped"]),
            is_dry_run=self.options.dry_run,
        )

    @contextlib.contextmanager
    def local(self, name: object) -> Iterator[None]:
        """Translate errors of this machine's file system.

        :raises HostTransferError: in place of an OSError.
        """
        try:
            yield
        except OSError as error:
            told = no_space(None, None) if is_full(error) else error.strerror or str(error)
            raise HostTransferError(f"{name} (here): {told}") from error

    def _passed(self) -> HostTransferError:
        return HostTransferError(f"the time limit of {self.options.timeout:g} s passed", TIMED_OUT)

    def _told(self, result: SSHResult) -> str:
        """Return its error without the host's name, which precedes it anyway."""
        said = printable(_DD_FIGURES.sub("", result.stderr))
        told = result.error or said or f"exit status {result.returncode}"
        return told.removeprefix(f"{self.host}: ")


def _status(result: SSHResult) -> int:
    """Return 1 for a failure of rsync or a command, whatever its own status."""
    known = (UNREACHABLE, TIMED_OUT, INTERRUPTED)
    return result.returncode if result.returncode in known and result.error else 1


class Pace:
    """The sending rate of the next attempt over a link that is lost repeatedly.  Pure.

    When a link breaks, the bytes in flight are lost: each time as much as the host's sshd accepts
    before its program has written it (channels.h, CHAN_SES_WINDOW_DEFAULT: 2 MiB).  At half the
    measured rate, almost no bytes wait there.  A stable link is not slowed down.
    """

    def __init__(self) -> None:
        self._seen: float | None = None
        self._is_limited = False

    @property
    def rate(self) -> float | None:
        """Bytes a second for the next attempt; None: unlimited."""
        if not self._is_limited or self._seen is None:
            return None
        return max(_LEAST_RATE, self._seen * _RATE_SHARE)

    def lost(self, sent_bytes: int, seconds: float) -> None:
        """Note that an attempt ended with the link, after so many bytes and seconds; 0: unknown."""
        if not self._is_limited:
            self._seen = sent_bytes / max(seconds, 0.001) if sent_bytes else _GUESSED_RATE
        self._is_limited = seconds < _UNSTABLE_INTERVAL
