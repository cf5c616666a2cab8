"""Conditions for which a job waits: free GPUs, the end of another job.  Pure: shell text.

A GPU is free if no process is on it (nvidia-smi) and no job has reserved it.  A reservation is a
symbolic link ``~/.ringtasks/gpus/UUID`` whose target names its holder: symlink(2) makes it whole or
not at all, for a single caller, and it needs no space on the disk.  It is valid as long as the
holder's keeper runs, or any process with the job's mark; so neither a killed keeper nor a reboot
leaves a GPU reserved.

A job that makes reservations holds ``lock``, a link as well.  If the holder has ended, the job that
creates the folder ``broken-HOLDER`` removes that lock.  Only one job can create it, so no job
removes the lock of a running holder.  The folder exists for a moment only; one that was left behind
is removed after a minute.

Jobs that queue for GPUs get them in the order of their tickets, ``~/.ringtasks/queue/TIME.ID``.
"""

from __future__ import annotations

from ringtasks.remote.launcher import IDENTITY, Turn
from ringtasks.remote.script import RUN_ID_VARIABLE, quote

__all__ = ["RESERVED", "turn"]

# Succeeds if the holder that a link names is running; "$2": any of its processes counts, not only
# its keeper.
_HOLDS = """\
rt_holds() {
  rt_rest=${1#*.}
  rt_is_alive "${rt_rest%%.*}" "$(echo "$rt_rest" | cut -d. -f2)" \\
    "${rt_rest##*.}" && return
  case $1 in *".$rt_boot."*) ;; *) return 1 ;; esac
  [ "$2" ] && grep -qsFe "VARIABLE=${1%%.*}" /proc/[0-9]*/environ
}
""".replace("VARIABLE", RUN_ID_VARIABLE)

#: Prints ``reserved UUID`` for each GPU that a job has reserved; changes nothing.
RESERVED = f"""\
{IDENTITY}{_HOLDS}for rt_link in "$HOME"/.ringtasks/gpus/GPU-*; do
  rt_holder=$(readlink "$rt_link") && rt_holds "$rt_holder" too && echo "reserved ${{rt_link##*/}}"
done
"""

# The query names the columns; each line is "0, GPU-8f…". The time limit is for a driver that hangs.
# The indices of nvidia-smi are CUDA's only if CUDA_DEVICE_ORDER is PCI_BUS_ID.
_GPUS = """\
rt_gpus=$HOME/.ringtasks/gpus
(umask 077 && mkdir -p "$rt_gpus" "$HOME/.ringtasks/queue") || exit 1
rt_refuse() {{
  echo "$1"
  exit 1
}}
rt_smi() {{
  set -- nvidia-smi "$@" --format=csv,noheader,nounits
  if command -v timeout >/dev/null; then timeout 20 "$@"; else "$@"; fi
}}
rt_count() {{
  rt_why="no nvidia-smi on the host: has it NVIDIA GPUs?"
  command -v nvidia-smi >/dev/null || return 1
  rt_all=$(rt_smi --query-gpu=index,uuid) ||
    {{ rt_why="nvidia-smi fails: $rt_all"; return 1; }}
  rt_count=$(echo "$rt_all" | grep -c GPU-)
  rt_why="{count} GPUs are asked for, and the host has $rt_count"
  [ "$rt_count" -ge {count} ]
}}
rt_me() {{
  rt_boot
  rt_start $$
  rt_me={job_id}.$$.$rt_boot.$rt_start
}}
{holds}rt_lock() {{
  rt_tries=0
  until ln -s "$rt_me" "$rt_gpus/lock" 2>/dev/null; do
    rt_old=$(readlink "$rt_gpus/lock")
    if [ "$rt_old" ] && ! rt_holds "$rt_old" "" &&
      mkdir "$rt_gpus/broken-$rt_old" 2>/dev/null; then
      [ "$(readlink "$rt_gpus/lock")" = "$rt_old" ] && rm -f "$rt_gpus/lock"
      rmdir "$rt_gpus/broken-$rt_old"
    fi
    rt_tries=$((rt_tries + 1))
    [ $rt_tries -lt 300 ] || return 1
    [ $rt_tries != 100 ] || find "$rt_gpus" -name "broken-*" -mmin +0 -exec rmdir {{}} +
    sleep 0.05
  done
}}
rt_free() {{
  for rt_link in "$rt_gpus"/GPU-*; do
    [ "$(readlink "$rt_link")" = "$rt_me" ] && rm -f "$rt_link"
  done
}}
rt_look() {{
  echo "$rt_all" | while IFS=', ' read -r rt_index rt_uuid; do
    rt_link=$rt_gpus/$rt_uuid
    rt_holder=
    [ -L "$rt_link" ] && rt_holder=$(readlink "$rt_link")
    if [ "$rt_holder" ] && rt_holds "$rt_holder" too; then
      echo "taken GPU $rt_index: job ${{rt_holder%%.*}};"
    else
      [ "$rt_holder" ] && rm -f "$rt_link"
      case $rt_busy in
        *"$rt_uuid"*) echo "taken GPU $rt_index: a process that no job has started;" ;;
        *) echo "free $rt_index $rt_uuid" ;;
      esac
    fi
  done
}}
rt_reserve() {{
  rt_me
  rt_count || return 1
  rt_why="nvidia-smi does not tell which processes there are"
  rt_busy=$(rt_smi --query-compute-apps=gpu_uuid,pid) || return 1
  rt_why="somebody else holds $rt_gpus/lock"
  rt_lock || return 1
  rt_seen=$(rt_look)
  rt_found=$(echo "$rt_seen" | grep ^free | head -n {count})
  if [ "$(echo "$rt_found" | grep -c free)" = {count} ]; then
    rt_taken=$(echo "$rt_found" | while read -r rt_word rt_index rt_uuid; do
      ln -s "$rt_me" "$rt_gpus/$rt_uuid" && echo "$rt_index $rt_uuid"
    done)
  else
    rt_taken=
  fi
  rm -f "$rt_gpus/lock"
  rt_why="{count} free GPUs are asked for, and there are $(echo "$rt_seen" |
    grep -c ^free) of $rt_count: $(echo "$rt_seen" | sed -n 's/^taken //p' |
    tr '\\n' ' ')--queue waits for them"
  [ "$rt_taken" ] || return 1
  CUDA_VISIBLE_DEVICES=$(echo "$rt_taken" | cut -d' ' -f1 | paste -sd, -)
  CUDA_DEVICE_ORDER=PCI_BUS_ID
  export CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER
  echo "$rt_taken" | cut -d' ' -f1 | paste -sd' ' - >"$1/gpus"
  echo "$rt_taken" | cut -d' ' -f2 >"$1/gpu_uuids"
}}
"""

_TAKE = """\
rt_reserve "$1" || {{ rt_free; rt_refuse "$rt_why"; }}
"""

# The job at the head takes its GPUs as soon as they are free; the others only check if they have
# reached the head.
_QUEUE = """\
rt_queue=$HOME/.ringtasks/queue
rt_ticket=$rt_queue/$(date +%s).{job_id}
rt_identity >"$1/ticket" && mv -f "$1/ticket" "$rt_ticket"
echo "for {count} GPUs" >"$1/waits_for"
rt_come() {{
  for rt_other in "$rt_queue"/*; do
    [ "$rt_other" = "$rt_ticket" ] && break
    read -r rt_pid rt_rest 2>/dev/null <"$rt_other" || continue
    rt_is_alive $rt_pid $rt_rest && return 1
    rm -f "$rt_other"
  done
  rt_reserve "$1"
}}
until rt_come "$1"; do
  sleep 1
  rt_go_on "$1" || {{ rm -f "$rt_ticket"; exit; }}
done
rm -f "$rt_ticket"
"""

_AFTER_CHECK = """\
[ -d "$HOME/.ringtasks/jobs/{after}" ] || {{ echo "there is no job {after} on this host"; exit 1; }}
"""

_AFTER = """\
rt_other=$HOME/.ringtasks/jobs/{after}
echo "for {after} to end" >"$1/waits_for"
rt_runs() {{
  read -r rt_pid rt_rest 2>/dev/null <"$1" && rt_is_alive $rt_pid $rt_rest
}}
until [ -s "$rt_other/exit_status" ] || {{
  ! rt_runs "$rt_other/process" && ! rt_runs "$rt_other/keeper"
}}; do
  sleep 1
  rt_go_on "$1" || exit
done
"""

# A job that waits and is stopped, or whose folder is deleted, does not run.
_GO_ON = """\
rt_go_on() {{ [ -d "$1" ] && [ ! -e "$1/stopped" ]; }}
"""

_RUN = """\
rm -f "$1/waits_for"
rt_go_on "$1" || exit
"""


def turn(job_id: str, *, gpus: int = 0, after: str | None = None, queue: bool = False) -> Turn:
    """Return the shell text by which a job waits, or reserves its GPUs at once.

    :param after: the id of another job on the host; the job waits until that one ends, in any way.
    :param queue: wait until ``gpus`` are free; False: if they are not free, refuse the job.
    """
    known = {
        "job_id": job_id,
        "count": gpus,
        "after": after,
        "holds": _HOLDS,
        "quoted": quote(job_id),
    }
    waits = bool(after) or (queue and gpus > 0)
    functions = (_GPUS if gpus else "") + (_GO_ON if waits else "")
    check = _AFTER_CHECK if after else ""
    wait = _AFTER if after else ""
    if gpus and waits:
        check += 'rt_count || rt_refuse "$rt_why"\n'
        wait += _QUEUE
    elif gpus:
        check += _TAKE
    return Turn(
        check=(functions + check).format(**known),
        wait=(wait + _RUN).format(**known) if waits else None,
        finish="rt_free\n" if gpus else "",
    )
