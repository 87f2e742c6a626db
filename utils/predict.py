"""Predictions of an exported network: the most probable classes of each image.

python -m utils.predict --model runs/digits/oneshot/model.onnx picture.png folder/of/pictures
python -m utils.predict --model runs/digits/oneshot/model-symbol.json --top 1 --format csv pictures > classes.csv

Needs the exported file only (of an MXNet pair both). Folders are searched for images, also below. An image that cannot
be decoded is named on standard error and left out; the exit code is 2 then, when all others are printed.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
from dataclasses import dataclass
from typing import List, Optional

from spos.core.errors import InputError
from spos.core.flags import JsonOptions, OneLineParser, flag, pick, positive, run_program
from spos.core.progress import progress_bar
from spos.core.tables import FORMATS, render
from spos.deploy.exported import FILES, open_model
from spos.deploy.prediction import find_images, predict, prediction_json, prediction_table


@dataclass(frozen=True)
class PredictOptions:
    """The network, and what is printed."""

    model: str = flag("runs/oneshot/model.onnx", f"exported network: {FILES}")
    top: int = flag(5, "classes of each image", type=positive)
    batch_size: int = flag(32, "images that are computed together", type=positive)
    num_workers: int = flag(4, "threads that decode images", type=positive, short="-j")
    format: str = flag("text", "how the table is printed (csv: raw numbers)", choices=tuple(FORMATS))


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, (PredictOptions, JsonOptions))
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="what is looked at")
    args = parser.parse_args(argv)
    options, output = pick(PredictOptions, args), pick(JsonOptions, args)
    if output.json and options.format != PredictOptions.format:
        raise InputError(f"--json and --format {options.format} are two outputs; give one of them")
    paths = find_images(args.images)
    model = open_model(options.model)
    found = predict(model, paths, options.top, options.batch_size, options.num_workers)
    predictions = list(progress_bar(found, total=len(paths), unit="img"))
    if output.json:
        print(json.dumps(prediction_json(model, predictions)))
    elif predictions:
        print(render([prediction_table(model, predictions)], options.format))
    if len(predictions) < len(paths):
        raise InputError(f"{len(paths) - len(predictions)} of {len(paths)} images cannot be decoded, see above")
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
