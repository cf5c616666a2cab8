"""macOS and the BSDs refuse a connection if a control master's backlog is full."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

_PROGRAM = """
    import socket, sys, threading, time
    sys.platform = sys.argv[2]
    from ringtasks.ssh.master.control import Control, MasterGoneError
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])  # without a backlog, connections are refused
    began = time.monotonic()
    if sys.argv[3] == "later":
        threading.Timer(0.1, listener.listen).start()
    try:
        Control.connect(sys.argv[1], 5)
        print("connected")
    except MasterGoneError:
        print("gone")
    assert time.monotonic() - began < 4
"""


def connect(folder: Path, platform: str, listens: str) -> str:
    argv = [sys.executable, "-c", textwrap.dedent(_PROGRAM), folder / "socket", platform, listens]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout


def test_refused_connection_is_repeated_where_a_full_backlog_refuses(tmp_path: Path) -> None:
    (tmp_path / "never").mkdir()
    (tmp_path / "linux").mkdir()

    assert connect(tmp_path, "darwin", "later") == "connected\n"
    assert connect(tmp_path / "never", "darwin", "never") == "gone\n"
    assert connect(tmp_path / "linux", "linux", "later") == "gone\n"
