"""Mutations of files: bytes, values of JSON, structure of JSON and of lines. Each follows from its generator alone."""

from __future__ import annotations

import json
import zlib
from typing import Any, Callable, List, Sequence, Tuple

import numpy as np

MARK = "@raw {}@"  # stands in JSON for a text that no value gives
RAW = ("NaN", "-Infinity", "1e400", "-1e400", "7" * 5000, "[" * 3000, '{"a":' * 3000, "0x10", "'a'", "01", "")
VALUES: Tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 255, 2**31, 2**63, -(2**63), 10**30, 10**12, 1e-300, 1e308, -0.5, 0.5, 1.5),
    *("", "x", "0", "\ud800", "a\nb", "\x00", "../../x", "é" * 50, "y" * 20_000, "<img src=x onerror=1>"),
    *([], {}, [[]], [0], [None], [[[[1]]]], {"a": 1}, [1e308] * 20, list(range(2000)), ["x"] * 3),
)
WORDS = (0, 1, 2, 3, 0x7F, 0xFF, 0x112, 2**16, 2**29, 2**31 - 1, 2**31, 2**32 - 1, 0x80000001, 0xF993FAC8, 0xCED7230A)

Mutation = Callable[[bytes, np.random.Generator], bytes]


def mutate(content: bytes, is_json: bool, has_check: bool, rng: np.random.Generator) -> bytes:
    """Content with one to three changes.

    Args:
        is_json: it is one JSON text, or one in each line.
        has_check: its lines have check values; in most cases they are written anew, so that more than those is tried.
    """
    for _ in range(int(rng.integers(1, 4))):
        if is_json and rng.random() < 0.75:
            content = _mutate_json(content, rng)
        else:
            content = _BYTES[rng.integers(len(_BYTES))](content, rng)
    return _check_anew(content) if has_check and rng.random() < 0.8 else content


def _mutate_json(content: bytes, rng: np.random.Generator) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        lines = content.split(b"\n")
        number = int(rng.integers(len(lines)))
        if rng.random() < 0.25:
            return b"\n".join(_change_lines(lines, number, rng))
        try:
            value = json.loads(lines[number])
        except (ValueError, RecursionError):
            return content
        lines[number] = _dump(_change(value, rng), rng).encode()
        return b"\n".join(lines)
    return _dump(_change(value, rng), rng).encode()


def _change_lines(lines: List[bytes], number: int, rng: np.random.Generator) -> List[bytes]:
    how = rng.integers(4)
    if how == 0:
        return lines[:number] + lines[number + 1 :]
    if how == 1:
        return lines[:number] + [lines[number]] + lines[number:]
    if how == 2:
        return [lines[i] for i in rng.permutation(len(lines)).tolist()]
    return lines[:number] + [b"", b"{}", b"[]", b"\x00" * 100][int(rng.integers(4)) :][:1] + lines[number:]


def _change(value: Any, rng: np.random.Generator) -> Any:
    """A value with one place inside of it changed."""
    places = list(_places(value))
    container, key = places[int(rng.integers(len(places)))] if places else ([value], 0)
    how = rng.integers(6)
    if how == 0 and isinstance(container, dict):
        del container[key]
    elif how == 0:
        container.insert(int(key), container[key])
    elif how == 1 and isinstance(container[key], (int, float)) and not isinstance(container[key], bool):
        container[key] = container[key] * [2, -1, 10, 0][int(rng.integers(4))] + [0, 1, -1, 1e-3][int(rng.integers(4))]
    elif how == 2:
        container[key] = MARK.format(int(rng.integers(len(RAW))))
    elif how == 3:
        other, name = places[int(rng.integers(len(places)))] if places else (container, key)
        container[key] = json.loads(json.dumps(other[name]))
    else:
        container[key] = VALUES[int(rng.integers(len(VALUES)))]
    return value if places else container[0]


def _places(value: Any) -> Sequence[Tuple[Any, Any]]:
    """Every (container, key or index) in plain JSON."""
    found: List[Tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        keys: Sequence[Any] = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


def _dump(value: Any, rng: np.random.Generator) -> str:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        return ""
    for number, raw in enumerate(RAW):
        text = text.replace(json.dumps(MARK.format(number)), raw)
    return text


def _check_anew(content: bytes) -> bytes:
    """Lines with the check values that belong to them."""
    lines = []
    for line in content.split(b"\n"):
        bare, found, _ = line.rpartition(b', "check": ')
        lines.append(b'%s, "check": "%08x"}' % (bare, zlib.crc32(bare)) if found else line)
    return b"\n".join(lines)


def _place(content: bytes, rng: np.random.Generator) -> int:
    """Somewhere; more often near the beginning, where headers are."""
    most = min(len(content), 200) if rng.random() < 0.5 else len(content)
    return int(rng.integers(max(most, 1)))


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    place = _place(content, rng)
    return content[:place] + bytes([int(rng.integers(256))]) + content[place + 1 :]


def _word(content: bytes, rng: np.random.Generator) -> bytes:
    place, size = _place(content, rng) // 4 * 4, int(rng.choice((4, 8)))
    value = int(rng.choice(WORDS)).to_bytes(4, "little") + (b"\xff" * 4 if rng.random() < 0.5 else b"\0" * 4)
    return content[:place] + value[:size] + content[place + size :]


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: _place(content, rng)]


def _remove(content: bytes, rng: np.random.Generator) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + int(rng.integers(1, 50)) :]


def _double(content: bytes, rng: np.random.Generator) -> bytes:
    place, size = _place(content, rng), int(rng.integers(1, 300))
    return content[: place + size] + content[place:]


def _fill(content: bytes, rng: np.random.Generator) -> bytes:
    place, size = _place(content, rng), int(rng.integers(1, 40))
    filling = (b"\xff", b"\0", b"9", b"[", b"\xef\xbb\xbf")[int(rng.integers(5))]
    return content[:place] + (filling * size)[:size] + content[place + size * int(rng.integers(2)) :]


_BYTES: Tuple[Mutation, ...] = (_flip, _word, _word, _cut, _remove, _double, _fill)
