"""Gradients of persistence, and the losses made of it (notebooks 03 and 04)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from topo_utils.plots._style import COLOURS, DIMENSION_COLOURS, DIMENSION_NAMES, styled
from topo_utils.topology import Diagram, landscape

if TYPE_CHECKING:
    from jaxtyping import Float


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
def landscapes_apart(
    reference: Diagram, rows: dict[str, tuple[Diagram, Float[Tensor, "bars 2"]]], grid: Float[Tensor, " t"]
) -> Figure:
    """Diagrams beside a reference, a row each: the bars with the way that descent moves them, and both landscapes.

    Parameters
    ----------
    reference
        A single diagram, black.
    rows
        Diagrams by name, each with the gradient of a loss in its births and deaths; the longest arrow of all rows, against
        the gradient, is drawn as a quarter of the grid.
    grid
        Where the landscapes are drawn; the area between them is grey.
    """
    figure, axes = plt.subplots(len(rows), 2, figsize=(8.4, 2.7 * len(rows)), squeeze=False, sharex="col", sharey="col")
    span = float(grid[-1] - grid[0])
    longest = max(float(gradient.norm(dim=-1).max()) for _, gradient in rows.values())
    for (left, right), (name, (diagram, gradient)) in zip(axes, rows.items(), strict=True):
        bars, arrows = diagram.points.detach(), -gradient * (span / 4 / max(longest, 1e-12))
        left.plot(grid[[0, -1]], grid[[0, -1]], color="0.6", linewidth=0.8)
        left.scatter(*reference.points.T, s=30, color="black", label="X", zorder=3)
        left.scatter(*bars.T, s=30, color=COLOURS["topovae"], marker="s", label="Y", zorder=3)
        left.quiver(*bars.T, *arrows.T, angles="xy", scale_units="xy", scale=1, width=0.01, color=COLOURS["topovae"])
        left.set(aspect="equal", ylabel="death", title=name)
        levels = max(len(reference.points), len(bars))
        both = [landscape(each, grid, levels) for each in (reference, Diagram(bars, diagram.mask))]
        for k, (x, y) in enumerate(zip(*both, strict=True)):
            right.fill_between(grid, x, y, color="0.85")
            right.plot(grid, x, color="black", label="X" if k == 0 else None)
            right.plot(grid, y, color=COLOURS["topovae"], linestyle="--", label="Y" if k == 0 else None)
        right.set(ylabel="λₖ(t)")
        for axis in (left, right):
            axis.legend(loc="upper right" if axis is right else "lower right")
    axes[-1, 0].set(xlabel="birth")
    axes[-1, 1].set(xlabel="t")
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
