"""Settings and files of a deploy: sent, kept, shared, hidden and reported ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from tests.support.deploys import FAILING_RESTART, Fleet
from tests.support.fixtures import fleet_of_one
from tests.support.service import SERVE
from tests.support.waiting import eventually

fleet_size = fleet_of_one
two_hosts = pytest.mark.parametrize("fleet_size", [2], ids=["two hosts"])
three_hosts = pytest.mark.parametrize("fleet_size", [3], ids=["three hosts"])


def test_deploy_does_not_send_unchanged_files_again(fleet: Fleet) -> None:
    fleet.commit("v1", **{f"file{n}": "x" * 1000 for n in range(50)})
    first = _told(fleet, "deploy")
    fleet.commit("v1")  # another revision with the same files
    second = _told(fleet, "deploy")
    fleet.commit("v1", file7="y" * 1000)
    third = _told(fleet, "deploy")

    assert first["web1"]["sent_bytes"] > 50_000
    assert second["web1"]["sent_bytes"] == 0
    assert 1000 < third["web1"]["sent_bytes"] < 10_000
    assert (fleet.current("web1") / "file7").read_text() == "y" * 1000
    assert (fleet.current("web1") / "file8").read_text() == "x" * 1000
    first_release, *_, last_release = fleet.releases("web1")
    assert (last_release / "file8").samefile(first_release / "file8")


def test_unchanged_files_are_hard_linked_without_a_build_and_copied_with_one(fleet: Fleet) -> None:
    fleet.commit("v1", data="x")
    fleet.inv("deploy")
    fleet.commit("v2")
    fleet.inv("deploy")
    old, new = (folder / "data" for folder in fleet.releases("web1"))
    assert old.samefile(new)

    fleet.configure(build=["echo y >> data"])
    fleet.commit("v3")
    assert fleet.inv("deploy").returncode == 0

    texts = [(folder / "data").read_text() for folder in fleet.releases("web1")]
    assert texts == ["x", "x", "xy\n"]


def test_file_modified_by_a_release_is_sent_again(fleet: Fleet) -> None:
    fleet.commit("v1", data="x")
    fleet.inv("deploy")
    with (fleet.current("web1") / "data").open("a") as file:
        file.write("spoilt")
    fleet.commit("v2")

    assert fleet.inv("deploy").returncode == 0

    assert (fleet.current("web1") / "data").read_text() == "x"


def test_release_keeps_modes_and_links_and_omits_export_ignored_files(fleet: Fleet) -> None:
    fleet.commit("v0", **{".gitattributes": "/notes export-ignore\n", "notes": "own"})
    (fleet.folder / "run.sh").write_text("#!/bin/sh\n")
    (fleet.folder / "run.sh").chmod(0o755)
    (fleet.folder / "link").symlink_to("run.sh")
    fleet.commit("v1")

    assert fleet.inv("deploy").returncode == 0

    current = fleet.current("web1")
    assert os.access(current / "run.sh", os.X_OK)
    assert (current / "link").readlink() == Path("run.sh")
    assert not (current / "notes").exists()
    assert current.stat().st_mode & 0o777 == 0o755


def test_old_releases_are_deleted_except_the_current_and_rollback_ones(fleet: Fleet) -> None:
    fleet.configure(keep=2, restart=FAILING_RESTART)
    for version in ("v1", "v2"):
        fleet.commit(version)
        assert fleet.inv("deploy").returncode == 0
    fleet.commit("v3", bad_on="web1")
    assert fleet.inv("deploy").returncode == 1
    fleet.commit("v4", bad_on="")

    told = _told(fleet, "deploy")

    kept = [(folder / "one").read_text() for folder in fleet.releases("web1")]
    assert kept == ["v2", "v4"]
    assert len(told["web1"]["removed"]) == 2


@two_hosts
def test_shared_files_and_folders_are_linked_into_each_release(fleet: Fleet) -> None:
    fleet.configure(shared=["logs/", "config/app.env"])
    (fleet.root("web1") / "shared" / "config").mkdir()
    for host in fleet.hosts:
        config = fleet.root(host) / "shared" / "config"
        config.mkdir(exist_ok=True)
        (config / "app.env").write_text(f"HOST={host}")
    fleet.commit("v1", **{"logs/old.log": "brought along"})

    assert fleet.inv("deploy").returncode == 0

    current = fleet.current("web2")
    assert (current / "config" / "app.env").read_text() == "HOST=web2"
    assert (current / "logs" / "old.log").read_text() == "brought along"
    assert (current / "logs").resolve() == fleet.root("web2") / "shared" / "logs"


def test_missing_shared_file_is_reported_before_any_change(fleet: Fleet) -> None:
    fleet.configure(shared=["app.env"])
    for host in fleet.hosts[1:]:
        (fleet.root(host) / "shared" / "app.env").touch()
    fleet.commit("v1")

    done = fleet.inv("deploy")

    assert done.returncode == 1
    assert "web1: unchanged" in done.stderr
    assert "shared/app.env: is not on the host: put it there" in done.stderr
    assert not (fleet.root("web2") / "releases").exists()


@three_hosts
def test_unreachable_host_stops_the_deploy_before_any_change(
    fleet: Fleet, make_sshd: Callable[..., object]
) -> None:
    hosts = yaml.safe_load((fleet.folder / "hosts" / "hosts.yaml").read_text())["hosts"]
    down = {"ssh_host": "127.0.0.77", "tailscale_ip": "127.0.0.77", "tailscale_port": 9}
    fleet.reach("web3", {**hosts["web3"], **down})
    fleet.commit("v1")

    done, status = fleet.inv("deploy", "--json"), fleet.inv("deploy.status")

    assert done.returncode == 255
    assert "\N{REPLACEMENT CHARACTER}" not in done.stderr + status.stdout + status.stderr
    told = {line["host_id"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert {line["end_state"] for line in told.values()} == {"unchanged"}
    assert "no route worked: tailscale (127.0.0.77:9): refused" in told["web3"]["error"]
    assert "; direct (127.0.0.77:" in told["web3"]["error"]
    assert not (fleet.root("web1") / "releases").exists()


def test_single_file_can_be_released(fleet: Fleet) -> None:
    fleet.configure(source="dist/app-1.0.whl", check=None, check_url=None, restart=None)
    fleet.write("dist/app-1.0.whl", "wheel")
    fleet.commit("v1")
    fleet.inv("deploy")
    fleet.configure(source="dist/app-1.1.whl")
    shutil.move(fleet.folder / "dist/app-1.0.whl", fleet.folder / "dist/app-1.1.whl")

    done = fleet.inv("deploy")

    assert done.returncode == 0, done.stderr
    names = {path.name for path in fleet.current("web1").iterdir()}
    assert names == {"app-1.1.whl", ".ringtasks-release"}


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small file system")
def test_full_disk_here_ends_the_deploy_and_frees_its_locks(fleet: Fleet, tmp_path: Path) -> None:
    fleet.configure(source="app", check=None, check_url=None, restart=None)
    (fleet.folder / "app").write_bytes(bytes(2_000_000))
    fleet.commit("v1")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=True)
    try:
        done = fleet.inv("deploy", "--json", TMPDIR=str(small))
    finally:
        subprocess.run(["umount", "-l", small], check=True)

    assert done.returncode == 1
    told = json.loads(done.stdout.splitlines()[0])
    assert "upload: " in told["error"]
    assert "No space left on device" in told["error"]
    assert not (fleet.root("web1") / "lock").is_symlink()


def test_built_directory_is_released_without_excluded_files(fleet: Fleet) -> None:
    fleet.configure(source="build", exclude=["*.map"], check=None, check_url=None)
    fleet.write("build/app.js", "code")
    fleet.write("build/app.js.map", "big")
    fleet.commit("v1")

    assert fleet.inv("deploy").returncode == 0

    names = {path.name for path in fleet.current("web1").iterdir()}
    assert names == {"app.js", ".ringtasks-release"}


def test_secrets_reach_the_deploy_commands_and_are_never_shown(fleet: Fleet) -> None:
    fleet.configure(
        secrets=["API_TOKEN"],
        env={"MODE": "production"},
        build=["echo $MODE > mode; printf %s $API_TOKEN > token; echo with $API_TOKEN; false"],
    )
    fleet.commit("v1")

    done = fleet.inv("deploy", "--json", "--verbose", API_TOKEN="hush-hush-7")

    assert done.returncode == 1
    assert "hush-hush-7" not in done.stdout + done.stderr
    assert "with ***" in done.stderr
    (left,) = (fleet.root("web1") / "releases").iterdir()
    assert (left / "token").read_text() == "hush-hush-7"
    assert (left / "mode").read_text() == "production\n"
    missing = fleet.inv("deploy")
    assert missing.returncode == 2
    assert "deploy: secrets: API_TOKEN: is not set on this machine" in missing.stderr


@two_hosts
def test_deploy_commands_run_in_order_with_the_release_in_the_environment(fleet: Fleet) -> None:
    order = "../../shared/order"
    fleet.configure(
        build=[f"echo build $RINGTASKS_REVISION $PWD >> {order}"],
        activate=[f"echo activate $(readlink ../../current) >> {order}"],
        restart=f"echo restart $(basename $(pwd -P)) $RINGTASKS_RELEASE >> {order}",
        check=f"echo check $RINGTASKS_HOST >> {order}",
        check_url=None,
    )
    revision = fleet.commit("v1")

    assert fleet.inv("deploy").returncode == 0

    release = fleet.current("web2").name
    root = fleet.root("web2")
    assert (root / "shared" / "order").read_text().splitlines() == [
        f"build {revision} {root}/releases/{release}",
        "activate",
        f"restart {release} {release}",
        "check web2",
    ]


@pytest.mark.parametrize("step", ["restart", "check"])
@pytest.mark.matrix(1)
def test_daemon_left_by_the_restart_or_check_command_does_not_block_the_deploy(
    fleet: Fleet, step: str
) -> None:
    daemon_left = "sleep 20 & echo $! > ../../shared/daemon"
    fleet.configure(**{"check": None, "check_url": None, step: daemon_left})
    fleet.commit("v1")

    done = fleet.inv("deploy", timeout=15)

    assert done.returncode == 0, done.stderr
    for host in fleet.hosts:
        daemon = int((fleet.root(host) / "shared" / "daemon").read_text())
        os.kill(daemon, 9)  # it lived


def test_hooks_run_locally_and_the_first_can_stop_the_deploy(fleet: Fleet) -> None:
    fleet.configure(
        hooks={
            "before": "test ! -e closed",
            "after": "echo $RINGTASKS_RELEASE > after",
            "failed": "echo $RINGTASKS_RELEASE > failed",
        }
    )
    fleet.commit("v1")
    assert fleet.inv("deploy").returncode == 0
    assert (fleet.folder / "after").read_text().strip() == fleet.current("web1").name

    fleet.write("closed", "")
    done = fleet.inv("deploy", "--json", "--junit", "report.xml")
    assert done.returncode == 1
    assert "hooks: before: failed: nothing was done" in done.stderr
    told = [json.loads(line)["end_state"] for line in done.stdout.splitlines()]
    assert told == ["unchanged"] * len(fleet.hosts)
    assert "web1" in (fleet.folder / "report.xml").read_text()
    (fleet.folder / "closed").unlink()
    fleet.configure(build=["false"])
    assert fleet.inv("deploy").returncode == 1
    assert (fleet.folder / "failed").exists()


@three_hosts
def test_deploy_status_lists_the_revision_of_each_host_and_any_drift(fleet: Fleet) -> None:
    revision = fleet.commit("v1")
    assert fleet.inv("deploy.status").returncode == 1  # nothing was deployed
    fleet.inv("deploy")
    well = fleet.inv("deploy.status")
    assert well.returncode == 0
    assert well.stdout.count(revision[:12]) == 2 * len(fleet.hosts)

    fleet.commit("v2")
    fleet.inv("deploy", "--host", "web3")
    (fleet.root("web2") / "current").unlink()
    (fleet.root("web2") / "current").symlink_to("/srv/by-hand")
    done = fleet.inv("deploy.status", "--json")

    assert done.returncode == 1
    told = {line["host_id"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert told["web1"]["drift"] is None
    assert told["web3"]["drift"] == f"most hosts are on {revision[:12]}"
    assert told["web2"]["drift"] == "current is a link to /srv/by-hand, which is not a release"


def test_deploy_status_fails_for_a_release_that_has_not_passed_its_check(fleet: Fleet) -> None:
    fleet.commit("v1")
    fleet.inv("deploy")
    history = fleet.root("web1") / "history"
    *lines, good = history.read_text().splitlines(keepends=True)
    for end, remark in (("", "never checked"), (good.replace("good", "failed"), "failed")):
        history.write_text("".join(lines) + end)

        status = fleet.inv("deploy.status")

        assert remark in status.stdout
        assert status.returncode == 1


def test_releases_task_lists_the_outcome_of_each_release(fleet: Fleet) -> None:
    fleet.configure(check_timeout=1)
    fleet.commit("v1")
    fleet.inv("deploy")
    fleet.commit("v2", bad_on="web1")
    fleet.inv("deploy")

    done = fleet.inv("deploy.releases", "--host", "web1", "--json")

    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["verdict"], line["is_current"]) for line in told] == [
        ("good", True),
        ("failed", False),
    ]
    failed = told[1]["events"][-1]
    assert failed["kind"] == "failed"
    assert failed["note"] == "check: has not succeeded in 1 s: v2 is bad"


def test_rollback_to_a_named_release_refuses_a_failed_one(fleet: Fleet) -> None:
    fleet.configure(restart=FAILING_RESTART)
    revisions = []
    for version, bad in (("v1", ""), ("v2", ""), ("v3", "web1"), ("v4", "")):
        revisions.append(fleet.commit(version, bad_on=bad))
        fleet.inv("deploy")
    failed = fleet.inv("deploy.rollback", "--to", revisions[2][:8])
    unknown = fleet.inv("deploy.rollback", "--to", "0123abcd")
    empty = fleet.inv("deploy.rollback", "--to", "")

    done = fleet.inv("deploy.rollback", "--to", revisions[0][:8])

    assert failed.returncode == 2
    assert "it failed on web1; choose a release that succeeded" in failed.stderr
    assert unknown.returncode == 2
    assert "has no such release; it has:" in unknown.stderr
    assert "--to: expected a release" in empty.stderr
    assert done.returncode == 0, done.stderr
    assert fleet.served() == ["v1/v1"]


@two_hosts
def test_rollback_to_different_releases_is_refused_naming_each_host(fleet: Fleet) -> None:
    for version, hosts in (("v1", "web1"), ("v2", "web2"), ("v3", "@all")):
        fleet.commit(version)
        fleet.inv("deploy", "--host", hosts)

    done = fleet.inv("deploy.rollback")

    assert done.returncode == 2
    assert "the hosts would go back to different releases: web1:" in done.stderr
    assert fleet.served() == ["v3/v3"]


def test_deploy_dry_run_shows_scripts_and_deletions_and_changes_nothing(fleet: Fleet) -> None:
    fleet.configure(keep=1, build=["echo building"])
    fleet.commit("v1")
    fleet.inv("deploy")
    fleet.commit("v2")
    fleet.inv("deploy")
    fleet.commit("v3")
    before = _listing(fleet)

    done = fleet.inv("deploy", "--dry-run")
    verbose = fleet.inv("deploy", "--dry-run", "--verbose")
    as_json = fleet.inv("deploy", "--dry-run", "--json")

    assert done.returncode == 0, done.stderr
    assert _listing(fleet) == before
    first = fleet.releases("web1")[0].name
    rows = [line for line in done.stdout.splitlines() if line.startswith("web1 ")]
    assert first in rows[0]
    assert "direct" in rows[0]
    assert "command_in 'releases/" in done.stdout
    assert len(done.stdout.splitlines()) < 80
    assert "acquire() {" in verbose.stdout
    assert "'echo building'" in done.stdout
    told = [json.loads(line) for line in as_json.stdout.splitlines()]
    names = [step["name"] for step in told[0]["steps"]]
    assert names == ["lock", "upload", "build", "switch", "restart", "check", "unlock"]
    assert told[0]["would_remove"] == [first]


@three_hosts
def test_deploy_check_reports_problems_in_advance(fleet: Fleet) -> None:
    fleet.commit("v1")
    (fleet.root("web2") / "current").mkdir()
    shutil.rmtree(fleet.root("web3"))
    fleet.root("web3").touch()

    done = fleet.inv("deploy.check", "--json")

    told = {line["host_id"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert told["web1"]["error"] is None
    assert told["web1"]["free_bytes"] > 0
    assert "current: is in the way" in told["web2"]["error"]
    assert "web3: is not a folder" in told["web3"]["error"]


@two_hosts
def test_deploy_writes_reports_for_ci(fleet: Fleet, tmp_path: Path) -> None:
    fleet.configure(build=["echo '::error::not from us'", "[ $RINGTASKS_HOST != web2 ]"])
    fleet.commit("v1")
    page = tmp_path / "own-home" / "summary.md"

    done = fleet.inv(
        "deploy",
        "--verbose",
        "--junit",
        "reports/deploy.xml",
        GITHUB_ACTIONS="true",
        GITHUB_SERVER_URL="https://github.example",
        GITHUB_REPOSITORY="team/app",
        GITHUB_RUN_ID="7",
        GITHUB_STEP_SUMMARY=str(page),
    )

    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert "::group::stage: 2 hosts" in lines
    assert lines.count("::endgroup::") == sum(line.startswith("::group::") for line in lines)
    assert "::error::not from us" not in lines
    errors = [line for line in lines if line.startswith("::error")]
    assert errors == ["::error title=Deploy failed::web2: build: exit status 1: unchanged"] or [
        "web2" in error for error in errors
    ] == [True]
    assert "| web2 | unchanged |" in page.read_text()
    suite = ET.parse(fleet.folder / "reports" / "deploy.xml").getroot()[0]
    (failed,) = [case for case in suite if case.find("failure") is not None]
    assert (failed.get("classname"), failed.get("name")) == ("web2", "build")
    assert "https://github.example/team/app/actions/runs/7" in fleet.history("web2")[-1][4]


def test_unwritable_report_path_is_reported_before_any_change(fleet: Fleet) -> None:
    fleet.commit("v1")

    done = fleet.inv("deploy", "--junit", "serve.py/deploy.xml")

    assert done.returncode == 2
    assert "--junit serve.py/deploy.xml: " in done.stderr
    assert not (fleet.root("web1") / "releases").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"path": None}, "deploy: path: is not set"),
        ({"path": "/"}, "deploy: path: expected a folder of the application's own"),
        ({"keep": 0}, "deploy: keep: expected a whole number, at least 1, found 0"),
        ({"shared": ["../x"]}, "deploy: shared[0]: expected a path below the release"),
        ({"checks": "x"}, "deploy: checks: is not a setting; did you mean check"),
        ({"serial": "200%"}, "deploy: serial: expected a whole number from 1"),
        ({"check_url": "ftp://x"}, "deploy: check_url: expected a URL"),
        ({"check_status": [99]}, "deploy: check_status: expected HTTP statuses such as 204 or 2xx"),
        ({"path": "/srv/{nothing}"}, "deploy: path: web1: the host has no fact {nothing}"),
        ({"source": "nowhere"}, "deploy: source: no such file or folder: nowhere"),
        ({"ref": "nothing"}, "deploy: ref: nothing: is not a revision of this repository"),
        ({"hooks": {"later": "x"}}, "deploy: hooks: later: is not a setting"),
    ],
)
@pytest.mark.matrix(6)
def test_invalid_deploy_settings_are_reported_by_name(
    fleet: Fleet, settings: dict[str, object], told: str
) -> None:
    fleet.commit("v1")
    fleet.configure(**settings)

    done = fleet.inv("deploy")

    assert done.returncode == 2
    assert told in done.stderr


def test_release_of_another_tool_is_kept_and_restored_on_failure(fleet: Fleet) -> None:
    fleet.configure(check_timeout=1)
    for host in fleet.hosts:
        other = fleet.root(host) / "releases" / "20250101120000"
        other.mkdir(parents=True)
        for part in ("one", "two"):
            (other / part).write_text("other")
        (other / "serve.py").write_text(SERVE)
        (other / "check.py").touch()
        (fleet.root(host) / "current").symlink_to(other)
    fleet.commit("v1", bad_on="web1")

    done = fleet.inv("deploy", "--json")

    assert done.returncode == 1
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["end_state"] for line in told} == {"reverted"}
    assert told[0]["current"] == str(fleet.root("web1") / "releases" / "20250101120000")
    assert fleet.served() == ["other/other"]


def test_ci_job_can_deploy_with_only_a_key_in_the_environment(
    fleet: Fleet, client_key: Path
) -> None:
    hosts = yaml.safe_load((fleet.folder / "hosts" / "hosts.yaml").read_text())["hosts"]
    for host, own in hosts.items():
        fleet.reach(host, {name: own[name] for name in own if name != "ssh_key"})
    fleet.commit("v1")

    done = fleet.inv("deploy", RINGTASKS_SSH_KEY=client_key.read_text(), CI="true")

    assert done.returncode == 0, done.stderr
    assert fleet.served() == ["v1/v1"]


@two_hosts
def test_no_revert_leaves_failed_hosts_on_the_new_release(fleet: Fleet) -> None:
    fleet.configure(restart=FAILING_RESTART)
    fleet.commit("v1", bad_on="web2")

    done = fleet.inv("deploy", "--no-revert", "--json")

    told = {line["host_id"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert told["web2"]["end_state"] == "failed, and left on the new release"
    assert told["web1"]["end_state"] == "deployed"
    eventually(lambda: fleet.served() == ["v1/v1"])


@two_hosts
def test_failures_within_the_limit_do_not_stop_other_hosts(fleet: Fleet) -> None:
    fleet.configure(restart=FAILING_RESTART, serial=1)
    fleet.commit("v1")
    fleet.inv("deploy", "--host", "web1")
    fleet.commit("v2", bad_on="web1")

    done = fleet.inv("deploy", "--max-failures", "100%", "--json")

    told = {line["host_id"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert told["web1"]["end_state"] == "reverted"
    assert told["web2"]["end_state"] == "deployed"
    assert [fleet.services[host].get() for host in fleet.hosts] == ["v1/v1", "v2/v2"]


def test_uncommitted_changes_are_reported(fleet: Fleet) -> None:
    fleet.commit("v1")
    fleet.write("one", "v2")

    done = fleet.inv("deploy")

    assert done.stderr.count(told := "note: uncommitted changes are not in the release") == 1
    assert done.stderr.index(told) < done.stderr.index("web1: upload")
    assert fleet.served() == ["v1/v1"]


def _told(fleet: Fleet, *arguments: str) -> dict[str, dict[str, object]]:
    done = fleet.inv(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return {line["host_id"]: line for line in map(json.loads, done.stdout.splitlines())}


def _listing(fleet: Fleet) -> list[tuple[str, int]]:
    found = sorted(fleet.root("web1").rglob("*"))
    return [(str(path), path.lstat().st_mtime_ns) for path in found]
