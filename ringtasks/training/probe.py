"""The current state of a host: GPUs, disk, load, clock, and the modules that its Python can import.

One script asks for all of it, both to choose a host and for the checks before a run; it prints
``name value`` lines.  Nothing on the host is changed.  If a driver hangs, ``nvidia-smi`` waits in
the kernel, where no signal reaches it: the script stops waiting and reports it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ringtasks.common.text import printable
from ringtasks.jobs.gpu_queue import reserved_script
from ringtasks.remote.answers import decimal, or_none, process_id, unix_time, whole
from ringtasks.remote.script import path, quote

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient

__all__ = ["Gpu", "Survey", "parse", "script", "survey"]

#: Seconds for all but the driver: an import of torch from a cold disk is slow.
_SCRIPT_TIMEOUT = 60.0
_BLOCK_BYTES = 1024  # df -k
_MAX_BLOCKS = 2**53


@dataclass(frozen=True)
class Gpu:
    """A GPU, the process ids that hold it, and whether a job has reserved it (`jobs.gpu_queue`)."""

    uuid: str
    holders: tuple[int, ...] = ()
    is_reserved: bool = False


@dataclass(frozen=True)
class Survey:
    """A host's answers; None: not given."""

    error: str | None = None
    """The reason if there is no answer at all."""
    gpus: tuple[Gpu, ...] = ()
    driver: str = "none"
    """``ok``, ``none`` (there is no nvidia-smi), ``hangs`` or ``failed``."""
    driver_said: str = ""
    free_bytes: int | None = None
    clock_skew: float | None = None
    """Seconds by which its clock is ahead of ours, to within the duration of the request."""
    load: float | None = None
    """Load average of the last minute, for each CPU."""
    missing: tuple[str, ...] = ()
    """The errors of the modules that could not be imported."""
    python: str = ""
    """The command that runs Python: empty if there is none."""

    @property
    def free_gpus(self) -> int:
        """The number of GPUs that no process or job holds."""
        return sum(not gpu.holders and not gpu.is_reserved for gpu in self.gpus)


def survey(
    client: SSHClient,
    *,
    cwd: str | None = None,
    imports: Iterable[str] = (),
    driver_timeout: float = 15.0,
) -> Survey:
    """Ask one host; never raises for failures on the host."""
    asked_at = time.time()
    result = client.run(
        script(cwd or client.config.work_dir, imports, driver_timeout),
        timeout=_SCRIPT_TIMEOUT + driver_timeout,
        cwd="~",
    )
    answered_at = time.time()
    if not result.success:
        why = result.error or result.stderr.strip() or f"exit status {result.returncode}"
        return Survey(error=printable(why))
    found = parse(result.stdout)
    return replace(found, clock_skew=_skew(found.clock_skew, asked_at, answered_at))


def script(cwd: str | None, imports: Iterable[str], driver_timeout: float) -> str:
    """Return the text for the host's shell, to be run in its home."""
    modules = " ".join(imports)
    return _SCRIPT.format(
        folder=path(cwd) if cwd else "'.'",
        modules=quote(modules),
        polls=max(1, round(driver_timeout / 0.1)),
        imports=quote(_IMPORTS),
        reserved=reserved_script(),
    )


# The folder need not exist yet: its nearest parent is on the same disk.
_SCRIPT = """\
folder={folder}
while [ ! -d "$folder" ] && [ "${{folder%/*}}" != "$folder" ]; do folder=${{folder%/*}}; done
[ -d "$folder" ] || folder=.
echo "clock $(date +%s)"
echo "disk $(df -Pk "$folder" 2>/dev/null | tail -n 1)"
cpus=$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || echo 1)
echo "load $cpus $(cat /proc/loadavg 2>/dev/null || sysctl -n vm.loadavg 2>/dev/null)"
python=$(command -v python3 || command -v python)
echo "python $python"
if [ "$python" ]; then for module in $(echo {modules}); do
  said=$("$python" -c {imports} "$module" 2>&1 </dev/null) ||
    echo "missing $module: $(echo "$said" | tail -n 1)"
done; fi
command -v nvidia-smi >/dev/null 2>&1 || {{ echo driver none; exit 0; }}
answer=$(mktemp "${{TMPDIR:-/tmp}}/ringtasks.XXXXXX") || exit 1
trap 'rm -f "$answer" "$answer.pid" "$answer.status"' EXIT
ask() {{
  rm -f "$answer.status"
  (nvidia-smi "$@" >"$answer" 2>&1 & echo $! >"$answer.pid"
   wait $!; echo $? >"$answer.status") </dev/null &
  asked=$! n=0
  while [ ! -s "$answer.status" ]; do
    [ $n -lt {polls} ] || {{
      exec 2>/dev/null
      kill -s KILL $asked $(cat "$answer.pid")
      echo driver hangs
      exit 0
    }}
    n=$((n + 1)); sleep 0.1
  done
  [ "$(cat "$answer.status")" = 0 ] ||
    {{ echo driver failed; echo "said $(head -n 1 "$answer")"; exit 0; }}
}}
ask --query-gpu=uuid --format=csv,noheader
sed 's/^/gpu /' "$answer"
ask --query-compute-apps=gpu_uuid,pid --format=csv,noheader
sed 's/^/holder /' "$answer"
{reserved}echo driver ok
"""

_IMPORTS = "import importlib, sys; importlib.import_module(sys.argv[1])"


def parse(text: str) -> Survey:
    """Return the survey of the script's output; malformed lines are left out."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        fields.setdefault(name, []).append(value.strip())
    last = {name: values[-1] for name, values in fields.items()}
    return Survey(
        gpus=tuple(_gpus(fields)),
        driver=last.get("driver", "failed"),
        driver_said=printable(last.get("said", "")),
        free_bytes=_free_bytes(last.get("disk", "")),
        clock_skew=or_none(unix_time, last.get("clock")),
        load=_load(last.get("load", "")),
        missing=tuple(printable(value) for value in fields.get("missing", ())),
        python=printable(last.get("python", "")),
    )


def _gpus(fields: dict[str, list[str]]) -> Iterable[Gpu]:
    holders: dict[str, list[int]] = {}
    for value in fields.get("holder", ()):
        uuid, _, pid = value.partition(",")
        if (holder := or_none(process_id, pid)) is not None:
            holders.setdefault(uuid.strip(), []).append(holder)
    reserved = set(fields.get("reserved", ()))
    for uuid in fields.get("gpu", ()):
        yield Gpu(uuid, tuple(holders.get(uuid, ())), uuid in reserved)


def _free_bytes(line: str) -> int | None:
    """Return the free bytes of a ``df -P`` line.

    Its fields are source, size, used, available, … (XCU, df); a source may have spaces.
    """
    cells = line.split()
    for n, cell in enumerate(cells):
        free = or_none(whole, cells[n - 1], at_most=_MAX_BLOCKS) if n >= 3 else None
        if cell.endswith("%") and free is not None:
            return free * _BLOCK_BYTES
    return None


def _load(line: str) -> float | None:
    """Return the load per CPU from the CPU count and ``0.52 …``, or ``{ 0.52 … }`` on macOS."""
    cells = line.replace("{", " ").replace("}", " ").split()
    if len(cells) < 2:
        return None
    cpus, load = (or_none(decimal, cell) for cell in cells[:2])
    return None if load is None else load / max(1.0, cpus or 1.0)


def _skew(theirs: float | None, asked_at: float, answered_at: float) -> float | None:
    """Return how far the host's clock is outside of the time in which it must have been read."""
    if theirs is None:
        return None
    if theirs > answered_at:
        return theirs - answered_at
    if theirs + 1 < asked_at:  # whole seconds
        return theirs + 1 - asked_at
    return 0.0
