"""MXNet's own im2rec, which packs a folder of images into RecordIO files, under this project's compatibility module.

python -m utils.im2rec --list --recursive data/mine/train data/images/train    # writes data/mine/train.lst
python -m utils.im2rec --num-thread 4 --resize 256 data/mine/train data/images/train    # .rec and .idx

Its flags, lists and bytes; but images are encoded in threads of one process, in place of processes that wait for ever
when one of them ends, and a list that names files outside of the folder is refused.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import importlib.util
import os
import sys
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, List, Optional, Tuple

from spos.core.errors import InputError, warn
from spos.core.flags import run_program
from spos.core.stopping import StopRequest
from spos.data.image_list import UnreadableImage
from spos.data.packing import RecordWriter, in_order
from spos.engine.compat import mx
from spos.runs.files import replacing

Row = Tuple[Any, ...]  # key, path, labels: as im2rec has it


def main(argv: Optional[List[str]] = None) -> int:
    im2rec = load_im2rec()
    if argv is not None:
        sys.argv[1:] = argv
    args = im2rec.parse_args()
    if args.list:
        im2rec.make_list(args)
        return 0
    if args.num_thread < 1:
        raise InputError(f"--num-thread must be at least 1, not {args.num_thread}")
    folder = Path(args.prefix if os.path.isdir(args.prefix) else os.path.dirname(args.prefix))
    lists = sorted(file for file in folder.iterdir() if str(file).startswith(args.prefix) and file.suffix == ".lst")
    if not lists:
        raise InputError(f"there is no list {args.prefix}.lst; --list makes one")
    with StopRequest("") as stop, stop.at_once():
        for file in lists:
            pack_list(im2rec, args, file)
    return 0


def load_im2rec() -> Any:
    """MXNet's program as a module; its lists may hold names of any bytes."""
    path = Path(mx.__file__).parent / "tools" / "im2rec.py"
    spec = importlib.util.spec_from_file_location("im2rec", str(path))
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be read; install MXNet anew")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.open = open_any
    return module


def open_any(path: str, mode: str = "r") -> Any:
    """A file as `open` gives it; text of it may hold names of any bytes."""
    text = {} if "b" in mode else {"encoding": "utf-8", "errors": "surrogateescape"}
    return open(path, mode, **text)  # type: ignore[call-overload]


def read_list(path: Path) -> List[Row]:
    """The rows of a list. Raises: InputError that names the line if it is none, or leads out of the folder."""
    rows: List[Row] = []
    for number, line in enumerate(path.read_text("utf-8-sig", "surrogateescape").split("\n"), 1):
        if not line.strip():
            continue
        try:
            key, *labels, name = (field.strip() for field in line.split("\t"))
            if not labels:
                raise ValueError
            rows.append((int(key), name, *map(float, labels)))
        except ValueError:
            raise InputError(f"{path}, line {number}: expected index<TAB>label<TAB>path, got {line[:80]!r}") from None
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise InputError(f"{path}, line {number}: {name} leads out of the folder of the images; nothing was packed")
    return rows


def pack_list(im2rec: Any, args: Any, path: Path) -> None:
    """Write the .rec and .idx beside a list, or neither: what was there before stays then.

    Raises: InputError if no image of the list can be packed, or the files cannot be written.
    """
    rows = read_list(path)
    files = [path.with_suffix(suffix) for suffix in (".rec", ".idx")]
    print(f"packing {len(rows)} images of {path}", flush=True)

    def encode(row: Row) -> bytes:
        answers = Answers()
        im2rec.image_encode(args, 0, row, answers)
        if answers[0][1] is None:
            raise UnreadableImage("cannot be read or decoded, see above")
        return answers[0][1]

    try:
        with replacing(files[0]) as rec, replacing(files[1]) as idx:
            encoded = in_order(encode, rows, args.num_thread)
            with RecordWriter(str(rec), str(idx)) as writer, closing(encoded) as records:
                for row, content in records:
                    if isinstance(content, UnreadableImage):
                        warn(f"{row[1]} {content}; it is left out")
                    else:
                        writer.write(row[0], content)
            if not writer.num_records:
                raise InputError(f"none of the {len(rows)} images of {path} can be packed; see above")
    except OSError as error:
        raise InputError(f"{files[0]} cannot be written ({error.strerror}); nothing was packed") from None


class Answers(list):
    """What im2rec takes for a queue."""

    put = list.append


if __name__ == "__main__":
    sys.exit(run_program(main))
