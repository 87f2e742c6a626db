"""Compiled blocks whose parameters are inputs, so that one graph serves many weights."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Dict, List, Optional, Sequence, Tuple

from spos.engine.batch_norm import collect_moments
from spos.engine.compat import mx
from spos.engine.parameters import structural_names

Arrays = Dict[str, mx.nd.NDArray]  # by the names of the parameters in a graph


class Graph:
    """A compiled block whose parameters are inputs.

    Args:
        collects: also return, as one vector, the means and then the 1/std of all BatchNorm layers.
    """

    def __init__(self, block: mx.gluon.HybridBlock, collects: bool = False) -> None:
        own_names = structural_names(block)
        with collect_moments() as rows:
            output = block(mx.sym.var("data"))
        if rows and collects:
            moments = [mean for _, mean, _ in rows] + [inv_std for _, _, inv_std in rows]
            output = mx.sym.Group([output, mx.sym.concat(*moments, dim=0)])
        #: names of the inputs in order; None is the images
        self.inputs: List[Optional[str]] = [own_names.get(name) for name in output.list_inputs()]
        #: BatchNorm layers in the order of the vector: the name that their parameters begin with
        self.norms: List[str] = [own_names[layer.gamma.name][: -len("gamma")] for layer, _, _ in rows]
        self.collects = collects
        self._op = mx.nd.CachedOp(output)

    def __call__(self, x: mx.nd.NDArray, arrays: Arrays) -> Any:
        return self.run([x if name is None else arrays[name] for name in self.inputs])

    def run(self, values: Sequence[mx.nd.NDArray]) -> Any:
        """The result for values of `inputs`: the output, or with `collects` it and the moments."""
        return self._op(*values)


@lru_cache(maxsize=None)
def unread_statistic(statistic: str, shape: Tuple[int, ...], ctx: mx.Context) -> mx.nd.NDArray:
    """A running statistic for a BatchNorm that gives its moments: written by cuDNN or in backward, never read."""
    with mx.autograd.pause():
        return mx.nd.zeros(shape, ctx=ctx)
