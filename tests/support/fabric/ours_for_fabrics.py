"""A pytest plugin for Fabric's own tests: they get ``ringtasks.Connection`` for Fabric's.

It is loaded by its name alone, in a virtual environment that has none of our test dependencies.
"""

from __future__ import annotations

import sys

import fabric
import fabric.executor
import fabric.group
import fabric.main
import fabric.testing.fixtures

from ringtasks import Connection

_FABRICS = fabric.Connection

for _name, _module in list(sys.modules.items()):
    is_fabrics = _name.partition(".")[0] == "fabric"
    if is_fabrics and getattr(_module, "Connection", None) is _FABRICS:
        _module.Connection = Connection
