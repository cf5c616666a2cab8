"""Our tasks are Invoke tasks: chained, pre and post, called, mounted; and Invoke's own flags."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Inv

WriteHosts = Callable[..., Path]


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
def test_tasks_keep_their_flags_under_other_names(
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


def test_text_printed_before_a_task_comes_first_in_a_pipe(
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
