"""``--rehearse`` and ``RINGTASKS_REHEARSE``: routes fail as named, and nothing else changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ringtasks import Connection, get_ssh_client
from ringtasks.health.model import HostOutcome, RouteOutcome
from ringtasks.health.store import HealthStore
from ringtasks.ssh.master.folder import control_folder
from ringtasks.tasks import namespace
from tests.support.fixtures import Inv, WriteHosts
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

#: Tasks that send nothing to a host.
LOCAL = {
    "hosts", "ssh-config", "connections", "disconnect", "doctor", "completion", "init",
    "health.show", "health.reset",
}  # fmt: skip


@pytest.fixture
def two_routes(sshd: Sshd) -> dict[str, Any]:
    """A host whose tailscale and direct routes both work."""
    return {"tailscale_ip": "127.0.0.2", "tailscale_port": sshd.port}


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("down", "refused"),
        ("blackhole", "overtaken"),
        ("silent", "overtaken"),
        ("slow:5s", "overtaken"),
        ("wrong-key", "host key"),
        ("wrong key", "host key"),
    ],
)
def test_a_route_fails_as_named_and_the_next_one_is_used(
    inv: Inv, write_hosts: WriteHosts, two_routes: dict[str, Any], failure: str, reason: str
) -> None:
    write_hosts(a=two_routes)

    done = inv("run", "--host", "a", "--cmd", "echo hi", "--rehearse", f"tailscale={failure}")

    told, shown = done.stderr.decode(), failure.replace(" ", "-")
    assert (done.returncode, done.stdout) == (0, b"hi\n"), told
    assert told.startswith(f"ringtasks: REHEARSAL: tailscale={failure} (--rehearse")
    assert f"a: tailscale {reason} (REHEARSAL: {shown}); connected via direct" in told
    effect = "delayed" if failure.startswith("slow") else "failed"
    assert told.endswith(f"ringtasks: REHEARSAL: {effect} on purpose: a tailscale ({shown})\n")
    assert told.count("REHEARSAL: tailscale") == 1
    assert ("WARNING" in told) is (reason == "host key")
    assert not HealthStore().path.exists()


@pytest.mark.parametrize(
    ("failure", "evidence"),
    [
        ("down", "refused: Connection refused (REHEARSAL: down)"),
        ("blackhole", "timed out: no answer in 0."),
        ("silent", "silent: connected, but no SSH banner came (REHEARSAL: silent)"),
        ("slow:3s", "timed out: no answer in 0."),
        ("wrong-key", "possible man in the middle, this may be an impostor (REHEARSAL: wrong-key)"),
    ],
)
def test_the_only_route_fails_within_its_time(
    inv: Inv, write_hosts: WriteHosts, failure: str, evidence: str
) -> None:
    write_hosts(a={"connect_timeout": 0.3})

    done = inv("run", "--host", "a", "--cmd", "true", RINGTASKS_REHEARSE=f"direct={failure}")

    assert done.returncode == 255
    assert evidence in done.stderr.decode()
    assert not (Path(os.environ["XDG_STATE_HOME"]) / "ringtasks" / "known_hosts").exists()


def test_a_slow_route_takes_the_time_longer(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})
    began = time.monotonic()

    done = inv("run", "--host", "a", "--cmd", "echo hi", "--rehearse", "direct=slow:700ms")

    assert (done.returncode, done.stdout) == (0, b"hi\n")
    assert time.monotonic() - began > 0.7


@pytest.mark.parametrize("over_master", [True, False], ids=["control master", "in process"])
def test_a_connection_is_cut_after_its_time(
    inv: Inv, write_hosts: WriteHosts, over_master: bool
) -> None:
    write_hosts(a={"use_control_master": over_master})

    words = ("--cmd", "echo begun; sleep 30", "--rehearse", "direct=cut:2s")
    done = inv("run", "--host", "a", *words)

    told = done.stderr.decode()
    assert (done.returncode, done.stdout) == (255, b"begun\n"), told
    assert "REHEARSAL: the connection over direct is cut after 2 s" in told
    assert "outcome unknown" in told
    assert "(REHEARSAL: cut)" in told
    assert "failed on purpose: a direct (cut:2s)" in told


def test_command_that_ends_before_the_cut_is_told(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})

    done = inv("run", "--host", "a", "--cmd", "true", "--rehearse", "direct=cut:60s")

    assert done.returncode == 0
    assert b"REHEARSAL: ended before it was to be cut: a direct (cut:60s)" in done.stderr
    assert b"failed on purpose" not in done.stderr


def test_wrong_key_is_told_as_a_real_one_is(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})
    pins = Path(os.environ["XDG_STATE_HOME"]) / "ringtasks" / "known_hosts"

    done = inv("run", "--host", "a", "--cmd", "true", "--rehearse", "direct=wrong-key")

    told = done.stderr.decode()
    assert "ringtasks: WARNING: a: direct (127.0.0.1:" in told
    assert "): host key changed: got a key of the rehearsal, expected the pinned key: " in told
    assert f"if the box was rebuilt, update {pins} (remove the line of 'a')" in told
    assert "host key refused: see the warning above" in told
    assert told.count("host key changed") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("gpu9.direct=down", "no host is called 'gpu9'; did you mean gpu1"),
        ("web.direct=down,tpu*.direct=down", "no host is called 'tpu*'"),
    ],
)
def test_host_that_does_not_exist_is_refused(
    inv: Inv, write_hosts: WriteHosts, words: str, told: str
) -> None:
    hosts = write_hosts(gpu1={}, web={})

    done = inv("run", "--host", "gpu1", "--cmd", "true", "--rehearse", words)
    program = Path(sys.executable).with_name("ringtasks")
    over_ssh = subprocess.run(
        [program, "connect", "--inventory", hosts, "--rehearse", words, "gpu1"], capture_output=True
    )

    assert (done.returncode, over_ssh.returncode) == (2, 255)
    assert told in done.stderr.decode()
    assert told in over_ssh.stderr.decode()
    assert b"on purpose" not in done.stderr


def test_hosts_without_an_entry_can_fail(inv: Inv, write_hosts: WriteHosts, sshd: Sshd) -> None:
    write_hosts(a={"proxy_jump": "user@192.0.2.1"})
    words = f"[127.0.0.1]:{sshd.port}.direct=down,192.0.2.1.direct=down"

    done = inv("check", "--host", f"127.0.0.1:{sshd.port}", "--rehearse", words)

    assert done.returncode == 255
    assert b"(REHEARSAL: down)" in done.stdout


@pytest.mark.long
def test_connection_of_a_rehearsal_ends_after_seconds(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={"use_control_master": True})

    done = inv("run", "--host", "a", "--cmd", "true", "--rehearse", "direct=slow:1ms")

    assert done.returncode == 0, done.stderr
    # To ask the master would keep it.
    sockets = [file for file in control_folder().iterdir() if file.is_socket()]
    assert sockets
    eventually(lambda: not any(file.exists() for file in sockets), timeout=30)


def test_an_open_connection_hides_no_failure_and_stays(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd
) -> None:
    write_hosts(a={"use_control_master": True})
    command = ("run", "--host", "a", "--cmd", "true")
    assert inv(*command).returncode == 0
    before, health = sshd.accepted_logins(), HealthStore().path.read_bytes()

    rehearsed = inv(*command, "--rehearse", "direct=down")
    worked = inv(*command, "--rehearse", "direct=slow:1ms")  # a log-in of its own
    assert sshd.accepted_logins() == before + 1
    after = inv(*command)

    assert [done.returncode for done in (rehearsed, worked, after)] == [255, 0, 0]
    assert sshd.accepted_logins() == before + 1
    assert json.loads(health)["hosts"]["a"]["total_failures"] == 0
    assert HealthStore().get("a").total_failures == 0
    assert HealthStore().get("a").total_successes == 2


def test_an_entry_with_a_host_replaces_those_without(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(gpu1={}, gpu2={}, web={})
    words = "direct=down,gpu*.direct=slow:1ms,gpu2.*=down"

    done = inv("run", "--host", "@all", "--cmd", "true", "--json", "--rehearse", words)

    found = {line["host_id"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert {name: line["returncode"] for name, line in found.items()} == {
        "gpu1": 0, "gpu2": 255, "web": 255,
    }  # fmt: skip
    assert {line["rehearsal"] for line in found.values()} == {words}


def test_a_jump_host_can_fail(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={"proxy_jump": "bastion"}, bastion={"ssh_host": "127.0.0.2"})

    done = inv("run", "--host", "a", "--cmd", "true", "--rehearse", "bastion.direct=down")

    assert done.returncode == 255
    assert b"bastion" in done.stderr
    assert b"REHEARSAL: down" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "", "direct", "direct=", "direct=broken", "carrier-pigeon=down", "direct=slow",
        "direct=slow:soon", "direct=down:2s", "direct=cut:2d", "direct=down,direct=silent",
        "direct=cut:1s,direct=cut:2s", "direct=down,direct=cut:1s", ".direct=down",
    ],
)  # fmt: skip
def test_a_mistake_in_the_words_is_refused_with_the_list(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd, words: str
) -> None:
    write_hosts(a={})
    before = sshd.log

    done = inv("run", "--host", "a", "--cmd", "true", "--rehearse", words)

    assert (done.returncode, sshd.log) == (2, before)
    assert done.stderr.startswith(b"ringtasks: --rehearse: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["direct=brken", "drect=down"])
def test_a_mistake_in_the_variable_is_refused_too(
    inv: Inv, write_hosts: WriteHosts, words: str
) -> None:
    write_hosts(a={})

    done = inv("check", RINGTASKS_REHEARSE=words)

    assert done.returncode == 2
    assert done.stderr.startswith(b"ringtasks: RINGTASKS_REHEARSE: ")
    for word in (b"tailscale", b"cloudflare", b"blackhole", b"silent", b"cut:TIME", b"wrong-key"):
        assert word in done.stderr


def test_the_variable_is_reported_by_each_task(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})

    for _ in range(2):
        done = inv("hosts", RINGTASKS_REHEARSE="direct=down")

        assert b"REHEARSAL: direct=down (RINGTASKS_REHEARSE is set; unset it" in done.stderr
        assert b"no route was tried that was to fail" in done.stderr


def test_the_variable_is_reported_by_a_program_once(
    write_hosts: WriteHosts,
    two_routes: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RINGTASKS_HOSTS", str(write_hosts(a=two_routes)))
    monkeypatch.setenv("RINGTASKS_REHEARSE", "tailscale=down")

    with get_ssh_client("a") as client:
        assert client.run("true").transport_used == "direct"
        with Connection("a") as c:
            c.run("true", hide=True)

    told = [each.getMessage() for each in caplog.records if "REHEARSAL" in each.getMessage()]
    assert told == [
        "REHEARSAL: tailscale=down (RINGTASKS_REHEARSE is set; unset it to end the rehearsal)"
    ]


def test_check_shows_the_rehearsed_failure(
    inv: Inv, write_hosts: WriteHosts, two_routes: dict[str, Any]
) -> None:
    write_hosts(a={**two_routes, "use_control_master": True})
    assert inv("run", "--host", "a", "--cmd", "true").returncode == 0

    done = inv("check", "--json", "--rehearse", "direct=down")

    line = json.loads(done.stdout)
    assert [(route["route"], route["ok"]) for route in line["routes"]] == [
        ("tailscale", True),
        ("direct", False),
    ]
    assert "(REHEARSAL: down)" in line["routes"][1]["error"]
    assert line["rehearsal"] == "direct=down"


def test_a_rehearsal_is_no_last_run(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={}, b={})
    command = ("run", "--host", "@all", "--cmd", "true")
    assert inv(*command).returncode == 0

    assert inv(*command, "--rehearse", "a.direct=down").returncode == 255
    again = inv("run", "--rerun-failed", "--cmd", "true")

    assert b"succeeded on all hosts" in again.stderr


def test_github_gets_an_annotation(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})

    done = inv("check", "--rehearse", "direct=down", GITHUB_ACTIONS="true")

    assert b"::warning title=Rehearsal::REHEARSAL: direct=down" in done.stderr


def test_known_health_decides_the_order_of_a_rehearsal(
    inv: Inv, write_hosts: WriteHosts, two_routes: dict[str, Any]
) -> None:
    write_hosts(a=two_routes)
    lost = RouteOutcome("tailscale", success=False, reason="refused")
    won = RouteOutcome("direct", success=True)
    HealthStore().record([HostOutcome("a", success=True, routes=(lost, won))])
    before = HealthStore().path.read_bytes()

    done = inv("run", "--host", "a", "--cmd", "echo hi", "--rehearse", "direct=down")

    assert (done.returncode, done.stdout) == (0, b"hi\n")
    assert b"connected via tailscale" in done.stderr
    assert HealthStore().path.read_bytes() == before


def test_every_task_that_connects_has_the_flag() -> None:
    names = namespace.task_names

    without = {
        name
        for name in names
        if "rehearse" not in [argument.name for argument in namespace[name].get_arguments()]
    }

    assert without == LOCAL
