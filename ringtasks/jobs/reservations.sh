# Prints "reserved UUID JOB" for each GPU that a job of this user on this host has reserved.

# include: identity.sh
# include: machine.sh
# include: holders.sh

rt_reservations() {
  for rt_link in "$HOME"/.ringtasks/gpus/GPU-*; do
    rt_holder=$(readlink "$rt_link") && rt_holds "$rt_holder" too &&
      echo "reserved ${rt_link##*/} ${rt_holder%%.*}"
  done
}
