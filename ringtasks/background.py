"""Starting a command that outlives the connection, exactly once.  Pure: text for the host's shell.

The caller makes the job's id; the host makes the job's folder with it, and mkdir(2) succeeds once.
So a start whose answer was lost can be asked for again: it finds the job that was started.  The job
is the leader of a session and process group of its own, its stdin is /dev/null, and nothing of it
holds the connection's streams, or sshd would wait for it.
"""

from __future__ import annotations

from .script import path, quote

__all__ = ["JOBS_FOLDER", "launch_script"]

#: On the host, below the home; one folder a job, for its owner only.
JOBS_FOLDER = ".ringtasks/jobs"

# The leader writes its own process id: whoever reads it knows that the job has started. The command
# runs in a subshell, so that its "exit" does not keep its status from being written.
_LEADER = (
    'echo $$ > "$1/pid.new" && mv "$1/pid.new" "$1/pid" || exit 1; '
    '( eval "$(cat "$1/command")" ); echo $? > "$1/exit_status"'
)

# setsid(1) is util-linux's and BusyBox's; macOS has Perl instead. Without either, "set -m" gives
# the job at least a process group of its own (XCU 2.11).
_LAUNCH = """\
job="$HOME"/{folder}/{job_id}; log={log}
mask=$(umask); umask 077
mkdir -p "$HOME"/{folder} || exit 1
if mkdir "$job" 2>/dev/null; then
  printf %s {command} > "$job/command" || exit 1
  umask "$mask"
  case $log in "") log=$job/log ;; */*) mkdir -p "${{log%/*}}" || exit 1 ;; esac
  : >> "$log" || exit 1
  set -- {shell} -c {leader} sh "$job"
  if command -v setsid >/dev/null; then set -- setsid "$@"
  elif command -v perl >/dev/null; then
    set -- perl -MPOSIX -e "POSIX::setsid(); exec @ARGV" "$@"
  else set -m; fi
  "$@" </dev/null >>"$log" 2>&1 &
fi
n=0
while [ ! -s "$job/pid" ] && [ $n -lt 100 ]; do sleep 0.05; n=$((n + 1)); done
cat "$job/pid"
"""


def launch_script(
    job_id: str, command: str, log_file: str | None = None, shell: str = "/bin/sh"
) -> str:
    """A command that starts ``command`` as the job ``job_id`` and prints its process id.

    It fails, and starts nothing, where the job's folder or its log cannot be made.  Asked for again
    it prints the same process id.  ``log_file`` None: ``log`` in the job's folder.
    """
    return _LAUNCH.format(
        folder=JOBS_FOLDER,
        job_id=quote(job_id),
        command=quote(command),
        log=path(log_file) if log_file is not None else "",
        shell=shell,
        leader=quote(_LEADER),
    )
