"""The console script ``ringtasks``: chooses the program, and loads no other one.

``ringtasks connect`` starts with each ``ssh``, and the tasks take longer to load than it may take.
"""

from __future__ import annotations

import importlib
import os
import sys

__all__ = ["main"]

_TASKS = "ringtasks.tasks.program"
#: Programs that are not tasks, by the first argument.
_PROGRAMS = {"connect": "ringtasks.client.quick_connect"}


def main() -> None:
    """Run the program; does not return."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        # By name, since each of them is in a folder above this one.
        program = importlib.import_module(_PROGRAMS.get(first, _TASKS))
    except KeyboardInterrupt:  # before the program handles it
        os.write(2, b"ringtasks: interrupted\n")
        os._exit(130)
    program.main()
