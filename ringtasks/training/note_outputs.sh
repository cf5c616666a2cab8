# shellcheck disable=SC2154  # output_list.sh assigns "list"
# Writes a list of the output files that exist.
#
# parameters: cwd list items...
#   list   the file for it, below the home
#   items  paths or patterns, below the run's folder

# include: output_list.sh

mkdir -p "${list%/*}" || exit 1
for item; do
  for found in $item; do print_files "$found" || :; done
done >"$list.new" && mv -f "$list.new" "$list"
