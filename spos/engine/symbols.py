"""Symbols: the shapes inside a graph, and a graph as a compiled function."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Callable, List, Mapping, Optional, Tuple

from spos.engine.compat import mx
from spos.engine.parameters import INPUT


def infer_shapes(symbol: mx.sym.Symbol, **inputs: Tuple[int, ...]) -> Optional[List[Tuple[int, ...]]]:
    """The shapes of a graph's outputs, or None if they do not follow from those of `inputs`.

    Silent: MXNet warns, and prints its arguments, when they do not fit.

    Raises: MXNetError if shapes do not fit.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        _, shapes, _ = symbol.infer_shape(**inputs)
    return shapes


def compile_symbol(
    symbol: mx.sym.Symbol, arrays: Mapping[str, mx.nd.NDArray]
) -> Callable[[mx.nd.NDArray], mx.nd.NDArray]:
    """A graph whose only input beside `arrays` is `data`, with memory and kernels that are kept from call to call."""
    inputs = [None if name == INPUT else arrays[name] for name in symbol.list_inputs()]
    graph = mx.nd.CachedOp(symbol, [("static_alloc", True), ("static_shape", True)])
    return lambda x: graph(*(x if value is None else value for value in inputs))
