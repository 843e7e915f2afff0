"""Completion for bash, made from the tables; it imports no command, and neither does completing."""

from __future__ import annotations

import sys

from pyrkt.base.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Flag, Value

_SCRIPT = """\
# bash completion for pyrkt:  source <(pyrkt completion bash)
_pyrkt() {
  local word=${COMP_WORDS[COMP_CWORD]} command="" below="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      -*) ;;
      *) if [[ -z $command ]]; then command=${COMP_WORDS[i]}; elif [[ -z $below ]]; then below=${COMP_WORDS[i]}; fi ;;
    esac
  done
  local words
  case "$command" in
    "") words="@COMMANDS@ @GLOBAL@" ;;
    image) if [[ -z $below ]]; then words="@IMAGE@"; else words="@GLOBAL@"; fi ;;
@CASES@
    *) words="--help @GLOBAL@" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  if [[ ${#COMPREPLY[@]} -eq 0 ]]; then COMPREPLY=($(compgen -f -- "$word")); fi
}
complete -o filenames -F _pyrkt pyrkt
"""


_CLICKS = {  # of commands whose flags are click's; a test holds them together
    "logs": "--app --follow --since --until --tail --timestamps --stream --format --uuid-file",
    "attach": "--app --mode --uuid-file",
}


def _names(flags: tuple[Flag, ...]) -> str:
    return " ".join(f"--{flag.name}" for flag in flags)


def script() -> str:
    """Return the script."""
    from pyrkt.cli import flags
    from pyrkt.cli.main import COMMANDS

    visible = [name for name, command in COMMANDS.items() if not command.hidden]
    tables = {"run": flags.RUN, "prepare": flags.PREPARE, "run-prepared": flags.RUN_PREPARED, "fetch": flags.FETCH}
    tables |= {"enter": flags.ENTER, "exec": flags.ENTER}
    cases = [f'    {name}) words="--help {_names(table)} @GLOBAL@" ;;' for name, table in tables.items()]
    cases += [f'    {name}) words="--help {words} @GLOBAL@" ;;' for name, words in _CLICKS.items()]
    return (
        _SCRIPT.replace("@CASES@", "\n".join(cases))
        .replace("@COMMANDS@", " ".join(name for name in visible if " " not in name))
        .replace("@IMAGE@", " ".join(name.partition(" ")[2] for name in visible if name.startswith("image ")))
        .replace("@GLOBAL@", _names(flags.GLOBAL))
    )


def completion(words: list[str], flags: Mapping[str, Value]) -> int:
    """Print the completion script for the shell that ``words`` name."""
    if words and words[0] in ("-h", "--help"):
        sys.stdout.write(
            "usage: pyrkt completion bash\n\nPrint the completion script for bash: source <(pyrkt completion bash)\n"
        )
        return 0
    if words not in ([], ["bash"]):
        raise UsageError(f"no completion for {' '.join(words)!r}", hint="pyrkt completion bash")
    sys.stdout.write(script())
    return 0
