"""Published networks for ImageNet (224 px, 1000 classes): what their papers and projects print, as data.

Nothing here is computed. FLOPs are multiply-adds (one multiply-add is 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

PROJECT = "README of CanyonWind/Single-Path-One-Shot-NAS-MXNet (GitHub, 2019)"
MICRONET_PROJECT = "MicroNetChallenge/README.md of CanyonWind/Single-Path-One-Shot-NAS-MXNet (GitHub, 2019)"
SHUFFLENET_SERIES = "README of megvii-model/ShuffleNet-Series (GitHub)"


@dataclass(frozen=True)
class PublishedNetwork:
    """A row of a published table; what is not printed there is None or empty.

    Args:
        macs, params: in units, with the few digits that are printed.
        top1, top5: accuracies in percent.
        score: the printed sum of normalized scores, as text, so that its digits are known.
        architecture: what counts the same network here: a published architecture, or `SUPERNET`.
        comparison_model: its name as a value of `--comparison-model`.
    """

    name: str
    macs: int
    params: int
    top1: Optional[float] = None
    top5: Optional[float] = None
    score: str = ""
    architecture: str = ""
    comparison_model: str = ""
    source: str = PROJECT


SUPERNET = "supernet"  # as a PublishedNetwork's architecture: of the space of OneShot+

NETWORKS: Tuple[PublishedNetwork, ...] = (
    PublishedNetwork("OneShot+ Supernet", 841_900_000, 15_400_000, 62.90, 84.49, "7.09", SUPERNET),
    PublishedNetwork("OneShot-S+", 291_000_000, 3_500_000, 75.75, 92.77, "1.9166", "oneshot-s+"),
    PublishedNetwork("OneShot+", 297_000_000, 3_700_000, 75.24, 92.58, "1.9937", "oneshot+"),
    PublishedNetwork("OneShot", 328_000_000, 3_400_000, 74.02, 91.60, "2", "oneshot", "SinglePathOneShot"),
    PublishedNetwork("OneShot (official)", 328_000_000, 3_400_000, 74.9, 92.0, "2", "oneshot"),
    PublishedNetwork("FBNet-B", 295_000_000, 4_500_000, 74.1, None, "2.19"),
    PublishedNetwork("MnasNet", 317_000_000, 4_200_000, 74.0, 91.8, "2.20"),
    PublishedNetwork("DARTS", 574_000_000, 4_700_000, 73.3, 91.3, "3.13"),
    PublishedNetwork("NASNet-A", 564_000_000, 5_300_000, 74.0, 91.6, "3.28"),
    PublishedNetwork("PNASNet", 588_000_000, 5_100_000, 74.2, 91.9, "3.29"),
    PublishedNetwork("MobileNetV3-Large", 217_000_000, 5_400_000, 75.2, None, "2.25", "", "MobileNetV3_large"),
    PublishedNetwork("MobileNetV2-1.4", 585_000_000, 6_900_000, 74.7, None, "3.81", "", "MobileNetV2_1.4"),
    PublishedNetwork("MobileNetV1", 569_000_000, 4_200_000, 70.6, None, "2.97"),
    PublishedNetwork("ShuffleNetV2-2x", 591_000_000, 7_400_000, 75.0, 92.4, "3.98"),
    PublishedNetwork("ShuffleNetV1-2x", 524_000_000, 5_400_000, 74.1, 91.4, "3.19"),
    PublishedNetwork(
        "ShuffleNetV2+ Medium",
        222_000_000,
        5_600_000,
        75.7,
        92.6,
        comparison_model="ShuffleNetV2+_medium",
        source=SHUFFLENET_SERIES,
    ),
)


@dataclass(frozen=True)
class PublishedScore:
    """A MicroNet score as printed for oneshot-s+: operations and params in units, after the reduction by their bits."""

    operations: int
    params: int
    score: str


# For oneshot-s+, by the names of `spos.micronet.PRECISIONS`. Source: MICRONET_PROJECT.
MICRONET_SCORES: Mapping[str, PublishedScore] = {
    "float32": PublishedScore(588_000_000, 3_650_000, "1.03"),
    "float16": PublishedScore(438_000_000, 1_850_000, "0.64"),
    "int8 (as published)": PublishedScore(148_000_000, 950_000, "0.26"),
}
