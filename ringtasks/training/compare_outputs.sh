# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Prints "item" for each item, "file PATH" or "folder PATH" for each match, and for each file of it
# "old" or "new" with its figures: old if it is in the list.
#
# parameters: cwd list no_list items...
#   list     the file of the list, below the home
#   no_list  the exit status if there is none
#   items    paths or patterns, below the run's folder

# include: output_list.sh

[ -f "$list" ] || exit "$no_list"
for item; do
  echo "item"
  for found in $item; do
    [ -e "$found" ] || continue
    if [ -d "$found" ]; then echo "folder $found"; else echo "file $found"; fi
    print_files "$found" | awk -v before="$list" '
      BEGIN { while ((getline line <before) > 0) known[line] }
      { print ($0 in known ? "old " : "new ") $0 }'
  done
done
