# shellcheck disable=SC2034,SC2154  # the included functions read what is assigned; rt_id is assigned before
# Looks for the processes of a job without its folder: prints "runs" if there are some, and "looked"
# if the look for them was complete.
#
# parameters: rt_id

# include: processes.sh

# Put together here, as in stop_job.sh. The processes are known by it alone.
mark=RINGTASKS_RUN_ID
mark=$mark=$rt_id
group=
look
[ -z "$left" ] || echo runs
[ "$is_blind" ] || echo looked
