"""Hosts with the stand-in for Ray."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_ray import FakeRay
from tests.support.fixtures import MakeSshd, WriteHosts
from tests.support.jobs import end_jobs
from tests.support.ray_hosts import RayHosts


@pytest.fixture
def fake_ray(tmp_path: Path) -> FakeRay:
    return FakeRay(tmp_path / "ray")


@pytest.fixture
def ray_ports() -> Iterator[None]:
    """Ray's default ports, which are this machine's: one test at a time starts clusters."""
    with Path(tempfile.gettempdir(), "ringtasks-tests-ray-ports").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def cluster(
    ray_ports: None, make_sshd: MakeSshd, write_hosts: WriteHosts, fake_ray: FakeRay
) -> Iterator[RayHosts]:
    environ = fake_ray.environ(os.environ["PATH"])
    servers = {name: make_sshd(environ=environ) for name in ("a", "b")}
    yield RayHosts(servers, write_hosts)
    for server in servers.values():
        end_jobs(server.home)
