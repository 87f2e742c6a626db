"""Space files: search spaces as people write them, and those that ship, by name.

A file says what a space is, from the stem to the head; `spos.space.space.SearchSpace` is what it means. Whatever a file
leaves out has a default, and a "comment" may stand anywhere.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Type

from msgspec import Meta, Struct, field
from typing_extensions import Annotated

from spos.core.errors import InputError
from spos.runs.files import PathLike, check_shape, read_json, shortened
from spos.space.blocks import BlockKind, any_own, block_files
from spos.space.checks import check_space
from spos.space.layers import stride_plan
from spos.space.schema import Channels, Durations, InputSize, InputSizes, Names, Scales, Text
from spos.space.space import SearchSpace
from spos.space.stages import Head, OwnChoices, Stage

SCHEMA = 1
# Spaces that ship, by the names of their files; in a checkout a link to spaces/.
SPACES = Path(__file__).resolve().parents[1] / "spaces"
LAYOUTS = ("OneShot", "ShuffleNetV2+", "Small")  # what --channels-layout may be
Stride = Annotated[int, Meta(ge=1, le=2)]
SomeNames = Annotated[Names, Meta(min_length=1)]
SomeScales = Annotated[Scales, Meta(min_length=1)]


class StemFile(Struct):
    channels: Channels = 16
    stride: Optional[Stride] = None  # all strides or none: without them the stride plan follows the size of the images
    act: str = ""


class OwnFile(Struct):
    """A single choice block."""

    block_choices: SomeNames = []
    channel_scales: SomeScales = []


class StageFile(Struct):
    num_blocks: Annotated[int, Meta(ge=1, le=100)]
    out_channels: Channels
    stride: Optional[Stride] = None
    act: str = ""
    hard_swish: bool = False  # where the space has `use_se`, as the published ones have it
    se: bool = False
    block_choices: SomeNames = []
    channel_scales: SomeScales = []
    choice_blocks: Dict[str, OwnFile] = {}  # by position in the stage


class HeadFile(Struct):
    before_pooling: Annotated[int, Meta(ge=0, le=16384)] = 0
    se: bool = False
    after_pooling: Annotated[int, Meta(ge=0, le=16384)] = 0
    act: str = "relu"
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0


class SpaceFile(Struct):
    schema: int
    name: Text
    blocks: Annotated[Dict[Text, Dict[str, Any]], Meta(min_length=1, max_length=64)]
    stages: Annotated[List[StageFile], Meta(min_length=1, max_length=16)]
    channel_scales: SomeScales = field(default_factory=lambda: [1.0])
    input_size: InputSize = 224
    input_sizes: Annotated[InputSizes, Meta(min_length=2)] = []  # a choice; `input_size` is the largest
    num_classes: Annotated[int, Meta(ge=1, le=10**6)] = 1000
    stem: Optional[StemFile] = None
    head: Optional[HeadFile] = None
    width_multiple: Annotated[int, Meta(ge=1, le=1024)] = 1
    use_se: Optional[bool] = None
    last_conv_after_pooling: bool = False
    warm_up_durations: Optional[Durations] = None
    count_additions: bool = True


# Where objects stand in a file, and what they are: for names of fields that are none.
_PARTS: Tuple[Tuple[str, Type[Struct]], ...] = (("stem", StemFile), ("head", HeadFile))


def shipped_spaces() -> List[str]:
    """Names that `load_space` knows without a file."""
    return sorted(path.stem for path in SPACES.glob("*.json"))


@lru_cache(maxsize=None)
def _shipped(name: str) -> SearchSpace:
    path = SPACES / f"{name}.json"
    return parse_space(read_json(path), str(path))


def load_space(name_or_file: PathLike) -> SearchSpace:
    """Read a space file, or one that ships by its name; capitals do not matter in a name.

    A file that says its space, an architecture file or the `config.json` of a run, stands for that space too.

    Raises: InputError if there is no such file or name, or naming the field and the value that cannot be.
    """
    path = Path(name_or_file)
    if path.suffix != ".json" and str(name_or_file).lower() in shipped_spaces():
        return _shipped(str(name_or_file).lower())
    if not path.is_file():
        raise InputError(
            f"no space '{name_or_file}': not a file, and those that ship are {', '.join(shipped_spaces())}"
        )
    values = read_json(path)
    if isinstance(values, dict) and isinstance(values.get("space"), dict):
        return described_space(values, str(path))
    return parse_space(values, str(path))


def described_space(values: Mapping[str, Any], source: str) -> SearchSpace:
    """The space that a run or an architecture file says it is of.

    Raises: InputError if it is malformed, or if its blocks are no longer what they were.
    """
    space = SearchSpace.from_json(values["space"], source=source)
    if values.get("fingerprint", space.fingerprint) != space.fingerprint:
        changed = " or ".join(block_files(space.blocks)) or "the file"
        raise InputError(
            f"{source}: fingerprint {shortened(values['fingerprint'])} does not fit its space ({space.fingerprint})"
            + (f": {changed} describes other blocks than then" if any_own(space.blocks) else "")
        )
    return space


def search_space(layout: str = "OneShot", **changes: Any) -> SearchSpace:
    """The space of a named channels layout, with any field of `SearchSpace` changed.

    `search_space()` is the published space, `search_space(use_se=True, last_conv_after_pooling=True)` the one of
    OneShot-S+.

    Raises: InputError for an unknown layout, or a value that cannot be.
    """
    if layout not in LAYOUTS:
        raise InputError(f"unknown channels layout '{layout}'; known: {', '.join(LAYOUTS)}")
    return replace(_shipped(layout.lower()), **changes)


def parse_space(values: Any, source: str) -> SearchSpace:
    """A space from the JSON of a space file.

    Args:
        source: where it stands, for errors.
    Raises: InputError that names the field, its value and what is allowed.
    """
    if not isinstance(values, dict):
        raise InputError(f"{source} is not a space file: an object is wanted, not {shortened(repr(values))}")
    if values.get("schema") != SCHEMA:
        raise InputError(f"{source} has schema {shortened(values.get('schema'))}, this version reads {SCHEMA}")
    values = _without_comments(values)
    for where, one, kind in _objects(values):
        _refuse_unknown(one, f"{source}: ", where, kind.__struct_fields__)
        if kind is OwnFile:  # its place has no name of its own in what msgspec says
            check_shape(one, f"{source}: {where[:-1]}", kind)
    check_shape(values, source, SpaceFile)
    try:
        space = _space(values)
        check_space(space)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return space


def _without_comments(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_comments(one) for name, one in value.items() if name != "comment"}
    return [_without_comments(one) for one in value] if isinstance(value, list) else value


def _objects(values: Mapping[str, Any]) -> Iterator[Tuple[str, Any, Type[Struct]]]:
    """(place, value, schema) of every object in a file, as far as it has the shape of one."""
    objects: List[Tuple[str, Any, Type[Struct]]] = [("", values, SpaceFile)]
    objects += [(f"{name}.", values.get(name), kind) for name, kind in _PARTS]
    stages = values.get("stages")
    for number, stage in enumerate(stages if isinstance(stages, list) else []):
        objects.append((f"stages[{number}].", stage, StageFile))
        own = stage.get("choice_blocks") if isinstance(stage, dict) else None
        for position, one in (own if isinstance(own, dict) else {}).items():
            objects.append((f"stages[{number}].choice_blocks.{position}.", one, OwnFile))
    yield from objects


def _refuse_unknown(value: Any, source: str, where: str, known: Sequence[str]) -> None:
    """Raise InputError for a field that an object cannot have, with those that it may have."""
    for name in value if isinstance(value, dict) else ():
        if name not in known:
            raise InputError(f"{source}unknown field '{where}{shortened(name)}'; known here: {', '.join(known)}")


def _space(values: Mapping[str, Any]) -> SearchSpace:
    stem, stages = values.get("stem") or {}, values["stages"]
    scales = tuple(values.get("channel_scales", [1.0]))
    strides = [stem.get("stride"), *(stage.get("stride") for stage in stages)]
    if any(strides) and not all(strides):
        raise InputError(
            f"strides of stem and stages are {strides}; give all of them, or none, and the plan follows the images"
        )
    if not any(strides) and len(strides) != len(stride_plan(1)):
        raise InputError(f"{len(stages)} stages need strides, and the stem too: only four of them have a stride plan")
    input_sizes = tuple(values.get("input_sizes", ()))
    input_size = values.get("input_size", max(input_sizes, default=224))
    lists = [one for stage in stages for one in (stage, *stage.get("choice_blocks", {}).values())]
    most = max(len(one.get("channel_scales", scales)) for one in lists)
    durations = values.get("warm_up_durations")
    if durations is not None and len(durations) >= most:
        raise InputError(f"warm_up_durations has {len(durations)} entries; of {most} widths it is at most {most - 1}")
    if values.get("last_conv_after_pooling") and values.get("head") is not None:
        raise InputError("last_conv_after_pooling is true, and yet there is a head; leave one of them out")
    use_se = values.get("use_se")
    head = values.get("head")
    return SearchSpace(
        layout=values["name"],
        stages=tuple(_stage(number, stage) for number, stage in enumerate(stages)),
        warm_up_durations=tuple(usual_durations(most) if durations is None else durations),
        blocks=tuple(_block(name, options) for name, options in values["blocks"].items()),
        channel_scales=scales,
        stem_channels=stem.get("channels", 16),
        width_multiple=values.get("width_multiple", 1),
        use_se=any(stage.get("se") for stage in stages) if use_se is None else use_se,
        last_conv_after_pooling=values.get("last_conv_after_pooling", False),
        strides=tuple(strides) if all(strides) else stride_plan(input_size),
        input_size=input_size,
        num_classes=values.get("num_classes", 1000),
        stem_act=stem.get("act", ""),
        head=None if head is None else Head(**head),
        fixed_strides=all(strides) or bool(input_sizes),
        count_additions=values.get("count_additions", True),
        input_sizes=input_sizes,
    )


def _stage(number: int, values: Mapping[str, Any]) -> Stage:
    own = []
    for position, one in values.get("choice_blocks", {}).items():
        if not re.fullmatch(r"\d{1,3}", position):
            raise InputError(f"stages[{number}].choice_blocks: '{shortened(position)}' is no number of a choice block")
        lists = (tuple(one.get(name, ())) for name in ("block_choices", "channel_scales"))
        own.append(OwnChoices(int(position), *lists))
    return Stage(
        num_blocks=values["num_blocks"],
        out_channels=values["out_channels"],
        se=values.get("se", False),
        hard_swish=values.get("hard_swish", False),
        act=values.get("act", ""),
        block_choices=tuple(values.get("block_choices", ())),
        channel_scales=tuple(values.get("channel_scales", ())),
        own_choices=tuple(sorted(own, key=lambda one: one.position)),
    )


def _block(name: str, options: Mapping[str, Any]) -> BlockKind:
    rest = {key: value for key, value in options.items() if key not in ("kind", "attribute")}
    attribute = options.get("attribute", "block_" + re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"))
    if not isinstance(attribute, str) or not re.fullmatch(r"block_[A-Za-z0-9_]{1,90}", attribute):
        raise InputError(f"blocks.{name}: attribute {shortened(repr(attribute))} must be block_ and letters or digits")
    try:
        return BlockKind(name, attribute, options.get("kind", ""), tuple(rest.items()))
    except InputError as error:
        raise InputError(f"blocks.{name}: {error}") from None


def usual_durations(num_widths: int) -> List[int]:
    """Epochs of the warm-up of so many widths: an epoch each at first, and longer for narrower ones, as published."""
    return [max(1, step - 2) for step in range(max(num_widths - 2, 0))]
