"""The table of published networks: what they print beside what follows from it, and beside our own count."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from spos.core.tables import Column, Table, millions
from spos.space.architecture_file import load_architecture
from spos.space.cost import (
    COMPARISON_MODELS,
    DEFAULT_COMPARISON_MODEL,
    Cost,
    cost_score,
    cost_table,
    count_architecture,
    count_supernet,
)
from spos.space.published import NETWORKS, PROJECT, SUPERNET, PublishedNetwork, agrees
from spos.space.space_file import search_space

SUPERNET_SPACE = search_space(use_se=True, last_conv_after_pooling=True)  # of the published supernet, by its name

COLUMNS = (
    Column("network"),
    millions("published_flops", "published FLOPs", "g"),
    millions("published_params", "published params", "g"),
    Column("published_top1_percent", "top-1", "%", spec="g"),
    Column("published_top5_percent", "top-5", "%", spec="g"),
    Column("published_score", "published score"),
    Column("computed_score", "computed score", spec=".4f"),
    millions("counted_flops", "counted FLOPs"),
    millions("counted_params", "counted params"),
    Column("counted_score", "counted score", spec=".4f"),
)


def published_cost(network: PublishedNetwork) -> Cost:
    return Cost(network.macs, network.params)


def counted_cost(network: PublishedNetwork) -> Optional[Cost]:
    """Our own exact count of a published network; None for those that this project does not build."""
    if network.architecture == SUPERNET:
        return count_supernet(SUPERNET_SPACE)
    if not network.architecture:
        return None
    record = load_architecture(network.architecture)
    return count_architecture(record.space, record.architecture)


def score_follows(network: PublishedNetwork) -> Optional[bool]:
    """Whether the printed score follows from the printed FLOPs and params; None if no score is printed."""
    return agrees(cost_score(published_cost(network)).normalized_sum, network.score) if network.score else None


def comparison_table(
    others: Sequence[Tuple[str, Cost]] = (), comparison_model: str = DEFAULT_COMPARISON_MODEL
) -> Table:
    """All published networks, then other counted ones.

    Args:
        others: names and costs of what else was counted.
        comparison_model: what the computed scores are relative to; the printed ones are relative to the default.
    """

    def relative(cost: Optional[Cost]) -> Optional[float]:
        return cost_score(cost, comparison_model).normalized_sum if cost else None

    rows = []
    for network in NETWORKS:
        printed, counted = published_cost(network), counted_cost(network)
        accuracies = (network.top1_percent, network.top5_percent)
        rows.append(
            (network.name, *printed, *accuracies, network.score or None, relative(printed))
            + (*(counted or (None, None)), relative(counted))
        )
    rows += [(name, *(None,) * 6, *cost, relative(cost)) for name, cost in others]
    return Table("Published networks, ImageNet at 224 px", COLUMNS, tuple(rows), tuple(_notes(comparison_model)))


def _notes(comparison_model: str) -> List[str]:
    model = COMPARISON_MODELS[comparison_model]
    elsewhere = [f"{network.name}: {network.source}" for network in NETWORKS if network.source != PROJECT]
    wrong = [network for network in NETWORKS if score_follows(network) is False]
    return [
        f"Published (FLOPs are multiply-adds): {'; '.join([PROJECT, *elsewhere])}.",
        f"Computed from the published figures: the sum of normalized scores FLOPs / {model.macs / 1e6:g} M + params / "
        f"{model.params / 1e6:g} M. Counted: the network itself.",
        *(
            f"{network.name}: the printed score {network.score} does not follow; {_computed(network)}."
            for network in wrong
        ),
        supernet_note(),
    ]


def _computed(network: PublishedNetwork) -> str:
    """How the score of a network comes about, with one digit more than is printed."""
    model = COMPARISON_MODELS[DEFAULT_COMPARISON_MODEL]
    digits = len(network.score.partition(".")[2])
    parts = f"{network.macs / 1e6:g} / {model.macs / 1e6:g} + {network.params / 1e6:g} / {model.params / 1e6:g}"
    return f"{parts} = {cost_score(published_cost(network)).normalized_sum:.{digits + 1}f}"


def supernet_note() -> str:
    """What the published figures of the supernet are, beside what its networks really have."""
    plain, without_se_space, own = search_space(), search_space(last_conv_after_pooling=True), SUPERNET_SPACE
    blocks = sum(sum(kind[-1].params for kind in block) for block in cost_table(own).blocks)
    widest_xception = plain.widest((len(plain.blocks) - 1,) * plain.num_choice_blocks)
    trained, without_se = count_supernet(own), count_supernet(without_se_space)
    xception = count_architecture(plain, widest_xception)
    return (
        f"OneShot+ Supernet: 15.4M params are printed; {trained.params:,} are trained, {blocks:,} of them in choice "
        f"blocks ({without_se.params:,} without SE). The printed 841.9M FLOPs are those of SXB-3 at full width in "
        f"every block, without SE ({xception.macs:,}); the largest path has {trained.macs:,} "
        f"({without_se.macs:,} without SE)."
    )
