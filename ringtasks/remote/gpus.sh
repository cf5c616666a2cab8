# Reads the GPUs of this machine with nvidia-smi, amd-smi or rocm-smi, whichever shows some first.
#
# rt_gpus prints, in nvidia-smi's CSV form for each of the tools, sizes in MiB:
#   gpu INDEX, UUID, NAME, TOTAL, USED, UTILIZATION
#   app UUID, PID, USED
#   tool NAME STATUS     the exit status; or "hangs", or "none" if there is no such tool
#   said TEXT            each line that the tool printed beside the rows
#   apps unknown         the processes on the GPUs could not be read
# Rows count whatever the exit status is: nvidia-smi warns of one damaged GPU with status 14.
#
# Sources: nvidia-smi --help-query-gpu; the AMD SMI CLI documentation (list, static, metric,
# process, with --json); rocm-smi --json and --showpidgpus.

# Runs a tool for $rt_limit tenths of a second at most; its output is in the file $rt_file. Sets
# rt_status to its exit status or "hangs": a driver that hangs waits in the kernel, where no signal
# reaches the tool.
rt_ask() {
  rm -f "$rt_file.status"
  (
    "$@" >"$rt_file" 2>&1 &
    echo $! >"$rt_file.pid"
    wait $!
    echo $? >"$rt_file.status"
  ) </dev/null >/dev/null 2>&1 &
  rt_asked=$!
  rt_polls=0
  while [ ! -s "$rt_file.status" ]; do
    if [ "$rt_polls" -ge $((rt_limit * 2)) ]; then
      kill -s KILL "$rt_asked" "$(cat "$rt_file.pid")"
      rt_status=hangs
      return
    fi
    # Older versions of BusyBox take whole seconds only. The caller limits the time of the whole
    # script, so it may wait without a limit if sleep(1) fails.
    if sleep 0.05; then
      rt_polls=$((rt_polls + 1))
    elif sleep 1; then
      rt_polls=$((rt_polls + 20))
    else
      wait "$rt_asked"
      break
    fi 2>/dev/null
  done
  rt_status=$(cat "$rt_file.status")
}

rt_nvidia() {
  rt_ask nvidia-smi --query-gpu=index,uuid,name,memory.total,memory.used,utilization.gpu \
    --format=csv,noheader,nounits
  echo "tool nvidia-smi $rt_status"
  rt_first=$rt_status
  # Without an index, rows are in the order of the indices. The uuid of a GPU that is a part of its
  # processor (Jetson) lacks "GPU-".
  rt_rows=$(awk '/^GPU-/ { $0 = rows ", " $0 }
    /^[0-9]+, *[0-9a-f]+-[0-9a-f-]+,/ { sub(/, */, ", GPU-") }
    /^[0-9]+, *GPU-/ { print "gpu " $0; rows++; next }
    NF { print "said " $0 }' "$rt_file")
  printf '%s\n' "$rt_rows"
  [ "$rt_status" != hangs ] || return
  rt_ask nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader,nounits
  # The rows do not tell which GPU an instance (MIG) is a part of. A process without an id may be on
  # any. Any other text, but for that of the first answer, is an error in place of a row.
  printf '%s\n' "$rt_rows" | awk 'NR == FNR { is_said[$0] = 1; next }
    /^[0-9a-f]+-[0-9a-f-]+,/ { $0 = "GPU-" $0 }
    /^GPU-[^,]*, *[1-9]/ { print "app " $0; next }
    !NF || /^No running processes/ || ("said " $0) in is_said { next }
    /^MIG-[^,]*, *[0-9]/ { $0 = "a process runs on an instance of a GPU: " $0 }
    /^[^:,]*,/ { $0 = "a process cannot be read: " $0 }
    { print "said " $0; is_lost = 1 }
    END { if (is_lost) print "apps unknown" }' - "$rt_file"
  [ "$rt_status" = 0 ] || [ "$rt_status" = "$rt_first" ] || echo "apps unknown"
  [ "$rt_status" != hangs ] || echo "said nvidia-smi does not answer: a GPU hangs; reboot the host"
}

# Prints "PATH<TAB>VALUE" for each value of the JSON documents in $rt_file, and "=" after them; for
# other text, and for the text of an error, "said<TAB>TEXT".
rt_flatten() {
  awk '
    function path(  i, text) {
      for (i = 1; i <= depth; i++) text = text (i > 1 ? "/" : "") name[i]
      return text
    }
    function begin() { if (depth && is_list[depth]) name[depth] = size[depth]++ }
    # A list or an object; not the "[WARNING]" of a log.
    depth == 0 && !/^[ \t]*([[{][ \t\r]*$|[[{][ \t]*[]["{}]|\[[ \t]*-?[0-9])/ {
      if (NF) print "said\t" $0
      next
    }
    {
      rest = $0
      while (rest != "") {
        if (match(rest, /^[ \t\r,:]+/)) { rest = substr(rest, RLENGTH + 1); continue }
        char = substr(rest, 1, 1)
        if (char == "{" || char == "[") {
          begin(); depth++; is_list[depth] = char == "["; size[depth] = 0; name[depth] = ""
          rest = substr(rest, 2); continue
        }
        if (char == "}" || char == "]") { if (depth) depth--; rest = substr(rest, 2); continue }
        is_text = match(rest, /^"([^"\\]|\\.)*"/)
        if (!is_text && !match(rest, /^[^][ \t\r,:{}"]+/)) { rest = substr(rest, 2); continue }
        value = substr(rest, 1, RLENGTH); rest = substr(rest, RLENGTH + 1)
        if (is_text) value = substr(value, 2, length(value) - 2)
        if (is_text && !is_list[depth] && rest ~ /^[ \t]*:/) { name[depth] = value; continue }
        begin()
        if (depth == 1 && name[1] == "error") print "said\t" value
        else print path() "\t" value
      }
    }
    END { print "=" }' "$rt_file"
}

# The end of the awk programs that read AMD's tools: prints the rows of the GPUs in "order" (1 to
# "count"), and of the processes in "apps" (1 to "pids").
rt_print_rows='
  function id(gpu) {
    if (uuid[gpu] !~ /^[0-9A-Za-z-]+$/ || owner[uuid[gpu]] != gpu) return "GPU-amd-" host "-" gpu
    return "GPU-" uuid[gpu]
  }
  function print_rows(tool,  i, gpu, used, label, pair) {
    print "tool " tool " " (status == "" ? 0 : status)
    for (i = 1; i <= count; i++) {
      gpu = order[i]
      if (gpu !~ /^[0-9]+$/) continue
      used = size("used", gpu)
      if (!(uuid[gpu] in owner)) owner[uuid[gpu]] = gpu
      label = name[gpu] == "" || name[gpu] == "N/A" ? model[gpu] : name[gpu]
      print "gpu " gpu ", " id(gpu) ", " (label == "" ? "AMD GPU" : label) ", " size("total", gpu) ", " \
        (used == "[N/A]" ? "[unknown]" : used) ", " (use[gpu] == "" ? "[N/A]" : use[gpu])
    }
    for (i = 1; i <= pids; i++) {
      split(apps[i], pair, " ")
      if (pair[1] in known) print "app " id(pair[1]) ", " pair[2] ", [N/A]"
    }
    if (count && (is_process_lost || !is_process_known)) print "apps unknown"
    for (i = 1; i <= lines; i++) print "said " said[i]
  }'

# An error is a document, too, and amd-smi ends with 0 then.
rt_amd() {
  for rt_command in 'list' 'static --asic' 'metric --mem-usage --usage' 'process'; do
    # shellcheck disable=SC2086  # words
    rt_ask amd-smi $rt_command --json
    printf 'command\t%s\nstatus\t%s\n' "${rt_command%% *}" "$rt_status"
    [ "$rt_status" != hangs ] || break
    rt_flatten
  done | rt_amd_rows
}

# The fields of the documents of amd-smi, of all versions: a list, or one below "gpu_data"; a value
# with its unit, or plain. Some partitions of a GPU have its uuid.
rt_amd_rows() {
  awk -F '\t' -v host="$(uname -n)" '
    function mib(value, unit) {
      if (unit == "B") return int(value / 1048576)
      if (unit == "KB" || unit == "KiB") return int(value / 1024)
      return int(unit == "GB" || unit == "GiB" ? value * 1024 : value)
    }
    $1 == "said" { if (!($2 in is_said)) { is_said[$2] = 1; said[++lines] = $2 } next }
    $1 == "command" { command = $2; next }
    $1 == "status" { if (status == 0) status = $2; next }
    $1 == "=" { split("", index_of); next }
    {
      n = split($1, part, "/")
      at = part[1] == "gpu_data" ? part[2] : part[1]
      key = part[n]; unit = ""
      if (key == "value") key = part[n - 1]
      if (key == "unit") { if (part[n - 1] == "total_vram" || part[n - 1] == "used_vram") units[part[n - 1] gpu] = $2; next }
      if (key == "gpu") {
        gpu = $2; index_of[at] = gpu
        answered[command gpu] = 1
        if (!(gpu in known)) { known[gpu] = 1; order[++count] = gpu }
        next
      }
      gpu = (at in index_of) ? index_of[at] : at
      if (key == "uuid" || key == "gpu_uuid") uuid[gpu] = $2
      else if (key == "market_name") name[gpu] = $2
      else if (key == "gfx_activity" || key == "gfx_usage") use[gpu] = $2
      else if (key == "total_vram" || key == "used_vram") vram[key gpu] = $2
      else if (key == "pid" && $2 ~ /^[1-9][0-9]*$/) apps[++pids] = gpu " " $2
      else if (key == "pid" || (key ~ /^process_(info|list)$/ && $2 !~ /^(No running|Not Found)/)) {
        is_process_lost = 1
        said[++lines] = "the processes of GPU " gpu " cannot be read: " key " " $2
      }
    }
    function size(part, gpu,  key) {
      key = part "_vram" gpu
      return vram[key] ~ /^[0-9.]+$/ ? mib(vram[key], units[key]) : "[N/A]"
    }
    # Reservations bear the uuids of the list.
    END {
      is_process_known = 1
      for (i = 1; i <= count; i++)
        if (!(("list" order[i]) in answered) || !(("process" order[i]) in answered)) is_process_known = 0
      print_rows("amd-smi")
    }'"$rt_print_rows"
}

# rocm-smi leaves the processes out of its JSON documents.
rt_rocm() {
  {
    rt_ask rocm-smi --showuniqueid --showproductname --showmeminfo vram --showuse --json
    printf 'status\t%s\n' "$rt_status"
    rt_flatten
    [ "$rt_status" = hangs ] || {
      rt_ask rocm-smi --showpidgpus
      [ "$rt_status" = hangs ] || sed 's/^/pids	/' "$rt_file"
    }
  } | rt_rocm_rows
}

rt_rocm_rows() {
  awk -F '\t' -v host="$(uname -n)" '
    # A GPU that sleeps is no fault.
    $1 == "said" { if ($2 !~ /low-power state/) said[++lines] = $2; next }
    $1 == "status" { status = $2; next }
    # "PID 4711 is using 2 DRM device(s):", and their numbers in the lines after it.
    $1 == "pids" {
      if ($2 ~ /No KFD PIDs/) is_process_known = 1
      else if ($2 ~ /[^0-9 ]/ && $2 !~ /^(=|WARNING|PID [0-9]+ is using)/) {
        is_process_lost = 1
        said[++lines] = $2
      }
      if ($2 ~ /^PID [0-9]+ is using/) {
        is_process_known = 1
        split($2, word, " "); pid = word[2]
        sub(/^[^:]*:?/, "", $2)
      } else if ($2 !~ /^[0-9 ]+$/) pid = ""
      m = pid == "" ? 0 : split($2, gpus, " ")
      for (i = 1; i <= m; i++) apps[++pids] = gpus[i] + 0 " " pid
      next
    }
    {
      n = index($1, "/"); card = substr($1, 1, n - 1); key = tolower(substr($1, n + 1))
      if (card ~ /^card[0-9]+$/) {
        gpu = substr(card, 5) + 0
        if (!(gpu in known)) { known[gpu] = 1; order[++count] = gpu }
        if ($2 == "N/A" || $2 == "") next
        if (key == "unique id") { if ($2 !~ /^0x0*$/) uuid[gpu] = $2 }
        else if (key == "vram total memory (b)") bytes["total" gpu] = $2
        else if (key == "vram total used memory (b)") bytes["used" gpu] = $2
        else if (key == "gpu use (%)") use[gpu] = $2
        else if (key == "card series") name[gpu] = $2
        else if (key == "card model" || key == "device name") model[gpu] = $2
      }
    }
    function size(part, gpu) {
      return bytes[part gpu] ~ /^[0-9]+$/ ? int(bytes[part gpu] / 1048576) : "[N/A]"
    }
    END { print_rows("rocm-smi") }'"$rt_print_rows"
}

# Sets rt_file to a new file with room for a tool's output. On a full disk rows would be lost without
# a word, and with them the processes on the GPUs.
rt_make_file() {
  for rt_file in "${TMPDIR:-/tmp}" /dev/shm /var/tmp "$HOME"; do
    rt_file=$(mktemp "$rt_file/ringtasks.XXXXXX") || continue
    head -c 524288 /dev/zero >"$rt_file" && return
    rm -f "$rt_file"
  done 2>/dev/null
  return 1
}

# Prints the rows of the first tool that shows GPUs; else what each tool said.
rt_gpus() {
  rt_limit=${1:-200}
  rt_make_file || {
    echo "tool mktemp 1"
    echo "said no room for a temporary file in ${TMPDIR:-/tmp}, /dev/shm, /var/tmp and $HOME"
    return
  }
  rt_none="tool none none"
  # The PATH of a command over SSH often lacks these folders.
  PATH=$PATH:${ROCM_PATH:-/opt/rocm}/bin:/usr/lib/wsl/lib
  for rt_tool in nvidia-smi amd-smi rocm-smi; do
    command -v "$rt_tool" >/dev/null || continue
    case $rt_tool in
      nvidia-smi) rt_rows=$(rt_nvidia) ;;
      amd-smi) rt_rows=$(rt_amd) ;;
      rocm-smi) rt_rows=$(rt_rocm) ;;
    esac
    rt_none=
    printf '%s\n' "$rt_rows"
    case "
$rt_rows" in *"
gpu "*) break ;; esac
  done
  [ -z "$rt_none" ] || echo "$rt_none"
  rm -f "$rt_file" "$rt_file.pid" "$rt_file.status"
}
