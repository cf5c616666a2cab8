"""``inv check`` logs in as the other tasks do, and raises no alarm without a refused log-in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fixtures import Inv, WriteHosts
from tests.support.sshd import Sshd

DEAD_TAILNET = {"tailscale_ip": "127.0.0.1", "tailscale_port": 9}


@pytest.mark.parametrize("is_warm", [True, False], ids=["right after a run", "cold"])
def test_check_passes_with_a_dead_tailnet_address_and_another_working_route(
    inv: Inv, write_hosts: WriteHosts, is_warm: bool
) -> None:
    write_hosts(a={**DEAD_TAILNET, "use_control_master": True})
    if is_warm:
        assert inv("run", "--host", "a", "--cmd", "true").returncode == 0

    done, listed = inv("check", "--host", "a"), inv("check", "--host", "a", "--json")

    assert (done.returncode, b"ALIVE ONLY" in done.stderr) == (0, False), done.stderr
    routes = json.loads(listed.stdout)["routes"]
    assert [(route["route"], route["ok"]) for route in routes] == [
        ("tailscale", False),
        ("direct", True),
    ]


def test_route_to_another_machine_keeps_no_other_route_from_working(
    inv: Inv, write_hosts: WriteHosts, make_sshd: Callable[..., Sshd], use_control_master: bool
) -> None:
    other = make_sshd(None)  # it has the address now, and refuses the log-in
    tailnet = {"tailscale_ip": other.address, "tailscale_port": other.port}
    write_hosts(a={**tailnet, "use_control_master": use_control_master})

    done, again = (inv("run", "--host", "a", "--cmd", "echo in") for _ in range(2))
    checked = inv("check", "--host", "a")

    assert (done.returncode, again.returncode) == (0, 0), done.stderr
    assert b"host key changed" not in done.stderr
    assert (checked.returncode, b"ALIVE ONLY" in checked.stderr) == (0, False), checked.stderr
    assert b"impostor" in checked.stderr


@pytest.mark.parametrize("flags", [[], ["--fresh"]], ids=["check", "check --fresh"])
def test_check_reaches_a_host_with_a_cipher_only_openssh_supports(
    inv: Inv,
    write_hosts: WriteHosts,
    make_sshd: Callable[..., Sshd],
    flags: list[str],
) -> None:
    server = make_sshd(config=["Ciphers chacha20-poly1305@openssh.com"])
    write_hosts(a={"ssh_host": server.address, "ssh_port": server.port, "use_control_master": True})
    assert inv("run", "--host", "a", "--cmd", "true").returncode == 0

    done = inv("check", "--host", "a", *flags)

    assert (done.returncode, b"ALIVE ONLY" in done.stderr) == (0, False), done.stderr


def test_check_leaves_no_process_running(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={"use_control_master": True})
    assert inv("check", "--host", "a", "--fresh").returncode == 0

    assert json.loads(inv("connections", "--json").stdout or "[]") == []


def test_check_reports_the_only_host_if_its_key_file_is_missing(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={"ssh_key": "/no/such/key"})

    done, listed = inv("check"), inv("check", "--json")

    assert b" hosts/hosts.yaml:6: a: ssh_key: no such file: /no/such/key\n" in done.stdout
    assert (done.returncode, listed.returncode, listed.stderr) == (2, 2, b"")


def test_settings_that_ssh_refuses_are_reported_for_each_host_and_are_no_failure_of_it(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_ssh_config("NoSuchKeyword yes\n")
    hosts_file = str(write_hosts(a={}, b={}))

    statuses = []
    for words in (["check"], ["status"], ["jobs"], ["put", hosts_file, "copy", "--host", "a,b"]):
        done = inv(*words)
        statuses.append(done.returncode)
        assert b"nosuchkeyword" in done.stdout + done.stderr, done
        told = [line.split(" cannot use")[0] for line in done.stderr.decode().splitlines()]
        if words[0] in ("status", "put"):
            assert sorted(told) == ["ringtasks: a: ssh", "ringtasks: b: ssh"]

        assert b"shows each route by hand" not in done.stderr  # that would fail for the same reason

    assert statuses == [2, 2, 2, 2]


def test_doctor_reports_settings_that_ssh_refuses(inv: Inv, write_hosts: WriteHosts) -> None:
    write_ssh_config("NoSuchKeyword yes\n")
    write_hosts(a={})

    done = inv("doctor", "--json")

    bad = [f for f in map(json.loads, done.stdout.splitlines()) if f["verdict"] == "bad"]
    assert (done.returncode, [found["subject"] for found in bad]) == (1, ["ssh settings"])
    assert "nosuchkeyword" in bad[0]["evidence"]


def test_token_that_ssh_does_not_have_is_an_error_of_the_settings(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_ssh_config("ProxyCommand nc %h %Z\n")
    write_hosts(a={})

    statuses = [inv(*words).returncode for words in (["run", "--cmd", "true"], ["check"])]

    assert statuses == [2, 2]


def write_ssh_config(text: str) -> None:
    path = Path.home() / ".ssh" / "config"
    path.parent.mkdir(mode=0o700)
    path.write_text(text)


def test_check_and_status_use_embedded_hosts_if_there_are_no_others(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(demo={"embedded": True})
    alone = [inv(task, "--json") for task in ("check", "status")]
    write_hosts(demo={"embedded": True}, other={"ssh_port": 9})
    beside = inv("check", "--json")

    assert [json.loads(done.stdout)["host_id"] for done in alone] == ["demo", "demo"]
    assert [done.returncode for done in alone] == [0, 0]
    assert json.loads(beside.stdout)["host_id"] == "other"


def test_check_and_hosts_show_the_address_that_is_dialled(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_ssh_config("Host gpu\n  HostName 127.0.0.1\n  Port 9\n")
    write_hosts(a={"ssh_host": "gpu", "ssh_port": None})

    checked, listed = inv("check", "--json"), inv("hosts", "--json", "--host", "a,gpu")

    for line in (checked.stdout, *listed.stdout.splitlines()):
        assert [route["address"] for route in json.loads(line)["routes"]] == ["127.0.0.1:9"]
