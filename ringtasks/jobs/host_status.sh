# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Prints the resources of a host, and after the line "ringtasks-jobs:" its jobs.
#
# parameters: rt_limit rt_folder rt_wanted
#   rt_limit             tenths of a second for a tool that reads GPUs
#   rt_folder, rt_wanted as for probe.sh

# include: reservations.sh
# include: resources.sh

rt_resources "$rt_limit" "$HOME"
rt_reservations
echo ringtasks-jobs:

# include: probe.sh
