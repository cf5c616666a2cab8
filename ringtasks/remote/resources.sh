# Prints the resources of this machine as "NAME VALUE" lines; changes nothing.
#
# rt_resources LIMIT FOLDER prints the rows of rt_gpus (gpus.sh), and:
#   clock SECONDS          Unix time
#   disk LINE              the line of df(1) for the file system of FOLDER
#   memory NAME: VALUE     of /proc/meminfo; or "memsize" and those of vm_stat(1)
#   cpus NUMBER
#   load AVERAGES          of the last 1, 5 and 15 minutes
#   up SECONDS             since the start of the machine, or of its container, if it is known

# include: gpus.sh

# An arithmetic expression that lacks a number ends the whole script.
rt_are_numbers() {
  for rt_value; do
    case $rt_value in '' | *[!0-9]*) return 1 ;; esac
  done
}

# Prints no line if a program that it needs is missing or fails.
rt_up() {
  if [ -r /proc/uptime ]; then
    read -r rt_now _ </proc/uptime
    rt_now=${rt_now%%.*} rt_began=0
    # proc(5): the start of process 1, in ticks after the boot. A container has its own.
    if read -r rt_line </proc/1/stat; then
      rt_ticks=$(getconf CLK_TCK)
      # shellcheck disable=SC2086  # to be split
      set -- ${rt_line##*) }
      rt_are_numbers "${20}" "$rt_ticks" && [ "$rt_ticks" -gt 0 ] || return
      rt_began=$((${20} / rt_ticks))
    fi
  else
    rt_now=$(date +%s)
    rt_began=$(sysctl -n kern.boottime | sed 's/^{ sec = \([0-9]*\).*/\1/')
  fi
  rt_are_numbers "$rt_now" "$rt_began" && echo "up $((rt_now - rt_began))"
}

rt_resources() {
  rt_gpus "$1"
  echo "clock $(date +%s)"
  echo "disk $(df -Pk "$2" | tail -n 1)"
  if [ -r /proc/meminfo ]; then
    grep -E "^Mem(Total|Available):" /proc/meminfo
  else
    # macOS has no /proc: vm_stat(1) counts pages there.
    echo "memsize: $(sysctl -n hw.memsize)"
    vm_stat
  fi | sed "s/^/memory /"
  echo "cpus $(getconf _NPROCESSORS_ONLN || nproc)"
  echo "load $(cat /proc/loadavg || sysctl -n vm.loadavg)"
  rt_up
} 2>/dev/null
