"""A run's checkpoint folder: whose it is on a host, and the copy that is kept here.

A checkpoint belongs to one run.  A file beside the folder, ``.NAME.ringtasks-run``, names the run;
the content of any other run, or of none, is set aside before a job starts, and never resumed from.
The file is beside the folder because both are then on the same disk, whichever hosts share it.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable
from pathlib import Path

from ringtasks import transfer
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.text import printable
from ringtasks.remote.script import path, quote

from .files import MIRROR, TransferError, checked

__all__ = ["CheckpointPuller", "claim", "listing"]

#: Times to pull a checkpoint that changes while it is being pulled.
_PULL_ATTEMPTS = 3


def claim(client: SSHClient, cwd: str, checkpoint: str, run_id: str) -> str | None:
    """Make the folder ``checkpoint`` below ``cwd`` the run's own, whatever attempt this is.

    What the run itself left there stays.

    :returns: the folder on the host that now holds what was there of others; None: nothing was.
    :raises TransferError: it could not be set aside, so the run would start from it.
    """
    parent, name = posixpath.split(posixpath.normpath(checkpoint))
    script = _CLAIM.format(
        parent=path(posixpath.join(cwd, parent)), name=quote(name), run=quote(run_id)
    )
    result = client.run(script, cwd="~")
    if not result.success:
        why = result.error or result.stderr.strip() or f"exit status {result.returncode}"
        raise TransferError(
            f"{client.config.id}: {checkpoint} of an earlier run cannot be set aside: "
            f"{printable(why)}"
        )
    return printable(result.stdout.strip()) or None


# A link to a folder stays one: what it leads to is moved, on its own disk, and made anew. The name
# is hidden so that a program that looks for "checkpoint*" does not find it.
_CLAIM = """\
mkdir -p {parent} && cd {parent} || exit
name={name} run={run} owner=
[ ! -f ".$name.ringtasks-run" ] || read -r owner <".$name.ringtasks-run" || :
[ "$owner" != "$run" ] || exit 0
if [ -L "$name" ] && [ -d "$name/" ]; then
  place=$(cd -P "$name/" && pwd -P)
elif [ -e "$name" ] || [ -L "$name" ]; then
  place=$(pwd -P)/$name
else
  place=
fi
if [ -d "$place" ] && [ ! "$(ls -A "$place")" ]; then place=; fi
if [ "$place" ]; then
  aside=${{place%/*}}/.${{place##*/}}.before-$run
  [ ! -e "$aside" ] || {{ echo "$aside is in the way" >&2; exit 1; }}
  mv "$place" "$aside" || exit
  [ ! -L "$name" ] || [ -e "$name" ] || mkdir "$place" || exit
  printf '%s\n' "$aside"
fi
printf '%s\n' "$run" >".$name.ringtasks-run"
"""


def listing(client: SSHClient, folder: str) -> str | None:
    """A text that changes whenever a file in the folder does; None: there is no file."""
    result = client.run(_LISTING.format(folder=path(folder)), cwd="~")
    return result.stdout if result.success and result.stdout.strip() else None


# Which file it is, its size and time: of GNU and BusyBox, of macOS. Whole seconds would not do:
# checkpoints of one size may follow each other quickly.
_LISTING = """\
cd {folder} 2>/dev/null || exit 1
find . -type f -exec stat -c '%i %s %y %n' {{}} + 2>/dev/null | sort | grep . ||
  find . -type f -exec stat -f '%i %z %Fm %N' {{}} + | sort
"""


class CheckpointPuller:
    """Pulls a checkpoint folder at an interval, from `start` to `stop`.

    What is kept is never half of one checkpoint and half of another: it is pulled beside the one
    that is kept, and takes its place if the host's folder was the same before and after.

    :param keep: the folder here.
    :param tell: is told of what went wrong.
    """

    def __init__(
        self,
        client: SSHClient,
        remote: str,
        keep: Path,
        interval: float,
        tell: Callable[[str], None],
    ) -> None:
        self._client, self._remote, self._keep = client, remote, keep
        self._interval, self._tell = interval, tell
        self._ended = threading.Event()
        self._kept: str | None = None
        self._thread = threading.Thread(target=self._work, name="ringtasks-pull", daemon=True)

    def start(self) -> None:
        """Begin; the first pull comes after the first interval."""
        self._thread.start()

    def stop(self, *, last: bool) -> None:
        """End; ``last``: with one more pull, since the host can be reached."""
        self._ended.set()
        if last:
            self._thread.join()
            self.pull()

    def pull(self) -> bool:
        """Bring the checkpoint here now; whether what is kept is as it is on the host."""
        try:
            return self._pull()
        except (TransferError, OSError) as error:
            self._tell(f"the checkpoint was not pulled: {error}")
            return False

    def _work(self) -> None:
        while not self._ended.wait(self._interval):
            self.pull()

    def _pull(self) -> bool:
        for _ in range(_PULL_ATTEMPTS):
            before = listing(self._client, self._remote)
            if before is None:
                return False
            if before == self._kept:
                return True
            spare = self._keep.with_name(f".{self._keep.name}.spare")
            checked(transfer.sync(self._remote, spare, [self._client], MIRROR, pull=True))
            if listing(self._client, self._remote) == before:
                self._swap(spare)
                self._kept = before
                return True
        return False

    def _swap(self, spare: Path) -> None:
        """What was kept is the next spare: most of it need not be sent again."""
        old = self._keep.with_name(f".{self._keep.name}.old")
        if self._keep.exists():
            self._keep.replace(old)
        spare.replace(self._keep)
        if old.exists():
            old.replace(spare)
