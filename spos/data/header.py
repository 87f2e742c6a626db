"""Headers of image files: what a file claims before anything of it is decoded. No OpenCV, no MXNet.

OpenCV takes up to six bytes for each pixel that a file claims, and a file of 124 KB can claim a billion. So nothing is
decoded whose claim is not known: these are the formats that OpenCV 4.10 reads.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Callable, Optional, Tuple

from spos.data.exif import TURNS_SIDES, UPRIGHT, orientation_of
from spos.data.image_list import UnreadableImage

MAX_PIXELS = 2**27  # the largest phone photos have 108 million that are no composites; OpenCV takes 0.8 GB for so many
NOT_A_PICTURE = "cannot be decoded: it is not a picture, or damaged"


@dataclass(frozen=True)
class Header:
    """Stored size in pixels, and the EXIF orientation by which what OpenCV decodes is to be turned."""

    height: int
    width: int
    orientation: int = UPRIGHT

    @property
    def shown(self) -> Tuple[int, int]:
        """Height and width as people see it."""
        return (self.width, self.height) if self.orientation in TURNS_SIDES else (self.height, self.width)


def check_claim(header: Optional[Header]) -> Header:
    """The header itself. Raises: UnreadableImage if there is none, or it claims no pixels or too many."""
    if header is None or header.height < 1 or header.width < 1:
        raise UnreadableImage(NOT_A_PICTURE)
    if header.height * header.width > MAX_PIXELS:
        raise UnreadableImage(
            f"is not decoded: it claims {header.width} x {header.height} pixels, more than {MAX_PIXELS} together; "
            "make it smaller"
        )
    return header


def read_plain_header(content: bytes) -> Optional[Header]:
    """The header of any file but a JPEG; None if this is no picture, or is damaged before its pixels."""
    try:
        for signature, read in _READERS:
            if signature.match(content):
                return read(content)
    except (struct.error, ValueError, IndexError):
        return None  # cut short
    return None


def _png(content: bytes) -> Optional[Header]:
    """The first chunk has the size; the orientation stands in `eXIf`, anywhere."""
    width, height = struct.unpack_from(">II", content, 16)
    position, orientation = 8, UPRIGHT
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        if content[position + 4 : position + 8] == b"eXIf":
            orientation = orientation_of(content[position + 8 : position + 8 + length])
            break
        position += 12 + length
    return Header(height, width, orientation)


def _webp(content: bytes) -> Optional[Header]:
    """A simple file has one chunk of pixels; an extended one begins with its size and may end with EXIF."""
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return Header(height & 0x3FFF, width & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return Header((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
    if kind != b"VP8X":
        return None
    width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
    position, orientation = 12, UPRIGHT
    while position + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, position + 4)
        if content[position : position + 4] == b"EXIF":
            exif = content[position + 8 : position + 8 + length]
            orientation = orientation_of(exif[6:] if exif[:6] == b"Exif\0\0" else exif)
            break
        position += 8 + length + length % 2
    return Header(height, width, orientation)


def _tiff(content: bytes) -> Optional[Header]:
    """The first directory has the size. OpenCV turns these files itself, so the size is that of the stored pixels."""
    order = "<" if content[:2] == b"II" else ">"
    (version,) = struct.unpack_from(order + "H", content, 2)
    if version == 43:  # 64-bit
        (directory,) = struct.unpack_from(order + "Q", content, 8)
        (num_entries,) = struct.unpack_from(order + "Q", content, directory)
        first, size, value_at = directory + 8, 20, 12
    else:
        (directory,) = struct.unpack_from(order + "I", content, 4)
        (num_entries,) = struct.unpack_from(order + "H", content, directory)
        first, size, value_at = directory + 2, 12, 8
    found = {}
    for at in range(first, min(first + size * num_entries, len(content)), size):
        tag, kind = struct.unpack_from(order + "HH", content, at)
        if tag in (256, 257) and kind in (3, 4, 16):
            form = {3: "H", 4: "I", 16: "Q"}[kind]
            (found[tag],) = struct.unpack_from(order + form, content, at + value_at)
    return Header(found[257], found[256]) if len(found) == 2 else None


def _bmp(content: bytes) -> Optional[Header]:
    (size,) = struct.unpack_from("<I", content, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", content, 18)
    return Header(abs(height), abs(width))  # a negative height counts from the top


def _jp2(content: bytes) -> Optional[Header]:
    """The marker SIZ of the codestream, which a JP2 file wraps in boxes."""
    at = content.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", content, at + 8)
    return Header(bottom - top, right - left)


def _pnm(content: bytes) -> Optional[Header]:
    """Two numbers behind the kind, between blanks and comments."""
    numbers = re.sub(rb"#[^\n]*", b" ", content[2:2048]).split()
    return Header(int(numbers[1][:20]), int(numbers[0][:20]))


def _pam(content: bytes) -> Optional[Header]:
    words = re.sub(rb"#[^\n]*", b" ", content[:2048]).split()
    return Header(*(int(words[words.index(name) + 1][:20]) for name in (b"HEIGHT", b"WIDTH")))


def _sun_raster(content: bytes) -> Optional[Header]:
    width, height = struct.unpack_from(">II", content, 4)
    return Header(height, width)


def _radiance(content: bytes) -> Optional[Header]:
    found = re.search(rb"\n-Y (\d{1,20}) \+X (\d{1,20})\n", content[:65536])
    return Header(int(found[1]), int(found[2])) if found else None


_READERS: Tuple[Tuple[re.Pattern[bytes], Callable[[bytes], Optional[Header]]], ...] = tuple(
    (re.compile(signature, re.DOTALL), read)
    for signature, read in (
        (rb"\x89PNG\r\n\x1a\n....IHDR", _png),
        (rb"RIFF....WEBP", _webp),
        (rb"II[*+]\0|MM\0[*+]", _tiff),
        (rb"BM", _bmp),
        (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", _jp2),
        (rb"P[1-6]\s|P[Ff]\s", _pnm),
        (rb"P7\s", _pam),
        (rb"\x59\xa6\x6a\x95", _sun_raster),
        (rb"#\?(RGBE|RADIANCE)", _radiance),
    )
)
