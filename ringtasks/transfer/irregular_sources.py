"""Sources that are not regular files: pipes of the caller are read first, all else is refused.

A FIFO of the file system has no end as long as nothing writes to it, and a device may have none at
all, so they are refused at once.  A pipe that the caller has opened (``put <(command) x``) ends
when its writer does.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ringtasks.common.special_files import is_descriptor, special_kind
from ringtasks.errors import UsageError

__all__ = ["regular"]


@contextlib.contextmanager
def regular(sources: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield the sources, with a temporary file in the place of each pipe of the caller.

    :raises UsageError: a source is neither a regular file nor a folder, or cannot be read.
    """
    with contextlib.ExitStack() as stack:
        yield [_regular(path, stack) for path in sources]


def _regular(path: Path, stack: contextlib.ExitStack) -> Path:
    try:
        kind = special_kind(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if kind is None:
        return path
    if not (kind == "a pipe" and is_descriptor(path)):
        raise UsageError(f"{path}: is not a regular file but {kind}; copy a file or a folder")
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ringtasks-pipe-"))
    copy = Path(folder, path.name)
    try:
        with path.open("rb") as reading, copy.open("wb") as writing:
            shutil.copyfileobj(reading, writing)
    except OSError as error:
        raise UsageError(f"{path}, kept in {folder}: {error.strerror}") from error
    return copy
