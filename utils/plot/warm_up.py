"""The figure of the channel warm-up: which widths are sampled in which epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Tuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spos.core.errors import InputError
from spos.core.flags import not_negative, positive
from spos.core.tables import table
from spos.sampling.warm_up import SamplingPolicy
from spos.space.flags import SpaceOptions, space_of
from spos.space.space import SearchSpace
from spos.space.space_file import LAYOUTS, shipped_spaces
from spos.training.flags import TrainOptions
from utils.plot.diagrams import span
from utils.plot.style import BLUE, DPI, GREY, ORANGE, FigureParser, save

FULL_WIDTH, CHANNEL_WARM_UP, ALL_WIDTHS = "full width", "channel warm-up", "all widths"
COLOURS = {FULL_WIDTH: GREY, CHANNEL_WARM_UP: ORANGE, ALL_WIDTHS: BLUE}
PUBLISHED_LAYOUTS = ("OneShot", "ShuffleNetV2+")
PUBLISHED_START = 60  # --epoch-start-cs of scripts/train_supernet.sh

Steps = List[Tuple[int, int, int]]  # (first epoch, epoch after the last, lowest channel choice), epochs from 0


def warm_up(argv: List[str]) -> int:
    """The widths that a supernet is trained at, epoch by epoch, with --cs-warm-up."""
    parser = FigureParser(warm_up.__doc__, (), "warm_up.png")
    parser.add_argument(
        "--channels-layout",
        action="append",
        choices=tuple(LAYOUTS),
        default=[],
        help=f"a published space; may be given again [{' and '.join(PUBLISHED_LAYOUTS)}]",
    )
    parser.add_argument(
        "--space",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help=f"space file, or one that ships: {', '.join(shipped_spaces())}; may be given again",
    )
    parser.add_argument("--blocks", default="", help="Python file that registers kinds of blocks; it is run")
    parser.add_argument("--num-epochs", type=positive, default=TrainOptions.num_epochs, help="epochs [%(default)s]")
    parser.add_argument(
        "--epoch-start-cs",
        type=not_negative,
        default=PUBLISHED_START,
        help="first epoch (from 0) of channel selection [%(default)s]",
    )
    parser.add_argument("--ignore-first-two-cs", action="store_true", help="leave out the two narrowest widths")
    args = parser.parse_args(argv)
    if args.epoch_start_cs >= args.num_epochs:
        raise InputError(
            f"--epoch-start-cs {args.epoch_start_cs} is not among the {args.num_epochs} epochs of --num-epochs"
        )
    layouts = args.channels_layout or (() if args.space else PUBLISHED_LAYOUTS)
    chosen = {f"layout {layout}": SpaceOptions(channels_layout=layout) for layout in layouts}
    chosen.update({f"space {name}": SpaceOptions(space=name, blocks=args.blocks) for name in args.space})
    policies = {
        name: policy_of(replace(options, ignore_first_two_cs=args.ignore_first_two_cs), args.epoch_start_cs)
        for name, options in chosen.items()
    }
    save(plot_warm_up(policies, args.num_epochs), args.output)
    print(
        table(
            [
                *((name.split(maxsplit=1)[1], text(policy, args.num_epochs)) for name, policy in policies.items()),
                ("figure", args.output),
            ]
        )
    )
    return 0


def policy_of(options: SpaceOptions, start: int) -> SamplingPolicy:
    return SamplingPolicy(space_of(options), start, cs_warm_up=True)


def scale_names(space: SearchSpace) -> List[str]:
    """The scales that each channel choice means, narrowest first; of blocks that differ, the least and the greatest.

    Choices are counted from the widest, so a block that has fewer of them has none of the narrowest.
    """
    lists = [
        choices.channel_scales
        for i, choices in enumerate(space.choices)
        if any(space.has_middle(i, b) for b in range(len(choices.blocks)))
    ]
    count, names = space.num_channel_choices, []
    for choice in range(count):
        own = sorted({scales[choice - count] for scales in lists if len(scales) >= count - choice})
        names.append(" to ".join(str(scale) for scale in dict.fromkeys(own[:1] + own[-1:])) or "none")
    return names


def steps_of(policy: SamplingPolicy, num_epochs: int) -> Steps:
    """Runs of epochs that sample the same widths."""
    steps: Steps = []
    for epoch in range(num_epochs):
        lowest = policy.lowest_channel_choice(epoch)
        if steps and steps[-1][2] == lowest:
            steps[-1] = (steps[-1][0], epoch + 1, lowest)
        else:
            steps.append((epoch, epoch + 1, lowest))
    return steps


def phase(policy: SamplingPolicy, step: Tuple[int, int, int]) -> str:
    if step[2] == policy.space.min_channel_choice:
        return ALL_WIDTHS
    return FULL_WIDTH if step[0] < policy.epoch_start_cs else CHANNEL_WARM_UP


def text(policy: SamplingPolicy, num_epochs: int) -> str:
    """One line: from which scale on in which epochs, counted from 1."""
    scales = scale_names(policy.space)
    return ", ".join(
        f"{scales[lowest]} in epoch {first + 1}" if last == first + 1 else f"{scales[lowest]} in {first + 1} to {last}"
        for first, last, lowest in steps_of(policy, num_epochs)
    )


def plot_warm_up(policies: Dict[str, SamplingPolicy], num_epochs: int) -> Figure:
    """A panel for every space, by name; an epoch is a bar from the narrowest width that is sampled to the widest."""
    figure = Figure(figsize=(9, 0.9 + 2.2 * len(policies)), dpi=DPI)
    panels = figure.subplots(len(policies), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, policy) in zip(panels, policies.items()):
        draw_schedule(axes, policy, num_epochs)
        axes.set_title(name, fontsize=10, loc="left")
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].set_xlim(0.5, num_epochs + 0.5)
    handles: Dict[str, Any] = {}
    for axes in panels:
        handles.update({label: handle for handle, label in zip(*axes.get_legend_handles_labels())})
    figure.legend(handles.values(), handles, loc="lower center", ncol=len(handles), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.25 / figure.get_figheight(), 1, 1))
    return figure


def draw_schedule(axes: Any, policy: SamplingPolicy, num_epochs: int) -> None:
    """Bars, and left of the narrowest width of each step the epochs in which it is the narrowest."""
    space = policy.space
    lower, upper = space.min_channel_choice - 0.5, space.max_channel_choice + 0.5
    for step in steps_of(policy, num_epochs):
        first, last, lowest = step
        name, epochs = phase(policy, step), range(first + 1, last + 1)
        axes.bar(
            epochs, upper - lowest + 0.5, 0.84, lowest - 0.5, color=COLOURS[name], alpha=0.75, label=name, zorder=2
        )
        if first > 0:
            words = f"from {first + 1}" if name == ALL_WIDTHS else span((first + 1, last))
            axes.text(first + 0.2, lowest, words, ha="right", va="center_baseline", fontsize=8)
    axes.set_ylim(lower, upper)
    axes.set_yticks(list(space.searchable_channel_choices), scale_names(space)[space.min_channel_choice :])
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylabel("scale of the width")
    axes.grid(axis="y", alpha=0.2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
