"""``inv hosts``, ``check``, ``health``, ``shell``, ``doctor``: the real program."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ringtasks
from ringtasks.health.model import HostOutcome
from ringtasks.health.store import HealthStore
from ringtasks.inventory.state_files import known_hosts_file
from tests.support.faulty import Silent
from tests.support.fixtures import Inv, Start, WriteHosts
from tests.support.sshd import Sshd


def json_lines(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_task_names_are_the_published_ones(inv: Inv) -> None:
    listed = inv("--list", "--list-format=json").stdout
    collection = json.loads(listed)

    names = {task["name"] for task in collection["tasks"]}
    assert {"run", "hosts", "check", "shell", "doctor"} <= names
    (health,) = [c for c in collection["collections"] if c["name"] == "health"]
    assert {task["name"] for task in health["tasks"]} == {"show", "reset"}
    assert health["default"] == "show"


def test_flags_of_run_are_the_published_ones(inv: Inv) -> None:
    said = inv("--help", "run").stdout.decode()

    for flag in (
        "--host", "--cmd", "--timeout", "--cwd", "--env", "--transport", "--retries",
        "--fanout", "--json", "--pty", "--skip-unhealthy", "--inventory",
    ):  # fmt: skip
        assert flag in said


def test_hosts_shows_routes_health_and_facts(inv: Inv, write_hosts: WriteHosts, sshd: Sshd) -> None:
    write_hosts(a={"tailscale_ip": "100.64.0.1", "role": "gpu_training"}, b={})
    inv("run", "--host", "b", "--cmd", "true")

    table = inv("hosts").stdout.decode()
    rows = json_lines(inv("hosts", "--json").stdout)

    assert "tailscale 100.64.0.1:22, direct" in table
    assert "gpu_training" in table
    assert re.search(r"b +direct \S+ +reached \d+ s ago", table)
    assert [row["host_id"] for row in rows] == ["a", "b"]
    assert rows[0]["routes"] == [
        {"route": "tailscale", "address": "100.64.0.1:22"},
        {"route": "direct", "address": f"{sshd.address}:{sshd.port}"},
    ]
    assert rows[0]["success_rate"] is None
    assert (rows[1]["success_rate"], rows[1]["consecutive_failures"]) == (1.0, 0)


def test_hosts_shows_how_the_last_attempts_ended_and_not_a_rate(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={}, b={})
    HealthStore().record([HostOutcome("a", success=True)] * 99)
    HealthStore().record([HostOutcome("a", success=False, reason="timed out")] * 2)
    HealthStore().record([HostOutcome("b", success=False, reason="timed out")] * 3)

    table = inv("hosts").stdout.decode()

    assert re.search(r"a +direct \S+ +failed 2x, \d+ s ago *\n", table)
    assert re.search(r"b +direct \S+ +failed 3x, \d+ s ago, circuit open", table)


def test_hosts_shows_facts_of_any_kind_as_written(inv: Inv, tmp_path: Path) -> None:
    facts = "status: off, gpu: [A100, 010], until: 2026-01-05, load: .inf, at: {2026-01-05: x}"
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "hosts.yaml").write_text(f"hosts: {{a: {{ssh_host: h, {facts}}}}}\n")

    table = inv("hosts").stdout.decode()
    (row,) = json_lines(inv("hosts", "--json").stdout)

    assert "A100, 010  off" in table
    assert (row["facts"]["until"], row["facts"]["load"]) == ("2026-01-05", "inf")
    assert row["facts"]["at"] == {"2026-01-05": "x"}


def test_check_tries_every_route_and_reports_each_failure(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    with Silent() as silent:
        write_hosts(
            a={
                "tailscale_ip": silent.address,
                "tailscale_port": silent.port,
                "connect_timeout": 1.5,
            }
        )
        done = inv("check", "--json")
        table = inv("check")

    (row,) = json_lines(done.stdout)
    tailscale, direct = row["routes"]  # type: ignore[misc]
    assert (tailscale["ok"], tailscale["reason"]) == (False, "silent")
    assert direct["ok"] is True
    assert 0 < direct["latency_ms"] < 1500
    assert done.returncode == 0  # one way in is enough
    assert b"silent" in table.stdout
    health = HealthStore().get("a")
    assert health.total_successes == 2  # once a run, not once a route
    assert health.transports["tailscale"].total_failures == 2


def test_check_fails_if_no_route_of_a_host_works(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={"ssh_port": 9})

    assert inv("check").returncode == 255


def test_health_task_shows_recorded_health_and_reset_deletes_it(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={}, b={"ssh_port": 9})
    inv("run", "--host", "a", "--cmd", "exit 1")
    inv("run", "--host", "b", "--cmd", "true")

    shown = {str(row["host_id"]): row for row in json_lines(inv("health", "--json").stdout)}
    table = inv("health").stdout.decode()
    forgotten = inv("health.reset", "--host", "b")

    assert shown["a"]["total_successes"] == 1
    assert shown["a"]["is_healthy"] is True
    assert shown["b"]["total_failures"] == 1
    assert shown["b"]["transports"]["direct"]["last_reason"] == "refused"  # type: ignore[index]
    assert "refused" in table
    assert b"health of 1 host deleted" in forgotten.stderr
    assert set(HealthStore().load()) == {"a"}


@pytest.mark.timeout(30)
def test_shell_is_interactive_and_exits_with_the_remote_status(
    start: Start, write_hosts: WriteHosts
) -> None:
    write_hosts(a={"tailscale_ip": "127.0.0.1", "tailscale_port": 9})
    ours, theirs = pty.openpty()

    with start("shell", "--host", "a", stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        os.write(ours, b"stty size; echo got-$((40 + 2)); exit 6\n")
        received = b""
        with pytest.raises(OSError, match="Input/output error"):  # EIO: no process has the terminal
            while True:
                received += os.read(ours, 4096)
        status = running.wait(20)
    os.close(ours)

    assert b"got-42" in received
    assert status == 6


def test_shell_requires_exactly_one_host(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={}, b={})

    done = inv("shell", "--host", "@all")

    assert done.returncode == 2
    assert b"expected one host, got 2: a, b" in done.stderr


def test_doctor_reports_each_problem_with_advice(inv: Inv, write_hosts: WriteHosts) -> None:
    file = write_hosts(a={"ssh_key": "/no/such/key"})
    file.write_text(f"{file.read_text()}groups: {{web: 5}}\ngroup: {{}}\n")

    done = inv("doctor", "--json")

    rows = json_lines(done.stdout)
    advice = {str(row["evidence"]).split(": ")[1]: row["advice"] for row in rows[1:3]}
    assert advice == {
        "groups": "correct this entry",
        "group": "correct the name, or quote it if it is correct",
    }
    findings = {str(row["subject"]): row for row in rows}
    assert rows[0]["verdict"] == "ok"
    assert findings["ssh_key"]["verdict"] == "bad"
    assert findings["ssh"]["verdict"] == "ok"
    assert str(findings["ssh"]["evidence"]).startswith("OpenSSH")
    assert done.returncode == 1


def test_doctor_reports_no_problem_on_a_correct_setup(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})

    done = inv("doctor")

    assert done.returncode == 0, done.stdout
    assert b"1 host in hosts/hosts.yaml" in done.stdout


def test_doctor_reports_a_damaged_known_hosts_line(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})
    known_hosts_file().parent.mkdir(parents=True)
    known_hosts_file().write_text("# pins\na ssh-ed25519 damaged\n")

    done = inv("doctor")

    assert done.returncode == 1
    assert b"line 2 cannot be read: fix or remove that line" in done.stdout


def test_console_script_is_the_same_program_with_usage_status_2(
    write_hosts: WriteHosts, tmp_path: Path
) -> None:
    write_hosts(a={})
    program = [sys.executable, "-c", "from ringtasks.tasks.program import main; main()"]

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*program, *arguments], cwd=tmp_path, capture_output=True)

    assert run("run", "--host", "a", "--cmd", "echo hi").stdout == b"hi\n"
    assert run("run", "--no-such-flag").returncode == 2
    assert run("no-such-task").returncode == 2


@pytest.mark.parametrize(
    ("words", "prepared", "loaded"),
    [
        ("run", "run", "run"),
        ("deploy", "deploy.run", "deploy"),  # which is its collection's default
        ("health.reset --host jobs", "health.reset jobs.show", "health jobs"),
        ("their-own", "", ""),
        ("--list jobs", "jobs.show", "jobs"),
    ],
)
def test_only_the_named_tasks_are_imported_and_prepared(
    words: str, prepared: str, loaded: str
) -> None:
    """With ringtasks.tasks as a tasks.py: from_module is how Invoke loads one."""
    code = (
        "import sys; from invoke import Collection, Program, Task; import ringtasks.tasks; "
        "program = Program(namespace=Collection.from_module(ringtasks.tasks)); "
        "program.namespace.add_task(Task(lambda c: None, name='their-own')); "
        f"program.create_config(); program.parse_core({['inv', *words.split()]}); "
        "program.parse_collection(); contexts = program._make_parser().contexts.values(); "
        "print(*sorted(context.name for context in contexts if context.args)); "
        "print(*sorted(m for m in vars(ringtasks.tasks) if f'ringtasks.tasks.{m}' in sys.modules))"
    )

    # Words of the process that are not the program's own count for nothing.
    lines = subprocess.check_output([sys.executable, "-c", code, "check"], text=True).splitlines()

    with_flags, modules = (set(line.split()) for line in lines)
    modules &= {
        *("check", "completion", "connections", "deploy", "doctor", "files", "forward", "health"),
        *("hosts", "jobs", "plot", "ray", "run", "shell", "status", "train"),
    }
    assert (with_flags, modules) == (set(prepared.split()), set(loaded.split()))


def test_all_flags_are_prepared_without_a_command_line() -> None:
    from ringtasks.tasks import namespace

    without = [context.name for context in namespace.to_contexts() if not context.args]

    assert without == ["init"]  # which has none


def test_listing_tasks_shows_their_docstrings_and_loads_none() -> None:
    code = (
        "import json, sys; from ringtasks.tasks import namespace; "
        "texts = {name: namespace[name].__doc__ for name in namespace.task_names}; "
        "loaded = [module for module in sys.modules if module.startswith('ringtasks.inventory')]; "
        "bodies = {name: namespace[name].body.__doc__ for name in texts}; "
        "print(json.dumps([texts, bodies, loaded]))"
    )

    texts, bodies, loaded = json.loads(subprocess.check_output([sys.executable, "-c", code]))

    assert texts == bodies
    assert all(texts.values())
    assert loaded == []


def test_inv_writes_the_bytecode_of_all_modules_that_it_loads(tmp_path: Path) -> None:
    """As in a new checkout: Invoke switches it off before it loads the first one."""
    package = Path(ringtasks.__file__).parent
    shutil.copytree(package, tmp_path / "ringtasks", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tasks.py").write_text("from ringtasks.tasks import namespace\n")
    environ = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = (
        "import sys; from invoke.main import program; sys.path.insert(0, '.'); "
        "program.run(['inv', '--list', 'jobs'], exit=False); "
        "print([name for name, module in sys.modules.items() if name.startswith('ringtasks')"
        " and not __import__('os').path.exists(module.__cached__)])"
    )

    told = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=environ)

    assert (tmp_path / "ringtasks" / "__pycache__").is_dir()
    assert told.splitlines()[-1] == b"[]"


def test_all_tasks_are_listed_whichever_task_is_named(inv: Inv) -> None:
    unknown = inv("nonsense")
    unknown_flag = inv("hosts", "--nonsense")
    completed = inv("--complete", "--", "inv", "health.res")
    flags = inv("--complete", "--", "inv", "deploy", "--ser")
    listed = inv("--list", "jobs")
    told = inv("--help", "deploy.rollback")

    assert b"nonsense is not a task; 'inv --list' lists the tasks" in unknown.stderr
    assert (
        b"--nonsense is not a flag of hosts; 'inv hosts --help' lists the flags"
        in unknown_flag.stderr
    )
    assert b"health.reset" in completed.stdout
    assert b"--serial" in flags.stdout
    assert b"Delete the folders of jobs" in listed.stdout
    assert b"--max-failures" in told.stdout


def test_tasks_can_be_renamed_wrapped_called_and_used_as_pre_tasks(tmp_path: Path) -> None:
    """Renamed, wrapped, called and given as a pre-task, in somebody's tasks.py."""
    (tmp_path / "tasks.py").write_text(
        "from invoke import Collection, task\n"
        "from ringtasks.tasks import namespace as theirs\n"
        "@task(pre=[theirs['hosts']])\n"
        "def mine(c):\n"
        "    print('mine, after', mine.pre[0].name)\n"
        "namespace = Collection(mine, gpu=theirs)\n"
        "namespace.add_task(theirs['hosts'], name='list-hosts')\n"
    )
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "a.yaml").write_text("box: {ssh_host: 127.0.0.1}\n")

    def inv(*arguments: str) -> str:
        program = [sys.executable, "-m", "invoke", *arguments]
        return subprocess.run(program, cwd=tmp_path, capture_output=True, text=True).stdout

    assert re.search("box .*\nmine, after hosts\n", inv("mine"))
    assert "box" in inv("gpu.hosts", "--host", "box")
    assert '"box"' in inv("list-hosts", "--json")
