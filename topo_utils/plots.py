"""Figures of the course. Each function returns a matplotlib Figure; a model has the same colour in all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from torch import Tensor

from topo_utils.topology import Diagram

if TYPE_CHECKING:
    from jaxtyping import Float

STYLE = Path(__file__).with_name("style.mplstyle")
COLOURS = {"data": "#555555", "vae": "#0072B2", "beta-vae": "#009E73", "topovae": "#D55E00"}
NAMES = {"data": "data", "vae": "VAE", "beta-vae": "β-VAE", "topovae": "TopoVAE"}
DIMENSION_COLOURS = ("#0072B2", "#D55E00", "#009E73")
DIMENSION_NAMES = ("H0, components", "H1, loops", "H2, voids")


def _figure(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the project's style, and close the figure so that a notebook shows it once, where it is returned."""

    @functools.wraps(draw)
    def styled(*arguments, **options) -> Figure:
        with plt.style.context(STYLE):
            figure = draw(*arguments, **options)
            plt.close(figure)
        return figure

    return styled


@_figure
def image_rows(
    rows: dict[str, Float[Tensor, "columns c h w"]], title: str = "", ends: tuple[str, str] = ("", "")
) -> Figure:
    """Rows of images in [0, 1] under one another, each with its name; ``ends`` label the first and the last column."""
    columns = max(map(len, rows.values()))
    figure, axes = plt.subplots(len(rows), columns, figsize=(0.72 * columns + 0.9, 0.78 * len(rows) + 0.45), squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            pixels = image.detach().cpu()
            axis.imshow(pixels[0] if len(pixels) == 1 else pixels.movedim(0, -1), vmin=0, vmax=1, interpolation="nearest")
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(NAMES.get(name, name), rotation=0, ha="right", va="center")
    axes[0, 0].set_title(ends[0])
    axes[0, -1].set_title(ends[1])
    return figure


@_figure
def diagrams_and_landscapes(
    diagrams: list[Diagram], landscapes: list[Float[Tensor, "levels grid"]], grid: Float[Tensor, " grid"]
) -> Figure:
    """One cloud's persistence diagrams beside its landscapes, H0 and H1; every level is a curve."""
    figure, axes = plt.subplots(1, 1 + len(landscapes), figsize=(3.4 * (1 + len(landscapes)), 3.1))
    _diagram(axes[0], diagrams)
    axes[0].set_title("persistence diagram")
    for h, (axis, levels) in enumerate(zip(axes[1:], landscapes, strict=True)):
        axis.plot(grid, levels.detach().T, color=DIMENSION_COLOURS[h], linewidth=0.8, alpha=0.6)
        axis.set(title=f"landscape of {DIMENSION_NAMES[h]}", xlabel="t", ylabel="λₖ(t)")
        axis.set_xlim(0, float(grid[-1]))
    return figure


def _diagram(axis: Axes, diagrams: list[Diagram]) -> None:
    """Births and deaths over the diagonal."""
    for h, diagram in enumerate(diagrams):
        births, deaths = diagram.points[diagram.mask].detach().unbind(-1)
        label = f"{DIMENSION_NAMES[h]} ({len(births)})"
        axis.scatter(births, deaths, s=14, color=DIMENSION_COLOURS[h], marker="os^"[h], alpha=0.7, label=label, zorder=3)
    limit = 1.08 * max((float(d.points.detach().max()) for d in diagrams if d.points.numel()), default=1.0)
    axis.plot([0, limit], [0, limit], color="0.6", linewidth=0.8)
    axis.set(xlim=(-0.03 * limit, limit), ylim=(0, limit), xlabel="birth", ylabel="death")
    axis.legend(loc="lower right")


@_figure
def diagrams_side_by_side(diagrams: dict[str, list[Diagram]]) -> Figure:
    """Persistence diagrams of several single clouds, each under its name."""
    figure, axes = plt.subplots(1, len(diagrams), figsize=(3.3 * len(diagrams), 3.1), squeeze=False)
    for axis, (name, bars) in zip(axes[0], diagrams.items(), strict=True):
        _diagram(axis, bars)
        axis.set_title(name)
    return figure


@_figure
def rips_complexes(
    cloud: Float[Tensor, "n 2"],
    values: dict[str, float],
    marked: dict[str, tuple[int, int]] | None = None,
    weights: Float[Tensor, "n n"] | None = None,
) -> Figure:
    """The Rips complex of a plane cloud at several t: balls of radius t/2, edges up to t, and the triangles they fill.

    Parameters
    ----------
    cloud
        Points in the plane; at most some 150, since every triangle is drawn.
    values
        Titles of the panels, and the t of each.
    marked
        For some titles, an edge (i, j) to be drawn thick.
    weights
        Edge weights of another filtration of the same points, such as :func:`topo_utils.topology.knn`; no balls then.
    """
    points = cloud.detach().cpu()
    lengths = (
        torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") if weights is None else weights.detach()
    )
    low, high = (points.min(0).values - 0.25).tolist(), (points.max(0).values + 0.25).tolist()
    ratio = min(1.0, (high[1] - low[1]) / (high[0] - low[0]))
    width = min(2.9 / ratio, 10 / len(values))
    figure, axes = plt.subplots(1, len(values), figsize=(width * len(values), width * ratio + 0.5), squeeze=False)
    for axis, (title, t) in zip(axes[0], values.items(), strict=True):
        near = (lengths <= t).triu(1)
        i, j = near.nonzero().T
        k = near[i] & near[j]  # i < j < k
        edge, third = k.nonzero().T
        corners = points[torch.stack([i[edge], j[edge], third], 1)]
        axis.add_collection(PolyCollection(corners.numpy(), color="#BFDFF2", linewidth=0.3, zorder=1))
        faint = min(0.9, max(0.06, 250 / max(1, len(i))))
        axis.add_collection(LineCollection(points[torch.stack([i, j], 1)].numpy(), color="0.2", linewidth=0.5, alpha=faint))
        if weights is None:
            for point in points:
                axis.add_patch(plt.Circle(point.tolist(), t / 2, color="#FBEBC8", zorder=0))
        if marked and title in marked:
            axis.plot(*points[list(marked[title])].T, color="#D55E00", linewidth=3, zorder=4)
        axis.scatter(*points.T, s=6, color="black", zorder=3)
        axis.set(title=f"{title}\n{len(i):,} edges, {len(edge):,} triangles", aspect="equal", xlabel="x", ylabel="y")
        axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axis.grid(False)
    return figure


@_figure
def curves(
    panels: dict[str, dict[str, tuple]],
    xlabel: str | list[str],
    ylabel: str | list[str],
    logarithmic: bool = False,
    styles: dict[str, dict] | None = None,
) -> Figure:
    """Named curves, several to a panel; what is not negative is drawn over zero.

    Parameters
    ----------
    panels
        For each panel's title the curves (x, y) by name; one whose name begins with an underscore is not in the legend.
    xlabel, ylabel
        Labels of the axes, with units; a list has one for each panel.
    logarithmic
        Both axes.
    styles
        Line styles of some of the names, as matplotlib's ``plot`` takes them.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(max(4.5, 3.4 * len(panels)), 3.0), squeeze=False)
    for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for name, (x, y) in lines.items():
            axis.plot(x, y, label=name, **(styles or {}).get(name, {}))
        number = list(panels).index(title)
        labels = {"xlabel": xlabel, "ylabel": ylabel}
        axis.set(title=title, **{which: text if isinstance(text, str) else text[number] for which, text in labels.items()})
        if logarithmic:
            axis.set(xscale="log", yscale="log")
        elif axis.dataLim.y0 >= 0:
            axis.set_ylim(bottom=0)
        if any(not name.startswith("_") for name in lines):
            axis.legend()
    return figure


@_figure
def strips(panels: dict[str, dict[str, Float[Tensor, " n"]]], xlabel: str) -> Figure:
    """Single measurements in named rows, one dot each, with their mean as a bar; the panels share the rows."""
    names = list(dict.fromkeys(name for rows in panels.values() for name in rows))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.1 * len(panels) + 1.5, 0.32 * len(names) + 1.0), sharey=True, squeeze=False
    )
    for axis, (title, rows) in zip(axes[0], panels.items(), strict=True):
        for name, values in rows.items():
            height = names.index(name)
            values = torch.as_tensor(values, dtype=torch.float64)
            axis.scatter(values, height + 0.25 * torch.linspace(-1, 1, len(values)), s=9, color="#0072B2", alpha=0.5)
            axis.plot([values.mean()] * 2, [height - 0.35, height + 0.35], color="#D55E00", linewidth=2.5)
        axis.set(title=title, xlabel=xlabel, yticks=range(len(names)), yticklabels=names)
    axes[0, 0].invert_yaxis()
    return figure


@_figure
def matching(x: Diagram, y: Diagram, pairs: list[tuple[Tensor, Tensor]], names: tuple[str, str] = ("X", "Y")) -> Figure:
    """Two single diagrams in one picture, and lines between matched points; ``pairs`` holds the ends of each line."""
    figure, axis = plt.subplots(figsize=(4.2, 3.9))
    for diagram, name, marker, colour in zip((x, y), names, "os", DIMENSION_COLOURS, strict=False):
        births, deaths = diagram.points[diagram.mask].detach().unbind(-1)
        axis.scatter(births, deaths, s=26, marker=marker, color=colour, label=f"{name} ({len(births)})", zorder=3)
    limit = 1.08 * max(float(d.points.max()) for d in (x, y))
    axis.add_collection(LineCollection([torch.stack(pair).tolist() for pair in pairs], color="0.45", linewidth=0.9))
    axis.plot([0, limit], [0, limit], color="0.6", linewidth=0.8)
    axis.set(xlim=(-0.03 * limit, limit), ylim=(0, limit), xlabel="birth", ylabel="death", aspect="equal")
    axis.legend(loc="lower right")
    return figure


@_figure
def heat_maps(
    images: dict[str, Float[Tensor, "births persistences"]], extent: tuple[float, float, float, float], columns: int = 3
) -> Figure:
    """Persistence images, birth to the right and persistence upwards; each has its own colour scale.

    Parameters
    ----------
    images
        The images by title, as :func:`topo_utils.topology.persistence_image` returns them.
    extent
        First and last birth, first and last persistence.
    columns
        Number of images side by side.
    """
    lines = -(-len(images) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(2.9 * columns, 2.6 * lines), squeeze=False)
    for axis, (title, image) in zip(axes.flat, images.items(), strict=False):
        axis.imshow(image.detach().cpu().T, origin="lower", extent=extent, aspect="auto", cmap="viridis")
        axis.set(title=title, xlabel="birth", ylabel="persistence")
        axis.grid(False)
    for axis in axes.flat[len(images) :]:
        axis.set_visible(False)
    return figure


@_figure
def training_curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Each term of the loss against the epoch, a colour a model; dashed: on the validation split."""
    terms = {"reconstruction": "reconstruction / nats", "kl": "KL / nats", "topological": "L_topo"}
    figure, axes = plt.subplots(1, len(terms), figsize=(10, 2.9))
    for axis, (term, label) in zip(axes, terms.items(), strict=True):
        for model, history in histories.items():
            for column, line in ((term, "-"), (f"validation_{term}", "--")):
                if column in history:
                    axis.plot(history["epoch"] + 1, history[column], line, color=COLOURS[model], label=NAMES[model])
        axis.set(title=label, xlabel="epoch")
    if axes[2].has_data():
        axes[2].set_yscale("log")
    handles = [plt.Line2D([], [], color=COLOURS[model], label=NAMES[model]) for model in histories]
    dashed = plt.Line2D([], [], color="0.4", linestyle="--", label="validation")
    axes[0].legend(handles=[*handles, dashed])
    return figure


@_figure
def latent_spaces(
    clouds: dict[str, Float[Tensor, "n d"]],
    labels: Float[Tensor, " n"],
    landscapes: dict[str, list[Float[Tensor, "levels grid"]]],
    grid: Float[Tensor, " grid"],
) -> Figure:
    """Clouds projected on their first two principal axes; under each its landscapes, all levels summed, and the data's.

    Parameters
    ----------
    clouds
        The points of each space; ``"data"`` comes first and is the reference.
    labels
        Class of each point.
    landscapes
        For each space, the landscape of every dimension.
    grid
        Values of t.
    """
    figure, axes = plt.subplots(
        3, len(clouds), figsize=(3.3 * len(clouds), 6.4), height_ratios=(3, 1.5, 1.5), squeeze=False
    )
    for column, (name, cloud) in enumerate(clouds.items()):
        points, share = principal_plane(cloud)
        dots = axes[0, column].scatter(*points.T, c=labels, s=7, cmap="tab10", vmin=-0.5, vmax=9.5)
        title = "F(x), features of the data" if name == "data" else f"μ(x) of the {NAMES[name]}"
        axes[0, column].set(title=f"{title}\n{share:.0%} of the variance", xticks=[], yticks=[], aspect="equal")
        axes[0, column].set(xlabel="principal axis 1", ylabel="" if column else "principal axis 2")
        for h, axis in enumerate(axes[1:, column]):
            for space in dict.fromkeys(("data", name)):
                axis.plot(grid, landscapes[space][h].sum(0), color=COLOURS[space], label=NAMES[space])
            axis.set(
                xlim=(0, float(grid[-1])),
                xlabel="t / mean distance" if h else "",
                ylabel="" if column else f"H{h}: Σₖ λₖ(t)",
            )
        axes[1, column].legend()
    for row in axes[1:]:
        top = max(axis.get_ylim()[1] for axis in row)
        for axis in row:
            axis.set_ylim(0, top)
    figure.colorbar(dots, ax=axes[0, :], ticks=sorted(set(labels.tolist())), label="digit", shrink=0.9, pad=0.01)
    return figure


def principal_plane(cloud: Float[Tensor, "n d"]) -> tuple[np.ndarray, float]:
    """Coordinates ``(n, 2)`` on the first two principal axes, and the share of the variance that they hold.

    The sign of an axis is arbitrary; it is fixed so that the largest coordinate is positive.
    """
    centred = cloud.detach().double().cpu() - cloud.detach().double().cpu().mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    points = left[:, :2] * values[:2]
    largest = points.gather(0, points.abs().argmax(0, keepdim=True))
    return (points * largest.sign()).numpy(), float(values[:2].square().sum() / values.square().sum())
