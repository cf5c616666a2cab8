"""A job's log, followed by byte offset: lost connections cause neither a gap nor a repeat.

The received bytes are counted, and the next request begins after them.  The host compares the last
of them with the log, which may have been truncated and have grown since.  A request lasts for
`FOLLOW_SECONDS` at most, so that its script does not run on for long after its client has gone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from ringtasks.common.text import printable
from ringtasks.remote.answers import or_none, whole
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program
from ringtasks.ssh.link import STDOUT

__all__ = ["ENDED", "FOLLOW_SECONDS", "NO_LOG", "LogPlace", "follow_script", "parse_offset"]

#: Seconds that one request for new output lasts.
FOLLOW_SECONDS = 30

#: Exit statuses of the script: job ended and log complete; job still running; no log.
ENDED, GOES_ON, NO_LOG = 0, 75, 66

#: More than the line with the offset has.
_MAX_OFFSET_BYTES = 64
#: The end of stderr that is kept: its last line tells where the log ended.
_MAX_TOLD_BYTES = 4200

#: The last bytes that are compared with the log.
_KNOWN_BYTES = 64

_FOLLOW = Program(__file__, "follow.sh")


def follow_script(
    job_id: str,
    *,
    offset: int | None = None,
    tail: int | None = None,
    since: float | None = None,
    follow: bool = True,
    seconds: float = FOLLOW_SECONDS,
) -> str:
    """Return a script that prints the log from ``offset``, from ``tail`` lines or from ``since``.

    :param follow: go on until the job has ended; False: end with the present end of the log.
    :param seconds: the longest time for which it goes on.
    """
    return _FOLLOW.render(
        rt_folder=JOBS_FOLDER,
        rt_id=job_id,
        offset="" if offset is None else offset,
        tail="" if tail is None else tail,
        since="" if since is None else int(since),
        seconds_cs=round(seconds * 100) if follow else 0,
        goes_on=GOES_ON,
        no_log=NO_LOG,
    )


def parse_offset(printed: bytes) -> tuple[int, bytes] | None:
    """Return the offset at which the rest begins, and the rest; None: the line is incomplete."""
    line, newline, rest = printed.partition(b"\n")
    if not newline and len(printed) <= _MAX_OFFSET_BYTES:
        return None
    told = line[:_MAX_OFFSET_BYTES].decode("ascii", "replace")
    offset = or_none(whole, told.removeprefix("ringtasks-offset:"))
    return (0, printed) if offset is None else (offset, rest)


class LogPlace:
    """Position in the log; each answer of the host begins with its offset."""

    def __init__(self, on_chunk: Callable[[bytes], None]) -> None:
        self.offset: int | None = None
        self.heard = time.monotonic()
        """The time of the last bytes of the log, by the monotonic clock."""
        self._on_chunk = on_chunk
        self._last = b""
        self._early: bytes | None = b""
        self._told = b""

    def environment(self) -> dict[str, str]:
        """Return the last bytes before the offset for the script: all users can read arguments."""
        return {"rt_known": "".join(f"{byte:03o}" for byte in self._last)} if self._last else {}

    def restart(self) -> str | None:
        """Expect an offset first, since the next answer begins.

        :returns: the reason if the log is gone, or bytes are missing at the end of the last answer.
        """
        gone = re.search(rb"^ringtasks-gone:(.+)$", self._told, re.MULTILINE)
        found = re.search(rb"^ringtasks-at:([0-9]{1,18})$", self._told, re.MULTILINE)
        moved = re.search(rb"^ringtasks-moved:(.+)$", self._told, re.MULTILINE)
        self._early, self._told = b"", b""
        if moved is not None:
            file = printable(moved[1].decode("utf-8", "replace"))
            said = f"\n[ringtasks: the log was replaced; the job still writes to {file}]\n"
            self._on_chunk(said.encode())
        if gone is not None:
            return f"{printable(gone[1].decode('utf-8', 'replace'))} was removed or renamed"
        if found is None or self.offset is None or int(found[1]) == self.offset:
            return None
        return f"{int(found[1]) - self.offset} bytes before byte {int(found[1])} are missing"

    def take(self, stream: int, chunk: bytes) -> None:
        """Pass on output of the host."""
        if stream != STDOUT:
            self._told = (self._told + chunk)[-_MAX_TOLD_BYTES:]
            return
        if self._early is not None:
            found = parse_offset(self._early + chunk)
            if found is None:
                self._early += chunk
                return
            self._early = None
            begins, chunk = found
            if begins != self.offset:
                self._last = b""
            if self.offset is not None and begins < self.offset:
                self._on_chunk(
                    b"\n[ringtasks: the log was truncated or replaced; "
                    b"it goes on from its beginning]\n"
                )
            if self.offset is not None and begins > self.offset:
                gap = begins - self.offset
                self._on_chunk(b"\n[ringtasks: %d bytes were given up for the log's limit]\n" % gap)
            self.offset = begins
        if chunk:
            assert self.offset is not None  # noqa: S101  # the offset came first
            self.heard = time.monotonic()
            self.offset += len(chunk)
            self._last = (self._last + chunk[-_KNOWN_BYTES:])[-_KNOWN_BYTES:]
            self._on_chunk(chunk)
