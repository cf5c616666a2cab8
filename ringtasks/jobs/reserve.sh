# shellcheck disable=SC2034,SC2154  # the program that includes this assigns rt_id and rt_count
# Reservations of GPUs (gpu_queue.py).
rt_gpus=$HOME/.ringtasks/gpus

# The time limit is for a driver that hangs.
rt_smi() {
  set -- nvidia-smi "$@" --format=csv,noheader,nounits
  if command -v timeout >/dev/null; then timeout 20 "$@"; else "$@"; fi
}

# Sets rt_all to "INDEX, UUID" lines and rt_total; fails, with rt_why, if there are too few.
rt_list() {
  rt_why="no nvidia-smi on the host: does it have NVIDIA GPUs?"
  command -v nvidia-smi >/dev/null || return 1
  rt_all=$(rt_smi --query-gpu=index,uuid) || {
    rt_why="nvidia-smi fails: $rt_all"
    return 1
  }
  rt_total=$(echo "$rt_all" | grep -c GPU-)
  rt_why="$rt_count GPUs are asked for, and the host has $rt_total"
  [ "$rt_total" -ge "$rt_count" ]
}

rt_lock() {
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
    [ $rt_tries != 100 ] || find "$rt_gpus" -name "broken-*" -mmin +0 -exec rmdir {} +
    sleep 0.05
  done
}

# Gives up what this job has reserved.
rt_free() {
  for rt_link in "$rt_gpus"/GPU-*; do
    [ "$(readlink "$rt_link")" = "$rt_me" ] && rm -f "$rt_link"
  done
}

# Prints "free INDEX UUID" or "taken REASON" for each GPU; removes reservations of jobs that ended.
rt_look() {
  echo "$rt_all" | while IFS=', ' read -r rt_index rt_uuid; do
    rt_link=$rt_gpus/$rt_uuid
    rt_holder=
    [ -L "$rt_link" ] && rt_holder=$(readlink "$rt_link")
    if [ "$rt_holder" ] && rt_holds "$rt_holder" too; then
      echo "taken GPU $rt_index: job ${rt_holder%%.*};"
    else
      [ "$rt_holder" ] && rm -f "$rt_link"
      case $rt_busy in
        *"$rt_uuid"*) echo "taken GPU $rt_index: a process that no job has started;" ;;
        *) echo "free $rt_index $rt_uuid" ;;
      esac
    fi
  done
}

# Reserves rt_count GPUs for the job of the folder $1, or fails, with rt_why. The indices of
# nvidia-smi are CUDA's only if CUDA_DEVICE_ORDER is PCI_BUS_ID.
rt_reserve() {
  rt_boot
  rt_start $$
  rt_me=$rt_id.$$.$rt_boot.$rt_start
  rt_list || return 1
  rt_why="nvidia-smi does not tell which processes there are"
  rt_busy=$(rt_smi --query-compute-apps=gpu_uuid,pid) || return 1
  rt_why="another process holds $rt_gpus/lock"
  rt_lock || return 1
  rt_seen=$(rt_look)
  rt_found=$(echo "$rt_seen" | grep ^free | head -n "$rt_count")
  rt_taken=
  if [ "$(echo "$rt_found" | grep -c free)" = "$rt_count" ]; then
    rt_taken=$(echo "$rt_found" | while read -r _ rt_index rt_uuid; do
      ln -s "$rt_me" "$rt_gpus/$rt_uuid" && echo "$rt_index $rt_uuid"
    done)
  fi
  rm -f "$rt_gpus/lock"
  rt_why="$rt_count free GPUs are asked for, and there are $(echo "$rt_seen" |
    grep -c ^free) of $rt_total: $(echo "$rt_seen" | sed -n 's/^taken //p' |
    tr '\n' ' ')--queue waits for them"
  [ "$rt_taken" ] || return 1
  CUDA_VISIBLE_DEVICES=$(echo "$rt_taken" | cut -d' ' -f1 | paste -sd, -)
  CUDA_DEVICE_ORDER=PCI_BUS_ID
  export CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER
  echo "$rt_taken" | cut -d' ' -f1 | paste -sd' ' - >"$1/gpus"
  echo "$rt_taken" | cut -d' ' -f2 >"$1/gpu_uuids"
}
