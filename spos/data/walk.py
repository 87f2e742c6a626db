"""The walk through folders of images: what is found, and what is left out and why. No OpenCV, no MXNet.

Links to folders are followed, for data often lies elsewhere, but no folder is entered twice: a link into a loop, or to
a folder that is read anyway, would multiply images, also across training and validation.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from typing import Counter as CounterType
from typing import Deque, Dict, List, Sequence, Set, Tuple

from spos.core.errors import InputError, warn_once

# What OpenCV reads. It looks at the content, not at the name.
IMAGE_SUFFIXES = (
    *(".bmp", ".jpeg", ".jpg", ".png", ".webp", ".tif", ".tiff", ".jp2", ".j2k", ".jfif", ".jpe", ".dib"),
    *(".pam", ".pbm", ".pgm", ".pnm", ".ppm", ".ras", ".sr", ".hdr"),
)
_OTHER_PICTURES = (
    *(".gif", ".heic", ".heif", ".avif", ".jxl", ".jxr", ".svg", ".ico", ".tga", ".psd", ".exr", ".jpx", ".eps"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".dcm", ".npy", ".pfm"),
)
# Folders that systems make; in lower case.
_OF_THE_SYSTEM = ("lost+found", "__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information")
_OF_THE_KERNEL = ("/proc", "/sys")
_LINKS = (_KERNEL, _AGAIN, _SPECIAL) = (
    "into /proc or /sys",
    "links to folders that are read anyway, or that lead in a circle",
    "that are no regular files",
)
_Folder = Tuple[int, int]  # device and inode


def is_no_class(name: str) -> bool:
    """Whether a folder of this name never holds images of its own."""
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


class Walk:
    """One walk through some folders below `root`, which knows where it has been."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.left_out: CounterType[str] = Counter()  # by kind
        self._examples: Dict[str, str] = {}
        self._been: Set[_Folder] = set()
        here = os.path.realpath(root)
        while True:
            self._been.add(_identity(here))
            if here == os.path.dirname(here):
                break
            here = os.path.dirname(here)

    def find(self, folders: Sequence[str]) -> Dict[str, List[str]]:
        """Sorted paths of all images below each of the folders, relative to it, with forward slashes.

        Raises: InputError for a folder that cannot be read.
        """
        found: Dict[str, List[str]] = {folder: [] for folder in folders}
        todo: Deque[Tuple[str, str]] = deque()
        links: Deque[Tuple[str, str]] = deque()
        for folder in folders:
            (links if os.path.islink(os.path.join(self.root, folder)) else todo).append((folder, ""))
        for folder, _ in todo:
            self._been.add(_identity(os.path.join(self.root, folder)))
        here = set(todo)
        while todo or links:  # links last: what lies here is found where it lies
            place = folder, below = todo.popleft() if todo else links.popleft()
            path = os.path.normpath(os.path.join(self.root, folder, below))
            if place not in here and not self._enter(path):
                continue
            for entry in _entries(path):
                name = below + entry.name
                is_folder = _is_folder(entry)
                if is_no_class(entry.name) and (is_folder or entry.name.startswith(".")):
                    self.leave_out("hidden" if entry.name.startswith(".") else f"'{entry.name}'", path, entry.name)
                elif is_folder:
                    (links if entry.is_symlink() else todo).append((folder, f"{name}/"))
                elif self._is_image(entry, path):
                    found[folder].append(name)
        return {folder: sorted(names) for folder, names in found.items()}

    def leave_out(self, kind: str, folder: str, name: str) -> None:
        """Count something that is not read."""
        self.left_out[kind] += 1
        self._examples.setdefault(kind, os.path.relpath(os.path.join(folder, name), self.root))

    def report(self, files_too: bool = True) -> None:
        """Say in one line what was left out, by kind, with an example of each.

        Args:
            files_too: name files that nobody takes for pictures, and folders of the system, too.
        """
        kinds = [
            f"{count} {kind} ({self._examples[kind]})"
            for kind, count in self.left_out.most_common()
            if files_too or kind in (*_LINKS, *_OTHER_PICTURES)
        ]
        if kinds:
            warn_once(f"{self.root}: not read: {', '.join(kinds)}")

    def _enter(self, path: str) -> bool:
        """Whether a folder has not been entered before, and may be."""
        target = os.path.realpath(path)
        if any(os.path.commonpath((target, kernel)) == kernel for kernel in _OF_THE_KERNEL):
            self.leave_out(_KERNEL, path, "")
            return False
        folder = _identity(path)
        if folder in self._been:
            self.leave_out(_AGAIN, path, "")
            return False
        self._been.add(folder)
        return True

    def _is_image(self, entry: os.DirEntry, folder: str) -> bool:
        """Whether this has the name of an image; a link that leads nowhere counts, so that reading it says so."""
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix not in IMAGE_SUFFIXES:
            self.leave_out(suffix or "without a suffix", folder, entry.name)
        elif not (entry.is_symlink() and not os.path.exists(entry.path)) and not entry.is_file():
            self.leave_out(_SPECIAL, folder, entry.name)
        else:
            return True
        return False


def _identity(path: str) -> _Folder:
    try:
        status = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    return status.st_dev, status.st_ino


def _entries(folder: str) -> List[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from None


def _unreadable(folder: str, error: OSError) -> InputError:
    return InputError(f"{folder}: cannot read this folder ({error.strerror}). Make it readable, or take it out")


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
        return False
