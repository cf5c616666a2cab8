"""The Invoke collection: thin.  A task parses its flags, calls the library and reports.

Nothing heavy is imported until a task runs, so that ``inv --list`` and completion stay quick.
"""

from __future__ import annotations

from invoke import Collection

from . import check, doctor, health, hosts, run, shell

__all__ = ["namespace"]

namespace = Collection(run.run, hosts.hosts, check.check, shell.shell, doctor.doctor)
_health = Collection("health")
_health.add_task(health.show, default=True)
_health.add_task(health.reset)
namespace.add_collection(_health)
