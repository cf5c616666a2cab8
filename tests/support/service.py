"""A small real service under a tiny supervisor, as a host would run it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.support import supervisor

__all__ = ["SERVE", "Service"]

#: What a release has to have. Its two parts tell whether it is whole. There are many of these
#: processes, so it imports little: http.server takes longer to import than to serve.
SERVE = """\
import os, signal, socket, sys
here = os.path.dirname(os.path.realpath(__file__))
listener = socket.socket(fileno=int(sys.argv[1]))
is_over = False
def end(*_):
    global is_over
    is_over = True
signal.signal(signal.SIGTERM, end)
waker, woken = os.pipe()
os.set_blocking(woken, False)
signal.set_wakeup_fd(woken)
os.write(int(sys.argv[2]), b"1")
import select
while not is_over:
    select.select([listener, waker], [], [])
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        continue
    with connection:
        connection.settimeout(5)
        request = b""
        try:
            while b"\\r\\n\\r\\n" not in request:
                received = connection.recv(65536)
                if not received:
                    break
                request += received
            parts = [open(os.path.join(here, part), "rb") for part in ("one", "two")]
            body = b"/".join(part.read().strip() for part in parts)
            status = b"500 Bad" if body.startswith(b"bad") else b"200 OK"
            head = b"HTTP/1.0 %s\\r\\nContent-Length: %d\\r\\n\\r\\n" % (status, len(body))
            connection.sendall(head + body)
        except OSError:
            pass
"""


class Service:
    """The supervisor of one host.

    :param root: the host's deploy path.
    """

    def __init__(self, root: Path) -> None:
        (root / "shared").mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        arguments = [sys.executable, "-IS", supervisor.__file__, str(root), str(self.port)]
        self._process = subprocess.Popen(arguments, start_new_session=True)
        (root / "shared" / "pid").write_text(str(self._process.pid))
        (root / "shared" / "port").write_text(str(self.port))

    def get(self) -> str:
        """Return its answer.

        :raises urllib.error.URLError: nothing good.
        """
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10) as answer:
            return str(answer.read().decode())

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
