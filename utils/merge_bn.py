"""Merge every BatchNorm of a trained subnet into the convolution before it.

python -m utils.merge_bn --params runs/digits/oneshot/model.params
python -m utils.merge_bn --params any.params --architecture oneshot-s+ --output merged.params

Subnet(space, architecture, bn=False).load_parameters(...) reads the result, and so do the other tools of deployment.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, pick, run_program
from spos.core.tables import table
from spos.deploy.flags import TrainedOptions
from spos.deploy.parity import MERGED_TOLERANCE, check_equal, random_images, tolerance_of
from spos.deploy.subnet import as_function, merge_batch_norm
from spos.deploy.trained import open_trained
from spos.engine.parameters import save_parameters
from spos.runs.files import check_output
from spos.space.flags import ArchitectureOptions, SpaceOptions


@dataclass(frozen=True)
class MergeOptions:
    """What is written."""

    output: str = flag("", "file of the merged parameters (default: NAME-merged.params beside --params)")
    shuffle_by_conv: bool = flag(
        False, "write channel shuffles as constant 1x1 convolutions too, for Subnet(bn=False, shuffle='conv')"
    )


GROUPS = (TrainedOptions, MergeOptions, ArchitectureOptions, SpaceOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    options = pick(MergeOptions, args)
    trained = open_trained(pick(TrainedOptions, args), pick(ArchitectureOptions, args), pick(SpaceOptions, args))
    if not trained.subnet.bn:
        raise InputError(f"{trained.path}: BatchNorm is merged already")
    output = Path(options.output or trained.path.with_name(f"{trained.path.stem}-merged.params"))
    check_output(output)
    net = merge_batch_norm(trained.subnet).network("conv" if options.shuffle_by_conv else "reshape")
    images = random_images(trained.subnet.space.input_size)
    before, after = as_function(trained.subnet.network()), as_function(net)
    tolerance = tolerance_of(before, images, MERGED_TOLERANCE)
    difference = check_equal(before(images), after(images), tolerance, "the merged network's logits")
    save_parameters(output, net)
    print(
        table(
            [
                ("logits", f"differ by {difference:.1e} of the largest, on {len(images)} random images"),
                ("parameters", str(output)),
            ]
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
