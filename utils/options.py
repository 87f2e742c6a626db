"""Every flag of the three programs, with its default and what it takes: logs/train_search_options.md.

python -m utils.options --output logs/train_search_options.md
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import argparse
import sys
from importlib import import_module
from typing import List, Optional

from spos.core.flags import OneLineParser, run_program
from spos.runs.files import write_atomic

PROGRAMS = ("train_imagenet", "search_supernet", "calculate_flops")
HEAD = "# Flags of the programs\n\nMade by `python -m utils.options --output logs/train_search_options.md`.\n"
TABLE_HEAD = ("| flag | default | what it means |", "|---|---|---|")


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, ())
    parser.add_argument("--output", default="", help="file to write (default: standard output)")
    args = parser.parse_args(argv)
    text = page()
    if args.output:
        write_atomic(args.output, text)
    else:
        print(text, end="")
    return 0


def page() -> str:
    """The flags of all programs, as Markdown."""
    return "\n".join([HEAD, *(section(program) for program in PROGRAMS)])


def section(program: str) -> str:
    """The flags of a program, by group."""
    parser = OneLineParser("", import_module(program).GROUPS)
    lines = [f"## {program}.py", ""]
    for group in parser._action_groups:
        hidden = ("help", argparse.SUPPRESS)
        actions = [action for action in group._group_actions if action.dest not in hidden and action.help not in hidden]
        if actions:
            lines += [str(group.title), "", *TABLE_HEAD, *map(row, actions), ""]
    return "\n".join(lines)


def row(action: argparse.Action) -> str:
    """One flag."""
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    choices = f" ({', '.join(str(choice) for choice in action.choices if choice != '')})" if action.choices else ""
    default = "" if action.default in ("", None) else str(action.default)
    meaning = (action.help or "").replace(" [%(default)s]", "").replace("%%", "%").replace("|", "\\|")
    return f"| {names} | {default} | {meaning}{choices} |"


if __name__ == "__main__":
    sys.exit(run_program(main))
