# shellcheck disable=SC2154  # the programs that include it assign them
# Functions for the folder in which a file grows, beside its final name; for other programs.
#
# $folder  the folder of the final name
# $name    the folder in it that holds the file "part"
# $check   "closed"; "true" if the file system shows one owner and mode for everything
umask 077
export LC_ALL=C

# The folder is ours, and no other user may write in it: the 6th and the 9th character of ls show
# whether group and others may.
closed() {
  # shellcheck disable=SC3067  # dash, bash, BusyBox and zsh have it, and no other test shows it
  [ -O . ] && case $(ls -ld .) in d????-??-*) true ;; *) false ;; esac
}

# -P and the number of the folder above: neither a link nor a folder from elsewhere is entered.
into() {
  cd -P "$folder" || exit 1
  above=$(ls -di .)
  [ ! -L "./$1" ] && cd -P "./$1" 2>/dev/null && [ "$(cd -P .. && ls -di .)" = "$above" ]
}

enter() { into "$name" && "$check"; }

# Leave the folder, which is empty, and remove it.
leave() { cd -P .. && rmdir "./$name"; }
