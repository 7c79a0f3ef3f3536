"""Data domains: items, the topology of items and of batches, and whether a batch differs from noise (notebook 05)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from topo_utils.plots._style import COLOURS, DIMENSION_COLOURS, styled
from topo_utils.plots.topology import draw_diagram
from topo_utils.topology import Diagram, betti_curve, cubical_persistence

if TYPE_CHECKING:
    from jaxtyping import Float

    from topo_utils.datasets import Domain


@styled
def item_rows(rows: dict[str, tuple[Domain, Float[Tensor, "columns ..."]]]) -> Figure:
    """Rows of items under one another, each drawn by its domain, with the row's name on the left."""
    columns = max(len(items) for _, items in rows.values())
    figure, axes = plt.subplots(len(rows), columns, figsize=(columns + 1.0, 0.95 * len(rows)), squeeze=False)
    for line, (name, (domain, items)) in zip(axes, rows.items(), strict=True):
        for axis, item in zip(line, items, strict=False):
            domain.draw(axis, item)
            axis.spines[:].set_visible(False)
        for axis in line[len(items) :]:
            axis.set_visible(False)
        line[0].annotate(
            name, (0, 0.5), (-8, 0), xycoords="axes fraction", textcoords="offset points", ha="right", va="center"
        )  # not the axis label: it would go with an axis that a domain switches off
    return figure


@styled
def items_over_diagrams(columns: dict[str, tuple[Domain, Float[Tensor, ...], list[Diagram]]]) -> Figure:
    """Single items, drawn by their domains, each over its persistence diagram."""
    figure, axes = plt.subplots(2, len(columns), figsize=(2.5 * len(columns), 4.6), height_ratios=(1, 1.15), squeeze=False)
    for (above, below), (name, (domain, item, diagrams)) in zip(axes.T, columns.items(), strict=True):
        domain.draw(above, item)
        above.spines[:].set_visible(False)
        above.set_title(name)
        draw_diagram(below, diagrams)
    return figure


@styled
def superlevel_sets(image: Float[Tensor, "h w"], levels: list[float]) -> Figure:
    """An image in [0, 1] and the sets of its pixels that are at least as bright as each level, with their Betti numbers."""
    diagrams = cubical_persistence(image, sublevel=False)  # without the component that never dies
    figure, axes = plt.subplots(1, len(levels) + 1, figsize=(1.5 * (len(levels) + 1), 1.9))
    axes[0].imshow(image, vmin=0, vmax=1, interpolation="nearest")
    axes[0].set_title("grey values\n")
    for axis, level in zip(axes[1:], levels, strict=True):
        merging, loops = (int(betti_curve(diagram, torch.tensor([-level, 1.0]))[0]) for diagram in diagrams)
        bright = image >= level
        axis.imshow(bright, vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(f"≥ {level:.2f}\nβ₀ = {merging + int(bright.any())}, β₁ = {loops}")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set(visible=True, color="0.8")
    return figure


@styled
def shares(tables: dict[str, pd.DataFrame], label: str) -> Figure:
    """Tables of shares as maps with their numbers; the axes are named by the tables' index and columns."""
    width = sum(0.46 * table.shape[1] + 0.7 for table in tables.values())
    height = 0.3 * max(len(table) for table in tables.values()) + 1.0
    ratios = [table.shape[1] + 2 for table in tables.values()]
    figure, axes = plt.subplots(1, len(tables), figsize=(width, height), width_ratios=ratios, squeeze=False)
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        map_of = _annotated(axis, table, table.map("{:.2f}".format), cmap="Blues", vmin=0, vmax=1)
        axis.set_title(title)
    figure.colorbar(map_of, ax=axes[0].tolist(), label=label, shrink=0.8)
    return figure


@styled
def shares_against_chance(tables: dict[str, pd.DataFrame], seen: dict[str, pd.DataFrame], label: str) -> Figure:
    """Shares beside one half, maps with common rows, three to a line: blue above it, red below; grey: not ``seen``."""
    columns = 3
    lines = -(-len(tables) // columns)
    first = next(iter(tables.values()))
    size = (columns * (0.52 * first.shape[1] + 0.6) + 1.6, lines * (0.25 * len(first) + 0.5) + 0.4)
    figure, axes = plt.subplots(lines, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis, (title, table) in zip(axes.flat, tables.items(), strict=False):
        text = table.map(lambda share: "" if np.isnan(share) else f"{share:.2f}")
        map_of = _annotated(axis, table, text, seen[title], cmap="RdBu", vmin=0, vmax=1)
        axis.set_title(title)
    for axis in axes.flat:
        axis.label_outer()
    figure.colorbar(map_of, ax=axes, label=label, shrink=0.6)
    return figure


def _annotated(axis: Axes, table: pd.DataFrame, text: pd.DataFrame, bold: pd.DataFrame | None = None, **colours):
    """A table as a map, its text in the cells; what is not bold, where that is given, in grey."""
    values = table.to_numpy(dtype=float)
    map_of = axis.imshow(values, aspect="auto", **colours)
    for (i, j), value in np.ndenumerate(values):
        red, green, blue, _ = map_of.cmap(map_of.norm(value))
        strong = bold is None or bold.iat[i, j]
        colour = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 0.5 else "black" if strong else "0.3"
        weight = "bold" if bold is not None and strong else "normal"
        axis.text(j, i, text.iat[i, j], ha="center", va="center", size=7.5, weight=weight, color=colour)
    axis.set_xticks(range(table.shape[1]), labels=map(str, table.columns))
    axis.set_yticks(range(len(table)), labels=map(str, table.index))
    axis.set(xlabel=table.columns.name, ylabel=table.index.name)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return map_of


@styled
def loops_found(found: dict[str, dict[int, list[int]]], known: dict[str, int]) -> Figure:
    """Numbers of loops found in single clouds against the number of points, a panel a manifold; dashed: its true β₁."""
    figure, axes = plt.subplots(1, len(found), figsize=(1.9 * len(found) + 0.4, 2.5), sharey=True, squeeze=False)
    for axis, (name, by_size) in zip(axes[0], found.items(), strict=True):
        for place, loops in enumerate(by_size.values()):
            axis.scatter(place + np.linspace(-0.3, 0.3, len(loops)), loops, s=9, color=DIMENSION_COLOURS[1], alpha=0.6)
        axis.axhline(known[name], color="0.4", linestyle="--", linewidth=1, zorder=0)
        axis.set_xticks(range(len(by_size)), labels=map(str, by_size))
        axis.set(title=f"{name}, β₁ = {known[name]}", xlabel="points n")
    axes[0, 0].set(ylabel="loops found", ylim=(-0.4, None))
    axes[0, 0].yaxis.get_major_locator().set_params(integer=True)
    return figure


@styled
def kinds_compared(
    panels: dict[str, dict[str, Float[Tensor, "draws kinds"]]], kinds: tuple[str, ...], xlabel: str
) -> Figure:
    """Means with 95 % intervals (normal approximation) of several kinds of clouds, a row a data set; the first is real."""
    rows = list(next(iter(panels.values())))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.6 * len(panels) + 1.2, 0.32 * len(rows) + 1.2), sharey=True, squeeze=False
    )
    colours = (COLOURS["data"], *DIMENSION_COLOURS)
    for axis, (title, panel) in zip(axes[0], panels.items(), strict=True):
        for number, kind in enumerate(kinds):
            values = [panel[name][:, number].double() for name in rows]
            halves = [1.96 * float(each.std()) / len(each) ** 0.5 for each in values]
            heights = np.arange(len(rows)) + 0.22 * (number - (len(kinds) - 1) / 2)
            means = [float(each.mean()) for each in values]
            axis.errorbar(means, heights, xerr=halves, fmt="osD^"[number], color=colours[number], markersize=4, label=kind)
        axis.set(title=title, xlabel=xlabel)
        axis.set_yticks(range(len(rows)), labels=rows)
        axis.set_xlim(left=-0.03 * axis.get_xlim()[1])
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    return figure
