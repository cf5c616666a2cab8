"""Listen on this host for the other hosts of a run, or connect to the one that listens.

``listen WORD PORT…`` listens on the first port that is free, prints ``port PORT ADDRESS``, gives
each client the word, and prints ``met ADDRESS LOCAL_ADDRESS INTERFACE`` until its stdin ends.
``connect WORD PORT ADDRESS…`` prints ``reached ADDRESS LOCAL_ADDRESS INTERFACE`` for each address
that gives the word.  This file goes to the hosts alone: it needs only Python 3.8.
"""

from __future__ import annotations

import select
import socket
import struct
import sys

# netdevice(7), of Linux; elsewhere no interface is printed, and none is needed.
SIOCGIFADDR = 0x8915
TIMEOUT = 5.0


def main() -> None:
    action, word, *rest = sys.argv[1:]
    if action == "listen":
        listen(word, [int(port) for port in rest])
    else:
        for address in rest[1:]:
            connect(word, int(rest[0]), address)


def listen(word: str, ports: list[int]) -> None:
    server = first_free(ports)
    print("port", server.getsockname()[1], own_address(), flush=True)
    while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
        peer = server.accept()[0]
        with peer:
            peer.settimeout(TIMEOUT)
            try:
                (address,) = peer.recv(256).decode().split()
                peer.sendall(word.encode())
                peer.recv(1)
            except (OSError, ValueError):  # a stranger
                continue
            report("met", address, peer)


def first_free(ports: list[int]) -> socket.socket:
    for port in ports:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("", port))
            server.listen(64)
            return server
        except OSError as error:
            server.close()
            why = f"port {port}: {error}"
    sys.exit(why)


def connect(word: str, port: int, address: str) -> None:
    try:
        with socket.create_connection((address, port), TIMEOUT) as sock:
            sock.settimeout(TIMEOUT)
            sock.sendall(address.encode())
            if sock.recv(64).decode() == word:
                report("reached", address, sock)
    except (OSError, UnicodeDecodeError):
        pass


def report(event: str, address: str, sock: socket.socket) -> None:
    local = sock.getsockname()[0]
    print(event, address, local, interface(local), flush=True)


def own_address() -> str:
    """Return the address of the default route: a connected datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return "-"
        return str(sock.getsockname()[0])


def interface(address: str) -> str:
    """Return the name of the interface that has the address; ``-``: not known."""
    names = [name for _, name in socket.if_nameindex()]
    if address.startswith("127."):
        return next((name for name in names if name.startswith("lo")), "-")
    for name in names:
        try:
            import fcntl

            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                request = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(sock.fileno(), SIOCGIFADDR, request)
        except (ImportError, OSError):
            continue
        if socket.inet_ntoa(answer[20:24]) == address:
            return name
    return "-"


if __name__ == "__main__":
    main()
