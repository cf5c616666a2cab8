"""A stdout that cannot be written to is one line on stderr, and an exit status of 1 or 141."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fixtures import Inv, WriteHosts


@pytest.mark.parametrize("task", [["--list"], ["hosts"], ["hosts", "--json"]], ids=" ".join)
@pytest.mark.parametrize("stdout", ["full", "closed", "pipe"])
def test_a_stdout_that_cannot_be_written_to_is_one_line(
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


def test_text_that_stdout_cannot_encode_is_escaped(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(box={"ssh_host": "192.0.2.1", "note": "caf\u00e9"})

    table = inv("hosts", PYTHONIOENCODING="ascii")
    told = inv("hosts", "--json", PYTHONIOENCODING="ascii")

    assert (table.returncode, told.returncode) == (0, 0), table.stderr + told.stderr
    assert rb"caf\u00e9" in told.stdout
    assert os.fsencode("caf\u00e9") not in told.stdout
