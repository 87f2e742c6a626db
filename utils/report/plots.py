"""The interactive figures of a report. Colours are names of variables of the page's style (`page.css`)."""

from __future__ import annotations

from html import escape
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from plotly import graph_objects as go

from spos.core.intervals import student_interval
from spos.deploy.classification import BinShape
from spos.search.ancestry import Ancestry
from spos.search.costs import COSTS
from spos.search.front import hypervolume
from spos.search.history import History, Row
from spos.space.space import SearchSpace
from utils.plot.training import LR_WARM_UP, Run
from utils.plot.warm_up import CHANNEL_WARM_UP, FULL_WIDTH
from utils.report.page import NUM_COLOURS, Plot

INK, MUTED, FAINT, GRID = "var(--ink)", "var(--muted)", "var(--faint)", "var(--grid)"
ACCENT, BLUE, BAND, EDGE = "var(--accent)", "var(--blue)", "var(--band)", "var(--edge)"
SHADES = {LR_WARM_UP: "var(--shade)", FULL_WIDTH: BAND, CHANNEL_WARM_UP: "var(--warm)"}
RAMP = [[i / 3, f"var(--ramp-{i})"] for i in range(4)]  # of iterations
CLEAR = "rgba(0,0,0,0)"
FLAT = 0.06  # height of a block that computes nothing, of a strip
EVALUATION = "evaluation"  # as an x axis: the order of the search
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"


def empty_figure(x_title: str, y_title: str, height: int = 380, percent: bool = False) -> go.Figure:
    """Axes without data; the legend stands above them."""
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True}
    return go.Figure(
        layout={
            "template": go.layout.Template(),
            "height": height,
            "paper_bgcolor": CLEAR,
            "plot_bgcolor": CLEAR,
            "font": {"family": FONT, "size": 13, "color": INK},
            "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": 1.02,
                "yanchor": "bottom",
                "font": {"size": 12},
                "traceorder": "normal",
            },
            "hoverlabel": {"bgcolor": "var(--panel)", "bordercolor": FAINT, "font": {"color": INK, "size": 12}},
            "xaxis": {**axis, "title": {"text": x_title, "standoff": 10}},
            "yaxis": {**axis, "title": {"text": y_title}, "tickformat": ".1~%" if percent else ""},
            "hovermode": "closest",
            "dragmode": False,
        }
    )


def training_plots(run: Run, validated: str) -> Tuple[Plot, Plot]:
    """Loss, and top-1, over the epochs.

    Args:
        validated: what the images of `val_top1` are called.
    """
    losses = empty_figure("epochs done", "training loss", 320)
    tops = empty_figure("epochs done", "top-1", 320, percent=True)
    for figure in (losses, tops):
        figure.update_xaxes(rangemode="tozero")
        for name, start, end in run.phases:
            figure.add_shape(
                **{"type": "rect", "x0": start, "x1": end, "y0": 0, "y1": 1, "yref": "paper", "layer": "below"},
                **{"fillcolor": SHADES[name], "line": {"width": 0}, "name": name, "showlegend": True},
            )
    losses.add_trace(_curve(run, "loss", "training loss", BLUE, ".3f"))
    tops.add_trace(_curve(run, "top1", "training images", FAINT, ".2%"))
    if run.curve("val_top1")[0]:
        tops.add_trace(_curve(run, "val_top1", validated, ACCENT, ".2%"))
    if run.curve("ema_top1")[0]:
        tops.add_trace(_curve(run, "ema_top1", f"averaged weights, {validated}", BLUE, ".2%"))
    return Plot(f"training loss of {run.name}", losses), Plot(f"top-1 of {run.name}", tops)


def _curve(run: Run, key: str, name: str, colour: str, spec: str) -> go.Scatter:
    epochs, values = run.curve(key)
    return go.Scatter(
        x=epochs,
        y=values,
        name=name,
        mode="lines+markers" if len(epochs) < 60 else "lines",
        line={"color": colour, "width": 2},
        marker={"size": 5},
        hovertemplate=f"epoch %{{x}}<br>{name} %{{y:{spec}}}<extra></extra>",
    )


def describe(space: SearchSpace, row: Row) -> str:
    """The architecture of a row and all that was found of it, in lines of plain text."""
    low, high = row["top1_interval"]
    latency = f" · {row['latency_ms']:.2f} ms" if "latency_ms" in row else ""
    size = f" · {row['input_size']} px" if "input_size" in row else ""
    of = f" of {row['num_images']} images" if "num_images" in row else ""
    dropped = f"\ndropped early: scored on {row.get('num_images')} images only" if row.get("dropped") else ""
    return (
        f"top-1 {row['top1']:.2%} (95% interval {low:.2%} to {high:.2%}{of})\n"
        f"{row['flops'] / 1e6:.3f}M FLOPs · {row['params'] / 1e6:.3f}M params{latency}{size}\n"
        f"evaluation {row['evaluation']} · iteration {row['iteration']}\n"
        f"blocks {_by_stage(space, row['block_choices'])}\n"
        f"channels {_by_stage(space, row['channel_choices'])}{dropped}"
    )


def _by_stage(space: SearchSpace, choices: Sequence[int]) -> str:
    """Choices, the stages apart: `0 3 1 | 2 2`."""
    stages: Dict[int, List[str]] = {}
    for block, choice in zip(space.choice_blocks, choices):
        stages.setdefault(block.stage, []).append(str(choice))
    return " | ".join(" ".join(stage) for stage in stages.values())


def inspected(space: SearchSpace, row: Row) -> List[Any]:
    """What the panel below a figure shows of a row: text, colours of kinds, heights, first blocks of the stages."""
    numbers = {kind.name: number for number, kind in enumerate(space.blocks)}
    kinds = [numbers[own.blocks[b].name] for own, b in zip(space.choices, row["block_choices"])]
    firsts = [block.index for block in space.choice_blocks if block.projects]
    return [describe(space, row), [kind % NUM_COLOURS for kind in kinds], _heights(space, row), firsts]


def _heights(space: SearchSpace, row: Row) -> List[float]:
    """The number of each width among those of its choice block, as a share; FLAT for what computes nothing."""
    heights = []
    for index, (b, c) in enumerate(zip(row["block_choices"], row["channel_choices"])):
        share = round((c + 1) / len(space.choices[index].channel_scales), 3)
        heights.append(share if space.block_layers(index, b, c).main else FLAT)
    return heights


def passes_on(space: SearchSpace) -> bool:
    """Whether some choice computes nothing."""
    places = ((i, b) for i, own in enumerate(space.choices) for b in range(len(own.blocks)))
    return any(not space.block_layers(i, b, -1).main for i, b in places)


def search_plot(history: History, space: SearchSpace) -> Plot:
    """Accuracy of every architecture against a cost that can be chosen, or in the order of the search."""
    rows, dropped, ties, best = history.scored, history.dropped, history.ties, history.best
    groups: List[Sequence[Any]] = [dropped, ties, rows, [], [best]]
    figure = empty_figure("", "top-1 of the candidates", 520, percent=True)
    low, high = best["top1_interval"]
    figure.add_shape(
        **{"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": low, "y1": high, "layer": "below"},
        **{"fillcolor": BAND, "line": {"width": 0}, "name": "95% interval of the best", "showlegend": True},
    )
    iterations = [row["iteration"] for row in rows]
    styles = (
        ("dropped early", {"symbol": "x-thin", "size": 7, "opacity": 0.7, "line": {"color": FAINT, "width": 1.4}}),
        (f"ties with the best ({len(ties)})", {"symbol": "circle-open", "size": 14, "color": MUTED}),
        ("an architecture", {"size": 8, **_by_iteration(iterations)}),
    )
    for group, (name, marker) in zip(groups, styles):
        figure.add_trace(_points(space, group, name, marker))
    figure.add_trace(go.Scatter(mode="lines", line={"color": ACCENT, "width": 2, "shape": "hv"}, hoverinfo="skip"))
    star = {"symbol": "star", "size": 17, "color": ACCENT, "line": {"color": EDGE, "width": 1}}
    figure.add_trace(_points(space, [best], "the best", star))
    figure.update_layout(margin={"b": 100})
    axes = {key: _axis(history, groups, key) for key in (*_told_costs(history), EVALUATION)}
    return Plot("accuracy of the candidates", figure, axes, inspected(space, best))


def _by_iteration(iterations: Sequence[int]) -> Dict[str, Any]:
    """The style of markers that are coloured by iteration, with the scale below the axis."""
    last = max(iterations)
    bar = {"orientation": "h", "y": -0.16, "yanchor": "top", "thickness": 10, "len": 0.6, "outlinewidth": 0}
    more = {"title": {"text": "iteration", "side": "top", "font": {"size": 12}}, "tickformat": "d"}
    ticks: Dict[str, Any] = {"nticks": min(last + 1, 8)} if last else {"tickvals": [0]}
    scale = {"colorscale": RAMP, "cmin": 0, "cmax": max(last, 1)}
    return {"color": list(iterations), **scale, "colorbar": {**bar, **more, **ticks}}


def _points(space: SearchSpace, rows: Sequence[Row], name: str, marker: Mapping[str, Any]) -> go.Scatter:
    return go.Scatter(
        y=[row["top1"] for row in rows],
        customdata=[inspected(space, row) for row in rows],
        hovertemplate="%{text}<extra></extra>",  # made by the page, which escapes it
        hoverlabel={"align": "left"},
        name=name,
        mode="markers",
        marker=marker,
        showlegend=bool(rows),
    )


def _told_costs(history: History) -> List[str]:
    return [name for name, cost in COSTS.items() if all(cost.key in row for row in history.rows)]


def _axis(history: History, groups: Sequence[Sequence[Any]], name: str) -> Dict[str, Any]:
    """What each trace of the figure of a search has on an x axis."""
    if name == EVALUATION:
        line: Tuple[Sequence[float], Sequence[float]] = history.best_so_far()
        traces: List[Dict[str, Any]] = [{"x": [row["evaluation"] + 1 for row in group]} for group in groups]
        label, title = "best so far", "order of evaluation"
    else:
        traces = [{"x": history.costs(name, group)} for group in groups]
        line, label, title = history.front(name), "Pareto front: no cheaper one is better", COSTS[name].label
    traces[3] = {"x": line[0], "y": line[1], "name": label}
    return {"title": title, "traces": traces}


def hypervolume_plot(history: History, objective: str) -> Plot:
    """How the front of top-1 against a cost grew, between the smallest and the largest cost that was scored."""
    costs = history.costs(objective, history.scored)
    unit = COSTS[objective].unit
    figure = empty_figure("evaluations", "best top-1, mean over budgets", 300, percent=True)
    areas = hypervolume(history.rows, objective, min(costs) * unit, max(costs) * unit)
    figure.add_trace(
        go.Scatter(
            x=[row["evaluation"] + 1 for row in history.rows],
            y=areas.tolist(),
            mode="lines",
            line={"color": ACCENT, "width": 2, "shape": "hv"},
            hovertemplate="after %{x} evaluations: %{y:.2%}<extra></extra>",
            showlegend=False,
        )
    )
    return Plot(f"growth of the front of {history.name}", figure)


def calibration_plot(name: str, bins: Sequence[BinShape], error: float) -> Plot:
    """How often predictions are right, by how sure they are."""
    figure = empty_figure("confidence", "share that is right", 340, percent=True)
    figure.update_xaxes(range=(0, 1), tickformat=".0%")
    figure.update_yaxes(range=(0, 1.02))
    dashed = {"color": FAINT, "width": 1, "dash": "dash"}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=dashed, name="perfect", hoverinfo="skip"))
    figure.add_trace(
        go.Scatter(
            x=[one.confidence for one in bins],
            y=[one.top1 for one in bins],
            text=[one.num_images for one in bins],
            mode="lines+markers",
            line={"color": ACCENT, "width": 2},
            name=f"this network (ECE {error:.2%})",
            hovertemplate="%{text} images, %{x:.1%} sure<br>%{y:.1%} right<extra></extra>",
        )
    )
    return Plot(f"calibration of {name}", figure)


def confusion_plot(name: str, confusion: Sequence[Sequence[int]], names: Sequence[str]) -> Plot:
    """Images of each class (row) by what they are taken for."""
    counts, names = np.array(confusion), [escape(name) for name in names]  # Plotly reads marks of HTML in labels
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = empty_figure("taken for", "class", 340 + 8 * len(names))
    figure.add_trace(
        go.Heatmap(
            z=shares.tolist(),
            x=names,
            y=names,
            text=counts.tolist(),
            colorscale=[[0, CLEAR], [1, BLUE]],
            zmin=0,
            zmax=1,
            showscale=False,
            hovertemplate="%{y} taken for %{x}: %{text} images, %{z:.1%} of the class<extra></extra>",
        )
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed")
    return Plot(f"confusion matrix of {name}", figure)


def ancestors_plot(space: SearchSpace, ancestry: Ancestry, number: int) -> Plot:
    """All that a row descends from, by iteration; the line over the fitter parents stands out."""
    figure = empty_figure("iteration", "top-1", 400, percent=True)
    rows, family, line = ancestry.rows, ancestry.ancestors(number), ancestry.descent(number)
    edges: List[Optional[Tuple[int, float]]] = []
    for child in family:
        for parent in ancestry.parents[child]:
            edges += [
                (rows[parent]["iteration"], rows[parent]["top1"]),
                (rows[child]["iteration"], rows[child]["top1"]),
            ]
            edges.append(None)
    x, y = zip(*(edge or (None, None) for edge in edges)) if edges else ((), ())
    figure.add_trace(
        go.Scatter(x=x, y=y, mode="lines", name="parent and child", line={"color": FAINT, "width": 1}, hoverinfo="skip")
    )
    others = [rows[member] for member in family if member not in line]
    styles = (("an ancestor", others, MUTED, 8, "markers"), ("fitter parents", _all(rows, line), ACCENT, 10, None))
    for name, members, colour, size, mode in styles:
        points = _points(space, members, name, {"size": size, "color": colour})
        points.update(x=[row["iteration"] for row in members], mode=mode or "lines+markers", line={"color": colour})
        figure.add_trace(points)
    figure.update_xaxes(tickformat="d", nticks=min(rows[number]["iteration"] + 1, 12))
    return Plot("ancestors of the best architecture", figure, chosen=inspected(space, rows[number]))


def _all(rows: Sequence[Row], numbers: Sequence[int]) -> List[Row]:
    return [rows[number] for number in numbers]


def cost_plot(title: str, names: Sequence[str], parts: Mapping[str, Sequence[int]]) -> Plot:
    """Stacked bars in millions.

    Args:
        names: of the bars.    parts: by kind of operator its cost in each bar.
    """
    figure = empty_figure("choice block", f"{title} (M)", 340)
    for i, (part, costs) in enumerate(parts.items()):
        values = [cost / 1e6 for cost in costs]
        figure.add_trace(
            go.Bar(
                x=list(names),
                y=values,
                name=part,
                marker={"color": f"var(--part-{i})"},
                hovertemplate=f"%{{x}}<br>{part} %{{y:.4f}}M<extra></extra>",
            )
        )
    figure.update_layout(barmode="stack", bargap=0.25)
    figure.update_xaxes(type="category", tickangle=-90, tickfont={"size": 11})
    return Plot(f"{title} by choice block and kind of operator", figure)


def bn_update_plot(counts: Sequence[int], tops: np.ndarray) -> Plot:
    """Top-1 against the number of images of the BatchNorm update.

    Args:
        tops: (architectures, counts).
    """
    figure = empty_figure("images of the update (0: none)", "top-1 of architectures", 360, percent=True)
    names = [str(number) for number in counts]
    for i, own in enumerate(tops):
        style = {"mode": "lines", "line": {"color": FAINT, "width": 1}, "hoverinfo": "skip"}
        figure.add_trace(go.Scatter(x=names, y=own.tolist(), name="an architecture", showlegend=i == 0, **style))
    means = tops.mean(axis=0).tolist()
    bars = None
    if len(tops) > 1:
        half = [student_interval(column).high - float(column.mean()) for column in tops.T]
        bars = {"type": "data", "array": half, "color": ACCENT, "thickness": 1.5, "width": 5}
    name = "mean" if bars is None else "mean, 95% interval over the architectures"
    figure.add_trace(
        go.Scatter(
            x=names,
            y=means,
            error_y=bars,
            name=name,
            mode="lines+markers",
            line={"color": ACCENT, "width": 2.5},
            marker={"size": 8},
            hovertemplate="%{x} images<br>mean top-1 %{y:.2%}<extra></extra>",
        )
    )
    figure.update_xaxes(type="category")
    return Plot("top-1 against images of the BatchNorm update", figure)
