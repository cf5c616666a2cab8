"""Print the versions of Ray and Python, and a free port for each name.  Needs Ray, no ringtasks.

The argument is JSON: for each name a port (0: any) and whether it must be that one.  The answer is
JSON too: ``ray``, ``python``, ``ports``, and ``taken``, the reasons for ports that are in use.
"""

from __future__ import annotations

import json
import platform
import socket
import sys
from importlib.metadata import version


def main() -> None:
    held: list[socket.socket] = []
    ports, taken = {}, {}
    for name, (port, is_required) in json.loads(sys.argv[1]).items():
        try:
            ports[name] = take(port, held)
        except OSError as error:
            if is_required:
                taken[name] = str(error)
            else:
                ports[name] = take(0, held)
    versions = {"ray": version("ray"), "python": platform.python_version()}
    print(json.dumps({**versions, "ports": ports, "taken": taken}))


def take(port: int, held: list[socket.socket]) -> int:
    """Return a port that this process has now; its socket is added to ``held``.

    It listens: a socket that is bound only still lets another program bind with SO_REUSEADDR.  With
    that option, a port that was used a moment ago is not in use.

    :raises OSError: it is in use.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", port))
    sock.listen(1)
    held.append(sock)
    return int(sock.getsockname()[1])


if __name__ == "__main__":
    main()
