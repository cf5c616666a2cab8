# Completion of @PROGRAM@ in zsh. In ~/.zshrc, after compinit: eval "$(@PROGRAM@ completion zsh)"
_ringtasks_@PROGRAM@() {
  local found code line
  line="${(j: :)words[1,CURRENT-1]} $PREFIX"
  found=$(RINGTASKS_COMPLETION_TABLE=$_ringtasks_table_@PROGRAM@ \
    @PYTHON@ -I -m ringtasks.output.candidates "$line" 2>/dev/null)
  code=$?
  if (( code == 3 )); then
    _files
  elif [[ -n $found ]]; then
    compadd -- "${(@f)found}"
  fi
}
_ringtasks_table_@PROGRAM@=@TABLE@
compdef _ringtasks_@PROGRAM@ @PROGRAM@
