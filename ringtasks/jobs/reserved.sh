# Prints "reserved UUID" for each GPU that a job has reserved; changes nothing.

# include: identity.sh
# include: holders.sh

for rt_link in "$HOME"/.ringtasks/gpus/GPU-*; do
  rt_holder=$(readlink "$rt_link") && rt_holds "$rt_holder" too && echo "reserved ${rt_link##*/}"
done
