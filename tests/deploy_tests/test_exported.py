"""Exported networks as files: what was written is what is read, in both runtimes, and nothing else is."""

import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY
from deployed_subnets import drawn_subnet
from exported_files import INFO, NAMES, PREPROCESSING, SIZE, VALUES, exported, logits_of, mxnet_pair, onnx_file

from spos.core.errors import InputError
from spos.counting.symbol import count_nodes
from spos.data.prepared import encode_png
from spos.deploy.exported import PARAMS, SYMBOL, open_model, write_mxnet
from spos.deploy.model_info import METADATA, ModelInfo
from spos.deploy.parity import random_images
from spos.deploy.prediction import predict
from spos.deploy.quantization import quantize
from spos.deploy.subnet import as_function, merge_batch_norm
from spos.engine.compat import mx, num_threads
from spos.engine.graph_file import load_symbol

KINDS = ("mxnet", "onnxruntime")
TINY_INFO = ModelInfo(replace(PREPROCESSING, input_size=TINY.input_size, class_names=()), {})


def tiny_network(rng):
    return merge_batch_norm(drawn_subnet(TINY, TINY.sample(rng), rng)).network()


def write_block(prefix, net, info=TINY_INFO):
    arrays = {parameter.name: parameter.data() for parameter in net.collect_params().values()}
    return write_mxnet(prefix, net(mx.sym.var("data")), arrays, info)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind, tmp_path):
    model = open_model(exported(kind, tmp_path))
    assert (model.runtime, model.num_classes, model.info) == (kind, len(NAMES), INFO)
    for num_images in (1, 5, 2):
        images = random_images(SIZE, num_images)
        logits = model(images)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, logits_of(images), rtol=1e-4, atol=1e-5)


def test_a_subnet_gives_its_own_logits(tmp_path, rng):
    net, images = tiny_network(rng), random_images(TINY.input_size)
    model = open_model(write_block(tmp_path / "tiny", net)[0])
    np.testing.assert_array_equal(model(images), as_function(net)(images))


@pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning")
def test_a_quantized_subnet_gives_its_own_logits_here_and_in_plain_gluon(tmp_path, rng):
    images = random_images(TINY.input_size)
    block = quantize(tiny_network(rng), [mx.nd.array(images)])
    files = write_mxnet(tmp_path / "int8", block.symbol, block.arrays, replace(TINY_INFO, precision="int8"))
    model, expected = open_model(files[0]), block(mx.nd.array(images)).asnumpy()
    assert model.info.precision == "int8"
    np.testing.assert_array_equal(model(images), expected)
    plain = mx.gluon.SymbolBlock.imports(str(files[0]), "data", str(files[1]))
    np.testing.assert_array_equal(as_function(plain)(images), expected)


def test_metadata_do_not_disturb_the_graph(tmp_path, rng):
    """No name means something to MXNet: `__dtype__` would be the type of the input."""
    net = tiny_network(rng)
    symbol = load_symbol(write_block(tmp_path / "tiny", net)[0])
    assert set(symbol.attr_dict()["data"]) == {f"__{name}__" for name in (*METADATA, "params_sha256", "graph_sha256")}
    assert symbol.infer_type(data="float32")[1] == [np.float32]
    assert symbol.simple_bind(mx.cpu(), data=(1, 3, 16, 16)).outputs[0].shape == (1, TINY.num_classes)
    costs = [[node.cost for node in count_nodes(graph, (1, 3, 16, 16))] for graph in (symbol, net(mx.sym.var("data")))]
    assert costs[0] == costs[1]


def test_the_files_may_be_named_in_several_ways(tmp_path):
    symbol_file, params_file = mxnet_pair(tmp_path / "tiny")
    for path in (symbol_file, params_file, tmp_path / "tiny", str(tmp_path / "tiny")):
        assert open_model(path).path == symbol_file
    onnx_file(tmp_path / "tiny.onnx")
    with pytest.raises(InputError, match="tiny may be .*tiny.onnx or .*tiny-symbol.json; give one of them"):
        open_model(tmp_path / "tiny")


def test_onnx_runtime_has_the_threads_of_mxnet(tmp_path):
    path = exported("onnxruntime", tmp_path)
    for threads, expected in ((None, num_threads()), (3, 3)):
        session = open_model(path, threads).function.session
        assert session.get_session_options().intra_op_num_threads == expected
        assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_predicted_as_files_are(kind, tmp_path, rng):
    images = rng.integers(0, 256, (3, 30, 40, 3), dtype=np.uint8)
    files = [tmp_path / f"{number}.png" for number in range(len(images))]
    for file, image in zip(files, images):
        file.write_bytes(encode_png(image))
    model = open_model(exported(kind, tmp_path))
    probabilities = model.predict(images)
    assert probabilities.dtype == np.float64 and np.abs(probabilities.sum(axis=1) - 1).max() < 1e-12
    for row, prediction in zip(probabilities, predict(model, [str(file) for file in files], top=len(NAMES))):
        assert [guess.label for guess in prediction.classes] == np.argsort(-row).tolist()
        np.testing.assert_allclose([guess.probability for guess in prediction.classes], np.sort(row)[::-1], rtol=1e-6)


@pytest.mark.parametrize("shape, dtype", (((1, 3, 8, 8), np.uint8), ((8, 8, 3), np.uint8), ((1, 8, 8, 3), np.float32)))
def test_other_pixels_are_refused(shape, dtype, tmp_path):
    model = open_model(exported("mxnet", tmp_path))
    with pytest.raises(InputError, match=r"predicts uint8 images \(N, H, W, 3\), not "):
        model.predict(np.zeros(shape, dtype))


def test_logits_that_are_not_finite_are_no_prediction(tmp_path):
    model = open_model(mxnet_pair(tmp_path / "nan", weights=np.full((len(NAMES), VALUES), np.nan, np.float32))[0])
    with pytest.raises(InputError, match="gives logits that are not finite"):
        model.predict(np.zeros((1, 20, 20, 3), np.uint8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "images",
    (
        np.zeros((1, 3, SIZE, SIZE), np.float64),
        np.zeros((1, 3, SIZE, SIZE), np.uint8),
        np.zeros((1, 4, SIZE, SIZE), np.float32),
        np.zeros((1, 3, SIZE + 1, SIZE), np.float32),
        np.zeros((3, SIZE, SIZE), np.float32),
        np.zeros((0, 3, SIZE, SIZE), np.float32),
        np.float32(0),
    ),
    ids=lambda images: f"{images.dtype}{images.shape}",
)
def test_other_images_are_refused(kind, images, tmp_path):
    model = open_model(exported(kind, tmp_path))
    with pytest.raises(InputError, match=r"takes float32 images \(N, 3, 16, 16\), not "):
        model(images)


def refuses(path, *words):
    with pytest.raises(InputError) as caught:
        open_model(path)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value).strip().splitlines()) == 1


@pytest.mark.parametrize("name", ("missing.onnx", "missing-symbol.json", "missing-0000.params"))
def test_missing_files_are_named(name, tmp_path):
    refuses(tmp_path / name, "missing", "does not exist; an exported network is NAME.onnx, or NAME-symbol.json beside")


def test_what_is_no_exported_network_is_said(tmp_path):
    (tmp_path / "model.params").write_bytes(b"x")
    for path in (tmp_path / "model.params", tmp_path, tmp_path / "missing"):
        refuses(path, f"{path} is no exported network; expected NAME.onnx")


@pytest.mark.parametrize("half", (SYMBOL, PARAMS))
def test_half_a_pair_is_refused(half, tmp_path):
    mxnet_pair(tmp_path / "tiny")
    (tmp_path / f"tiny{half}").unlink()
    for end in (SYMBOL, PARAMS):
        refuses(tmp_path / f"tiny{end}", f"tiny{half} does not exist")


@pytest.mark.parametrize(
    "end, words", ((SYMBOL, "tiny-symbol.json is not a JSON file"), (PARAMS, "tiny-0000.params is damaged"))
)
@pytest.mark.parametrize("share", (0.0, 0.5, 0.99))
def test_a_truncated_half_is_refused(end, words, share, tmp_path):
    symbol_file, _ = mxnet_pair(tmp_path / "tiny")
    path = tmp_path / f"tiny{end}"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refuses(symbol_file, words)


def test_the_other_half_of_an_older_pair_is_refused(tmp_path):
    """As a kill between the two writes, or a copy of one of them, leaves it."""
    symbol_file, params_file = mxnet_pair(tmp_path / "tiny")
    mx.nd.save(str(params_file), {"arg:dense_weight": mx.nd.zeros((len(NAMES), 3 * SIZE * SIZE))})
    refuses(symbol_file, "damaged, or not what was written with tiny-symbol.json: export both anew")


@pytest.mark.parametrize("share", (0.0, 0.5, 0.9, 0.99))
def test_a_truncated_onnx_file_is_refused(share, tmp_path):
    path = exported("onnxruntime", tmp_path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refuses(path, "tiny.onnx")


def test_foreign_files_are_refused(tmp_path):
    net = mx.gluon.nn.Dense(2)
    net.initialize()
    net(mx.nd.zeros((1, 3, 4, 4)))
    net.hybridize()
    net(mx.nd.zeros((1, 3, 4, 4)))
    net.export(str(tmp_path / "foreign"))
    refuses(tmp_path / "foreign-symbol.json", "foreign-symbol.json has no metadata of this project")
    (tmp_path / "odd-symbol.json").write_text(json.dumps({"nodes": [{"op": "Strange", "name": "a", "inputs": []}]}))
    (tmp_path / "odd-0000.params").write_bytes(b"")
    refuses(tmp_path / "odd-symbol.json", "is damaged, or not of this MXNet")


def test_a_foreign_onnx_file_is_refused(tmp_path):
    path = exported("onnxruntime", tmp_path)
    import onnx

    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.save(model, str(path))
    refuses(path, "tiny.onnx has no metadata of this project")


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_that_do_not_fit_the_network_are_refused(kind, tmp_path):
    few = replace(INFO, preprocessing=replace(PREPROCESSING, class_names=NAMES[:2]))
    refuses(exported(kind, tmp_path, few), "names 2 classes, but gives logits of shape (1, 6)")
    large = replace(INFO, preprocessing=replace(PREPROCESSING, input_size=SIZE + 1))
    refuses(exported(kind, tmp_path, large), "does not run")


def test_without_onnx_runtime_one_line_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refuses(path, "ONNX needs onnxruntime", "sh scripts/setup.sh --deploy")


def test_nothing_is_written_where_nothing_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        mxnet_pair(tmp_path / "file" / "tiny")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("where", ("attribute of an operator", "metadata"))
def test_a_symbol_that_changed_is_refused_before_it_is_read(where, tmp_path):
    symbol_file, _ = mxnet_pair(tmp_path / "tiny")
    graph = json.loads(symbol_file.read_text())
    data, dense = graph["nodes"][0], graph["nodes"][-1]
    if where == "metadata":
        data["attrs"]["__crop_ratio__"] = "0.5"
    else:
        dense["attrs"]["no_bias"] = "true" if dense["attrs"]["no_bias"] != "true" else "1"
    symbol_file.write_text(json.dumps(graph))
    with pytest.raises(InputError, match="has changed since it was written: export it anew"):
        open_model(symbol_file)


def test_a_pair_from_before_graphs_had_a_checksum_is_opened(tmp_path):
    symbol_file, _ = mxnet_pair(tmp_path / "tiny")
    graph = json.loads(symbol_file.read_text())
    del graph["nodes"][0]["attrs"]["__graph_sha256__"]
    symbol_file.write_text(json.dumps(graph))
    assert open_model(symbol_file).num_classes == len(NAMES)


@pytest.mark.parametrize(
    "name, text",
    (
        ("input_size", "1000000000"),
        ("input_size", "16.0"),
        ("mean", "[1, 2]"),
        ("std", "[0, 1, 1]"),
        ("crop_ratio", "1e999"),
        ("class_names", "[" * 5000),
        ("pad_to", "7" * 5000),
        ("precision", '"float99"'),
        ("architecture", "[]"),
    ),
)
def test_metadata_out_of_range_are_refused(name, text, tmp_path):
    symbol_file, _ = mxnet_pair(tmp_path / "tiny")
    graph = json.loads(symbol_file.read_text())
    del graph["nodes"][0]["attrs"]["__graph_sha256__"]
    graph["nodes"][0]["attrs"][f"__{name}__"] = text
    symbol_file.write_text(json.dumps(graph))
    with pytest.raises(InputError, match="tiny-symbol.json"):
        open_model(symbol_file)
