"""The Invoke collection.  A task parses its flags, calls the library and reports.

A task's module is imported when the command line names the task, and expensive modules are imported
when the task runs.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def _keep_bytecode() -> None:
    """Write the bytecode of our modules that are loaded, if there is none of this version."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ringtasks"]:
        spec: Any = sys.modules[name].__spec__
        try:
            is_old = os.stat(spec.cached).st_mtime < os.stat(spec.origin).st_mtime  # noqa: PTH116
        except OSError:  # there is none yet, or it would be in a zip file
            is_old = True
        if is_old:
            spec.loader.get_code(name)


# Invoke keeps Python from writing bytecode for a tasks.py. This is a package: in a checkout, each
# run would compile it anew (30 ms and more), or the modules that are loaded by now (2 ms).
if sys.dont_write_bytecode and not sys.flags.dont_write_bytecode:
    sys.dont_write_bytecode = False
    _keep_bytecode()

from ringtasks.common import interruption  # noqa: E402  # compiled only from here on

interruption.begin()  # before the imports that take time: Ctrl-C may come at any moment

import gc  # noqa: E402

from invoke import Collection  # noqa: E402

from ringtasks.common.program_name import is_program  # noqa: E402

if is_program():
    gc.freeze()  # Invoke's tens of thousands of objects: each collection would visit them

from ringtasks.common import alarms, collector  # noqa: E402

from . import streams  # noqa: E402
from .lazy import LazyTask, group  # noqa: E402

if is_program():
    collector.make_seldom()  # nearly all that a task loads stays to its end
    collector.keep_modules_at_exit()
    streams.prepare()

__all__ = ["namespace"]


def _alarm(host: str, text: str) -> None:
    from ringtasks.output.display import alarm

    alarm(host, text)


def _notice(host: str, text: str) -> None:
    from ringtasks.output.display import say

    say(f"{host}: {text}")


alarms.on_alarm(_alarm)
alarms.on_notice(_notice)

namespace = Collection(
    LazyTask("run"),
    LazyTask("files", "put"),
    LazyTask("files", "get"),
    LazyTask("files", "sync"),
    LazyTask("train"),
    LazyTask("plot"),
    LazyTask("jobs", "start"),
    LazyTask("jobs", "logs"),
    LazyTask("jobs", "wait"),
    LazyTask("jobs", "stop"),
    LazyTask("status"),
    LazyTask("hosts"),
    LazyTask("check"),
    LazyTask("why"),
    LazyTask("ssh_config"),
    LazyTask("shell"),
    LazyTask("forward"),
    LazyTask("connections"),
    LazyTask("connections", "disconnect"),
    LazyTask("doctor"),
    LazyTask("completion"),
    LazyTask("init"),
    group("jobs", "show", "prune", default="show"),
    group("health", "show", "reset", default="show"),
    group("deploy", "run", "rollback", "releases", "status", "check", "unlock", default="run"),
    group("ray", "up", "status", "submit", "stop", "down"),
)
# Invoke reads INVOKE_RINGTASKS_INVENTORY only if the setting has a default.
namespace.configure({"ringtasks": {"inventory": None}})
