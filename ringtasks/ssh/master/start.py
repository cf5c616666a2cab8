"""Starting a control master: one ``ssh`` that logs in and goes to the background.

Every process on this machine is to use it, so one process at a time starts it; the others wait, and
use it, or share the failure.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ringtasks.common.processor import anywhere
from ringtasks.common.rehearsal import current
from ringtasks.common.text import bounded
from ringtasks.errors import (
    ADVICE,
    SLOW_LOG_IN,
    AuthenticationError,
    HostKeyError,
    ProtocolError,
    Reason,
    RouteError,
)
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.evaluated_config import settings_of, watched_files, with_keepalive
from ringtasks.ssh.failure_table import add_banner
from ringtasks.ssh.home_files import home_arguments
from ringtasks.ssh.host_keys import IMPOSTOR, UNKNOWN
from ringtasks.ssh.openssh import is_usable, why_no_master
from ringtasks.ssh.patience import Patience
from ringtasks.ssh.pins import KnownHosts
from ringtasks.ssh.refused_host_key import advice_to_learn, advice_to_update, changed_key
from ringtasks.ssh.refused_log_in import explain
from ringtasks.ssh.rehearsal import cuts
from ringtasks.ssh.routes import ProcessProxy, Route, SocksProxy, tcp_routes
from ringtasks.ssh.settings_files import file_arguments
from ringtasks.ssh.stream import Stream, acknowledge

from . import processes, records, running_masters
from .algorithms import preferred_algorithms
from .command import Command, MasterStart, master_command
from .control import Control, DeniedError, MasterGoneError
from .folder import control_folder
from .identity import MAX_HOPS, jump_chain, jump_config
from .records import Master
from .stderr_errors import banner_in, error_of, refused_methods, telling
from .trust import KeyPolicy, KnownHostsFiles, new_file

__all__ = ["can_master", "start"]

#: Seconds to keep a master, if a shorter ControlPersist expired before its first use.
_PATIENT_PERSIST = 30.0
_REHEARSED_PERSIST = 10.0  # seconds to keep the master of a rehearsal
_LOOK_INTERVAL = 0.1  # seconds between looks at what ssh has printed, while it logs in
_LOG_BYTES = 256 * 1024
#: macOS lets a process open 256 files, and a master needs four for each session.
_MAX_FILES = 8192
_RAISE_LIMIT = f'ulimit -n {_MAX_FILES} 2>/dev/null || ulimit -n "$(ulimit -Hn)"; exec "$@"'


def can_master(config: SSHConfig, route: Route, *, is_carried: bool) -> bool:
    """Return True if a control master can hold a connection over this route.

    :param is_carried: the route goes through a jump host or a ProxyCommand.
    """
    if not is_usable() or why_no_master(config) is not None:
        return False
    if (is_carried or isinstance(route.proxy, ProcessProxy)) and cuts(config.id, route.name):
        return False  # ssh dials anew, and only a connection of ours can be cut
    return route.name != "direct" or _can_jump(config)


def start(
    config: SSHConfig, route: Route, name: str, patience: Patience, stream: Stream | None = None
) -> Master:
    """Start a master for this connection over ``route``; the caller holds the name's lock.

    :param name: the connection's (`control_name`).
    :param patience: the time limit for all of it.
    :param stream: the route's connection, if it is already open: ``ssh`` uses it if it can, and
        dials anew if it cannot.
    :raises HostKeyError: the host, or its jump host, did not show its pinned key.
    :raises AuthenticationError: the log-in was refused.
    :raises RouteError: the route fails.
    :raises UsageError: the key file does not exist, or ssh cannot be given its path.
    :raises StateFileError: the folder of the sockets cannot be used.
    """
    socket = records.new_socket(control_folder(), name)
    started = _Attempt(config, route, patience, stream).run(socket)
    _cap()
    return started


class _Attempt:
    """One attempt to start one master."""

    def __init__(
        self, config: SSHConfig, route: Route, patience: Patience, stream: Stream | None
    ) -> None:
        settings = settings_of(config)
        config = with_keepalive(config, settings.firsts())
        is_carried = route.name == "direct" and not config.proxy_jump
        # The keyword is missing if it is "none".
        self._proxy_command = settings.get("proxycommand") if is_carried else None
        if current() is not None:  # its master is of no use to a later process
            persist = min(config.control_persist, _REHEARSED_PERSIST)
            config = replace(config, control_persist=persist)
        self._config, self._route = config, route
        has_hop = route.name == "direct" and config.proxy_jump
        self._dialled = None if stream is None or has_hop else stream.share()
        self._patience = patience
        self._algorithms: Mapping[str, str] = preferred_algorithms(config.ssh_config_file)
        self._said = ""  # the stderr of the last refused ssh

    def failed(self, reason: Reason, evidence: str, advice: str = "") -> RouteError:
        elapsed, route = self._patience.elapsed(), self._route
        return RouteError(
            self._config.id, route.name, reason, evidence, route.address, elapsed, advice
        )

    def run(self, socket: Path) -> Master:
        """Start ``ssh``, pin the keys that it accepted, and leave a record."""
        try:
            self._check_carrier()
            self._terms = KeyPolicy(self._config, self._route)
            while True:
                try:
                    return self._run(socket)
                except (_ExpiredError, RouteError) as error:
                    if not self._vary(error):
                        raise
                records.discard(socket)
                self._drop_dialled()
                self._check_carrier()
        except _ExpiredError as error:
            records.discard(socket)
            raise self.failed(Reason.RESET, "the control master has gone") from error
        except BaseException as error:
            records.discard(socket)
            if isinstance(error, RouteError) and not error.route:  # raised without the route
                error.route, error.address = self._route.name, self._route.address
            raise
        finally:
            self._drop_dialled()

    def _vary(self, error: _ExpiredError | RouteError) -> bool:
        """Change the terms after a failure, each kind once; False: nothing is left to try."""
        if isinstance(error, _ExpiredError):  # ControlPersist expired before its first use
            is_new = self._config.control_persist < _PATIENT_PERSIST
            self._config = replace(self._config, control_persist=_PATIENT_PERSIST)
            return is_new
        if error.reason is Reason.KEY_EXCHANGE and self._algorithms:
            self._algorithms = {}  # the host may support only those that were not preferred
            return True
        return error.reason is Reason.HOST_KEY and self._terms.vary(self._said)

    def _drop_dialled(self) -> None:
        dialled, self._dialled = self._dialled, None
        if dialled is not None:
            dialled.close()

    def _run(self, socket: Path) -> Master:
        trusts = KnownHostsFiles(socket)
        planned = self._planned(socket, trusts)
        self._log_in(master_command(planned, os.environ), socket, planned.carrier_log)
        try:
            pid = self._master_pid(socket)
            self._pin(trusts)
            started = Master(
                socket,
                self._config.id,
                self._route.name,
                self._route.address,
                pid,
                time.time(),
                KnownHosts().pins(self._config),
            )
            records.write(started)
        except BaseException:
            _end_all(socket)
            raise
        for suffix in (".err", ".carrier"):
            Path(f"{socket}{suffix}").unlink(missing_ok=True)
        return started

    def _planned(self, socket: Path, trusts: KnownHostsFiles) -> MasterStart:
        trust = trusts.of(self._terms)
        hop = trusts.hop(self._config) if self._route.name == "direct" else None
        has_program = self._proxy_command or isinstance(self._route.proxy, ProcessProxy)
        return MasterStart(
            self._config,
            self._route,
            socket,
            trust,
            hop=hop,
            proxy_command=self._proxy_command,
            folder=_current_folder(),
            carrier_log=Path(f"{socket}.carrier") if hop or has_program else None,
            is_dialled=self._dialled is not None,
            may_ask=self._patience.may_ask,
            algorithms=self._algorithms,
            files=file_arguments(self._config.ssh_config_file),
            identities=home_arguments(self._config),
        )

    def _log_in(self, command: Command, socket: Path, carrier_log: Path | None) -> None:
        """Run ``ssh`` until it is in the background.

        :raises RouteError: it ended, or was not there in time; no process of it is left then.
        """
        errors = Path(f"{socket}.err")
        process = self._start(command, errors)
        has_group = not self._patience.may_ask
        try:
            status = self._await(process, errors)
        except BaseException as error:
            _kill(process, has_group=has_group)
            _end_all(socket)
            if isinstance(error, subprocess.TimeoutExpired):
                raise self._too_late(errors, carrier_log) from None
            raise
        if status != 0:
            _kill(process, has_group=has_group)  # its ProxyCommand may still be running
            raise self._refused(errors, carrier_log)
        if self._dialled is not None:
            acknowledge(self._dialled)  # ssh does not, and the first session would wait for it

    def _start(self, command: Command, errors: Path) -> subprocess.Popen[bytes]:
        carrier = subprocess.DEVNULL if self._dialled is None else self._dialled.fileno()
        with new_file(errors) as stderr, anywhere():
            return subprocess.Popen(
                ("/bin/sh", "-c", _RAISE_LIMIT, "sh", *command.argv),
                stdin=carrier,
                stdout=carrier,
                stderr=stderr,
                env=command.environment,
                # It outlives us, and would keep our current folder busy; but the programs of
                # "Match exec" are run there.
                cwd="/" if watched_files(self._config) is not None else _current_folder(),
                # A session of its own keeps Ctrl-C from it, but has no terminal to ask at.
                start_new_session=not self._patience.may_ask,
            )

    def _await(self, process: subprocess.Popen[bytes], errors: Path) -> int:
        """Wait for the process, and hear the server's banner meanwhile.

        :raises subprocess.TimeoutExpired: it has not ended in time.
        """
        heard = ""
        while True:
            try:
                return processes.status_of(process, min(_LOOK_INTERVAL, self._patience.remaining()))
            except subprocess.TimeoutExpired:
                said = telling(_end_of(errors))
                if said != heard:
                    heard = said
                    self._patience.hear(said)
                self._patience.show()
                if self._patience.is_over():
                    raise

    def _too_late(self, errors: Path, carrier_log: Path | None) -> RouteError:
        said = bounded(telling(_end_of(errors)))
        silent = "no answer" if self._dialled is None else "the log-in was not answered"
        evidence = f"{silent} in {self._patience.elapsed():.1f} s"
        advice = "" if self._dialled is None else SLOW_LOG_IN
        if self._route.name == "direct" and (jump := jump_config(self._config)):
            evidence += f" through the jump host {jump.id}"
        elif self._proxy_command is not None:
            evidence += f" from {bounded(self._proxy_command)}"
            said = bounded(_end_of(carrier_log)) if carrier_log is not None else ""
            advice = ADVICE[Reason.PROXY_FAILED]
        evidence += f"; it said: {said}" if said else ""
        return self.failed(Reason.TIMED_OUT, evidence, advice)

    def _refused(self, errors: Path, carrier_log: Path | None) -> RouteError:
        self._said = said = _end_of(errors)
        carrier_said = None if carrier_log is None else _end_of(carrier_log)
        elapsed, pins, route = self._patience.elapsed(), self._terms.pins, self._route
        if self._proxy_command is not None:  # the program failed, not a jump host
            route = route._replace(proxy=ProcessProxy((self._proxy_command,)))
        error = error_of(self._config.id, route, said, carrier_said, elapsed, pins)
        if self._proxy_command is not None and error.reason is Reason.TIMED_OUT:
            return self._too_late(errors, carrier_log)
        add_banner(error, banner_in(said))
        if IMPOSTOR in error.evidence and isinstance(error, HostKeyError):
            error.advice = advice_to_update(self._config, error.evidence)
        elif UNKNOWN in error.evidence:
            error.advice = advice_to_learn(self._config)
        elif isinstance(error, AuthenticationError):
            explain(error, self._config, refused_methods(said), said)
        return error

    def _master_pid(self, socket: Path) -> int:
        try:
            control = Control.connect(socket, self._patience.remaining())
            with contextlib.closing(control):
                return control.alive(self._patience.remaining())
        except MasterGoneError as error:
            raise _ExpiredError from error
        except (OSError, ProtocolError, DeniedError) as error:
            evidence = f"the control master does not answer: {error}"
            raise self.failed(Reason.RESET, evidence) from error

    def _pin(self, trusts: KnownHostsFiles) -> None:
        """Pin the keys of a first contact; no key is accepted over a pin."""
        contacts = [*trusts.first_contacts(), *self._terms.first_contacts()]
        for config, key, is_authority in contacts:
            if not KnownHosts().pin(config, key, is_authority=is_authority):
                error = changed_key(config, key, "another key was pinned a moment ago")
                error.route, error.address = self._route.name, self._route.address
                error.elapsed = self._patience.elapsed()
                raise error

    def _check_carrier(self) -> None:
        proxy = self._route.proxy
        if isinstance(proxy, ProcessProxy):
            import shutil  # takes long, and most routes need no program

            if shutil.which(proxy.argv[0]) is None:
                raise self.failed(Reason.PROXY_MISSING, f"{proxy.argv[0]} is not on PATH")
        if isinstance(proxy, SocksProxy) and self._dialled is None:
            raise self.failed(Reason.PROXY_FAILED, "ssh has no SOCKS5 client of its own")


class _ExpiredError(Exception):
    """The master has logged in, but its ControlPersist expired before its first use."""


def _current_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  # a string is wanted
    except FileNotFoundError:  # it was removed
        return "/"


def _can_jump(config: SSHConfig) -> bool:
    chain = jump_chain(config)
    is_unfit = any(jump.private_key or jump.embedded or not tcp_routes(jump) for jump in chain)
    return len(chain) <= MAX_HOPS + 1 and not is_unfit


def _kill(process: subprocess.Popen[bytes], *, has_group: bool) -> None:
    """End the started process and its children, except a master in the background."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if has_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _end_of(log: Path) -> str:
    """Return the end of a log, in which ssh gives its reasons: a server's banner has no limit."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
            text = file.read(_LOG_BYTES).decode("utf-8", "replace")
            return text.replace("\r\n", "\n")  # ssh ends its lines so
    except FileNotFoundError:  # the program of a ProxyCommand has not been started
        return ""


def _end_all(socket: Path) -> None:
    """End every ``ssh`` of this start: one may already be in the background."""
    for pid, path in processes.masters_in(socket.parent):
        if path == socket:
            processes.kill(pid, socket)


def _cap() -> None:
    """Limit the number of masters; each is checked only if there are too many."""
    if sum(1 for _ in records.current(control_folder())) > running_masters.MOST_MASTERS:
        running_masters.cap()
