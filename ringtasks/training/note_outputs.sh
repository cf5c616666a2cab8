# shellcheck disable=SC2154  # output_list.sh assigns "list"
# Writes a list of the output files that exist.
#
# parameters: cwd list items...
#   list   the file for it, below the home
#   items  paths or patterns, below the run's folder

# include: output_list.sh

mkdir -p "${list%/*}" || exit 1
for item; do
  # find(1) also fails for a file that has gone meanwhile.
  for found in $item; do print_files "$found" || [ $? -lt 126 ] || exit 1; done
done >"$list.new" && mv -f "$list.new" "$list"
