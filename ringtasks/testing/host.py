"""`FakeHost`: one host of a fake fleet: its answers, its failures, the calls it received."""

from __future__ import annotations

import itertools
import posixpath
import shlex
import threading
from collections.abc import Mapping
from typing import Any, Literal

from ringtasks.client.process_memory import PS_COMMAND
from ringtasks.errors import AuthenticationError, HostKeyError, Reason, RouteError, UsageError
from ringtasks.inventory.model import HostConfig
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Rendered
from ringtasks.remote.script import ExecRequest, Script
from ringtasks.ssh.routes import ROUTE_NAMES, Route

from .files import Files
from .links import FakeLink, FakeProgram
from .programs import Bootstrap, HostParts, Run, as_bytes, farewell_of
from .rules import Answer, Answering, Call, Rule, rule_for

__all__ = ["FakeHost"]

_ERRORS = {Reason.AUTHENTICATION: AuthenticationError, Reason.HOST_KEY: HostKeyError}
_FIRST_PID = 1001
_NOT_FOUND = 127  # XCU 2.8.2


class FakeHost(Answering):
    """A fake host: set its answers and failures, then read the calls that it received.

    :param common_rules: rules of the whole fleet; the host's own come first.
    :param is_strict: a command without a rule fails; else it succeeds and prints nothing.
    """

    def __init__(
        self, config: HostConfig, common_rules: list[Rule], *, is_strict: bool = False
    ) -> None:
        super().__init__()
        self.config, self.name = config, config.name
        self.files = Files()
        """Its files, by path; ``files["~/x"]`` is below the home."""
        self.memory: dict[int, tuple[float, str]] = {}
        """Its processes: id to (resident megabytes, command)."""
        self.logins = 0
        """Number of links that were opened."""
        self._common_rules, self._is_strict = common_rules, is_strict
        self._lock = threading.RLock()
        self._runs: list[Run] = []
        self._stopped: list[Run] = []
        self._jobs: dict[str, Run] = {}
        """The background jobs, by the ids that clients gave them."""
        self._links: list[FakeLink] = []
        self._refusals: dict[str, tuple[Reason, str]] = {}
        self._losses = {"login": 0, "start": 0}
        self._pids = itertools.count(_FIRST_PID)

    def __repr__(self) -> str:
        return f"FakeHost({self.name!r}, {len(self._runs)} calls)"

    @property
    def calls(self) -> list[Call]:
        """All commands that have started here, in that order."""
        return [run.call for run in self._runs]

    @property
    def commands(self) -> list[str]:
        """The texts of all commands that have started here, in that order."""
        return [call.command for call in self.calls]

    @property
    def stopped(self) -> list[Call]:
        """The calls that were told to end: by a time limit, a cancelled task, or Ctrl-C."""
        return [run.call for run in self._stopped]

    def down(
        self, *routes: str, reason: Reason | str = Reason.TIMED_OUT, evidence: str = ""
    ) -> None:
        """Refuse the routes of these names (none given: all), until `up`.

        Open links over them are lost: a command under way has an unknown outcome.

        :raises UsageError: no route has a given name.
        """
        for route in _routes(routes):
            self._refusals[route] = (Reason(reason), evidence)
        for link in self._links:
            if link.route in _routes(routes):
                link.lose(f"the host is down: {Reason(reason)}")

    def up(self, *routes: str) -> None:
        """Restore the routes of these names (none given: all)."""
        for route in _routes(routes):
            self._refusals.pop(route, None)

    def lose_link(self, after: Literal["login", "start"] = "start", *, times: int = 1) -> None:
        """Break the link at the next command or copy, ``times`` times.

        :param after: ``start``: after it has started, so that its outcome is unknown. ``login``:
            before it can have started, so that the client tries again over another link.
        """
        if after not in self._losses:
            raise ValueError(f"after: expected 'login' or 'start', got {after!r}")
        self._losses[after] += times

    # The fleet and its links call the methods below.

    def refusal(self, route: Route) -> RouteError | None:
        """Return the error of a refused route; None if the route works."""
        if route.name not in self._refusals:
            return None
        reason, evidence = self._refusals[route.name]
        kind = _ERRORS.get(reason, RouteError)
        return kind(self.name, route.name, reason, evidence, address=route.address)

    def log_in(self, route: str) -> FakeLink:
        """Return a new link."""
        with self._lock:
            self.logins += 1
            self._links.append(FakeLink(self, route))
            return self._links[-1]

    def close_links(self, evidence: str) -> None:
        """Break every link."""
        for link in self._links:
            link.lose(evidence)

    def loses_link(self, *, after: str) -> bool:
        """Return True if a link must break now, and count that."""
        with self._lock:
            is_to_break = self._losses[after] > 0
            self._losses[after] -= is_to_break
            return is_to_break

    def program(self, command: str | None, link: FakeLink) -> FakeProgram:
        """Return the program that the exec request ``command`` starts (None: the login shell)."""
        pid = next(self._pids)
        if not isinstance(command, ExecRequest):  # of a test, over a bare link
            return self._run(Call(command or ""), HostParts(link, 0, b"", self._respond))
        script = command.script
        hello = script.mark.printed + b"%d\n" % pid
        around = HostParts(link, pid, hello, self._respond, farewell_of(script))
        if not command.awaits_payload:
            return self._start(script, around)
        return Bootstrap(hello, lambda: self._start(script, around._replace(hello=b"")))

    def _start(self, script: Script, around: HostParts) -> FakeProgram:
        call = Call(script.command, script.cwd, script.env, venv=script.venv)
        if isinstance(script.command, Rendered) and script.command.name == "stop_run.sh":
            return around.done(self._stop(script.command.parameters["group"]))
        if isinstance(script.command, Rendered) and script.command.name == "start.sh":
            return self._launch(call, script.command.parameters, around)
        if script.command == PS_COMMAND:
            return around.done(self._processes())
        return self._run(call, around)

    def _run(self, call: Call, around: HostParts) -> Run:
        run = Run(call, around)
        self._runs.append(run)
        self._lose_started(around.link)
        return run

    def _launch(self, call: Call, launch: Mapping[str, Any], around: HostParts) -> FakeProgram:
        """Start a job, once for each id, and print its process id."""
        job_id = launch["rt_id"]
        call = call._replace(command=launch["rt_command"], is_background=True)
        if job_id not in self._jobs:
            answer, is_known = self._respond_to(call)
            if answer.returncode and not is_known:
                return around.done(stderr=as_bytes(answer.stderr), status=answer.returncode)
            job = Run(call, HostParts(around.link, next(self._pids), b"", self._respond))
            job.is_stoppable = answer.is_stoppable
            self._jobs[job_id] = job
            self._runs.append(job)
            self.files[_log_of(launch, call)] = as_bytes(answer.stdout) + as_bytes(answer.stderr)
        self._lose_started(around.link)
        return around.done(b"%d\n" % self._jobs[job_id].pid)

    def _lose_started(self, link: FakeLink) -> None:
        if self.loses_link(after="start"):
            link.lose("it broke after the start, as the test said")

    def _stop(self, pid: object) -> bytes:
        """End a run; return the process ids that remain, one per line."""
        left = b""
        for run in self._runs:
            if run.pid == pid:
                self._stopped.append(run)
                left = b"" if run.stop() else b"%d\n" % run.pid
        return left

    def _processes(self) -> bytes:
        """Return the output of ``ps``."""
        lines = [
            f"{pid} 1 S {round(megabytes * 1024)} {command}"
            for pid, (megabytes, command) in self.memory.items()
        ]
        return "\n".join(["PID PPID STAT RSS COMMAND", *lines, ""]).encode()

    def _respond(self, call: Call) -> Answer:
        return self._respond_to(call)[0]

    def _respond_to(self, call: Call) -> tuple[Answer, bool]:
        """Return the answer, and True if a rule gave it."""
        with self._lock:
            rule = rule_for(call, self._rules, self._common_rules)
        if rule is not None:
            return rule.answer(call).checked(), True
        return self._unmatched(call), False

    def _unmatched(self, call: Call) -> Answer:
        if not self._is_strict or call.command == "true":  # what `check_connectivity` runs
            return Answer()
        said = f"ringtasks.testing: {self.name}: no rule for {call.command!r}: give it one by on()"
        return Answer(stderr=said + "\n", returncode=_NOT_FOUND)


def _routes(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in ROUTE_NAMES:
            known = ", ".join(ROUTE_NAMES)
            raise UsageError(f"unknown route {name!r}: expected one of {known}")
    return names or ROUTE_NAMES


def _log_of(launch: Mapping[str, Any], call: Call) -> str:
    """Return the path of a job's log; a relative path starts in the job's working folder."""
    if not launch["rt_log"]:
        return f"~/{JOBS_FOLDER}/{launch['rt_id']}/log"
    (path,) = shlex.split(launch["rt_log"])
    if launch["rt_log"].startswith('"$HOME"'):
        return f"~{path.removeprefix('$HOME')}"
    return posixpath.join(call.cwd or "~", path)
