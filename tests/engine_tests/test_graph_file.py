"""Graphs of exported networks: what MXNet would follow into foreign memory is refused before it reads it."""

import json

import pytest
from conftest import TINY

from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.graph_file import load_symbol


@pytest.mark.parametrize(
    "text, words",
    (("[1]", "it has no list of nodes"), ('{"nodes": [{"op": "nonsense"}]}', "is damaged, or not of this")),
)
def test_what_is_no_symbol_is_refused(text, words, tmp_path):
    (tmp_path / "net-symbol.json").write_text(text)
    with pytest.raises(InputError, match=words):
        load_symbol(tmp_path / "net-symbol.json")


@pytest.fixture
def graph(rng):
    net = Subnet(TINY, TINY.sample(rng))
    return json.loads(net(mx.sym.var("data")).tojson())


def first(graph, operator):
    return next(node for node in graph["nodes"] if node["op"] == operator)


def test_a_sound_graph_is_read(graph, tmp_path):
    (tmp_path / "net-symbol.json").write_text(json.dumps(graph))
    assert load_symbol(tmp_path / "net-symbol.json").list_inputs()[0] == "data"


CHANGES = {
    "a later node": lambda graph: first(graph, "Convolution")["inputs"].__setitem__(0, [5000, 0, 0]),
    "itself": lambda graph: graph["nodes"][-1]["inputs"].__setitem__(0, [len(graph["nodes"]) - 1, 0, 0]),
    "an output that is not there": lambda graph: first(graph, "Convolution")["inputs"].__setitem__(0, [0, 7, 0]),
    "a fourth output": lambda graph: graph["heads"].__setitem__(0, [graph["heads"][0][0], 3, 0]),
    "a negative index": lambda graph: first(graph, "Convolution")["inputs"].__setitem__(0, [-1, 0, 0]),
    "a head beyond the end": lambda graph: graph["heads"].__setitem__(0, [len(graph["nodes"]), 0, 0]),
    "no heads": lambda graph: graph.update(heads=[]),
    "other arguments": lambda graph: graph.update(arg_nodes=graph["arg_nodes"][1:]),
    "no groups": lambda graph: first(graph, "Convolution")["attrs"].update(num_group="0"),
    "groups that are no number": lambda graph: first(graph, "Convolution")["attrs"].update(num_group="one"),
    "no stride": lambda graph: first(graph, "Convolution")["attrs"].update(stride="(0, 0)"),
    "a kernel below zero": lambda graph: first(graph, "Convolution")["attrs"].update(kernel="(-3, 3)"),
    "a pad of thousands": lambda graph: first(graph, "Convolution")["attrs"].update(pad="(99999, 1)"),
    "filters of gigabytes": lambda graph: first(graph, "Convolution")["attrs"].update(num_filter="2147483647"),
    "an attribute that is no text": lambda graph: first(graph, "Convolution")["attrs"].update(num_group=1),
    "an address": lambda graph: first(graph, "Convolution").update(op="_Native", attrs={"info": "0x7f0000000000"}),
    "a bias that is not there": lambda graph: first(graph, "Convolution")["attrs"].pop("no_bias"),
    "a norm of four inputs": lambda graph: first(graph, "BatchNorm")["inputs"].pop(),
    "a variable that reads": lambda graph: graph["nodes"][0].update(inputs=[[0, 0, 0]]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_graph_that_would_end_the_process_is_refused(change, graph, tmp_path, monkeypatch):
    change(graph)
    (tmp_path / "net-symbol.json").write_text(json.dumps(graph))
    monkeypatch.setattr(mx.sym, "load_json", None)
    with pytest.raises(InputError, match="net-symbol.json is damaged, or not of this MXNet: "):
        load_symbol(tmp_path / "net-symbol.json")
