"""A small real service under a tiny supervisor, as a host would run it.

``python service.py supervise ROOT PORT`` listens, and starts ``ROOT/current/serve.py`` on that
socket; at HUP it starts the release that is current by then, and ends the old one when the new one
answers: nobody is turned away.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

__all__ = ["SERVE", "Service"]

#: What a release has to have. Its two parts tell whether it is whole. There are many of these
#: processes, so it imports little: http.server takes longer to import than to serve.
SERVE = """\
import os, pathlib, signal, socket, sys
here = pathlib.Path(__file__).resolve().parent
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
            body = b"/".join((here / part).read_bytes().strip() for part in ("one", "two"))
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
        arguments = [sys.executable, "-IS", __file__, "supervise", str(root), str(self.port)]
        self._process = subprocess.Popen(arguments, start_new_session=True)
        (root / "shared" / "pid").write_text(str(self._process.pid))
        (root / "shared" / "port").write_text(str(self.port))

    def get(self) -> str:
        """What it answers.

        :raises urllib.error.URLError: nothing good.
        """
        import urllib.request  # not at the top: the supervisors are processes of this file

        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10) as answer:
            return str(answer.read().decode())

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _supervise(root: Path, port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    listener.setblocking(False)  # two releases accept from it for a moment
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    child: subprocess.Popen[bytes] | None = None
    while True:
        program = root / "current" / "serve.py"
        if program.exists():
            child = _replaced(child, program.resolve(), listener)
        signal.sigwait([signal.SIGHUP])


def _replaced(
    old: subprocess.Popen[bytes] | None, program: Path, listener: socket.socket
) -> subprocess.Popen[bytes]:
    reader, writer = os.pipe()
    arguments = [sys.executable, "-IS", str(program), str(listener.fileno()), str(writer)]
    new = subprocess.Popen(arguments, pass_fds=[listener.fileno(), writer])
    os.close(writer)
    is_ready = os.read(reader, 1)
    os.close(reader)
    if old is not None and is_ready:
        old.terminate()
        old.wait()
    return new


if __name__ == "__main__":
    _supervise(Path(sys.argv[2]), int(sys.argv[3]))
