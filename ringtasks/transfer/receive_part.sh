# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Writes stdin to a part, for a key that may do only this, while the key is allowed.
#
# parameters: folder name check blob file_blocks
#   blob         identifies the key in authorized_keys
#   file_blocks  the limit of ulimit(1) for the file

# include: part.sh

grep -qsF "$blob" "$HOME/.ssh/authorized_keys" || exit 1
ulimit -f "$file_blocks" || exit 1
enter && exec dd of=part bs=65536
