"""Diagrams, complexes, vectors of diagrams, and losses (notebooks 01 to 04)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from torch import Tensor

from topo_utils.plots._style import COLOURS, DIMENSION_COLOURS, DIMENSION_NAMES, styled
from topo_utils.topology import Diagram

if TYPE_CHECKING:
    from jaxtyping import Float


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


def _panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """So many panels, some in a row; each has that size in inches."""
    lines = -(-count // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(width * columns, height * lines), squeeze=False)
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
        elif axis.dataLim.y0 >= 0:
            axis.set_ylim(bottom=0)
        if any(not name.startswith("_") for name in lines):
            axis.legend()
    return figure


@styled
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


@styled
def critical_edges(
    cloud: Float[Tensor, "n 2"], edges: dict[str, Float[Tensor, "edges 2"]], arrows: Float[Tensor, "n 2"]
) -> Figure:
    """A cloud in the plane with its critical edges; on the right with a vector at each point, such as a gradient.

    Parameters
    ----------
    cloud
        The points.
    edges
        Pairs of indices of points by name; the first set is drawn on the left, the others on the right.
    arrows
        A vector a point; zero vectors are not drawn. The longest is drawn as a twelfth of the cloud's extent.
    """
    cloud, arrows = cloud.detach().cpu(), arrows.detach().cpu()
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 4.1), sharex=True, sharey=True)
    panels = [dict(list(edges.items())[:1]), dict(list(edges.items())[1:])]
    colours = iter((DIMENSION_COLOURS[0], "#009E73", DIMENSION_COLOURS[1], "#CC79A7"))
    for axis, drawn in zip(axes, panels, strict=True):
        for name, ends in drawn.items():
            colour = next(colours)
            for number, edge in enumerate(ends.tolist()):
                label = name if number == 0 else None
                axis.plot(*cloud[edge].T, color=colour, linewidth=1.8, label=label, zorder=2)
        axis.scatter(*cloud.T, s=14, color="0.35", zorder=3)
        axis.set(aspect="equal", xlabel="x₁")
    moved = arrows.any(1)
    extent = float((cloud.amax(0) - cloud.amin(0)).max())
    vectors = arrows[moved] * (extent / 12 / arrows.norm(dim=1).max().clamp(min=1e-12))
    axes[1].quiver(
        *cloud[moved].T, *vectors.T, angles="xy", scale_units="xy", scale=1, width=0.008, color="black", zorder=4
    )
    tips = torch.cat([cloud, cloud[moved] + vectors])
    margin = 0.06 * extent
    for axis, k in ((axes[0].set_xlim, 0), (axes[0].set_ylim, 1)):
        axis(float(tips[:, k].min()) - margin, float(tips[:, k].max()) + margin)
    axes[0].set(ylabel="x₂")
    for axis, drawn in zip(axes, panels, strict=True):
        if drawn:
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.1), ncols=3)
    return figure


@styled
def values_and_slopes(
    curves: dict[str, tuple[Float[Tensor, " t"], Float[Tensor, " t"], Float[Tensor, " t"]]],
) -> Figure:
    """Functions of one parameter t above their derivatives; a jump of the derivative is a gap, not a line."""
    figure, axes = plt.subplots(2, len(curves), figsize=(4.2 * len(curves), 4.2), sharex="col", squeeze=False)
    for (top, bottom), (name, (t, values, slopes)) in zip(axes.T, curves.items(), strict=True):
        top.plot(t, values, color=DIMENSION_COLOURS[1])
        bottom.plot(t, slopes, ".", markersize=3, color=DIMENSION_COLOURS[1])
        bottom.axhline(0, color="0.6", linewidth=0.8)
        top.set_title(name)
        bottom.set_xlabel("t")
    axes[0, 0].set_ylabel("value")
    axes[1, 0].set_ylabel("derivative by t")
    return figure


@styled
def cloud_optimisation(
    runs: dict[str, dict[int, Float[Tensor, "n 2"]]], losses: dict[str, list[float]], target: Float[Tensor, "n 2"]
) -> Figure:
    """A row a run: its cloud in the plane at several steps, over the target in grey, and its loss against the step."""
    columns = max(map(len, runs.values()))
    widths = [1] * columns + [1.3]
    figure, axes = plt.subplots(
        len(runs), columns + 1, figsize=(1.8 * sum(widths), 2.0 * len(runs)), width_ratios=widths, squeeze=False
    )
    everything = torch.cat([target, *(cloud for run in runs.values() for cloud in run.values())])
    limit = 1.05 * float(everything.abs().max())
    for line, (name, run) in zip(axes, runs.items(), strict=True):
        for axis, (step, cloud) in zip(line, run.items(), strict=False):
            axis.scatter(*target.T, s=5, color="0.8")
            axis.scatter(*cloud.T, s=6, color=DIMENSION_COLOURS[1])
            axis.set(title=f"step {step}", xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
        for axis in line[len(run) : -1]:
            axis.set_visible(False)
        line[0].set_ylabel(name)
        line[-1].plot(losses[name], color="black")
        line[-1].set(title="loss", yscale="log")
    axes[-1, -1].set_xlabel("step")
    return figure


@styled
def optimised_paths(
    paths: dict[str, Float[Tensor, "steps n 2"]], values: dict[str, list[float]], label: str, radius: float = 1.0
) -> Figure:
    """Last clouds of several optimisations with each point's path in grey and a dashed circle; and a value by step."""
    figure, axes = plt.subplots(1, len(paths) + 1, figsize=(3.2 * (len(paths) + 1), 3.1))
    colours = (DIMENSION_COLOURS[1], DIMENSION_COLOURS[0], "#009E73", "#CC79A7")
    for axis, colour, (name, path) in zip(axes, colours, paths.items(), strict=False):
        axis.plot(*path.movedim(-1, 0), color="0.75", linewidth=0.7, zorder=1)
        axis.scatter(*path[-1].T, s=9, color=colour, zorder=3)
        axis.add_patch(plt.Circle((0, 0), radius, fill=False, linestyle="--", color="0.4"))
        axis.set(title=name, aspect="equal", adjustable="datalim")
        axes[-1].plot(values[name], color=colour, label=name)
    axes[-1].set(xlabel="step", ylabel=label)
    axes[-1].legend()
    return figure


@styled
def gradient_reach(counts: tuple[int, ...], rows: dict[str, list[tuple[float, float]]]) -> Figure:
    """Share of the points that receive a gradient, and the gradient's norm, against the number of points."""
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.1))
    for name, pairs in rows.items():
        for axis, column in zip(axes, zip(*pairs, strict=True), strict=True):
            axis.plot(counts, column, "o-", markersize=3.5, label=name, alpha=0.85)
    for axis, label in zip(axes, ("share of points with a gradient", "norm of the gradient"), strict=True):
        axis.set(xlabel="points n", ylabel=label, xscale="log", xticks=counts)
        axis.set_xticks(counts, labels=map(str, counts))
        axis.xaxis.minorticks_off()
    axes[0].set_ylim(0, 1.05)
    axes[1].set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def image_optimisation(
    images: dict[str, Float[Tensor, "h w"]], direction: Float[Tensor, "h w"], values: list[float]
) -> Figure:
    """Grey images in [0, 1], the direction of a step on each pixel (red: brighten), and the objective by step."""
    panels = len(images) + 2
    figure, axes = plt.subplots(1, panels, figsize=(1.9 * panels, 2.3))
    for axis, (name, image) in zip(axes, images.items(), strict=False):
        axis.imshow(image.detach(), vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(name)
    largest = float(direction.abs().max())
    axes[-2].imshow(direction.detach(), cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    axes[-2].set_title("direction\nof the first step")
    for axis in axes[:-1]:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[-1].plot(values, color="black")
    axes[-1].set(title="objective", xlabel="step", yscale="log")
    axes[-1].set_box_aspect(1)
    return figure


@styled
def representations(
    landscapes: list[Float[Tensor, "levels grid"]], images: list[Float[Tensor, "births persistences"]], grid: Tensor
) -> Figure:
    """Landscapes, and below them persistence images, of two clouds X and Y and their difference."""
    figure, axes = plt.subplots(2, 3, figsize=(9.4, 5.2))
    for axis, curves in zip(axes[0], (*landscapes, landscapes[0] - landscapes[1]), strict=True):
        axis.plot(grid, curves.detach().T, color=DIMENSION_COLOURS[0], linewidth=0.8, alpha=0.6)
        axis.set(xlabel="t", xlim=(0, float(grid[-1])))
    for axis, name in zip(axes[0], ("X", "Y", "X - Y"), strict=True):
        axis.set_title(name)
    top = max(axis.get_ylim()[1] for axis in axes[0, :2])
    axes[0, 0].set(ylabel="H0: λₖ(t)", ylim=(0, top))
    axes[0, 1].set(ylim=(0, top))
    largest = max(float(image.detach().max()) for image in images)
    for axis, image in zip(axes[1, :2], images, strict=True):
        axis.imshow(image.detach().T, origin="lower", vmin=0, vmax=largest, interpolation="nearest")
    difference = (images[0] - images[1]).detach()
    bound = float(difference.abs().max())
    axes[1, 2].imshow(difference.T, origin="lower", cmap="RdBu_r", vmin=-bound, vmax=bound, interpolation="nearest")
    for axis in axes[1]:
        axis.grid(False)
        axis.set(xlabel="birth / pixels")
    axes[1, 0].set_ylabel("H1: persistence / pixels")
    return figure


@styled
def loss_curves(x: Float[Tensor, " x"], curves: dict[str, list[float]], xlabel: str, ylabel: str) -> Figure:
    """Losses against one variable, logarithmic; zeros, which have no logarithm, are left out."""
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    for name, values in curves.items():
        axis.plot(x, [value if value > 0 else float("nan") for value in values], ".-", markersize=4, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, yscale="log")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def levels_kept(names: list[int | str], rows: dict[str, Float[Tensor, "levels 2"]]) -> Figure:
    """Share of points with a gradient, and the gradient's norm, for several numbers of landscape levels."""
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.9))
    for h, (name, row) in enumerate(rows.items()):
        for axis, column in zip(axes, row.T, strict=True):
            axis.plot(range(len(names)), column, "os"[h] + "-", color=DIMENSION_COLOURS[h], label=name)
    for axis, label in zip(axes, ("share of points with a gradient", "norm of the gradient"), strict=True):
        axis.set_xticks(range(len(names)), labels=map(str, names))
        axis.set(xlabel="levels K", ylabel=label)
    axes[0].set_ylim(0, 1.05)
    axes[1].set_yscale("log")
    axes[0].legend()
    return figure


@styled
def scale_traces(traces: dict[tuple[str, int], Float[np.ndarray, "steps 2"]]) -> Figure:
    """Loss and relative size of clouds by step: a colour a kind of scale, a line style a number of dimensions."""
    figure, axes = plt.subplots(1, 2, figsize=(8.8, 3.0))
    kinds, dimensions = (list(dict.fromkeys(keys)) for keys in zip(*traces, strict=True))
    for (kind, dimension), trace in traces.items():
        colour, line = DIMENSION_COLOURS[kinds.index(kind)], ("-", "--", ":")[dimensions.index(dimension)]
        for axis, column in zip(axes, trace.T, strict=True):
            axis.plot(column, line, color=colour, label=f"{kind}, {dimension} dimensions")
    axes[0].set(xlabel="step", ylabel="scale-free L_topo", yscale="log")
    axes[1].set(xlabel="step", ylabel="size ‖Z‖ / size at the start")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def signal_against_nulls(signal: dict[int, Float[Tensor, "draws kinds 2"]], names: tuple[str, ...]) -> Figure:
    """Mean loss with 95 % intervals against the number of points, one panel a dimension; the first kind is the noise."""
    figure, axes = plt.subplots(1, 2, figsize=(8.8, 3.1))
    colours = (COLOURS["data"], DIMENSION_COLOURS[0], DIMENSION_COLOURS[1], "#009E73")
    counts = list(signal)
    for h, axis in enumerate(axes):
        for kind, name in enumerate(names):
            means = np.array([float(losses[:, kind, h].mean()) for losses in signal.values()])
            halves = np.array([1.96 * float(losses[:, kind, h].std()) / len(losses) ** 0.5 for losses in signal.values()])
            axis.plot(counts, means, "o-", markersize=3.5, color=colours[kind], label=f"real against {name}")
            axis.fill_between(counts, means - halves, means + halves, color=colours[kind], alpha=0.2, linewidth=0)
        axis.set(title=DIMENSION_NAMES[h], xlabel="points n", ylabel="L_topo" if h == 0 else "", xscale="log", yscale="log")
        axis.set_xticks(counts, labels=map(str, counts))
        axis.xaxis.minorticks_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def costs(panels: dict[str, tuple[tuple[int, ...], dict[str, list[float]]]]) -> Figure:
    """Milliseconds against a size, logarithmic; a panel a title, with its sizes and a curve a method (maybe shorter)."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.5 * len(panels), 3.2), squeeze=False)
    for axis, (title, (sizes, curves)) in zip(axes[0], panels.items(), strict=True):
        for name, times in curves.items():
            axis.plot(sizes[: len(times)], times, "o-", markersize=3.5, label=name)
        axis.set(title=title, xscale="log", yscale="log", xlabel="clouds" if "clouds" in title else "points n")
        axis.set_xticks(sizes, labels=map(str, sizes))
        axis.xaxis.minorticks_off()
        axis.legend()
    axes[0, 0].set_ylabel("time / ms")
    return figure
