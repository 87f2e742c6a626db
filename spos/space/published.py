"""Published networks for ImageNet (224 px, 1000 classes): what their papers and projects print, as data.

Nothing here is computed. FLOPs are multiply-adds (one multiply-add is 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, NamedTuple, Optional, Tuple

PROJECT = "README of CanyonWind/Single-Path-One-Shot-NAS-MXNet (GitHub, 2019)"
MICRONET_PROJECT = "MicroNetChallenge/README.md of CanyonWind/Single-Path-One-Shot-NAS-MXNet (GitHub, 2019)"
SHUFFLENET_SERIES = "README of megvii-model/ShuffleNet-Series (GitHub)"


@dataclass(frozen=True)
class PublishedNetwork:
    """A row of a published table; what it does not print is None or empty.

    Args:
        macs, params: in units, with the few digits that are printed.
        score: the printed sum of normalized scores, as text, so that its digits are known.
        architecture: what counts the same network here: a published architecture, or `SUPERNET`.
        comparison_model: its name as a value of `--comparison-model`.
    """

    name: str
    macs: int
    params: int
    top1_percent: Optional[float] = None
    top5_percent: Optional[float] = None
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


SAMPLING_RANGES = ("flops-190-params-2.8", "flops-330-params-5.0")  # lower and upper costs in a supernet's training


class PublishedMicroNetScore(NamedTuple):
    """Operations and params in millions, reduced by their bits, and the score, all as printed."""

    operations: str
    params: str
    score: str


# For PROFILED, by the names of `spos.counting.micronet.PRECISIONS`. Source: MICRONET_PROJECT, whose older figures for
# int8 were 148, 0.95 and 0.26.
MICRONET_SCORES: Mapping[str, PublishedMicroNetScore] = {
    "float32": PublishedMicroNetScore("588", "3.65", "1.03"),
    "float16": PublishedMicroNetScore("438", "1.85", "0.64"),
    "int8, 8-bit sums": PublishedMicroNetScore("154", "1.01", "0.28"),
}

PROFILED = "oneshot-s+"  # the architecture of the two tables below and of MICRONET_SCORES


class PublishedRow(NamedTuple):
    """A row of the published profile: input size, channels, and figures in millions as printed."""

    in_size: int
    in_channels: int
    out_channels: int
    figures: Tuple[str, ...]  # params, multiplies, adds, and both of these

    @classmethod
    def parse(cls, line: str) -> PublishedRow:
        in_size, in_channels, out_channels, *figures = line.split()
        return cls(int(in_size), int(in_channels), int(out_channels), tuple(figures))


# Block level, from stem to classifier. Source: PROJECT.
PROFILE_ROWS: Tuple[PublishedRow, ...] = tuple(
    PublishedRow.parse(line)
    for line in """
    224 3 16 0.000 5.419 5.218 10.637
    112 16 16 0.000 0.603 0.201 0.804
    112 16 64 0.005 23.800 21.739 45.539
    56 64 64 0.004 12.136 11.255 23.391
    56 64 64 0.002 10.511 9.697 20.208
    56 64 64 0.005 16.389 15.451 31.840
    56 64 160 0.021 32.111 30.707 62.818
    28 160 160 0.023 17.573 16.859 34.432
    28 160 160 0.014 9.746 9.232 18.978
    28 160 160 0.015 11.103 10.538 21.641
    28 160 320 0.082 14.060 13.692 27.752
    14 320 320 0.080 11.834 11.582 23.416
    14 320 320 0.051 6.416 6.215 12.631
    14 320 320 0.063 8.898 8.673 17.571
    14 320 320 0.080 11.834 11.582 23.416
    14 320 320 0.091 14.168 13.891 28.059
    14 320 320 0.098 15.448 15.146 30.594
    14 320 320 0.103 16.501 16.199 32.700
    14 320 320 0.323 25.640 25.380 51.020
    7 640 640 0.244 8.311 8.196 16.507
    7 640 640 0.298 10.983 10.856 21.839
    7 640 640 0.368 14.445 14.293 28.738
    7 640 640 0.000 0.001 0.031 0.032
    1 640 1024 0.656 0.655 0.655 1.310
    1 1024 1024 0.000 0.003 0.001 0.004
    1 1024 1000 1.025 1.024 1.024 2.048
    """.strip().splitlines()
)
PROFILE_TOTALS: Tuple[Tuple[str, ...], ...] = (  # quantizable, not quantizable, all
    ("3.520", "292.820", "286.218", "579.038"),
    ("0.132", "6.801", "2.105", "8.905"),
    ("3.652", "299.621", "288.323", "587.943"),
)


def agrees(value: float, printed: str) -> bool:
    """Whether a number, rounded to as many digits, is the printed one."""
    digits = len(printed.partition(".")[2])
    return abs(value - float(printed)) <= 0.5 * 10**-digits + 1e-9
