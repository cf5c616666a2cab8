"""The fixtures that tests share, each once.

One host is made in three layers: ``server``, ``config``, ``client``.  A test module that needs
another kind of a layer assigns it, and the layers above it follow:

    server = own_server               # a server that only this test logs in to
    over_master = use_control_master  # each test runs over both kinds of link
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from ringtasks import SSHClient, SSHConfig
from ringtasks.ssh.master import processes
from tests.support.boxes import Box, boxes, fields_of
from tests.support.cloudflared import Cloudflared
from tests.support.deploys import Fleet
from tests.support.inv_program import InvProgram
from tests.support.jobs import JobHost, end_jobs
from tests.support.nvidia import Gpus
from tests.support.sources import Api, Programs, serve_api
from tests.support.sshd import Sshd, make_key
from tests.support.training import WriteSettings, settings_in
from tests.support.watched import Watched

ROOT = Path(__file__).parents[2]

Inv = Callable[..., "subprocess.CompletedProcess[bytes]"]
Start = Callable[..., Any]
Ringtasks = Callable[..., "subprocess.CompletedProcess[str]"]
MakeSshd = Callable[..., Sshd]
Require = Callable[[str], None]
WriteHosts = Callable[..., Path]
WrapSSH = Callable[[str], None]

_LEAKY = (
    "RINGTASKS_",
    "INVOKE_",
    "FABRIC_",
    "TUNNEL_",
    "CF_",
    "GITHUB_",
    "SSH_",
    "RUNPOD_",
    "VAST_",
    "LAMBDA_",
)


@pytest.fixture(autouse=True)
def clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home of its own for each test; no agent, no proxy, no settings of the real user."""
    home = tmp_path / "own-home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(_LEAKY) or name.lower().endswith("_proxy") or name == "CI":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TERM", "dumb")
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)  # Fabric reads it; pytest's refuses to be read
        yield


@pytest.fixture(autouse=True)
def own_masters(clean_surroundings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder for control masters of the test's own; they are ended with it."""
    runtime = Path(tempfile.mkdtemp(prefix="rt-"))  # shorter than tmp_path: sockets live there
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    yield
    if (runtime / "ringtasks").exists():
        for pid, _ in processes.masters_in(runtime / "ringtasks"):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture(scope="session")
def require() -> Require:
    """Skips a test whose program is missing."""

    def check(program: str) -> None:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: install it")

    return check


@pytest.fixture(scope="session")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("client") / "id_ed25519")


@pytest.fixture(scope="session")
def sshd(client_key: Path) -> Iterator[Sshd]:
    """One server at four addresses, which may stand for one host or for several."""
    with Sshd(client_key, addresses=[f"127.0.0.{n}" for n in range(1, 5)]) as server:
        yield server


@pytest.fixture
def make_sshd(client_key: Path) -> Iterator[MakeSshd]:
    """Makes servers that are stopped when the test ends."""
    servers: list[Sshd] = []

    def make(authorized: Path | None = client_key, **options: Any) -> Sshd:
        servers.append(Sshd(authorized, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def make_container(make_sshd: MakeSshd, tmp_path: Path) -> MakeSshd:
    """Makes servers with process ids of their own, which end with them."""
    program = tmp_path / "container"
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    program.write_text(
        f'#!/bin/sh\nexec unshare --pid --fork --kill-child --mount-proc {sshd} "$@"\n'
    )
    program.chmod(0o755)
    return partial(make_sshd, program=program)


@pytest.fixture
def server(sshd: Sshd) -> Sshd:
    """The server that `config` leads to."""
    return sshd


@pytest.fixture
def own_server(make_sshd: MakeSshd) -> Iterator[Sshd]:
    """A server with a home of its own; the jobs that were started there are ended."""
    server = make_sshd()
    yield server
    end_jobs(server.home)


@pytest.fixture
def gpus(tmp_path: Path) -> Gpus:
    """A stand-in for nvidia-smi that shows eight GPUs."""
    return Gpus(tmp_path / "gpus", count=8)


@pytest.fixture
def gpu_server(make_sshd: MakeSshd, gpus: Gpus) -> Iterator[Sshd]:
    """An `own_server` that has ``gpus``."""
    server = make_sshd(environ={"PATH": f"{gpus.bin}:{os.environ['PATH']}"})
    yield server
    end_jobs(server.home)


@pytest.fixture
def over_master() -> bool:
    """Whether `config` asks for a control master, as it does by default."""
    return True


@pytest.fixture
def in_process() -> bool:
    """For ``over_master``: Paramiko's link."""
    return False


@pytest.fixture(params=[False, True], ids=["in process", "control master"])
def use_control_master(request: pytest.FixtureRequest) -> bool:
    """Both kinds of link in turn, for ``over_master`` or by itself."""
    is_used: bool = request.param
    return is_used


@pytest.fixture
def config(server: Sshd, client_key: Path, over_master: bool) -> SSHConfig:
    return SSHConfig(
        server.address,
        server.port,
        server.user,
        str(client_key),
        name="box",
        use_control_master=over_master,
    )


@pytest.fixture
def client(config: SSHConfig) -> Iterator[SSHClient]:
    with SSHClient(config) as client:
        yield client


@pytest.fixture
def near(tmp_path: Path) -> Path:
    """A folder of this machine, in tests that copy."""
    folder = tmp_path / "near"
    folder.mkdir()
    return folder


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """A folder of the host, in tests that copy; the server runs on this machine."""
    folder = tmp_path / "far's folder"
    folder.mkdir()
    return folder


@pytest.fixture
def job_host(server: Sshd, client: SSHClient) -> JobHost:
    return JobHost(server.home, client)


@pytest.fixture
def cloudflared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloudflared:
    """The stand-in, first on PATH."""
    installed = Cloudflared(tmp_path / "cloudflared")
    monkeypatch.setenv("PATH", f"{installed.bin}:{os.environ['PATH']}")
    return installed


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Stand-ins for the programs of rental services, first on PATH; none is there at first."""
    made = Programs(tmp_path / "programs")
    usual = [
        folder
        for folder in os.environ["PATH"].split(":")
        if not any(Path(folder, name).exists() for name in ("tailscale", "runpodctl", "vastai"))
    ]
    monkeypatch.setenv("PATH", ":".join([str(made.folder), *usual]))
    return made


@pytest.fixture
def wrap_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WrapSSH:
    """Puts a shell script in the place of ``ssh``, which it can run as ``$ssh``."""

    def wrap(script: str) -> None:
        wrapper = tmp_path / "bin" / "ssh"
        wrapper.parent.mkdir()
        wrapper.write_text(f"#!/bin/sh\nssh={shutil.which('ssh')}\n{script}\n")
        wrapper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")

    return wrap


@pytest.fixture
def api() -> Iterator[Api]:
    """A stand-in for the HTTP APIs of rental services."""
    with serve_api() as served:
        yield served


@pytest.fixture
def write_hosts(tmp_path: Path, sshd: Sshd, client_key: Path) -> WriteHosts:
    """Writes ``hosts/hosts.yaml`` in the test's folder; fields not given lead to `sshd`."""

    def write(**hosts: dict[str, Any]) -> Path:
        common = {
            "ssh_host": sshd.address,
            "ssh_port": sshd.port,
            "ssh_user": sshd.user,
            "ssh_key": str(client_key),
            "use_control_master": False,
        }
        filled = {
            name.replace("_", "-"): {
                key: value for key, value in {**common, **own}.items() if value is not None
            }
            for name, own in hosts.items()
        }
        path = tmp_path / "hosts" / "hosts.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"hosts": filled}, sort_keys=False))
        return path

    return write


@pytest.fixture
def two_boxes(client_key: Path, write_hosts: WriteHosts) -> Iterator[dict[str, Box]]:
    """Two machines of their own, ``a`` and ``b``, which are the hosts of the inventory."""
    with boxes(client_key, "a", "b") as made:
        write_hosts(**fields_of(made))
        yield made


@pytest.fixture(scope="session")
def inv_program() -> Iterator[InvProgram]:
    """Runs ``inv`` without the time that Python and Invoke take to start."""
    program = InvProgram()
    yield program
    program.close()


@pytest.fixture
def inv(tmp_path: Path, inv_program: InvProgram) -> Inv:
    """Runs the real program in a process of its own, in the test's folder."""
    shutil.copy(ROOT / "tasks.py", tmp_path)

    def run(
        *arguments: str, stdin: bytes = b"", timeout: float = 30, **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        env = {**os.environ, **environ}
        return inv_program.run(arguments, cwd=tmp_path, env=env, stdin=stdin, timeout=timeout)

    return run


@pytest.fixture
def start(tmp_path: Path, inv: Inv, inv_program: InvProgram) -> Start:
    """Starts ``inv`` in the test's folder, with the options of `subprocess.Popen`."""

    def started(*arguments: str, **options: Any) -> Any:
        return inv_program.start(["inv", *arguments], cwd=tmp_path, **options)

    return started


@pytest.fixture
def ringtasks(inv_program: InvProgram) -> Ringtasks:
    """Runs ``ringtasks`` in the current folder, unless an option is another ``cwd``."""

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return inv_program.call(["ringtasks", *arguments], text=True, **options)

    return run


@pytest.fixture
def write_settings(tmp_path: Path) -> WriteSettings:
    """Writes ``invoke.yaml`` with settings of a training run."""
    return settings_in(tmp_path)


@pytest.fixture
def fleet_size() -> int:
    """The number of hosts of ``fleet``."""
    return 2


@pytest.fixture
def fleet_of_one() -> int:
    """A module with ``fleet_size = fleet_of_one`` has one host: each costs a second of a deploy."""
    return 1


@pytest.fixture
def fleet(
    tmp_path: Path,
    make_sshd: MakeSshd,
    client_key: Path,
    fleet_size: int,
    inv_program: InvProgram,
) -> Iterator[Fleet]:
    """Hosts that an application is deployed to, each with its own service."""
    addresses = [f"127.0.0.{n}" for n in range(1, fleet_size + 1)]
    server = make_sshd(addresses=addresses)
    fields: dict[str, dict[str, Any]] = {
        f"web{n}": {
            "ssh_host": address,
            "ssh_port": server.port,
            "ssh_user": server.user,
            "ssh_key": str(client_key),
        }
        for n, address in enumerate(addresses, 1)
    }
    shutil.copy(ROOT / "tasks.py", tmp_path)
    made = Fleet(tmp_path, fields, inv_program)
    yield made
    made.stop()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """A folder in which nothing may change but what is below its target."""
    return Watched(tmp_path / "watched")
