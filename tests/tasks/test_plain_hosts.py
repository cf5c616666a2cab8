"""Hosts without an inventory entry: addresses, and names that ssh's configuration knows."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringtasks import Connection, close_all_clients_sync, get_ssh_client
from ringtasks.errors import UnknownHostError
from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.sshd import Sshd


@pytest.fixture
def ssh_folder(client_key: Path, sshd: Sshd) -> Path:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text(
        f"Host gpubox\n  HostName {sshd.address}\n  Port {sshd.port}\n"
        f"Host *\n  IdentityFile {client_key}\n"
    )
    return folder


@pytest.mark.parametrize("has_inventory", [True, False], ids=["hosts file", "no hosts file"])
def test_address_or_ssh_alias_can_be_given_as_a_host(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd, ssh_folder: Path, has_inventory: bool
) -> None:
    hosts = write_hosts(a={})
    if not has_inventory:
        hosts.unlink()

    place = f"{sshd.address}:{sshd.port}"
    for name in (f"{sshd.user}@{place}", place, "gpubox", f"ssh://{sshd.user}@{place}/"):
        done = inv("run", "--host", name, "--cmd", "echo hi")

        assert (done.returncode, done.stdout) == (0, b"hi\n"), (name, done.stderr)


def test_address_can_be_mixed_with_inventory_names(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd, ssh_folder: Path
) -> None:
    write_hosts(a={}, b={})

    done = inv("run", "--host", f"@all,!b,127.0.0.2:{sshd.port}", "--cmd", "echo hi")

    lines = sorted(done.stdout.decode().splitlines())  # the hosts answer in any order
    assert lines == [f"[127.0.0.2]:{sshd.port}: hi", "a: hi"], done.stderr


@pytest.mark.parametrize(
    "name", ["gpubux", "ab.example.con", "root@gpubux1", "gpubux1:22", "root@ab.example.con"]
)
def test_name_similar_to_a_known_host_is_an_error(
    inv: Inv, write_hosts: WriteHosts, ssh_folder: Path, name: str
) -> None:
    write_hosts(**{"gpubux1": {}, "ab.example.com": {}})

    done = inv("run", "--host", name, "--cmd", "true")

    assert done.returncode == 2
    assert b"did you mean" in done.stderr


@pytest.mark.parametrize(
    "form", ["[::1]:{port}", "{user}@[::1]:{port}", "ssh://{user}@[::1]:{port}"]
)
@pytest.mark.parametrize("task", ["run", "put", "check"])
@pytest.mark.matrix(4)
def test_address_of_version_6_can_be_given_to_every_task(
    inv: Inv,
    make_sshd: MakeSshd,
    write_hosts: WriteHosts,
    ssh_folder: Path,
    tmp_path: Path,
    form: str,
    task: str,
) -> None:
    server = make_sshd(addresses=["127.0.0.1", "::1"])
    write_hosts(a={})
    name = form.format(port=server.port, user=server.user)
    (tmp_path / "file").write_text("x")
    arguments = {
        "run": ["--cmd", "echo hi"],
        "put": [str(tmp_path / "file"), str(tmp_path / "copy")],
        "check": [],
    }

    done = inv(task, "--host", name, *arguments[task])

    assert done.returncode == 0, done
    assert (tmp_path / "copy").exists() is (task == "put")


@pytest.mark.parametrize("name", ["http://root@127.0.0.1:22", "ssh://", "ssh://root@"])
def test_url_of_another_kind_is_refused(inv: Inv, write_hosts: WriteHosts, name: str) -> None:
    write_hosts(a={})

    done = inv("run", "--host", name, "--cmd", "true")

    assert done.returncode == 2
    assert name.encode() in done.stderr


@pytest.mark.parametrize(
    "name", ["box;id", "root@box;id", "a;b@box", "root@$(id)", "`id`@box", "a@b|c", "box'"]
)
def test_name_with_a_character_that_ssh_refuses_is_an_error_before_any_look_up(
    inv: Inv, write_hosts: WriteHosts, name: str
) -> None:
    write_hosts(a={})

    done = inv("run", "--host", name, "--cmd", "true")

    assert (done.returncode, done.stdout) == (2, b"")
    assert repr(name).encode() in done.stderr
    assert b"name not found" not in done.stderr


def test_neighbour_of_an_ip_address_of_the_inventory_is_another_host(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd, ssh_folder: Path
) -> None:
    path = write_hosts(a={})
    path.write_text(path.read_text().replace("  a:", "  127.0.0.3:"))

    done = inv("run", "--host", f"127.0.0.2:{sshd.port}", "--cmd", "echo hi")

    assert (done.returncode, done.stdout) == (0, b"hi\n"), done.stderr


@pytest.mark.parametrize("make", [get_ssh_client, Connection], ids=["client", "Connection"])
def test_name_similar_to_a_known_host_is_an_error_in_python(
    write_hosts: WriteHosts,
    ssh_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[str], Any],
) -> None:
    write_hosts(gpubux={})
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UnknownHostError, match="unknown host 'root@gpubx'; did you mean gpubux"):
        make("root@gpubx")
    assert make("gpubox") is not None  # an alias of ssh's files
    close_all_clients_sync()


def test_jump_host_is_looked_up_in_the_same_inventory(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd, client_key: Path, tmp_path: Path
) -> None:
    # The usual inventory has a bastion of its own, at which nothing listens.
    write_hosts(bastion={"ssh_port": 9}, box={})
    other = tmp_path / "other.yaml"
    login = f"ssh_port: {sshd.port}, ssh_key: {client_key}, ssh_user: {sshd.user}"
    other.write_text(
        f"bastion: {{ssh_host: {sshd.address}, {login}}}\n"
        f"box: {{ssh_host: 127.0.0.2, {login}, proxy_jump: bastion}}\n"
    )

    done = inv("run", "--inventory", str(other), "--host", "box", "--cmd", "echo hi")

    assert (done.returncode, done.stdout) == (0, b"hi\n"), done.stderr


def test_hints_repeat_the_flags_that_name_the_hosts(
    inv: Inv, write_hosts: WriteHosts, own_server: Sshd, ssh_folder: Path, tmp_path: Path
) -> None:
    place = {"ssh_host": own_server.address, "ssh_port": own_server.port}
    elsewhere = write_hosts(box=place).rename(tmp_path / "my hosts.yaml")
    address = f"{own_server.user}@{own_server.address}:{own_server.port}"

    for where in (["--host", "box", "--inventory", str(elsewhere)], ["--host", address]):
        started = inv("start", *where, "--cmd", "echo hi")
        hint = started.stderr.decode().partition("follow it with: inv ")[2]
        followed = inv(*shlex.split(hint))

        assert (followed.returncode, followed.stdout) == (0, b"hi\n"), hint + str(followed.stderr)

    unknown = inv("logs", "no-such", "--inventory", str(elsewhere))
    assert f"inv jobs --inventory '{elsewhere}' --all" in unknown.stderr.decode()
