"""The scripts of a deploy on a host, as text for its POSIX shell (pure).

::

    PATH/releases/ID    a release; whole once it holds MARK
    PATH/current        a symbolic link to the release that is in use
    PATH/shared/        files that all releases have in common, linked into each
    PATH/source/        the files of the release that was sent last, and no others
    PATH/history        a line for each event
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
from ringtasks.remote.script import path, quote

from .locking import FUNCTIONS as LOCK_FUNCTIONS
from .records import EventKind
from .release import Release, is_release

__all__ = [
    "FUNCTIONS",
    "MARK",
    "activate",
    "build",
    "check",
    "inside",
    "note",
    "probe",
    "prune",
    "ready_for_files",
    "restart",
    "revert",
    "state",
    "switch",
    "took_files",
    "variables",
    "without_functions",
]

#: The file that marks a release as whole, and describes it.
MARK = ".ringtasks-release"
_CONTENT = ".source-content"
#: `release.is_release` as a shell pattern: folders that another tool made do not match.
_OURS = "????????T??????Z-*-????"
_HISTORY_LINES = 1000
#: History lines that a host reports.
_TOLD_LINES = 300

# rename(2) over the link: GNU and BusyBox call it -T, FreeBSD and macOS -h. If mv has neither, perl
# or python3 renames: plain mv would move the new link into the folder that the old one points to.
FUNCTIONS = (
    LOCK_FUNCTIONS
    + """
replace() {
  mv -fT "$1" "$2" 2>/dev/null || mv -fh "$1" "$2" 2>/dev/null ||
    perl -e 'rename $ARGV[0], $ARGV[1] or exit 1' "$1" "$2" 2>/dev/null ||
    python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$1" "$2"
}
lead_to() { # makes current lead to a release, by one rename
  if [ -e current ] && [ ! -L current ]; then
    echo "current: is in the way, and no symbolic link" >&2; return 1
  fi
  rm -f .current-new && ln -s "$1" .current-new && replace .current-new current
  [ "$(readlink current)" = "$1" ] && return 0
  echo "current: could not be switched" >&2; return 1
}
discard() { # folders: out of sight at once, and removed without keeping anybody waiting
  for folder; do
    [ ! -d "$folder" ] || mv "$folder" ".trash-$$-${folder##*/}" || return 1
  done
  (trap '' HUP; exec rm -rf .trash-*) </dev/null >/dev/null 2>&1 &
}
"""
)


def without_functions(script: str) -> str:
    """Return a script for readers to whom `FUNCTIONS` were shown once, without these."""
    return script.replace(FUNCTIONS, "").strip("\n")


def inside(root: str, script: str, *, makes: bool = False) -> str:
    """Return ``script``, changed to run in the deploy path.

    :param makes: create the folder and its parents.
    """
    made = f"mkdir -p {path(root)} && " if makes else ""
    return f"{FUNCTIONS}\n{made}cd {path(root)} || exit 1\n{script}"


def state() -> str:
    """Return a script that prints the state of the deploy path for `records.parse_state`."""
    return f"""
echo "current $(readlink current 2>/dev/null)"
for folder in releases/*; do [ -f "$folder/{MARK}" ] && echo "release ${{folder#releases/}}"; done
[ -f {_CONTENT} ] && echo "content $(cat {_CONTENT})"
[ -L lock ] && held
[ -f history ] && tail -n {_TOLD_LINES} history | sed 's/^/history /'
:
"""


def ready_for_files() -> str:
    """Return a script that makes ``source`` ready for files and removes unfinished releases."""
    return f"""
mkdir -p releases shared source || exit 1
rm -f {_CONTENT}
for folder in releases/{_OURS}; do [ -f "$folder/{MARK}" ] || discard "$folder"; done
"""


def took_files(content: str) -> str:
    """Return a script that records the content of ``source``, once all files have arrived."""
    return f"printf '%s\\n' {quote(content)} > {_CONTENT} || exit 1\n"


def build(release: Release, shared: Sequence[str], commands: Sequence[str], *, is_old: bool) -> str:
    """Return a script that builds a release from ``source``: files, shared links, build commands.

    :param is_old: the files came with an earlier release. If one was written to since, the script
        prints ``changed`` and builds nothing.
    """
    folder, mark = f"releases/{release.id}", f"releases/{release.id}/{MARK}"
    # A build command may write into a file; a hard link would change earlier releases as well.
    copy = f"cp -a source {folder}" if commands else f"cp -al source {folder} 2>/dev/null"
    about = [f"{name}={printable(value)}" for name, value in release._asdict().items()]
    # The files of releases are hard links to ``source``, so a service may have written into them.
    # The search runs while the copy is made.
    look = f"find source -newer {_CONTENT} 2>&1 | head -n 1 > .source-changes &" if is_old else ""
    found = f"""wait
if [ -s .source-changes ]; then rm -rf {folder}; echo changed; exit 0; fi
"""
    return f"""
[ -f {mark} ] && exit 0
discard {folder} && mkdir -p releases shared || exit 1
{look}
{copy} || {{ rm -rf {folder}; cp -pR source {folder}; }} || exit 1
{found if is_old else ""}
{"".join(_shared(folder, name) for name in shared)}
{"".join(_command(folder, command) for command in commands)}
printf '%s\\n' {" ".join(map(quote, about))} > {mark}.new && mv -f {mark}.new {mark} || exit 1
{note(EventKind.BUILT, release)}"""


def activate(release: Release, commands: Sequence[str]) -> str:
    """Return a script that runs the commands that come right before the switch."""
    return "".join(_command(f"releases/{release.id}", command) for command in commands)


def switch(release: Release, why: str = "") -> str:
    """Return a script that makes the release the current one."""
    target = f"releases/{release.id}"
    return f"""
[ -f {target}/{MARK} ] || {{ echo "{target}: is not there, or not whole" >&2; exit 1; }}
[ "$(readlink current)" = {target} ] && exit 0
lead_to {target} || exit 1
{note(EventKind.SWITCHED, release, why)}"""


def revert(release: Release, link: str | None, why: str) -> str:
    """Return a script that undoes the switch, if there was one.

    :param link: the earlier target of ``current``, which is restored; None: there was none.
    """
    back = f"lead_to {quote(link)} || exit 1" if link else "rm -f current"
    previous = (link or "").removeprefix("releases/")
    old = release._replace(id=previous, revision="")
    return f"""
{note(EventKind.FAILED, release, why)}
if [ "$(readlink current)" = releases/{release.id} ]; then
  {back}
  {note(EventKind.SWITCHED, old, f"back from {release.id}") if is_release(previous) else ""}
fi
"""


def restart(command: str) -> str:
    """Return a script that runs the command in the current release.

    The output goes through a file: processes that the command leaves running would otherwise keep
    the SSH session open.
    """
    return f"""
: > restart.log
(cd current && exec sh -ec {quote(command)}) </dev/null >> restart.log 2>&1
status=$?
tail -c 8192 restart.log >&2
[ $status -eq 0 ] || exit $status
"""


def check(command: str | None, url: str | None, seconds: float) -> str:
    """Return a script that tries until both checks succeed; the last failure is on stderr."""
    tries = []
    if command:
        tries.append(f"(cd current && exec sh -ec {quote(command)})")
    if url:
        tries.append(f"fetch {quote(url)}")
    return f"""
fetch() {{
  if command -v curl >/dev/null 2>&1; then curl -fsS -m 5 -o /dev/null "$1"
  elif command -v wget >/dev/null 2>&1; then wget -q -T 5 -O /dev/null "$1"
  else python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' "$1"; fi
}}
end=$(($(now) + {max(1, round(seconds))}))
until said=$({{ {" && ".join(tries)}; }} </dev/null 2>&1); do
  [ "$(now)" -le $end ] || {{ printf '%s\\n' "$said" | tail -n 5 >&2; exit 1; }}
  sleep 0.2 2>/dev/null || sleep 1
done
"""


def prune(releases: Iterable[str]) -> str:
    """Return a script that removes old releases but the current one, and shortens the history."""
    removed = "".join(
        f'[ "$(readlink current)" = releases/{name} ] || discard releases/{name}\n'
        for name in releases
    )
    return f"""{removed}
if [ "$(wc -l < history)" -gt {2 * _HISTORY_LINES} ]; then
  tail -n {_HISTORY_LINES} history > .history-new && mv -f .history-new history
fi
"""


def note(kind: EventKind, release: Release, why: str = "") -> str:
    """Return a script that adds a history line, in a single write so that no line is torn."""
    values = (kind.value, release.id, release.revision, release.who, release.link, why)
    words = "\t".join(printable(value) for value in values)
    return f"printf '%s\\t%s\\n' \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\" {quote(words)} >> history"


# POSIX df -P: the available blocks come before the capacity; a mount point may have spaces.
_AVAILABLE = "END { for (i = 2; i <= NF; i++) if ($i ~ /^[0-9]+%$/) { print $(i - 1); exit } }"


def probe(root: str, shared: Sequence[str], *, needs_url: bool) -> str:
    """Return a script that prints one line for each obstacle to a deploy, then the state."""
    files = " ".join(quote(name) for name in shared if not name.endswith("/"))
    fetch = """
command -v curl >/dev/null 2>&1 || command -v wget >/dev/null 2>&1 ||
  command -v python3 >/dev/null 2>&1 || echo "problem check_url: no curl, wget or python3 is there"
"""
    return f"""{FUNCTIONS}
root={path(root)} place={path(root)}
while [ ! -e "$place" ] && [ "$place" != "$(dirname "$place")" ]; do place=$(dirname "$place"); done
[ -d "$place" ] && [ -w "$place" ] ||
  echo "problem path: $place: is not a writable folder"
echo "free $(df -Pk "$place" 2>/dev/null | awk '{_AVAILABLE}')"
for name in {files}; do [ -e "$root/shared/$name" ] || echo "lacks $name"; done
{fetch if needs_url else ""}
cd "$root" 2>/dev/null || exit 0
[ -e current ] && [ ! -L current ] && echo "problem current: is in the way, and no symbolic link"
{state()}"""


def variables(release: Release, host: str) -> str:
    """Return a script that exports the host, release and revision for users' commands."""
    return f"""
export RINGTASKS_HOST={quote(host)}
export RINGTASKS_RELEASE={quote(release.id)}
export RINGTASKS_REVISION={quote(release.revision)}
"""


def _shared(folder: str, name: str) -> str:
    """Return a script that links one shared path.

    If it does not exist yet, the copy in the first release that has it becomes the shared one.
    """
    plain = name.removesuffix("/")
    common, linked = quote(f"shared/{plain}"), quote(f"{folder}/{plain}")
    up = "../" * (2 + plain.count("/"))
    missing = quote(f"shared/{plain}: is not on the host: put it there")
    fresh = f"mkdir -p {common}" if name.endswith("/") else f"{{ echo {missing} >&2; false; }}"
    return f"""
if [ ! -e {common} ]; then
  mkdir -p "$(dirname {common})"
  if [ -e {linked} ]; then cp -pR {linked} {common}; else {fresh}; fi || exit 1
fi
mkdir -p "$(dirname {linked})" && rm -rf {linked} &&
  ln -s {quote(f"{up}shared/{plain}")} {linked} || exit 1
"""


def _command(folder: str, command: str) -> str:
    return f"(cd {folder} && exec sh -ec {quote(command)}) </dev/null 1>&2 || exit $?\n"
