"""ONNX Runtime on the CPU. It is imported when it is used: `sh scripts/setup.sh --deploy` installs it."""

from __future__ import annotations

import importlib
from typing import Any, Dict, Optional

import numpy as np

from spos.compat import num_threads
from spos.errors import InputError

INPUT, OUTPUT = "data", "logits"


def import_library(name: str) -> Any:
    """`onnx`, `onnxruntime` or a part of them. Raises: InputError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"ONNX needs {name.split('.')[0]} ({error}); run sh scripts/setup.sh --deploy") from None


class OnnxSession:
    """A model in ONNX Runtime on the CPU.

    Args:
        model: an `onnx.ModelProto`, its bytes, or a file.    threads: as many as MXNet has if None.
        optimize: False runs the graph as it is written.
    Raises: InputError if onnxruntime is missing or cannot load the model.
    """

    def __init__(self, model: Any, threads: Optional[int] = None, optimize: bool = True) -> None:
        ort = import_library("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or num_threads()
        options.log_severity_level = 3
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        content = model.SerializeToString() if hasattr(model, "SerializeToString") else model
        try:
            self.session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own classes, which have no common base of their own
            raise InputError(f"ONNX Runtime cannot load the model: {error}") from None

    @property
    def metadata(self) -> Dict[str, str]:
        """The metadata properties of the file."""
        return self.session.get_modelmeta().custom_metadata_map

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits (N, classes) of normalised images (N, 3, S, S) float32."""
        return self.session.run(None, {INPUT: images})[0]
