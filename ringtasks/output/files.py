"""Files for ``--outdir``: one for each host and stream, filled as the output arrives."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from ringtasks.common.new_files import open_anew
from ringtasks.errors import UsageError

from .fleet_report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringtasks.fleet import FleetResult, HostResult

__all__ = ["FilesReport"]


class FilesReport:
    """Report that writes ``HOST.out`` and ``HOST.err`` below ``folder``, unchanged.

    ``shown`` is a second report, which shows the run as usual.  A file of an earlier run is
    replaced when its host is reached.  A host without output has empty files; a host that was not
    reached has none.

    :raises UsageError: the folder cannot be made.
    """

    def __init__(self, folder: Path, shown: Report) -> None:
        self._folder, self._shown = folder, shown
        self._open: dict[tuple[str, int], BinaryIO] = {}
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--outdir: {folder}: {error.strerror}") from error

    @property
    def on_output(self) -> Callable[[str, int, bytes], None] | None:
        return None if self._shown.on_output is None else self._write_and_show

    def arrived(self, found: HostResult) -> None:
        if found.result.transport_used is not None:
            for stream, kept in ((1, found.result.stdout_bytes), (2, found.result.stderr_bytes)):
                file = self._file(found.host, stream)  # a host without output has empty files
                if self.on_output is None:  # otherwise it was written as it arrived
                    file.write(kept)
        with self._lock:
            own = [self._open.pop((found.host, stream), None) for stream in (1, 2)]
        for written in own:
            if written is not None:
                written.close()
        self._shown.arrived(found)

    def finish(self, result: FleetResult) -> None:
        self._shown.finish(result)

    def _write_and_show(self, host: str, stream: int, chunk: bytes) -> None:
        self._file(host, stream).write(chunk)
        if self._shown.on_output is not None:
            self._shown.on_output(host, stream, chunk)

    def _file(self, host: str, stream: int) -> BinaryIO:
        with self._lock:
            if (host, stream) not in self._open:
                kind = "out" if stream == 1 else "err"
                path = self._folder / f"{quote(host, safe='@:[]+')}.{kind}"
                self._open[host, stream] = open_anew(path)
            return self._open[host, stream]
