"""Limits of checks, locks that are refused or lost, and what each host is said to run."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml

from ringtasks.common.cancellation import Cancellation
from ringtasks.deploy.lease import Lease
from ringtasks.deploy.locking import LockState
from tests.support.deploys import Fleet
from tests.support.fixtures import MakeSshd, fleet_of_one
from tests.support.waiting import eventually

fleet_size = fleet_of_one


def test_check_that_fails_without_output_is_named_with_its_status(fleet: Fleet) -> None:
    fleet.configure(check="exit 7", check_url=None, check_timeout=1, revert=False)
    fleet.commit("v1")

    done = fleet.inv("deploy")

    assert "has not succeeded in 1 s: exit status 7, without output: exit 7" in done.stderr


def test_hanging_check_ends_at_check_timeout(fleet: Fleet) -> None:
    fleet.configure(check="sleep 100", check_url=None, check_timeout=2, revert=False)
    fleet.commit("v1")

    (told,) = map(json.loads, fleet.inv("deploy", "--json").stdout.splitlines())

    (check,) = [step for step in told["steps"] if step["name"] == "check"]
    assert check["error"] == "has not succeeded in 2 s"
    assert check["elapsed_ms"] < 8000
    assert told["returncode"] == 124


@pytest.mark.long
@pytest.mark.timeout(180)
def test_host_whose_lock_is_not_confirmed_is_asked_for_20_seconds_to_release_it(
    fleet: Fleet, make_sshd: MakeSshd, tmp_path: Path
) -> None:
    program, count = tmp_path / "program", tmp_path / "count"
    program.write_text(
        f"#!/bin/sh\necho >>{count}\n"
        f'[ "$(wc -l <{count})" -gt 1 ] || exec sh -c "$SSH_ORIGINAL_COMMAND"\n'
        "printf ringtasks:\nexec sleep 300\n"
    )
    server = make_sshd(config=[f"ForceCommand sh {program}"])
    own = yaml.safe_load((fleet.folder / "hosts" / "hosts.yaml").read_text())["hosts"]["web1"]
    fleet.reach("web1", {**own, "ssh_host": server.address, "ssh_port": server.port})
    fleet.commit("v1")

    said, _ = fleet.start("deploy", "--json").communicate(timeout=170)

    unlock = json.loads(said)["steps"][-1]
    assert unlock["name"] == "unlock"
    assert "20 s" in unlock["error"], unlock


def test_two_hosts_that_share_the_folder_are_named_and_unchanged(fleet: Fleet) -> None:
    own = yaml.safe_load((fleet.folder / "hosts" / "hosts.yaml").read_text())["hosts"]["web1"]
    fleet.write("hosts/hosts.yaml", yaml.safe_dump({"hosts": {"web1": own, "web2": own}}))
    fleet.configure(path=str(fleet.root("web1")))
    fleet.commit("v1")

    done = fleet.inv("deploy")

    assert done.returncode == 1
    assert "web2: unchanged; no current release: lock: " in done.stderr
    assert "web1 and web2 have one folder there: deploy to one of the two" in done.stderr
    assert not (fleet.root("web1") / "releases").exists()
    assert not (fleet.root("web1") / "lock").is_symlink()


def test_process_that_holds_the_output_of_a_build_is_named_as_the_cause(fleet: Fleet) -> None:
    fleet.configure(build=["sleep 100 &"], build_timeout=1, revert=False)
    fleet.commit("v1")

    (told,) = map(json.loads, fleet.inv("deploy", "--json").stdout.splitlines())

    assert "the commands have ended" in told["error"]
    assert "redirect it: './daemon >daemon.log 2>&1 &'" in told["error"]
    assert told["returncode"] == 124


def test_refused_lock_is_reported_with_the_current_release(fleet: Fleet) -> None:
    fleet.commit("v1")
    assert fleet.inv("deploy").returncode == 0
    live = fleet.current("web1").name
    _lock(fleet, for_seconds=100)
    renewing = threading.Event()
    thread = threading.Thread(target=_renew, args=(fleet, renewing))
    thread.start()

    refused = fleet.inv("deploy")
    renewing.set()
    thread.join()

    assert refused.returncode == 75
    assert f"current release: {live}: lock: locked by ann on laptop" in refused.stderr


def test_deploy_interrupted_while_waiting_reports_the_current_release(
    fleet: Fleet,
) -> None:
    fleet.commit("v1")
    assert fleet.inv("deploy").returncode == 0
    live = fleet.current("web1").name
    _lock(fleet, for_seconds=100)

    deploying = fleet.start("deploy", "--wait", "60")
    assert deploying.stderr is not None
    while "is it still there?" not in (line := deploying.stderr.readline()):
        assert line
    deploying.send_signal(signal.SIGINT)
    _, told = deploying.communicate(timeout=30)

    assert deploying.returncode == 130
    assert f"unchanged; current release: {live}" in told


def test_current_release_is_read_from_a_host_whose_lock_was_lost(fleet: Fleet) -> None:
    fleet.configure(build=["while [ -e ../../shared/wait ]; do sleep 0.05; done"])
    wait = fleet.root("web1") / "shared" / "wait"
    wait.touch()
    fleet.commit("v1")
    first = fleet.start("deploy")
    eventually(lambda: any((fleet.root("web1") / "releases").glob("*/one")))

    fleet.inv("deploy.unlock", "--reason", "test")
    _fake_release(fleet)
    _, told = first.communicate(timeout=60)

    assert first.returncode == 75, told
    assert "current release: 20260101T000000Z-abc-0001" in told


def test_lock_lost_during_a_restart_is_the_reported_reason(fleet: Fleet) -> None:
    fleet.configure(restart="until [ -e ../../shared/go ]; do sleep 0.2; done", check_url=None)
    fleet.commit("v1")
    deploying = fleet.start("deploy", "--json")
    eventually(lambda: (fleet.root("web1") / "restart.log").exists())

    fleet.inv("deploy.unlock", "--reason", "test")
    (fleet.root("web1") / "current").unlink()
    _fake_release(fleet)
    told, _ = deploying.communicate(timeout=60)

    (host,) = map(json.loads, told.splitlines())
    assert (deploying.returncode, host["returncode"]) == (75, 75)
    assert host["error"].startswith("restart: the lock was removed; interrupted; ")
    assert (host["end_state"], host["current"]) == ("not known", "20260101T000000Z-abc-0001")


def test_hanging_or_failing_lock_renewal_does_not_delay_other_renewals() -> None:
    lost: list[str] = []
    hanging, failing, good = _Host("hang"), _Host("fail"), _Host("")

    with Lease(interval=0.01) as lease:
        for host in (hanging, failing, good):
            lease.add(host.renew, lost.append)
        eventually(lambda: good.renewals >= 5 and bool(lost), timeout=10)

    assert lost == ["the lock cannot be renewed: no thread can be started"]
    assert hanging.renewals == 1


class _Host:
    """A host whose lock is renewed."""

    def __init__(self, fault: str) -> None:
        self.fault, self.renewals = fault, 0

    def renew(self, cancellation: Cancellation) -> LockState | None:
        self.renewals += 1
        if self.fault == "fail":
            raise RuntimeError("no thread can be started")
        if self.fault == "hang":
            cancellation.wait(60)
        return None


def _lock(fleet: Fleet, for_seconds: int) -> None:
    """Take the lock of the host as a deploy of another machine."""
    token = "0123456789abcdef"
    (fleet.root("web1") / ".locks" / token).write_text(_note(token, for_seconds))
    (fleet.root("web1") / "lock").symlink_to(f".locks/{token}")


def _note(token: str, for_seconds: float) -> str:
    until_time = int(time.time() + for_seconds)
    return f"token={token}\nwho=ann\nhost=laptop\nrevision=\nlink=\nsince=1\nuntil={until_time}\n"


def _renew(fleet: Fleet, is_over: threading.Event) -> None:
    path = fleet.root("web1") / ".locks" / "0123456789abcdef"
    seconds = 100
    while not is_over.wait(0.2):
        seconds += 1
        new = path.with_suffix(".new")
        new.write_text(_note(path.name, seconds))
        new.replace(path)


def _fake_release(fleet: Fleet) -> None:
    """Switch the host, as another deploy would."""
    name = "20260101T000000Z-abc-0001"
    folder = fleet.root("web1") / "releases" / name
    folder.mkdir()
    for part in ("one", "two"):
        (folder / part).write_text("other")
    (folder / ".ringtasks-release").write_text(f"id={name}\n")
    current = Path(fleet.root("web1") / "current")
    current.symlink_to(f"releases/{name}")


@pytest.mark.parametrize("keeps", [True, False])
def test_build_continues_only_while_its_lock_is_held(fleet: Fleet, keeps: bool) -> None:
    fleet.configure(build=["echo $$ > ../../shared/build; exec sleep 30"], build_timeout=4)
    fleet.commit("v1")
    pid = fleet.root("web1") / "shared" / "build"
    deploying = fleet.start("deploy")
    eventually(lambda: pid.exists() and bool(pid.read_text()))
    process = Path("/proc") / pid.read_text().strip()

    if not keeps:  # as if it had been killed and a minute had passed
        deploying.kill()
        token = (fleet.root("web1") / "lock").readlink().name
        (fleet.root("web1") / ".locks" / token).write_text(_note(token, -1))
        began = time.monotonic()
        eventually(lambda: not process.exists(), timeout=10)
        assert time.monotonic() - began < 10
    else:
        time.sleep(1)
        assert process.exists()
        deploying.kill()
    deploying.communicate(timeout=30)
