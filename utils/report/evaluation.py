"""The section of a report about what trained networks get right and wrong, by class."""

from __future__ import annotations

import shlex
from typing import Any, List, Tuple

from spos.core.errors import InputError
from spos.core.tables import Column, Table
from spos.deploy.classification import (
    EVALUATION_FILE,
    EVALUATION_FOLDER,
    SHEET_FILE,
    ClassShape,
    EvaluationShape,
    read_evaluation,
)
from spos.runs.run import MODEL_FILE, NETWORK_RUN, SUBNET_RUN
from utils.report.page import Section, Writer, command, details, heading, missing, picture, side_by_side, table, text
from utils.report.plots import calibration_plot, confusion_plot
from utils.report.runs import ReportedRun
from utils.report.sections import Runs, of_kind, score_columns, scores

SHOWN = 10  # classes, the weakest


def evaluation_section(runs: Runs, writer: Writer) -> Section:
    """By class, as far as `utils.evaluate --details` has looked at the runs."""
    parts: List[str] = []
    trained = of_kind(runs, SUBNET_RUN, NETWORK_RUN)
    for run in trained:
        parts += [heading(run.name)] if len(trained) > 1 else []
        parts += _evaluation(run, writer)
    return Section(
        "classes", "Right and wrong, by class", parts or [missing("No network was trained from scratch here.")]
    )


def _evaluation(run: ReportedRun, writer: Writer) -> List[str]:
    folder = run.run.path / EVALUATION_FOLDER
    try:
        found = read_evaluation(folder / EVALUATION_FILE)
    except InputError as error:
        return [missing(f"{error}.")]
    if found is None:
        words = ["python", "-m", "utils.evaluate", "--params", str(run.run.path / MODEL_FILE), "--details", str(folder)]
        line = shlex.join(words)
        return [missing(f"{run.name} has not been looked at by class. After this, the report shows it:"), command(line)]
    names = [one.name for one in found.classes]
    parts = [text(_describe(found))]
    plots = [writer.plot(calibration_plot(run.name, found.calibration_bins, found.calibration_error))]
    if isinstance(found.confusion, list):
        plots.append(writer.plot(confusion_plot(run.name, found.confusion, names)))
    parts.append(side_by_side(*plots))
    weakest = sorted((one for one in found.classes if one.num_images), key=lambda one: one.top1 or 0.0)
    parts.append(table(_class_table("Weakest classes", weakest[:SHOWN])))
    if len(names) > SHOWN:
        parts.append(details("Every class", table(_class_table("", found.classes))))
    sheet = folder / SHEET_FILE
    if sheet.is_file():
        parts.append(
            details("The images it is most wrong on", picture(sheet.read_bytes(), "images of the largest loss"))
        )
    return parts


def _describe(found: EvaluationShape) -> str:
    low, high = found.top1_interval
    return (
        f"Top-1 {found.top1:.2%} on the {found.num_images} images of the list '{found.split}' (95% interval {low:.2%} "
        f"to {high:.2%}); the mean of the classes, each counted alike, is {found.mean_class_top1:.2%}. Expected "
        f"calibration error {found.calibration_error:.2%}: how far, on average, the network is from being right as "
        "often as it is sure."
    )


def _class_table(title: str, classes: List[ClassShape]) -> Table:
    columns: Tuple[Column, ...] = (Column("class"), Column("images", spec=","), *score_columns())
    columns += (Column("precision", "precision (%)", spec=".2f"), Column("mistaken_for", "mistaken for"))
    rows = []
    for one in classes:
        accuracy: Tuple[Any, ...] = (None, None)
        if one.top1 is not None and one.top1_interval is not None:
            accuracy = scores(one.top1, one.top1_interval)
        precision = None if one.precision is None else 100 * one.precision
        rows.append((one.name, one.num_images, *accuracy, precision, one.mistaken_for))
    return Table(title, columns, tuple(rows))
