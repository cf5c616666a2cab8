"""Send one file to many hosts: once from this machine, then from host to host.

A host that has the file (the giver) sends it over its own network (the Tailscale address first) to
one that has not (the receiver).  Each such pass has a key of its own: the giver has it in a folder
that it removes, the receiver allows it to write this one part (authorized_keys(5),
``restrict,command=``) for as long as a session of ours is open, and removes it however the session
ends.  The receiver's host key is the one that is pinned here.  If a pass is not possible, this
machine sends the file.  Each host's copy is checked like any other.

The giver is not trusted.  It can write no more than the file's size, and nothing after the check:
before it, the receiver ends every process that the key has started, and the key's command writes
only while the key is in ``authorized_keys``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ringtasks.client.ask import Ask
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fork import held
from ringtasks.common.text import printable
from ringtasks.errors import RingtasksError
from ringtasks.exit_status import INTERRUPTED
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.remote.programs import Program, Word
from ringtasks.remote.script import RUN_ID_VARIABLE, one_line, quote, quoted_path
from ringtasks.remote.stop_run import stop_run_script
from ringtasks.ssh.host_keys import HostKey
from ringtasks.ssh.pins import KnownHosts
from ringtasks.ssh.routes import tcp_routes

from .allowed_key import allowed
from .checksums import Hashing, sha256_of, time_for
from .file_copy import put_file
from .host_transfer import HostCopy, HostTransferError
from .one_host import Work, resolve_destination
from .remote_part import RemotePart

__all__ = ["giving", "relayed"]

_KEYGEN_TIMEOUT = 20.0  # seconds
_CONNECT_TIMEOUT = 5  # seconds for the giver to reach the receiver at one address
_LOOK_INTERVAL = 0.2  # seconds between checks whether the transfer was interrupted
_ALIAS = "ringtasks-relay"
_SEND, _RECEIVE = (Program(__file__, name) for name in ("send_file.sh", "receive_part.sh"))
#: Ends the key, and the known hosts.
_MARK = "--- ringtasks: end ---"
_STOP_GRACE = 1.0  # seconds for the key's processes to end by themselves
#: The unit of ulimit -f (XCU ulimit); bash takes twice as much outside of its POSIX mode.
_LIMIT_UNIT = 512
_LIMIT_SLACK = 256


class _Holder(NamedTuple):
    """A host that has the file, and its path."""

    client: SSHClient
    path: str


class _Pool:
    """The hosts that have the file and are free to pass it on; for any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._free: list[_Holder] = []
        self._holders = 0
        self._is_seeding = False

    def take(self, host_copy: HostCopy) -> _Holder | None:
        """Return a holder, as soon as one is free; None: no host has it, send it from here.

        :raises HostTransferError: the transfer was interrupted.
        """
        with self._changed:
            while True:
                if host_copy.stop.is_cancelled:
                    raise HostTransferError("interrupted", INTERRUPTED)
                if self._free:
                    return self._free.pop(0)
                if not self._holders and not self._is_seeding:
                    self._is_seeding = True
                    return None
                self._changed.wait(_LOOK_INTERVAL)

    def give_back(self, holder: _Holder) -> None:
        """Mark a holder as free again."""
        with self._changed:
            self._free.append(holder)
            self._changed.notify_all()

    def add(self, holder: _Holder) -> None:
        """Add another host that has the file now."""
        with self._changed:
            self._holders += 1
            self._free.append(holder)
            self._is_seeding = False
            self._changed.notify_all()

    def failed(self) -> None:
        """Note that a host did not receive the file; if it was the first, another replaces it."""
        with self._changed:
            self._is_seeding = False
            self._changed.notify_all()


def relayed(source: Path, target: str) -> Work:
    """Return `one_host.put` of one file, from any host that has it."""
    pool = _Pool()
    hashing = Hashing(lambda: sha256_of(source))

    def work(host_copy: HostCopy) -> None:
        final, known = resolve_destination(host_copy, source, target)
        if host_copy.options.dry_run:
            put_file(host_copy, source, final, known)
            return
        holder = pool.take(host_copy)

        def send(part: RemotePart) -> bool:
            return holder is not None and _passed_on(holder, host_copy, part)

        try:
            put_file(host_copy, source, final, known, send=send, hashing=hashing)
        except BaseException:
            pool.failed()
            raise
        finally:
            if holder is not None:
                pool.give_back(holder)
        pool.add(_Holder(host_copy.client, final))

    return work


def _passed_on(holder: _Holder, host_copy: HostCopy, part: RemotePart) -> bool:
    """Return whether the giver has sent all of it; the reason for a failure is noted."""
    try:
        _pass_on(holder, host_copy, part)
    except (HostTransferError, RingtasksError, OSError, subprocess.SubprocessError) as error:
        if host_copy.stop.is_cancelled:
            raise HostTransferError("interrupted", INTERRUPTED) from error
        # A process of the giver may still write to it.
        host_copy.ask(part.remove_script(), time_for(0))
        giver = holder.client.config.id
        host_copy.notes.append(f"{giver} could not pass it on, so it came from here: {error}")
        return False
    return True


def _pass_on(holder: _Holder, host_copy: HostCopy, part: RemotePart) -> None:
    config = host_copy.client.config
    addresses = list(_addresses(config))
    pins = KnownHosts().pins(config).keys
    if not addresses or not pins:
        raise HostTransferError(
            "it has no address of its own" if pins else "its host key is not pinned"
        )
    with tempfile.TemporaryDirectory(prefix="ringtasks-relay-") as folder:
        private, public = _new_key(Path(folder))
    limit = time_for(host_copy.total_bytes or 0)
    pass_id = os.urandom(8).hex()
    size_bytes = host_copy.total_bytes or 0
    taking = _taking(part, pass_id, public.split()[1], size_bytes)
    with allowed(host_copy, public, taking, _ALIAS, limit) as user:
        script = giving(holder.path, user, addresses)
        with _kept_open(_secret_input(private, pins)) as stdin:
            result = holder.client.ask(
                Ask(script, limit, "/", stdin=stdin, cancellation=host_copy.stop)
            )
    if not result.success:
        raise HostTransferError(result.error or printable(result.stderr) or "ssh failed")
    left = host_copy.ask(stop_run_script(None, pass_id, _STOP_GRACE), time_for(0)).stdout
    if left.strip():
        raise HostTransferError(f"a process of it still runs there: {printable(left)}")


@contextlib.contextmanager
def _kept_open(content: bytes) -> Iterator[BinaryIO]:
    """Yield a stream of the content that ends with the block, or with this process."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as stdin:
        try:
            with held(writer):
                os.write(writer, content)  # a pipe holds more
                yield stdin
        finally:
            os.close(writer)


def _addresses(config: SSHConfig) -> Iterator[tuple[str, int]]:
    """Yield the addresses by which another host may reach it; the tailnet's first."""
    for route in tcp_routes(config):
        if route.name != "direct" or not config.proxy_jump:
            yield route.host, route.port


def _new_key(folder: Path) -> tuple[bytes, str]:
    """Return a private key, and the public one's line without a comment."""
    path = folder / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path],
        check=True,
        timeout=_KEYGEN_TIMEOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    return path.read_bytes(), path.with_suffix(".pub").read_text().strip()


def _taking(part: RemotePart, pass_id: str, blob: str, size_bytes: int) -> str:
    """Return the command that writes stdin to the part: the only command that the key allows.

    It runs while the key is allowed only. It looks for the key when its process bears the mark
    already: a process that passes this check is found by its mark after the key is gone.

    :param pass_id: marks its processes.
    :param blob: identifies the key's line.
    """
    blocks = -(-size_bytes // _LIMIT_UNIT) + _LIMIT_SLACK
    body = part.program(_RECEIVE, blob=blob, file_blocks=blocks)
    return one_line(f"export {RUN_ID_VARIABLE}={pass_id}; exec /bin/sh -c {quote(body)}")


def giving(path: str, user: str, addresses: list[tuple[str, int]]) -> str:
    """Return the script that sends the file to the first address that accepts it.

    The key and the known hosts are on stdin.  When stdin ends, the script and its ssh end, too:
    ringtasks was killed.
    """
    return _SEND.render(
        file=Word(quoted_path(path)),
        user=user,
        alias=_ALIAS,
        end_mark=_MARK,
        connect_timeout=_CONNECT_TIMEOUT,
        addresses=[text for host, port in addresses for text in (host, str(port))],
    )


def _secret_input(private: bytes, pins: tuple[HostKey, ...]) -> bytes:
    known = "".join(f"{_ALIAS} {pin.type} {pin.blob}\n" for pin in pins)
    return private + f"{_MARK}\n{known}{_MARK}\n".encode()
