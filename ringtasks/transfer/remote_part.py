"""A file that grows on the host, protected from all other users of the host.

It is named ``part``, in a folder of its own beside the final name, which is made with mode 0700
under a random name. Each script first enters that folder and checks that it is still the same one:
from then on it works in it, whatever another user does to the names above. So in a folder that
other users may write to, none of them can make it write over a file of ours by a link, or wait on a
pipe.

An earlier run's folder is reused if it is ours, and no other user may write in it. Some file
systems show one owner and mode for everything: there each run begins anew.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace

from ringtasks.client.result import SSHResult
from ringtasks.client.ssh_client import SSHClient
from ringtasks.remote.paths import above, name_of, word
from ringtasks.remote.script import quote

from .asking import ask

__all__ = ["PART", "RemotePart"]

#: The file's name in its folder.
PART = "part"

# -O: it is ours. The 6th and the 9th character of ls show whether group and others may write. -P
# and the number of the folder above: neither a link nor a folder from elsewhere is entered.
_FUNCTIONS = """\
umask 077
export LC_ALL=C
closed() { [ -O . ] && case $(ls -ld .) in d????-??-*) true ;; *) false ;; esac; }
into() {
  cd -P %(folder)s || exit 1
  above=$(ls -di .)
  [ ! -L "./$1" ] && cd -P "./$1" 2>/dev/null && [ "$(cd -P .. && ls -di .)" = "$above" ]
}
"""
# Parts of other versions of the file are removed.
_FIND = """\
cd -P %(folder)s || exit 1
found= kept=closed
for old in %(beginning)s*; do
  { into "$old" && closed; } || continue
  case $old in
    %(version)s*) [ -n "$found" ] || { found=$old; continue; } ;;
  esac
  rm -f part && cd -P .. && rmdir "./$old"
done
if [ -z "$found" ]; then
  cd -P %(folder)s || exit 1
  found=%(new)s
  mkdir "./$found" && into "$found" || exit 1
  closed || kept=true
fi
"""
_LOOK = """\
into "$found" && $kept || exit 1
printf '%s %s\\n' "$kept" "$found"
[ -f part ] && ls -ln part
true
"""
# The fields of ls -ln for the file (XCU ls): its size is the fifth word.
_ANSWER = re.compile(r"(closed|true) (\.ringtasks-[0-9a-f-]+)(?:\n(?:\S+\s+){4}([0-9]{1,18})\s.*)?")


class RemotePart:
    """The part of one file, over one run; for one thread.

    :param target: the final name.
    :param version: identifies the content that it is a part of.
    """

    def __init__(self, client: SSHClient, target: str, version: str) -> None:
        self._client, self.folder = client, above(target)
        self._beginning = f".ringtasks-{_digest(name_of(target))}-"
        self._version = f"{self._beginning}{_digest(version)}-"
        self._name = f"{self._version}{os.urandom(8).hex()}"
        self._check: str | None = None
        self.size_bytes = 0

    @property
    def functions(self) -> str:
        """The shell functions that `enter` needs."""
        return _FUNCTIONS % {"folder": word(self.folder)}

    @property
    def enter(self) -> str:
        """A shell condition that enters the folder; false if it does not exist or is not ours.

        After it the working folder may be any.
        """
        return f"{{ into {quote(self._name)} && {self._check or 'closed'}; }}"

    def look(self) -> SSHResult:
        """Find or make the part, and read its length."""
        if self._check == "true":  # only its name identifies it
            find = f"found={quote(self._name)} kept=true\n"
        else:
            find = _FIND % {
                "folder": word(self.folder),
                "beginning": self._beginning,
                "version": self._version,
                "new": quote(f"{self._version}{os.urandom(8).hex()}"),
            }
        result = ask(self._client, f"{self.functions}{find}{_LOOK}")
        if result.success and not self._take(result.stdout):
            error = f"{result.host}: no answer about the part, but {result.stdout[:200]!r}"
            return replace(result, success=False, returncode=1, error=error)
        return result

    def remove_script(self) -> str:
        """Return the script that removes the part and its folder."""
        return f"{self.functions}{self.enter} && rm -f {PART} && {self.leave}; true"

    @property
    def leave(self) -> str:
        """Return the script that leaves the folder, which is empty, and removes it."""
        return f"cd -P .. && rmdir {quote(f'./{self._name}')}"

    def _take(self, text: str) -> bool:
        found = _ANSWER.fullmatch(text.strip())
        if found is None or not found[2].startswith(self._version):
            return False
        self._check, self._name = found[1], found[2]
        self.size_bytes = int(found[3] or 0)
        return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
