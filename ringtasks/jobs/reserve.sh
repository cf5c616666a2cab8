# shellcheck disable=SC2034,SC2154  # the program that includes this assigns rt_id and rt_count
# Reservations of GPUs (gpu_queue.py).
rt_gpus=$HOME/.ringtasks/gpus

# Sets rt_read to what rt_gpus prints and rt_total; fails, with rt_why, if there are too few.
rt_list() {
  rt_read=$(rt_gpus 2>/dev/null)
  rt_total=$(echo "$rt_read" | grep -c '^gpu ')
  rt_told=$(echo "$rt_read" | sed -n 's/^said //p' | paste -sd';' - | sed 's/;/; /g')
  rt_tool=$(echo "$rt_read" | awk '/^tool / && $3 != "0" { print $2 " " $3; exit }')
  case $rt_tool in
    "none none") rt_why="no nvidia-smi on the host, nor amd-smi or rocm-smi: does it have GPUs?" ;;
    *" hangs") rt_why="${rt_tool% *} does not answer: a GPU hangs; reboot the host" ;;
    ?*) rt_why="${rt_tool% *} fails (exit status ${rt_tool#* }): $rt_told" ;;
  esac
  [ "$rt_total" != 0 ] || [ -z "$rt_tool" ] || return 1
  rt_why="GPUs asked for: $rt_count; the host has $rt_total${rt_told:+: $rt_told}"
  [ "$rt_total" -ge "$rt_count" ]
}

# Succeeds if the holder $1 of the lock does not run. It keeps the lock for seconds, so one that is
# not seen from here has ended after two minutes.
rt_is_lock_free() {
  rt_holds "$1" "" || return 0
  [ "$rt_outside" ] && [ "$(find "$rt_gpus/lock" -mmin +1 2>/dev/null)" ]
}

rt_lock() {
  rt_tries=0
  until ln -s "$rt_me" "$rt_gpus/lock" 2>/dev/null; do
    rt_old=$(readlink "$rt_gpus/lock")
    if [ "$rt_old" ] && rt_is_lock_free "$rt_old" &&
      mkdir "$rt_gpus/broken-$rt_old" 2>/dev/null; then
      [ "$(readlink "$rt_gpus/lock")" = "$rt_old" ] && rm -f "$rt_gpus/lock"
      rmdir "$rt_gpus/broken-$rt_old"
    fi
    rt_tries=$((rt_tries + 1))
    [ $rt_tries -lt 300 ] || return 1
    [ $((rt_tries % 20)) != 0 ] || find "$rt_gpus" -name "broken-*" -mmin +0 -exec rmdir {} +
    sleep 0.05 2>/dev/null || sleep 1
  done
}

# Gives up what this job has reserved.
rt_free() {
  for rt_link in "$rt_gpus"/GPU-*; do
    [ "$(readlink "$rt_link")" = "$rt_me" ] && rm -f "$rt_link"
  done
}

# Prints "INDEX UUID REASON" for each GPU; the reason is empty if no process is on it. Memory in use
# without a visible process may be that of another container. Gpu.in_use (gpus.py) has the same words.
rt_in_use() {
  echo "$rt_read" | awk -v percent="$rt_percent" -v least="$rt_mib" '
    $1 == "app" {
      sub(/,$/, "", $2); sub(/,$/, "", $3)
      on[$2] = on[$2] (on[$2] == "" ? "process " : ", ") $3
    }
    $1 == "gpu" {
      n = split($0, cell, /, */)
      index_of[++count] = substr(cell[1], 5); uuid[count] = cell[2]
      used = cell[n - 1]; total = cell[n - 2]
      limit = total ~ /^[0-9.]+$/ && total * percent / 100 > least ? total * percent / 100 : least
      is_known = used ~ /^[0-9.]+$/; is_own = total ~ /^[0-9.]+$/
      if (percent != "" && !is_known && (is_own || used !~ /^\[(N\/A|Not Supported)\]/)) fault[count] = used
      if (percent != "" && is_known && used > limit) hidden[count] = used
    }
    END {
      for (i = 1; i <= count; i++) {
        why = ""
        if (i in fault) why = "its memory in use is " fault[i]
        if (i in hidden) why = hidden[i] " MiB in use by no visible process"
        if (uuid[i] in on) why = on[uuid[i]]
        print index_of[i], uuid[i], why
      }
    }'
}

# Prints "free INDEX UUID" or "taken REASON" for each GPU; removes reservations of jobs that ended.
rt_look() {
  rt_in_use | while read -r rt_index rt_uuid rt_use; do
    rt_link=$rt_gpus/$rt_uuid
    rt_holder=
    [ -L "$rt_link" ] && rt_holder=$(readlink "$rt_link")
    if [ "$rt_holder" ] && rt_holds "$rt_holder" too; then
      [ -z "$rt_outside" ] || rt_outside=" of another container (pid:[$rt_outside])"
      rt_outside=${rt_outside:+"$rt_outside, not seen from here: if it is gone, rm $rt_link"}
      echo "taken GPU $rt_index: job ${rt_holder%%.*}$rt_outside;"
    else
      [ "$rt_holder" ] && rm -f "$rt_link"
      if [ "$rt_use" ]; then
        echo "taken GPU $rt_index: $rt_use;"
      else
        echo "free $rt_index $rt_uuid"
      fi
    fi
  done
}

# Reserves rt_count GPUs for the job of the folder $1, or fails, with rt_why. The indices of
# nvidia-smi are CUDA's only if CUDA_DEVICE_ORDER is PCI_BUS_ID. HIP counts within those devices that
# ROCR_VISIBLE_DEVICES leaves, and reads CUDA_VISIBLE_DEVICES too, so both are unset for it.
rt_reserve() {
  rt_namespace
  rt_me=$(rt_identity "${rt_space:--}" 2>&1) || { rt_why=$rt_me; return 1; }
  rt_me=$rt_id.$(echo "$rt_me" | tr ' ' .)
  rt_list || return 1
  rt_why=$(echo "$rt_read" | sed -n 's/^tool \([^ ]*\) .*/\1/p' | tail -n 1)
  rt_why="${rt_why} does not tell which processes there are: $rt_told"
  ! echo "$rt_read" | grep -q '^apps unknown' || return 1
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
  rt_why="free GPUs asked for: $rt_count; there are $(echo "$rt_seen" |
    grep -c ^free) of $rt_total: $(echo "$rt_seen" | sed -n 's/^taken //p' |
    tr '\n' ' ')--queue waits for them"
  ! echo "$rt_seen" | grep -q 'no visible process' ||
    rt_why="$rt_why; --gpus $rt_count:any-memory takes GPUs whose memory is in use"
  [ "$(echo "$rt_taken" | grep -c .)" = "$rt_count" ] || { rt_free; return 1; }
  [ -z "$rt_told" ] || echo "ringtasks-warning: $rt_told"
  rt_indices=$(echo "$rt_taken" | cut -d' ' -f1 | paste -sd, -)
  case $(echo "$rt_read" | sed -n 's/^tool //p' | tail -n 1) in
    nvidia-smi*)
      CUDA_VISIBLE_DEVICES=$rt_indices
      CUDA_DEVICE_ORDER=PCI_BUS_ID
      export CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER
      ;;
    *)
      unset ROCR_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES
      HIP_VISIBLE_DEVICES=$rt_indices
      export HIP_VISIBLE_DEVICES
      ;;
  esac
  echo "$rt_taken" | cut -d' ' -f1 | paste -sd' ' - >"$1/gpus"
  echo "$rt_taken" | cut -d' ' -f2 >"$1/gpu_uuids"
}
