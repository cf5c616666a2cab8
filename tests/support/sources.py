"""Stand-ins for the programs and HTTP APIs of rental services, which record how they are called."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["Api", "Programs", "serve_api"]


class Programs:
    """Programs in a folder of their own, which is first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def install(self, name: str, body: str) -> Path:
        """Write a program: a shell script that records its arguments, then does ``body``."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {self.folder}/{name}.calls\n{body}\n')
        path.chmod(0o755)
        return path

    def prints(self, name: str, value: Any, *, arguments: str = "*") -> Path:
        """Write a program that prints a value as JSON if its arguments match a shell's pattern."""
        answer = self.folder / f"{name}.json"
        answer.write_text(value if isinstance(value, str) else json.dumps(value))
        body = f'case "$*" in {arguments}) cat {answer};; *) exit 2;; esac'
        return self.install(name, body)

    def calls(self, name: str) -> list[str]:
        """Return the arguments of each call."""
        file = self.folder / f"{name}.calls"
        return file.read_text().splitlines() if file.exists() else []


class Api:
    """An HTTP server on loopback.

    :ivar answers: by path without the query: status and body; a list is one answer for each call.
    :ivar requests: path and headers of each request.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    def answer(self, path: str) -> tuple[int, bytes]:
        """Return the status and the body for a path with its query."""
        found = self.answers.get(path.partition("?")[0], (404, {"error": "no such path"}))
        status, body = found.pop(0) if isinstance(found, list) else found
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()


@contextmanager
def serve_api() -> Iterator[Api]:
    """Serve an `Api` during the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.requests.append((self.path, dict(self.headers)))
            status, body = api.answer(self.path)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", body.decode())
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api = Api(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
