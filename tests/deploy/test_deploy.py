"""Deploys from end to end: a fleet of six on loopback, each with a real service."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from tests.support.deploys import Fleet
from tests.support.dropbear import Dropbear
from tests.support.fixtures import ROOT
from tests.support.inv_program import InvProgram
from tests.support.waiting import eventually


def test_deploy_activates_a_revision_on_all_hosts_and_the_next_replaces_it(fleet: Fleet) -> None:
    first = fleet.commit("v1")
    done = fleet.inv("deploy")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert fleet.served() == ["v1/v1"]

    fleet.commit("v2")
    done = fleet.inv("deploy", "--json")

    assert done.returncode == 0, done.stderr
    assert fleet.served() == ["v2/v2"]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["host_id"] for line in told] == list(fleet.hosts)
    assert {line["end_state"] for line in told} == {"deployed"}
    assert all(first[:12] in line["previous"] for line in told)
    assert {line["current"] for line in told} == {fleet.current("web1").name}


def test_build_failure_on_one_host_leaves_all_hosts_on_the_old_release(fleet: Fleet) -> None:
    fleet.configure(
        build=[
            "if [ -e bad ]; then echo no compiler here; fi",
            "! [ -e bad ] || [ $RINGTASKS_HOST != web2 ]",
        ]
    )
    fleet.commit("v1")
    assert fleet.inv("deploy").returncode == 0
    fleet.commit("v2", bad="x")

    done = fleet.inv("deploy")

    assert done.returncode == 1
    assert fleet.served() == ["v1/v1"]
    assert "web2: no compiler here" in done.stderr
    assert "web2: unchanged; current release:" in done.stderr
    assert "build: exit status 1" in done.stderr
    assert fleet.history("web2")[-1][0] == "failed"
    assert [folder.name for folder in fleet.releases("web2")] == [fleet.current("web2").name]


@pytest.mark.parametrize("fleet_size", [3], ids=["three hosts"])
def test_failed_check_in_the_second_batch_reverts_the_switched_hosts(
    fleet: Fleet,
) -> None:
    fleet.configure(serial=1, check_timeout=1)
    fleet.commit("v1")
    assert fleet.inv("deploy").returncode == 0
    old = {host: fleet.current(host) for host in fleet.hosts}
    fleet.commit("v2", bad_on="web2")

    done = fleet.inv("deploy", "--json")

    assert done.returncode == 1
    told = {line["host_id"]: line for line in map(json.loads, done.stdout.splitlines())}
    standings = [told[host]["end_state"] for host in fleet.hosts]
    assert standings == ["reverted", "reverted", "built, not switched"]
    assert "v2 is bad" in told["web2"]["error"]
    assert {host: fleet.current(host) for host in fleet.hosts} == old
    assert fleet.served() == ["v1/v1"]


@pytest.mark.long
def test_rollback_selects_a_successful_release_and_never_a_failed_one(fleet: Fleet) -> None:
    fleet.configure(check_timeout=1)
    fleet.commit("v1")
    assert fleet.inv("deploy").returncode == 0
    fleet.commit("v2", bad_on="web1")
    assert fleet.inv("deploy").returncode == 1
    fleet.commit("v3", bad_on="")
    assert fleet.inv("deploy").returncode == 0

    done = fleet.inv("deploy.rollback")

    assert done.returncode == 0, done.stderr
    assert fleet.served() == ["v1/v1"]
    # And there is nothing before it: neither what failed, nor what was just left.
    again = fleet.inv("deploy.rollback")
    assert again.returncode == 2
    assert "web1: there is no earlier good release" in again.stderr


def test_one_of_two_concurrent_deploys_succeeds_and_the_other_names_its_holder(
    fleet: Fleet,
) -> None:
    fleet.configure(build=["while ! [ -e ../../shared/go ]; do sleep 0.05; done"])
    fleet.commit("v1")
    first = fleet.start("deploy", GITHUB_ACTIONS="true", GITHUB_ACTOR="ann")
    eventually(lambda: all((fleet.root(host) / "lock").is_symlink() for host in fleet.hosts))

    second = fleet.start("deploy")
    assert second.stderr is not None
    said = second.stderr.readline() + second.stderr.readline()
    # It is renewed meanwhile, so its holder lives.
    token = (fleet.root("web1") / "lock").readlink().name
    note = fleet.root("web1") / ".locks" / token
    assert "who=ann" in note.read_text()
    _, rest = second.communicate(timeout=60)
    for host in fleet.hosts:
        (fleet.root(host) / "shared" / "go").touch()
    _, told = first.communicate(timeout=60)

    assert first.returncode == 0, told
    assert second.returncode == 75
    assert "locked by ann" in said + rest
    assert "inv deploy.unlock --reason" in rest
    assert fleet.served() == ["v1/v1"]


def test_service_answers_without_interruption_during_a_deploy(fleet: Fleet) -> None:
    fleet.commit("v1")
    assert fleet.inv("deploy").returncode == 0
    fleet.commit("v2")
    answers: list[str] = []
    is_over = threading.Event()

    def poll() -> None:
        while not is_over.wait(0.01):
            answers.append(fleet.services["web1"].get())

    poller = threading.Thread(target=poll)
    poller.start()
    done = fleet.inv("deploy")
    is_over.set()
    poller.join()

    assert done.returncode == 0, done.stderr
    assert answers[0] == "v1/v1"
    assert answers[-1] == "v2/v2"
    assert set(answers) == {"v1/v1", "v2/v2"}


def test_deploy_and_rollback_on_dropbear(
    tmp_path: Path, client_key: Path, inv_program: InvProgram
) -> None:
    server = Dropbear(tmp_path / "dropbear", client_key)
    reached = {
        "ssh_host": server.address,
        "ssh_port": server.port,
        "ssh_user": server.user,
        "ssh_key": str(client_key),
    }
    shutil.copy(ROOT / "tasks.py", tmp_path)
    fleet = Fleet(tmp_path, {"web1": reached}, inv_program)
    fleet.configure(check="test -s one", check_url=None)  # Python may be below the hidden home
    try:
        for version in ("v1", "v2"):
            fleet.commit(version)
            done = fleet.inv("deploy")
            assert done.returncode == 0, done.stderr
            assert fleet.served() == [f"{version}/{version}"]
        back = fleet.inv("deploy.rollback")
        assert (back.returncode, fleet.served()) == (0, ["v1/v1"]), back.stderr
    finally:
        fleet.stop()
        server.stop()
