# shellcheck disable=SC2034,SC2154  # probe.sh reads rt_wanted; the parameters are assigned before the first line
# Waits until the job has ended, for a time at most, and then prints its state as probe.sh does.
#
# parameters: rt_folder rt_id seconds_cs
#   seconds_cs  hundredths of a second

# include: identity.sh
# include: machine.sh
# include: clock.sh
# include: has_ended.sh

now
end=$((now + seconds_cs))
while [ "$now" -lt "$end" ] && ! rt_has_ended "$HOME/$rt_folder/$rt_id"; do
  pause 0.2 || break
  now
done

rt_wanted=$rt_id
# include: probe.sh
