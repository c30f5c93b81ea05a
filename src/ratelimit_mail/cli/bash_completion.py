"""Completion in bash of words with a colon: `user:ann`, and the URLs of stores.

To bash, a colon ends a word (COMP_WORDBREAKS), and so does an equals sign. So the command gets the
line as it was typed, and answers with what follows the last of these in the word.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, Final

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    split_arg_string,
)

__all__ = ["BashCompletion", "use_bash_completion"]

_SOURCE: Final = """\
%(complete_func)s() {
    local response type value
    response=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORD="${COMP_WORDS[COMP_CWORD]}" \\
        COMP_BREAKS="$COMP_WORDBREAKS" %(complete_var)s=bash_complete "$1")
    while IFS=',' read -r type value; do
        case $type in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done <<< "$response"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_BREAKS: Final = ":="
"""Those characters of COMP_WORDBREAKS that a shell takes as they are."""


class BashCompletion(BashComplete):
    """Completes in bash."""

    source_template: ClassVar[str] = _SOURCE

    _before = ""
    """The beginning of the word that bash does not replace."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words after the command, and the last, incomplete one."""
        line, word = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_WORD", "")
        words = split_arg_string(line)[1:]
        if not words or (not word and line[-1:].isspace()):
            return words, ""
        incomplete = words.pop()
        typed = incomplete.partition("=")[2] if incomplete.startswith("--") else incomplete
        breaks = [each for each in os.environ.get("COMP_BREAKS", "") if each in _BREAKS]
        if not word.startswith(("'", '"')):  # in quotes a word has no end
            end = max((typed.rfind(each) for each in breaks), default=-1)
            self._before = typed[: end + 1]
        return words, incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return the type and the value of one completion."""
        return f"{item.type},{str(item.value).removeprefix(self._before)}"


def use_bash_completion() -> None:
    """Let click complete in bash by this."""
    add_completion_class(BashCompletion)
