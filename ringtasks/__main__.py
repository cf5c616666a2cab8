"""The console script ``ringtasks``.

``ringtasks connect`` starts with each ``ssh``, so it does not load the tasks.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the program; does not return."""
    if sys.argv[1:2] == ["connect"]:
        from ringtasks.client.connect import main as connect

        sys.exit(connect(sys.argv[2:]))
    from ringtasks.tasks.program import main as run_tasks

    run_tasks()


if __name__ == "__main__":
    main()
