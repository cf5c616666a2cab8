"""Start a command that outlives the connection, exactly once.  Pure: text for the host's shell.

The caller makes the job's id, so it can repeat a start whose answer was lost: the repeated start
finds the job.  Three shells work together on the host:

* the starter, within the connection, prepares the job's folder under a temporary name, starts the
  keeper, and waits for one line: the job's process id, "queued", or an error;
* the keeper, in a session of its own, waits for the job's end and writes its exit status, also that
  of a job that was killed.  A job that has to wait for its turn waits in the keeper;
* the leader, in another session, becomes the command.  It writes its process id into the prepared
  folder and renames that to the job's folder.  rename(2) does not replace a folder that is not
  empty, so one leader succeeds however many were started, and the job's folder is never seen
  without a process id: a starter that is killed before that leaves nothing to wait for.  The folder
  of a queued job is renamed in the same way, by its keeper.

The job's stdin is /dev/null, and the job does not hold the connection's streams; otherwise sshd
would wait for it.  The three shells keep their values in positional parameters or in variables with
names of their own: any other variable may belong to the job's environment.

If the disk is full when a job ends, its end is recorded all the same: the files for that are made
beforehand, overwritten in place and renamed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .script import RUN_ID_VARIABLE, path, quote

__all__ = ["IDENTITY", "JOBS_FOLDER", "Turn", "launch_script"]

#: On the host, below the home; one folder per job, for its owner only. It holds ``command``,
#: ``pid``, ``process`` and ``keeper`` (an identity each, see `IDENTITY`), ``about`` (JSON from the
#: starter of the job), ``log`` or a link to it, ``times`` (times and the log's sizes), and at the
#: end ``ended_at`` and ``exit_status``.
JOBS_FOLDER = ".ringtasks/jobs"

#: Seconds between the keeper's checks of the log.
LOG_INTERVAL = 5
#: Limit of the job's own log; its oldest bytes are removed first.
LOG_LIMIT_BYTES = 1024**3

#: Functions that identify a process for ever: a process id is reused, but within one boot not with
#: the same start (clock ticks since the boot, proc_pid_stat(5) field 22, which setting the clock
#: does not change). ``rt_identity`` prints "PID BOOT START" of this shell, and its argument. On
#: Linux that runs no program; on other systems it runs ps(1) and sysctl(8).
IDENTITY = """\
rt_start() {
  rt_start=
  if [ -r /proc/self/stat ]; then
    read -r rt_start 2>/dev/null <"/proc/$1/stat" || return 0
    set -- ${rt_start##*) }
    case $1 in [ZX]*) rt_start= ;; *) rt_start=${20} ;; esac
  else
    rt_start=$(LC_ALL=C ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' _)
  fi
}
rt_boot() {
  read -r rt_boot 2>/dev/null </proc/sys/kernel/random/boot_id ||
    rt_boot=$(sysctl -n kern.bootsessionuuid 2>/dev/null || echo none)
}
rt_identity() {
  rt_boot
  rt_start $$
  echo "$$ $rt_boot $rt_start $1"
}
rt_is_alive() {
  rt_boot
  rt_start "$1"
  [ "$rt_start" ] && [ "$rt_boot $rt_start" = "$2 $3" ]
}
"""


@dataclass(frozen=True)
class Turn:
    """The turn that a job waits for, as text for its keeper's shell.

    ``check`` runs before the start is answered: if it exits, the job is refused with its output.
    ``wait`` makes the job a queued one: the start is answered, then ``wait`` runs.  ``finish`` runs
    after the job has ended.  In all three, ``$1`` is the job's folder.
    """

    check: str = ""
    wait: str | None = None
    finish: str = ""


# The parameters of all three shells: $1 the prepared folder, $2 the job's folder, $3 the log ("":
# the one in the folder), $4 the command that starts a program in a session of its own ("": there is
# none), $5 the program if the command is a single one ("": it is not), $6 the leader's text, $7 the
# keeper's text.

# Like setsid(1), it forks only if it already leads a process group.
_PERL_SETSID = (
    "delete $ENV{PERL_BADLANG}; "
    "POSIX::setsid() > 0 or do { fork and exit; POSIX::setsid() }; exec { $ARGV[0] } @ARGV"
)

# util-linux and BusyBox have setsid(1); macOS has Perl instead. PERL_BADLANG: without it perl(1)
# warns of a locale that the host lacks.
_DETACH = (
    "if command -v setsid >/dev/null; then rt_detach=setsid; "
    "elif command -v perl >/dev/null; then "
    f"rt_detach={quote(f'env PERL_BADLANG=0 perl -MPOSIX -e {quote(_PERL_SETSID)}')}; fi"
)

# If a disk is full, some shells only print "I/O error", so the starter asks df(1).
# The first setsid does not lead a process group; the second does, so it forks and returns at once.
# With "&" the job would ignore SIGINT for ever (XCU 2.11). Without setsid, "set -m" makes the job
# leader of a process group at least, if the shell can do so without a terminal: bash can; dash
# cannot, and zsh exits, so a subshell tries first. Then the job stays in sshd's session.
_STARTER = """\
set -- "$HOME"/{folder} {job_id} {log}
if [ -s "$1/$2/keeper" ]; then
  if [ -s "$1/$2/pid" ]; then cat "$1/$2/pid"; else echo queued; fi
  exit
fi
rt_detach=
{detach}
set -- "$1/.$2.$$" "$1/$2" "$3" "$rt_detach" {program} {leader} {keeper}
{{
  {{ [ -d "${{1%/*}}" ] || (umask 077 && mkdir -p "${{1%/*}}"); }} && mkdir -m 700 "$1" &&
  printf %s {command} >"$1/command" && {about} &&
  case $3 in */*) mkdir -p "${{3%/*}}/" ;; esac &&
  case $3 in "") ;; /*) ln -s "$3" "$1/log" ;; *) ln -s "$PWD/${{3#./}}" "$1/log" ;; esac &&
  exec {unused} && {{
    if [ "$4" ]; then eval "$4 $4 {shell} -c"' "$7" sh "$@"'
    else {{ (set -m) && set -m; }} 2>/dev/null; {shell} -c "$7" sh "$@" & fi
  }} </dev/null 2>&1 | (
    while IFS= read -r line; do
      case $line in
        "started "*) echo "${{line#started }}"; exit ;;
        "queued") echo queued; exit ;;
      esac
      printf '%s\\n' "$line" >&2
    done
    exit 1
  )
}} || {{
  df -Pk "${{1%/*/*}}" 2>/dev/null | tail -n 1 | {{
    IFS=' ' read -r rt_disk rt_size rt_used rt_free rt_rest
    [ "${{rt_free:-64}}" -ge 64 ] || echo "No space left on $rt_disk, ${{rt_rest#* }}" >&2
  }}
  rm -rf "$1"
  echo "ringtasks: the job was not started" >&2
  exit 1
}}
[ ! -e "$1" ] && [ ! -e "$2/${{1##*/}}" ] || rm -rf "$1" "$2/${{1##*/}}"
"""

# The trap lets the keeper outlive a signal to every process of the job; unlike an ignored signal,
# it is not inherited. Some shells print a message about a killed child; it is dropped, because the
# exit status tells the same.
_KEEPER = """\
trap : HUP INT TERM
{identity}
rt_identity >"$1/keeper" && printf '   \\n' >"$1/exit_status.new" &&
  printf '%10s\\n' "" >"$1/ended_at.new" || exit 1
[ -s "$1/keeper" ] && [ -s "$1/exit_status.new" ] && [ -s "$1/ended_at.new" ] || exit 1
rt_is_mine() {{ read -r rt_pid rt_rest <"$1/keeper"; [ "$rt_pid" = $$ ]; }}
{check}
{queue}
[ "$4" ] || {{ (set -m) && set -m; }} 2>/dev/null
exec 3>&1 >/dev/null 2>&1
({watch}) 3>&- &
eval "(exec $4 {shell} -c"' "$6" sh "$@" >&3 2>&3)'
set -- "$2" $? "$1"
kill $!
{finish}
rt_is_mine "$1" || exit
printf '%10s\\n' "$(date +%s)" 1<>"$1/ended_at.new" && mv -f "$1/ended_at.new" "$1/ended_at"
printf '%-3s\\n' "$2" 1<>"$1/exit_status.new" && mv -f "$1/exit_status.new" "$1/exit_status"
"""

# From here on the starter no longer waits, and the folder has its final name.
_QUEUE = """\
mv -f "$1" "$2" 2>/dev/null || [ -s "$2/keeper" ] || mv -f "$1" "$2" || exit 1
echo queued
rt_is_mine "$2" || exit
exec >/dev/null 2>&1
shift
set -- "$1" "$@"
{wait}
"""

# Record the log's size with the time, for readers that ask for the output since a time; and keep
# the log below its limit by making a hole at its beginning (fallocate(1)): the rest keeps its
# offset, and output that is written meanwhile is not lost. Blocks are freed by the page. The new
# beginning is written to log.first before the hole is made. If no hole can be made, on macOS for
# example, the log is left as it is. The mark is unset, so that programs run here do not count as
# processes of the job.
_WATCH = """\
unset {mark}
rt_size=0
while sleep {interval} && kill -0 $$; do
  [ -e "$2/log" ] || continue
  set -- "$1" "$2" $(ls -lnL "$2/log")
  [ "$7" = "$rt_size" ] && continue
  rt_size=$7
  echo "$(date +%s) $7" >>"$2/times"
  read -r rt_first <"$2/log.first" || rt_first=0
  [ $((rt_size - rt_first)) -gt {limit} ] && [ ! -h "$2/log" ] || continue
  rt_first=$(((rt_size - {limit} / 2) / 4096 * 4096))
  echo "$rt_first" >"$2/log.first.new" && mv -f "$2/log.first.new" "$2/log.first"
  fallocate -p -o 0 -l "$rt_first" "$2/log" || rm -f "$2/log.first"
done"""

# If the starter is killed after the leader has taken the folder, SIGPIPE must not end the leader.
# If the command is a single program, the process id is the program's: it gets the signals, and "ps"
# shows its name. Otherwise the command is an argument, so that "ps" shows it, if Linux accepts it
# as one: 128 KiB (execve(2), MAX_ARG_STRLEN); a character has up to 4 bytes.
_LEADER = """\
exec 3>&1 >>"${{3:-$1/log}}" || exit 1
{identity}
rt_identity "$(date +%s)" >"$1/process" && [ -s "$1/process" ] || exit 1
echo $$ >"$1/pid" && read -r rt_pid <"$1/pid" && [ "$rt_pid" = $$ ] || exit 1
if [ "$1" != "$2" ]; then
  mv -f "$1" "$2" 2>/dev/null || [ -s "$2/pid" ] || mv -f "$1" "$2" || exit 1
  trap "" PIPE
  read -r rt_pid <"$2/pid"
  echo "started $rt_pid" >&3
  trap - PIPE
  [ "$rt_pid" = $$ ] || exit
fi
exec 2>&1 3>&-
[ "$5" ] && case $(command -v "$5") in */*) eval "exec $(cat "$2/command")" ;; esac
set -- "$(cat "$2/command")"
[ ${{#1}} -gt 30000 ] || exec {shell} -c "$1"
eval "shift
$1"
"""

# One program with its arguments (XCU 2.9.1). Only words that are certainly harmless match.
_VARIABLE = r"\$[A-Za-z_]\w*|\$\{[A-Za-z_]\w*\}"
_WORD = (
    rf"""(?:[A-Za-z0-9_./+:=,@%^~*?\[\]<>-]|[<>]&[0-9]|{_VARIABLE}"""
    rf"""|\\[^\n]|'[^']*'|"(?:[^"\\`$]|\\.|{_VARIABLE})*")+"""
)
_ONE_PROGRAM = re.compile(rf"[ \t]*([A-Za-z0-9_./+-]+)(?:[ \t]+{_WORD})*[ \t]*\Z", re.DOTALL)


def launch_script(
    job_id: str,
    command: str,
    log_file: str | None = None,
    shell: str = "/bin/sh",
    *,
    about: str = "",
    turn: Turn | None = None,
    log_limit_bytes: int = LOG_LIMIT_BYTES,
) -> str:
    """Return a command that starts ``command`` as the job ``job_id`` and prints its process id.

    If the job's folder or its log cannot be made, it fails and starts nothing.  If it is repeated,
    also at the same time or after the job's end, it prints the same process id.  If the job waits
    for its ``turn``, it prints "queued" instead of a process id.

    :param log_file: None: ``log`` in the job's folder.
    :param log_limit_bytes: limit of the log in the job's folder; at least the latest half of it is
        kept.
    :param about: text that is written unchanged to the job's folder.
    :raises TypeError: ``log_file`` is not text.
    :raises ValueError: ``log_file`` is empty or has a NUL.
    """
    _check_log_file(log_file)
    turn = turn or Turn()
    one_program = _ONE_PROGRAM.match(command.rstrip("\n"))
    keeper = _KEEPER.format(
        shell=shell,
        identity=IDENTITY,
        check=turn.check,
        queue="" if turn.wait is None else _QUEUE.format(wait=turn.wait),
        watch=_WATCH.format(mark=RUN_ID_VARIABLE, interval=LOG_INTERVAL, limit=log_limit_bytes),
        finish=turn.finish,
    )
    return _STARTER.format(
        folder=JOBS_FOLDER,
        job_id=quote(job_id),
        # $(…) removes newlines from the end, where they mean nothing.
        command=quote(command.rstrip("\n")),
        about=f'printf "%s\\n" {quote(about)} >"$1/about"' if about else ":",
        log=path(log_file) if log_file is not None else "''",
        shell=shell,
        detach=_DETACH,
        unused=" ".join(f"{n}>&-" for n in range(3, 10)),
        leader=quote(_LEADER.format(shell=shell, identity=IDENTITY)),
        keeper=quote(keeper),
        program=quote(one_program.group(1) if one_program else ""),
    )


def _check_log_file(log_file: object) -> None:
    if log_file is None:
        return
    if not isinstance(log_file, str):
        raise TypeError(f"log_file: expected text, got {type(log_file).__name__}")
    if not log_file or "\0" in log_file:
        raise ValueError(f"log_file: {'has a NUL character' if log_file else 'is empty'}")
