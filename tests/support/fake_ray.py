"""A stand-in for Ray: ``ray start``, ``ray status``, the token of Ray 2.52, and its job API.

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
token = os.environ.get("RAY_AUTH_TOKEN")
token = token or pathlib.Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
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
        session = pathlib.Path(flags["temp-dir"], "session")
        session.mkdir(parents=True)
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


_JOB_API = r'''
import asyncio, enum, os, pathlib, signal, subprocess, types

RUN = """echo $$ >$0/pid; ( eval "$1" ) >$0/log 2>&1; echo $? >$0/ended"""


class Status(enum.Enum):
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    def is_terminal(self):
        return self is not Status.RUNNING


class JobSubmissionClient:
    def __init__(self, address):
        if os.environ.get("RAY_ADDRESS"):
            raise RuntimeError("another cluster: " + os.environ["RAY_ADDRESS"])
        token = pathlib.Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        token.read_text()
        self.jobs = token.parent / "jobs"

    def submit_job(self, entrypoint, submission_id, runtime_env):
        folder = self.jobs / submission_id
        folder.mkdir(parents=True)
        cwd = folder / "work"
        subprocess.run(["cp", "-r", runtime_env.get("working_dir", "/var/empty"), cwd])
        cwd.mkdir(exist_ok=True)
        subprocess.Popen(
            ["sh", "-c", RUN, folder, entrypoint], cwd=cwd, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, **runtime_env["env_vars"]},
        )
        if "lose the answer" in entrypoint:
            raise RuntimeError("connection reset")

    def get_job_info(self, job):
        if not (self.jobs / job).is_dir():
            raise RuntimeError("Request failed with status code 404: does not exist")
        if (self.jobs / job / "stopped").exists():
            return types.SimpleNamespace(status=Status.STOPPED, message="on purpose")
        try:
            code = (self.jobs / job / "ended").read_text().strip()
        except FileNotFoundError:
            return types.SimpleNamespace(status=Status.RUNNING, message=None)
        status = Status.FAILED if code != "0" else Status.SUCCEEDED
        return types.SimpleNamespace(status=status, message=f"exit code {code}\nand its log")

    def stop_job(self, job):
        (self.jobs / job / "stopped").touch()
        os.killpg(int((self.jobs / job / "pid").read_text()), signal.SIGKILL)

    async def tail_job_logs(self, job):
        at = 0
        while True:
            is_over = self.get_job_info(job).status.is_terminal()
            log = self.jobs / job / "log"
            text = log.read_text()[at:] if log.exists() else ""
            at += len(text)
            if text:
                yield text
            elif is_over:
                return
            await asyncio.sleep(0.05)
'''


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
        package = metadata.parents[1] / "ray"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "job_submission.py").write_text(_JOB_API)
        self.bin, self.lib = program.parent, metadata.parents[1]
        self.temp = folder / "tmp"  # with the folders for the sessions of clusters
        self.temp.mkdir()

    def environ(self, path: str) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:{path}",
            "PYTHONPATH": str(self.lib),
            "TMPDIR": str(self.temp),
        }
