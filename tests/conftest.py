"""Gives all tests the shared fixtures."""

from __future__ import annotations

import os
import signal
import sys

# The tests start thousands of Python processes; without bytecode each of them compiles all that it
# imports, which takes longer than most tests. pytest keeps its rewritten modules the same way.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = ["tests.support.fixtures", "tests.support.users"]

# A script that starts the suite in its background leaves it Ctrl-C ignored (POSIX.1-2017 XCU 2.11),
# and so would be all that the tests start, and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
