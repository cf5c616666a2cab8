"""A stdout that cannot be written to is one line on stderr, and an exit status of 1 or 141."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fixtures import Inv, WriteHosts


@pytest.mark.parametrize("task", [["--list"], ["hosts"], ["hosts", "--json"]], ids=" ".join)
@pytest.mark.parametrize("stdout", ["full", "closed", "pipe"])
@pytest.mark.matrix(2)
def test_unwritable_stdout_is_reported_in_one_line(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path, task: list[str], stdout: str
) -> None:
    write_hosts(**{f"h{n}": {"ssh_host": "192.0.2.1"} for n in range(500)})
    place = {"full": ">/dev/full", "closed": ">&-", "pipe": "| true"}[stdout]
    script = f'"$@" {place}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "invoke", *task],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert done.stderr.count("\n") <= 1, done.stderr
    assert "Traceback" not in done.stderr
    if (task, stdout) != (["--list"], "closed"):  # Invoke's print() has nothing to write to
        assert done.returncode in (1, 141)


@pytest.mark.parametrize("flag", ["--list", "--help"])
def test_closed_stdout_is_reported_by_the_program_itself(flag: str) -> None:
    program = "from ringtasks.common.console_script import main; main()"
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-c", program, flag],
        stderr=subprocess.PIPE, timeout=30, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (1, b"ringtasks: stdout is closed\n")


def test_text_that_stdout_cannot_encode_is_escaped(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    write_hosts(box={"ssh_host": "192.0.2.1", "gpu": "caf\u00e9"})

    inv("hosts")  # puts tasks.py there
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for flags, encoding in ([], locale), (["--json"], {"PYTHONIOENCODING": "ascii"}):
        done = subprocess.run(
            [sys.executable, "-m", "invoke", "hosts", *flags],
            cwd=tmp_path, capture_output=True, timeout=30, check=False,
            env={**os.environ, **encoding},
        )  # fmt: skip

        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
    assert rb"caf\u00e9" in done.stdout


def test_plot_draws_in_ascii_if_stdout_cannot_encode_more(inv: Inv, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("step 1 loss: 0.5\nstep 2 loss: 0.25\n")

    inv("hosts")  # puts tasks.py there
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "plot", "a.log"],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert re.search(r"\n +0\.5\|\*.*\n +0\.25\| +\*+\n", done.stdout, re.DOTALL)


def test_closed_stderr_is_replaced_by_the_null_device(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    write_hosts(box={"work_dir": str(tmp_path)})
    (tmp_path / "a").write_text("content")
    inv("hosts")  # puts tasks.py there

    def run(*task: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "invoke", *task, "--host", "box"]
        return subprocess.run(
            ["sh", "-c", 'exec "$@" 2>&-', "sh", *command],
            cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    put = run("put", "a", "b")
    started = run("start", "--cmd", "true")

    assert put.returncode == 0
    assert (tmp_path / "b").read_text() == "content"
    assert re.fullmatch(r"[0-9a-f]{16}\n", started.stdout)
