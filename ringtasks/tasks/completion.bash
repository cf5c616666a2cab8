# Completion of @PROGRAM@ in bash. In ~/.bashrc: eval "$(@PROGRAM@ completion bash)"
_ringtasks_@PROGRAM@() {
  local found status word
  found=$(RINGTASKS_COMPLETION_TABLE=$_ringtasks_table_@PROGRAM@ \
    RINGTASKS_COMPLETION_WORD=$2 \
    @PYTHON@ -I -m ringtasks.output.candidates "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
  status=$?
  COMPREPLY=()
  if [ "$status" = 3 ]; then
    compopt -o default
  else
    while read -r word; do [ -n "$word" ] && COMPREPLY+=("$word"); done <<<"$found"
  fi
}
_ringtasks_table_@PROGRAM@=@TABLE@
complete -F _ringtasks_@PROGRAM@ @PROGRAM@
