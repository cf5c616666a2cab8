# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Prints the state of a host as "NAME VALUE" lines; changes nothing.
#
# parameters: folder modules polls imports
#   folder   a folder, whose disk is asked for
#   modules  names of modules that Python must be able to import
#   polls    tenths of a second for a tool that reads GPUs
#   imports  the Python program that imports the module that its argument names

# include: ../jobs/reservations.sh
# include: resources.sh

# The folder need not exist yet: its nearest parent is on the same disk.
while [ ! -d "$folder" ] && [ "${folder%/*}" != "$folder" ]; do folder=${folder%/*}; done
[ -d "$folder" ] || folder=.
rt_resources "$polls" "$folder"
python=$(command -v python3 || command -v python)
echo "python $python"
if [ "$python" ]; then
  for module in $modules; do
    said=$("$python" -c "$imports" "$module" 2>&1 </dev/null) ||
      echo "missing $module: $(echo "$said" | tail -n 1)"
  done
fi
rt_reservations
exit 0
