"""Export a trained subnet: as one ONNX file, or as the symbol and parameters that plain MXNet reads.

python -m utils.export_model --params runs/digits/oneshot/model.params --format onnx
python -m utils.export_model --params runs/digits/oneshot/model.params --format onnx --dtype int8
python -m utils.export_model --params any.params --architecture oneshot-s+ --format mxnet --output exported/s+

BatchNorm is merged. The files say how images are prepared, what the classes are called and of which architecture they
are, so `python -m utils.predict` and docs/deployment.md need nothing else. They are read again and compared with the
trained network before they take their names. INT8 is calibrated on the BatchNorm update images of the run;
`python -m utils.quantize` says what it costs in accuracy.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from spos.core.flags import OneLineParser, changed_flags, flag, pick, run_program
from spos.core.tables import table
from spos.data.flags import DataOptions
from spos.deploy.evaluation import open_subnet
from spos.deploy.export import Export, describe_files, output_name
from spos.deploy.flags import FORMATS, ExportOptions, Int8Options, TrainedOptions, check_int8_flags
from spos.deploy.trained import open_trained
from spos.space.flags import ArchitectureOptions, SpaceOptions


@dataclass(frozen=True)
class FormatOptions:
    """The form."""

    format: str = flag("onnx", "onnx: for ONNX Runtime and others, mxnet: symbol and parameters", choices=FORMATS)
    dtype: str = flag("float32", "precision of the convolutions", choices=("float32", "int8"))


GROUPS = (TrainedOptions, FormatOptions, ExportOptions, Int8Options, ArchitectureOptions, SpaceOptions, DataOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    form, options, given = pick(FormatOptions, args), pick(ExportOptions, args), pick(DataOptions, args)
    int8, named, space = pick(Int8Options, args), pick(ArchitectureOptions, args), pick(SpaceOptions, args)
    is_int8 = form.dtype == "int8"
    check_int8_flags(int8, is_int8)
    params = pick(TrainedOptions, args)
    if is_int8 or changed_flags(given, ("dataset",)):
        trained = open_subnet(params, named, space, given)
    else:
        trained = open_trained(params, named, space, given.input_size)
    data_options = trained.data_options(given)
    name = output_name(trained.path, form.dtype, options.output)
    with tempfile.TemporaryDirectory() as scratch:
        data = trained.open_data(data_options, Path(scratch)) if is_int8 else None
        export = Export.of(trained, form.format, name, options, data_options)
        if data:
            quantized, error, files = export.int8(data, data_options, int8)
            rows = [("calibration", quantized.calibration), ("logits", f"off by {error:.1%} of themselves (RMS)")]
        else:
            difference, files = export.float32()
            rows = [("logits", f"differ by {difference:.1e} of the largest")]
    print(table([*rows, *describe_files(files)]))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
