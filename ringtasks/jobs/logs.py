"""A job's log, followed by byte offset: lost connections cause neither a gap nor a repeat.

The received bytes are counted, and the next request begins after them.  A request lasts for
`FOLLOW_SECONDS` at most, so that its script does not run on for long after its client has gone.

Folding (`Lines`) is pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from ringtasks.remote.answers import or_none, whole
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program

__all__ = ["ENDED", "FOLLOW_SECONDS", "NO_LOG", "Lines", "follow_script", "parse_offset"]

#: Seconds that one request for new output lasts.
FOLLOW_SECONDS = 30

#: Exit statuses of the script: job ended and log complete; job still running; no log.
ENDED, GOES_ON, NO_LOG = 0, 75, 66

#: A line that is longer than this is returned in pieces.
_MAX_LINE_BYTES = 1024 * 1024

_FOLLOW = Program(__file__, "follow.sh")


def follow_script(
    job_id: str,
    *,
    offset: int | None = None,
    tail: int | None = None,
    since: float | None = None,
    follow: bool = True,
) -> str:
    """Return a script that prints the log from ``offset``, from ``tail`` lines or from ``since``.

    :param follow: go on until the job has ended; False: end with the present end of the log.
    """
    return _FOLLOW.render(
        rt_folder=JOBS_FOLDER,
        rt_id=job_id,
        offset="" if offset is None else offset,
        tail="" if tail is None else tail,
        since="" if since is None else int(since),
        seconds_cs=FOLLOW_SECONDS * 100 if follow else 0,
        goes_on=GOES_ON,
        no_log=NO_LOG,
    )


def parse_offset(printed: bytes) -> tuple[int, bytes] | None:
    """Return the offset at which the rest begins, and the rest; None: the line is incomplete."""
    line, newline, rest = printed.partition(b"\n")
    if not newline:
        return None
    offset = or_none(whole, line.decode("ascii", "replace").removeprefix("ringtasks-offset:"))
    return (0, printed) if offset is None else (offset, rest)


class Lines:
    """Joins pieces to whole lines, each in the form that a terminal shows in the end.

    A progress bar that returns to the beginning of its line (``\\r``) is one line: its last form.
    """

    def __init__(self) -> None:
        self._partial = b""

    def add(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that are complete now, without their line ends."""
        *whole, self._partial = (self._partial + chunk).split(b"\n")
        for line in whole:
            yield _folded(line)
        if len(self._partial) > _MAX_LINE_BYTES:
            self._partial = _folded(self._partial) + b"\r" * self._partial.endswith(b"\r")
        if len(self._partial) > _MAX_LINE_BYTES:
            yield from self.end()

    def end(self) -> Iterator[bytes]:
        """Yield the rest: a line without a line end."""
        partial, self._partial = self._partial, b""
        if partial:
            yield _folded(partial)


def _folded(line: bytes) -> bytes:
    """Return the final form of the line: the text after the last ``\\r`` that is not at its end."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]
