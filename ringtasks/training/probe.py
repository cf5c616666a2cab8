"""The current state of a host: GPUs, disk, load, clock, and the modules that its Python can import.

One script (``probe.sh``) asks for all of it, both to choose a host and for the checks before a run;
it prints ``name value`` lines.  Nothing on the host is changed.  The resources are read as for a
status (``remote/resources.sh``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ringtasks.client.ask import Ask
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.text import joined_lines, printable
from ringtasks.remote.answers import lines_by_name
from ringtasks.remote.gpus import parse_tool
from ringtasks.remote.programs import Program, Word
from ringtasks.remote.resources import Resources, parse_resources
from ringtasks.remote.script import quoted_path

__all__ = ["HostProbe", "parse", "probe_host", "script"]

#: Seconds for all but the driver: an import of torch from a cold disk is slow.
_SCRIPT_TIMEOUT = 60.0


@dataclass(frozen=True)
class HostProbe(Resources):
    """A host's answers; its disk is that of the run's folder. None: not given."""

    error: str | None = None
    """The reason if there is no answer at all."""
    driver: str = "none"
    """``ok``, ``none`` (there is no nvidia-smi, amd-smi or rocm-smi), ``hangs`` or ``failed``."""
    clock_skew: float | None = None
    """Seconds by which its clock is ahead of ours, to within the duration of the request."""
    missing: tuple[str, ...] = ()
    """The errors of the modules that could not be imported."""
    python: str = ""
    """The command that runs Python: empty if there is none."""


def probe_host(
    client: SSHClient,
    *,
    cwd: str | None = None,
    imports: Iterable[str] = (),
    driver_timeout: float = 15.0,
) -> HostProbe:
    """Ask one host; never raises for failures on the host."""
    asked_at = time.time()
    asked = script(cwd or client.config.work_dir, imports, driver_timeout)
    result = client.ask(Ask(asked, _SCRIPT_TIMEOUT + driver_timeout, in_venv=True))
    answered_at = time.time()
    if not result.success:
        why = result.error or result.stderr.strip() or f"exit status {result.returncode}"
        return HostProbe(error=joined_lines(why.removeprefix(f"{client.config.id}: ")))
    found = parse(result.stdout)
    return replace(found, clock_skew=_skew(found.clock, asked_at, answered_at))


def script(cwd: str | None, imports: Iterable[str], driver_timeout: float) -> str:
    """Return the text for the host's shell, to be run in its home."""
    return _PROBE.render(
        folder=Word(quoted_path(cwd)) if cwd else ".",
        modules=" ".join(imports),
        polls=max(1, round(driver_timeout / 0.1)),
        imports=_IMPORTS,
    )


_PROBE = Program(__file__, "probe.sh")
_IMPORTS = "import importlib, sys; importlib.import_module(sys.argv[1])"


def parse(text: str) -> HostProbe:
    """Return the probe of the script's output; malformed lines are left out."""
    lines = lines_by_name(text)
    found = parse_resources(lines)
    status = parse_tool("\n".join(lines.get("tool", ["tool failed"])), "").status
    driver = "ok" if found.gpus or status == "0" else status
    return HostProbe(
        **vars(found),
        driver=driver if driver in ("ok", "none", "hangs") else "failed",
        missing=tuple(printable(value) for value in lines.get("missing", ())),
        python=printable(lines.get("python", [""])[-1]),
    )


def _skew(theirs: float | None, asked_at: float, answered_at: float) -> float | None:
    """Return how far the host's clock is outside of the time in which it must have been read."""
    if theirs is None:
        return None
    if theirs > answered_at:
        return theirs - answered_at
    if theirs + 1 < asked_at:  # whole seconds
        return theirs + 1 - asked_at
    return 0.0
