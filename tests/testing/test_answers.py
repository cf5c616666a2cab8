"""A fake host answers as it was told, and records what it was asked."""

from __future__ import annotations

import asyncio
import io
import re
import time
from pathlib import Path
from typing import Any

import pytest

from ringtasks import get_ssh_client
from ringtasks.testing import Answer, Call, FakeFleet, fake_fleet


def test_rule_is_a_glob_a_pattern_or_a_function(fleet: FakeFleet) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    gpu1.on("make *", stdout="glob")
    gpu1.on(re.compile(r"\brm\b"), stdout="pattern")
    gpu1.on(lambda call: call.cwd == "/data", stdout="judge")
    gpu1.on("[ -f x ]", stdout="as it is")

    def answer(command: str, cwd: str | None = None) -> str:
        return client.run(command, cwd=cwd).stdout

    assert answer("make all") == "glob"
    assert answer("cd /; rm x") == "pattern"
    assert answer("ls", "/data") == "judge"
    assert answer("[ -f x ]") == "as it is"
    assert answer("remake all") == ""


def test_latest_rule_applies_and_host_rules_precede_fleet_rules(fleet: FakeFleet) -> None:
    fleet["gpu1"].on("up*", stdout="own")
    fleet.on("*", stdout="all")
    fleet.on("uptime", stdout="latest")
    fleet.add("gpu3")

    results = [
        get_ssh_client(host).run(command).stdout
        for host, command in [
            ("gpu1", "uptime"), ("gpu1", "x"), ("gpu2", "uptime"), ("gpu3", "x"),
        ]
    ]  # fmt: skip

    assert results == ["own", "all", "latest", "all"]


def test_rule_can_be_limited_to_a_number_of_uses(fleet: FakeFleet) -> None:
    client = get_ssh_client("gpu1")
    fleet["gpu1"].on("job", stdout="done")
    fleet["gpu1"].on("job", returncode=3, times=2)

    result = asyncio.run(client.run_async_with_retry("job", retry_delay=0))

    assert result.stdout == "done"
    assert fleet["gpu1"].commands == ["job"] * 3


def test_function_rule_computes_its_answer(fleet: FakeFleet) -> None:
    fleet.on_call("wc -c", lambda call: Answer(f"{len(call.stdin)}\n"))
    fleet["gpu1"].on_call("fail*", lambda call: pytest.fail(f"{call.command} was run"))
    client = get_ssh_client("gpu1")

    assert client.run("wc -c", stdin=io.BytesIO(b"x" * 100_000)).stdout == "100000\n"
    with pytest.raises(pytest.fail.Exception, match="fail now was run"):
        client.run("fail now")


def test_answer_is_delayed_as_configured(fleet: FakeFleet) -> None:
    fleet["gpu1"].on("slow", stdout="late", delay=0.3)
    client = get_ssh_client("gpu1")

    assert client.run("slow", timeout=0.1).timed_out
    assert fleet["gpu1"].stopped == [Call("slow")]
    worked = time.thread_time()
    result = client.run("slow")

    assert result.stdout == "late"
    assert result.elapsed_ms >= 300
    assert time.thread_time() - worked < 0.1  # it waits, and does not spin


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"returncode": 256}, "returncode"),
        ({"returncode": -9}, "returncode"),
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"stdout": 3}, "stdout"),
        ({"times": 0}, "times"),
        ({"matcher": 3}, "matcher"),
    ],
)
def test_invalid_fake_answer_is_refused_by_name(
    fleet: FakeFleet, fields: dict[str, Any], names: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{names}: "):
        fleet["gpu1"].on(**{"matcher": "*", **fields})


def test_strict_fleet_fails_a_command_without_a_rule() -> None:
    with fake_fleet("gpu1", strict=True) as fleet:
        fleet["gpu1"].on("known", stdout="yes")
        client = get_ssh_client("gpu1")

        assert client.run("known").stdout == "yes"
        assert asyncio.run(client.check_connectivity())[0]
        unknown = client.run("unknown")
        job = asyncio.run(client.run_background("unknown job"))

    assert (unknown.returncode, unknown.error) == (127, None)
    assert "gpu1: no rule for 'unknown'" in unknown.stderr
    assert (job.returncode, job.stdout) == (127, "")
    assert "no rule for 'unknown job'" in job.stderr
    assert fleet["gpu1"].commands == ["known", "true", "unknown"]


def test_fake_job_is_recorded_with_its_command_and_started_once(fleet: FakeFleet) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    gpu1.on("python*", stdout="out\n", stderr="err\n", returncode=1)
    gpu1.lose_link(after="start")

    first = asyncio.run(client.run_background("python train.py", "logs/x", "~/app", {"A": "1"}))
    second = asyncio.run(client.run_background("python train.py"))

    assert first.success
    assert int(first.stdout) != int(second.stdout)
    assert gpu1.calls == [
        Call("python train.py", "~/app", {"A": "1"}, is_background=True),
        Call("python train.py", is_background=True),
    ]
    assert gpu1.files["~/app/logs/x"] == b"out\nerr\n"
    own_log = next(path for path in gpu1.files if path.endswith("/log"))
    assert re.fullmatch("/home/user/.ringtasks/jobs/[0-9a-f]{16}/log", own_log)


def test_fake_host_returns_the_configured_process_memory(fleet: FakeFleet) -> None:
    client = get_ssh_client("gpu1")
    fleet["gpu1"].memory[4711] = (1536.5, "python")

    assert asyncio.run(client.get_process_memory(4711)) == (1536.5, "python")
    assert asyncio.run(client.get_process_memory(4712)) is None
    assert fleet["gpu1"].calls == []


def test_fake_files_are_found_under_any_spelling_of_their_path(fleet: FakeFleet) -> None:
    files = fleet["gpu1"].files
    files["~/a/b"] = b"1"

    assert files["a/b"] == files["/home/user/a/./b"] == b"1"
    assert files == {"/home/user/a/b": b"1"}
    assert (files.mode("a/b"), files.mode("a")) == (0o644, 0o755)
    assert {"/home/user/a", "/tmp"} <= set(files.folders)
    del files["~/a/b"]
    assert "a/b" not in files
    with pytest.raises(KeyError):
        files["~/a"]
    with pytest.raises(TypeError, match="expected bytes, got str"):
        files["x"] = "text"  # type: ignore[assignment]
    with pytest.raises(IsADirectoryError):
        files["~/a"] = b""
    files["~/a/b"] = b""
    with pytest.raises(NotADirectoryError):
        files["~/a/b/c"] = b""


def test_fake_host_enforces_file_permissions(fleet: FakeFleet, tmp_path: Path) -> None:
    files, client = fleet["gpu1"].files, get_ssh_client("gpu1")
    (tmp_path / "x").write_bytes(b"")
    files["/closed/x"] = files["/shut/x"] = files["/secret"] = b""
    files.set_mode("/closed", 0o500)
    files.set_mode("/shut", 0o600)
    files.set_mode("/secret", 0o200)

    put, shut = client.scp_to(tmp_path / "x", "/closed/y"), client.scp_from("/shut/x", tmp_path)
    secret = client.scp_from("/secret", tmp_path)

    assert all("Permission denied" in str(result.error) for result in (put, shut, secret))
    assert put.returncode == 1


def test_a_large_file_can_be_put(fleet: FakeFleet, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(20_000_000)

    assert get_ssh_client("gpu1").scp_to(tmp_path / "large", "~/large").success
    assert len(fleet["gpu1"].files["~/large"]) == 20_000_000
