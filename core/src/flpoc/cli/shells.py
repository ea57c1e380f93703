"""Completion in bash, zsh and fish: the script that each loads, and how it asks flpoc what may come next.

A script calls ``flpoc`` with the words of the line in ``COMP_WORDS``, one a
line as they were typed, and the number of the unfinished one in
``COMP_CWORD``. The answer has a line for each suggestion: its kind, the word,
and what it means, with tabs between.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flpoc.cli.completing import Suggestion

#: Asks for a script (``bash_source``), or for suggestions (``bash_complete``); click's own convention.
VARIABLE: Final = "_FLPOC_COMPLETE"

BASH: Final = r"""# flpoc: completion for bash
_flpoc_completion() {
    local kind value
    COMPREPLY=()
    while IFS=$'\t' read -r kind value; do
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            file) compopt -o default 2>/dev/null ;;
            dir) compopt -o dirnames 2>/dev/null ;;
        esac
    done < <(env _FLPOC_COMPLETE=bash_complete COMP_WORDS="$(printf '%s\n' "${COMP_WORDS[@]}")" \
        COMP_CWORD="$COMP_CWORD" COMP_WORDBREAKS="$COMP_WORDBREAKS" "${1/#\~/$HOME}" 2>/dev/null)
}
complete -o nosort -F _flpoc_completion flpoc
"""

ZSH: Final = r"""#compdef flpoc
# flpoc: completion for zsh
_flpoc() {
    local -a found
    local kind value about
    while IFS=$'\t' read -r kind value about; do
        case $kind in
            plain) found+=("${value//:/\\:}${about:+:$about}") ;;
            file) [[ $PREFIX == -*=* ]] && compset -P '*='; _files ;;
            dir) [[ $PREFIX == -*=* ]] && compset -P '*='; _files -/ ;;
        esac
    done < <(env _FLPOC_COMPLETE=zsh_complete COMP_WORDS="${(F)words}" COMP_CWORD=$((CURRENT - 1)) \
        "${words[1]/#\~/$HOME}" 2>/dev/null)
    (( $#found )) && _describe -V flpoc found
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _flpoc "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _flpoc flpoc
fi
"""

FISH: Final = r"""# flpoc: completion for fish
function __flpoc_completion
    set -l words (commandline -opc)
    set -l unfinished (commandline -ct)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    set -l before (string match -r '^--[^=]*=' -- $unfinished)
    set -l path (string replace -r '^--[^=]*=' '' -- $unfinished)
    env _FLPOC_COMPLETE=fish_complete COMP_WORDS=(string join \n -- $words $unfinished | string collect -N) \
        COMP_CWORD=(count $words) $program 2>/dev/null | while read -l line
        set -l part (string split -m 2 \t -- $line)
        switch $part[1]
            case plain
                string join \t -- $part[2..]
            case file
                printf '%s\n' "$before"(__fish_complete_path "$path")
            case dir
                printf '%s\n' "$before"(__fish_complete_directories "$path" '')
        end
    end
end
complete -c flpoc -f -a '(__flpoc_completion)'
"""

SCRIPTS: Final[Mapping[str, str]] = {"bash": BASH, "zsh": ZSH, "fish": FISH}

#: Bash splits words also at these, and replaces only what comes last.
_GLUE: Final = "=:@"
_PLAIN_IN_BASH: Final = re.compile(r"[\w@%+=:,./~-]*\Z", re.ASCII)


def answer(asked: str, commands: Sequence[tuple[str, str, str]], environ: Mapping[str, str] = os.environ) -> int:
    """Do what the variable asks; a shell that waits for suggestions never hears of an error."""
    shell, _, what = asked.partition("_")
    if shell not in SCRIPTS or what not in ("source", "complete"):
        return 1
    if what == "source":
        sys.stdout.write(SCRIPTS[shell])
        return 0
    _hush()
    try:
        written = "".join(f"{line}\n" for line in _suggested(shell, commands, environ))
        sys.stdout.write(written)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except Exception:  # noqa: BLE001 - what could be said would be written into the line that the user is typing
        return 1
    return 0


def _hush() -> None:
    """Point standard error nowhere: whatever plugins print would stand in the user's line."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _suggested(shell: str, commands: Sequence[tuple[str, str, str]], environ: Mapping[str, str]) -> Iterator[str]:
    from flpoc.cli.call import Call
    from flpoc.cli.completing import suggestions
    from flpoc.cli.root import Root

    breaks = environ.get("COMP_WORDBREAKS", "") if shell == "bash" else ""
    typed = environ.get("COMP_WORDS", "").split("\n")
    words, kept = read_words(typed, int(environ.get("COMP_CWORD", "0")), breaks)
    call = Call()
    found = suggestions(Root(call, commands), call, words[1:-1], words[-1]) if len(words) > 1 else []
    quoted = bool(re.match("['\"]", typed[-1])) if typed else False
    yield from _lines(found, shell, kept, quoted=quoted)


def read_words(typed: Sequence[str], at: int, breaks: str = "") -> tuple[list[str], str]:
    """The words of a line up to the unfinished one, without quotation marks.

    Args:
        typed: The words as the shell split them.
        at: Which of them is unfinished.
        breaks: Where bash also splits words: ``--kit-id=me@acme`` comes as five.

    Returns:
        The words, and how the unfinished one begins with what the shell keeps by itself.
    """
    glue = "".join(sign for sign in _GLUE if sign in breaks)
    words: list[str] = []
    kept = ""
    glued = False
    for word in [*typed[: at + 1], *[""] * (at + 1 - len(typed))]:
        is_glue = bool(word) and not word.strip(glue)
        if words and (glued or is_glue):
            # what comes after a `=` or `:` is replaced, but from a `@` on
            kept = (words[-1] + (word if is_glue else "")).removesuffix("@")
            words[-1] += word if is_glue else unquoted(word)
        else:
            kept = ""
            words.append(unquoted(word))
        glued = is_glue
    return words, kept


def unquoted(word: str) -> str:
    """A word as a program would get it, also when its quotation is not closed yet."""
    for end in ("", '"', "'"):
        try:
            return "".join(shlex.split(word.removesuffix("\\") + end, comments=False))
        except ValueError:
            continue
    return word


def _lines(found: Iterable[Suggestion], shell: str, kept: str, *, quoted: bool) -> Iterator[str]:
    from flpoc.cli.output import one_line

    for one in found:
        value, about = one_line(one.value), " ".join(one_line(one.about).split())
        if value != one.value:
            continue  # a line cannot hold it
        if shell == "bash":
            value = value.removeprefix(kept)
            escaped = value if quoted or _PLAIN_IN_BASH.match(value) else re.sub(r"([^\w@%+=:,./-])", r"\\\1", value)
            yield f"{one.kind}\t{escaped}"
        else:
            yield f"{one.kind}\t{value}\t{about}"
