# shellcheck disable=SC2034,SC2154  # the parameters are assigned before the first line
# A job's turn, as functions for its monitor (monitor.sh): the end of another job, free GPUs.
#
# parameters: rt_id rt_after rt_count rt_queue rt_percent rt_mib
#   rt_after  the id of another job, whose end the job waits for; "": none
#   rt_count  the number of GPUs to reserve
#   rt_queue  1: wait until they are free; 0: if they are not free, refuse the job
#   rt_percent, rt_mib  memory that may be in use on a free GPU without a visible process, the
#             larger of the two; rt_percent "": any

# include: has_ended.sh
# include: holders.sh
# include: gpus.sh
# include: reserve.sh

rt_waits=
[ -z "$rt_after" ] || rt_waits=1
[ "$rt_count" = 0 ] || [ "$rt_queue" = 0 ] || rt_waits=1

rt_refuse() {
  echo "$1"
  exit 1
}

rt_check() {
  [ -z "$rt_after" ] || [ -d "$HOME/.ringtasks/jobs/$rt_after" ] ||
    rt_refuse "there is no job $rt_after on this host"
  [ -z "$rt_after" ] || ! rt_is_elsewhere "$HOME/.ringtasks/jobs/$rt_after" "" ||
    rt_refuse "job $rt_after belongs to another machine that shares this home"
  [ "$rt_count" != 0 ] || return 0
  (umask 077 && mkdir -p "$rt_gpus" "$HOME/.ringtasks/queue") || exit 1
  if [ "$rt_waits" ]; then
    rt_list || rt_refuse "$rt_why"
  else
    rt_reserve "$1" || { rt_free; rt_refuse "$rt_why"; }
  fi
}

# A job that waits and is stopped, or whose folder is deleted, does not run.
rt_go_on() {
  [ -d "$1" ] && [ ! -e "$1/stopped" ]
}

rt_wait_for_job() {
  rt_other=$HOME/.ringtasks/jobs/$rt_after
  echo "for $rt_after to end" >"$1/waits_for"
  until rt_has_ended "$rt_other"; do
    sleep 1
    rt_go_on "$1" || exit
  done
}

# Succeeds if the job is the first in the queue and has reserved its GPUs.
rt_come() {
  for rt_other in "$HOME"/.ringtasks/queue/*; do
    [ "$rt_other" = "$rt_ticket" ] && break
    rt_read "$rt_other" || {
      [ ! -s "$rt_other" ] || return 1
      continue
    }
    # shellcheck disable=SC2086  # the fields of an identity
    rt_is_alive $rt_line && return 1
    # The ticket of another machine that shares the home is left alone.
    rt_is_elsewhere "$HOME/.ringtasks/jobs/${rt_other##*/*.}" "" || rm -f "$rt_other"
  done
  rt_reserve "$1"
}

# The job at the head takes its GPUs as soon as they are free; the others only check if they have
# reached the head.
rt_wait_for_gpus() {
  rt_ticket=$HOME/.ringtasks/queue/$(date +%s).$rt_id
  rt_identity >"$1/ticket" && mv -f "$1/ticket" "$rt_ticket"
  echo "for $rt_count GPUs" >"$1/waits_for"
  until rt_come "$1"; do
    sleep 1
    rt_go_on "$1" || { rm -f "$rt_ticket"; exit; }
  done
  rm -f "$rt_ticket"
}

rt_wait() {
  [ -z "$rt_after" ] || rt_wait_for_job "$1"
  [ "$rt_count" = 0 ] || rt_wait_for_gpus "$1"
  rm -f "$1/waits_for"
  rt_go_on "$1" || exit
}

rt_finish() {
  [ "$rt_count" = 0 ] || rt_free
}
