"""Recipes of training, compared on one network with the same seeds and held-out images.

python -m utils.compare_recipes --architecture runs/search/best.json --seeds 3 --jobs 2 \\
    --variant "ema: --ema-decay 0.999" --variant "cutmix: --cutmix" --variant "both: --ema-decay 0.999 --cutmix" \\
    -- --dataset cifar10 --num-epochs 10 --lr 0.2 ...

The baseline is the recipe behind `--`, flags of train_imagenet.py; a variant adds its flags to it. All are trained
without the held-out images (--train-on train --val-on holdout) and measured on them, by averaged weights where a recipe
has them: test images stay unseen. The gain over the baseline is paired by seed, with Student's t interval, 95%.

The same command goes on where it was stopped, also with other --jobs, more --seeds or further variants. Results lie in
--save-dir: alone.jsonl (a training a line), networks/ (their runs), recipes.json (what is printed).
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from spos.core.errors import InputError
from spos.core.flags import JsonOptions, OneLineParser, pick, run_program, split_arguments
from spos.core.tables import as_text
from spos.runs.files import write_json
from spos.runs.lock import entered
from spos.space.architecture_file import load_architecture
from spos.space.flags import BlocksOptions, use_blocks
from spos.study.alone import describe_run, train_all
from spos.study.flags import RecipeOptions
from spos.study.recipes import MEASURED, Compared, Variant, check_flags, compare, plan, recipes_table

RESULT_FILE = "recipes.json"


def main(argv: Optional[List[str]] = None) -> int:
    own, recipe = split_arguments(sys.argv[1:] if argv is None else argv)
    parser = OneLineParser(__doc__, (RecipeOptions, BlocksOptions, JsonOptions))
    parser.add_argument("--variant", action="append", default=[], metavar="'NAME: FLAGS'", help="one more recipe")
    args = parser.parse_args(own)
    options, output = pick(RecipeOptions, args), pick(JsonOptions, args)
    check_flags(recipe)
    use_blocks(pick(BlocksOptions, args))
    variants = [Variant.parse(text) for text in args.variant]
    if not variants:
        raise InputError("nothing to compare: give a --variant")
    record = load_architecture(options.architecture)
    networks = plan(record, variants, options)
    folder, recipe = Path(options.save_dir), [*recipe, *MEASURED]
    config = describe_run("utils.compare_recipes", options, recipe, record.space)
    config["architecture"] = record.to_json()
    with entered(folder, config, may_change=("seeds",)):
        rows = train_all(networks, record.space, recipe, folder, options.jobs)
        compared = compare(rows, variants)
        result = as_json(compared)
        write_json(folder / RESULT_FILE, result)
    print(json.dumps(result) if output.json else as_text(recipes_table(compared, options.seeds)))
    return 0


def as_json(compared: Sequence[Compared]) -> Dict[str, Any]:
    """The same for machines. An interval is [value, low, high]."""
    return {
        one.variant.name: {
            "flags": list(one.variant.flags),
            "top1": list(one.top1),
            "gain": list(one.gain) if one.gain else None,
            "time": one.time,
            "num_images": one.num_images,
        }
        for one in compared
    }


if __name__ == "__main__":
    sys.exit(run_program(main))
