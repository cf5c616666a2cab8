"""On a machine where OpenSSH cannot be used, hosts are reached in process, and not blamed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.fixtures import ROOT, Inv, WriteHosts
from tests.support.sshd import Sshd, make_key

UID = 12345
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def nameless(sshd: Sshd) -> Iterator[Run]:
    """Runs inv as a user id without a passwd entry, as in many containers."""
    folder = Path(tempfile.mkdtemp(prefix="rt-nameless-"))  # pytest's own are closed to others
    key = make_key(folder / "key")
    sshd.authorize(key)
    shutil.copy(ROOT / "tasks.py", folder)
    common = {"ssh_host": sshd.address, "ssh_port": sshd.port, "ssh_key": str(key)}
    hosts = {"box": {**common, "ssh_user": sshd.user}, "other": common}
    (folder / "hosts").mkdir()
    (folder / "hosts" / "hosts.yaml").write_text(yaml.safe_dump({"hosts": hosts}))
    for path in (key, folder):
        os.chown(path, UID, UID)

    for visible in ("checkout", "venv"):
        (folder / visible).mkdir()
    # The user may not read the checkout itself, for example one in /root.
    mounted = f'mount --bind {ROOT} checkout; mount --bind {sys.prefix} venv; exec setpriv "$@"'
    drop = ["--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--inh-caps=-all"]
    python = f"{folder}/venv/bin/python"

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        needed = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}/checkout"}
        return subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-ec",
                mounted,
                "sh",
                *drop,
                python,
                "-m",
                "invoke",
                *arguments,
            ],
            cwd=folder,
            env={**needed, "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )

    yield run
    shutil.rmtree(folder)


@pytest.mark.parametrize("environ", [{}, {"HOME": "/"}, {"USER": "me"}])
def test_user_id_without_a_passwd_entry_can_connect(nameless: Run, environ: dict[str, str]) -> None:
    done = nameless("run", "--host", "box", "--cmd", "echo in", **environ)

    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")


def test_missing_local_user_name_is_reported_as_a_missing_ssh_user(nameless: Run) -> None:
    done = nameless("run", "--host", "other", "--cmd", "true")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "set ssh_user" in done.stderr


def test_doctor_reports_an_ssh_program_that_does_not_run(nameless: Run) -> None:
    done = nameless("doctor")

    assert done.returncode == 1
    assert f"No user exists for uid {UID}" in done.stdout
    assert "bad      ssh" in done.stdout


@pytest.mark.parametrize("task", ["run", "check"])
def test_unusable_control_directory_gives_one_warning(
    inv: Inv, write_hosts: WriteHosts, task: str
) -> None:
    write_hosts(**{name: {"use_control_master": True} for name in ("box", "box2")})
    folder = Path(os.environ["XDG_RUNTIME_DIR"])
    (folder / "ringtasks").mkdir()
    (folder / "ringtasks").chmod(0o755)  # others could connect to the sockets
    arguments = ["--cmd", "echo in"] if task == "run" else ["--json"]

    done = inv(task, "--host", "box,box2", *arguments)
    health = inv("health", "--json").stdout

    assert done.returncode == 0, done
    assert done.stderr.count(b"no control master") == 1
    assert b"connecting in process" in done.stderr
    assert b'"consecutive_failures": 0' in health


def test_home_that_is_no_directory_is_replaced_by_a_private_one() -> None:
    code = "import os, ringtasks; print(os.path.isdir(os.environ['HOME']))"
    environ = {**os.environ, "HOME": "/dev/null"}

    found = subprocess.check_output([sys.executable, "-c", code], env=environ, text=True)

    assert found == "True\n"
