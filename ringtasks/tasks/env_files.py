"""The variables of ``--env-file`` and ``--env``, in that order: the later value counts.

A file has the format of ``.env`` files, as python-dotenv reads it, without expansion of variables:
``NAME=VALUE``, quotes, ``export`` and comments.  A secret in it is in no program's arguments.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping

from ringtasks.common.local_user import expanded_home
from ringtasks.errors import UsageError

__all__ = ["environment"]


def environment(
    pairs: Iterable[str] | Mapping[str, str] | None, files: Iterable[str] | str | None = None
) -> dict[str, str]:
    """Return the variables of the flags; ``NAME`` without a value passes on this machine's.

    :param pairs: each ``NAME=VALUE`` or ``NAME``; a Python caller may give a mapping instead.
    :raises UsageError: a file cannot be read, a line is not in the format, a name is empty, or a
        variable is not set here. Never shows a value.
    """
    found: dict[str, str] = {}
    for file in (files,) if isinstance(files, str) else files or ():
        found.update(_of_file(file))
    if isinstance(pairs, Mapping):
        return found | dict(pairs)
    for pair in (pairs,) if isinstance(pairs, str) else pairs or ():
        name, equals, value = pair.partition("=")
        if not name:
            raise UsageError("--env: expected NAME=VALUE or NAME")
        found[name] = value if equals else _own(name, f"--env {name}")
    return found


def _of_file(file: str) -> Iterator[tuple[str, str]]:
    from dotenv.parser import parse_stream  # few commands have such a file

    try:
        text = expanded_home(file).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"--env-file {file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UsageError(f"--env-file {file}: is not UTF-8 text") from None
    for line in parse_stream(io.StringIO(text)):
        place = f"--env-file {file}:{line.original.line}"
        if line.error:
            raise UsageError(f"{place}: expected NAME=VALUE, with the quotes closed")
        if line.key is not None:
            yield line.key, _own(line.key, place) if line.value is None else line.value


def _own(name: str, place: str) -> str:
    if name not in os.environ:
        raise UsageError(f"{place}: {name} is not set on this machine")
    return os.environ[name]
