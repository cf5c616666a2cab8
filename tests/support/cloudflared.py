"""A stand-in for ``cloudflared access ssh``: the real program needs Cloudflare's edge.

It behaves as the real one does (2026.8.2, and with ``old`` as before 2025.4.0): silent on success;
on failure one line on stderr, a JSON line in the log file and exit status 1, or before 2025.4.0
nothing and 0; usage on stdout with status 0; it hangs on a silent edge.  Each start is recorded
with its arguments and environment, so that a test proves where the secret went.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["Cloudflared"]

_PROGRAM = """#!{python}
import sys
sys.path.insert(0, {root!r})
from tests.support.cloudflared import main
main({folder!r})
"""

_FAILURES = {
    "bad_token": "failed to generate app token file path: open /dev/null/.cloudflared: "
    "not a directory",
    "bad_handshake": "websocket: bad handshake",
    "refused": "dial tcp 198.51.100.1:443: connect: connection refused",
}


class Cloudflared:
    """The installed stand-in: what it serves, and what it was started with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._edges: dict[str, dict[str, Any]] = {}
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        root = str(Path(__file__).parents[2])
        program = self.bin / "cloudflared"
        program.write_text(_PROGRAM.format(python=sys.executable, root=root, folder=str(folder)))
        program.chmod(0o755)

    def serve(
        self,
        hostname: str,
        address: str,
        port: int,
        *,
        mode: str = "ok",
        token: tuple[str, str] | None = None,
        old: bool = False,
    ) -> None:
        """Let ``hostname`` lead to a TCP address.

        :param mode: ``ok``, ``silent``, ``cut``, or a key of the failures above.
        :param token: the service token (id, secret) that is asked for.
        :param old: as before 2025.4.0.
        """
        edge = {"address": address, "port": port, "mode": mode, "token": token, "old": old}
        self._edges[hostname] = edge
        (self._folder / "edges.json").write_text(json.dumps(self._edges))

    @property
    def starts(self) -> list[dict[str, Any]]:
        """``argv``, ``environ`` and ``pid`` of each start so far."""
        record = self._folder / "starts"
        return (
            [json.loads(line) for line in record.read_text().splitlines()]
            if record.exists()
            else []
        )

    def running(self) -> list[int]:
        """Which of them are still there."""
        return [start["pid"] for start in self.starts if Path(f"/proc/{start['pid']}").exists()]


def main(folder_name: str) -> None:
    """The program itself."""
    folder = Path(folder_name)
    start = {"argv": sys.argv, "environ": dict(os.environ), "pid": os.getpid()}
    with (folder / "starts").open("a") as record:
        record.write(json.dumps(start) + "\n")
    options = _options(sys.argv[1:])
    if options is None:
        print("NAME:\n   cloudflared access ssh - ")
        raise SystemExit(0)
    edge = json.loads((folder / "edges.json").read_text()).get(options["--hostname"])
    if edge is None:
        _fail(options, f"dial tcp: lookup {options['--hostname']}: no such host", old=False)
    wanted = edge["token"]
    given = [os.environ.get(f"TUNNEL_SERVICE_TOKEN_{part}") for part in ("ID", "SECRET")]
    if edge["mode"] == "silent":
        _hang()
    if wanted is not None and given != wanted:
        _fail(options, _FAILURES["bad_token"], old=edge["old"])
    if edge["mode"] in _FAILURES:
        _fail(options, _FAILURES[edge["mode"]], old=edge["old"])
    if edge["mode"] == "cut":
        raise SystemExit(0)
    _carry(edge["address"], edge["port"])


def _options(arguments: list[str]) -> dict[str, str] | None:
    if arguments[:2] not in (["access", "ssh"], ["access", "tcp"]):
        return None
    rest = arguments[2:]
    options = dict(zip(rest[::2], rest[1::2], strict=False))
    known = {"--hostname", "--logfile", "--log-level"}
    return options if options.get("--hostname") and set(options) <= known else None


def _fail(options: dict[str, str], error: str, *, old: bool) -> None:
    if "--logfile" in options:
        entry = {"level": "error", "error": error, "message": "failed to connect to origin"}
        with Path(options["--logfile"]).open("a") as log:
            log.write(json.dumps(entry) + "\n")
    if not old:
        print(error, file=sys.stderr)
    raise SystemExit(0 if old else 1)


def _hang() -> None:
    import signal

    while True:
        signal.pause()  # it does not read its stdin while it connects


def _carry(address: str, port: int) -> None:
    import select
    import socket

    with socket.create_connection((address, port), timeout=5) as there:
        there.settimeout(None)
        while True:
            ready, _, _ = select.select([0, there], [], [])
            if 0 in ready:
                piece = os.read(0, 16384)
                if not piece:
                    return  # no half-close: it leaves at once
                there.sendall(piece)
            if there in ready:
                piece = there.recv(16384)
                if not piece:
                    return
                while piece:
                    piece = piece[os.write(1, piece) :]
