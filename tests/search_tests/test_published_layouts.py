"""The published layouts as files: what they were before they were files, to the last draw of a search."""

import hashlib
import json

import numpy as np
import pytest

from oneshot_nas_network import Supernet
from spos.sampling.limits import Constraints
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings, drive, genetic_search
from spos.space.cost import cost_table
from spos.space.space_file import load_space, search_space

# Of the code in which the layouts were tables in Python: fingerprint, names and shapes of parameters, draws.
WITH_SE = {"use_se": True, "last_conv_after_pooling": True}
BEFORE = (
    ("OneShot", {}, "c6bcf772f0f2c462", "3c16a50ce690", "02e0b839a85d"),
    ("OneShot", WITH_SE, "0859e0658b3cb69a", "513f119b5028", "02e0b839a85d"),
    ("ShuffleNetV2+", {}, "932332e1e4679798", "b21d565cd728", "02e0b839a85d"),
    ("ShuffleNetV2+", WITH_SE, "88740d41d8a5f41b", "67e1180d6317", "02e0b839a85d"),
    ("Small", {}, "9732fe8d132dfe4e", "6b27143cc8cf", "9d8ff22a729a"),
    ("Small", WITH_SE, "a8b8adf9b42b33f3", "0b08b47fa012", "9d8ff22a729a"),
)
SEARCHED_BEFORE = {"OneShot": "963ac6887401", "ShuffleNetV2+": "86328e04b473", "Small": "8d5fd2d1c44c"}


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


@pytest.mark.parametrize("layout, flags, fingerprint, parameters, draws", BEFORE)
def test_a_layout_is_what_it_was(layout, flags, fingerprint, parameters, draws):
    space = search_space(layout, num_classes=10, **flags)
    assert space.fingerprint == fingerprint
    net = Supernet(space)
    assert digest(sorted((n, list(p.shape)) for n, p in net._collect_params_with_prefix().items())) == parameters
    rng = np.random.default_rng(0)
    drawn = [list(space.sample(rng, lowest).genes) for lowest in (None, 9, 5, 2) for _ in range(10)]
    assert digest(drawn) == draws


@pytest.mark.parametrize("layout", SEARCHED_BEFORE)
def test_a_search_asks_for_what_it_asked_for(layout):
    space, asked = search_space(layout, num_classes=10, **WITH_SE), []
    table = cost_table(space)

    def score(architectures):
        asked.extend(list(architecture.genes) for architecture in architectures)
        return [table.cost(architecture).macs % 1009 / 1009 for architecture in architectures]

    middle = sum(cost.macs for cost in table.range()) / 2e6
    domain = Domain(space, Constraints(score_max=None, flop_max_m=middle))
    settings = GeneticSettings(population_size=12, retain_length=4, num_iterations=6)
    drive(genetic_search(domain, settings, np.random.default_rng(0)), score)
    assert digest(asked) == SEARCHED_BEFORE[layout]


def test_the_names_of_layouts_and_of_files_mean_the_same():
    for layout in SEARCHED_BEFORE:
        assert load_space(layout) == load_space(layout.lower()) == search_space(layout)
