"""Flags of the space and of an architecture in it, and what they mean without any data."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Dict, Optional

from spos.core.errors import InputError
from spos.core.flags import flag, positive
from spos.runs.files import read_json
from spos.runs.run import CONFIG_FILE, RunDirectory, run_folder
from spos.space.architecture import Architecture, format_choices, parse_choices
from spos.space.architecture_file import ArchitectureRecord, load_architecture, parse_architecture
from spos.space.blocks import load_blocks
from spos.space.cost import COMPARISON_MODELS, DEFAULT_COMPARISON_MODEL
from spos.space.layers import stride_plan
from spos.space.space import STABLE_CHANNEL_CHOICE, SearchSpace
from spos.space.space_file import LAYOUTS, load_space, search_space, shipped_spaces


def space_of(options: SpaceOptions) -> SearchSpace:
    """The search space of the flags at its own input size and classes; those of ImageNet, for a layout.

    Raises: InputError also if flags contradict a space file.
    """
    use_blocks(options)
    if not options.space:
        base = search_space(options.channels_layout)
    elif options.channels_layout != SpaceOptions().channels_layout:
        raise InputError("--space and --channels-layout both name a space; give one")
    else:
        base = load_space(options.space)
    changes: Dict[str, Any] = {}
    if options.use_se:
        changes["use_se"] = True
    if options.last_conv_after_pooling:
        if base.head is not None:
            raise InputError(f"--last-conv-after-pooling: the head is decided by the space file {options.space}")
        changes["last_conv_after_pooling"] = True
    if options.width_multiple != SpaceOptions().width_multiple:
        changes["width_multiple"] = options.width_multiple
    if options.ignore_first_two_cs:
        changes["min_channel_choice"] = STABLE_CHANNEL_CHOICE
    return replace(base, **changes)


def use_blocks(options: SpaceOptions) -> None:
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
    if options.strides:
        changes.update(strides=parse_choices(options.strides, "--strides"))
    return replace(space, **changes)


def named_architecture(options: ArchitectureOptions, space: SpaceOptions) -> Optional[ArchitectureRecord]:
    """The architecture that the flags name, or None if they name none.

    A file or a published name brings its own space; flags of the space must not contradict it. Where the input size was
    a choice, the space is that of the one chosen.
    """
    record = _named_record(options, space)
    return record.at_its_size if record else None


def chosen_input_size(space: SpaceOptions, options: Optional[ArchitectureOptions] = None) -> Optional[int]:
    """Where the input size is a choice, what images are loaded at: the one chosen, or the largest; else None."""
    record = _named_record(options or ArchitectureOptions(), space)
    if record:
        return record.architecture.input_size
    own = space_of(space)
    return own.input_size if own.input_sizes else None


def _named_record(options: ArchitectureOptions, space: SpaceOptions) -> Optional[ArchitectureRecord]:
    use_blocks(space)
    choices = (options.block_choices, options.channel_choices)
    if options.architecture:
        if any(choices):
            raise InputError("give either --architecture or --block-choices with --channel-choices, not both")
        return _checked(load_architecture(options.architecture), space, options.architecture)
    if not any(choices):
        return None
    if not all(choices):
        raise InputError("--block-choices and --channel-choices must be given together")
    own = space_of(space)
    return ArchitectureRecord(own, own.validate(Architecture.parse(*choices), "from the flags"), {})


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
    if space.space and load_space(space.space).fingerprint != record.space.fingerprint:
        raise InputError(f"--space {space.space} contradicts architecture '{source}' ({record.space.layout})")
    if space.channels_layout not in (SpaceOptions().channels_layout, record.space.layout):
        raise InputError(
            f"--channels-layout {space.channels_layout} contradicts architecture '{source}' ({record.space.layout})"
        )
    return record


@dataclass(frozen=True)
class SpaceOptions:
    """Which search space."""

    space: str = flag("", f"space file (JSON), or one that ships: {', '.join(shipped_spaces())}")
    blocks: str = flag("", "Python file that registers kinds of blocks; it is run: give none that you do not trust")
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
    described = run.config.get("space")
    return SearchSpace.from_json(described, source=str(run.path / CONFIG_FILE)) if described else None


def options_of(space: SearchSpace, input_size: int) -> SpaceOptions:
    """The flags that mean a space for images of a size: the inverse of `space_of` and `fit`.

    A space made for another size leaves the stride plan to the images, as flags without `--strides` do.

    Raises: InputError if no flags mean it, naming what differs.
    """
    is_layout = space.layout in LAYOUTS
    options = SpaceOptions(
        space="" if is_layout else space.layout,
        channels_layout=space.layout if is_layout else SpaceOptions().channels_layout,
        use_se=space.use_se and is_layout,
        last_conv_after_pooling=space.last_conv_after_pooling,
        ignore_first_two_cs=space.min_channel_choice == STABLE_CHANNEL_CHOICE,
        width_multiple=space.width_multiple,
        strides=format_choices(space.strides) if space.input_size == input_size and is_layout else "",
    )
    meant = space_of(options)
    names = [item.name for item in fields(space) if item.name not in ("input_size", "num_classes", "strides")]
    differing = [name for name in names if getattr(space, name) != getattr(meant, name)]
    if differing:
        raise InputError(f"no flags mean this space, whose {' and '.join(differing)} cannot be chosen; use a file")
    return options
