"""The cached content of hosts files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringtasks.inventory import cache, hosts_file
from ringtasks.inventory.model import Content, HostConfig

FIELDS = """\
defaults: {ssh_user: ubuntu, cuda: 12.10, tags: [a100, 010, no]}
groups: {gpu: [a, 'b*'], odd: 5, none: []}
hosts:
  a:
    ssh_host: 10.0.0.1
    ssh_port: 2222
    connect_timeout: 0.5
    command_timeout: 0
    use_control_master: false
    is_ephemeral: true
    ringrift_path: ~/old
    cloudflare_service_token_secret: ${SECRET}
    rack: 010
    power: off
    empty:
    price: 2.50
    nested: {x: [1, {y: z}]}
    note: "1"
    ssh_prt: 1
  "b é": {ssh_host: h}
  bad: {ssh_port: 0}
  010: {ssh_host: h}
  far: {ssh_host: h, proxy_jump: a}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hosts.yaml"
    path.write_text(FIELDS)
    return path


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """The folder of the cache."""
    return Path(os.environ["XDG_STATE_HOME"]) / "ringtasks" / "inventory"


def kept(file: Path) -> Content | None:
    """Read and store a hosts file, and return the content that is kept."""
    text = file.read_bytes()
    cache.store(file, text, hosts_file.read(str(file), text))
    return cache.load(file, text)


def fields(host: HostConfig) -> object:
    fault = host.fault and (str(host.fault), host.fault.message, vars(host.fault))
    return host, host.texts, host.lines, fault


def test_cached_content_equals_the_content_that_was_read(file: Path) -> None:
    read = hosts_file.read(str(file), FIELDS.encode())

    found = kept(file)

    assert found is not None
    assert list(found.hosts) == list(read.hosts)
    assert [*map(fields, found.hosts.values())] == [*map(fields, read.hosts.values())]
    assert (found.groups, found.warnings) == (read.groups, read.warnings)
    assert found.hosts["bad"].fault is not None


def test_new_content_of_the_same_size_and_time_is_read_again(file: Path) -> None:
    before = file.stat()
    kept(file)
    file.write_text(FIELDS.replace("10.0.0.1", "10.0.0.2"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert cache.load(file, file.read_bytes()) is None


@pytest.mark.parametrize("damage", ["cut", "changed", "readable", "empty", "no JSON"])
def test_damaged_or_shared_cache_is_not_used(file: Path, cached: Path, damage: str) -> None:
    kept(file)
    (path,) = cached.iterdir()
    content = path.read_bytes()
    changed = {
        "cut": content[:-3], "changed": content.replace(b"10.0.0.1", b"10.0.0.2"), "empty": b"",
        "no JSON": b"[1]\n" + content,
    }  # fmt: skip
    path.write_bytes(changed.get(damage, content))
    path.chmod(0o644 if damage == "readable" else 0o600)

    assert cache.load(file, FIELDS.encode()) is None


@pytest.mark.parametrize(
    "entry", ["cloudflare_service_token_secret: hunter2", "since: 2026-11-25", "n: !!binary aGk="]
)
def test_secrets_and_values_that_json_cannot_keep_are_not_cached(
    file: Path, cached: Path, entry: str
) -> None:
    file.write_text(f"a:\n  ssh_host: h\n  {entry}\n")

    assert kept(file) is None
    assert not cached.exists() or not list(cached.iterdir())


def test_cache_is_private_and_holds_few_files(tmp_path: Path, cached: Path) -> None:
    for n in range(20):
        file = tmp_path / f"{n}.yaml"
        file.write_text("a: {ssh_host: h}")
        kept(file)

    assert len(list(cached.iterdir())) == 16
    assert {path.stat().st_mode & 0o777 for path in cached.iterdir()} == {0o600}
    assert cached.stat().st_mode & 0o777 == 0o700


def test_the_next_process_reads_a_host_and_its_jump_host_without_yaml(file: Path) -> None:
    code = (
        "import sys; from ringtasks.inventory.loader import find_host; "
        "host = find_host('far'); print(host.jump_host.ssh_host, 'yaml' in sys.modules)"
    )
    environ = {**os.environ, "RINGTASKS_HOSTS": str(file)}

    runs = [
        subprocess.check_output([sys.executable, "-c", code], text=True, env=environ)
        for _ in range(2)
    ]

    assert runs == ["10.0.0.1 True\n", "10.0.0.1 False\n"]


def test_a_cache_that_cannot_be_written_is_ignored(file: Path, cached: Path) -> None:
    cached.parent.mkdir(parents=True)
    cached.write_text("a file in the folder's place")

    assert kept(file) is None
