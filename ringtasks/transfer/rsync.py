"""rsync between this machine and a host, over the client's link.

The local rsync copies the files; its remote shell is a session of the link (`piping`), so that it
uses routes, the health file and control masters like any command.

::

    moved = Rsync(client).push(Path("app"), "~/releases/5", Rules(link_dest="../4"))
    if not moved.result:
        print(moved.result.error)
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ringtasks.client.result import SSHResult
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.stopping import Stop
from ringtasks.common.text import printable
from ringtasks.errors import UsageError
from ringtasks.remote.paths import on_host, word
from ringtasks.remote.script import quote

from .patterns import encoded, filter_rules
from .piping import REMOTE_SHELL, Piped
from .rsync_flags import Rules, Version, flags, parse_version
from .rsync_output import Change, Meter, parse_change, parse_meter, parse_stat

__all__ = ["Moved", "Rsync", "Rules", "local_rsync"]

# Homebrew's is newer than macOS' own, and not on the PATH of a command over SSH.
_FIND = (
    "for rsync in /opt/homebrew/bin/rsync /usr/local/bin/rsync rsync; do "
    'command -v "$rsync" >/dev/null 2>&1 && break; rsync=; done; '
    '[ -n "$rsync" ] || { echo "ringtasks: no rsync" >&2; exit 127; }'
)
_NO_RSYNC = "ringtasks: no rsync"
# rsync(1), EXIT VALUES.
_PARTIAL_ERROR, _VANISHED = 23, 24
_OK = (0, _VANISHED)
#: The beginning of the message by which a failed rsync differs from a failed login shell.
_UNCLEAN = "protocol version mismatch"

OnMeter = Callable[[Meter], None]
OnChange = Callable[[Change], None]


class Moved(NamedTuple):
    """The result of one rsync; true if it did all.

    ``changes`` is in the order in which they were made. ``sent_bytes`` were
    written to the host by this machine, ``received_bytes`` read; 0 if rsync printed no figures at
    the end.
    """

    result: SSHResult
    changes: tuple[Change, ...] = ()
    stats: Mapping[str, int] = {}

    def __bool__(self) -> bool:
        return self.result.success

    @property
    def is_missing(self) -> bool:
        """True if there is no rsync on the host; nothing was done then."""
        return _NO_RSYNC in self.result.stderr

    @property
    def sent(self) -> list[Change]:
        """The files whose content was copied."""
        return [change for change in self.changes if change.kind == "sent"]

    @property
    def sent_bytes(self) -> int:
        return self.stats.get("Total bytes sent", 0)

    @property
    def received_bytes(self) -> int:
        return self.stats.get("Total bytes received", 0)


class Rsync:
    """rsync to and from one host; for one thread at a time.

    Failures on the host raise nothing: they are in `Moved`.

    :param stop: ends a running transfer when it is set, from any thread.
    """

    def __init__(self, client: SSHClient, *, stop: Stop | None = None) -> None:
        self._client = client
        self._stop = stop or Stop()

    def push(
        self,
        source: str | Path | Sequence[str | Path],
        target: str,
        rules: Rules = Rules(),  # noqa: B008  # frozen
        *,
        on_meter: OnMeter | None = None,
        on_change: OnChange | None = None,
        timeout: float | None = None,
    ) -> Moved:
        """Make ``target``, a folder on the host, hold the content of ``source``.

        :param source: a folder, whose content is sent; or several files and folders, which are sent
            into ``target``.
        :param target: made with the folders above it; relative to the host's ``work_dir``, ``~`` is
            the remote home.
        :param on_meter: receives the progress now and then.
        :param on_change: receives each change when rsync begins with it.
        :param timeout: seconds; None: no limit.
        :raises UsageError: there is no rsync here, or a path cannot be used.
        """
        place = on_host(self._client.config, target)
        if isinstance(source, str | Path):
            arguments = [_local(f"{source}/")]
        else:
            arguments = [_local(str(item)) for item in source]
        there = word(place)
        # A dry run treats a missing folder as an empty one.
        enter, path = (
            ("true", f"{there}/") if rules.dry_run else (f"mkdir -p {there} && cd {there}", ".")
        )
        command = functools.partial(self._command, enter, path, rules)
        reading = _Reading(on_meter, on_change)
        return self._run(rules, [*arguments, "host:."], command, reading, timeout, pulls=False)

    def pull(
        self,
        source: str,
        target: str | Path,
        rules: Rules = Rules(),  # noqa: B008  # frozen
        *,
        names: str | None = None,
        on_meter: OnMeter | None = None,
        timeout: float | None = None,
    ) -> Moved:
        """Make ``target``, a local folder, hold the content of ``source`` on the host.

        :param names: only these in ``source``: shell words, quoted if they are literal.
        """
        place = on_host(self._client.config, source)
        enter = f"cd {word(place)}"
        command = functools.partial(self._command, enter, names or ".", rules)
        reading = _Reading(on_meter)
        return self._run(
            rules, ["host:.", _local(str(target))], command, reading, timeout, pulls=True
        )

    def _run(
        self,
        rules: Rules,
        places: list[str],
        command: Callable[[list[str]], str],
        reading: _Reading,
        timeout: float | None,
        *,
        pulls: bool,
    ) -> Moved:
        here = local_rsync()
        if here is None:
            raise UsageError("rsync: is not on PATH: install it")
        program, version = here
        # All of these flags suit any version on the host.
        chosen = flags(rules, version, pulls=pulls, tells_progress=reading.on_meter is not None)
        piped = Piped(
            [program, *chosen, "-e", REMOTE_SHELL, "--", *places],
            command,
            self._client.config.shell,
            reading.line,
            stdin=encoded(filter_rules(rules)),
            limit=timeout,
            environ=_environment(),
        )
        with self._stop.ending(piped.cancel):
            result = self._client.perform(piped)
        return Moved(_told(result), tuple(reading.changes), reading.stats)

    def _command(self, enter: str, paths: str, rules: Rules, arguments: list[str]) -> str:
        """Return the script for the command that rsync asked its remote shell to start.

        That is ``[-l user] host rsync --server …flags… . place``; the place is a placeholder.
        """
        given = arguments[arguments.index("--server") : -2]
        words = " ".join(_flag(argument, rules) for argument in given)
        return f'{_FIND}; {enter} && exec "$rsync" {words} . {paths}'


class _Reading:
    """The output of rsync so far."""

    def __init__(self, on_meter: OnMeter | None, on_change: OnChange | None = None) -> None:
        self.on_meter, self._on_change = on_meter, on_change
        self.changes: list[Change] = []
        self.stats: dict[str, int] = {}

    def line(self, line: str) -> None:
        if (change := parse_change(line)) is not None:
            self.changes.append(change)
            if self._on_change is not None:
                self._on_change(change)
        elif (stat := parse_stat(line)) is not None:
            self.stats[stat[0]] = stat[1]
        elif self.on_meter is not None and (meter := parse_meter(line)) is not None:
            self.on_meter(meter)


def local_rsync() -> tuple[str, Version] | None:
    """Return this machine's rsync: its path and version; None if there is none."""
    program = shutil.which("rsync")
    version = _version_of(program) if program else None
    return (program, version) if program and version else None


@functools.cache
def _version_of(program: str) -> Version | None:
    said = subprocess.run([program, "--version"], capture_output=True, check=False, timeout=10)
    return parse_version(said.stdout.decode("utf-8", "replace").partition("\n")[0])


def _local(path: str) -> str:
    """Return a path that rsync takes neither for a flag nor for a place on a host."""
    absolute = os.path.abspath(path)  # noqa: PTH100  # resolve() would follow a link at the end
    return f"{absolute.rstrip('/')}/" if path.endswith("/") else absolute


def _flag(argument: str, rules: Rules) -> str:
    """Return a flag for the host's rsync as a word: the only path that it may hold is ours."""
    if argument.startswith("--link-dest="):
        return f"--link-dest={word(rules.link_dest or '')}"
    return quote(argument)


def _environment() -> dict[str, str]:
    """Return the environment: no RSYNC_RSH, RSYNC_PARTIAL_DIR …; in English, figures as in C."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSYNC_")}
    return {**kept, "LC_ALL": "C"}


def _told(result: SSHResult) -> SSHResult:
    """Return the result with rsync's own error text."""
    if result.returncode == _VANISHED and result.error is None:
        return replace(result, success=True, returncode=0)
    if result.success or result.error is not None:
        return result
    return replace(result, error=f"{result.host}: {_reason(result.stderr, result.returncode)}")


def _reason(stderr: str, status: int) -> str:
    """Return rsync's first errors, without its name and the positions in its source."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if not re.match(r"rsync error: |\(see |WARNING", line)]
    if any(_UNCLEAN in line for line in telling):
        return "rsync: a login file on the host prints something; let it do so in terminals only"
    chosen = [re.sub(r"^rsync: (\[\w+\] )?", "", line) for line in (telling or lines)[:3]]
    more = f" (and {len(telling) - 3} more)" if len(telling) > 3 else ""
    return "rsync: " + (printable("; ".join(chosen)) or f"exit status {status}") + more
