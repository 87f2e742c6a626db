"""The machinery below all programs: flags as fields of dataclasses, errors of one line, exit codes.

A group of flags is a frozen dataclass whose fields are made by `flag`: field names are the flags, defaults the
defaults. The groups themselves stand in the `flags.py` of their room, or beside the one tool that has them.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import re
import signal
import sys
import threading
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from signal import SIGINT, SIGPIPE
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence, Tuple, Type, TypeVar

from spos.core.errors import (
    TRACEBACK,
    InputError,
    Stopped,
    causes,
    escape_missing_letters,
    explain,
    is_out_of_memory,
    printable,
    tell,
)

Group = TypeVar("Group")


def flag(default: Any, help: str, type: Optional[Callable] = None, short: str = "", **kwargs: Any) -> Any:
    """A dataclass field that is also a command-line flag. `type` defaults to the type of the default."""
    return field(default=default, metadata={"help": help, "type": type, "short": short, **kwargs})


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def not_negative(text: str) -> int:
    """An integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {value}")
    return value


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, not {value}")
    return value


def below_one(text: str) -> float:
    """A number from 0 to below 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, not {value}")
    return value


def confidence(text: str) -> float:
    """A number between 0 and 1, neither of them."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, not {value}")
    return value


def positive_number(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {value}")
    return value


def number(text: str) -> float:
    """A number that is neither infinite nor NaN."""
    value = float(text)
    if not float("-inf") < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a finite number, not {value}")
    return value


def _float(text: str) -> float:
    return number(text)


_float.__name__ = "float"  # what the parser calls it


def not_negative_number(text: str) -> float:
    """A finite number of at least 0."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {value}")
    return value


def truth(text: str) -> bool:
    """True or False, as a word."""
    words = {"true": True, "false": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"must be True or False, not {text}")
    return words[text.lower()]


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage.

    Flags may be written with underscores, `--supernet_params`, and `~` begins a path anywhere, which a shell expands
    only where a word begins: not in `--save-dir=~/run`, not in quotes.
    """

    def __init__(self, description: Optional[str], groups: Sequence[Type]) -> None:
        super().__init__(
            prog=package_command(sys.argv[0]),
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for group in groups:
            section = self.add_argument_group((group.__doc__ or "").strip().split("\n")[0])
            for item in fields(group):
                _add_flag(section, item)

    # argparse also knows namespaces of other types, which nothing here has
    def parse_known_args(  # type: ignore[override]
        self, args: Optional[Sequence[str]] = None, namespace: Optional[argparse.Namespace] = None
    ) -> Tuple[argparse.Namespace, List[str]]:
        given = with_hyphens(sys.argv[1:] if args is None else args)
        found, rest = super().parse_known_args(given, namespace)
        for name, value in vars(found).items():
            setattr(found, name, expand_home(value))
        return found, rest

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {printable(message)}\n")


def package_command(file: str) -> Optional[str]:
    """How a package of utils/ is run; None if the file is no `__main__.py`, so that argparse takes its name."""
    path = Path(file)
    return f"python -m {path.parent.parent.name}.{path.parent.name}" if path.name == "__main__.py" else None


def with_hyphens(argv: Sequence[str]) -> List[str]:
    """Arguments whose flags are written with hyphens; what follows `--` is for another program and stays."""
    own, _ = split_arguments(argv)
    words = [f"{name.replace('_', '-')}{sign}{value}" for name, sign, value in map(_split_flag, own)]
    return words + list(argv[len(own) :])


def _split_flag(word: str) -> Tuple[str, str, str]:
    """(flag, =, value) of an argument; one that is no flag is a value alone."""
    return word.partition("=") if re.match(r"--[a-z]", word) else ("", "", word)


class JoinFiles(argparse.Action):
    """Several files after one flag, kept as one text with commas between them; `split_files` takes it apart."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Optional[str] = None) -> None:
        try:
            setattr(namespace, self.dest, join_files(values))
        except InputError as error:
            parser.error(f"{option_string}: {error}")


def join_files(paths: Sequence[Any]) -> str:
    """Raises: InputError if one of several has a comma in its name."""
    names = [str(expand_home(path)) for path in paths]
    for name in names if len(names) > 1 else ():
        if "," in name:
            raise InputError(f"{name} has a comma in its name, which separates several files; rename it")
    return ",".join(names)


def split_files(text: str) -> Tuple[str, ...]:
    """The files of a flag. A name with a comma is one file if there is a file of that name."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    return names if len(names) > 1 and not Path(text).is_file() else (text,)


def expand_home(value: Any) -> Any:
    """A path, or a list of them, with the home folder in place of `~`; anything else as it is."""
    if isinstance(value, list):
        return [expand_home(item) for item in value]
    if isinstance(value, (str, Path)) and str(value).startswith("~"):
        return type(value)(os.path.expanduser(value))
    return value


def _add_flag(section: Any, item: Any) -> None:
    meta = dict(item.metadata)
    kind, short, aliases = meta.pop("type"), meta.pop("short"), meta.pop("aliases", ())
    names = [name for name in (short, f"--{item.name.replace('_', '-')}", *aliases) if name]
    meta["help"] = meta["help"].replace("%", "%%")
    if isinstance(item.default, bool) and kind is None:
        section.add_argument(*names, dest=item.name, action="store_true", default=item.default, **meta)
        undo = f"--no-{item.name.replace('_', '-')}"  # for what a recipe, or a script before it, has set
        section.add_argument(undo, dest=item.name, action="store_false", default=item.default, help=argparse.SUPPRESS)
        return
    if item.default not in ("", None):
        meta["help"] += " [%(default)s]"
    kind = kind or (_float if isinstance(item.default, float) else type(item.default))
    section.add_argument(*names, dest=item.name, type=kind, default=item.default, **meta)


def pick(group: Type[Group], args: argparse.Namespace) -> Group:
    """The part of parsed arguments that belongs to a group."""
    items = fields(group)  # type: ignore[arg-type]  # a group is a dataclass
    return group(**{item.name: getattr(args, item.name) for item in items})


def fill(group: Type[Group], **values: Any) -> Group:
    """A group from values instead of the command line, refused where that would refuse them.

    Raises: InputError for an unknown name, or a value that the flag does not take.
    """
    items = {item.name: item for item in fields(group)}  # type: ignore[arg-type]  # a group is a dataclass
    unknown = [name for name in values if name not in items]
    if unknown:
        raise InputError(f"there is no {unknown[0]}; known: {', '.join(items)}")
    return group(**{name: _checked(items[name], value) for name, value in values.items()})


def _checked(item: Any, value: Any) -> Any:
    """A value as the command line would give it."""
    if value is item.default:
        return value
    if isinstance(item.default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{item.name} must be True or False, not {value!r}")
        return value
    try:
        read = (item.metadata["type"] or type(item.default))(str(value))
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise InputError(f"{item.name} is {value!r}: {error}") from None
    choices = item.metadata.get("choices")
    if choices and read not in choices:
        raise InputError(f"{item.name} is {value!r}; it must be one of {', '.join(map(str, choices))}")
    return read


def as_json(*groups: Any) -> Dict[str, Any]:
    """All flags of filled groups, by name."""
    return {name: value for group in groups for name, value in asdict(group).items()}


def split_arguments(argv: Sequence[str]) -> Tuple[List[str], List[str]]:
    """What stands before `--`, and what stands behind it and is meant for another program."""
    place = list(argv).index("--") if "--" in argv else len(argv)
    return list(argv[:place]), list(argv[place + 1 :])


def run_program(main: Callable[[Optional[List[str]]], int], argv: Optional[List[str]] = None) -> int:
    """Run a program's `main`; bad input, a failing disk and a lack of memory become one line on standard error and exit
    code 2."""
    escape_missing_letters()
    if signal.getsignal(SIGINT) is not signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(SIGINT, signal.default_int_handler)  # until now it ended a program that was still loading
    try:
        code = main(argv)
        if sys.stdout is not None:  # closed
            sys.stdout.flush()  # here, where a broken pipe or a full disk can be told
        return code
    except InputError as error:
        message = str(error)
    except BrokenPipeError:  # whoever read the output has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that flushing at exit does not fail again
        return 128 + SIGPIPE
    except OSError as error:
        message = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    except (KeyboardInterrupt, Stopped) as stop:
        tell("\nstopped; run the same command again to go on")
        return 128 + getattr(stop, "signum", SIGINT)
    except Exception as error:
        told = explain(error)
        if told is None or os.environ.get(TRACEBACK) == "1":
            raise
        message = told
        if any(map(is_out_of_memory, causes(error))):
            atexit.register(_leave_at_once, 2)
    tell(f"error: {printable(' '.join(message.split()))}")
    return 2


def _leave_at_once(code: int) -> None:
    """End the process without MXNet's own end, in which it crashes when it has run out of memory."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # broken, closed
            stream.flush()
    os._exit(code)


def changed_flags(options: Any, names: Any = None) -> List[str]:
    """Flags of a group that differ from their default, as the user writes them."""
    return [
        f"--{item.name.replace('_', '-')}"
        for item in fields(options)
        if (names is None or item.name in names) and getattr(options, item.name) != item.default
    ]


@dataclass(frozen=True)
class RunOptions:
    """Where results lie, and what makes a run repeatable."""

    save_dir: str = flag("", "run directory (runs/supernet, runs/search or runs/subnet by default)")
    seed: int = flag(0, "seed of everything random", type=not_negative)
    resume: bool = flag(False, "insist on continuing the run in --save-dir (the same command continues anyway)")


@dataclass(frozen=True)
class JsonOptions:
    """Output for machines."""

    json: bool = flag(False, "print one JSON object and nothing else on standard output")
