"""The parts of a run on many hosts that need no host."""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from ringtasks.client.result import SSHResult
from ringtasks.errors import UsageError
from ringtasks.fleet import FleetRequest, FleetResult, FleetState, HostResult
from ringtasks.fleet.broadcast import Broadcast
from ringtasks.fleet.eligibility import eligible_hosts
from ringtasks.fleet.folding import difference, folded, groups_of
from ringtasks.fleet.last_run import LastRun
from ringtasks.fleet.request import share
from ringtasks.fleet.results import skipped, state_of
from ringtasks.health.model import SSHHealth
from ringtasks.remote.local_script import command_of_file, label_of


def result_of(host: str = "a", **fields: Any) -> SSHResult:
    known: dict[str, Any] = {
        "success": False, "returncode": 1, "stdout": "", "stderr": "", "elapsed_ms": 1.0,
        "command": "c", "host": host, "transport_used": "direct",
    }  # fmt: skip
    return SSHResult(**{**known, **fields})


UNREACHED = {"returncode": 255, "transport_used": None, "error": "a: unreachable"}
LOST = {"returncode": 255, "error": "a: outcome unknown", "is_unknown": True}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        pytest.param({"success": True, "returncode": 0}, FleetState.SUCCEEDED, id="succeeded"),
        pytest.param({"returncode": 3}, FleetState.FAILED, id="failed"),
        pytest.param({"returncode": 255}, FleetState.FAILED, id="its own 255"),
        pytest.param(UNREACHED, FleetState.UNREACHABLE, id="unreachable"),
        pytest.param(LOST, FleetState.UNKNOWN, id="link lost"),
        pytest.param(
            {"returncode": 124, "timed_out": True, "error": "passed"},
            FleetState.TIMED_OUT,
            id="limit",
        ),
        pytest.param({"returncode": 124}, FleetState.FAILED, id="its own 124"),
        pytest.param({"returncode": 130, "error": "interrupted"}, FleetState.FAILED, id="Ctrl-C"),
    ],
)
def test_each_result_maps_to_its_fleet_state(fields: dict[str, Any], state: FleetState) -> None:
    assert state_of(result_of(**fields)) is state


def fleet_of(**states: tuple[FleetState, int]) -> FleetResult:
    return FleetResult(
        tuple(
            HostResult(name, state, result_of(name, returncode=status))
            for name, (state, status) in states.items()
        )
    )


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ({"a": (FleetState.SUCCEEDED, 0), "b": (FleetState.SKIPPED, 255)}, 0),
        ({"a": (FleetState.FAILED, 3), "b": (FleetState.FAILED, 3)}, 3),
        ({"a": (FleetState.FAILED, 3), "b": (FleetState.UNREACHABLE, 255)}, 1),
        ({"a": (FleetState.SKIPPED, 255)}, 255),
    ],
    ids=["skipped has no say", "shared", "mixed", "nothing was done"],
)
def test_fleet_result_has_one_exit_status(
    states: dict[str, tuple[FleetState, int]], status: int
) -> None:
    result = fleet_of(**states)

    assert result.returncode == status
    assert bool(result) is (status == 0)


def test_results_are_found_by_host_and_by_state() -> None:
    result = fleet_of(
        a=(FleetState.SUCCEEDED, 0), b=(FleetState.TIMED_OUT, 124), c=(FleetState.SKIPPED, 255)
    )

    assert result["b"].state is FleetState.TIMED_OUT
    assert [found.host for found in result.succeeded] == ["a"]
    assert [found.host for found in result.failed] == ["b"]
    assert [found.host for found in result.skipped] == ["c"]
    with pytest.raises(KeyError):
        result["z"]


@pytest.mark.parametrize(
    ("text", "whole", "expected"),
    [("5", 100, 5), (5, 100, 5), ("25%", 200, 50), ("25%", 2, 1), ("100%", 7, 7), ("0.5%", 400, 2)],
)
def test_a_share_is_a_number_or_a_percentage(text: int | str, whole: int, expected: int) -> None:
    assert share("serial", text, whole) == expected


@pytest.mark.parametrize("text", ["0", "-1", "0%", "101%", "x", "", "1.5", "5 %%", 0, True, "nan%"])
def test_invalid_share_is_refused(text: int | str) -> None:
    with pytest.raises(UsageError, match=r"serial: expected a whole number from 1, or 1% to 100%"):
        share("serial", text, 10)


@pytest.mark.parametrize(
    "fields", [{"fanout": 0}, {"fanout": 1.5}, {"fanout": True}, {"retries": -1}, {"pick": 0},
               {"jump_fanout": 0}, {"serial": "0"}, {"max_failures": "x"}],
)  # fmt: skip
def test_invalid_fleet_request_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(fields))):
        FleetRequest("true", **fields)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"gpu{n:02}" for n in range(1, 17)], "gpu[01-16] (16)"),
        (["a"], "a"),
        (["b", "a"], "a,b (2)"),
        (["x@y", "[::1]:22"], "x@y,[::1]:22 (2)"),
        ([f"10.0.{n}.{m}" for n in (1, 2) for m in (1, 2)], "10.0.1.[1-2],10.0.2.[1-2] (4)"),
    ],
)
def test_numbered_host_names_are_folded(names: list[str], expected: str) -> None:
    assert folded(names) == expected


def test_largest_output_group_comes_first_and_ties_keep_host_order() -> None:
    outputs = {"a": "x", "b": "y", "c": "y", "d": "z"}

    groups = groups_of(list(outputs), str, lambda host: outputs[host])

    assert [group.hosts for group in groups] == [("b", "c"), ("a",), ("d",)]
    assert [group.first for group in groups] == [1, 0, 3]


def test_output_difference_is_shown_as_a_unified_diff() -> None:
    assert difference("a\nb\n", "a\nc\n", "most", "one").splitlines() == [
        "--- most", "+++ one", "@@ -1,2 +1,2 @@", " a", "-b", "+c",
    ]  # fmt: skip


def test_very_long_outputs_are_not_compared_line_by_line() -> None:
    text = difference("a\n" * 4000, "b\n" * 4000, "most", "one")

    assert text == "--- most\n+++ one\n4000 and 4000 lines differ"


NOW = 1000.0
HEALTH = {
    "good": SSHHealth(last_success=900.0, total_successes=9),
    "better": SSHHealth(last_success=950.0, total_successes=9),
    "shaky": SSHHealth(last_success=990.0, total_successes=5, total_failures=5),
    "failing": SSHHealth(last_failure=990.0, consecutive_failures=1, total_failures=1),
    "open": SSHHealth(
        last_failure=990.0,
        consecutive_failures=3,
        total_failures=3,
        last_reason="direct: refused",
    ),
}


def test_hosts_with_an_open_circuit_are_skipped_with_the_reason() -> None:
    choice = eligible_hosts(["open", "good", "new"], HEALTH, NOW, skip_unhealthy=True)

    assert choice.chosen == ("good", "new")
    assert choice.skipped == {"open": "direct: refused"}


def test_healthiest_hosts_are_picked_in_inventory_order() -> None:
    names = ["open", "failing", "new", "shaky", "good", "better"]

    picked = [eligible_hosts(names, HEALTH, NOW, pick=n).chosen for n in range(1, 7)]

    added = [set(now) - set(before) for before, now in zip([(), *picked], picked, strict=False)]
    order = [name for (name,) in added]
    assert order == ["better", "good", "shaky", "new", "failing", "open"]
    assert picked[1] == ("good", "better")


def test_picking_more_hosts_than_exist_is_refused() -> None:
    assert eligible_hosts(["a", "b"], {}, NOW, pick=5).chosen == ("a", "b")


def test_failed_hosts_are_remembered_for_a_rerun(tmp_path: Path) -> None:
    memory = LastRun("run", tmp_path / "state")

    memory.remember(
        fleet_of(
            a=(FleetState.SUCCEEDED, 0), b=(FleetState.FAILED, 1), c=(FleetState.SKIPPED, 255)
        ).results
    )

    assert memory.undone() == ("b", "c")
    assert memory.path.stat().st_mode & 0o777 == 0o600
    assert "command" not in json.loads(memory.path.read_text())


@pytest.mark.parametrize("kind", ["run", "put"])
def test_failed_hosts_are_remembered_separately_for_each_kind_of_run(
    tmp_path: Path, kind: str
) -> None:
    for name in ("run", "put"):
        LastRun(name, tmp_path).remember([skipped(name, "c", "why")])

    assert LastRun(kind, tmp_path).undone() == (kind,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "no 'run' on several hosts is remembered"),
        ('{"hosts": {"a": "succeeded"}}', "succeeded on all hosts"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ('{"hosts": []}', "is damaged"),
    ],
)
def test_rerun_without_failed_hosts_is_reported(
    tmp_path: Path, text: str | None, expected: str
) -> None:
    memory = LastRun("run", tmp_path)
    if text is not None:
        memory.path.write_text(text)

    with pytest.raises(UsageError, match=expected):
        memory.undone()


def run_here(command: str, *shell: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*(shell or ("/bin/sh",)), "-c", command], capture_output=True, check=False
    )


@pytest.mark.parametrize("shell", [("dash",), ("bash",), ("busybox", "ash")], ids=str)
def test_script_runs_with_its_interpreter_and_arguments(
    tmp_path: Path, shell: tuple[str, ...]
) -> None:
    script = tmp_path / "it's mine.py"
    script.write_bytes(
        b"#!/usr/bin/env python3\n"
        b"import sys\nprint(sys.argv[1:], '\xc3\xa9 \\ $HOME')\nsys.exit(3)\n"
    )

    done = run_here(command_of_file(script, ["a b", "-x", "$HOME", "it's"]), *shell)

    assert done.stdout.decode() == "['a b', '-x', '$HOME', \"it's\"] é \\ $HOME\n"
    assert (done.returncode, done.stderr) == (3, b"")


def test_script_without_a_shebang_runs_in_sh_and_reads_stdin(tmp_path: Path) -> None:
    script = tmp_path / "s"
    script.write_text('read -r line; echo "got $line"; echo $#')

    done = subprocess.run(
        ["/bin/sh", "-c", command_of_file(script)], input=b"it\n", capture_output=True, check=True
    )

    assert done.stdout == b"got it\n0\n"


def test_script_that_the_host_has_no_space_for_is_not_started(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("echo it ran\n")
    full = f"mount -t tmpfs -o size=4k none {tmp_path}; head -c 9999 /dev/zero >{tmp_path}/f"
    run = f"{full}; TMPDIR={tmp_path}; {command_of_file(tmp_path / 'script')}"

    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", run], capture_output=True, check=False
    )

    assert (done.returncode, done.stdout) == (1, b"")
    assert b"the script was not started: it cannot be written to" in done.stderr


def test_script_leaves_no_file_on_the_host(tmp_path: Path) -> None:
    script = tmp_path / "s"
    script.write_text("echo $0; exit 1")
    (tmp_path / "t").mkdir()

    done = subprocess.run(
        ["/bin/sh", "-c", command_of_file(script)],
        capture_output=True, check=False, env={**os.environ, "TMPDIR": str(tmp_path / "t")},
    )  # fmt: skip

    assert done.stdout.decode().startswith(f"{tmp_path}/t/ringtasks.")
    assert list((tmp_path / "t").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "No such file"), (b"", "is empty"), (b" \n", "is empty"), (b"\x7fELF\0", "NUL")],
)
def test_file_that_is_not_a_script_is_refused(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    script = tmp_path / "s"
    if content is not None:
        script.write_bytes(content)

    with pytest.raises(UsageError, match=expected):
        command_of_file(script)


def test_script_receives_its_path_and_arguments() -> None:
    assert label_of(Path("s.sh"), ["a b"]) == "s.sh 'a b'"


def test_every_reader_gets_the_whole_input() -> None:
    sent = os.urandom(300_000)
    everything = Broadcast(io.BytesIO(sent))

    readers = [everything.reader() for _ in range(3)]

    assert [b"".join(iter(lambda r=r: r.read1(), b"")) for r in readers] == [sent] * 3  # type: ignore[attr-defined, misc]


def test_reader_gets_available_input_before_its_end_and_can_be_released() -> None:
    source, sink = os.pipe()
    everything = Broadcast(os.fdopen(source, "rb", buffering=0))
    reader = everything.reader()
    os.write(sink, b"first")

    assert reader.read1() == b"first"  # type: ignore[attr-defined]
    waiting = threading.Thread(target=reader.read1, daemon=True)  # type: ignore[attr-defined]
    waiting.start()
    reader.close()
    waiting.join(5)

    assert not waiting.is_alive()
    os.close(sink)
