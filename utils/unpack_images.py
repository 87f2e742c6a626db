"""Images of a record file as they were packed, in a folder with a sub-folder per class.

python -m utils.unpack_images data/cifar10/train.rec PICTURES/train
python -m utils.unpack_images data/cifar10/train.rec PICTURES/train --per-class 500
python -m utils.unpack_images data/ten/train.rec PICTURES/train --per-class 400,40    # of class 0, of class 1, ...

Classes are called as the classes.txt beside the file says, or by their numbers; the first images of each class in file
order are taken, and called by their keys. The same command goes on where it was stopped.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from collections import Counter
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, run_program
from spos.core.progress import progress_bar
from spos.core.stopping import StopRequest
from spos.data.recordio import RecordFile
from spos.data.registry import CLASSES_FILE, read_class_names
from spos.runs.files import write_atomic

SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png"}


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, ())
    parser.add_argument("record", type=Path, help="record file, with its .idx beside it")
    parser.add_argument("target", type=Path, help="folder that gets a sub-folder per class")
    parser.add_argument(
        "--per-class",
        default="",
        metavar="N[,M..]",
        help="images of each class at most; of several numbers, class i takes the i-th, over and over [all]",
    )
    args = parser.parse_args(argv)
    most = parse_counts(args.per_class)
    source = RecordFile(str(args.record), str(args.record.with_suffix(".idx")))
    labels = source.find_labels()
    chosen = first_of_each(labels, most)
    names = names_of(args.record.with_name(CLASSES_FILE), int(labels.max()) + 1)
    images = source.open()
    keys = images.index.keys
    with images.reader() as reader, StopRequest("") as stop, stop.at_once():
        for position in progress_bar(chosen.tolist(), unit="img"):
            _, content = reader.read(position)
            file = args.target / names[labels[position]] / f"{keys[position]:08d}{suffix_of(content)}"
            if not file.is_file():
                write_atomic(file, content)
            elif file.read_bytes() != content:
                raise InputError(f"{file} is another image; give a folder that holds nothing of other record files")
    counts = Counter(labels[chosen].tolist())
    print(
        f"{len(chosen):,} images of {len(counts)} classes are in {args.target}: {min(counts.values()):,} to "
        f"{max(counts.values()):,} a class"
    )
    return 0


def parse_counts(text: str) -> Tuple[int, ...]:
    """Of `--per-class`; empty for all. Raises: InputError if it is no list of whole numbers from 1."""
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise InputError(f"--per-class must be a number from 1, or several with commas between, not {text}")
    return tuple(map(int, words))


def first_of_each(labels: np.ndarray, most: Tuple[int, ...]) -> np.ndarray:
    """Positions of the first images of each class, in file order.

    Args:
        most: by class, over and over; empty: all.
    """
    if not most:
        return np.arange(len(labels))
    kept = [np.flatnonzero(labels == label)[: most[label % len(most)]] for label in range(int(labels.max()) + 1)]
    return np.sort(np.concatenate(kept))


def names_of(file: Path, num_classes: int) -> Tuple[str, ...]:
    """Of the classes: those of a file, or numbers of equal length."""
    names = read_class_names(file, num_classes)
    wrong = [name for name in names if Path(name).name != name or name == ".."]
    if wrong:
        raise InputError(f"{file}: the class {wrong[0]!r} cannot be a folder")
    width = len(str(num_classes - 1))
    return names or tuple(f"{label:0{width}d}" for label in range(num_classes))


def suffix_of(content: bytes) -> str:
    """By its first bytes; `.img` for anything but JPEG and PNG, which decoders know by content."""
    return next((suffix for start, suffix in SIGNATURES.items() if content.startswith(start)), ".img")


if __name__ == "__main__":
    sys.exit(run_program(main))
