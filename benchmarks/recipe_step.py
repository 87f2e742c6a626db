"""What the ingredients of a recipe cost: epochs of training with and without each, in turns, images prepared too.

    OMP_NUM_THREADS=2 python -m benchmarks.recipe_step
    OMP_NUM_THREADS=2 python -m benchmarks.recipe_step --variant "ema: --ema-decay 0.998" -- --dataset cifar10 ...

Behind `--`: the recipe without any of them, flags of train_imagenet.py; by default the published one on the digits at
32 px with batches of 64. A --variant adds flags to it, as in utils.compare_recipes; if there is none, each ingredient
is added alone, then all together. Nothing is validated or written.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from dataclasses import dataclass
from itertools import count
from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from benchmarks.measure import OTHER, OURS, PLAIN, OutputOptions, Result, Way, rows_of, take_turns
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, not_negative, pick, positive, run_program, split_arguments
from spos.engine.compat import mx
from spos.runs.run import SUBNET
from spos.study.recipes import BASELINE, Variant, check_flags
from spos.training.assembly import make_recipe, make_trainer
from spos.training.flags import TrainingFlags
from spos.training.session import Session, open_batches

NETWORK = "logs/autopilot/cifar10-5000/best.json"
RECIPE = "--dataset digits --recipe published --warmup-epochs 0 --batch-size 64 -j 1"
VARIANTS = (
    "averaged-weights: --ema-decay 0.998",
    "random-erasing: --random-erasing 0.25",
    "trivial-augment: --auto-augment trivial",
    "mixup: --mixup",
    "cutmix: --cutmix",
    "adamw: --optimizer adamw --lr 0.002 --wd 0.05",
    "all: --ema-decay 0.998 --random-erasing 0.25 --auto-augment trivial --mixup --cutmix --optimizer adamw --lr 0.002",
)


@dataclass(frozen=True)
class RecipeStepOptions:
    """What to measure."""

    architecture: str = flag(NETWORK, "published name or architecture file (JSON)")
    rounds: int = flag(7, "counted epochs of every recipe", type=positive)
    warm_up: int = flag(1, "epochs of every recipe that are not counted", type=not_negative)


def main(argv: Optional[List[str]] = None) -> int:
    own, recipe = split_arguments(sys.argv[1:] if argv is None else argv)
    parser = OneLineParser(__doc__, (RecipeStepOptions, OutputOptions))
    parser.add_argument("--variant", action="append", default=[], metavar="'NAME: FLAGS'", help="one more recipe")
    args = parser.parse_args(own)
    options, output = pick(RecipeStepOptions, args), pick(OutputOptions, args)
    output.check()
    recipe = recipe or RECIPE.split()
    check_flags(recipe)
    variants = [Variant(BASELINE), *map(Variant.parse, args.variant or VARIANTS)]
    roles = [PLAIN, *[OTHER] * (len(variants) - 2), OURS]
    rounds = range(options.warm_up + options.rounds)
    shared = ["--model", SUBNET, "--architecture", options.architecture, "--num-epochs", str(len(rounds)), *recipe]
    ways = [Way(one.name, role, make_epoch([*shared, *one.flags], one.name)) for one, role in zip(variants, roles)]
    rows = rows_of(ways, take_turns(ways, rounds, options.warm_up, np.random.default_rng(0)))
    about = {**vars(options), "recipe": " ".join(recipe)}
    Result("recipe_step", "an epoch", about, rows).report(output)
    return 0


def make_epoch(words: Sequence[str], name: str) -> Callable[[Any], None]:
    """Trains one epoch more each time, as the program does it; nothing is under way when it returns."""
    flags = TrainingFlags.parse(OneLineParser("", tuple(TrainingFlags.groups().values())), words)
    session = Session.of(flags)
    batches = open_batches(flags, session.data, session.net, len(session.ctx), session.cluster)
    recipe = make_recipe(flags, session.objective, None, batches.num_batches)
    trainer = make_trainer(flags, session.net, recipe, session.ctx, session.cluster)
    numbers = count()

    def run(_: Any) -> None:
        epoch = next(numbers)
        for step, (images, labels, *_rest) in enumerate(batches.epoch(epoch)):
            parts = trainer.step(images, labels, epoch, step)
        mx.nd.waitall()
        if not np.isfinite(parts[0].loss.asscalar()):
            raise InputError(f"the loss of {name} is not finite: its times are of another computation")

    return run


if __name__ == "__main__":
    sys.exit(run_program(main))
