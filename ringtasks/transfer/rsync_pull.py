"""rsync from a host that is not trusted: a dry run first, then into a `Staging`.

The first run changes nothing (``--dry-run``) and compares with the target, which costs as much as
an rsync that finds nothing to do.  The second one asks only for what differs (``--files-from``), if
the host's rsync has that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Protocol

from ringtasks.client.result import SSHResult
from ringtasks.common.text import printable

from .patterns import encoded
from .rsync_flags import Rules
from .rsync_output import Change, RsyncOutput, RsyncResult
from .staging import Staging

__all__ = ["RsyncRun", "pull_into"]

_PARTIAL_ERROR = 23  # rsync(1), EXIT VALUES
#: Exit statuses of rsync itself, after which other flags may succeed.
_OWN_STATUSES = range(1, 100)
#: A run after one that replaced links by folders, and one more if the host changes meanwhile.
_MOST_RUNS = 3
_TOLD_ERRORS = 3
#: Files are sent whole if all are smaller: version 3.5 looks for one in the target at more cost.
_DELTA_BYTES = 1024 * 1024


class RsyncRun(Protocol):
    """One rsync from the host to the local folder ``place``."""

    def __call__(
        self, rules: Rules, place: str, reading: RsyncOutput, more_flags: Sequence[str] = ()
    ) -> RsyncResult: ...


def pull_into(
    staging: Staging, rules: Rules, run: RsyncRun, reading: RsyncOutput, *, can_list: bool
) -> RsyncResult:
    """Make the target hold what the host has.

    :param reading: of the runs that transfer.
    :param can_list: the names that rsync prints are relative to the folder that is pulled.
    """
    looking = RsyncOutput(lists=rules.delete)
    listed: list[str] | None = None
    if not staging.is_target_empty:
        # Else a folder in a file's place is an error of this run, though it is to be removed.
        force = ["--force"] if rules.delete else []
        looked = run(replace(rules, dry_run=True), str(staging.target), looking, force)
        if not looked and looked.result.returncode != _PARTIAL_ERROR:
            return looked._replace(changes=())
        if looked:
            listed = [change.name.rstrip("/") for change in looking.changes if change.is_copied]
    pulling = _Pulling(staging, rules, run, reading)
    if listed is None:
        moved = pulling.all()
    elif listed:
        is_large = any(change.size_bytes >= _DELTA_BYTES for change in looking.changes)
        moved = pulling.only(listed, is_large=is_large) if can_list else pulling.all()
    else:
        moved = looked
    changes = [*pulling.changes, *staging.made, *staging.replaced, *staging.deleted]
    changes += [*staging.skipped, *looking.skipped, *reading.skipped]
    if rules.delete and moved:
        present = reading.present if listed is None else looking.present
        changes += staging.delete(present)
    if moved and not rules.dry_run:
        staging.check_names(change.name for change in pulling.changes if change.is_copied)
    stats = Counter(looking.stats)
    stats.update(pulling.stats)
    result = _with_errors_of(staging, moved.result)
    return RsyncResult(result, tuple(changes), stats, moved.is_missing)


def _with_errors_of(staging: Staging, result: SSHResult) -> SSHResult:
    if not result.success or not staging.errors:
        return result
    told = "; ".join(printable(error) for error in staging.errors[:_TOLD_ERRORS])
    return replace(result, success=False, returncode=1, error=f"{result.host}: {told}")


class _Pulling:
    """The runs that transfer; after each, complete files are moved into the target."""

    def __init__(self, staging: Staging, rules: Rules, run: RsyncRun, reading: RsyncOutput) -> None:
        self._staging, self._rules, self._run, self._reading = staging, rules, run, reading
        self.stats: Counter[str] = Counter()
        is_empty = staging.is_target_empty
        self._compare = [] if is_empty else [f"--compare-dest={staging.target}"]
        self._has_replaced_links = False  # in the last run

    @property
    def changes(self) -> list[Change]:
        return [change for change in self._reading.changes if not change.is_link]

    def only(self, names: list[str], *, is_large: bool) -> RsyncResult:
        """Pull these; all, if the host's rsync cannot be asked for some.

        :param is_large: it is worth to send no more of a file than what has changed.
        """
        place = self._staging.write_list(encoded(f"./{name}" for name in names))
        # With the top in the list, rsync sends all in it (rsync(1), --dirs) that does not compare.
        has_top = "." in names
        flags = [f"--files-from={place}", *(self._compare if is_large or has_top else [])]
        moved = self._once(flags, has_top=has_top, listed=frozenset(names))
        if moved.result.returncode in _OWN_STATUSES or self._has_replaced_links:
            return self.all()
        return moved

    def all(self) -> RsyncResult:
        """Pull until a run has left out no file."""
        for _ in range(_MOST_RUNS):
            moved = self._once(self._compare, has_top=True)
            if not moved or not self._has_replaced_links:
                break
        return moved

    def _once(
        self, more_flags: Sequence[str], *, has_top: bool, listed: Set[str] | None = None
    ) -> RsyncResult:
        staging = self._staging
        before = len(staging.replaced)
        self._reading.stats = {}
        flags = ["--munge-links", *more_flags]
        moved = self._run(self._rules, f"{staging.folder}/", self._reading, flags)
        if not moved.was_killed:
            is_whole = moved.result.returncode in (0, _PARTIAL_ERROR)  # both have set all modes
            staging.merge(is_whole=is_whole, has_top=has_top, listed=listed)
        self._has_replaced_links = len(staging.replaced) > before
        self.stats.update(self._reading.stats)
        return moved
