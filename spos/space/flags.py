"""Flags of the space and of an architecture in it, and what they mean without any data."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Dict, Iterator, Optional

from spos.core.errors import InputError
from spos.core.flags import flag, positive
from spos.runs.files import read_json
from spos.runs.run import CONFIG_FILE, RunDirectory, run_folder
from spos.space.architecture import Architecture, format_choices, parse_choices
from spos.space.architecture_file import ArchitectureRecord, load_architecture, parse_architecture
from spos.space.blocks import load_blocks
from spos.space.checks import check_space
from spos.space.cost import COMPARISON_MODELS, DEFAULT_COMPARISON_MODEL
from spos.space.layers import stride_plan
from spos.space.space import STABLE_CHANNEL_CHOICE, SearchSpace
from spos.space.space_file import LAYOUTS, described_space, load_space, search_space, shipped_spaces


def space_of(options: SpaceOptions) -> SearchSpace:
    """The search space of the flags at its own input size and classes; those of ImageNet, for a layout.

    Raises: InputError also if flags contradict a space file.
    """
    use_blocks(options)
    if not options.space:
        base = search_space(options.channels_layout)
    elif options.channels_layout != SpaceOptions().channels_layout:
        raise InputError(f"--space {options.space} and --channels-layout {options.channels_layout} both name a space")
    else:
        base = load_space(options.space)
    for message in _contradictions(base, options):
        raise InputError(message)
    changes: Dict[str, Any] = {}
    if options.use_se:
        changes["use_se"] = True
    if options.last_conv_after_pooling:
        changes["last_conv_after_pooling"] = True
    if options.width_multiple != SpaceOptions().width_multiple:
        changes["width_multiple"] = options.width_multiple
    if options.ignore_first_two_cs:
        changes["min_channel_choice"] = STABLE_CHANNEL_CHOICE
    space = replace(base, **changes)
    return _checked_again(space, "flags of the space") if options.space and changes else space


def _contradictions(space: SearchSpace, options: SpaceOptions) -> Iterator[str]:
    """Flags that mean nothing in this space, or that it has decided already."""
    if options.use_se and not any(stage.se or stage.hard_swish for stage in space.stages):
        yield f"--use-se: no stage of {options.space} has se or hard_swish for it; write them into a space file"
    if options.last_conv_after_pooling and space.head is not None:
        yield f"--last-conv-after-pooling: {options.space} has a head of its own; change it in a space file"
    count = space.num_channel_choices
    if options.ignore_first_two_cs and count <= STABLE_CHANNEL_CHOICE:
        yield f"--ignore-first-two-cs: {options.space} has {count} width{'s' * (count > 1)}, which leaves none"


def _checked_again(space: SearchSpace, flag: str) -> SearchSpace:
    """A space whose flags have changed it. Raises InputError if its blocks do not fit any more."""
    try:
        check_space(space)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from None
    return space


def with_strides(space: SearchSpace, strides: str) -> SearchSpace:
    """A space with the stride plan of `--strides`."""
    plan = parse_choices(strides, "--strides")
    if len(plan) != len(space.strides):
        raise InputError(
            f"--strides {strides} needs {len(space.strides)} entries, not {len(plan)}: of the stem, then of each stage"
        )
    return _checked_again(replace(space, strides=plan), f"--strides {strides}")


def use_blocks(options: BlocksOptions) -> None:
    """Register the user's own kinds of blocks, before anything that may name them is read."""
    if options.blocks:
        load_blocks(options.blocks)


def fit(
    space: SearchSpace, options: SpaceOptions, input_size: Optional[int] = None, num_classes: Optional[int] = None
) -> SearchSpace:
    """A space for other images.

    Without `--strides` the stride plan follows a new input size, unless the space has one of its own.

    Raises: InputError if the input size is a choice of the space, and this is none of its sizes.
    """
    changes: Dict[str, Any] = {}
    if input_size is not None:
        if space.input_sizes:
            space = space.at(input_size)
        changes.update(input_size=input_size)
        if not space.fixed_strides and input_size != space.input_size:
            changes.update(strides=stride_plan(input_size))
    if num_classes is not None:
        changes.update(num_classes=num_classes)
    space = replace(space, **changes)
    return with_strides(space, options.strides) if options.strides else space


def named_architecture(options: ArchitectureOptions, space: SpaceOptions) -> Optional[ArchitectureRecord]:
    """The architecture that the flags name, or None if they name none.

    A file or a published name brings its own space; flags of the space must not contradict it. Where the input size was
    a choice, the space is that of the one chosen.
    """
    use_blocks(space)
    choices = (options.block_choices, options.channel_choices)
    if options.architecture:
        if any(choices):
            raise InputError("give either --architecture or --block-choices with --channel-choices, not both")
        return _checked(load_architecture(options.architecture), space, options.architecture).at_its_size
    if not any(choices):
        return None
    if not all(choices):
        raise InputError("--block-choices and --channel-choices must be given together")
    own = space_of(space)
    return ArchitectureRecord(own, own.validate(Architecture.parse(*choices), "from the flags"), {}).at_its_size


def trained_architecture(params: str, space: SpaceOptions) -> ArchitectureRecord:
    """The architecture of the subnet's run that a parameter file lies in; flags of the space must not contradict it.

    Raises: InputError also if the file lies in no run of a subnet.
    """
    use_blocks(space)
    run = run_folder(params)
    described = read_json(run / CONFIG_FILE).get("architecture") if run else None
    if not described:
        raise InputError(f"{params} does not lie in the run of a subnet, which would say its --architecture; give it")
    source = f"the run of {params}"
    return _checked(parse_architecture(described, source), space, source)


def _checked(record: ArchitectureRecord, space: SpaceOptions, source: str) -> ArchitectureRecord:
    for name in ("use_se", "last_conv_after_pooling", "width_multiple"):
        if getattr(space, name) not in (getattr(SpaceOptions(), name), getattr(record.space, name)):
            raise InputError(f"--{name.replace('_', '-')} contradicts architecture '{source}'")
    if space.space and space_of(space).fingerprint != record.space.fingerprint:
        raise InputError(f"--space {space.space} contradicts architecture '{source}' ({record.space.layout})")
    if space.channels_layout not in (SpaceOptions().channels_layout, record.space.layout):
        raise InputError(
            f"--channels-layout {space.channels_layout} contradicts architecture '{source}' ({record.space.layout})"
        )
    return record


@dataclass(frozen=True)
class BlocksOptions:
    """Kinds of blocks of one's own, for whatever reads a space that has them."""

    blocks: str = flag("", "Python file that registers kinds of blocks; it is run: give none that you do not trust")


@dataclass(frozen=True)
class SpaceOptions(BlocksOptions):
    """Which search space."""

    space: str = flag("", f"space file (JSON), or one that ships: {', '.join(shipped_spaces())}")
    channels_layout: str = flag("OneShot", "a published space by its short name", choices=LAYOUTS)
    use_se: bool = flag(False, "squeeze-and-excite and hard-swish")
    last_conv_after_pooling: bool = flag(False, "the head of MobileNetV3")
    ignore_first_two_cs: bool = flag(False, "leave out the two narrowest channel choices")
    width_multiple: int = flag(
        1, "round middle widths up to a multiple of this (1: published widths; 8 or 16: fast kernels)", type=positive
    )
    strides: str = flag("", "stride plan: stem, then each stage, e.g. 2,2,2,2,2 (empty: by input size)")


@dataclass(frozen=True)
class ArchitectureOptions:
    """One architecture: by name, by file, or by its choices."""

    architecture: str = flag("", "published name or architecture file (JSON)")
    block_choices: str = flag("", "block choices like '0, 0, 3, ...', with --channel-choices")
    channel_choices: str = flag("", "channel choices like '6, 5, 3, ...'")


@dataclass(frozen=True)
class ComparisonOptions:
    """What costs are compared with."""

    comparison_model: str = flag(
        DEFAULT_COMPARISON_MODEL, "network that ratios are relative to", choices=tuple(COMPARISON_MODELS)
    )


def space_of_run(run: RunDirectory) -> Optional[SearchSpace]:
    """None for a network of the zoo. Raises InputError if it is malformed."""
    return described_space(run.config, str(run.path / CONFIG_FILE)) if run.config.get("space") else None


def options_of(space: SearchSpace, input_size: int) -> Optional[SpaceOptions]:
    """The flags that mean a space for images of a size, the inverse of `space_of` and `fit`; None if no flags do.

    A space made for another size leaves the stride plan to the images, as flags without `--strides` do.
    """
    is_layout = space.layout in LAYOUTS
    if not is_layout and space.layout.lower() not in shipped_spaces():
        return None
    base = load_space(space.layout.lower())
    options = SpaceOptions(
        space="" if is_layout else space.layout.lower(),
        channels_layout=space.layout if is_layout else SpaceOptions().channels_layout,
        use_se=space.use_se and not base.use_se,
        last_conv_after_pooling=space.last_conv_after_pooling and base.head is None,
        ignore_first_two_cs=space.min_channel_choice == STABLE_CHANNEL_CHOICE < base.num_channel_choices,
        width_multiple=space.width_multiple,
        strides=strides_for(space, input_size),
    )
    meant = space_of(options)
    names = [item.name for item in fields(space) if item.name not in ("input_size", "num_classes", "strides")]
    return options if all(getattr(space, name) == getattr(meant, name) for name in names) else None


def strides_for(space: SearchSpace, input_size: int) -> str:
    """`--strides` that keep the stride plan of a space for images of a size; none if that follows from the space."""
    made_for = space.input_size == input_size and not space.fixed_strides
    return format_choices(space.strides) if made_for else ""
