"""Starting a command that outlives the connection, exactly once.  Pure: text for the host's shell.

The caller makes the job's id, so a start whose answer was lost can be asked for again: it finds the
job that was started.  Three shells work together on the host:

* the starter, within the connection, prepares the job's folder under a name of its own, starts the
  keeper, and waits for one line: the job's process id, or what went wrong;
* the keeper, in a session of its own, waits for the job's end and writes its exit status, also that
  of a job that was killed;
* the leader, in another session, is what becomes the command.  It writes its process id into the
  prepared folder and renames that to the job's.  rename(2) replaces no folder that has something in
  it, so one leader comes through however many were started, and the job's folder is never seen
  without a process id: a starter that dies on the way leaves nothing to wait for.

The job's stdin is /dev/null, and nothing of it holds the connection's streams, or sshd would wait.
The three keep what they know in positional parameters: any variable may be the job's environment.
"""

from __future__ import annotations

import re

from .script import path, quote

__all__ = ["JOBS_FOLDER", "launch_script"]

#: On the host, below the home; one folder a job, for its owner only. In it are ``command``,
#: ``pid``, ``keeper`` (a process id too), at the end ``exit_status``, and ``log`` by default.
JOBS_FOLDER = ".ringtasks/jobs"

# All three know: $1 the prepared folder, $2 the job's, $3 the log ("": the one in the folder),
# $4 what starts a program in a session of its own ("": nothing does), $5 the program where the
# command is just one ("": it is not), $6 the leader's text and $7 the keeper's.

# Like setsid(1) it forks only if it leads a process group already.
_PERL_SETSID = (
    "delete $ENV{PERL_BADLANG}; "
    "POSIX::setsid() > 0 or do { fork and exit; POSIX::setsid() }; exec { $ARGV[0] } @ARGV"
)

# setsid(1) is util-linux's and BusyBox's; macOS has Perl instead. PERL_BADLANG: perl(1) complains
# of a locale that the host lacks.
_DETACH = (
    "if command -v setsid >/dev/null; then echo setsid; "
    "elif command -v perl >/dev/null; then "
    f"echo {quote(f'env PERL_BADLANG=0 perl -MPOSIX -e {quote(_PERL_SETSID)}')}; fi"
)

# The first setsid is not a group's leader, the second is one, so it forks and returns at once. With
# "&" the job would ignore SIGINT for ever (XCU 2.11). Without any setsid, "set -m" makes it leader
# of a process group at least, if the shell can do so without a terminal: bash can; dash cannot, and
# zsh exits over it, so a subshell tries first. Then the job stays in the session that sshd made.
_STARTER = """\
set -- "$HOME"/{folder} {job_id} {log}
if [ -s "$1/$2/pid" ]; then cat "$1/$2/pid"; exit; fi
set -- "$1/.$2.$$" "$1/$2" "$3" "$({detach})" {program} {leader} {keeper}
{{
  (umask 077 && mkdir -p "${{1%/*}}" && mkdir "$1") &&
  printf %s {command} >"$1/command" &&
  case $3 in */*) mkdir -p "${{3%/*}}/" ;; esac &&
  exec {unused} && {{
    if [ "$4" ]; then eval "$4 $4 {shell} -c"' "$7" sh "$@"'
    else {{ (set -m) && set -m; }} 2>/dev/null; {shell} -c "$7" sh "$@" & fi
  }} </dev/null 2>&1 | (
    while IFS= read -r line; do
      case $line in "started "*) echo "${{line#started }}"; exit ;; esac
      printf '%s\\n' "$line" >&2
    done
    exit 1
  )
}} || {{ rm -rf "$1"; echo "ringtasks: the job was not started" >&2; exit 1; }}
rm -rf "$1" "$2/${{1##*/}}"
"""

# The trap lets it outlive a signal to every process of the job; unlike an ignored signal, it is not
# inherited. What some shells print of a child that was killed is in the exit status.
_KEEPER = """\
trap : HUP INT TERM
echo $$ >"$1/keeper" || exit 1
[ "$4" ] || {{ (set -m) && set -m; }} 2>/dev/null
exec 3>&1 >/dev/null 2>&1
eval "(exec $4 {shell} -c"' "$6" sh "$@" >&3 2>&3)'
set -- "$2" $?
[ "$(cat "$1/keeper")" = $$ ] || exit
echo "$2" >"$1/exit_status.new" && mv -f "$1/exit_status.new" "$1/exit_status"
"""

# A starter that is killed once the job is the leader's own must not take the leader with it (PIPE).
# The process id is the program's where there is only one: it gets the signals, and bears its name.
# Else the command is an argument, for people who look at "ps", as long as Linux takes it for one:
# 128 KiB (execve(2), MAX_ARG_STRLEN); a character has up to 4 bytes.
_LEADER = """\
exec 3>&1 >>"${{3:-$1/log}}" || exit 1
echo $$ >"$1/pid" && [ "$(cat "$1/pid")" = $$ ] || exit 1
mv -f "$1" "$2" 2>/dev/null || [ -s "$2/pid" ] || mv -f "$1" "$2" || exit 1
trap "" PIPE
echo "started $(cat "$2/pid")" >&3
trap - PIPE
[ "$(cat "$2/pid")" = $$ ] || exit
exec 2>&1 3>&-
[ "$5" ] && case $(command -v "$5") in */*) eval "exec $(cat "$2/command")" ;; esac
set -- "$(cat "$2/command")"
[ ${{#1}} -gt 30000 ] || exec {shell} -c "$1"
eval "shift
$1"
"""

# One program with its arguments (XCU 2.9.1), told from anything else by what is certainly harmless.
_VARIABLE = r"\$[A-Za-z_]\w*|\$\{[A-Za-z_]\w*\}"
_WORD = (
    rf"""(?:[A-Za-z0-9_./+:=,@%^~*?\[\]<>-]|[<>]&[0-9]|{_VARIABLE}"""
    rf"""|\\[^\n]|'[^']*'|"(?:[^"\\`$]|\\.|{_VARIABLE})*")+"""
)
_ONE_PROGRAM = re.compile(rf"[ \t]*([A-Za-z0-9_./+-]+)(?:[ \t]+{_WORD})*[ \t]*\Z", re.DOTALL)


def launch_script(
    job_id: str, command: str, log_file: str | None = None, shell: str = "/bin/sh"
) -> str:
    """A command that starts ``command`` as the job ``job_id`` and prints its process id.

    It fails, and starts nothing, where the job's folder or its log cannot be made.  Asked for again
    it prints the same process id, also at the same time or after the job's end.

    :param log_file: None: ``log`` in the job's folder.
    :raises TypeError: ``log_file`` is no text.
    :raises ValueError: ``log_file`` is empty or has a NUL.
    """
    _check_log_file(log_file)
    one_program = _ONE_PROGRAM.match(command.rstrip("\n"))
    return _STARTER.format(
        folder=JOBS_FOLDER,
        job_id=quote(job_id),
        # $(…) takes newlines off the end, where they mean nothing.
        command=quote(command.rstrip("\n")),
        log=path(log_file) if log_file is not None else "''",
        shell=shell,
        detach=_DETACH,
        unused=" ".join(f"{n}>&-" for n in range(3, 10)),
        leader=quote(_LEADER.format(shell=shell)),
        keeper=quote(_KEEPER.format(shell=shell)),
        program=quote(one_program.group(1) if one_program else ""),
    )


def _check_log_file(log_file: object) -> None:
    if log_file is None:
        return
    if not isinstance(log_file, str):
        raise TypeError(f"log_file: expected text, got {type(log_file).__name__}")
    if not log_file or "\0" in log_file:
        raise ValueError(f"log_file: {'has a NUL character' if log_file else 'is empty'}")
