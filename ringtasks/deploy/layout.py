"""The scripts of a deploy on a host: calls of the functions in ``layout.sh`` (pure).

::

    PATH/releases/ID    a release; whole once it holds MARK
    PATH/current        a symbolic link to the release that is in use
    PATH/shared/        files that all releases have in common, linked into each
    PATH/source/        the files of the release that was sent last, and no others
    PATH/history        a line for each event
    PATH/.files/ID      the names of the files that were sent for a release
    PATH/lock           `locking`
    PATH/restart.log    the output of the last restart command

A release is built in its final folder, since virtual environments contain their own path.  The next
transfer compares with ``source``.  A release consists of hard links to its files, or of copies if
build commands might write into them.

Each script may run twice with the same effect, since an answer can be lost; a script with users'
commands runs once only.  The output of users' commands goes to stderr; stdout carries the
scripts' own answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ringtasks.common.text import printable
from ringtasks.remote.programs import Program, call
from ringtasks.remote.script import quote, quoted_path

from .records import EventKind
from .release import Release, is_release

__all__ = [
    "MARK",
    "activate",
    "build",
    "check",
    "functions",
    "inside",
    "note",
    "probe",
    "revert",
    "switch",
    "variables",
    "without_functions",
]

#: The file that marks a release as whole, and describes it.
MARK = ".ringtasks-release"

_PROGRAM = Program(__file__, "layout.sh")


def functions() -> str:
    """Return the functions that each script begins with."""
    return _PROGRAM.text


def without_functions(script: str) -> str:
    """Return a script for readers to whom `functions` were shown once, without these."""
    return script.replace(functions(), "").strip("\n")


def inside(root: str, script: str, *, makes: bool = False) -> str:
    """Return ``script``, changed to run in the deploy path.

    :param makes: create the folder and its parents.
    """
    made = f"mkdir -p {quoted_path(root)} && " if makes else ""
    return f"{functions()}\n{made}enter {quoted_path(root)} || exit 1\n{script}"


def build(release: Release, shared: Sequence[str], commands: Sequence[str], *, is_old: bool) -> str:
    """Return a script that builds a release from ``source``: files, shared links, build commands.

    :param is_old: the files came with an earlier release. If one was written to since, the script
        prints ``changed`` and builds nothing.
    """
    folder = f"releases/{release.id}"
    about = [f"{name}={printable(value)}" for name, value in release._asdict().items()]
    return "".join(
        [
            f"[ ! -f {folder}/{MARK} ] || exit 0\n",
            call("copy_source", folder, 1 if commands else 0, 1 if is_old else 0),
            *(_shared(folder, name) for name in shared),
            *_guarded(folder, commands),
            call("mark_whole", folder, *about),
            note(EventKind.BUILT, release),
        ]
    )


def activate(release: Release, commands: Sequence[str]) -> str:
    """Return a script that runs the commands that come right before the switch."""
    return "".join(_guarded(f"releases/{release.id}", commands))


def switch(release: Release, why: str = "") -> str:
    """Return a script that makes the release the current one."""
    switched = call("switch_to", f"releases/{release.id}").strip()
    return f"{switched} || exit 0\n{note(EventKind.SWITCHED, release, why)}"


def revert(release: Release, link: str | None, why: str) -> str:
    """Return a script that undoes the switch, if there was one, and prints the state.

    :param link: the earlier target of ``current``, which is restored; None: there was none.
    """
    back = call("lead_to", link).strip() + " || exit 1" if link else "rm -f current"
    previous = (link or "").removeprefix("releases/")
    old = release._replace(id=previous, revision="")
    undone = note(EventKind.SWITCHED, old, f"back from {release.id}")
    lines = [
        note(EventKind.FAILED, release, why),
        f'read_current\nif [ "$target" = releases/{release.id} ]; then\n',
        f"{back}\n",
        undone if is_release(previous) else "",
        f"fi\n{call('state')}",
    ]
    return "".join(lines)


def check(
    command: str | None, url: str | None, seconds: float, statuses: Iterable[str] = ("2xx",)
) -> str:
    """Return a script that tries until both checks succeed; the last failure is on stderr.

    :param statuses: HTTP statuses of ``url`` that count as success, such as ``204`` and ``2xx``.
    """
    return call("check", command or "", url or "", max(1, round(seconds)), *statuses)


def note(kind: EventKind, release: Release, why: str = "") -> str:
    """Return a script that adds a history line."""
    values = (kind.value, release.id, release.revision, release.who, release.link, why)
    return call("record", "\t".join(printable(value) for value in values))


def probe(root: str, shared: Sequence[str], *, writes: bool, needs_url: bool) -> str:
    """Return a script that prints one line for each obstacle to a deploy, then the state.

    :param writes: False if the state is only read.
    """
    files = call("", *(name for name in shared if not name.endswith("/")))
    return f"{functions()}\nprobe {quoted_path(root)} {int(writes)} {int(needs_url)}{files}"


def variables(release: Release, host: str) -> str:
    """Return a script that exports the host, release and revision for users' commands."""
    known = {"HOST": host, "RELEASE": release.id, "REVISION": release.revision}
    return "".join(f"export RINGTASKS_{name}={quote(value)}\n" for name, value in known.items())


def _shared(folder: str, name: str) -> str:
    return call("share", folder, name.removesuffix("/"), 1 if name.endswith("/") else 0)


def _guarded(folder: str, commands: Sequence[str]) -> list[str]:
    """Return the lines that run users' commands, which end if the lock is lost."""
    lines = [call("command_in", folder, command) for command in commands]
    return [call("guard"), *lines] if lines else []
