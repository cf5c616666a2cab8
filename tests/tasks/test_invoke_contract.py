"""Our tasks are Invoke tasks: chained, pre and post, called, mounted; and Invoke's own flags."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from invoke import Program

from ringtasks.tasks import namespace
from tests.support.deploys import Fleet
from tests.support.fixtures import Inv, WriteHosts
from tests.support.inv_program import InvProgram
from tests.support.training import WriteSettings


@pytest.fixture
def write_tasks(tmp_path: Path, inv: Inv) -> Callable[[str], None]:
    """Writes a user's own tasks.py, in place of the one line that ours has."""

    def write(text: str) -> None:
        head = (
            "from invoke import Collection, call, task\n"
            "from ringtasks.tasks import namespace as rt\n"
        )
        (tmp_path / "tasks.py").write_text(head + textwrap.dedent(text))

    return write


LINT = """
@task
def lint(c):
    print("linted")
"""


def test_each_of_several_tasks_runs(
    inv: Inv, write_hosts: WriteHosts, write_tasks: Callable[[str], None]
) -> None:
    write_hosts(a={}, b={})
    write_tasks(LINT + "\nns = Collection(lint)\nns.add_collection(rt, 'rt')\n")

    done = inv(
        *("rt.run", "--host", "b", "--cmd", "echo 1"),
        *("rt.run", "--host", "a", "--cmd", "echo 2"),
        *("rt.run", "--host", "a,b", "--cmd", "echo 3"),
        *("rt.check", "--host", "a", "rt.hosts", "rt.doctor", "rt.status", "rt.jobs", "lint"),
    )

    assert done.returncode == 0, done.stderr
    told = done.stdout.decode()
    assert told.startswith("1\n2\n")
    assert {"a: 3", "b: 3", "linted"} <= set(told.splitlines())
    assert told.endswith("linted\n")


def test_a_failing_task_ends_the_chain_with_its_status(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})

    done = inv(
        *("run", "--host", "a", "--cmd", "exit 7"),
        *("run", "--host", "a", "--cmd", "echo never"),
    )

    assert (done.returncode, done.stdout) == (7, b"")


def test_pre_and_post_tasks_run_around_the_body(
    inv: Inv, write_hosts: WriteHosts, write_tasks: Callable[[str], None]
) -> None:
    write_hosts(a={})
    write_tasks(
        """
        before = call(rt["run"], host="a", cmd="echo before")
        after = call(rt["run"], host="a", cmd="echo after")

        @task(pre=[before], post=[after])
        def build(c):
            print("body")

        ns = Collection(build)
        """
    )

    done = inv("build")

    assert (done.returncode, done.stdout) == (0, b"before\nbody\nafter\n"), done.stderr


def test_python_callers_get_results_and_may_give_python_values(
    inv: Inv, write_hosts: WriteHosts, write_tasks: Callable[[str], None]
) -> None:
    write_hosts(a={}, b={})
    write_tasks(
        """
        from ringtasks import SSHResult
        from ringtasks.fleet import FleetResult

        @task
        def body(c):
            one = rt["run"](c, host="a", cmd="exit $X", env={"X": "0"}, timeout=20, retries=1)
            assert isinstance(one, SSHResult) and one.returncode == 0, one
            all = rt["run"](c, host="a,b", cmd="true", fanout=1)
            assert isinstance(all, FleetResult) and [h.host for h in all] == ["a", "b"], all
            job = rt["start"](c, host="a", cmd="exit 0")
            assert rt["wait"](c, job=job.id, host="a", timeout=20, patience=5).exit_status == 0
            assert [j.id for j in rt["jobs"](c, host="a")] == [job.id]
            assert rt["logs"](c, job=job.id, host="a", number=3).id == job.id
            assert rt["stop"](c, job=job.id, host="a", grace=0).is_gone
            assert len(rt["jobs.prune"](c, host="a", older_than="0s")) == 1
            open("sent", "w").write("x")
            assert rt["put"](c, "sent", "there", host="a", exclude="y")
            assert rt["get"](c, "there", "back", host="a", timeout=20)
            assert open("back").read() == "x"
            assert rt["check"](c, host="a")["a"][0].latency_ms > 0
            assert [h["host_id"] for h in rt["hosts"](c)] == ["a", "b"]
            assert rt["status"](c, host="b")[0].host_id == "b"
            assert rt["health"](c)["a"].is_healthy
            assert rt["health.reset"](c, host="a") == 1
            assert rt["doctor"](c)
            assert rt["connections"](c) == []
            assert rt["disconnect"](c) == 0
            print("all well")

        ns = Collection(body)
        """
    )

    done = inv("body")

    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.endswith(b"all well\n")


def test_a_failure_carries_its_result_to_python_callers(
    inv: Inv, write_hosts: WriteHosts, write_tasks: Callable[[str], None]
) -> None:
    write_hosts(a={}, b={})
    write_tasks(
        """
        from invoke import Exit

        @task
        def body(c):
            for selector in ("a", "a,b"):
                try:
                    rt["run"](c, host=selector, cmd="exit 3")
                except Exit as failure:
                    print(failure.code, failure.result.returncode)

        ns = Collection(body)
        """
    )

    done = inv("body")

    assert (done.returncode, done.stdout) == (0, b"3 3\n3 3\n"), done.stderr


def test_tasks_run_in_threads_of_a_users_task(
    inv: Inv, write_hosts: WriteHosts, write_tasks: Callable[[str], None]
) -> None:
    write_hosts(a={})
    write_tasks(
        """
        from concurrent.futures import ThreadPoolExecutor

        @task
        def body(c):
            with ThreadPoolExecutor() as pool:
                done = [pool.submit(rt["run"], c, host="a", cmd="true") for _ in range(3)]
            print(sum(one.result().returncode == 0 for one in done))

        ns = Collection(body)
        """
    )

    done = inv("body")

    assert (done.returncode, done.stdout) == (0, b"3\n"), done.stderr


@pytest.mark.parametrize(
    ("mount", "argv"),
    [
        ('ns.add_collection(rt, "gpu")', ["gpu.run", "--host", "a", "--cmd", "echo check"]),
        ('ns.add_collection(rt, "gpu")', ["gpu.run", "--cmd", "wait", "--host", "a"]),
        ('ns.add_task(rt["run"], "exec")', ["exec", "--cmd", "wait", "--host", "a"]),
        ('ns.add_collection(rt.collections["jobs"], "work")', ["work", "--host", "a"]),
        ('ns.add_task(rt["jobs.show"], "ps")', ["ps", "--host", "a"]),
    ],
)
def test_renamed_tasks_keep_their_flags(
    inv: Inv,
    write_hosts: WriteHosts,
    write_tasks: Callable[[str], None],
    mount: str,
    argv: list[str],
) -> None:
    # "wait" is a command of every shell, and the name of another task.
    write_hosts(a={})
    write_tasks(f"ns = Collection()\n{mount}\n")

    done = inv(*argv)

    assert done.returncode == 0, done.stderr


def test_text_printed_before_a_task_precedes_its_output_in_a_pipe(
    inv: Inv, write_hosts: WriteHosts, write_tasks: Callable[[str], None]
) -> None:
    write_hosts(a={}, b={})
    write_tasks(
        """
        @task
        def body(c):
            print("1 before")
            rt["run"](c, host="a", cmd="echo 2 remote")
            print("3 between")
            rt["run"](c, host="a,b", cmd="echo 4 remote", fanout=1)
            print("5 after")

        ns = Collection(body)
        """
    )

    done = inv("body")

    told = [line.split(": ")[-1][0] for line in done.stdout.decode().splitlines()]
    assert told == ["1", "2", "3", "4", "4", "5"], done.stdout


def test_results_hold_the_output_that_was_shown(
    inv: Inv, write_hosts: WriteHosts, write_tasks: Callable[[str], None]
) -> None:
    write_hosts(a={}, b={})
    write_tasks(
        """
        @task
        def body(c):
            one = rt["run"](c, host="a", cmd="echo out; echo err >&2")
            many = rt["run"](c, host="a,b", cmd="echo out")
            assert (one.stdout, one.stderr) == ("out\\n", "err\\n"), one
            assert [found.result.stdout for found in many] == ["out\\n"] * 2, many

        ns = Collection(body)
        """
    )

    done = inv("body")

    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split(b"\n")) == [b"", b"a: out", b"b: out", b"out"]


@pytest.mark.parametrize("selector", ["a", "a,b"])
def test_with_warn_a_failing_command_does_not_end_the_chain(
    inv: Inv, write_hosts: WriteHosts, selector: str
) -> None:
    write_hosts(a={}, b={})
    second = ("run", "--host", "a", "--cmd", "echo second")

    warned = inv("-w", "run", "--host", selector, "--cmd", "exit 3", *second)
    ended = inv("run", "--host", selector, "--cmd", "exit 3", *second)

    assert (warned.returncode, warned.stdout) == (0, b"second\n")
    assert (ended.returncode, ended.stdout) == (3, b"")


def test_warn_does_not_cover_an_unreachable_host_or_a_timeout(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={}, gone={"ssh_host": "127.0.0.1", "ssh_port": 1})
    second = ("run", "--host", "a", "--cmd", "echo second")

    unreachable = inv("-w", "run", "--host", "gone", "--cmd", "true", *second)
    too_long = inv("-w", "run", "--host", "a", "--timeout", "1", "--cmd", "sleep 60", *second)

    assert (unreachable.returncode, unreachable.stdout) == (255, b"")
    assert (too_long.returncode, too_long.stdout) == (124, b"")


def test_warn_lets_the_tasks_after_a_failed_job_run(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})
    inv("start", "--host", "a", "--name", "job", "--cmd", "exit 3")

    done = inv("-w", "wait", "job", "run", "--host", "a", "--cmd", "echo second")

    assert (done.returncode, done.stdout) == (0, b"second\n"), done.stderr


def test_warn_lets_the_tasks_after_a_failed_training_command_run(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings
) -> None:
    write_hosts(a={})
    write_settings(command="exit 3", sync_up=None, fetch=None, preflight=False)
    second = ("run", "--host", "a", "--cmd", "echo second")

    warned = inv("-w", "train", *second)
    ended = inv("train", *second)

    assert warned.returncode == 0, warned.stderr
    assert warned.stdout.endswith(b"second\n")
    assert (ended.returncode, b"second" in ended.stdout) == (3, False)


@pytest.mark.parametrize("fleet_size", [1])
def test_invoke_command_timeout_applies_to_deploy_commands_without_a_timeout(
    fleet: Fleet,
) -> None:
    fleet.commit("first", **{"build.sh": "sleep 60"})

    fleet.configure(build="sh build.sh")
    limited = fleet.inv("-T", "1", "deploy", "--host", "web1")
    fleet.configure(build="sleep 2", build_timeout=30)
    own = fleet.inv("-T", "1", "deploy", "--host", "web1")

    assert limited.returncode != 0
    assert "time limit of 1 s" in limited.stderr
    assert own.returncode == 0, own.stderr


@pytest.mark.parametrize("selector", ["a", "a,b"])
def test_invoke_command_timeout_applies_unless_the_task_sets_its_own(
    inv: Inv, write_hosts: WriteHosts, selector: str
) -> None:
    write_hosts(a={}, b={})

    limited = inv("-T", "1", "run", "--host", selector, "--cmd", "sleep 60")
    own = inv("-T", "1", "run", "--host", selector, "--timeout", "20", "--cmd", "sleep 2")
    bad = inv("run", "--host", selector, "--cmd", "true", INVOKE_TIMEOUTS_COMMAND="soon")

    assert limited.returncode == 124
    assert b"time limit of 1 s" in limited.stderr
    assert own.returncode == 0, own.stderr
    assert (bad.returncode, b"timeouts.command" in bad.stderr) == (2, True)


def test_echo_prints_commands_in_invoke_format_before_their_output(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={})

    plain = inv("-e", "run", "--host", "a", "--cmd", "echo out")
    as_json = inv("-e", "run", "--host", "a", "--json", "--cmd", "echo out")
    shaped = inv("-e", "run", "--host", "a", "--cmd", "true", INVOKE_RUN_ECHO_FORMAT="+ {command}")

    assert plain.stdout == b"\033[1;37mecho out\033[0m\nout\n"
    assert json.loads(as_json.stdout)["stdout"] == "out\n"
    assert b"echo out" in as_json.stderr
    assert shaped.stdout == b"+ true\n"


def test_hide_flag_hides_the_streams_that_invoke_names(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={}, b={})
    command = ["--cmd", "echo out; echo err >&2"]
    expected = {"out": (b"", b"err\n"), "stderr": (b"out\n", b""), "both": (b"", b"")}

    for value, streams in expected.items():
        done = inv("--hide", value, "run", "--host", "a", *command)
        assert (done.stdout, done.stderr) == streams
    several = inv("--hide", "both", "run", "--host", "a,b", *command)
    bad = inv("--hide", "x", "run", "--host", "a", *command)

    assert (several.stdout, b"err" in several.stderr) == (b"", False)
    assert (bad.returncode, b"--hide" in bad.stderr) == (2, True)


def test_invoke_pty_setting_gives_the_command_a_terminal(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})

    asked = "test -t 1 && echo terminal || echo none"

    assert inv("-p", "run", "--host", "a", "--cmd", asked).stdout.strip() == b"terminal"
    assert inv("run", "--host", "a", "--cmd", asked).stdout.strip() == b"none"


def test_list_depth_shows_the_first_level_only(inv: Inv, write_hosts: WriteHosts) -> None:
    done = inv("--list", "--list-format", "nested", "-D", "1")

    assert b"health" in done.stdout
    assert b".reset" not in done.stdout


def test_each_setting_has_an_environment_variable(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    write_hosts(a={})
    (tmp_path / "other.yaml").write_text("only-here: {ssh_host: h}\n")

    listed = inv("hosts", INVOKE_RINGTASKS_INVENTORY=str(tmp_path / "other.yaml"))
    planned = inv(
        "--dry",
        "train",
        INVOKE_TRAIN_HOSTS="a",
        INVOKE_TRAIN_COMMAND="echo trained",
        INVOKE_TRAIN_GPUS="0",
    )

    assert b"only-here" in listed.stdout
    assert (planned.returncode, b"echo trained" in planned.stdout) == (0, True), planned.stderr


def test_a_mistyped_section_is_named(inv: Inv, write_hosts: WriteHosts, tmp_path: Path) -> None:
    write_hosts(a={})
    (tmp_path / "invoke.yaml").write_text("tarin: {command: 'true'}\n")

    done = inv("--dry", "train", "--host", "a")

    assert b"no section 'train'; is 'tarin' a misspelling?" in done.stderr
    assert done.returncode == 2


def test_hosts_file_beside_tasks_py_is_found_from_a_subdirectory(
    inv: Inv, inv_program: InvProgram, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    write_hosts(a={})
    assert inv("hosts").returncode == 0  # puts tasks.py there
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)

    done = inv_program.call(["inv", "run", "--host", "a", "--cmd", "echo hi"], cwd=below)

    assert (done.returncode, done.stdout) == (0, b"hi\n"), done.stderr


def test_relative_inventory_of_invoke_yaml_is_found_from_a_subdirectory(
    inv: Inv, inv_program: InvProgram, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    write_hosts(a={}).rename(tmp_path / "hosts" / "own.txt")
    (tmp_path / "invoke.yaml").write_text("ringtasks: {inventory: hosts/own.txt}\n")
    assert inv("hosts").returncode == 0  # puts tasks.py there
    below = tmp_path / "src"
    below.mkdir()

    done = inv_program.call(["inv", "hosts"], cwd=below)

    assert (done.returncode, done.stdout[:4]) == (0, b"host"), done.stderr


@pytest.mark.parametrize("with_threads", [False, True])
def test_files_of_a_tasks_py_are_written_at_the_exit(
    write_hosts: WriteHosts,
    write_tasks: Callable[[str], None],
    tmp_path: Path,
    *,
    with_threads: bool,
) -> None:
    write_hosts(a={})
    write_tasks(f"""
        import threading

        log = open("log.txt", "w")

        @task(post=[rt["hosts"]])
        def note(c):
            log.write("noted")
            for _ in range({3 * with_threads}):
                threading.Thread(target=threading.Event().wait, daemon=True).start()

        ns = Collection(note)
    """)

    subprocess.run([sys.executable, "-m", "invoke", "note"], cwd=tmp_path, check=True)

    assert (tmp_path / "log.txt").read_text() == "noted"


def test_copies_share_the_contexts_of_tasks_that_are_not_named() -> None:
    program = Program(namespace=namespace, binary="inv")
    program.create_config()
    program.parse_core(["inv", "check", "--host", "box"])
    program.parse_collection()

    program.parse_tasks()

    contexts = program.parser.contexts
    shared = {name for name, context in contexts.items() if copy.deepcopy(context) is context}
    assert shared == contexts.keys() - {"check"}
