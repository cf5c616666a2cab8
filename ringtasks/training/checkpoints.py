"""A run's checkpoint folder: its owner on a host, and the local copy.

A checkpoint belongs to one run.  A file beside the folder, ``.NAME.ringtasks-run``, names the run;
the content of any other run, or of none, is set aside before a job starts, and never resumed from.
The file is beside the folder because both are then on the same disk, whichever hosts share it.
"""

from __future__ import annotations

import functools
import glob
import posixpath
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ringtasks import jobs, transfer
from ringtasks.client.ask import Ask
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.text import printable
from ringtasks.common.threads import start_thread
from ringtasks.errors import RingtasksError, RunNotStartedError
from ringtasks.remote.programs import Program, Word
from ringtasks.remote.script import quoted_path
from ringtasks.transfer.patterns import literal

from .cut_files import cut_files
from .files import MIRROR, FileCopyError, TimeLimit, check_answer, checked

__all__ = ["CheckpointPuller", "CheckpointState", "claim", "inspect", "remove_spare"]

#: Attempts to pull a checkpoint that changes while it is being pulled.
_PULL_ATTEMPTS = 3
_CLAIM, _LIST = (Program(__file__, name) for name in ("claim_checkpoint.sh", "list_checkpoint.sh"))
_INCOMPLETE = "incomplete "
_OVERTAKEN = "overtaken"
#: The exit status if there is none.
_NO_CHECKPOINT = 66
#: The exit status if the folder is that of another run.
_OWNED = 67


def claim(
    client: SSHClient,
    cwd: str,
    checkpoint: str,
    run_id: str,
    *,
    attempt: int = 1,
    keeps_own: bool = True,
) -> str | None:
    """Make the folder ``checkpoint`` below ``cwd`` the run's own.

    :param keeps_own: keep the files that the run itself left there in an earlier attempt.
    :returns: the folder on the host that now holds the files of others; None: there were none.
    :raises FileCopyError: they could not be set aside, so the run would start from them.
    :raises RunNotStartedError: they are those of a run that has not ended.
    """
    parent, name = posixpath.split(posixpath.normpath(checkpoint))
    script = functools.partial(
        _CLAIM.render,
        parent=Word(quoted_path(posixpath.join(cwd, parent))),
        name=name,
        run=run_id,
        label=run_id if attempt == 1 else f"{run_id}-{attempt}",
        keeps_own="true" if keeps_own else "false",
        owned=_OWNED,
    )
    result = client.ask(Ask(script(ended="")))
    if result.error is None and result.returncode == _OWNED:
        owner = result.stdout.strip()
        _check_ended(client, checkpoint, owner)
        result = client.ask(Ask(script(ended=owner)))
    check_answer(result, f"{client.config.id}: {checkpoint} cannot be set aside")
    return printable(result.stdout.strip()) or None


def _check_ended(client: SSHClient, checkpoint: str, run_id: str) -> None:
    """Check that no job of the run may still write its checkpoint.

    :raises RunNotStartedError: one may, or the host could not tell.
    """
    (known,) = jobs.list([client])
    live = [job.describe() for job in known.jobs if job.group == run_id and not job.is_ended]
    if live or known.error:
        raise RunNotStartedError(
            client.config.id,
            f"{checkpoint} is that of the run {printable(run_id)}, which has not ended "
            f"({known.error or live[0]}): wait for it, or give another cwd",
            is_unreachable=known.error is not None,
        )


class CheckpointState(NamedTuple):
    """The complete part of a checkpoint folder on a host."""

    files: str
    """A text that changes whenever one of the files does."""
    incomplete: tuple[str, ...] = ()
    """Names of folders in it that are still being written, or whose writing was cut off."""
    is_certain: bool = False
    """True if the last files of its checkpoints show that they are complete."""


def inspect(
    client: SSHClient, folder: str, done: str | None = None, *, takes_overtaken: bool = False
) -> CheckpointState | None:
    """Look at a checkpoint folder; None: it has no file, or no complete checkpoint.

    :param done: the file that is written last; None: all files count as complete.
    :param takes_overtaken: take checkpoints with files that are newer than that one: the program
        has ended by itself.
    :raises FileCopyError: the host could not look.
    """
    script = _LIST.render(
        folder=Word(quoted_path(folder)),
        last_file=done or "",
        takes_overtaken="true" if takes_overtaken else "false",
        no_checkpoint=_NO_CHECKPOINT,
    )
    result = client.ask(Ask(script))
    if result.error is None and result.returncode == _NO_CHECKPOINT:
        return None
    check_answer(result, f"{client.config.id}: {folder} cannot be listed")
    lines = result.stdout.split("\n")
    names = (line[len(_INCOMPLETE) :] for line in lines if line.startswith(_INCOMPLETE))
    incomplete = tuple(name for name in names if not {"/", "\0"} & {*name} and name.strip("."))
    is_certain = bool(done) and _OVERTAKEN not in lines
    files = "\n".join(
        line for line in lines if line and line != _OVERTAKEN and not line.startswith(_INCOMPLETE)
    )
    return CheckpointState(files, incomplete, is_certain) if files else None


#: For each local copy: an abandoned pull of an earlier attempt may still write to the same spare.
_PULLING: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


def remove_spare(keep: Path) -> None:
    """Remove what the next pull would start from, once there is none; not during a pull.

    :param keep: the local folder of the checkpoint.
    """
    pulling = _PULLING[keep]
    if pulling.acquire(blocking=False):
        shutil.rmtree(_spare_of(keep), ignore_errors=True)
        pulling.release()


def _spare_of(keep: Path) -> Path:
    return keep.with_name(f".{keep.name}.spare")


class CheckpointPuller:
    """Pulls a checkpoint folder at an interval, from `start` to `stop`.

    The copy is never half of one checkpoint and half of another: a new one is pulled beside it, and
    replaces it only if the host's folder was the same before and after.  If no last file shows that
    it is complete, the run must not have been cut off: one that was killed while it wrote leaves a
    folder that stays the same.

    :param keep: the local folder.
    :param tell: receives a text for each failure.
    :param done: the file that is written last into a checkpoint, see `inspect`.
    :param was_cut_off: returns whether the run may have been ended while it wrote.
    """

    def __init__(
        self,
        client: SSHClient,
        remote: str,
        keep: Path,
        tell: Callable[[str], None],
        done: str | None = None,
        was_cut_off: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client, self._remote, self._keep = client, remote, keep
        self._spare, self._old = _spare_of(keep), keep.with_name(f".{keep.name}.old")
        self._tell, self._done, self._was_cut_off = tell, done, was_cut_off
        self._ended, self._swapping = threading.Event(), threading.Lock()
        self._kept: str | None = None

    def start(self, interval: float) -> None:
        """Start; the first pull comes after the first interval."""
        self._repair()
        start_thread(self._work, interval, name="ringtasks-pull")

    def stop(self, last: TimeLimit | None) -> None:
        """Stop; with ``last`` after one more pull within that time, since the host is reachable.

        A pull that is under way no longer replaces the copy.
        """
        with self._swapping:
            self._ended.set()
        if last is not None:
            self.pull(last)

    def pull(self, limit: TimeLimit | None = None) -> bool:
        """Pull the checkpoint now; return whether the local copy equals the host's folder."""
        pulling = _PULLING[self._keep]
        if not pulling.acquire(timeout=limit.left if limit else -1):
            self._tell("the checkpoint was not pulled: an earlier pull has not ended")
            return False
        try:
            return self._pull(limit)
        except (FileCopyError, OSError, RingtasksError) as error:
            self._tell(f"the checkpoint was not pulled: {error}")
            return False
        finally:
            pulling.release()

    def _work(self, interval: float) -> None:
        while not self._ended.wait(interval):
            self.pull()

    def _pull(self, limit: TimeLimit | None) -> bool:
        for _ in range(_PULL_ATTEMPTS):
            if limit is None and self._ended.is_set():
                return False
            options = limit.options(MIRROR) if limit else MIRROR
            takes_overtaken = limit is not None and not self._was_cut_off()
            before = self._inspected(takes_overtaken=takes_overtaken)
            if before is None:
                if limit is not None:
                    raise FileCopyError(f"{self._client.config.id}: {self._none_there()}")
                return False
            if before.files == self._kept:
                return True
            incomplete = tuple(f"/{literal(name)}/" for name in before.incomplete)
            options = replace(options, exclude=incomplete)
            checked(transfer.sync(self._remote, self._spare, [self._client], options, pull=True))
            if self._inspected(takes_overtaken=takes_overtaken) == before:
                return self._replaced(before, is_last=limit is not None)
        return False

    def _replaced(self, pulled: CheckpointState, *, is_last: bool) -> bool:
        """Replace the copy, unless the checkpoint may be incomplete."""
        if self._has_only_cut_files(is_last=is_last):
            return False
        if not pulled.is_certain and (self._was_cut_off() or (self._done and not is_last)):
            if is_last:
                raise FileCopyError(
                    f"{self._client.config.id}: {self._remote} has files that are newer than "
                    f"{self._done}: the run may have been ended while it wrote"
                )
            return False
        with self._swapping:
            if self._ended.is_set() and not is_last:
                return False
            self._keep_earlier(pulled.incomplete)
            self._swap()
        self._kept = pulled.files
        return True

    def _has_only_cut_files(self, *, is_last: bool) -> bool:
        """Return whether a file of the pulled checkpoint is cut short.

        Of many checkpoints, those with such a file stay as they are in the last copy.

        :raises FileCopyError: the last pull has such a file.
        """
        cut = [path.relative_to(self._spare) for path in cut_files(self._spare, self._done)]
        if not cut:
            return False
        if self._done and not (self._spare / self._done).exists():
            names = {path.parts[0] for path in cut if len(path.parts) > 1}
            for name in names:
                shutil.rmtree(self._spare / name)
            if any(self._spare.glob(f"*/{glob.escape(self._done)}")):
                self._keep_earlier(names)
                return False
        if is_last:
            raise FileCopyError(f"{self._client.config.id}: {self._remote}/{cut[0]} is cut short")
        return True

    def _none_there(self) -> str:
        if self._done is None:
            return f"there is no file in {self._remote}"
        return (
            f"neither {self._remote} nor a folder in it has a {self._done} that is not empty and "
            "newer than its other files"
        )

    def _inspected(self, *, takes_overtaken: bool) -> CheckpointState | None:
        return inspect(self._client, self._remote, self._done, takes_overtaken=takes_overtaken)

    def _keep_earlier(self, names: Iterable[str]) -> None:
        """Let the folders that were not pulled be those of the last copy, not of the one before."""
        for name in names:
            shutil.rmtree(self._spare / name, ignore_errors=True)
            if (self._keep / name).is_dir():
                shutil.copytree(self._keep / name, self._spare / name, symlinks=True)

    def _swap(self) -> None:
        """Replace the copy; the old one becomes the next spare: most of it is not sent again."""
        self._repair()
        if self._keep.exists():
            self._keep.replace(self._old)
        self._spare.replace(self._keep)
        if self._old.exists():
            self._old.replace(self._spare)

    def _repair(self) -> None:
        """Finish a swap during which an earlier process ended."""
        if self._old.exists() and self._keep.exists():
            shutil.rmtree(self._old, ignore_errors=True)
        elif self._old.exists():
            self._old.replace(self._keep)
