"""JSON from files: strict, of bounded depth and numbers, and of the shape that its schema says.

A schema is a type: a `msgspec.Struct` whose fields are the keys, beside the noun whose file it describes. Keys that it
does not name are allowed, unless the struct forbids them. What is read stays plain dicts, lists, numbers and text.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, List, Union

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from typing_extensions import Annotated

from spos.core.errors import InputError

MOST_BYTES = 1 << 24  # of a text
MOST_LEVELS = 32  # of lists and objects in each other
MOST_DIGITS = 100  # of an integer; a schema says less where it matters
SHOWN = 300  # characters of what is wrong, in a message

_HALF = re.compile("\\\\ud[89ab]|\\\\udc[0-7]|[\\ud800-\\udc7f]")  # not U+DC80 to U+DCFF: bytes of file names

Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Share = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Text = Annotated[str, Meta(max_length=10_000)]
Hex = Annotated[str, Meta(pattern="^[0-9a-f]{1,64}$")]  # of a digest
Choice = Annotated[int, Meta(ge=0, le=1000)]
Choices = Annotated[List[Choice], Meta(min_length=1, max_length=1000)]


class Choosing(Struct):
    """What every record of an architecture says."""

    block_choices: Choices
    channel_choices: Choices


class Scored(Choosing):
    """What every record of an accuracy says; `top1` and `top5` are shares of `num_images`."""

    top1: Share
    top5: Union[Share, UnsetType] = UNSET
    top1_interval: Union[Annotated[List[Share], Meta(min_length=2, max_length=2)], UnsetType] = UNSET
    top1_hits: Union[Count, UnsetType] = UNSET
    num_images: Union[Positive, UnsetType] = UNSET
    fingerprint: Union[Text, UnsetType] = UNSET
    supernet: Union[Text, UnsetType] = UNSET
    images: Union[Text, UnsetType] = UNSET


def parse_json(content: Union[str, bytes], source: object, schema: Any = Any) -> Any:
    """The value of a JSON text, in UTF-8 with or without a byte order mark.

    Args:
        source: where it stands, for errors.
    Raises: InputError if it is no JSON, too long or nested too deeply, has a number that is none or too large, or has
            another shape.
    """
    if len(content) > MOST_BYTES:
        raise InputError(f"{source} has more than {MOST_BYTES >> 20} MB of JSON")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        _check_depth(text)
        value = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_finite)
        if "\\ud" in text.lower() and _HALF.search(str(value)):
            raise ValueError("a text has half a character, which nothing can print")
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{source} is not a JSON file: {shortened(error)}") from None
    except ValueError as error:  # of this and the functions below
        raise InputError(f"{source}: {shortened(error)}") from None
    return check_shape(value, source, schema)


def check_shape(value: Any, source: object, schema: Any) -> Any:
    """Return plain JSON that has the shape of a schema. Raises: InputError that says where it has not."""
    try:
        try:
            msgspec.convert(value, schema)
        except UnicodeEncodeError:  # names of files may have bytes that are no text
            msgspec.convert(_printable(value), schema)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputError(f"{source}: {shortened(error)}") from None
    return value


def _printable(value: Any) -> Any:
    """Plain JSON with a question mark for every byte that is no text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def shortened(error: object) -> str:
    """What an error says, in one line of bounded length."""
    text = " ".join(str(error).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def _check_depth(text: str) -> None:
    """Raise ValueError if brackets outside of texts are nested too deeply, before a parser recurses into them."""
    if text.count("[") + text.count("{") <= MOST_LEVELS:
        return
    depth = 0
    for number, part in enumerate(text.replace("\\\\", "").replace('\\"', "").split('"')):
        if number % 2 or not ("[" in part or "{" in part or "]" in part or "}" in part):
            continue  # a text, or nothing that opens or closes
        for character in part:
            if character in "[{":
                depth += 1
                if depth > MOST_LEVELS:
                    raise ValueError(f"lists and objects in each other, more than {MOST_LEVELS} levels deep")
            elif character in "]}":
                depth -= 1


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text) if text != "-Infinity" else -math.inf
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value
