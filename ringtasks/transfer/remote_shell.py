"""Stand in for ssh as rsync's remote shell: hand streams and arguments to ringtasks.

It runs as a program of its own, without the package and without ``site``, so that it costs a few
milliseconds; `rsync_session` is the other side.  The first argument is the number of the socket to
ringtasks.  The bytes do not pass through it: the receiver of the descriptors reads and writes them.

It ends at once.  rsync waits for the end of its remote shell in steps of 20 ms, after the host's
rsync has ended; the session's exit status is known to ringtasks.
"""

import _socket
import os
import sys

SOL_SOCKET, SCM_RIGHTS = _socket.SOL_SOCKET, _socket.SCM_RIGHTS


def main() -> None:
    """Hand over the streams, which rsync sees the end of when the other side closes them."""
    channel = _socket.socket(fileno=int(sys.argv[1]))
    arguments = b"\0".join(map(os.fsencode, sys.argv[2:]))
    streams = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in (0, 1))
    # A stream socket keeps no message boundaries, so the length goes first.
    message = len(arguments).to_bytes(4, "big") + arguments
    sent = channel.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, streams)])
    channel.sendall(message[sent:])


if __name__ == "__main__":
    main()
    os._exit(0)  # nothing is left to flush
