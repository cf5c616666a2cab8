"""Answers of ``ssh -G`` that outlive the process: one small file each, below the state folder.

They are a cache: each can be removed at any time, and one that cannot be read does not count.  The
files are readable by their owner only, since SetEnv may hold a secret.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from ringtasks.common.digest import digest
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.regular_file import UNUSABLE, read_regular
from ringtasks.inventory.state_files import state_folder

from .settings_files import Version

__all__ = ["KeptAnswer", "Question", "keep", "load"]

_MOST = 4000  # files; a fleet of a thousand hosts has one for each host and user
#: Counts up if the same files give another answer: 3: it is without ControlPath.
_FORMAT = 3


class Question(NamedTuple):
    """A question to ``ssh -G``.

    :ivar user: the explicitly requested user.
    :ivar file: `SSHConfig.ssh_config_file`, absolute.
    :ivar home: ``$HOME``.
    """

    host: str
    user: str | None = None
    port: int | None = None
    file: str | None = None
    home: str | None = None
    user_id: int = -1


class KeptAnswer(NamedTuple):
    """An answer, and the version of each file that it depends on; None: it depends on more."""

    values: Mapping[str, tuple[str, ...]]
    is_alias: bool
    versions: Mapping[str, Version] | None


def load(question: Question) -> KeptAnswer | None:
    """Return the kept answer to a question; None if there is none."""
    try:
        found = json.loads(read_regular(_path(question)))
        if found["question"] != list(question):
            return None
        values = {keyword: tuple(values) for keyword, values in found["values"].items()}
        versions = {name: seen and tuple(seen) for name, seen in found["versions"].items()}
        return KeptAnswer(values, bool(found["is_alias"]), versions)
    except UNUSABLE:
        return None


def keep(question: Question, answer: KeptAnswer) -> None:
    """Keep an answer; nothing happens if the state folder cannot be written."""
    from ringtasks.common.atomic_file import keep_newest, replace_file  # most runs write none

    path = Path(_path(question))
    text = json.dumps({"question": question, **answer._asdict()})
    with contextlib.suppress(OSError):
        replace_file(path, text, makes_folder=True)
        if not os.urandom(1)[0]:  # one writer of 256 counts the files
            keep_newest(path.parent, _MOST)


def _path(question: Question) -> str:
    return f"{state_folder()}/ssh-settings/{digest(json.dumps([_FORMAT, *question]), 24)}"
