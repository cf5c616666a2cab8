"""What users may rely on: names, fields, and what loading costs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

import ringtasks
from ringtasks import SSHHealth, SSHResult


def test_public_names_are_sorted_and_exist() -> None:
    assert ringtasks.__all__ == sorted(ringtasks.__all__)
    for name in ringtasks.__all__:
        assert callable(getattr(ringtasks, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ringtasks.nonsense


def test_result_has_the_published_fields_and_is_truthy_on_success() -> None:
    good = SSHResult(True, 0, "out", "err", 1.0, "cmd", "box", "direct")
    bad = SSHResult(False, 1, "", "err", 1.0, "cmd", "box")

    assert list(good.to_dict()) == [
        "success", "returncode", "stdout", "stderr", "elapsed_ms", "command", "host",
        "transport_used", "timed_out", "error",
    ]  # fmt: skip
    assert (bool(good), good.output) == (True, "out\nerr")
    assert (bool(bad), bad.output) == (False, "err")


def test_health_has_the_published_fields() -> None:
    names = {f.name for f in dataclasses.fields(SSHHealth)} | set(dir(SSHHealth))

    assert names >= {
        "last_success", "last_failure", "consecutive_failures", "consecutive_successes",
        "total_successes", "total_failures", "is_healthy", "success_rate", "circuit_state",
    }  # fmt: skip


def test_listing_the_tasks_imports_no_heavy_module() -> None:
    code = (
        "import ringtasks.tasks, sys;"
        "heavy = ('fabric', 'paramiko', 'cryptography', 'rich', 'asyncssh', 'ClusterShell');"
        "print([name for name in heavy if name in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
