"""Exported networks: an MXNet pair or an ONNX file, which say themselves what inference has to know, opened alike.

The pair is what Gluon's `HybridBlock.export` writes and `SymbolBlock.imports` reads. Its metadata are attributes of the
graph's input, `__class_names__` and so on; in an ONNX file they are metadata properties. Reading needs no other file.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from spos.core.errors import InputError, engine_reason
from spos.data.decoder import ImageDecoder, Scratch
from spos.deploy.model_info import ModelInfo
from spos.deploy.onnx import OnnxSession
from spos.deploy.parity import Logits
from spos.engine.compat import mx
from spos.engine.graph_file import VARIABLE, as_symbol, attributes_of, read_graph
from spos.engine.parameters import INPUT, load_arrays, save_arrays
from spos.engine.symbols import compile_symbol
from spos.runs.files import PathLike, file_digest, shortened, write_atomic

ONNX, SYMBOL, PARAMS = ".onnx", "-symbol.json", "-0000.params"  # ends of file names
NAME, INT8_NAME = "model", "model-int8"  # of files in a folder; the first is meant by the folder
FILES = f"NAME{ONNX}, or NAME{SYMBOL} beside NAME{PARAMS}, or a folder in which NAME is {NAME}"
CHECKSUM, GRAPH_CHECKSUM = "params_sha256", "graph_sha256"


@dataclass(frozen=True)
class ExportedModel:
    """A network from its file.

    Args:
        path: `NAME.onnx` or `NAME-symbol.json`.
        runtime: "mxnet" or "onnxruntime".
        function: what computes, without any check.
    """

    path: Path
    info: ModelInfo
    runtime: str
    num_classes: int
    function: Logits

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits (N, classes) of images (N, 3, S, S), both float32, on the CPU.

        The first call with another N prepares kernels and takes longer.

        Raises: InputError for images of another shape or type. MXNet would read and write foreign memory.
        """
        size = self.info.preprocessing.input_size
        if images.dtype != np.float32 or images.shape[1:] != (3, size, size) or not len(images):
            raise InputError(
                f"{self.path} takes float32 images (N, 3, {size}, {size}), not {images.dtype} {images.shape}"
            )
        return self.function(images)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (N, classes), float64, of images as they are: uint8 RGB (N, H, W, 3) of any height and width.

        Each is prepared as in evaluation: its centre is cut, resized and normalised, as `info.preprocessing` says.
        The column is the label; `info.name_of(label)` is its name.

        Raises: InputError for images of another shape or type, or if a logit is not finite.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
            raise InputError(f"{self.path} predicts uint8 images (N, H, W, 3), not {images.dtype} {images.shape}")
        size = self.info.preprocessing.input_size
        decoder, scratch = ImageDecoder(self.info.preprocessing.preparation), Scratch(size)
        prepared = np.empty((len(images), 3, size, size), np.float32)
        for image, out in zip(images, prepared):
            decoder.prepare(image, out, scratch)
        logits = self(prepared)
        if not np.isfinite(logits).all():
            raise InputError(f"{self.path} gives logits that are not finite")
        return softmax(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of the classes on the last axis, float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def write_mxnet(
    prefix: PathLike, symbol: mx.sym.Symbol, arrays: Mapping[str, Any], info: ModelInfo
) -> Tuple[Path, Path]:
    """Write `prefix-0000.params`, then `prefix-symbol.json` with the metadata and the checksums of both.

    So a pair of which only one half was replaced, by a kill or by hand, is refused when it is opened.

    Args:
        symbol: a graph whose only input beside `arrays` is `data`; it is not changed.
        arrays: NDArrays by their names in the graph; others are left out.
    Returns: (symbol file, parameter file).    Raises: OSError if they cannot be written.
    """
    symbol_file, params_file = files = Path(f"{prefix}{SYMBOL}"), Path(f"{prefix}{PARAMS}")
    statistics = set(symbol.list_auxiliary_states())
    names = [name for name in symbol.list_inputs() if name != INPUT]
    save_arrays(params_file, {f"{'aux' if name in statistics else 'arg'}:{name}": arrays[name] for name in names})
    metadata = {**info.to_strings(), CHECKSUM: file_digest(params_file)}
    graph = json.loads(symbol.tojson())
    data = _input_of(graph, symbol_file)
    data["attrs"] = {**data.get("attrs", {}), **{f"__{name}__": text for name, text in metadata.items()}}
    data["attrs"][f"__{GRAPH_CHECKSUM}__"] = graph_digest(graph)
    write_atomic(symbol_file, json.dumps(graph, indent=2) + "\n")
    return files


def compiled(symbol: mx.sym.Symbol, arrays: Mapping[str, Any]) -> Logits:
    """A graph from NumPy to NumPy, compiled, on the CPU."""
    graph = compile_symbol(symbol, arrays)
    return lambda images: graph(mx.nd.array(images)).asnumpy()


def _input_of(graph: Mapping[str, Any], path: Path) -> Dict[str, Any]:
    """The node of a graph's input. Raises: InputError if it has none, or several."""
    found = [node for node in graph["nodes"] if node["op"] == VARIABLE and node["name"] == INPUT]
    if len(found) != 1:
        raise InputError(f"{path} has {len(found)} inputs named {INPUT}, expected one")
    return found[0]


def graph_digest(graph: Mapping[str, Any]) -> str:
    """SHA-256 of a graph with all its metadata, but without this digest; in hex."""
    key = f"__{GRAPH_CHECKSUM}__"
    bare = copy.deepcopy(graph)
    for node in bare["nodes"]:
        node.get("attrs", {}).pop(key, None)
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()


def open_model(path: PathLike, threads: Optional[int] = None) -> ExportedModel:
    """A network from one of its files, or from the part of their names that they share, if that means one only.

    Args:
        threads: that ONNX Runtime computes with; as many as MXNet if None (OMP_NUM_THREADS, the only way to change
            those of MXNet).
    Raises: InputError if a file is missing, damaged, not of this project, or cannot be run here.
    """
    path = find_exported(path)
    if path.name.endswith(ONNX):
        info, runtime, function = _open_onnx(path, threads)
    else:
        info, runtime, function = _open_mxnet(path)
    try:
        shape = function(np.zeros((1, 3, *[info.preprocessing.input_size] * 2), np.float32)).shape
    except Exception as error:  # ONNX Runtime's have no common base
        raise InputError(f"{path} does not run: {shortened(engine_reason(error))}") from None
    num_names = len(info.preprocessing.class_names)
    if len(shape) != 2 or num_names not in (0, shape[1]):
        raise InputError(f"{path} names {num_names} classes, but gives logits of shape {shape}: export it anew")
    return ExportedModel(path, info, runtime, shape[1], function)


def find_exported(path: PathLike) -> Path:
    """The `NAME.onnx` or `NAME-symbol.json` that is meant. Raises: InputError if it is not there, or half a pair is."""
    path = Path(path)
    name = str(path / NAME if path.is_dir() else path)
    if name.endswith(PARAMS):
        name = name[: -len(PARAMS)] + SYMBOL
    if not name.endswith((ONNX, SYMBOL)):
        found = [f"{name}{end}" for end in (ONNX, SYMBOL) if Path(f"{name}{end}").is_file()]
        if not found:
            raise InputError(f"{path} is no exported network; expected {FILES}")
        if len(found) > 1:
            raise InputError(f"{path} may be {' or '.join(found)}; give one of them")
        (name,) = found
    files = [name, name[: -len(SYMBOL)] + PARAMS] if name.endswith(SYMBOL) else [name]
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise InputError(f"{missing[0]} does not exist; an exported network is {FILES}")
    return Path(name)


def _open_mxnet(path: Path) -> Tuple[ModelInfo, str, Logits]:
    params_file = Path(str(path)[: -len(SYMBOL)] + PARAMS)
    graph = read_graph(path)
    strings = {name.strip("_"): text for name, text in attributes_of(_input_of(graph, path)).items()}
    info = ModelInfo.from_strings(strings, str(path))
    if strings.get(GRAPH_CHECKSUM, graph_digest(graph)) != graph_digest(graph):  # the first versions wrote none
        raise InputError(f"{path} has changed since it was written: export it anew")
    if strings.get(CHECKSUM) != file_digest(params_file):
        raise InputError(f"{params_file} is damaged, or not what was written with {path.name}: export both anew")
    arrays = load_arrays(params_file)
    symbol = as_symbol(graph, path)
    missing = sorted(set(symbol.list_inputs()) - {INPUT} - set(arrays))
    if missing:
        raise InputError(f"{params_file} lacks {missing[0]}, which {path.name} reads: export both anew")
    try:
        return info, "mxnet", compiled(symbol, arrays)
    except mx.base.MXNetError as error:
        raise InputError(f"{path} does not run: {shortened(engine_reason(error))}") from None


def _open_onnx(path: Path, threads: Optional[int]) -> Tuple[ModelInfo, str, Logits]:
    session = OnnxSession(str(path), threads)
    return ModelInfo.from_strings(session.metadata, str(path)), "onnxruntime", session
