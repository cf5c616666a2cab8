"""The same behaviour over a real server and over the fake, on each kind of link."""

from __future__ import annotations

import asyncio
import io
import os
import posixpath
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

import ringtasks
from ringtasks import SSHClient, SSHConfig
from ringtasks.remote.script import encode
from ringtasks.ssh.link import Terminal
from ringtasks.testing import Answer, Call, FakeFleet, fake_fleet
from tests.support.faulty import Wire
from tests.support.sshd import Sshd

AWKWARD = 'it\'s "$HOME" `x` \\ \\\\ !! %s\n\t*?[a]{b,c}~#& é \udcff'


class Host(Protocol):
    """A host for the contract, real or not."""

    client: SSHClient
    top: str
    """An empty folder there."""

    def on(self, command: str, answer: Callable[[Call], Answer]) -> None:
        """Tell the fake the answer to a command that a real host understands by itself."""

    def cut(self) -> None:
        """Break the connections there are; new ones work."""

    def tree(self, path: str) -> dict[str, tuple[int, bytes | None]]:
        """Modes and contents below ``top/path``."""


class RealHost:
    def __init__(self, sshd: Sshd, key: Path, folder: Path, *, use_control_master: bool) -> None:
        self._wire = Wire(sshd.address, sshd.port)
        config = SSHConfig(
            self._wire.address, self._wire.port, sshd.user, str(key), name="box",
            ssh_host_key=sshd.host_public_key, use_control_master=use_control_master,
        )  # fmt: skip
        self.client = SSHClient(config)
        self.top = str(folder)
        folder.mkdir()

    def on(self, command: str, answer: Callable[[Call], Answer]) -> None:
        pass

    def cut(self) -> None:
        self._wire.cut()

    def tree(self, path: str) -> dict[str, tuple[int, bytes | None]]:
        return local_tree(Path(self.top, path))

    def close(self) -> None:
        self.client.close_link()
        self._wire.close()


class FakedHost:
    top = "/far"

    def __init__(self, fleet: FakeFleet) -> None:
        self._host = fleet.add("box")
        self._host.files.make_folder(self.top)
        self.client = SSHClient(SSHConfig("box", name="box"))

    def on(self, command: str, answer: Callable[[Call], Answer]) -> None:
        self._host.on_call(lambda call: call.command == command, answer)

    def cut(self) -> None:
        self._host.down()
        self._host.up()

    def tree(self, path: str) -> dict[str, tuple[int, bytes | None]]:
        files, start = self._host.files, posixpath.normpath(f"{self.top}/{path}") + "/"
        return {
            name[len(start) :]: (files.mode(name), files.get(name))
            for name in sorted([*files, *files.folders])
            if name.startswith(start)
        }


def local_tree(top: Path) -> dict[str, tuple[int, bytes | None]]:
    return {
        str(path.relative_to(top)): (
            stat.S_IMODE(path.stat().st_mode),
            path.read_bytes() if path.is_file() else None,
        )
        for path in sorted(top.rglob("*"))
    }


@pytest.fixture(params=["in process", "control master", "fake"])
def host(
    request: pytest.FixtureRequest, sshd: Sshd, client_key: Path, tmp_path: Path
) -> Iterator[Host]:
    if request.param == "fake":
        with fake_fleet() as fleet:
            yield FakedHost(fleet)
        return
    is_master = request.param == "control master"
    real = RealHost(sshd, client_key, tmp_path / "far", use_control_master=is_master)
    yield real
    real.close()


@pytest.fixture
def near(tmp_path: Path) -> Path:
    folder = tmp_path / "near"
    (folder / "tree" / "sub" / "empty").mkdir(parents=True)
    (folder / "tree" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (folder / "tree" / "run.sh").chmod(0o750)
    (folder / "tree" / "sub" / "data é").write_bytes(bytes(range(256)) * 1000)
    (folder / "tree" / "sub").chmod(0o700)
    return folder


def test_contract_status_and_streams(host: Host) -> None:
    command = "echo out; echo err >&2; exit 3"
    host.on(command, lambda call: Answer("out\n", "err\n", 3))

    result = host.client.run(command)

    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert (result.success, result.error, result.timed_out) == (False, None, False)
    assert (result.host, result.transport_used) == ("box", "direct")
    assert host.client.is_connected()


def test_contract_command_killed_by_a_signal(host: Host) -> None:
    host.on("kill -9 $$", lambda call: Answer(returncode=128 + 9))

    result = host.client.run("kill -9 $$")

    assert (result.returncode, result.error) == (137, None)


@pytest.mark.parametrize("env", [{}, {"V": "x"}], ids=["exec request", "stdin"])
@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_contract_stdin_arrives_whole(host: Host, env: dict[str, str], size: int) -> None:
    sent = os.urandom(size)
    host.on("cat", lambda call: Answer(call.stdin))

    result = host.client.run("cat", stdin=io.BytesIO(sent), env=env)

    assert result.stdout_bytes == sent


def test_contract_big_output_is_complete_or_bounded(host: Host) -> None:
    command = "seq 400000"
    everything = "".join(f"{n}\n" for n in range(1, 400_001))
    host.on(command, lambda call: Answer(everything))
    seen: list[bytes] = []

    host.client.run(command, on_output=lambda stream, chunk: seen.append(chunk))

    assert b"".join(seen).decode() == everything
    assert len(seen) > 1


def test_contract_output_that_is_not_text(host: Host) -> None:
    command = r"printf '\377\000a'; printf '\376' >&2"
    host.on(command, lambda call: Answer(b"\xff\0a", b"\xfe"))

    result = host.client.run(command)

    assert (result.stdout_bytes, result.stderr_bytes) == (b"\xff\0a", b"\xfe")
    assert (result.stdout, result.stderr) == ("\N{REPLACEMENT CHARACTER}\0a", "\ufffd")


def test_contract_a_command_of_any_length(host: Host) -> None:
    command = f": {'x' * 100_000}; echo done"
    host.on(command, lambda call: Answer("done\n"))

    assert host.client.run(command).stdout == "done\n"


def test_contract_environment_and_folder(host: Host, near: Path) -> None:
    host.client.scp_to(near / "tree", f"{host.top}/it's $HOME é")
    host.on('printf %s "$V"', lambda call: Answer(call.env["V"]))
    host.on("pwd", lambda call: Answer(f"{call.cwd}\n"))

    value = host.client.run('printf %s "$V"', env={"V": AWKWARD})
    folder = host.client.run("pwd", cwd=f"{host.top}/it's $HOME é")

    assert value.stdout_bytes == encode(AWKWARD)
    assert folder.stdout == f"{host.top}/it's $HOME é\n"


def test_contract_timeout_ends_a_command(host: Host) -> None:
    command = "echo up; sleep 60"
    host.on(command, lambda call: Answer("up\n", is_hanging=True))
    host.client.run("true")

    result = host.client.run(command, timeout=0.5)

    assert (result.returncode, result.timed_out, result.stdout) == (124, True, "up\n")
    assert result.error == (
        "box: the command's time limit of 0.5 s passed; "
        "the remote processes were terminated (verified); "
        "any that had detached before are not covered"
    )
    assert 500 <= result.elapsed_ms < 5000


def test_contract_a_cancelled_task_ends_the_command(host: Host) -> None:
    mark = f"{host.top}/mark"
    began = f"{host.top}/began"
    command = f"trap 'echo > {mark}; exit' TERM; echo > {began}; while :; do sleep 0.05; done"
    stopped = threading.Event()
    host.on(command, lambda call: Answer(is_hanging=True))
    host.on(f"test -e {began}", lambda call: Answer())
    host.on(f"test -e {mark}", lambda call: Answer(returncode=not stopped.is_set()))

    async def cancelled() -> None:
        task = asyncio.create_task(host.client.run_async(command))
        while not (await host.client.run_async(f"test -e {began}")).success:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    stopped.set()

    deadline = time.monotonic() + 10
    while not host.client.run(f"test -e {mark}").success:
        assert time.monotonic() < deadline
    ringtasks.close_all_clients_sync()


def test_contract_a_terminal(host: Host) -> None:
    command = "echo out; echo err >&2; exit 4"
    host.on(command, lambda call: Answer("out\n", "err\n", 4))

    for env in ({}, {"V": "x"}):
        result = host.client.run(command, env=env, terminal=Terminal("dumb", 80, 24))
        assert (result.stdout, result.stderr) == ("out\r\nerr\r\n", "")
        assert result.returncode == 4


def test_contract_connection_lost_during_a_command(host: Host) -> None:
    command = "echo up; sleep 60"
    host.on(command, lambda call: Answer("up\n", is_hanging=True))
    host.on("echo on", lambda call: Answer("on\n"))
    seen: list[bytes] = []

    def cut_once_it_runs(stream: int, chunk: bytes) -> None:
        seen.append(chunk)
        host.cut()

    result = host.client.run(command, timeout=20, on_output=cut_once_it_runs)

    assert (result.returncode, result.timed_out, seen) == (255, False, [b"up\n"])
    assert str(result.error).startswith("box: outcome unknown: the link over direct was lost")
    assert host.client.run("echo on").stdout == "on\n"
    health = host.client.health
    assert (health.total_failures, health.total_successes) == (1, 1)


def test_contract_a_job_and_its_memory(host: Host) -> None:
    async def start() -> tuple[ringtasks.SSHResult, Any]:
        job = await host.client.run_background("sleep 30", f"{host.top}/log", host.top)
        if isinstance(host, FakedHost):
            host._host.memory[int(job.stdout)] = (1.0, "sleep")
        memory = None
        while memory is None or memory[1] != "sleep":  # at first it is the shell that becomes it
            memory = await host.client.get_process_memory(int(job.stdout))
        return job, memory

    job, memory = asyncio.run(start())

    assert (job.command, job.success, job.stderr) == ("sleep 30", True, "")
    assert re.fullmatch(r"[0-9]+\n", job.stdout)
    assert memory[0] > 0
    assert host.client.run(f"kill {int(job.stdout)}").success


@pytest.mark.parametrize("fresh", [False, True])
def test_contract_connectivity(host: Host, fresh: bool) -> None:
    is_connected, message = asyncio.run(host.client.check_connectivity(fresh=fresh))

    assert is_connected
    assert message.startswith("box: ")
    assert message.endswith(" over direct")


def test_contract_file_is_copied_to_the_host_and_back(host: Host, near: Path) -> None:
    (near / "x").write_bytes(os.urandom(300_000))
    (near / "x").chmod(0o640)

    for _ in range(2):  # the second time it is there already
        assert host.client.scp_to(near / "x", f"{host.top}/y").success
    assert host.client.scp_from(f"{host.top}/y", near / "back").success

    assert host.tree(".") == {"y": (0o640, (near / "x").read_bytes())}
    assert (near / "back").read_bytes() == (near / "x").read_bytes()
    assert stat.S_IMODE((near / "back").stat().st_mode) == 0o640


def test_contract_directory_is_copied_into_a_directory(host: Host, near: Path) -> None:
    assert host.client.scp_to(near / "tree", f"{host.top}/new").success
    assert host.client.scp_to(near / "tree", f"{host.top}/new").success  # into it
    assert host.tree("new") == {
        **local_tree(near / "tree"),
        "tree": (stat.S_IMODE((near / "tree").stat().st_mode), None),
        **{f"tree/{name}": entry for name, entry in local_tree(near / "tree").items()},
    }

    assert host.client.scp_from(f"{host.top}/new/tree", near / "got").success
    assert host.client.scp_from(f"{host.top}/new/tree", near / "got").success
    assert local_tree(near / "got" / "tree") == local_tree(near / "tree")


def test_contract_failed_copies_are_reported(host: Host, near: Path) -> None:
    client, top = host.client, host.top
    client.scp_to(near / "tree", f"{top}/tree")
    file = near / "tree" / "run.sh"

    errors = [
        client.scp_from(f"{top}/missing", near).error,
        client.scp_to(file, f"{top}/no/such").error,
        client.scp_to(file, f"{top}/tree/run.sh/x").error,
        client.scp_to(near / "tree", f"{top}/tree/run.sh").error,
        client.scp_from(f"{top}/tree/run.sh/x", near / "z").error,
    ]

    assert errors == [
        f"box: {top}/missing: No such file",
        f"box: {top}/no/such: No such file",
        f"box: {top}/tree/run.sh/x: No such file",
        f"box: {top}/tree/run.sh: is not a folder",
        f"box: {top}/tree/run.sh/x: No such file",
    ]


SFTP_ERRORS: dict[str, tuple[Callable[[Any, str], Any], type[OSError], str]] = {
    "stat of nothing": (lambda s, top: s.stat(f"{top}/no"), FileNotFoundError, "No such file"),
    "list of nothing": (lambda s, top: s.listdir_attr(f"{top}/no"), FileNotFoundError, "No such"),
    "list of a file": (lambda s, top: s.listdir_attr(f"{top}/f"), FileNotFoundError, "No such"),
    "a folder twice": (lambda s, top: s.mkdir(f"{top}/d"), OSError, "Failure"),
    "a folder in none": (lambda s, top: s.mkdir(f"{top}/no/d"), FileNotFoundError, "No such file"),
    "reading nothing": (lambda s, top: s.open(f"{top}/no", "rb"), FileNotFoundError, "No such"),
    "a file twice": (lambda s, top: s.open(f"{top}/f", "wx"), OSError, "Failure"),
    "writing a folder": (lambda s, top: s.open(f"{top}/d", "wb"), OSError, "Failure"),
    "reading a folder": (lambda s, top: s.open(f"{top}/d", "rb").read(9), OSError, "Failure"),
    "removing a folder": (lambda s, top: s.remove(f"{top}/d"), OSError, "Failure"),
    "removing nothing": (lambda s, top: s.remove(f"{top}/no"), FileNotFoundError, "No such file"),
    "a full folder": (lambda s, top: s.rmdir(f"{top}/d"), OSError, "Failure"),
    "a name that is taken": (lambda s, top: s.rename(f"{top}/f", f"{top}/d/f"), OSError, "Failure"),
    "renaming nothing": (
        lambda s, top: s.posix_rename(f"{top}/no", f"{top}/x"), FileNotFoundError, "No such file",
    ),
    "a file over a folder": (
        lambda s, top: s.posix_rename(f"{top}/f", f"{top}/e"), OSError, "Failure",
    ),
    "a folder over a file": (
        lambda s, top: s.posix_rename(f"{top}/e", f"{top}/f"), FileNotFoundError, "No such file",
    ),
    "a folder over a full one": (
        lambda s, top: s.posix_rename(f"{top}/e", f"{top}/d"), OSError, "Failure",
    ),
    "a mode of nothing": (lambda s, top: s.chmod(f"{top}/no", 0o600), FileNotFoundError, "No such"),
}  # fmt: skip


@pytest.mark.parametrize("name", SFTP_ERRORS)
@pytest.mark.matrix(18)
def test_contract_sftp_errors(host: Host, name: str) -> None:
    operate, expected, said = SFTP_ERRORS[name]
    sftp = host.client.link().open_sftp()
    with sftp.open(f"{host.top}/f", "wb") as file:
        file.write(b"x")
    sftp.mkdir(f"{host.top}/d")
    sftp.mkdir(f"{host.top}/e")
    with sftp.open(f"{host.top}/d/f", "wx"):
        pass

    with pytest.raises(OSError, match=said) as caught:
        operate(sftp, host.top)

    assert type(caught.value) is expected
    assert list(host.tree(".")) == ["d", "d/f", "e", "f"]


def test_contract_sftp_files(host: Host) -> None:
    sftp = host.client.link().open_sftp()
    at = f"{host.top}/f"
    for text in (b"longer than that", b"hello "):
        with sftp.open(at, "wb") as file:
            file.write(text)
    with sftp.open(at, "ab") as file:
        file.write(b"world")
    with sftp.open(at, "r+b") as file:
        file.seek(1)
        file.write(b"E")
        file.seek(6)
        assert (file.read(3), file.read(), file.read()) == (b"wor", b"ld", b"")
    sftp.chmod(at, 0o600)
    sftp.rename(at, f"{host.top}/g")
    for name in ("d", "d/sub", "e"):
        sftp.mkdir(f"{host.top}/{name}")
    sftp.posix_rename(f"{host.top}/d", f"{host.top}/e")

    found = sftp.stat(f"{host.top}/e/../g")

    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (11, 0o600)
    assert sftp.open(f"{host.top}/g", "rb").read() == b"hEllo world"
    assert sorted(sftp.listdir(host.top)) == ["e", "g"]
    assert sftp.listdir(f"{host.top}/e") == ["sub"]
    assert sftp.normalize(f"{host.top}/./e/..") == host.top
    sftp.rmdir(f"{host.top}/e/sub")
    sftp.rmdir(f"{host.top}/e")
    sftp.remove(f"{host.top}/g")
    assert sftp.listdir(host.top) == []
    sftp.close()
    with pytest.raises(OSError, match="Socket is closed"):
        sftp.stat(host.top)
