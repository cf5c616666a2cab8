"""The Invoke collection: thin.  A task parses its flags, calls the library and reports.

Nothing heavy is imported until a task runs, so that ``inv --list`` and completion stay quick.
"""

from __future__ import annotations

import gc
import os
import sys

from invoke import Collection

gc.freeze()  # Invoke's tens of thousands of objects: each collection would visit them

# Invoke keeps Python from leaving bytecode beside a tasks.py. This is a package: in a checkout it
# would be compiled anew by each run (30 ms and more).
sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))


from . import (  # noqa: E402  # compiled only from here on
    check,
    connections,
    deploy,
    doctor,
    files,
    forward,
    health,
    hosts,
    jobs,
    plot,
    ray,
    run,
    shell,
    status,
    train,
)
from .namespace import Namespace  # noqa: E402

__all__ = ["namespace"]

namespace = Namespace(
    run.run,
    files.put,
    files.get,
    files.sync,
    jobs.start,
    jobs.logs,
    jobs.wait,
    jobs.stop,
    status.status,
    hosts.hosts,
    check.check,
    shell.shell,
    connections.connections,
    connections.disconnect,
    doctor.doctor,
)
_jobs = Collection("jobs")
_jobs.add_task(jobs.show, default=True)
_jobs.add_task(jobs.prune)
namespace.add_collection(_jobs)
_health = Collection("health")
_health.add_task(health.show, default=True)
_health.add_task(health.reset)
namespace.add_collection(_health)
_deploy = Collection("deploy")
_deploy.add_task(deploy.deploy, name="run", default=True)
_deploy.add_task(deploy.rollback)
_deploy.add_task(deploy.releases)
_deploy.add_task(deploy.status)
_deploy.add_task(deploy.check)
_deploy.add_task(deploy.unlock)
namespace.add_collection(_deploy)
namespace.add_task(forward.forward)
namespace.add_task(plot.plot)
namespace.add_task(train.train)
_ray = Collection("ray", ray.up, ray.status, ray.submit, ray.down)
namespace.add_collection(_ray)
