"""EXIF orientation: how the stored pixels of a photo have to be turned so that people see them upright. OpenCV only.

OpenCV turns JPEG and PNG files itself unless it is told not to, WebP files never and TIFF files always. Here it is told
not to, and every file but TIFF is turned by one function, so that the same photo looks the same wherever it is read.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

UPRIGHT = 1
TURNS_SIDES = (5, 6, 7, 8)  # height and width change places
_TAG, _SHORT, _LONG = 0x0112, 3, 4
_MAX_ENTRIES = 1000
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # of OpenCV, after the sides have changed places


def orientation_of(exif: bytes) -> int:
    """The orientation 1 to 8 that an EXIF block says (a small TIFF file); 1 if it says none, or is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return UPRIGHT
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (num_entries,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(min(num_entries, _MAX_ENTRIES)):
            at = directory + 2 + 12 * entry
            tag, kind = struct.unpack_from(order + "HH", exif, at)
            if tag == _TAG and kind in (_SHORT, _LONG):
                (value,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, at + 8)
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:
        return UPRIGHT  # cut short
    return UPRIGHT


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels (H, W, 3) as they are to be seen."""
    if orientation in TURNS_SIDES:
        image = cv2.transpose(image)
    return cv2.flip(image, _FLIPS[orientation]) if orientation in _FLIPS else image
