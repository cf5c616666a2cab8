"""Inventory sources in the tasks: moved hosts, trust, ``hosts --refresh``, ``why``."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ringtasks import Connection, SSHClient, SSHConfig, run_ssh_command_sync
from ringtasks.errors import UnreachableError
from ringtasks.health.model import HostOutcome, RouteOutcome
from ringtasks.health.store import HealthStore
from ringtasks.inventory.loader import load_inventory
from tests.support.fixtures import Inv, MakeSshd, Ringtasks
from tests.support.inv_program import PROGRAMS, InvProgram
from tests.support.sources import Programs
from tests.support.sshd import Sshd

RINGTASKS = PROGRAMS["ringtasks"]
USED_PORT = 9  # discard: nothing listens there


def pod(name: str, port: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"id{name}", "name": name, "desiredStatus": "RUNNING", "publicIp": "127.0.0.1",
        "portMappings": {"22": port}, **more,
    }  # fmt: skip


@pytest.fixture
def hosts_file(tmp_path: Path, sshd: Sshd, client_key: Path) -> Path:
    """Describes hosts whose addresses are RunPod's."""
    file = tmp_path / "hosts" / "hosts.yaml"
    file.parent.mkdir()
    file.write_text(
        f"defaults: {{ssh_user: {sshd.user}, ssh_key: {client_key}}}\n"
        "hosts:\n  box: {role: train, ssh_host: 127.0.0.1, ssh_port: 9}\n"
        "sources: [runpod]\n"
    )
    return file


def test_pod_whose_port_has_changed_is_reached_by_the_next_run(
    inv: Inv, programs: Programs, hosts_file: Path, make_sshd: MakeSshd, sshd: Sshd
) -> None:
    before = make_sshd(host_key=sshd.host_key)
    programs.prints("runpodctl", [pod("box", before.port)])
    first = inv("run", "--host", "box", "--cmd", "printf reached")
    assert (first.returncode, first.stdout) == (0, b"reached"), first.stderr
    before.stop()
    programs.prints("runpodctl", [pod("box", sshd.port)])

    second = inv("run", "--host", "box", "--cmd", "printf reached")
    third = inv("run", "--host", "box", "--cmd", "printf reached")

    assert (second.returncode, second.stdout) == (0, b"reached"), second.stderr
    moved = f"box: has moved: direct 127.0.0.1:{before.port} is now direct 127.0.0.1:{sshd.port}"
    assert moved in second.stderr.decode()
    assert (third.returncode, third.stdout, third.stderr) == (0, b"reached", b"")
    assert programs.calls("runpodctl") == ["pod list"] * 2


@pytest.fixture
def moved(programs: Programs, hosts_file: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a host whose source has another port by now, and the inventory of its name."""
    monkeypatch.setenv("RINGTASKS_HOSTS", str(hosts_file))
    programs.prints("runpodctl", [pod("box", USED_PORT)])
    load_inventory()
    programs.prints("runpodctl", [pod("box", sshd.port)])
    return "box"


def test_check_tries_a_host_at_its_new_place(inv: Inv, moved: str, sshd: Sshd) -> None:
    done = inv("check", "--host", moved, "--json")

    assert done.returncode == 0, done.stderr
    (route,) = json.loads(done.stdout)["routes"]
    assert (route["address"], route["ok"]) == (f"127.0.0.1:{sshd.port}", True)
    assert b"box: has moved: " in done.stderr
    health = HealthStore().get(moved)
    assert (health.total_successes, health.total_failures) == (1, 0)


@pytest.mark.parametrize("use_control_master", [True, False])
def test_connection_opens_at_the_new_place_of_a_host(
    moved: str, sshd: Sshd, use_control_master: bool
) -> None:
    config = SSHConfig.from_host_config(load_inventory().hosts[moved])
    config.use_control_master = use_control_master

    with Connection(config) as c:
        assert c.run("printf reached", hide=True).stdout == "reached"

        assert (c.port, c.transport_used) == (sshd.port, "direct")


def test_port_of_the_caller_stays_after_the_host_has_moved(moved: str) -> None:
    result = run_ssh_command_sync(moved, "true", port=USED_PORT)
    with pytest.raises(UnreachableError, match=f":{USED_PORT}"):
        Connection(moved, port=USED_PORT).open()
    client = SSHClient(SSHConfig.from_host_config(load_inventory().hosts[moved]))
    client.config.port = USED_PORT  # by now the inventory has the new one

    assert f":{USED_PORT}" in (result.error or "")
    assert f":{USED_PORT}" in (client.run("true").error or "")


@pytest.mark.parametrize("answer", ["[]", "rubbish", "same"])
def test_dead_host_asks_its_source_once_and_stays_unreachable(
    inv: Inv, programs: Programs, hosts_file: Path, answer: str
) -> None:
    same = [pod("box", USED_PORT), pod("other", USED_PORT)]
    programs.prints("runpodctl", same)
    inv("hosts")
    programs.prints("runpodctl", same if answer == "same" else answer)

    done = inv("run", "--host", "box,other", "--cmd", "true")

    assert done.returncode == 255
    assert b"2 unreachable" in done.stderr
    assert len(programs.calls("runpodctl")) == 2  # once for both hosts


def test_ssh_over_connect_reaches_a_host_that_has_moved(
    ringtasks: Ringtasks, programs: Programs, hosts_file: Path, sshd: Sshd, client_key: Path
) -> None:
    programs.prints("runpodctl", [pod("box", USED_PORT)])
    ringtasks("hosts", "--inventory", str(hosts_file))
    programs.prints("runpodctl", [pod("box", sshd.port)])
    proxy = f"{RINGTASKS[0]} connect --inventory {hosts_file} -- box"
    options = {
        "ProxyCommand": proxy, "IdentityFile": client_key, "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null", "User": sshd.user,
    }  # fmt: skip
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    done = subprocess.run(
        ["ssh", "-F", "none", *flags, "x", "printf reached"], capture_output=True, timeout=60
    )

    assert done.stdout == b"reached", done.stderr


def test_programs_run_beside_the_tasks_file_of_invoke_also_from_a_folder_below(
    inv: Inv, inv_program: InvProgram, programs: Programs, hosts_file: Path, tmp_path: Path
) -> None:
    programs.prints("runpodctl", [pod("new", 22)])
    below = tmp_path / "src"
    below.mkdir()

    done = inv_program.call(["inv", "hosts", "--json"], cwd=below)

    names = [json.loads(line)["host_id"] for line in done.stdout.splitlines()]
    assert names == ["box", "new"], done.stderr


@pytest.mark.parametrize("kind", ["source", "program", "settings"])
def test_program_ringtasks_refuses_to_run_what_a_folder_names(
    ringtasks: Ringtasks, programs: Programs, tmp_path: Path, kind: str
) -> None:
    evil = programs.install("evil", f"touch {tmp_path}/ran; echo 'a: {{ssh_host: h}}'")
    project = tmp_path / "clone"
    (project / "hosts").mkdir(parents=True)
    if kind == "program":
        (project / "hosts" / "evil").symlink_to(evil)
    else:
        name = "hosts/hosts.yaml" if kind == "source" else "hosts/named.yml"
        (project / name).write_text(f"sources: [{{from: command, command: {evil}}}]\n")
    if kind == "settings":
        (project / "invoke.yaml").write_text("ringtasks: {inventory: hosts/named.yml}\n")

    def ringtasks_there(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return ringtasks(*words, cwd=project, env={**os.environ, **environ})

    refused = [ringtasks_there("hosts"), ringtasks_there("run", "--host", "a", "--cmd", "true")]

    for done in refused:
        assert done.returncode == 2
        assert "it may run only for an inventory that is named" in done.stderr
        assert "--inventory hosts/" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert "a" in ringtasks_there("hosts", "--inventory", "hosts").stdout.split()
    if kind != "settings":  # they come before the variable
        assert "a" in ringtasks_there("hosts", RINGTASKS_HOSTS="hosts").stdout.split()


def test_inventory_of_the_user_may_run_programs(
    ringtasks: Ringtasks, programs: Programs, tmp_path: Path
) -> None:
    own = Path("~/.config/ringtasks").expanduser()
    own.mkdir(parents=True)
    programs.prints("runpodctl", [pod("box", 22)])
    (own / "hosts.yaml").write_text("sources: [runpod]\n")

    done = ringtasks("hosts", cwd=tmp_path)

    assert "box" in done.stdout, done.stderr


def test_refresh_asks_the_sources_now(inv: Inv, programs: Programs, hosts_file: Path) -> None:
    programs.prints("runpodctl", [pod("box", 2201)])
    inv("hosts")
    programs.prints("runpodctl", [pod("box", 2202)])

    before, after = inv("hosts"), inv("hosts", "--refresh")

    assert b"127.0.0.1:2201" in before.stdout
    assert b"127.0.0.1:2202" in after.stdout
    assert len(programs.calls("runpodctl")) == 2


def test_why_names_the_source_of_a_value(inv: Inv, programs: Programs, hosts_file: Path) -> None:
    programs.prints("runpodctl", [pod("box", 2201), pod("new", 2202)])
    place = "hosts/hosts.yaml"

    found = {}
    for host in ("box", "new"):
        told = json.loads(inv("why", "--host", host, "--json").stdout)
        found[host] = {setting["name"]: setting["from"] for setting in told["settings"]}

    for host in ("box", "new"):
        assert found[host]["ssh_port"].startswith("source runpod, asked ")
        assert found[host]["ssh_user"].startswith(f"{place}:")
    assert found["box"]["ssh_key"].startswith(f"{place}:1")


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        ([], "box: source runpod has not listed it for "),
        (
            [{**pod("box", 22), "desiredStatus": "EXITED"}],
            "box: source runpod: its status is EXITED",
        ),
    ],
    ids=["gone", "stopped"],
)
def test_hosts_and_why_tell_that_a_source_has_no_address(
    inv: Inv, programs: Programs, hosts_file: Path, pods: list[dict[str, Any]], told: str
) -> None:
    programs.prints("runpodctl", [pod("box", USED_PORT)])
    assert b"has not" not in inv("hosts").stderr
    programs.prints("runpodctl", pods)

    shown, why = inv("hosts", "--refresh"), inv("why", "--host", "box")

    assert told in shown.stderr.decode()
    assert told in why.stdout.decode()
    assert "127.0.0.1:9" in why.stdout.decode()


def test_why_does_not_claim_that_a_new_port_works(
    inv: Inv, programs: Programs, hosts_file: Path
) -> None:
    os.utime(hosts_file, (1e9, 1e9))
    programs.prints("runpodctl", [pod("box", USED_PORT)])
    inv("hosts")
    used = HostOutcome("box", success=True, routes=(RouteOutcome("direct", success=True),))
    HealthStore().record([used])
    programs.prints("runpodctl", [pod("box", USED_PORT + 1)])
    before = json.loads(inv("why", "--host", "box", "--json").stdout)["routes"][0]["reason"]

    inv("hosts", "--refresh")
    after = json.loads(inv("why", "--host", "box", "--json").stdout)["routes"][0]["reason"]

    assert "another address" not in before
    assert after.endswith("; that was before the source gave another address")


def test_runs_go_on_while_a_source_is_down(
    inv: Inv, programs: Programs, hosts_file: Path, sshd: Sshd, client_key: Path
) -> None:
    programs.install("runpodctl", "echo 'oops \033[31m' >&2; exit 7")
    hosts_file.write_text(
        hosts_file.read_text().replace(
            "hosts:\n", f"hosts:\n  own: {{ssh_host: 127.0.0.1, ssh_port: {sshd.port}}}\n"
        )
    )

    done = inv("run", "--host", "own", "--cmd", "printf reached")

    assert (done.returncode, done.stdout) == (0, b"reached")
    warning = done.stderr.decode()
    assert "source runpod: runpodctl ended with exit status 7: oops" in warning
    assert "\033" not in warning


@pytest.mark.parametrize(
    ("answer", "advice"),
    [("rubbish", "runpodctl pod list"), ([pod("a", 22, publicIp="-x")], "at the provider")],
)
def test_doctor_says_how_to_look_into_a_source(
    inv: Inv, programs: Programs, hosts_file: Path, answer: Any, advice: str
) -> None:
    programs.prints("runpodctl", answer)

    done = inv("doctor", "--json")

    findings = [json.loads(line) for line in done.stdout.splitlines()]
    (found,) = [each for each in findings if each["subject"] == "source runpod"]
    assert (found["verdict"], done.returncode) == ("bad", 1)
    assert advice in found["advice"]
