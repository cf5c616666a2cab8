"""SHA-256 of local files, and of files on the host."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ringtasks.client.result import SSHResult
from ringtasks.common.threads import start_thread
from ringtasks.errors import RingtasksError
from ringtasks.remote.script import quoted_path

__all__ = ["HASHERS", "Hashing", "hashes_on_host", "sha256_of", "time_for"]

_CHUNK_BYTES = 1024 * 1024
_SLOWEST = 20e6  # bytes a second that any disk and processor reach
_LEAST_TIMEOUT = 60.0

#: The programs that a host may have for it, and their commands, which take files. Each prints the
#: sum first; "./" before a name keeps it from being a flag.
HASHERS = {
    "openssl": "openssl dgst -sha256 -r",
    "sha256sum": "sha256sum",
    "shasum": "shasum -a 256",
}
_SUM = re.compile(rb"\\?([0-9a-f]{64})[ *]")


def time_for(size_bytes: int) -> float:
    """Return the seconds after which a host that reads so many bytes counts as stopped."""
    return _LEAST_TIMEOUT + size_bytes / _SLOWEST


def sha256_of(file: Path | int, is_stopped: Callable[[], bool] = lambda: False) -> str:
    """Return the sum in hexadecimal; empty if ``is_stopped`` returned True meanwhile.

    :param file: a path; or a descriptor, of which all is read.
    :raises OSError: it cannot be read.
    """
    import hashlib  # only a file that is checked needs it

    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK_BYTES)
    view = memoryview(buffer)
    with open(file, "rb", buffering=0, closefd=isinstance(file, Path)) as reading:
        if isinstance(file, int):
            reading.seek(0)
        while count := reading.readinto(buffer):
            if is_stopped():
                return ""
            digest.update(view[:count])
    return digest.hexdigest()


class Hashing:
    """A sum that a thread computes while the file is sent or received."""

    def __init__(self, work: Callable[[], str]) -> None:
        self._work = work
        self._sum = ""
        self._error: BaseException | None = None
        self._thread = start_thread(self._run, name="ringtasks-sha256")

    def result(self) -> str:
        """Return the sum. An exception of the thread is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._sum

    def _run(self) -> None:
        try:
            self._sum = self._work()
        except (OSError, RingtasksError) as error:
            self._error = error


def hashes_on_host(
    ask: Callable[..., SSHResult], folder: str, names: Sequence[str], hasher: str, size_bytes: int
) -> list[str] | str:
    """Return the sums of files in ``folder``, in the order of ``names``; or why there are none.

    :param ask: runs a script on the host, as `HostCopy.answer`.
    :param size_bytes: of all of them, for the time limit.
    """
    listed = b"".join(f"./{name}".encode("utf-8", "surrogateescape") + b"\0" for name in names)
    command = f"cd {quoted_path(folder)} && xargs -0 {HASHERS[hasher]}"
    result = ask(command, time_for(size_bytes), listed)
    if not result.success:
        return result.error or f"{hasher}: {result.stderr.strip()}"
    sums = [
        found[1].decode()
        for line in result.stdout_bytes.splitlines()
        if (found := _SUM.match(line))
    ]
    if len(sums) != len(names):
        return f"{hasher}: {len(sums)} sums for {len(names)} files"
    return sums
