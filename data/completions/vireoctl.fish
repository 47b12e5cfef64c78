# fish completion for vireoctl
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# vireoctl itself knows what can follow (vireoctl _complete); here is only how fish wants to be told.

function __vireoctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l command $words[1]
    set -e words[1]
    for line in (command $command _complete $words 2>/dev/null)
        if test "$line" = @files
            # a value behind "--option=" keeps its front
            set -l current (commandline -ct)
            set -l front (string match -r -- '^--[^=]*=' $current)
            for path in (__fish_complete_path (string replace -r -- '^--[^=]*=' '' $current))
                echo "$front$path"
            end
        else
            echo $line
        end
    end
end

complete -c vireoctl -f -a '(__vireoctl_complete)'
