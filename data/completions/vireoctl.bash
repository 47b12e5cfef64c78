# bash completion for vireoctl                             -*- shell-script -*-
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# vireoctl itself knows what can follow (vireoctl _complete); here is only how bash wants to be told.

# What a word means once bash has taken quotes and backslashes off it. Nothing in it is ever run.
_vireoctl_unquote() {
    local in=$1 char quote='' i
    REPLY=
    for ((i = 0; i < ${#in}; i++)); do
        char=${in:i:1}
        if [[ $quote == "'" ]]; then
            if [[ $char == "'" ]]; then quote=''; else REPLY+=$char; fi
        elif [[ $char == "\\" ]]; then
            i=$((i + 1))
            REPLY+=${in:i:1}
        elif [[ $quote == '"' ]]; then
            if [[ $char == '"' ]]; then quote=''; else REPLY+=$char; fi
        elif [[ $char == "'" || $char == '"' ]]; then
            quote=$char
        else
            REPLY+=$char
        fi
    done
}

_vireoctl() {
    local words=() rest=$COMP_LINE word space last REPLY i
    COMPREPLY=()

    # bash takes "--json=short" and "EPOCH:5" apart; what stands together in the line is one word
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        space=${rest%%[![:space:]]*}
        rest=${rest#"$space"}
        rest=${rest#"$word"}
        if ((i > 0)) && [[ -z $space && -n $word ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done

    # bash replaces only the last of its own pieces
    last=${COMP_WORDS[COMP_CWORD]}
    [[ $last == [=:]* ]] && last=${last##*[=:]}
    _vireoctl_unquote "$last"
    local keep=${#REPLY} typed=() skip
    for word in "${words[@]:1}"; do
        _vireoctl_unquote "$word"
        typed+=("$REPLY")
    done
    ((${#typed[@]})) || typed=('')
    skip=$((${#typed[-1]} - keep))

    local line plain
    while IFS= read -r line; do
        if [[ $line == @files ]]; then
            compopt -o filenames
            while IFS= read -r plain; do
                COMPREPLY+=("$plain")
            done < <(compgen -f -- "${typed[-1]:skip}")
            continue
        fi
        plain=${line%%$'\t'*}
        [[ -n $plain ]] || continue
        [[ $plain == *= ]] && compopt -o nospace
        plain=${plain:skip}
        # within quotes of its own nothing is to be quoted
        [[ $last == [\'\"]* ]] || printf -v plain '%q' "$plain"
        plain=${plain//\\=/=}
        COMPREPLY+=("${plain//\\,/,}")
    done < <("$1" _complete "${typed[@]}" 2>/dev/null)
}

complete -F _vireoctl vireoctl
