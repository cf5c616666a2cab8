"""Paramiko's own version, without the modules that read all about a package."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

PROGRAM = """
import gc, socket, sys
sys.argv[0] = "inv"
gc.freeze()
from ringtasks import SSHClient, SSHConfig
frozen = gc.get_freeze_count()
SSHClient(SSHConfig("127.0.0.1", 1, use_control_master=False, connect_timeout=5)).run("true")
print("importlib.metadata" in sys.modules, gc.get_freeze_count() > frozen)

import paramiko
print(paramiko.__version__)
print(paramiko.metadata.distribution("invoke").version, "importlib.metadata" in sys.modules)
from importlib import metadata
print(paramiko.metadata.PackageNotFoundError is metadata.PackageNotFoundError)
"""


def test_an_import_of_paramiko_loads_no_importlib_metadata_and_leaves_the_real_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=True
    )

    paramiko, invoke = metadata.version("paramiko"), metadata.version("invoke")
    assert done.stdout.splitlines() == ["False True", paramiko, f"{invoke} True", "True"]
