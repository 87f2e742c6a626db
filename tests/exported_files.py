"""Small exported networks for tests: the same random matrix on all pixels, as an MXNet pair and as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from spos.data.preprocessing import Preprocessing
from spos.deploy.exported import write_mxnet
from spos.deploy.model_info import ModelInfo
from spos.engine.compat import mx

SIZE, NAMES = 16, ("plain", 'with "quotes" and, commas', "with \\ and \n", "größer", "五", "six")
PREPROCESSING = Preprocessing(SIZE, 0.875, (120.0, 110.0, 100.0), (60.0, 61.0, 62.0), NAMES)
INFO = ModelInfo(PREPROCESSING, {"block_choices": [0, 1]}, pad_to=8)
VALUES = 3 * SIZE * SIZE


def matrix() -> np.ndarray:
    """(classes, values): logits are of the order of 1, and no pixel and no colour is like another."""
    return np.random.default_rng(0).normal(0, VALUES**-0.5, (len(NAMES), VALUES)).astype(np.float32)


def logits_of(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) @ matrix().T


def mxnet_pair(prefix: Path, info: ModelInfo = INFO, weights: Optional[np.ndarray] = None):
    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=len(NAMES), no_bias=True, name="dense")
    return write_mxnet(prefix, symbol, {"dense_weight": mx.nd.array(matrix() if weights is None else weights)}, info)


def onnx_file(path: Path, info: ModelInfo = INFO) -> Path:
    onnx = pytest.importorskip("onnx", reason="needs onnx: sh scripts/setup.sh --deploy")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["data"], ["values"]),
            helper.make_node("Gemm", ["values", "weight"], ["logits"], transB=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("data", float32, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", float32, ["N", len(NAMES)])],
        [onnx.numpy_helper.from_array(matrix(), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, info.to_strings())
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def exported(kind: str, folder: Path, info: ModelInfo = INFO) -> Path:
    """An exported network of this kind, "mxnet" or "onnxruntime"; the file that names it."""
    if kind == "mxnet":
        return mxnet_pair(folder / "tiny", info)[0]
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: sh scripts/setup.sh --deploy")
    return onnx_file(folder / "tiny.onnx", info)
