"""Files for ``--outdir``: one for each host and stream, filled as the output arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from ringtasks.common.descriptors import write_all
from ringtasks.common.new_files import open_anew
from ringtasks.errors import UsageError
from ringtasks.fleet import FleetResult, HostResult

from .fleet_report import Report

__all__ = ["FilesReport"]


class FilesReport:
    """Report that writes ``HOST.out`` and ``HOST.err`` below ``folder``, unchanged.

    ``shown`` is a second report, which shows the run as usual.  A file of an earlier run is
    replaced when its host is reached.  A host without output has empty files; a host that was not
    reached has none.  A file that cannot be written is given up, and the run goes on (`check`).

    :raises UsageError: the folder cannot be made.
    """

    def __init__(self, folder: Path, shown: Report) -> None:
        self._folder, self._shown = folder, shown
        self._open: dict[tuple[str, int], BinaryIO] = {}
        self._given_up: dict[tuple[str, int], str] = {}
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
                # A host without output has empty files; other output was written as it arrived.
                self._write(found.host, stream, kept if self.on_output is None else b"")
        with self._lock:
            own = [self._open.pop((found.host, stream), None) for stream in (1, 2)]
        for written in own:
            if written is not None:
                written.close()
        self._shown.arrived(found)

    def finish(self, result: FleetResult) -> None:
        self._shown.finish(result)

    def check(self) -> None:
        """Check that each file was written.

        :raises UsageError: one was given up.
        """
        if self._given_up:
            raise UsageError(f"--outdir: these files are incomplete: {'; '.join(self._lost())}")

    def _lost(self) -> list[str]:
        return [
            f"{self._path(host, stream)}: {why}"
            for (host, stream), why in sorted(self._given_up.items())
        ]

    def _write(self, host: str, stream: int, chunk: bytes) -> None:
        if (host, stream) in self._given_up:
            return
        try:
            write_all(self._file(host, stream).fileno(), chunk)
        except OSError as error:
            self._given_up[host, stream] = error.strerror or str(error)

    def _write_and_show(self, host: str, stream: int, chunk: bytes) -> None:
        self._write(host, stream, chunk)
        if self._shown.on_output is not None:
            self._shown.on_output(host, stream, chunk)

    def _file(self, host: str, stream: int) -> BinaryIO:
        with self._lock:
            if (host, stream) not in self._open:
                self._open[host, stream] = open_anew(self._path(host, stream))
            return self._open[host, stream]

    def _path(self, host: str, stream: int) -> Path:
        kind = "out" if stream == 1 else "err"
        return self._folder / f"{quote(host, safe='@:[]+')}.{kind}"
