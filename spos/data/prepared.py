"""Data sets that are written once, by the program itself: every file whole or not at all, and checked when used."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, Mapping, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.data.recordio import Index, read_index
from spos.engine.compat import mx
from spos.runs.files import read_json, write_atomic

_SCHEMA = 1


def write_prepared(folder: Path, name: str, files: Mapping[str, bytes], description: Mapping[str, Any]) -> None:
    """Write the files, and last `<name>.json`, whose checksums say that the others are complete.

    Raises: InputError if files of the same names are there that this has not written.
    """
    if not _description(folder, name).exists():
        for file_name, data in files.items():
            path = folder / file_name
            if path.exists() and path.read_bytes() != data:
                raise InputError(f"{path} is there already, with other images; give another folder, or remove it")
    for file_name, data in files.items():
        write_atomic(folder / file_name, data)
    sums = {file_name: hashlib.sha256(data).hexdigest() for file_name, data in files.items()}
    record: Dict[str, Any] = {"schema": _SCHEMA, "name": name, **description, "sha256": sums}
    write_atomic(_description(folder, name), json.dumps(record, indent=2, sort_keys=True) + "\n")


def is_complete(folder: Path, name: str, file_names: Iterable[str]) -> bool:
    """Whether these files are there with the content they were written with."""
    try:
        description = read_json(_description(folder, name))
        if description["schema"] != _SCHEMA or set(description["sha256"]) != set(file_names):
            return False
        return all(
            hashlib.sha256((folder / file_name).read_bytes()).hexdigest() == checksum
            for file_name, checksum in description["sha256"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False  # missing or damaged: written again by the caller


def _description(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def encode_png(pixels: np.ndarray) -> bytes:
    """An image (H, W, 3) uint8 RGB as a PNG file, without loss."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def pack_images(contents: Iterable[bytes], labels: Iterable[int]) -> Tuple[bytes, Index]:
    """Encoded images as a record file and its index; the key is the number of the image."""
    with tempfile.TemporaryDirectory(prefix="spos-pack-") as directory:
        idx, rec = Path(directory) / "a.idx", Path(directory) / "a.rec"
        writer = mx.recordio.MXIndexedRecordIO(str(idx), str(rec), "w")
        for key, (content, label) in enumerate(zip(contents, labels)):
            writer.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, float(label), key, 0), content))
        writer.close()
        return rec.read_bytes(), read_index(str(idx))
