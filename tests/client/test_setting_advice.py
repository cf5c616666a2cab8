"""A folder or virtual environment of the hosts file that the host's shell cannot use is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtasks import SSHConfig, SSHResult
from ringtasks.client.setting_advice import setting_advice
from ringtasks.remote.script import Script
from tests.support.shells import SHELLS, run_in

CASES = {
    "work_dir": ({"work_dir": "~/no such"}, None, "true", "work_dir ~/no such cannot be used"),
    "absolute": ({"work_dir": "/no/such"}, None, "true", "work_dir /no/such cannot be used"),
    "flag": ({"work_dir": "~/no such"}, "no/such", "true", "the folder no/such (--cwd) cannot"),
    "venv": ({"venv_activate": "~/venv"}, None, "true", "venv_activate ~/venv cannot be used"),
    "source": (
        {"venv_activate": "source ~/venv/bin/activate"}, None, "true",
        "venv_activate source ~/venv/bin/activate cannot be used",
    ),
    "of the command": ({"work_dir": "~"}, None, "cd /no/such", None),
    "its output": ({"work_dir": "~/no such"}, "/", "echo no such >&2; false", None),
}  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("case", CASES)
def test_setting_that_the_shell_cannot_use_is_named(tmp_path: Path, shell: str, case: str) -> None:
    fields, cwd, command, expected = CASES[case]
    config = SSHConfig("h", **fields)  # type: ignore[arg-type]  # of a table
    script = Script(command, cwd=cwd or config.work_dir, venv=config.venv_activate)

    done = run_in(shell, script.text(), tmp_path)
    stderr = done.stderr.decode()
    result = SSHResult(
        False, done.returncode, "", stderr, 1.0, "true", "h", stdout_bytes=done.stdout
    )

    advice = setting_advice(config, cwd, result)
    assert done.returncode != 0
    assert (advice is None) if expected is None else (advice or "").startswith(expected), stderr
