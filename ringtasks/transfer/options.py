"""The options of a transfer."""

from __future__ import annotations

from ringtasks.common.fanout import FANOUT
from ringtasks.common.light_dataclass import dataclass
from ringtasks.errors import UsageError

__all__ = ["CopyRules", "Options"]


@dataclass(frozen=True)
class CopyRules:
    """The options of a transfer that decide on names and changes.

    :param exclude: patterns as in rsync's FILTER RULES (``*.log``, ``/build/``, ``data/**``); each
        overrides those before, and ``!`` in front includes a name again.
    :param delete: delete files at the target that are not in the source; excluded ones stay.
    :param checksum: compare contents, also if size and time are equal.
    :param keep_times: give each file the time that it has in the source; False: a file that is sent
        has the time of its arrival, and ``checksum`` alone tells which have changed.
    :param sparse: leave holes in the place of blocks of zeros; needs rsync on both sides.
    :param hard_links: send files that are one file under several names as such; needs rsync on both
        sides.
    :param dry_run: change nothing, report the changes that would be made.
    """

    exclude: tuple[str, ...] = ()
    delete: bool = False
    checksum: bool = False
    keep_times: bool = True
    sparse: bool = False
    hard_links: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Options(CopyRules):
    """The options of a transfer, beside `CopyRules`; the same for all hosts.

    :param gitignore: leave out the paths that git ignores in the source, and ``.git``.
    :param verify: compare a SHA-256 of each copied file on the receiving side; None: for put and
        get, if the host has a program for it.
    :param fanout: hosts at the same time.
    :param timeout: seconds for one host; None: no limit.
    :param relay: send to few hosts, which pass it on to the others.
    """

    gitignore: bool = False
    verify: bool | None = None
    fanout: int = FANOUT
    timeout: float | None = None
    relay: bool = False

    def __post_init__(self) -> None:
        if self.fanout < 1:
            raise UsageError(f"fanout: expected at least 1, got {self.fanout}")
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"timeout: expected more than 0 seconds, got {self.timeout}")
        for pattern in self.exclude:
            if not pattern.lstrip("!") or "\0" in pattern:
                raise UsageError(f"exclude: {pattern!r} is no pattern")
