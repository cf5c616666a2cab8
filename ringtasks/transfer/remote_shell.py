"""Stand in for ssh as rsync's remote shell: hand streams and arguments to ringtasks, and wait.

It runs as a program of its own, without the package and without ``site``, so that it costs a few
milliseconds; `rsync_session` is the other side.  The first argument is the number of the socket to
ringtasks.  The bytes do not pass through it: the receiver of the descriptors reads and writes them.
"""

import _socket
import os
import sys

SOL_SOCKET, SCM_RIGHTS = _socket.SOL_SOCKET, _socket.SCM_RIGHTS


def main() -> int:
    """Return the exit status from ringtasks; 255, as ssh's, if there is none."""
    channel = _socket.socket(fileno=int(sys.argv[1]))
    arguments = b"\0".join(map(os.fsencode, sys.argv[2:]))
    streams = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in (0, 1))
    # A stream socket keeps no message boundaries, so the length goes first.
    message = len(arguments).to_bytes(4, "big") + arguments
    sent = channel.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, streams)])
    channel.sendall(message[sent:])
    for descriptor in (0, 1):  # rsync is to see their end when the others close them
        os.close(descriptor)
    status = channel.recv(1)
    return status[0] if status else 255


if __name__ == "__main__":
    os._exit(main())  # nothing is left to flush
