"""A stand-in for Ray: ``ray start`` and ``ray status``, with the token that Ray 2.52 asks for.

It knows the flags, the ports and the output that ringtasks uses, and nothing else.  The real Ray
is for the heavy tests.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["FakeRay"]

_PROGRAM = r"""#!/usr/bin/env python3
import os, pathlib, re, socket, socketserver, subprocess, sys, threading, time

command, *words = sys.argv[1:]
flags = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
token = pathlib.Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
nodes = {"head"}


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        given, name = self.rfile.readline().decode().split()
        if given != token:
            self.wfile.write(b"InvalidAuthToken\n")
            return
        if name != "-":
            nodes.add(name)
        self.wfile.write(b"%d\n" % len(nodes))


def ask(address, name):
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as sock:
        sock.sendall(f"{token} {name}\n".encode())
        return sock.makefile().readline().strip()


if command == "status":
    answer = ask(words[words.index("--address") + 1], "-")
    if not answer.isdigit():
        sys.exit(answer)
    print("Active:")
    for n in range(int(answer)):
        print(" 1 node_%d" % n)
    print("Pending:")
elif command == "start":
    if flags.get("fail") == "worker" and "head" not in flags:
        print("broken")
        sys.exit(3)
    if "leave" in flags:  # a process of another name, without the mark, as Ray's agents are
        subprocess.Popen(["env", "-i", "sleep", flags["leave"]])
    if "head" in flags:
        for port in ("dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port"):
            held = socket.create_server(("127.0.0.1", int(flags[port])))
            globals()[port] = held
        socketserver.ThreadingTCPServer.allow_reuse_address = True
        server = socketserver.ThreadingTCPServer(("", int(flags["port"])), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    elif ask(flags["address"], flags["dashboard-agent-listen-port"]) == "InvalidAuthToken":
        sys.exit("InvalidAuthToken")
    print("started")
    while True:
        time.sleep(60)
"""


class FakeRay:
    """``environ`` is for the hosts that are to have it."""

    def __init__(self, folder: Path, version: str = "2.60.0") -> None:
        program = folder / "bin" / "ray"
        program.parent.mkdir(parents=True)
        program.write_text(_PROGRAM)
        program.chmod(0o755)
        metadata = folder / "lib" / f"ray-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: ray\nVersion: {version}\n")
        self.bin, self.lib = program.parent, metadata.parents[1]

    def environ(self, path: str) -> dict[str, str]:
        return {"PATH": f"{self.bin}:{path}", "PYTHONPATH": str(self.lib)}
