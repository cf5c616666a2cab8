"""Throw-away users of this machine, to log in as."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

__all__ = ["other_users"]


@pytest.fixture(scope="session")
def other_users() -> Iterator[tuple[str, str]]:
    """Two users besides the one that runs the tests."""
    if os.getuid() != 0:
        pytest.skip("only root can make users, and log in as them")
    names = (f"rt-a-{os.getpid()}", f"rt-b-{os.getpid()}")
    made = []
    try:
        for name in names:
            # "*": no password fits, but the account is not locked.
            subprocess.run(
                ["useradd", "-M", "-d", "/", "-s", "/bin/sh", "-p", "*", name], check=True
            )
            made.append(name)
        yield names
    finally:
        for name in made:
            subprocess.run(["userdel", "-f", name], check=True, capture_output=True)
