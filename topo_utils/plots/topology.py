"""Diagrams, complexes and vectors of diagrams (notebooks 01 and 02)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from torch import Tensor

from topo_utils.plots._style import DIMENSION_COLOURS, DIMENSION_NAMES, styled
from topo_utils.topology import Diagram, landscape

if TYPE_CHECKING:
    from jaxtyping import Float


FEW = 6  # places on a logarithmic axis, each of which has its label


@styled
def diagrams_and_landscapes(
    diagrams: list[Diagram], landscapes: list[Float[Tensor, "levels grid"]], grid: Float[Tensor, " grid"]
) -> Figure:
    """One cloud's persistence diagrams beside its landscapes, H0 and H1; every level is a curve."""
    figure, axes = plt.subplots(1, 1 + len(landscapes), figsize=(3.4 * (1 + len(landscapes)), 3.1))
    draw_diagram(axes[0], diagrams)
    axes[0].set_title("persistence diagram")
    for h, (axis, levels) in enumerate(zip(axes[1:], landscapes, strict=True)):
        axis.plot(grid, levels.detach().T, color=DIMENSION_COLOURS[h], linewidth=0.8, alpha=0.6)
        axis.set(title=f"landscape of {DIMENSION_NAMES[h]}", xlabel="t", ylabel="λₖ(t)")
        axis.set_xlim(0, float(grid[-1]))
    return figure


def draw_diagram(axis: Axes, diagrams: list[Diagram]) -> None:
    """Births and deaths over the diagonal."""
    for h, diagram in enumerate(diagrams):
        births, deaths = diagram.points[diagram.mask].detach().unbind(-1)
        label = f"{DIMENSION_NAMES[h]} ({len(births)})"
        axis.scatter(births, deaths, s=14, color=DIMENSION_COLOURS[h], marker="os^"[h], alpha=0.7, label=label, zorder=3)
    points = torch.cat([diagram.points[diagram.mask].detach().flatten() for diagram in diagrams])
    low, high = (min(0.0, float(points.min())), max(0.0, float(points.max()))) if len(points) else (0.0, 1.0)
    limit = high + 0.08 * (high - low)
    axis.plot([low, limit], [low, limit], color="0.6", linewidth=0.8)
    axis.set(xlim=(low - 0.03 * (limit - low), limit), ylim=(low, limit), xlabel="birth", ylabel="death")
    axis.legend(loc="lower right")


@styled
def diagrams_side_by_side(diagrams: dict[str, list[Diagram]], columns: int | None = None) -> Figure:
    """Persistence diagrams of several single clouds, each under its name; ``columns`` in a row, None for all."""
    figure, axes = _panels(len(diagrams), columns or len(diagrams), 3.3, 3.1)
    for axis, (name, bars) in zip(axes, diagrams.items(), strict=True):
        draw_diagram(axis, bars)
        axis.set_title(name)
    return figure


def _panels(count: int, columns: int, width: float, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """So many panels, some in a row; each has that size in inches."""
    lines = -(-count // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(width * columns, height * lines), sharey=sharey, squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


@styled
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
        edges, triangles = _draw_complex(axis, points, lengths, t, balls=weights is None)
        if marked and title in marked:
            axis.plot(*points[list(marked[title])].T, color="#D55E00", linewidth=3, zorder=4)
        axis.set(title=f"{title}\n{edges:,} edges, {triangles:,} triangles", xlabel="x", ylabel="y")
        axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    return figure


def _draw_complex(
    axis: Axes, points: Float[Tensor, "n 2"], lengths: Float[Tensor, "n n"], t: float, balls: bool
) -> tuple[int, int]:
    """Edges up to t, the triangles that they fill and, if wanted, balls of radius t/2; how many edges and triangles."""
    near = (lengths <= t).triu(1)
    i, j = near.nonzero().T
    k = near[i] & near[j]  # i < j < k
    edge, third = k.nonzero().T
    corners = points[torch.stack([i[edge], j[edge], third], 1)]
    axis.add_collection(PolyCollection(corners.numpy(), color="#BFDFF2", linewidth=0.3, zorder=1))
    faint = min(0.9, max(0.06, 250 / max(1, len(i))))
    axis.add_collection(LineCollection(points[torch.stack([i, j], 1)].numpy(), color="0.2", linewidth=0.5, alpha=faint))
    if balls:
        for point in points:
            axis.add_patch(plt.Circle(point.tolist(), t / 2, color="#FBEBC8", zorder=0))
    axis.scatter(*points.T, s=6, color="black", zorder=3)
    axis.set_aspect("equal")
    axis.grid(False)
    return len(i), len(edge)


@styled
def filtration(
    cloud: Float[Tensor, "n 2"], weights: Float[Tensor, "n n"], diagrams: list[Diagram], values: list[float]
) -> Figure:
    """A plane cloud at several t, a row each: its Rips complex, its bars cut at t, and its landscape of H1 at t.

    Parameters
    ----------
    cloud
        Points in the plane; at most some 150, since every triangle is drawn.
    weights, diagrams
        Their distances, and what :func:`topo_utils.topology.persistent_homology` makes of them: H0 and H1.
    values
        The t of each row; where a bar that is alive is cut, it is thick.
    """
    points, lengths = cloud.detach().cpu(), weights.detach()
    bars = [diagram.points[diagram.mask].detach() for diagram in diagrams]
    last = 1.15 * max(float(each.max()) for each in bars if len(each))
    grid = torch.linspace(0, last, 400)
    figure, axes = plt.subplots(len(values), 3, figsize=(9.6, 2.9 * len(values)), squeeze=False)
    for (left, middle, right), t in zip(axes, values, strict=True):
        _draw_complex(left, points, lengths, t, balls=True)
        alive = [int(((b <= t) & (t < d)).sum()) for b, d in (each.T for each in bars)]
        left.set(title=f"t = {t:.2f}: β₀ = {alive[0] + 1}, β₁ = {alive[1]}", xlabel="x", ylabel="y")  # one never dies
        height = 0
        for h, each in enumerate(bars):
            for b, d in each[each[:, 1].argsort()].tolist():
                middle.plot([b, d], [height] * 2, color=DIMENSION_COLOURS[h], linewidth=2.2 if b <= t < d else 0.6)
                height += 1
        middle.set(xlabel="t", ylabel="bars of H0, then of H1", yticks=[], xlim=(0, last))
        right.plot(grid, landscape(diagrams[1], grid).T, color=DIMENSION_COLOURS[1], linewidth=0.8)
        right.set(xlabel="t", ylabel="λₖ(t) of H1", xlim=(0, last))
        for axis in (middle, right):
            axis.axvline(t, color="black", linewidth=1)
    return figure


@styled
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
            at = sorted({float(value) for x, _ in lines.values() for value in x})
            if len(at) <= FEW:  # over less than a decade matplotlib's own labels run into each other
                axis.set_xticks(at, [f"{value:g}" for value in at])
                axis.set_xticks([], minor=True)
        elif axis.dataLim.y0 >= 0:
            axis.set_ylim(bottom=0)
        if any(not name.startswith("_") for name in lines):
            axis.legend()
    return figure


@styled
def strips(panels: dict[str, dict[str, Float[Tensor, " n"]]], xlabel: str) -> Figure:
    """Single measurements in named rows, one dot each, with their mean as a bar; four panels to a row of them."""
    names = list(dict.fromkeys(name for rows in panels.values() for name in rows))
    columns = min(len(panels), 4)
    figure, axes = _panels(len(panels), columns, 3.1 + 1.5 / columns, 0.32 * len(names) + 1.0, sharey=True)
    for axis, (title, measured) in zip(axes, panels.items(), strict=True):
        for name, values in measured.items():
            height = names.index(name)
            values = torch.as_tensor(values, dtype=torch.float64)
            axis.scatter(values, height + 0.25 * torch.linspace(-1, 1, len(values)), s=9, color="#0072B2", alpha=0.5)
            axis.plot([values.mean()] * 2, [height - 0.35, height + 0.35], color="#D55E00", linewidth=2.5)
        axis.set(title=title, xlabel=xlabel, yticks=range(len(names)), yticklabels=names)
    axes[0].invert_yaxis()
    return figure


@styled
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


@styled
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
    figure, axes = _panels(len(images), columns, 2.9, 2.6)
    for axis, (title, image) in zip(axes, images.items(), strict=True):
        axis.imshow(image.detach().cpu().T, origin="lower", extent=extent, aspect="auto", cmap="viridis")
        axis.set(title=title, xlabel="birth", ylabel="persistence")
        axis.grid(False)
    return figure
