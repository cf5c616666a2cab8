"""rsync's command line: flags that the rsyncs of both sides support, as a list (pure).

Differences that matter, from rsync(1) and its NEWS: 2.6.9 and openrsync (macOS' versions) know
neither ``--info`` (3.1) nor ``--no-protect-args`` (3.0); both flags are for the local side alone.
The flags that are sent to the host's rsync are known since 2.6.4.  openrsync says "openrsync:
protocol version 29" and calls itself compatible with 2.6.9.

Paths on the host are never in these flags: `rsync` puts them, quoted by us, in the place of rsync's
own quoting, which changed with 3.2.4.
"""

from __future__ import annotations

import re

from ringtasks.common.light_dataclass import dataclass
from ringtasks.common.light_typing import NamedTuple

from .options import CopyRules

__all__ = [
    "INCOMING",
    "LINE_MARK",
    "MUNGED",
    "PARTIAL_FOLDER",
    "Rules",
    "Version",
    "can_stage",
    "flags",
    "parse_version",
]

#: A folder beside an unfinished file; rsync excludes it from the copy and removes it.
PARTIAL_FOLDER = ".ringtasks-partial"
#: Begins the name of a folder in a target into which rsync writes (`staging`).
INCOMING = ".ringtasks-incoming-"
#: rsync puts this in front of a link (rsync(1), --munge-links); there must be no such folder.
MUNGED = "/rsyncd-munged/"
#: Begins each line about a file, so that no other line is taken for one.
LINE_MARK = "ringtasks-file"

#: Seconds without a byte after which rsync gives up. Reading a large file to compare it
#: (--checksum) is silent, too.
_SILENCE_TIMEOUT = 600

_VERSION = re.compile(r"rsync\s+version\s+v?(\d+)\.(\d+)(?:\.(\d+))?")


class Version(NamedTuple):
    """An rsync's version; ``is_open`` for OpenBSD's rewrite, which macOS has had since 15.4."""

    major: int
    minor: int
    patch: int = 0
    is_open: bool = False

    def knows(self, major: int, minor: int) -> bool:
        """Return whether it has the features of that version of the original."""
        return not self.is_open and (self.major, self.minor) >= (major, minor)

    def __str__(self) -> str:
        return f"{'openrsync, as ' if self.is_open else ''}{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class Rules(CopyRules):
    """The rules of one copy, beside `CopyRules`.

    :param ignored: paths below the source that are left out: literal, ``/`` at the end of folders.
    :param follow_outside: copy the target of a symbolic link that leads out of the source. If
        False, the link is kept when sent; when received it is always left out.
    :param follow_all: copy the target of every symbolic link.
    :param link_dest: a folder on the receiving side, relative to the target or absolute: files that
        are equal there become hard links.
    :param rate: bytes a second at most; None: unlimited.
    """

    ignored: tuple[str, ...] = ()
    follow_outside: bool = False
    follow_all: bool = False
    link_dest: str | None = None
    rate: float | None = None


def parse_version(first_line: str) -> Version | None:
    """Return the version in the first line of ``rsync --version``; None: it is not an rsync."""
    if first_line.startswith("openrsync"):
        return Version(2, 6, 9, is_open=True)
    found = _VERSION.search(first_line)
    if found is None:
        return None
    major, minor, patch = (int(number or 0) for number in found.groups())
    return Version(major, minor, patch)


def can_stage(local: Version) -> bool:
    """Return True if it has ``--munge-links``, without which it pulls nothing."""
    return local.knows(3, 1)


def flags(rules: Rules, local: Version, *, pulls: bool, tells_progress: bool) -> list[str]:
    """Return rsync's arguments without the remote shell and the two places.

    :param pulls: rsync writes to a `Staging`, which adds flags and deletes by itself.
    """
    # --from0 applies only to the options after it.
    chosen = [
        "-rlpt" if rules.keep_times else "-rlp",
        "--from0",
        "--exclude-from=-",
        "--stats",
        f"--timeout={_SILENCE_TIMEOUT}",
        f"--out-format={LINE_MARK} %i %l %n",  # the change to the file, its size, its name
    ]
    if local.knows(3, 0):
        chosen.append("--no-protect-args")  # RSYNC_PROTECT_ARGS or rsync's build may enable it
    if tells_progress and local.knows(3, 1):
        chosen += ["--info=progress2", "--no-human-readable"]
    if rules.follow_all or rules.follow_outside:
        chosen.append("--copy-links" if rules.follow_all else "--copy-unsafe-links")
    chosen.append("--partial-dir=" + PARTIAL_FOLDER)
    for name in ("checksum", "dry_run", "hard_links", "sparse"):
        if getattr(rules, name):
            chosen.append(f"--{name.replace('_', '-')}")
    if pulls:
        chosen.append("--chmod=ug-s")
    if rules.delete:
        # A pull only lists the host's names, unchanged ones too; `Staging` deletes the others.
        chosen += ["-i", "-i"] if pulls else ["--delete"]
    if pulls and rules.dry_run:
        chosen += ["--safe-links", "--info=symsafe,name"]
    if rules.link_dest is not None:
        chosen.append(f"--link-dest={rules.link_dest}")
    if rules.rate is not None:
        chosen.append(f"--bwlimit={max(1, int(rules.rate / 1024))}")
    return chosen
