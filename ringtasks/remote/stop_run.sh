# shellcheck disable=SC2034,SC2154  # the included functions use these variables
# Ends a run and prints the process ids that are still there, one a line; fails if it could not look
# for them.  Safe to repeat.
#
# parameters: group run_id grace_cs with_sudo
#   group      the process id of the run's shell; "": not known
#   run_id     what its processes bear in their environment
#   grace_cs   hundredths of a second between TERM and KILL
#   with_sudo  1: use sudo for a process that may not be signalled otherwise

# Put together here: under ForceCommand sshd shows this whole text in the environment, and it would
# find itself.
mark=RINGTASKS_RUN_ID
mark=$mark=$run_id
spared=
since=

# include: clock.sh
# include: processes.sh

end_processes "$grace_cs"
for pid in $left; do echo "$pid"; done
[ -z "$is_blind" ]
