"""The report of `calculate_flops.py` for eyes, and the sentences that belong to its figures."""

from __future__ import annotations

from typing import Any, Mapping

from spos.cost import COMPARISON_MODELS
from spos.reporting import table
from spos.search_space import format_choices

CONVENTION = (
    "Counted: one multiply-add is 1; convolutions, one add per output element of a layer with bias, and the input "
    "elements of each global pooling. BatchNorm and activations are 0; gamma and beta are parameters."
)
SUPERNET_NOTE = (
    "Parameters are those of all branches that are trained; the published table prints 15.4M. Smallest and largest "
    "are the FLOPs and parameters of single paths, each taken alone."
)


def as_table(report: Mapping[str, Any]) -> str:
    """Rows of name and value, then the convention.

    Args:
        report: what `calculate_flops.py --json` prints.
    """
    scores = report["scores"]
    model = COMPARISON_MODELS[scores["comparison_model"]]
    supernet = "range" in report
    rows = [
        ("architecture", report["architecture"]),
        ("input", _input(report)),
        ("FLOPs of the largest path" if supernet else "FLOPs", millions(report["flops"])),
        ("trainable params" if supernet else "params", millions(report["params"])),
    ]
    for name, cost in report.get("range", {}).items():
        rows.append((f"{name} subnet", f"FLOPs {millions(cost['flops'])}, params {millions(cost['params'])}"))
    rows += [
        (
            "compared with",
            f"{scores['comparison_model']}: {model.macs / 1e6:g} M FLOPs, {model.params / 1e6:g} M params",
        ),
        ("FLOP ratio", f"{scores['flop_ratio']:.6f}"),
        ("param ratio", f"{scores['param_ratio']:.6f}"),
        ("sum of normalized scores", f"{scores['normalized_sum']:.6f}"),
        ("combined score", f"{scores['combined']:.6f} (0.5 FLOP ratio + 0.5 param ratio)"),
    ]
    return "\n".join([table(rows)] + [report[key] for key in ("note", "convention") if key in report])


def millions(value: int) -> str:
    return f"{value / 1e6:.3f} M ({value:,})"


def _input(report: Mapping[str, Any]) -> str:
    text = f"3 x {report['input_size']} x {report['input_size']}, {report['classes']} classes"
    if report["space"]:
        text += f", strides {format_choices(report['strides'])}, layout {report['space']['layout']}"
    return text
