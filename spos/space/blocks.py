"""Kinds of choice blocks: a registry of descriptions, from which everything else about a block follows.

A kind is one function that gives the layers of a block for a place in a network. Network, counts, sampling, slicing,
latency tables, merging of BatchNorm, quantization, export and reports read what it gives, and never ask for its name.
`register_block` adds one; `load_blocks` runs a file of one's own that does.
"""

from __future__ import annotations

import inspect
import runpy
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple, Type, Union

import msgspec
from typing_extensions import get_type_hints

from spos.core.errors import InputError, printable
from spos.runs.files import file_digest, shortened, with_value
from spos.space.layers import (
    Conv,
    Specs,
    fold_batch_norm,
    round_up,
)


@dataclass(frozen=True)
class ChoiceBlockGeometry:
    """Where a choice block stands, which is the same for all of its choices, and which width is chosen."""

    index: int
    stage: int
    in_channels: int
    out_channels: int
    stride: int
    projects: bool  # first block of its stage: it changes resolution and channels
    use_se: bool
    act: str
    in_size: int  # height and width of its input for the space's input_size
    scale: float = 1.0  # what the channel choice makes of the middle width
    width_multiple: int = 1  # middle widths are rounded up to this; 1 keeps the published truncation
    pad_to: int = 1  # and then, at execution, to this

    @property
    def keeps_shape(self) -> bool:
        """Whether what comes out has the shape of what goes in."""
        return self.stride == 1 and self.in_channels == self.out_channels

    def width(self, channels: int) -> int:
        """The middle width of a block whose middle has `channels` at scale 1: the one width rule of every space."""
        return round_up(round_up(int(channels * self.scale), self.width_multiple), self.pad_to)


@dataclass(frozen=True)
class Wiring:
    """How the branches of a block are joined.

    Args:
        splits: a block without a projection shuffles its channels, passes one half by and gives the main branch the
            other (ShuffleNetV2, arXiv:1807.11164). The result is what passed by, or the projection, and behind it the
            main branch.
        adds: the result is the input, or its projection, plus the main branch (ResNet, arXiv:1512.03385).
    """

    splits: bool = False
    adds: bool = False


WIRINGS: Mapping[str, Wiring] = {
    "shuffle": Wiring(splits=True),
    "residual": Wiring(adds=True),
    "chain": Wiring(),
}


@dataclass(frozen=True)
class BlockLayers:
    """The layers of a choice block.

    Args:
        wiring: a key of WIRINGS.
        main: the branch whose middle the channel choice cuts: convolutions that have `selects`.
        projection: the branch beside it, if there is one.
        act: activation behind a sum.
        drop_rate: share of the images that training leaves the main branch out for, where there is a sum; what is left
            is divided by the rest, 1 - drop_rate (`with_stochastic_depth`).
    """

    wiring: str
    main: Specs = ()
    projection: Specs = ()
    act: Optional[str] = None
    drop_rate: float = 0.0

    @property
    def branches(self) -> Tuple[Tuple[str, Specs], ...]:
        """The two branches by their attributes in the network, which `.params` files name."""
        return ("main_branch", self.main), ("proj_branch", self.projection)

    def without_bn(self) -> BlockLayers:
        """The same with a bias in place of each BatchNorm."""
        return replace(self, main=fold_batch_norm(self.main), projection=fold_batch_norm(self.projection))

    @property
    def adds(self) -> bool:
        """Whether the main branch is added to what came in, or to its projection."""
        return WIRINGS[self.wiring].adds

    def with_stochastic_depth(self, rate: float, index: int, num_blocks: int) -> BlockLayers:
        """The same as choice block `index` of `num_blocks` in training with stochastic depth (arXiv:1603.09382).

        The drop rate grows linearly to `rate` at the last choice block. Blocks without a sum have nothing to leave out.
        """
        return replace(self, drop_rate=rate * (index + 1) / num_blocks) if self.adds else self

    @property
    def shuffles(self) -> bool:
        """Whether channels are shuffled, and half of them pass by."""
        return WIRINGS[self.wiring].splits and not self.projection

    @property
    def middle(self) -> int:
        """The width that the channel choice cuts; 0 if there is none."""
        return max((spec.out_channels for spec in self.main if isinstance(spec, Conv) and spec.selects), default=0)


@dataclass(frozen=True)
class Kind:
    """An entry of the registry.

    Args:
        describe: (geometry, options by name) -> layers.
        options: their names, types, ranges and defaults, from the signature of `describe`.
        is_own: whether it is a user's, not the project's.
        file: what `load_blocks` has read it from; empty for the project's, and those that a script registers.
    """

    name: str
    describe: Callable[..., BlockLayers]
    options: Type[msgspec.Struct]
    is_own: bool = False
    file: str = ""


KINDS: Dict[str, Kind] = {}
_PROJECT = "spos.space.kinds"  # whose kinds are the project's
_loading = [""]  # the file whose blocks are registered just now, last
_loaded: Dict[str, str] = {}  # the digest of each file that was run


def register_block(name: str) -> Callable[[Callable[..., BlockLayers]], Callable[..., BlockLayers]]:
    """Make `describe(geometry, *, option=default, ...) -> BlockLayers` the kind of blocks called `name`.

    Options are the keyword-only parameters. Their annotations are checked in space files; `Annotated` with a
    `msgspec.Meta` gives a range, `Literal` the values that are allowed.

    A kind cannot change while a program runs, for what was described is kept.

    Raises: InputError if the name is taken, or if an option has no annotation.
    """

    def add(describe: Callable[..., BlockLayers]) -> Callable[..., BlockLayers]:
        if name in KINDS:
            if KINDS[name].describe.__code__ == describe.__code__:  # the same once more, as notebooks do
                return describe
            raise InputError(f"a kind of blocks is called '{name}' already; known: {', '.join(KINDS)}")
        KINDS[name] = Kind(name, describe, _options_of(name, describe), describe.__module__ != _PROJECT, _loading[-1])
        return describe

    return add


def _options_of(name: str, describe: Callable[..., BlockLayers]) -> Type[msgspec.Struct]:
    """The keyword-only parameters of a description, as a type that values are checked by."""
    hints, fields = get_type_hints(describe, include_extras=True), []
    for parameter in list(inspect.signature(describe).parameters.values())[1:]:
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name not in hints:
            raise InputError(f"block '{name}': '{parameter.name}' must be keyword-only, with an annotation")
        default = () if parameter.default is parameter.empty else (parameter.default,)
        fields.append((parameter.name, hints[parameter.name], *default))
    return msgspec.defstruct(f"{name}_options", fields, kw_only=True, forbid_unknown_fields=True)


def load_blocks(path: Union[str, Path]) -> None:
    """Run a Python file of the user's that registers kinds of blocks, once. It can do whatever the user can.

    Raises: InputError if there is no such file, if it fails, if it registers nothing, or if it has changed since this
        program ran it.
    """
    source, shown = str(Path(path).resolve()), f"--blocks {printable(str(path))}"
    if not Path(path).is_file():
        raise InputError(f"{shown}: no such file")
    digest = file_digest(source)
    if _loaded.setdefault(source, digest) != digest:
        raise InputError(f"{shown} has changed since this program ran it; start the program again")
    if any(kind.file == source for kind in KINDS.values()):
        return
    _loading.append(source)
    try:
        runpy.run_path(source)
    except (Exception, SystemExit) as error:  # whatever the user's code raises is the user's to read
        _forget(source)
        where = _line_in(source, error)
        raise InputError(f"{shown}{where}: {type(error).__name__}: {error}") from error
    finally:
        _loading.pop()
    if not any(kind.file == source for kind in KINDS.values()):
        raise InputError(f"{shown} registers no kind of blocks by spos.register_block")


def _forget(source: str) -> None:
    """Take back what a file has registered before it failed."""
    del _loaded[source]
    for name in [name for name, kind in KINDS.items() if kind.file == source]:
        del KINDS[name]


def _line_in(source: str, error: BaseException) -> str:
    """Where a file has gone wrong, if an error tells."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source]
    return f", line {lines[-1]}" if lines else ""


def any_own(kinds: Iterable[BlockKind]) -> bool:
    """Whether some of these blocks are of the user's."""
    return any(KINDS[kind.family].is_own for kind in kinds)


def block_files(kinds: Iterable[BlockKind]) -> Tuple[str, ...]:
    """The files of the user's that describe some of these blocks: what another process has to run as well."""
    return tuple(sorted({KINDS[kind.family].file for kind in kinds} - {""}))


Options = Tuple[Tuple[str, Any], ...]


@dataclass(frozen=True)
class BlockKind:
    """One entry of the block choice: a kind of blocks with its options.

    Args:
        attribute: names it inside `.params` files, so it is a file format.
        family: a key of KINDS.
        options: given by name; those that are left out get their defaults.
    Raises: InputError for an unknown kind, or options that it does not have.
    """

    name: str
    attribute: str
    family: str
    options: Options = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _complete(self.family, dict(self.options)))

    @property
    def kernel_size(self) -> Optional[int]:
        """Of its widest kernel, where it is an option."""
        return dict(self.options).get("kernel_size")

    def describe(self, block: ChoiceBlockGeometry) -> BlockLayers:
        """The layers of this choice in a place. Raises InputError if it does not fit there."""
        kind = find_kind(self.family)
        try:
            return kind.describe(block, **dict(self.options))
        except Exception as error:
            if isinstance(error, InputError) or not kind.is_own:
                raise
            where = _line_in(kind.describe.__code__.co_filename, error)
            raise InputError(f"fails in its own code{where}: {type(error).__name__}: {error}") from error

    def to_json(self) -> Dict[str, Any]:
        return {"name": self.name, "attribute": self.attribute, "family": self.family, **dict(self.options)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BlockKind:
        own = {name: values[name] for name in ("name", "attribute", "family")}
        return cls(**own, options=tuple((name, value) for name, value in values.items() if name not in own))


def _complete(family: str, given: Mapping[str, Any]) -> Options:
    """All options of a kind, checked, in the order of its signature."""
    kind = find_kind(family)
    try:
        options = msgspec.convert(given, kind.options)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.options.__struct_fields__) or "none"
        said = shortened(with_value(error, dict(given)))
        raise InputError(f"block of kind '{family}': {said}; its options are {known}") from None
    return tuple((name, getattr(options, name)) for name in kind.options.__struct_fields__)


def find_kind(family: Any) -> Kind:
    """Raises InputError that lists the kinds, if there is none of this name."""
    if not isinstance(family, str) or family not in KINDS:
        name = printable(shortened(repr(family)))
        raise InputError(
            f"no kind of blocks is called {name}; known: {', '.join(KINDS)}. If it is your own, give the file that "
            "registers it by --blocks: no space, run or architecture makes a program run one"
        )
    return KINDS[family]
