"""Settings of a run, what hosts are asked, and which of them is chosen."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringtasks.client.ssh_client import SSHClient
from ringtasks.errors import UsageError
from ringtasks.health.model import SSHHealth
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.jobs import Gpu
from ringtasks.training.choice import Candidate, choose, willing
from ringtasks.training.preflight import checks
from ringtasks.training.probe import HostProbe, probe_host, script
from ringtasks.training.probe import parse as parse_probe
from ringtasks.training.settings import Preflight, SyncUp, TrainSettings, parse
from tests.support.fixtures import Require

GOOD = HostProbe(
    driver="ok",
    gpus=(Gpu(0, "a", "H"), Gpu(1, "b", "H")),
    disk_available=10**12,
    clock_skew=0.0,
    load=0.1,
)
#: The time of a choice, in Unix seconds.
NOW = 1.8e9
SHELLS = ["dash", "bash", "busybox ash"]


def test_training_settings_are_read_and_flags_override_them() -> None:
    settings = parse(
        {
            "command": "python3 train.py",
            "hosts": "@gpu",
            "env": {"SEED": 1},
            "sync_up": ["src", {"from": "data", "to": "in/data"}],
            "fetch": "model.json",
            "preflight": {"imports": ["torch"], "min_disk_gb": 5},
            "retries": 2,
        },
        hosts="box",
        gpus=2,
        name=None,
    )

    assert settings == TrainSettings(
        "python3 train.py",
        "box",
        gpus=2,
        env={"SEED": "1"},
        sync_up=(SyncUp("src"), SyncUp("data", "in/data")),
        fetch=("model.json",),
        preflight=Preflight(imports=("torch",), min_disk_gb=5.0),
        retries=2,
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "train: expected a mapping of settings"),
        ({"hosts": "a"}, "train: command: is not set: give --cmd"),
        ({"command": "x"}, "train: hosts: is not set: give --host"),
        ({"gpu": 1}, "train: gpu: is not a setting; did you mean gpus"),
        ({"gpus": -1}, "train: gpus: expected a whole number, at least 0, found -1"),
        ({"gpus": True}, "train: gpus: expected a whole number"),
        ({"gpus": "two"}, "train: gpus: expected a whole number"),
        ({"nodes": 0}, "train: nodes: expected a whole number, at least 1, found 0"),
        ({"env": ["A=1"]}, "train: env: expected a mapping"),
        ({"env": {"A B": "1"}}, "train: env: expected a variable's name"),
        ({"env": {"A": None}}, "train: env: A: expected text or a number"),
        ({"fetch": ["../out"]}, r"train: fetch\[0\]: expected a path below cwd"),
        ({"fetch": ["/etc/passwd"]}, r"train: fetch\[0\]: expected a path below cwd"),
        ({"checkpoint": "~/x"}, "train: checkpoint: expected a path below cwd"),
        ({"sync_up": [{"to": "x"}]}, r"train: sync_up\[0\]: from: is not set"),
        ({"sync_up": [{"from": "x", "into": "y"}]}, r"sync_up\[0\]: into: is not a setting"),
        ({"sync_up": [3]}, r"train: sync_up\[0\]: expected a path, or a mapping"),
        ({"preflight": "yes"}, "train: preflight: expected true, false or a mapping"),
        ({"preflight": {"imports": ["a;b"]}}, r"preflight: imports\[0\]: expected a module's name"),
        ({"preflight": {"driver_timeout": 0}}, "driver_timeout: expected seconds, above 0"),
        ({"name": "a b"}, "train: name: expected a word"),
        ({"allow_split": True}, "train: allow_split: has a meaning only with retries"),
        ({"nodes": 2, "retries": 1}, "train: retries: are for runs on one host"),
    ],
)
def test_error_in_the_training_settings_names_its_field(given: Any, said: str) -> None:
    if isinstance(given, dict) and not {"hosts", "command"} & set(given):
        given = {"command": "x", "hosts": "a", **given}
    with pytest.raises(UsageError, match=said):
        parse(given)


def test_environment_value_is_never_shown() -> None:
    with pytest.raises(UsageError) as caught:
        parse({"command": "x", "hosts": "a", "env": {"TOKEN": ["s3cret"]}})
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(parse({"command": "x", "hosts": "a", "env": {"T": "s3cret"}}))


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., HostProbe]:
    """Runs the probe's script with a stand-in nvidia-smi, by any shell."""
    tools = tmp_path / "bin"
    tools.mkdir()

    def run(nvidia_smi: str | None, shell: str = "dash", **options: Any) -> HostProbe:
        if nvidia_smi is not None:
            program = tools / "nvidia-smi"
            program.write_text(f"#!/bin/sh\n{nvidia_smi}\n")
            program.chmod(0o755)
        given = {"cwd": None, "imports": (), "driver_timeout": 2.0, **options}
        done = subprocess.run(
            [*shell.split(), "-c", script(**given)],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert done.stderr == ""
        return parse_probe(done.stdout)

    return run


TWO_GPUS = """case "$*" in
*compute-apps*) echo "GPU-b, 4711, 400" ;;
*) echo "0, GPU-a, H100, 81559, 1, 0"; echo "1, GPU-b, H100, 81559, 401, 90" ;;
esac"""


@pytest.mark.parametrize("shell", SHELLS)
def test_probe_lists_the_gpus_and_their_processes(
    ask: Callable[..., HostProbe], shell: str, tmp_path: Path, require: Require
) -> None:
    require(shell.split()[0])

    found = ask(TWO_GPUS, shell)

    assert found.driver == "ok"
    assert found.gpus == (
        Gpu(0, "GPU-a", "H100", 81559, 1, 0),
        Gpu(1, "GPU-b", "H100", 81559, 401, 90, (4711,)),
    )
    assert found.free_gpus == 1
    assert found.disk_available == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert found.load is not None
    assert found.clock == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize("shell", SHELLS)
def test_hanging_gpu_driver_is_not_waited_for(
    ask: Callable[..., HostProbe], shell: str, require: Require
) -> None:
    require(shell.split()[0])

    found = ask("exec sleep 60", shell, driver_timeout=0.5)  # beyond the limit of `ask`

    assert found.driver == "hangs"


def test_gpu_driver_error_is_quoted(ask: Callable[..., HostProbe]) -> None:
    found = ask("echo 'NVIDIA-SMI has failed\x1b[2J'; exit 9")

    assert found.driver == "failed"
    assert (
        found.gpu_message == "nvidia-smi ended with exit status 9: NVIDIA-SMI has failed\ufffd[2J"
    )


def test_missing_driver_is_reported_and_modules_are_tried_individually(
    ask: Callable[..., HostProbe],
) -> None:
    found = ask(None, imports=["json", "no_such_module", "os.path"])

    assert found.driver == ("ok" if shutil.which("nvidia-smi") else "none")
    (missing,) = found.missing
    assert missing.startswith("no_such_module: ModuleNotFoundError")


def test_disk_space_of_a_missing_directory_is_measured_at_its_parent(
    ask: Callable[..., HostProbe], tmp_path: Path
) -> None:
    assert ask(None, cwd=str(tmp_path / "not" / "yet")).disk_available
    assert ask(None, cwd="~/not yet").disk_available


def test_malformed_probe_answer_is_not_an_error() -> None:
    found = parse_probe("clock soon\ndisk full\nload\ngpu\nholder x\n\n\x1b[2J what\n")

    assert (found.disk_available, found.load, found.clock_skew) == (None, None, None)
    assert found.driver == "failed"


def test_probe_describes_a_real_host_and_reports_why_another_is_unreachable(
    client: SSHClient,
) -> None:
    found = probe_host(client, imports=["json"])
    away = probe_host(SSHClient(SSHConfig("127.0.0.1", 9, name="away", use_control_master=False)))

    assert found.error is None
    assert found.clock_skew == 0.0
    assert found.missing == ()
    assert found.disk_available
    assert away.error is not None
    assert "refused" in away.error


def failed(found: HostProbe, preflight: Preflight | None = None, **need: Any) -> list[str]:
    return [str(c) for c in checks(found, preflight or Preflight(), **need) if not c.is_passed]


@pytest.mark.parametrize(
    ("found", "need", "said"),
    [
        (HostProbe(error="refused"), {}, "answer: refused"),
        (
            HostProbe(driver="none", disk_available=10**12, clock_skew=0),
            {"gpus": 1},
            "no nvidia-smi",
        ),
        (
            HostProbe(driver="hangs", disk_available=10**12, clock_skew=0),
            {"gpus": 1},
            "within 15 s",
        ),
        (GOOD, {"gpus": 3}, "GPU count: 2, expected 3"),
        (GOOD, {"facts": {"gpu_count": 8}}, "fallen off the bus"),
    ],
)
def test_failed_preflight_check_reports_the_value_found(
    found: HostProbe, need: dict[str, Any], said: str
) -> None:
    assert any(said in text for text in failed(found, **need))


def test_gpus_used_by_processes_or_reserved_by_jobs_are_not_free() -> None:
    held = HostProbe(
        driver="ok",
        gpus=(Gpu(0, "a", "H", pids=(17,)), Gpu(1, "b", "H", job="j"), Gpu(2, "c", "H")),
        disk_available=10**12,
        clock_skew=0.0,
    )

    assert failed(held, gpus=1) == []
    (text,) = failed(held, gpus=2)
    assert "1 of 3 (GPU 0: process 17; GPU 1: job j)" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"disk_available": 10**8}, "disk: 95 MiB free, 954 MiB needed"),
        ({"clock_skew": -90.0}, "clock: 90 s behind"),
        ({"clock_skew": 31.0}, "clock: 31 s ahead"),
        ({"missing": ("torch: no",), "python": "p"}, "imports: torch: no"),
        ({"python": ""}, "imports: there is no python3"),
    ],
)
def test_each_missing_resource_fails_its_own_check(change: dict[str, Any], said: str) -> None:
    found = replace(GOOD, **{"python": "/usr/bin/python3", **change})

    (text,) = failed(found, Preflight(imports=("torch",)))

    assert said in text


def test_gpu_checks_apply_only_if_gpus_are_needed() -> None:
    assert [c.name for c in checks(GOOD, Preflight(), gpus=2) if c.is_passed] == [
        "GPU driver", "GPU count", "GPUs free", "disk", "clock",
    ]  # fmt: skip
    assert [c.name for c in checks(GOOD, Preflight())] == ["disk", "clock"]


@pytest.mark.parametrize(
    ("facts", "fit"),
    [
        ({"a": {"training_enabled": True}, "b": {}}, ["a"]),
        ({"a": {}, "b": {}}, ["a", "b"]),
        ({"a": {"training_enabled": False}, "b": {}}, ["b"]),
        ({"a": {"training_enabled": True, "status": "offline"}, "b": {}}, []),
        ({"a": {"status": "Ready"}, "b": {"status": "setup"}}, ["a"]),
    ],
)
def test_only_ready_training_hosts_are_probed(
    facts: dict[str, dict[str, Any]], fit: list[str]
) -> None:
    assert [name for name, why in willing(facts).items() if not why] == fit


def tried(seconds_ago: float, failures: int = 0, total: int = 1) -> SSHHealth:
    """Return the health of a host that failed so long ago, and never or often since it answered."""
    return SSHHealth(
        last_failure=NOW - seconds_ago,
        consecutive_failures=failures,
        total_failures=total,
        total_successes=999,
    )


def test_best_host_is_chosen_by_recent_failures_then_load_then_free_gpus() -> None:
    busy = replace(GOOD, load=2.0)
    roomy = replace(GOOD, gpus=tuple(Gpu(n, f"{n}", "H") for n in range(3)))
    verdicts = choose(
        [
            Candidate("just failed", roomy, health=tried(1799), asked_at=NOW),
            Candidate("failed last of all", roomy, health=tried(9e5, failures=3), asked_at=NOW),
            Candidate("failed today", roomy, health=tried(7300), asked_at=NOW),
            Candidate("failed last year", roomy, health=tried(3e7, total=900), asked_at=NOW),
            Candidate("busy", busy),
            Candidate("good", GOOD),
            Candidate("roomy", roomy),
            Candidate(
                "away", HostProbe(error="x"), checks(HostProbe(error="refused"), Preflight())
            ),
        ],
        {"off": "its status in the hosts file is 'offline'", "fine": ""},
    )

    assert [verdict.host for verdict in verdicts if verdict.is_fit] == [
        "failed last year", "roomy", "good", "busy", "failed today", "just failed",
        "failed last of all",
    ]  # fmt: skip
    reasons = {verdict.host: verdict.reason for verdict in verdicts}
    rest = "load 0.1 of 1, 3 of 3 GPUs free, 931 GiB free"
    assert reasons["roomy"] == f"no failed attempt in a day, {rest}"
    assert reasons["just failed"] == f"last failed attempt 29 min ago, {rest}"
    assert reasons["failed last of all"] == f"last failed attempt 10 d 10 h ago, {rest}"
    assert reasons["away"] == "failed answer"
    assert reasons["off"] == "its status in the hosts file is 'offline'"
    assert "fine" not in reasons
