"""FLOPs and parameters of an exported network, by the name and the arguments of the original project.

python -m utils.calculate_flops -s symbols/ShuffleNas_fixArch-symbol.json -ds data,1,3,224,224

`calculate_flops.py --symbol` says the same of RGB images of one size, with tables and scores.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from typing import Any, List, Optional, Sequence, Tuple

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, run_program
from spos.core.tables import table
from spos.counting.symbol import count_symbol
from spos.engine.graph_file import load_symbol
from spos.engine.parameters import INPUT
from spos.space.architecture import parse_choices

SYMBOL = "./symbols/ShuffleNas_fixArch-symbol.json"
FLOAT_BYTES = 4
MIB = 2**20


def get_flops(
    norelubn: bool = True,
    size_in_mb: bool = False,
    symbol_path: str = SYMBOL,
    data_shapes: Sequence[Tuple[str, Tuple[int, ...]]] = ((INPUT, (1, 3, 224, 224)),),
) -> Tuple[float, float]:
    """(millions of FLOPs, millions of parameters) of one pass of a batch of `data_shapes`.

    Args:
        norelubn: ReLU and BatchNorm count 0; counting them is not offered.
        size_in_mb: MiB of float32 parameters instead of millions of them.
    Raises: InputError if the file or the input is missing, or an operator is not known.
    """
    if not norelubn:
        raise InputError("get_flops counts ReLU and BatchNorm as 0; norelubn=False is not offered")
    if len(data_shapes) != 1 or data_shapes[0][0] != INPUT:
        raise InputError(f"data_shapes must be of the one input '{INPUT}', not {data_shapes}")
    cost = count_symbol(load_symbol(symbol_path), tuple(data_shapes[0][1]))
    return cost.macs / 1e6, cost.params * FLOAT_BYTES / MIB if size_in_mb else cost.params / 1e6


def parse_shape(text: str) -> Tuple[str, Tuple[int, ...]]:
    """(name, shape) of `data,1,3,224,224`."""
    name, _, sizes = text.strip("'\"").partition(",")
    return name, parse_choices(sizes, "the shape in")


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, ())
    parser.add_argument("-s", "--symbol-path", default=SYMBOL, help="exported network [%(default)s]")
    parser.add_argument(
        "-ds", "--data-shapes", type=parse_shape, nargs=1, default=[(INPUT, (1, 3, 224, 224))], help="name and shape"
    )
    parser.add_argument("-ls", "--label-shapes", nargs="+", help="not used: an exported network has no labels")
    parser.add_argument("-norelubn", action="store_true", help="as always: ReLU and BatchNorm count 0")
    args: Any = parser.parse_args(argv)
    flops, params = get_flops(symbol_path=args.symbol_path, data_shapes=args.data_shapes)
    print(table([("FLOPs", f"{flops:.6f}M"), ("params", f"{params:.6f}M")]))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
