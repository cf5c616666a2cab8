"""The hosts files as they were read last: reading YAML takes ten times as long.

The state folder has one file for each hosts file, which only its owner can read.  It is a line with
the groups and warnings, and a line for each host, which is decoded when the host is used.  It is
valid while the hosts file is the same (inode, size, time and a checksum of its content), and the
modules that read it are.  A hosts file with a secret in plain text has none.
"""

from __future__ import annotations

import json
import os
from binascii import crc32  # Invoke has loaded it
from collections.abc import Collection, ItemsView, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringtasks.common import setting_checks, settings
from ringtasks.common.regular_file import UNUSABLE, read_regular
from ringtasks.errors import InventoryError

from .model import SETTINGS, Content, HostConfig, WrittenGroup
from .state_files import state_folder

if TYPE_CHECKING:
    from .sources.model import Source

__all__ = ["load", "store"]

#: Number of hosts files that are kept: the ones read last.
_MOST_FILES = 16
_SECRETS = tuple(name for name, found in SETTINGS.items() if found.metadata["is_secret"])
_CHECKS = (str(settings.__file__), str(setting_checks.__file__))
_PLAIN = frozenset({str, int, float, bool, type(None)})


def load(file: Path, text: bytes) -> Content | None:
    """Return what `store` was given for this content of a hosts file; None: it was given none."""
    try:
        path = _path(file)
        status = path.lstat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            return None
        head, _, rest = read_regular(path).partition(b"\n")
        known = json.loads(head)
        if known["key"] != _key(file, text) or known["checksum"] != crc32(rest):
            return None
        hosts = _Hosts(str(file), known["names"], rest.splitlines())
        groups = {name: WrittenGroup(*group) for name, *group in known["groups"]}
        sources = _sources(known["sources"])
        warnings = tuple(known["warnings"])
        defaults, lines = known["defaults"], known["default_lines"]
        return Content(hosts, groups, warnings, sources, defaults, lines)
    except UNUSABLE:
        return None


def _sources(written: list[Any]) -> tuple[Source, ...]:
    if not written:
        return ()
    from .sources.model import Source  # few inventories have any

    return tuple(Source(kind, tuple(words), *rest) for kind, words, *rest in written)


def store(file: Path, text: bytes, content: Content) -> None:
    """Keep the content of a hosts file, if it can be kept."""
    from ringtasks.common.atomic_file import keep_newest, replace_file  # most runs write none

    with suppress(OSError, _UnkeptError):
        rest = b"\n".join(_encoded(host) for host in content.hosts.values())
        head = {
            "key": _key(file, text),
            "checksum": crc32(rest),
            "names": list(content.hosts),
            "groups": [(group, *found) for group, found in content.groups.items()],
            "warnings": content.warnings,
            "sources": [astuple(source) for source in content.sources],
            "defaults": _kept(content.defaults),
            "default_lines": dict(content.default_lines),
        }
        for source in content.sources:
            _kept(source.defaults)
        path = _path(file)
        replace_file(path, json.dumps(head).encode() + b"\n" + rest, makes_folder=True)
        keep_newest(path.parent, _MOST_FILES)


class _UnkeptError(Exception):
    """The content cannot be kept as JSON, or must not be written."""


class _Hosts(Mapping[str, HostConfig]):
    """The hosts of a file, each decoded at its first use."""

    def __init__(self, file: str, names: list[str], lines: list[bytes]) -> None:
        self._file, self._lines = file, dict(zip(names, lines, strict=True))
        self._decoded: dict[str, HostConfig] = {}

    def __getitem__(self, name: str) -> HostConfig:
        if name not in self._decoded:
            self._decoded[name] = _decoded(name, self._file, json.loads(self._lines[name]))
        return self._decoded[name]

    def items(self) -> ItemsView[str, HostConfig]:
        left = {name: line for name, line in self._lines.items() if name not in self._decoded}
        # One call of json for all lines, which takes half the time.
        found = json.loads(b"[%b]" % b",".join(left.values()))
        for name, host in zip(left, found, strict=True):
            self._decoded[name] = _decoded(name, self._file, host)
        return super().items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def _encoded(host: HostConfig) -> bytes:
    if host.fault is not None:
        fault = host.fault
        found: list[Any] = [host.line, fault.message, fault.line, fault.host, fault.field_name]
        return json.dumps(found).encode()
    given = {name: getattr(host, name) for name in (*host.lines, "work_dir")}
    facts = host.facts
    texts = {k: text for k, text in host.texts.items() if text != (facts[k],)}
    return json.dumps([host.line, _kept(given), dict(host.lines), _kept(facts), texts]).encode()


def _decoded(name: str, file: str, found: list[Any]) -> HostConfig:
    if isinstance(found[1], str):
        at, message, place, host, field_name = found
        fault = InventoryError(message, file=file, line=place, host=host, field_name=field_name)
        return HostConfig(name, file=file, line=at, fault=fault)
    at, given, lines, facts, texts = found
    written = {k: tuple(texts[k]) if k in texts else (value,) for k, value in facts.items()}
    return HostConfig(name, **given, facts=facts, texts=written, file=file, line=at, lines=lines)


def _kept(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings and facts that may be kept."""
    if any("${" not in given.get(name, "${") for name in _SECRETS) or not _is_plain(dict(given)):
        raise _UnkeptError
    return given


def _is_plain(value: object) -> bool:
    """Return True if JSON keeps the value as it is."""
    if isinstance(value, dict):
        return {str}.issuperset(map(type, value)) and _are_plain(value.values())
    if isinstance(value, list):
        return _are_plain(value)
    return type(value) in _PLAIN


def _are_plain(values: Collection[object]) -> bool:
    return _PLAIN.issuperset(map(type, values)) or all(map(_is_plain, values))


def _key(file: Path, text: bytes) -> list[object]:
    """Return the identity of the file and of the modules that read it."""
    status = file.stat()
    versions = sorted([entry.path, entry.stat().st_mtime_ns] for entry in _modules())
    checks = [os.stat(module).st_mtime_ns for module in _CHECKS]  # noqa: PTH116  # no Path is made
    return [status.st_ino, len(text), status.st_mtime_ns, crc32(text), versions, checks]


def _modules() -> Iterator[os.DirEntry[str]]:
    own = str(Path(__file__).parent)
    for folder in (own, f"{own}/sources"):
        # Each run does this: Path.rglob takes twenty times as long.
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if entry.name.endswith(".py"))


def _path(file: Path) -> Path:
    """Return the path of the cached content, which names the file as it is given."""
    names = os.fsencode(f"{file}\0{file.absolute()}")
    return state_folder() / "inventory" / f"{file.stem[:60]}-{crc32(names):08x}.jsonl"
