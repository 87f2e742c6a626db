"""Model cards: what a published network is, how it was trained, how good its files are, and their checksums."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from msgspec import Struct, ValidationError, convert

from spos.core.errors import InputError
from spos.core.flags import split_files
from spos.core.intervals import student_interval
from spos.core.tables import Column, Table, as_markdown, in_millions
from spos.runs.files import PathLike, file_digest, read_json
from spos.runs.run import FILES_OF_A_RUN, MODEL_FILE, PLACES_OF_A_RUN
from spos.runs.schema import Choices, Hex, NotNegative, Positive, Share, ShareInterval

CARD_FILE, CARD_PAGE = "card.json", "README.md"
BEGINNINGS = ("teacher", "init_params", "init_from_supernet")  # networks that a training began with or learned from
PLACES = {*PLACES_OF_A_RUN, *FILES_OF_A_RUN, "save_dir", "logging_file"} - set(BEGINNINGS)


class FileCard(Struct, frozen=True):
    """A file: its checksum, and the accuracy that it has on the test images in ONNX Runtime."""

    sha256: Hex
    num_bytes: Positive
    top1: Share
    top1_interval: ShareInterval


class Trainings(Struct, frozen=True):
    """Test top-1 of trainings alike but for their seeds, and what their network costs."""

    flops: Positive
    params: Positive
    top1: List[Share]

    @property
    def text(self) -> str:
        """Their mean, with Student's t interval if there are several."""
        mean = sum(self.top1) / len(self.top1)
        if len(self.top1) < 2:
            return f"{mean:.2%} (one seed)"
        _, low, high = student_interval(self.top1)
        low, high = max(low, 0.0), min(high, 1.0)
        return f"{mean:.2%} (95% {low:.2%} to {high:.2%}, {len(self.top1)} seeds)"


class Card(Struct, frozen=True):
    """What `card.json` says.

    Args:
        data: name of the images; num_images: of the test images.    classes: names by label, if they are known.
        recipe: flags of `train_imagenet.py` that differ from their defaults, or from what --recipe makes of them; no
            places of files.
        hours: that the training took, by the speeds of its epochs.
        files: by name.    params_sha256: of the parameters.
        seeds: of this network; controls: of random networks. Both empty if there are none.
        note: on the images, and whatever else must be known.
    """

    name: str
    data: str
    num_images: Positive
    num_classes: Positive
    classes: List[str]
    input_size: Positive
    block_choices: Choices
    channel_choices: Choices
    flops: Positive
    params: Positive
    recipe: Dict[str, Any]
    epochs: Positive
    hours: NotNegative
    versions: Dict[str, Any]
    params_sha256: Hex
    files: Dict[str, FileCard]
    seeds: List[Trainings]
    controls: List[Trainings]
    note: str


def read_card(folder: PathLike) -> Card:
    """Of a published network. Raises: InputError that names what is wrong."""
    path = Path(folder) / CARD_FILE
    try:
        return convert(read_json(path), Card)
    except ValidationError as error:
        raise InputError(f"{path} is no card of a network: {error}") from None


def check_files(folder: PathLike, card: Card) -> None:
    """Raise InputError if a file is missing, or not the one that the card was written for."""
    digests = {name: file.sha256 for name, file in card.files.items()}
    for name, expected in {**digests, MODEL_FILE: card.params_sha256}.items():
        path = Path(folder) / name
        if not path.is_file():
            raise InputError(f"{path} is missing")
        if file_digest(path) != expected:
            raise InputError(f"{path} is not the file that its card describes")


def without_places(config: Mapping[str, Any]) -> Dict[str, Any]:
    """The `config.json` of a run without the places of files on the machine that trained it."""
    return {**config, "options": _told(config["options"])}


def recipe_of(groups: Sequence[Any], recipe: Mapping[str, Any]) -> Dict[str, Any]:
    """What differs from the defaults in filled groups of flags, or from what a recipe makes of them.

    Places of files are left out.

    Args:
        recipe: values by name, of `--recipe`.
    """
    changed = {
        item.name: getattr(group, item.name)
        for group in groups
        for item in fields(group)
        if any(getattr(group, item.name) != value for value in (item.default, recipe.get(item.name, item.default)))
    }
    return _told(changed)


def _told(options: Mapping[str, Any]) -> Dict[str, Any]:
    """Flags without places of files; of networks that a training began with, the file and the folder that it is in."""
    short = {name: _short(value) if name in BEGINNINGS else value for name, value in options.items()}
    return {name: value for name, value in short.items() if name not in PLACES}


def _short(names: str) -> str:
    return ",".join("/".join(Path(name).parts[-2:]) for name in split_files(names))


def card_page(card: Card) -> str:
    """The card as Markdown."""
    columns = (
        *(Column("file"), Column("bytes", spec=",")),
        *(Column("top-1", spec=".2%"), Column("95% from", spec=".2%"), Column("to", spec=".2%"), Column("sha256")),
    )
    lines = tuple(
        (name, file.num_bytes, file.top1, *file.top1_interval, file.sha256) for name, file in card.files.items()
    )
    recipe = " ".join(_flag(name, value) for name, value in card.recipe.items())
    names = f": {', '.join(card.classes)}" if card.classes else ""
    rows: List[Tuple[str, str]] = [
        ("images", f"{card.data}, {card.input_size} px, {card.num_classes} classes{names}"),
        ("cost", f"{in_millions(card.flops, 2)} FLOPs (multiply-adds), {in_millions(card.params, 3)} params"),
        ("block choices", ", ".join(map(str, card.block_choices))),
        ("channel choices", ", ".join(map(str, card.channel_choices))),
        ("trained", f"{card.epochs} epochs, {card.hours:.1f} hours"),
        *(("test top-1 of its trainings", one.text) for one in card.seeds),
        *(
            ("a random network, trained alike", f"{one.text}, {in_millions(one.flops, 2)} FLOPs")
            for one in card.controls
        ),
        ("recipe", f"`{recipe}`"),
    ]
    described = Table("", (Column(""), Column(" ")), tuple(rows))
    parts = (f"# {card.name}", as_markdown(described), as_markdown(Table("", columns, lines)))
    measured = f"Top-1 of each file on the {card.num_images:,} test images in ONNX Runtime, with Wilson intervals."
    ends = (measured, card.note)
    return "\n\n".join((*parts, *filter(None, ends))) + "\n"


def _flag(name: str, value: Any) -> str:
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {value}"
