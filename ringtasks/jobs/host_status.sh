# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Prints the state of a host, each part after a line "ringtasks-PART:".
#
# parameters: rt_limit rt_folder rt_wanted
#   rt_limit             tenths of a second for a tool that reads GPUs
#   rt_folder, rt_wanted as for probe.sh

# include: gpus.sh

rt_read=$(rt_gpus "$rt_limit" 2>/dev/null)
for rt_part in gpu app tool said; do
  echo "ringtasks-${rt_part}s:"
  echo "$rt_read" | sed -n "s/^$rt_part //p"
done
echo ringtasks-memory:
if [ -r /proc/meminfo ]; then
  grep -E "^Mem(Total|Available):" /proc/meminfo
else
  # macOS has no /proc: vm_stat(1) counts pages there.
  echo "memsize: $(sysctl -n hw.memsize)"
  vm_stat
fi
echo ringtasks-disk:
df -Pk "$HOME" | tail -n 1
echo ringtasks-load:
if [ -r /proc/loadavg ]; then cat /proc/loadavg; else sysctl -n vm.loadavg; fi
echo ringtasks-cpus:
getconf _NPROCESSORS_ONLN
echo ringtasks-jobs:

# include: probe.sh
