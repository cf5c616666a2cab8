# Completion of @PROGRAM@ in fish. In config.fish: @PROGRAM@ completion fish | source
set -g _ringtasks_table_@PROGRAM@ @TABLE@
function _ringtasks_@PROGRAM@
    set -lx RINGTASKS_COMPLETION_TABLE $_ringtasks_table_@PROGRAM@
    @PYTHON@ -I -m ringtasks.output.candidates (commandline -cp) 2>/dev/null
    if test $status = 3
        __fish_complete_path (commandline -ct)
    end
end
complete -c @PROGRAM@ -f -a '(_ringtasks_@PROGRAM@)'
