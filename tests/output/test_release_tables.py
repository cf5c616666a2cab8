"""Tables on terminals of 60, 80 and 200 columns, recorded: no cell is cut, no id is broken."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

_ID = "20261123T141500Z-1a2b3c4d5e6f-9f31"
_REMARK = "most hosts are on 1a2b3c4d5e6f; locked by ann on laptop for 12 s"
_TABLES = {
    "releases": (
        ["host", "release", "revision", "when", "by", "state"],
        ["runpod-h100", _ID, "1a2b3c4d5e6f", "2026-11-23T14:15:00Z", "ann@laptop", "good, current"],
    ),
    "status": (
        ["host", "release", "revision", "since", "by", "remarks"],
        ["web1", _ID, "1a2b3c4d5e6f", "2026-11-23T14:15:00Z", "ann@laptop", _REMARK],
    ),
    "dry run": (
        ["host", "route", "from", "to", "would remove", "problem"],
        ["web1", "direct", _ID, _ID.replace("9f31", "0000"), f"{_ID}, {_ID}", ""],
    ),
    "jobs": (
        ["job", "name", "host", "state", "started", "command"],
        ["20261123-141500-9f31", "train", "web1", "running", "2026-11-23 14:15", "python3 t.py"],
    ),
}


@pytest.mark.parametrize("width", [60, 80, 200])
def test_releases_table_shows_each_cell_whole_in_a_terminal(width: int) -> None:
    recorded = _recorded(width).split("====")[1:]

    for (columns, row), shown in zip(_TABLES.values(), recorded, strict=True):
        for column, cell in zip(columns, row, strict=True):
            if column in ("host", "release", "revision", "job", "state", "from", "to"):
                assert cell in shown
        assert "…" not in shown
        letters = re.sub(r"\s", "", shown)
        assert all(word[:6] in letters for cell in row for word in cell.split())


def _recorded(width: int) -> str:
    """Return the text that a terminal of this width gets; each table after ====."""
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    code = "from ringtasks.output.tables import table\n" + "".join(
        f"print('====')\ntable({columns!r}, [{row!r}])\n" for columns, row in _TABLES.values()
    )
    environ = {n: v for n, v in os.environ.items() if n not in ("COLUMNS", "NO_COLOR")}
    subprocess.run(
        [sys.executable, "-c", code],
        stdin=writing,
        stdout=writing,
        stderr=writing,
        env={**environ, "TERM": "dumb"},
        check=True,
        timeout=30,
    )
    os.close(writing)
    text = b""
    while True:
        try:
            text += os.read(reading, 65536)
        except OSError:  # EIO: the other side is closed
            break
    os.close(reading)
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).replace("\r\n", "\n")
