"""Supernet and subnet of Single Path One-Shot NAS, and the factory that people use.

A `Supernet` holds every block choice at full width and runs one `Architecture` at a time; a `Subnet` is one
architecture as a plain `HybridBlock`, one `hybridize()` and `export()` away from deployment.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from oneshot_nas_blocks import Block, build_block, build_layers
from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.forms import EXECUTIONS
from spos.engine.slicing import leading_corner
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.layers import Specs, with_bn
from spos.space.names import block_position, block_prefix, parameter_shapes
from spos.space.space import STABLE_CHANNEL_CHOICE, SearchSpace

nn = mx.gluon.nn
Shape = Tuple[int, ...]
IMAGENET_SIZE = 224


class Subnet(mx.gluon.HybridBlock):
    """The network of one architecture. (N, 3, H, W) -> (N, num_classes); any H and W above the total stride.

    Args:
        bn: False for the network after its BatchNorm layers were merged into convolutions (`spos.deploy.subnet`).
        shuffle: form of the channel shuffles, one of `oneshot_nas_blocks.SHUFFLES`; the same function.
        stochastic_depth: in training, the drop rate of the last choice block (`BlockLayers.with_stochastic_depth`).

    Attributes:
        space, architecture: where the input size is a choice, those of the size that was chosen.
    """

    def __init__(
        self,
        space: SearchSpace,
        architecture: Architecture,
        bn: bool = True,
        shuffle: str = "reshape",
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.bn = bn
        self.stochastic_depth = stochastic_depth
        architecture = space.validate(architecture)
        self.space = space = space.at(architecture.input_size)
        self.architecture = architecture = space.canonical(architecture)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            _add(self.features, with_bn(layer_specs.stem(space), bn))
            for block, b, c in zip(space.choice_blocks, architecture.block_choices, architecture.channel_choices):
                described = space.block_layers(block.index, b, c)
                described = described if bn else described.without_bn()
                described = described.with_stochastic_depth(stochastic_depth, block.index, space.num_choice_blocks)
                self.features.add(build_block(block.in_channels, described, shuffle))
            _add(self.features, with_bn(layer_specs.head(space), bn))
            self.output = nn.HybridSequential(prefix="")
            _add(self.output, layer_specs.classifier(space))
            self.output.add(nn.Flatten())

    def hybrid_forward(self, F, x):
        return self.output(self.features(x))

    def _initialize(self, force_reinit: bool = True, ctx: Any = None, dtype: str = "float32") -> None:
        _initialize(self, force_reinit, ctx, dtype)


class ChoiceBlock(mx.gluon.Block):
    """All choices of one choice block, each under the attribute that its `BlockKind` names."""

    def __init__(self, space: SearchSpace, index: int, shuffle: str = "reshape") -> None:
        super().__init__()
        self._space = space
        self._index = index
        self._masks: Dict[Tuple[mx.Context, str, int, int], object] = {}
        block, choices = space.choice_blocks[index], space.choices[index]
        self._widest = len(choices.channel_scales) - 1
        self._choices: List[Block] = []
        with self.name_scope():
            for b, kind in enumerate(choices.blocks):
                choice = build_block(block.in_channels, space.block_layers(index, b, self._widest), shuffle)
                setattr(self, kind.attribute, choice)
                self._choices.append(choice)

    def forward(self, x, block_choice: Optional[int], channel_choice: int, execution: str):
        """Run one block choice at one width; with `block_choice` None the mean of all of them."""
        if block_choice is None:
            outputs = [self(x, b, channel_choice, execution) for b in range(len(self._choices))]
            return mx.nd.add_n(*outputs) / len(outputs)
        choice = self._choices[block_choice]
        described = self._space.block_layers(self._index, block_choice, channel_choice)
        if not described.middle or (execution == "slice" and channel_choice == self._widest):
            return choice(x)
        if execution == "mask":
            return choice(x, self._mask(x, block_choice, channel_choice))
        return choice.run_sliced(x, described.main)

    def _mask(self, x, block_choice: int, channel_choice: int):
        widths = (self._space.block_layers(self._index, block_choice, c).middle for c in (channel_choice, self._widest))
        selected, width = widths
        key = (x.context, str(x.dtype), selected, width)
        if key not in self._masks:
            ones = mx.nd.arange(width, ctx=x.context) < selected
            self._masks[key] = ones.reshape((1, width, 1, 1)).astype(x.dtype)
        return self._masks[key]


class Supernet(mx.gluon.Block):
    """Every block choice of every choice block at full width; `net(x, architecture)` runs one path.

    BatchNorm layers outside the choice blocks normalise without a trained gamma and beta, as all of them do in the
    paper's own supernet. The supernet is a plain `Block`, because a hybridized parent would freeze the first path it
    saw; `hybridize()` reaches the stem, the head and the branches.

    Args:
        execution: how a narrower width is run. `'slice'` computes the selected channels only; `'mask'` computes all
            and zeroes the others. Logits in inference and gradients of selected weights are the same.
        use_all_blocks: run the mean of all block choices instead of the chosen one.
        shuffle: as of `Subnet`.
    """

    def __init__(
        self,
        space: SearchSpace,
        execution: str = "slice",
        use_all_blocks: bool = False,
        shuffle: str = "reshape",
    ) -> None:
        super().__init__()
        if execution not in EXECUTIONS:
            raise InputError(f"unknown supernet execution '{execution}'; known: {', '.join(EXECUTIONS)}")
        self.space = space
        self.execution = execution
        self.use_all_blocks = use_all_blocks
        self.shuffle = shuffle
        with self.name_scope():
            self.features = nn.Sequential(prefix="")
            _add(self.features, layer_specs.stem(space))
            self._first_choice_block = len(self.features)
            for index in range(space.num_choice_blocks):
                self.features.add(ChoiceBlock(space, index, shuffle))
            _add(self.features, layer_specs.head(space))
            self.output = nn.HybridSequential(prefix="")
            _add(self.output, layer_specs.classifier(space))
            self.output.add(nn.Flatten())
        self._parameters_by_name = self._collect_params_with_prefix()
        for own, _, _ in _fixed_parameters(space):
            if own.endswith(("gamma", "beta")):
                self._parameters_by_name[own].grad_req = "null"

    def forward(self, x, architecture, channel_mask=None):
        """Logits (N, num_classes) of one path.

        Args:
            architecture: an `Architecture`; with a `channel_mask` its block choices, as `random_block_choices` gives
                them. Both arrays are read, which waits for the device.
        """
        if channel_mask is not None:
            architecture = self.read_choices(architecture, channel_mask)
        for position, layer in enumerate(self.features):
            index = position - self._first_choice_block
            if 0 <= index < self.space.num_choice_blocks:
                block_choice = None if self.use_all_blocks else architecture.block_choices[index]
                x = layer(x, block_choice, architecture.channel_choices[index], self.execution)
            else:
                x = layer(x)
        return self.output(x)

    def _initialize(self, force_reinit: bool = True, ctx: Any = None, dtype: str = "float32") -> None:
        _initialize(self, force_reinit, ctx, dtype)

    def random_block_choices(
        self,
        select_predefined_block: bool = False,
        dtype: str = "float32",
        return_choice_list: bool = False,
        rng: Optional[np.random.Generator] = None,
    ):
        """Block choices as an array, drawn uniformly or those of OneShot; and as a list with `return_choice_list`.

        Args:
            rng: of the draw; by default one that `random.seed` decides on.
        """
        if select_predefined_block:
            from spos.space.architecture_file import load_architecture  # files, which nothing else here needs

            choices = load_architecture("oneshot").architecture.block_choices
        else:
            choices = self.space.sample(rng or _generator()).block_choices
        array = mx.nd.array(choices, dtype=dtype)
        return (array, list(choices)) if return_choice_list else array

    def random_channel_mask(
        self,
        select_all_channels: bool = False,
        dtype: str = "float32",
        epoch_after_cs: Optional[int] = None,
        ignore_first_two_cs: bool = False,
        rng: Optional[np.random.Generator] = None,
    ) -> Tuple[Any, List[int]]:
        """(a row of ones and zeros for each choice block, the channel choices), drawn uniformly.

        Args:
            select_all_channels: every width is the maximum.
            epoch_after_cs: epochs since the warm-up of channel selection has begun; None when it is over.
            ignore_first_two_cs: leave out the two narrowest.    rng: as for `random_block_choices`.
        """
        from spos.sampling.warm_up import warm_up_lowest_choice  # of training, which nothing else here needs

        space = self.space
        if ignore_first_two_cs:
            space = replace(space, min_channel_choice=STABLE_CHANNEL_CHOICE)
        lowest = space.min_channel_choice if epoch_after_cs is None else warm_up_lowest_choice(space, epoch_after_cs)
        if select_all_channels:
            lowest = space.max_channel_choice
        choices = space.sample(rng or _generator(), lowest).channel_choices
        widths = [space.mid_channels(index, choice) for index, choice in enumerate(choices)]
        return mx.nd.array(np.arange(max(map(max, self._widths))) < np.array(widths)[:, None], dtype=dtype), list(
            choices
        )

    def read_choices(self, block_choices: Any, channel_mask: Any) -> Architecture:
        """The architecture that arrays of block choices and of a channel mask mean.

        Raises: InputError if a row does not begin with as many ones as some channel choice has channels, and end with
            zeros.
        """
        mask = np.asarray(channel_mask.asnumpy() if hasattr(channel_mask, "asnumpy") else channel_mask)
        blocks = block_choices.asnumpy() if hasattr(block_choices, "asnumpy") else block_choices
        if mask.ndim != 2 or len(mask) != self.space.num_choice_blocks:
            raise InputError(f"a channel mask has {self.space.num_choice_blocks} rows, not the shape {mask.shape}")
        channels = []
        for index, (row, widths) in enumerate(zip(mask, self._widths)):
            width = int(np.count_nonzero(row[: widths[-1]]))
            if width not in widths or not np.array_equal(row[: widths[-1]], np.arange(len(row))[: widths[-1]] < width):
                raise InputError(
                    f"the channel mask of choice block {index} must begin with as many ones as a channel choice has "
                    f"channels ({', '.join(map(str, widths))}) and go on with zeros"
                )
            channels.append(widths.index(width))
        return self.space.validate(Architecture(tuple(map(int, blocks)), tuple(channels)), "arrays")

    @property
    def _widths(self) -> List[List[int]]:
        """Widths of every channel choice of every choice block."""
        space = self.space
        return [
            [space.mid_channels(index, choice) for choice in range(space.num_channel_choices)]
            for index in range(space.num_choice_blocks)
        ]

    def corner(self, name: str, shape: Shape, ctx: mx.Context):
        """The leading corner of a parameter or statistic, float32. Read only: it may be the parameter itself."""
        value = self._parameters_by_name[name].data(ctx)
        return leading_corner(value, shape).astype("float32", copy=False)

    def selected_parameters(self, architecture: Architecture) -> List[Tuple[mx.gluon.Parameter, Shape]]:
        """What one path trains: each parameter with the shape of the leading corner that the path uses.

        Running statistics are not among them.
        """
        names = [
            (self._parameters_by_name[own], shape) for own, _, shape in self._path(architecture, self.use_all_blocks)
        ]
        return [(parameter, shape) for parameter, shape in names if parameter.grad_req != "null"]

    def extract(
        self,
        architecture: Architecture,
        ctx: Union[mx.Context, Sequence[mx.Context], None] = None,
        grad_req: str = "null",
    ) -> Subnet:
        """A subnet with copies of the selected weights and running statistics; this network is not changed.

        Args:
            grad_req: `'write'` for a subnet that is to be trained; the default saves the memory of its gradients.
        Raises: InputError if the architecture is not of this space.
        """
        subnet = Subnet(self.space, architecture, shuffle=self.shuffle)
        ctx = ctx or mx.cpu()
        values = {theirs: (own, shape) for own, theirs, shape in self._path(architecture, use_all_blocks=False)}
        for name, parameter in subnet._collect_params_with_prefix().items():
            if isinstance(parameter, mx.gluon.Constant):
                parameter.initialize(ctx=ctx)
                continue
            if parameter.grad_req != "null":
                parameter.grad_req = grad_req
            own, shape = values[name]
            value = self.corner(own, shape, self._parameters_by_name[own].list_ctx()[0])
            parameter._load_init(value, ctx)  # as Gluon's load_parameters does, without computing initial values
        return subnet

    def _path(self, architecture: Architecture, use_all_blocks: bool) -> List[Tuple[str, str, Shape]]:
        """(name here, name in the subnet, selected shape) of everything that a path uses."""
        space = self.space
        rows = list(_fixed_parameters(space))
        for index, (b, c) in enumerate(zip(architecture.block_choices, architecture.channel_choices)):
            for choice in range(len(space.choices[index].blocks)) if use_all_blocks else (b,):
                own, theirs = block_prefix(space, index, choice), f"features.{block_position(space, index)}."
                rows += [
                    (own + name, theirs + name, shape) for name, shape in _block_parameters(space, index, choice, c)
                ]
        return rows


@lru_cache(maxsize=4096)
def _block_parameters(space: SearchSpace, index: int, block_choice: int, channel_choice: int):
    branches = space.block_layers(index, block_choice, channel_choice).branches
    return [
        (f"{branch}.{name}", shape) for branch, specs in branches for name, shape in parameter_shapes(specs).items()
    ]


@lru_cache(maxsize=16)
def _fixed_parameters(space: SearchSpace):
    """(name, name, shape) of stem, head and classifier, which every path uses whole."""
    parts = (
        ("features", parameter_shapes(layer_specs.stem(space))),
        ("features", parameter_shapes(layer_specs.head(space), block_position(space, space.num_choice_blocks))),
        ("output", parameter_shapes(layer_specs.classifier(space))),
    )
    return [(f"{part}.{name}",) * 2 + (shape,) for part, shapes in parts for name, shape in shapes.items()]


def _add(chain: Union[mx.gluon.nn.Sequential, mx.gluon.nn.HybridSequential], specs: Specs) -> None:
    for spec in specs:
        chain.add(*build_layers(spec))


def _initialize(net: mx.gluon.Block, force_reinit: bool, ctx: Any, dtype: str) -> None:
    """Initial values, which every layer has its own of; then a precision."""
    net.initialize(mx.init.Uniform(), ctx=ctx, force_reinit=force_reinit)
    if dtype != "float32":
        net.cast(dtype)


def _generator() -> np.random.Generator:
    return np.random.default_rng(random.getrandbits(64))


class ShuffleNasOneShot(Supernet):
    """A supernet by the original project's name and arguments (docs/from-the-original.md)."""

    def __init__(
        self,
        input_size: int = IMAGENET_SIZE,
        n_class: int = 1000,
        use_all_blocks: bool = False,
        use_se: bool = False,
        last_conv_after_pooling: bool = False,
        channels_layout: str = "OneShot",
    ) -> None:
        space = _space(input_size, n_class, use_se, last_conv_after_pooling, channels_layout)
        super().__init__(space, use_all_blocks=use_all_blocks)


class ShuffleNasOneShotFix(Subnet):
    """A subnet by the original project's name and arguments; `channel_scales` are 0.2, 0.4 .. 2.0."""

    def __init__(
        self,
        input_size: int = IMAGENET_SIZE,
        n_class: int = 1000,
        architecture: Sequence[int] = (),
        channel_scales: Sequence[float] = (),
        use_se: bool = False,
        last_conv_after_pooling: bool = False,
        channels_layout: str = "OneShot",
    ) -> None:
        space = _space(input_size, n_class, use_se, last_conv_after_pooling, channels_layout)
        unknown = sorted(set(channel_scales) - set(space.channel_scales))
        if unknown:
            raise InputError(f"channel scale {unknown[0]} is none of {', '.join(map(str, space.channel_scales))}")
        channels = tuple(space.channel_scales.index(scale) for scale in channel_scales)
        super().__init__(space, Architecture(tuple(architecture), channels))


def _space(input_size: int, n_class: int, use_se: bool, last_conv_after_pooling: bool, layout: str) -> SearchSpace:
    from spos.space.space_file import search_space  # files, which nothing else here needs

    return search_space(
        layout,
        input_size=input_size,
        num_classes=n_class,
        use_se=use_se,
        last_conv_after_pooling=last_conv_after_pooling,
    )


def get_shufflenas_oneshot(
    architecture: Optional[Sequence[int]] = None,
    scale_ids: Optional[Sequence[int]] = None,
    use_all_blocks: bool = False,
    n_class: int = 1000,
    use_se: bool = False,
    last_conv_after_pooling: bool = False,
    shuffle_by_conv: bool = False,
    channels_layout: str = "OneShot",
) -> Union[Supernet, Subnet]:
    """A supernet without choices, a subnet with both block choices (`architecture`) and channel choices (`scale_ids`).

    Raises: InputError if only one of the two is given, or if they are not of the space.
    """
    space = _space(IMAGENET_SIZE, n_class, use_se, last_conv_after_pooling, channels_layout)
    shuffle = "conv" if shuffle_by_conv else "reshape"
    if architecture is None and scale_ids is None:
        return Supernet(space, use_all_blocks=use_all_blocks, shuffle=shuffle)
    if architecture is None or scale_ids is None:
        raise InputError("a subnet needs both architecture (block choices) and scale_ids (channel choices)")
    if use_all_blocks:
        raise InputError("use_all_blocks is for a supernet; a subnet has one block choice per choice block")
    return Subnet(space, Architecture(tuple(architecture), tuple(scale_ids)), shuffle=shuffle)


if __name__ == "__main__":
    print(
        "oneshot_nas_network.py is a module: `sh scripts/train_supernet.sh` trains its supernet, "
        "`python calculate_flops.py --supernet` counts it"
    )
