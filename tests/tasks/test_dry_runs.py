"""``inv --dry`` of every task: it shows what it would do, and no host gets a byte."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from ringtasks.tasks import namespace
from tests.support.fixtures import Inv

WriteHosts = Callable[..., Path]

HOST = ("--host", "a,b")
#: The arguments of each task; what its plan shows, beside the hosts.
TASKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "run": ((*HOST, "--cmd", "touch /x y", "--env", "A=secret"), ("touch /x y", "export A='***'")),
    "put": (("sent", "there", *HOST), ("rsync -rlpt", "sent", ":~/there")),
    "get": (("there", "back", *HOST), ("rsync -rlpt", ":~/there", "back/a/")),
    "sync": (("folder", "there", *HOST, "--delete"), ("--delete", "folder/", ":~/there")),
    "train": ((*HOST, "--cmd", "python3 x.py", "--sync-up", "sent"), ("python3 x.py", "sent")),
    "plot": (("some-job", *HOST), ("some-job", "ringtasks-offset")),
    "start": ((*HOST, "--cmd", "sleep 9", "--after", "other"), ("sleep 9", "look for job other")),
    "logs": (("0123456789abcdef", *HOST, "-f"), ("0123456789abcdef", "ringtasks-offset")),
    "wait": (("some-job", *HOST), ("look for job some-job",)),
    "stop": (("some-job", *HOST, "--grace", "3"), ("look for job some-job", "signal TERM")),
    "jobs.show": (HOST, ("ringtasks-now",)),
    "jobs.prune": ((*HOST, "--older-than", "3s"), ("ended more than 3 s ago", "rm -rf")),
    "status": (HOST, ("nvidia-smi",)),
    "hosts": (HOST, ("direct",)),
    "check": (HOST, ()),
    "why": (HOST, ("direct",)),
    "ssh-config": (HOST, ("ProxyCommand",)),
    "shell": (("--host", "a"), (" -t ",)),
    "forward": (("--host", "a", "--port", "6006"), ("-L 127.0.0.1:6006:localhost:6006",)),
    "connections": ((), ()),
    "disconnect": ((), ()),
    "completion": (("bash",), ("complete -F",)),
    "doctor": ((), ("inventory",)),
    "init": ((), ("would write", ".gitignore")),
    "health.show": ((), ()),
    "health.reset": (HOST, ("would delete the health of a, b",)),
    "deploy.run": (HOST, ("make it", "restart it", "git archive", "hook", "rm -f ran")),
    "deploy.rollback": ((*HOST, "--to", "r1"), ("restart it", "r1")),
    "deploy.releases": (HOST, ("history",)),
    "deploy.status": (HOST, ("history",)),
    "deploy.check": (HOST, ("history",)),
    "deploy.unlock": ((*HOST, "--reason", "gone"), ("lock", "gone")),
    "ray.up": (HOST, ("ray start --head", "ADDRESS-OF-a")),
    "ray.status": (HOST, ("ray status",)),
    "ray.submit": ((*HOST, "--cmd", "python x.py"), ("JobSubmissionClient", "python x.py")),
    "ray.stop": ((*HOST, "--job", "raysubmit_1"), ("ask Ray to stop raysubmit_1",)),
    "ray.down": (HOST, ("signal TERM",)),
}
#: They look at this machine alone.
LOCAL = {
    "completion",
    "connections",
    "disconnect",
    "doctor",
    "health.show",
    "health.reset",
    "hosts",
    "ssh-config",
    "why",
    "init",
}


class Counter:
    """A host that counts connections and answers none."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            peer.close()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


@pytest.fixture
def counter() -> Iterator[Counter]:
    made = Counter()
    yield made
    made.close()


@pytest.fixture
def project(
    tmp_path: Path, counter: Counter, write_hosts: WriteHosts, inv: Inv
) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """A repository with hosts that count, files to send, and settings for every task."""
    fields = {"ssh_host": "127.0.0.1", "ssh_port": counter.port, "use_control_master": None}
    write_hosts(a=fields, b=fields)
    (tmp_path / "sent").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "ran").write_text("")
    settings = {
        "path": "app",
        "build": "make it",
        "restart": "restart it",
        "hooks": {"before": "rm -f ran"},
        "hosts": "a",
    }
    (tmp_path / "invoke.yaml").write_text(yaml.safe_dump({"deploy": settings}))
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    return inv


def test_dry_run_cases_cover_every_task() -> None:
    assert set(TASKS) == set(namespace.task_names)


@pytest.mark.parametrize("name", TASKS)
def test_dry_run_shows_its_plan_and_sends_nothing(
    project: Inv, counter: Counter, tmp_path: Path, name: str
) -> None:
    arguments, shown = TASKS[name]
    before = _files(tmp_path)

    done = project("--dry", name, *arguments)

    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    assert counter.connections == 0
    assert _files(tmp_path) == before
    assert [text for text in shown if text not in told] == []
    if name not in LOCAL:
        assert f"-p {counter.port}" in told  # the ssh command, for doing it by hand
    assert "secret" not in told


def test_connection_counter_counts_a_real_run(project: Inv, counter: Counter) -> None:
    project("run", "--host", "a", "--cmd", "true")

    assert counter.connections > 0


def test_plan_of_a_pulled_sync_copies_the_content_of_the_folder(project: Inv) -> None:
    done = project("--dry", "sync", "folder", "here", "--host", "a", "--pull")

    assert b":~/folder/' here\n" in done.stdout


def test_planned_ssh_command_and_script_give_the_same_result_by_hand(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    """The ssh command and the script, copied from the plan."""
    write_hosts(a={"work_dir": "/tmp"})
    argv = ("run", "--host", "a", "--json", "--cmd", "pwd; echo 'it is'")

    planned = json.loads(inv("--dry", *argv).stdout)
    done = subprocess.run(
        f"{planned['ssh'][0]} sh",
        shell=True,
        input=planned["script"].encode(),
        capture_output=True,
        timeout=20,
        check=False,
    )

    assert done.stdout.splitlines()[-2:] == [b"/tmp", b"it is"], done.stderr


def test_dry_run_in_python_returns_values_usable_by_later_calls(
    project: Inv, tmp_path: Path
) -> None:
    (tmp_path / "tasks.py").write_text(
        "from invoke import Collection, task\n"
        "from ringtasks.tasks import namespace as rt\n"
        "@task\n"
        "def body(c):\n"
        "    job = rt['start'](c, host='a', cmd='true')\n"
        "    rt['wait'](c, job=job.id)\n"
        "ns = Collection(body)\n"
    )

    done = project("--dry", "body")

    assert done.returncode == 0, done.stderr
    assert b"start job" in done.stdout


def _files(folder: Path) -> set[Path]:
    return {
        path
        for path in folder.rglob("*")
        if not {"__pycache__", ".git"} & set(path.parts) and "own-home" not in path.parts
    }


def test_planned_ssh_command_prints_no_warning(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    """On a machine that has not used ringtasks before, there is no folder for the pins."""
    write_hosts(a={})
    state = tmp_path / "new" / "state"
    words = ("--dry", "run", "--host", "a", "--cmd", "x", "--json")
    (plan,) = inv(*words, XDG_STATE_HOME=str(state)).stdout.splitlines()

    (command,) = json.loads(plan)["ssh"]
    done = subprocess.run(
        [*shlex.split(command), "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert (done.returncode, "Failed to add" in done.stderr) == (0, False), done.stderr
    assert (state / "ringtasks" / "known_hosts").exists()
