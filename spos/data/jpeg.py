"""JPEG files: what they say before they are decoded, and decoding of no more of them than is needed. OpenCV, no MXNet.

Decoding is most of the work of an input pipeline (1.5 of 1.8 ms for an image of ImageNet), and a random window seldom
needs all of it: rows below the window are left out, and a window twice as large as the output or more is decoded at
half, a quarter or an eighth of its size, which libjpeg does by averaging in the frequency domain.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Optional

import cv2
import numpy as np

from spos.core.errors import InputError
from spos.data.exif import UPRIGHT, orientation_of
from spos.data.header import Header

_START, _END_OF_IMAGE, _START_OF_SCAN, _RESTART_INTERVAL = b"\xff\xd8", b"\xff\xd9", 0xDA, 0xDD
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15; the others define tables
_SEQUENTIAL = (0xC0, 0xC1)
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_FRAME_HEIGHT_AT = 5  # bytes from the frame's marker: marker 2, length 2, precision 1
_LARGEST_MCU = 16  # rows of a coding unit with chroma at half height
_PADDING = bytes(64)
_APP1, _EXIF = 0xE1, b"Exif\0\0"

FACTORS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


@dataclass(frozen=True)
class JpegHeader(Header):
    """Size in pixels, orientation, and where things stand in the file.

    in_one_pass: the rows follow each other from top to bottom, without restart markers, so that the end can be left
        out.
    """

    frame_at: int = 0
    scan_at: int = 0
    in_one_pass: bool = False


def read_header(content: bytes) -> Optional[JpegHeader]:
    """The header of a JPEG file, or None if this is none, or is damaged before its pixels."""
    if content[:2] != _START:
        return None
    position, frame, restarts, strays, orientation = 2, None, False, False, None
    try:
        while True:
            if content[position] != 0xFF:  # libjpeg looks for the next marker, too
                strays, position = True, content.index(0xFF, position)
            marker = content[position + 1]
            if marker == 0xFF or marker in _STANDALONE:  # fill byte
                position += 1 if marker == 0xFF else 2
                continue
            (length,) = struct.unpack_from(">H", content, position + 2)
            if marker in _FRAMES:
                height, width, num_components = struct.unpack_from(">HHB", content, position + _FRAME_HEIGHT_AT)
                frame = (height, width, position, marker in _SEQUENTIAL, num_components)
            elif marker == _RESTART_INTERVAL:
                restarts = content[position + 4 : position + 6] != b"\0\0"
            elif marker == _APP1 and orientation is None and content[position + 4 : position + 10] == _EXIF:
                orientation = orientation_of(content[position + 10 : position + 2 + length])
            elif marker == _START_OF_SCAN:
                if frame is None or not frame[0] or not frame[1]:
                    return None
                height, width, frame_at, sequential, num_components = frame
                whole = sequential and not (restarts or strays) and content[position + 4] == num_components
                return JpegHeader(height, width, orientation or UPRIGHT, frame_at, position, whole)
            position += 2 + length
    except (IndexError, ValueError, struct.error):  # cut short
        return None


def decode(content: bytes, header: JpegHeader, num_rows: int, factor: int = 1) -> Optional[np.ndarray]:
    """At least the upper `num_rows` rows (of the full size), at 1 / `factor` of the size; None if undecodable.

    The same pixels as decoding the whole (BGR, EXIF rotation ignored). A file cut short is grey where it ends.
    """
    end = content.rfind(_END_OF_IMAGE, header.scan_at)
    num_rows = (num_rows + 2 * _LARGEST_MCU) // _LARGEST_MCU * _LARGEST_MCU  # chroma looks one unit further
    if end < 0:
        content += _END_OF_IMAGE  # or the missing rows would be whatever was in memory
    elif header.in_one_pass and num_rows < header.height:
        # A smaller height in the frame ends decoding early. Without an end marker libjpeg does not complain of the
        # bytes that are left over; the padding keeps it from running dry.
        height_at = header.frame_at + _FRAME_HEIGHT_AT
        content = b"".join((content[:height_at], struct.pack(">H", num_rows), content[height_at + 2 : end], _PADDING))
    return decode_any(content, FACTORS[factor])


def decode_any(content: bytes, mode: int = cv2.IMREAD_COLOR) -> Optional[np.ndarray]:
    """Whatever OpenCV decodes, as (H, W, 3) uint8 BGR, EXIF rotation ignored; None if it does not.

    Raises: InputError if memory is short, which is no fault of the image.
    """
    if not content:
        return None
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise InputError("there is not enough memory to decode an image; fewer --num-workers take less") from None
        return None
