"""A file that grows on the host, protected from all other users of the host.

It is named ``part``, in a folder of its own beside the final name, which is made with mode 0700
under a random name. Each program first enters that folder and checks that it is still the same one
(``part.sh``): from then on it works in it, whatever another user does to the names above. So in a
folder that other users may write to, none of them can make it write over a file of ours by a link,
or wait on a pipe.

An earlier run's folder is reused if it is ours, and no other user may write in it. Some file
systems show one owner and mode for everything: there each run begins anew.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace

from ringtasks.client.ask import Ask
from ringtasks.client.result import SSHResult
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.digest import digest
from ringtasks.remote.paths import above, name_of
from ringtasks.remote.programs import Program, Word
from ringtasks.remote.script import quoted_path

__all__ = ["RemotePart"]

_FIND, _REMOVE = (Program(__file__, name) for name in ("find_part.sh", "remove_part.sh"))
# The fields of ls -ln for the file (XCU ls): its size is the fifth word.
_ANSWER = re.compile(r"(closed|true) (\.ringtasks-[0-9a-f-]+)(?:\n(?:\S+\s+){4}([0-9]{1,18})\s.*)?")


class RemotePart:
    """The part of one file, over one run; for one thread.

    :param target: the final name.
    :param version: identifies the content that it is a part of.
    """

    def __init__(self, client: SSHClient, target: str, version: str) -> None:
        self._client, self.folder = client, above(target)
        self._beginning = f".ringtasks-{digest(name_of(target), 16)}-"
        self._version = f"{self._beginning}{digest(version, 16)}-"
        self._name = f"{self._version}{os.urandom(8).hex()}"
        self._check: str | None = None
        self.size_bytes = 0

    def program(self, program: Program, **parameters: str | int) -> str:
        """Return the text of a program for this part: one that includes ``part.sh``."""
        return program.render(
            folder=Word(quoted_path(self.folder)),
            name=self._name,
            check=self._check or "closed",
            **parameters,
        )

    def look(self) -> SSHResult:
        """Find or make the part, and read its length."""
        new = f"{self._version}{os.urandom(8).hex()}"
        find = self.program(
            _FIND,
            # In a file system of one owner and mode, its name alone identifies it.
            known=self._name if self._check == "true" else "",
            beginning=self._beginning,
            version=self._version,
            new=new,
        )
        result = self._client.ask(Ask(find, cwd="/"))
        if not result.success and new in result.stderr:
            reason = result.stderr.strip().rpartition(": ")[2]
            return replace(result, stderr=f"cannot write to {self.folder}: {reason}")
        if result.success and not self._take(result.stdout):
            error = f"{result.host}: no answer about the part, but {result.stdout[:200]!r}"
            return replace(result, success=False, returncode=1, error=error)
        return result

    def remove_script(self) -> str:
        """Return the script that removes the part and its folder."""
        return self.program(_REMOVE)

    def _take(self, text: str) -> bool:
        found = _ANSWER.fullmatch(text.strip())
        if found is None or not found[2].startswith(self._version):
            return False
        self._check, self._name = found[1], found[2]
        self.size_bytes = int(found[3] or 0)
        return True
