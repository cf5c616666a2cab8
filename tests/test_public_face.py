"""The public interface: names, fields, and the modules that loading imports."""

from __future__ import annotations

import builtins
import collections.abc
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ringtasks
from ringtasks import SSHHealth, SSHResult

MODULES = [
    "ringtasks",
    *(f"ringtasks.{name}" for name in ("errors", "fleet", "jobs", "testing", "transfer")),
]
EXPORTED = {
    name: getattr(module, name)
    for module in map(importlib.import_module, MODULES)
    for name in module.__all__
}
#: Types that the reference explains, and aliases of plain callables and texts.
EXPLAINED = {
    *("Cancellation", "Change", "CircuitState", "Host", "HostOutcome", "Hosts", "Matcher"),
    *("OnChange", "OnEnded", "OnMeter", "OnOutput", "OnProgress", "Terminal"),
}
STANDARD = {
    *dir(builtins), *dir(collections.abc), *dir(typing), "Path", "builtins", "login", "typing",
}  # fmt: skip
#: Called by ringtasks alone, and absent from the reference.  A fleet makes its hosts; the base of
#: all errors is not raised.
INTERNAL = {
    *("FakeFleet.open_link", "FakeHost", "FakeHost.program", "FakeHost.refusal"),
    *("RingtasksError", "SSHClient.ask", "SSHClient.ask_async", "SSHClient.perform"),
    "SSHHealth.after",
}


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, exported in sorted(EXPORTED.items()):
        if callable(exported):
            yield name, exported
        for member, method in vars(exported).items() if inspect.isclass(exported) else ():
            if not member.startswith("_") and callable(getattr(exported, member)):
                yield f"{name}.{member}", getattr(method, "__func__", method)


PUBLIC_CALLABLES = dict(public_callables())


@pytest.mark.parametrize("name", sorted(PUBLIC_CALLABLES.keys() - INTERNAL))
def test_parameters_of_public_callables_take_public_types_alone(name: str) -> None:
    parameters = inspect.signature(PUBLIC_CALLABLES[name]).parameters.values()
    types = {
        word
        for parameter in parameters
        if parameter.annotation is not inspect.Parameter.empty
        for word in re.findall(r"[A-Za-z_]\w*", str(parameter.annotation))
    }

    assert types - STANDARD - EXPLAINED - EXPORTED.keys() - {"ForwardRef"} == set()
    assert [p.name for p in parameters if p.name.startswith("_")] == []


def test_internal_callables_exist() -> None:
    assert PUBLIC_CALLABLES.keys() >= INTERNAL


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
