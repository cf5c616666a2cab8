# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Gives a part its final name if its content is right, else removes it. Prints "done", "differs",
# "folder" (a folder has the final name), "special" (a pipe, a socket or a device has it), or "gone":
# another transfer, of another file to this name, has removed the part.
#
# It may run again, also at the same time, since its answer may be lost: once the part is gone, the
# file under the final name is checked.
#
# parameters: folder name check final mode modified hash_command sum size_bytes
#   final         the final name, in the folder
#   modified      the time of modification, as touch(1) takes it, in UTC
#   hash_command  prints the sum of the file that it is given; empty: the size is compared

# include: part.sh

is_right() {
  [ -f "$1" ] || return 1
  if [ -z "$hash_command" ]; then
    { said=$(wc -c <"$1") && [ "$said" ]; } || failed "$1" wc || return
    [ "$said" -eq "$size_bytes" ]
    return
  fi
  # shellcheck disable=SC2086  # a program and its flags
  { said=$($hash_command "$1") && [ ${#said} -ge ${#sum} ]; } || failed "$1" "$hash_command" || return
  case $said in *"$sum"*) true ;; *) false ;; esac
}

# failed FILE TOOL: ends the script, and keeps the part, whose content is not known. It returns 1 if
# another run has moved the file meanwhile.
failed() {
  status=$?
  [ -f "$1" ] || return 1
  echo "$2: exit status $status: the file could not be checked; its part is kept: run it again" >&2
  exit 1
}

if enter; then
  if [ -d "../$final" ]; then
    rm -f part
    leave
    echo folder
    exit
  fi
  if [ -e "../$final" ] && [ ! -f "../$final" ]; then
    rm -f part
    leave
    echo special
    exit
  fi
  if [ ! -L part ] && is_right part; then
    # -c: touch makes no file.
    chmod "$mode" part && TZ=UTC0 touch -c -m -t "$modified" part && mv -f part "../$final" && {
      leave
      echo 'done'
      exit
    }
    [ ! -e part ] || exit 1
  elif [ -e part ]; then
    rm -f part
    leave
    echo differs
    exit
  fi
  leave 2>/dev/null
fi
cd -P "$folder" && if is_right "./$final"; then echo 'done'; else echo gone; fi
