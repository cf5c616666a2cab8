"""Tables on narrow terminals: hosts, ids and states are whole, the rest gives way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks.health.model import HostOutcome, RouteOutcome
from ringtasks.health.store import HealthStore
from ringtasks.output.tables import table
from tests.support.fixtures import Inv, WriteHosts
from tests.support.jobs import end_jobs
from tests.support.sshd import Sshd

HOST = "runpod-h100-eu-west-07"
WIDTHS = [60, 80]


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def recorded(printed: str, width: int) -> list[str]:
    """The lines of a terminal, without colours."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed).splitlines()
    assert max(map(len, map(str.rstrip, lines))) <= width, printed
    return lines


@pytest.fixture
def jobs_host(write_hosts: WriteHosts, own_server: Sshd) -> Iterator[Sshd]:
    write_hosts(**{HOST: {"ssh_host": own_server.address, "ssh_port": own_server.port}})
    yield own_server
    end_jobs(own_server.home)


def test_jobs_table_shortens_the_command_column(jobs_host: Sshd, inv: Inv) -> None:
    command = "python3 -c 'raise SystemExit(17)' --learning-rate 0.001 --batch-size 128 --epochs 90"
    started = inv("start", "--host", HOST, "--name", "resnet50", "--cmd", command)
    inv("wait", "resnet50")

    for width in WIDTHS:
        done = inv("jobs", COLUMNS=str(width), FORCE_COLOR="1")

        header, *_, row = (line for line in recorded(done.stdout.decode(), width) if line.strip())
        assert started.stdout.decode()[:8] in row
        assert HOST in row
        assert "failed (17)" in row
        assert "command" in header
        assert "\N{HORIZONTAL ELLIPSIS}" in row
    piped = inv("jobs").stdout.decode().rstrip()
    assert piped.endswith(command[:59].rstrip() + "\N{HORIZONTAL ELLIPSIS}")


def test_jobs_table_shows_and_filters_by_job_owner(jobs_host: Sshd, inv: Inv) -> None:
    inv("start", "--host", HOST, "--name", "mine", "--cmd", "true", LOGNAME="ann")
    inv("start", "--host", HOST, "--name", "other", "--cmd", "true", LOGNAME="ben")

    table = inv("jobs").stdout.decode()
    mine = inv("jobs", "--mine", "--json", LOGNAME="ann")

    assert re.search(r"mine .* ann@\S+ ", table)
    assert re.search(r"other .* ben@\S+ ", table)
    (job,) = (json.loads(line) for line in mine.stdout.splitlines())
    assert (job["name"], job["owner"].partition("@")[0]) == ("mine", "ann")


@pytest.mark.parametrize(
    "task",
    [
        ["hosts"], ["check"], ["status"], ["health"], ["why"], ["--dry", "run", "--cmd", "true"],
        ["--dry", "put", ".", "y"], ["--dry", "start", "--cmd", "true"],
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.matrix(8)
def test_host_and_state_columns_are_never_truncated(
    write_hosts: WriteHosts, inv: Inv, task: list[str], width: int
) -> None:
    write_hosts(**{HOST: {"gpu": "H100 80GB HBM3", "role": "gpu_training", "status": "ready"}})
    routes = (RouteOutcome("direct", success=False, reason="key exchange failed"),)
    HealthStore().record([HostOutcome(HOST, success=False, reason="direct", routes=routes)] * 3)

    hosts = [] if task == ["health"] else ["--host", HOST]
    done = inv(*task, *hosts, COLUMNS=str(width), FORCE_COLOR="1")

    printed = done.stdout.decode()
    table = printed.partition("\n\n")[0] if "--dry" in task else printed
    if task == ["why"]:  # a sentence before, and commands to copy after the tables
        table = HOST + table.partition("\n# ")[0].partition("\n")[2]
    lines = recorded(table, width)
    assert any(HOST in line for line in lines), printed
    if task == ["health"]:
        assert any("open" in line.split() for line in lines), printed
    if task in (["check"], ["health"], ["why"]):
        assert any("direct" in line.split() for line in lines), printed
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed


def test_doctor_and_connections_fit_narrow_terminals(
    write_hosts: WriteHosts, inv: Inv, sshd: Sshd
) -> None:
    write_hosts(
        **{HOST: {"ssh_host": sshd.address, "ssh_port": sshd.port, "use_control_master": True}}
    )
    assert inv("run", "--host", HOST, "--cmd", "true").returncode == 0

    for width in WIDTHS:
        kept = inv("connections", COLUMNS=str(width), FORCE_COLOR="1").stdout.decode()
        found = inv("doctor", COLUMNS=str(width), FORCE_COLOR="1").stdout.decode()

        shown = "\n".join(recorded(kept, width))
        assert (HOST in shown, "direct" in shown, "last" in shown) == (True, True, True)
        verdicts = [line.split()[0] for line in recorded(found, width)[1:] if line[0] != " "]
        assert {"ok"} <= set(verdicts) <= {"ok", "missing", "bad"}, found
        assert "\N{HORIZONTAL ELLIPSIS}" not in kept + found


def test_columns_become_narrower_before_a_table_overflows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    row = ("h" * 31, "tailscale 100.64.0.1:22", "reachable 100%", "NVIDIA H100 80GB")

    table(["host", "routes", "health", "gpu"], [row])

    assert any("h" * 31 in line for line in recorded(capsys.readouterr().out, 60))


def test_table_that_cannot_fit_overflows_instead_of_truncating(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")

    table(["host", "state", "why"], [("h" * 15, "s" * 15, "words of a reason")])

    printed = capsys.readouterr().out
    assert "h" * 15 in printed
    assert "s" * 15 in printed


def test_wide_characters_count_as_two_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setenv("FORCE_COLOR", "1")

    table(["name", "command"], [("機械学習", "x" * 40)], cut=["command"])

    assert "機械学習" in capsys.readouterr().out


def test_piped_table_has_untruncated_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(["job", "command"], [("a", "x" * 300)], cut=["command"], optional=["job"])

    assert capsys.readouterr().out.splitlines()[1].split() == ["a", "x" * 300]
