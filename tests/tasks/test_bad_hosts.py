"""A host whose entry cannot be used fails by itself; the other hosts are used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures import Inv
from tests.support.jobs import end_jobs
from tests.support.sshd import Sshd

#: Host -> its entry, from line 3 on, one entry in each line; and a part of its error.
BAD = {
    "nokey": ("{ssh_host: h, ssh_key: /no/such/key}", "ssh_key: no such file: /no/such/key"),
    "unset": ("{ssh_host: h, ssh_key: '${NOT_SET}'}", "variable NOT_SET is not set"),
    "token": ("{ssh_host: '${NOT_ALLOWED}'}", "${NOT_ALLOWED} is not expanded in an address"),
    "port": ("{ssh_host: h, ssh_port: 70000}", "ssh_port: expected a port from 1 to 65535"),
    "limit": ("{ssh_host: h, connect_timeout: 0}", "connect_timeout: expected seconds, above 0"),
    "long": ("{ssh_host: h, command_timeout: 1.0e+300}", "not below 0, at most 2000000"),
    "many": ("{ssh_host: h, server_alive_interval: 99999999999}", "expected a whole number"),
    "twice": ("{ssh_host: h, ssh_host: i}", "'ssh_host' is given twice"),
    "list": ("[a, b]", "expected a mapping of fields"),
    "no": ("{ssh_host: h}", "put it in quotes: 'no'"),
    "010": ("{ssh_host: h}", "put it in quotes: '010'"),
    "~": ("{ssh_host: h}", "put it in quotes: '~'"),
    "[x]": ("{ssh_host: h}", "put it in quotes: '[x]'"),
    "otherkey": ("{ssh_host: h, ssh_key: ~no-such-user/key}", "no such file: ~no-such-user/key"),
    "longkey": (f"{{ssh_host: h, ssh_key: /{'k' * 300}}}", "File name too long: /kkk"),
    "nojump": ("{ssh_host: h, proxy_jump: 'a:b'}", "proxy_jump: is no host of this inventory, nor"),
    "jump": ("{ssh_host: h, proxy_jump: port}", "proxy_jump: the jump host cannot be used"),
}
TASKS = {
    "run": ["run", "--cmd", "echo done"],
    "check": ["check"],
    "jobs": ["jobs"],
    "status": ["status"],
    "hosts": ["hosts"],
    "start": ["start", "--cmd", "true"],
    "put": ["put", "sent", "landed"],
    "get": ["get", ".profile", "got/"],
    "sync": ["sync", "folder", "synced"],
    "why": ["why"],
}


@pytest.fixture
def mixed(tmp_path: Path, own_server: Sshd, client_key: Path) -> Iterator[Sshd]:
    """One good host between the bad ones."""
    good = (
        f"{{ssh_host: {own_server.address}, ssh_port: {own_server.port}, "
        f"ssh_user: {own_server.user}, ssh_key: {client_key}, use_control_master: false}}"
    )
    lines = ["# two lines, so that the first", "hosts:"]
    lines += [f"  {name}: {entry}" for name, (entry, _) in BAD.items()]
    lines += [f"  good: {good}"]
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "hosts.yaml").write_text("\n".join(lines))
    (tmp_path / "sent").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (own_server.home / ".profile").touch()
    yield own_server
    end_jobs(own_server.home)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.matrix(3)
def test_each_bad_host_is_reported_with_its_line_and_good_hosts_are_used(
    inv: Inv, mixed: Sshd, tmp_path: Path, task: str
) -> None:
    done = inv(*TASKS[task], "--host", "@all")

    printed = (done.stdout + done.stderr).decode()
    for line, (name, (_, expected)) in enumerate(BAD.items(), 3):
        if task in ("hosts", "why") and name in ("nokey", "otherkey", "longkey"):
            continue  # its routes can be shown without a key
        lines = [text for text in printed.splitlines() if f"{name}: " in text and expected in text]
        assert lines, (name, printed)
        assert f"hosts/hosts.yaml:{line}: " in lines[0]
    assert done.returncode == 2, printed
    was_used = {
        "run": b"good: done\n" in done.stdout,
        "check": b" ms" in done.stdout,
        "jobs": True,
        "status": b" free" in done.stdout,
        "hosts": f"{mixed.address}:{mixed.port}".encode() in done.stdout,
        "start": b"good\t" in done.stdout,
        "put": (mixed.home / "landed").exists(),
        "get": (tmp_path / "got" / "good" / ".profile").exists(),
        "sync": (mixed.home / "synced" / "file").exists(),
        "why": b"good: " in done.stdout,
    }
    assert was_used[task], printed


@pytest.mark.parametrize("task", ["run", "check", "status", "hosts", "put"])
def test_json_has_an_object_with_the_error_of_each_bad_host(
    inv: Inv, mixed: Sshd, task: str
) -> None:
    done = inv(*TASKS[task], "--host", "good,no,port", "--json")

    found = [json.loads(line) for line in done.stdout.splitlines()]
    errors = {fields.get("host_id", fields.get("host")): fields.get("error") for fields in found}
    assert errors["good"] is None
    assert "put it in quotes" in errors["no"]
    assert "expected a port" in errors["port"]


def test_bad_host_and_a_failing_host_together_exit_1(inv: Inv, mixed: Sshd) -> None:
    done = inv("run", "--host", "good,no", "--cmd", "exit 7")

    assert done.returncode == 1


def test_unknown_route_name_is_a_usage_error_for_all_hosts(inv: Inv, mixed: Sshd) -> None:
    done = inv("run", "--host", "@all", "--transport", "pigeon", "--cmd", "true")

    assert (done.returncode, done.stdout) == (2, b"")
    assert b"unknown route 'pigeon'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_route_missing_on_one_host_fails_only_that_host(inv: Inv, mixed: Sshd) -> None:
    done = inv("run", "--host", "good,nokey", "--transport", "direct", "--cmd", "echo done")
    other = inv("run", "--host", "good,nokey", "--transport", "tailscale", "--cmd", "echo done")

    assert b"good: done\n" in done.stdout
    assert b"good,nokey (2): has no tailscale route; its routes: direct" in other.stderr
    assert (done.returncode, other.returncode) == (2, 2)


@pytest.mark.parametrize("task", [["hosts"], ["ssh-config"], ["doctor"]])
def test_path_that_the_system_refuses_is_told_in_one_line(inv: Inv, task: list[str]) -> None:
    done = inv(*task, "--inventory", "k" * 300)

    assert done.returncode == 1
    assert done.stderr == b"ringtasks: " + b"k" * 300 + b": File name too long\n"
