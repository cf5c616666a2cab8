"""rsync between this machine and a host, over the client's link.

The local rsync copies the files; its remote shell is a session of the link (`rsync_session`), so
that it uses routes, the health file and control masters like any command.

::

    moved = Rsync(client).push(Path("app"), "~/releases/5", Rules(link_dest="../4"))
    if not moved.result:
        print(moved.result.error)
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from ringtasks.client.result import SSHResult
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.cancellation import Cancellation
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.text import printable
from ringtasks.errors import UsageError
from ringtasks.remote.paths import on_host
from ringtasks.remote.programs import Program, Word
from ringtasks.remote.script import quote, quoted_path

from .large_files import searching
from .patterns import Filter, encoded, filter_rules
from .replaced_links import cleared, local_links, replaced, split
from .rsync_flags import MUNGED, PARTIAL_FOLDER, Rules, Version, can_stage, flags, parse_version
from .rsync_output import NOT_EMPTY, Change, Meter, RsyncOutput, RsyncResult
from .rsync_session import REMOTE_SHELL, Piped

__all__ = ["Rsync", "RsyncResult", "Rules", "can_pull", "local_rsync"]

_ENTER = Program(__file__, "enter_target.sh")
#: The flag among the words for the host's rsync, and the word in its place.
_PARTIAL = f"{quote('--partial-dir')} {quote(PARTIAL_FOLDER)}"
_IF_RESUMES = '${resumes:+"--partial-dir=$partial"}'
#: Length of the names of folders in which links are looked for, else in the whole target; a server
#: may limit commands (Dropbear).
_MOST_CHARACTERS = 4000
# rsync(1), EXIT VALUES.
_PARTIAL_ERROR, _VANISHED = 23, 24
_OK = (0, _VANISHED)
#: The beginning of the message by which a failed rsync differs from a failed login shell.
_FULL = "No space left on device"
_ENDED = "connection unexpectedly closed"
#: The target itself, in which this user may write, is another user's.
_FOREIGN = re.compile(
    r'rsync: (\[\w+\] )?failed to set (times|permissions) on ".*/\.": Operation not'
)
_UNCLEAN = "protocol version mismatch"

OnMeter = Callable[[Meter], None]
OnChange = Callable[[Change], None]


class _RsyncCall(NamedTuple):
    """One call of the local rsync.

    :param command: returns the script for the host, from the arguments with which rsync starts its
        remote shell.
    :param pulls: from the host.
    """

    rules: Rules
    places: list[str]
    command: Callable[[list[str]], str]
    reading: RsyncOutput
    timeout: float | None
    pulls: bool = False
    more_flags: Sequence[str] = ()

    def arguments(self) -> list[str]:
        """Return the command line; its flags suit any version on the host.

        :raises UsageError: there is no rsync here.
        """
        here = local_rsync()
        if here is None:
            raise UsageError("rsync: is not on PATH: install it")
        program, version = here
        tells_progress = self.reading.on_meter is not None
        chosen = flags(self.rules, version, pulls=self.pulls, tells_progress=tells_progress)
        if any(flag.startswith("--files-from=") for flag in self.more_flags):
            chosen[0] = "-lpt"  # only what is listed; of a folder, not its content
        return [program, *chosen, *self.more_flags, "-e", REMOTE_SHELL, "--", *self.places]


class Rsync:
    """rsync to and from one host; for one thread at a time.

    Failures on the host raise nothing: they are in `RsyncResult`.

    :param stop: ends a running transfer when it is set, from any thread.
    """

    def __init__(self, client: SSHClient, *, stop: Cancellation | None = None) -> None:
        self._client = client
        self._stop = stop or Cancellation()
        # Random, so that no other text of the host is taken for it.
        self._mark = f"ringtasks {os.urandom(8).hex()}:"
        self._missing = f"{self._mark} no rsync"
        self._has_pushed = False

    def push(
        self,
        source: str | Path | Sequence[str | Path],
        target: str,
        rules: Rules = Rules(),  # noqa: B008  # frozen
        *,
        on_meter: OnMeter | None = None,
        on_change: OnChange | None = None,
        timeout: float | None = None,
    ) -> RsyncResult:
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
        given = Path(source) if isinstance(source, str | Path) else list(map(Path, source))
        names = sorted(f"./{name}" for name in _folders(given))
        if sum(map(len, names)) > _MOST_CHARACTERS:
            names = ["."]
        # A dry run treats a missing folder as an empty one.
        mode, path = ("dry", f"{quoted_path(place)}/") if rules.dry_run else ("push", ".")
        reading = RsyncOutput(on_meter, on_change)
        is_again, self._has_pushed = self._has_pushed, True  # the link was lost: it may be again
        follow = rules.follow_outside or rules.follow_all
        with (
            _arguments(given, rules) as arguments,
            searching(arguments, follow=follow) as large_files,
        ):

            def command(rsync_arguments: list[str]) -> str:
                resumes = is_again or large_files.may_exist()
                enter = self._enter(place, mode, names, resumes=resumes)
                return self._command(enter, path, rules, rsync_arguments)

            return self._run(_RsyncCall(rules, [*arguments, "host:."], command, reading, timeout))

    def pull(
        self,
        source: str,
        target: str | Path,
        rules: Rules = Rules(),  # noqa: B008  # frozen
        *,
        names: str | None = None,
        only: Collection[str] | None = None,
        on_meter: OnMeter | None = None,
        timeout: float | None = None,
    ) -> RsyncResult:
        """Make ``target``, a local folder, hold the content of ``source`` on the host.

        Nothing outside ``target`` is written, whatever the host sends (`Staging`).

        :param names: only these in ``source``: shell words, quoted if they are literal.
        :param only: the local names that these may have; others are refused.
        :raises UsageError: the local rsync cannot pull safely (`can_pull`).
        :raises OSError: ``target`` cannot be made or written to.
        """
        # A push, which needs none of these, starts a hundredth of a second sooner without them.
        from ringtasks.common.local_tree import LocalTree

        from .rsync_pull import pull_into
        from .staging import Staging

        if not can_pull() or rules.link_dest is not None:
            raise UsageError("rsync: to pull needs version 3.1 here, and no link_dest")
        place = on_host(self._client.config, source)
        enter = self._enter(place, "pull", [] if names is None else [Word(names)])
        paths = "." if names is None else '"$@"'
        command = functools.partial(self._command, enter, paths, rules)
        reading = RsyncOutput(on_meter, lists=rules.delete)

        def run(
            rules: Rules, place: str, reading: RsyncOutput, more_flags: Sequence[str] = ()
        ) -> RsyncResult:
            call = _RsyncCall(rules, ["host:.", place], command, reading, timeout, True, more_flags)
            return self._run(call)

        if rules.dry_run:
            moved = run(rules, _local(str(target)), reading, ["--delete"] if rules.delete else [])
            with LocalTree(Path(target), make=False) as tree:
                links = local_links(tree, moved.changes)
                more = [*replaced(links, moved.changes), *cleared(tree, moved.changes)]
            return moved._replace(changes=(*moved.changes, *more))
        with (
            LocalTree(Path(target), make=True) as tree,
            Staging(tree, only, Filter(rules) if rules.delete else None) as staging,
        ):
            return pull_into(staging, rules, run, reading, can_list=names is None)

    def _run(self, call: _RsyncCall) -> RsyncResult:
        arguments, reading = call.arguments(), call.reading
        piped = Piped(
            arguments,
            call.command,
            self._client.config.shell,
            reading.read,
            stdin=encoded(filter_rules(call.rules)),
            environ=_environment(),
        )
        with piped, self._stop.calling(piped.cancel):
            result = self._client.perform(
                piped, Path(arguments[0]).name, call.timeout, piped.output
            )
        is_missing = result.returncode != 0 and self._missing.encode() in result.stderr_bytes
        links, stderr = split(self._mark, result.stderr_bytes)
        if links:
            text = stderr.decode("utf-8", "replace")
            result = dataclasses.replace(result, stderr=text, stderr_bytes=stderr)
        changes = (*reading.changes, *replaced(links, reading.changes), *reading.skipped)
        told = _told(result, pulls=call.pulls)
        return RsyncResult(told, changes, reading.stats, is_missing, piped.was_killed)

    def _enter(
        self, place: str, mode: str, folders: Sequence[str] = (), *, resumes: bool = False
    ) -> str:
        return _ENTER.render(
            target=Word(quoted_path(place)),
            mode=mode,
            missing=self._missing,
            mark=self._mark,
            partial=PARTIAL_FOLDER,
            resumes="yes" if resumes else "",
            folders=folders,
        )

    def _command(self, enter: str, paths: str, rules: Rules, arguments: list[str]) -> str:
        """Return the script for the command that rsync asked its remote shell to start.

        That is ``[-l user] host rsync --server …flags… . place``; the place is a placeholder.
        """
        given = arguments[arguments.index("--server") : -2]
        words = " ".join(_flag(argument, rules) for argument in given)
        words = words.replace(_PARTIAL, _IF_RESUMES)
        if "--sender" not in given:
            words += " ${tells_kinds:+--debug=DEL2}"
        return f'{enter}exec "$rsync" {words} . {paths}'


def can_pull() -> bool:
    """Return True if the local rsync can pull from a host that is not trusted."""
    here = local_rsync()
    return here is not None and can_stage(here[1]) and not os.path.lexists(MUNGED)


def local_rsync() -> tuple[str, Version] | None:
    """Return this machine's rsync: its path and version; None if there is none."""
    paths = (os.path.join(folder, "rsync") for folder in os.get_exec_path())  # noqa: PTH118
    program = next(filter(_is_program, paths), None)
    version = _version_of(program) if program else None
    return (program, version) if program and version else None


def _is_program(path: str) -> bool:
    return os.access(path, os.X_OK) and not os.path.isdir(path)  # noqa: PTH112


@functools.cache
def _version_of(program: str) -> Version | None:
    said = subprocess.run([program, "--version"], capture_output=True, check=False, timeout=10)
    return parse_version(said.stdout.decode("utf-8", "replace").partition("\n")[0])


def _local(path: str) -> str:
    """Return a path that rsync takes neither for a flag nor for a place on a host."""
    absolute = os.path.abspath(path)  # noqa: PTH100  # resolve() would follow a link at the end
    return f"{absolute.rstrip('/')}/" if path.endswith("/") else absolute


def _folders(source: Path | Sequence[Path]) -> list[str]:
    """Return the names of the folders, or links to folders, that go directly into the target."""
    if not isinstance(source, Path):
        return [item.name for item in source if _is_folder(item)]
    with os.scandir(source) as entries:  # asks the system only about links
        return [entry.name for entry in entries if _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str] | Path) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, through a file, or into a folder of another user
        return False


@contextlib.contextmanager
def _arguments(source: Path | Sequence[Path], rules: Rules) -> Iterator[list[str]]:
    """Yield rsync's arguments for the sources; of a symbolic link among several, for its target.

    rsync keeps a link that it is given by name, although its target may not be copied. With
    ``--copy-unsafe-links`` it follows an absolute one, so it is given such a link to the target.
    """
    if isinstance(source, Path):
        yield [_local(f"{source}/")]
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ringtasks-links-") as folder:
        arguments = [_local(str(item)) for item in source]
        for n, item in enumerate(source):
            if item.is_symlink() and rules.follow_outside:
                link = Path(folder, item.name)
                link.symlink_to(item.resolve())
                arguments[n] = str(link)
        yield arguments


def _flag(argument: str, rules: Rules) -> str:
    """Return a flag for the host's rsync as a word: the only path that it may hold is ours."""
    if argument.startswith("--link-dest="):
        return f"--link-dest={quoted_path(rules.link_dest or '')}"
    return quote(argument)


def _environment() -> dict[str, str]:
    """Return the environment: no RSYNC_RSH, RSYNC_PARTIAL_DIR …; in English, figures as in C."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSYNC_")}
    return {**kept, "LC_ALL": "C"}


def _told(result: SSHResult, *, pulls: bool) -> SSHResult:
    """Return the result with rsync's own error text."""
    lines = [line for line in result.stderr.splitlines() if "rsync error: " not in line]
    is_whole = result.returncode == _PARTIAL_ERROR and bool(lines) and not pulls
    is_whole = is_whole and all(map(_FOREIGN.match, lines))
    if result.error is None and (is_whole or result.returncode == _VANISHED):
        return dataclasses.replace(result, success=True, returncode=0)
    if result.success or result.error is not None:
        return result
    reason = _reason(result.stderr, result.returncode)
    if "could not make way" in reason:
        reason += f" ({NOT_EMPTY})"
    if _FULL in reason:
        side = "this machine" if pulls else "the host"
        reason += f" (the disk of {side} is full: look with 'df -h' there)"
    return dataclasses.replace(result, error=f"{result.host}: {reason}")


def _reason(stderr: str, status: int) -> str:
    """Return rsync's first errors, without its name and the positions in its source."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if not re.match(r"rsync error: |\(see |WARNING", line)]
    telling = [line for line in telling if _ENDED not in line] or telling  # it tells no reason
    if any(_UNCLEAN in line for line in telling):
        return "rsync: a login file on the host prints something; let it do so in terminals only"
    chosen = [re.sub(r"^rsync: (\[\w+\] )?", "", line) for line in (telling or lines)[:3]]
    more = f" (and {len(telling) - 3} more)" if len(telling) > 3 else ""
    return "rsync: " + (printable("; ".join(chosen)) or f"exit status {status}") + more
