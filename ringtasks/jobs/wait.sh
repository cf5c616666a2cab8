# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Exits when the job has ended, at the latest after a time.
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
