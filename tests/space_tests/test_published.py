"""Published networks: the data, what follows from it, and the table that is made of it."""

import pytest

from spos.counting.comparison import score_follows
from spos.space.cost import COMPARISON_MODELS, Cost, cost_score
from spos.space.published import NETWORKS, agrees

BY_NAME = {network.name: network for network in NETWORKS}


@pytest.mark.parametrize(
    "name, flops, params, top1, printed",
    (
        ("OneShot+ Supernet", 841.9, 15.4, 62.90, "7.09"),
        ("OneShot-S+", 291, 3.5, 75.75, "1.9166"),
        ("OneShot+", 297, 3.7, 75.24, "1.9937"),
        ("OneShot", 328, 3.4, 74.02, "2"),
        ("OneShot (official)", 328, 3.4, 74.9, "2"),
        ("FBNet-B", 295, 4.5, 74.1, "2.19"),
        ("MnasNet", 317, 4.2, 74.0, "2.20"),
        ("DARTS", 574, 4.7, 73.3, "3.13"),
        ("NASNet-A", 564, 5.3, 74.0, "3.28"),
        ("PNASNet", 588, 5.1, 74.2, "3.29"),
        ("MobileNetV3-Large", 217, 5.4, 75.2, "2.25"),
        ("MobileNetV2-1.4", 585, 6.9, 74.7, "3.81"),
        ("MobileNetV1", 569, 4.2, 70.6, "2.97"),
        ("ShuffleNetV2-2x", 591, 7.4, 75.0, "3.98"),
        ("ShuffleNetV1-2x", 524, 5.4, 74.1, "3.19"),
    ),
)
def test_published_figures(name, flops, params, top1, printed):
    network = BY_NAME[name]
    assert (network.macs / 1e6, network.params / 1e6) == (flops, params)
    assert (network.top1_percent, network.score) == (top1, printed)


def test_two_printed_scores_do_not_follow():
    assert [network.name for network in NETWORKS if score_follows(network) is False] == ["OneShot+ Supernet", "FBNet-B"]
    assert [network.name for network in NETWORKS if score_follows(network) is None] == ["ShuffleNetV2+ Medium"]
    assert (
        cost_score(Cost(295_000_000, 4_500_000)).normalized_sum
        == pytest.approx(295 / 328 + 4.5 / 3.4)
        == pytest.approx(2.2229, abs=1e-4)
    )


@pytest.mark.parametrize(
    "value, printed, expected",
    (
        (2.195, "2.20", True),
        (2.1949, "2.20", False),
        (2.2051, "2.20", False),
        (148.4, "148", True),
        (149.2, "148", False),
    ),
)
def test_agreement_is_of_the_printed_digits(value, printed, expected):
    assert agrees(value, printed) is expected


def test_comparison_models_are_published_networks():
    sizes = {name: (model.macs / 1e6, model.params / 1e6) for name, model in COMPARISON_MODELS.items()}
    assert sizes == {
        "SinglePathOneShot": (328, 3.4),
        "MobileNetV3_large": (217, 5.4),
        "MobileNetV2_1.4": (585, 6.9),
        "ShuffleNetV2+_medium": (222, 5.6),
    }
