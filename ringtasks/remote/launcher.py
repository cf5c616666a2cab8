"""Start a command that outlives the connection, exactly once: text for the host's shell.

The caller makes the job's id, so it can repeat a start whose answer was lost: the repeated start
finds the job.  Three shells work together on the host (``start.sh``, ``monitor.sh``,
``leader.sh``):

* the starter, within the connection, prepares the job's folder under a temporary name, starts the
  monitor, and waits for one line: the job's process id, "queued", or an error;
* the monitor, in a session of its own, waits for the job's end and writes its exit status, also if
  the job was killed.  A job that has to wait for its turn waits in the monitor;
* the leader, in another session, becomes the command.  It writes its process id into the prepared
  folder and renames that to the job's folder.  rename(2) does not replace a folder that is not
  empty, so one leader succeeds however many were started, and the job's folder is never seen
  without a process id: a starter that is killed before that leaves nothing to wait for.  The folder
  of a queued job is renamed in the same way, by its monitor.

The job's stdin is /dev/null, and the job does not hold the connection's streams; otherwise sshd
would wait for it.

If the disk is full when a job ends, its end is recorded all the same: the files for that are made
beforehand, overwritten in place and renamed.
"""

from __future__ import annotations

import re

from ringtasks.common.light_typing import NamedTuple

from .programs import Program, Word
from .script import check_text, quoted_path

__all__ = ["JOBS_FOLDER", "LOG_LIMIT_BYTES", "JobOptions", "launch_script"]

#: On the host, below the home; one folder per job, for its owner only. It holds ``command``,
#: ``pid``, ``process`` and ``monitor`` (an identity each, see ``identity.sh``), ``about`` (JSON, by
#: the job's starter), ``log`` or a link to it, ``times`` (times and the log's sizes), and at the
#: end ``ended_at`` and ``exit_status``.
JOBS_FOLDER = ".ringtasks/jobs"

#: Limit of the job's own log; its oldest bytes are removed first.
LOG_LIMIT_BYTES = 1024**3

_STARTER = Program(__file__, "start.sh")
_MONITOR = Program(__file__, "monitor.sh")
_LEADER = Program(__file__, "leader.sh")

# One program with its arguments (XCU 2.9.1). Only words that are certainly harmless match.
_VARIABLE = r"\$[A-Za-z_]\w*|\$\{[A-Za-z_]\w*\}"
_WORD = (
    rf"""(?:[A-Za-z0-9_./+:=,@%^~*?\[\]<>-]|[<>]&[0-9]|{_VARIABLE}"""
    rf"""|\\[^\n]|'[^']*'|"(?:[^"\\`$]|\\.|{_VARIABLE})*")+"""
)
_ONE_PROGRAM = re.compile(rf"[ \t]*([A-Za-z0-9_./+-]+)(?:[ \t]+{_WORD})*[ \t]*\Z", re.DOTALL)


class JobOptions(NamedTuple):
    """The options of a job beside its command.

    :param about: text that is written unchanged to the job's folder.
    :param turn: shell functions for the monitor, which get the job's folder.  ``rt_check`` runs
        before the start is answered: if it exits, the job is refused with its output.  If
        ``rt_waits`` is set, the job is queued: the start is answered, then ``rt_wait`` runs.
        ``rt_finish`` runs after the job has ended.
    :param log_limit_bytes: limit of the log in the job's folder; at least the latest half of it is
        kept.
    """

    about: str = ""
    turn: str = ""
    log_limit_bytes: int = LOG_LIMIT_BYTES


def launch_script(
    job_id: str,
    command: str,
    log_file: str | None = None,
    shell: str = "/bin/sh",
    options: JobOptions = JobOptions(),  # noqa: B008  # immutable
) -> str:
    """Return a command that starts ``command`` as the job ``job_id`` and prints its process id.

    If the job's folder or its log cannot be made, it fails and starts nothing.  If it is repeated,
    also at the same time or after the job's end, it prints the same process id.  If the job waits
    for its ``turn``, it prints "queued" instead of a process id.

    :param log_file: None: ``log`` in the job's folder.
    :raises TypeError: ``log_file`` is not text.
    :raises ValueError: ``log_file`` is empty or has a NUL.
    """
    if log_file is not None:
        check_text("log_file", log_file)
        if not log_file:
            raise ValueError("log_file: is empty")
    one_program = _ONE_PROGRAM.match(command.rstrip("\n"))
    return _STARTER.render(
        rt_folder=JOBS_FOLDER,
        rt_id=job_id,
        rt_log=Word(quoted_path(log_file)) if log_file is not None else "",
        # $(…) removes newlines from the end, where they mean nothing.
        rt_command=command.rstrip("\n"),
        rt_about=options.about,
        rt_shell=shell,
        rt_log_limit=options.log_limit_bytes,
        rt_program=one_program.group(1) if one_program else "",
        rt_turn=options.turn,
        rt_leader=_LEADER.text,
        rt_monitor=_MONITOR.text,
    )
