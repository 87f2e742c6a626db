"""The worth of the BatchNorm update: top-1 of architectures of a supernet after updates on more and more images.

python -m utils.bn_update_effect --supernet runs/digits/supernet --architectures 16 --counts 0,16,64,256,1000

Architectures are drawn uniformly from the supernet's space, or are those of a file (`--like`). Each is scored on the
images held out from the supernet's training, with the statistics of the first N training images of the list that
updates BatchNorm; 0 stands for the subnet as it is cut from the supernet, with the running statistics of all paths.
Every score is a row of `bn_update.jsonl` in the supernet's run, where `utils.report` finds it; the same command goes on
where it was stopped.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, not_negative, pick, positive, run_program
from spos.core.progress import progress_bar
from spos.core.seeds import derive_rng
from spos.core.tables import table
from spos.engine.devices import make_devices
from spos.engine.flags import DeviceOptions
from spos.runs.journal import Journal, read_rows
from spos.runs.lock import locked
from spos.runs.run import BN_UPDATE_FILE, BnUpdateRow
from spos.scoring.accuracy import evaluate
from spos.scoring.candidate import CandidateEvaluator, candidate_evaluator
from spos.scoring.job import ScoringJob
from spos.scoring.supernet import load_supernet
from spos.scoring.trained import TrainedSupernet
from spos.search.history import HistoryRow, check_history
from spos.space.architecture import Architecture, architecture_of, choices_of, parse_choices
from spos.space.flags import BlocksOptions, use_blocks
from spos.space.space import SearchSpace

COUNTS = (0, 16, 64, 256, 1000)
SPLIT = "search_val"


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, (DeviceOptions, BlocksOptions))
    parser.add_argument("--supernet", type=Path, required=True, help="run directory of a trained supernet")
    parser.add_argument("--architectures", type=positive, default=16, help="how many are drawn [%(default)s]")
    parser.add_argument(
        "--like", type=Path, help="file of rows (history.jsonl, alone.jsonl): its architectures instead"
    )
    parser.add_argument("--counts", default="", help="images of the updates [0,16,64,256,1000, up to the whole list]")
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of the architectures [%(default)s]")
    args = parser.parse_args(argv)
    use_blocks(pick(BlocksOptions, args))
    supernet = TrainedSupernet.of_run(args.supernet)
    architectures = chosen_architectures(args.like, args.architectures, supernet.space, args.seed)
    with locked(args.supernet):
        effect = open_effect(supernet, pick(DeviceOptions, args))
        counts = chosen_counts(args.counts, effect.evaluator.bn_images.num_images)
        journal = Journal(args.supernet / BN_UPDATE_FILE, BnUpdateRow)
        check_history(journal.rows, effect.job.identity, journal.path)
        rows = measure(effect, architectures, counts, journal)
    print(table([*describe(rows, counts), ("written to", journal.path)]))
    return 0


@dataclass(frozen=True)
class Effect:
    """A supernet with what scores its paths."""

    job: ScoringJob
    evaluator: CandidateEvaluator
    net: Any

    def top1(self, architecture: Architecture, num_bn_images: int) -> Dict[str, Any]:
        """Accuracy after an update on the first images of the list; 0: with the statistics of the supernet."""
        own = self.evaluator
        batches = own.images.batches(own.batch_size, own.ctx)
        if num_bn_images == 0:
            return evaluate(self.net.extract(architecture), batches).to_json()
        path = own.path(architecture)
        path.update_batch_norm(own.bn_images.batches(own.batch_size, own.ctx, 0, num_bn_images))
        return evaluate(path.logits, batches).to_json()


def open_effect(supernet: TrainedSupernet, devices: DeviceOptions) -> Effect:
    ctx = make_devices(devices)
    folder = Path(supernet.params).parent
    job = supernet.job(folder, devices=devices)
    net = load_supernet(supernet.params, supernet.space, ctx)
    return Effect(job, candidate_evaluator(net, supernet.images, supernet.data, folder, ctx, split=SPLIT), net)


def chosen_counts(text: str, num_images: int) -> Tuple[int, ...]:
    """Rising numbers of images. Raises InputError if they are malformed or the list has fewer."""
    if not text:
        return (*(count for count in COUNTS if count < num_images), num_images)
    counts = tuple(sorted(set(parse_choices(text, "--counts"))))
    if not counts or counts[0] < 0 or counts[-1] > num_images:
        raise InputError(f"--counts {text} must be numbers from 0 to {num_images}, the images of the update list")
    return counts


def chosen_architectures(like: Optional[Path], count: int, space: SearchSpace, seed: int) -> List[Architecture]:
    """Those of a file of rows, each once; else uniform ones, of which more begin with the same ones.

    Raises: InputError if the file holds none, or others than of this space.
    """
    if like is None:
        rng = derive_rng(seed, "bn update effect")
        return [space.sample(rng) for _ in range(count)]
    rows = read_rows(like, HistoryRow, with_check=True)
    if not rows or not all({"block_choices", "channel_choices"} <= set(row) for row in rows):
        raise InputError(f"--like {like} holds no rows with block_choices and channel_choices")
    return [space.validate(one, str(like)) for one in dict.fromkeys(map(architecture_of, rows))]


def measure(
    effect: Effect, architectures: Sequence[Architecture], counts: Sequence[int], journal: Journal
) -> List[Dict[str, Any]]:
    """A row for each architecture and number of images, from the journal or appended to it."""
    known = {(architecture_of(row), row["num_bn_images"]): row for row in journal.rows}
    wanted = [(architecture, count) for architecture in architectures for count in counts]
    missing = [pair for pair in wanted if pair not in known]
    for architecture, count in progress_bar(missing, desc="BatchNorm updates"):
        scores = effect.top1(architecture, count)
        journal.append({**choices_of(architecture), "num_bn_images": count, **scores, **effect.job.identity})
        known[architecture, count] = journal.rows[-1]
    return [known[pair] for pair in wanted]


def describe(rows: Sequence[Dict[str, Any]], counts: Sequence[int]) -> List[Tuple[str, str]]:
    """Means over the architectures."""
    lines = [("images of the update", "mean top-1")]
    for count in counts:
        tops = [row["top1"] for row in rows if row["num_bn_images"] == count]
        lines.append((str(count), f"{sum(tops) / len(tops):.2%} ({len(tops)} architectures)"))
    return lines


if __name__ == "__main__":
    sys.exit(run_program(main))
