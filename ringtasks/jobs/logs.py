"""A job's log, followed by byte offset: lost connections cause neither a gap nor a repeat.

The received bytes are counted, and the next request begins after them.  A request lasts for
`FOLLOW_SECONDS` at most, so that its script does not run on for long after its client has gone.
"""

from __future__ import annotations

from ringtasks.remote.answers import or_none, whole
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program

__all__ = ["ENDED", "FOLLOW_SECONDS", "NO_LOG", "follow_script", "parse_offset"]

#: Seconds that one request for new output lasts.
FOLLOW_SECONDS = 30

#: Exit statuses of the script: job ended and log complete; job still running; no log.
ENDED, GOES_ON, NO_LOG = 0, 75, 66


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
