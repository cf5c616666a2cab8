# shellcheck disable=SC2034,SC2154  # the included functions use these variables
# Ends a run and prints the process ids that are still there, one a line; fails if it could not look
# for them.  Safe to repeat.
#
# parameters: group age_cs run_id grace_cs with_sudo
#   group      the process id of the run's shell; "": not known
#   age_cs     hundredths of a second for which that shell has existed at least; 0: not known
#   run_id     what its processes bear in their environment
#   grace_cs   hundredths of a second between TERM and KILL
#   with_sudo  1: use sudo for a process that may not be signalled otherwise

# include: clock.sh
# include: processes.sh

# Put together here: under ForceCommand sshd shows this whole text in the environment, and it would
# find itself.
mark=RINGTASKS_RUN_ID
mark=$mark=$run_id
# Linux counts starts in hundredths of a second (USER_HZ). A host that is suspended loses its links if
# that takes longer than two minutes (server_alive_interval); the clocks may differ by a thousandth.
ago=$((age_cs - age_cs / 1000 - 12000))

end_processes "$grace_cs"
for pid in $left; do echo "$pid"; done
[ -z "$is_blind" ]
