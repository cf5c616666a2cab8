"""A job's log, followed by byte offset: lost connections cause neither a gap nor a repeat.

The received bytes are counted, and the next request begins after them.  A request lasts for
`FOLLOW_SECONDS` at most, so that its script does not run on for long after its client has gone.

Folding (`Lines`) is pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from ringtasks.remote.answers import or_none, whole
from ringtasks.remote.launcher import IDENTITY, JOBS_FOLDER

__all__ = ["ENDED", "FOLLOW_SECONDS", "NO_LOG", "Lines", "follow_script", "parse_offset"]

#: Seconds that one request for new output lasts, and seconds between looks at the log.
FOLLOW_SECONDS = 30
_LOOK_INTERVAL = 0.2

#: Exit statuses of the script: job ended and log complete; job still running; no log.
ENDED, GOES_ON, NO_LOG = 0, 75, 66

#: Number of bytes at the end of the log in which the last lines are searched.
_TAIL_BYTES = 4 * 1024 * 1024
#: A line that is longer than this is returned in pieces.
_MAX_LINE_BYTES = 1024 * 1024

# "ls -n" gets the size without reading the file; wc(1) of BusyBox would read it. The script checks
# for the job's end before it reads the log, so all that the job wrote is printed. The first line is
# the offset at which the rest begins. Bytes before log.first were discarded for the size limit.
_SCRIPT = """\
{identity}
cd "$HOME/{folder}/{job_id}" 2>/dev/null && [ -e log ] || exit {no_log}
rt_size() {{ set -- $(ls -lnL log); rt_size=${{5:-0}}; }}
rt_has_ended() {{
  [ -s exit_status ] && return
  for rt_file in process keeper; do
    read -r rt_id 2>/dev/null <"$rt_file" && rt_is_alive $rt_id && return 1
  done
  :
}}
rt_size
rt_at={start}
read -r rt_first 2>/dev/null <log.first || rt_first=0
[ "$rt_at" -ge "$rt_first" ] || rt_at=$rt_first
echo "ringtasks-offset:$rt_at"
rt_looks=0
while :; do
  rt_end={ended}
  rt_has_ended || rt_end={goes_on}
  rt_size
  if [ "$rt_size" -gt "$rt_at" ]; then
    tail -c +$((rt_at + 1)) log | head -c $((rt_size - rt_at)) || exit 1
    rt_at=$rt_size
  fi
  [ $rt_end = {ended} ] && exit
  [ $rt_looks -lt {looks} ] || exit {goes_on}
  rt_looks=$((rt_looks + 1))
  sleep {interval}
done
"""

_START_AT_LINES = """\
$(
  rt_window=$((rt_size < {window} ? rt_size : {window}))
  rt_last=$(tail -c +$((rt_size - rt_window + 1)) log |
    head -c $rt_window | tail -n {lines} | wc -c)
  echo $((rt_size - rt_last))
)"""

_START_AT_TIME = """\
$(awk '$1 < {since} {{ from = $2 }} END {{ print from + 0 }}' times 2>/dev/null || echo 0)"""


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
    start = str(offset or 0)
    if offset is None and tail is not None:
        start = _START_AT_LINES.format(lines=tail, window=_TAIL_BYTES)
    elif offset is None and since is not None:
        start = _START_AT_TIME.format(since=int(since))
    return _SCRIPT.format(
        identity=IDENTITY,
        folder=JOBS_FOLDER,
        job_id=job_id,
        start=start,
        no_log=NO_LOG,
        ended=ENDED,
        goes_on=GOES_ON,
        looks=round(FOLLOW_SECONDS / _LOOK_INTERVAL) if follow else 0,
        interval=_LOOK_INTERVAL,
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
