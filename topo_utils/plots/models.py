"""What models make of data, and their training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from topo_utils.plots._style import COLOURS, NAMES, NO_TERMS, TERMS, styled
from topo_utils.plots.domains import item_rows

if TYPE_CHECKING:
    from jaxtyping import Float

    from topo_utils.datasets import Domain


@styled
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


@styled
def training_curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Each term of the loss against the epoch, a colour a model; dashed: on the validation split."""
    names = (name for history in histories.values() for name in history if name.split("_")[0] not in NO_TERMS)
    terms = list(dict.fromkeys(names))
    figure, axes = plt.subplots(1, len(terms), figsize=(3.4 * len(terms), 2.9), squeeze=False)
    for axis, term in zip(axes[0], terms, strict=True):
        for model, history in histories.items():
            for column, line in ((term, "-"), (f"validation_{term}", "--")):
                if column in history:
                    axis.plot(history["epoch"] + 1, history[column], line, color=COLOURS[model], label=NAMES[model])
        axis.set(title=TERMS[term], xlabel="epoch")
        drawn = [line.get_ydata().min() for line in axis.get_lines()]
        axis.set_yscale("log" if min(drawn) > 0 and term != "kl" else "linear")
    handles = [plt.Line2D([], [], color=COLOURS[model], label=NAMES[model]) for model in histories]
    dashed = plt.Line2D([], [], color="0.4", linestyle="--", label="validation")
    axes[0, 0].legend(handles=[*handles, dashed])
    return figure


@styled
def gradient_norms(measured: dict[int, Float[np.ndarray, "batches 2"]], gammas: dict[int, float]) -> Figure:
    """Gradient norms of a model's loss and of L_topo by training batch, median and range; and the γ that balances them."""
    figure, axes = plt.subplots(1, 2, figsize=(8.0, 2.9))
    steps = list(measured)
    for column, name, colour in ((0, "reconstruction + KL", COLOURS["vae"]), (1, "L_topo", COLOURS["topovae"])):
        values = np.stack([each[:, column] for each in measured.values()])
        axes[0].plot(steps, np.median(values, axis=1), "o-", markersize=3.5, color=colour, label=name)
        axes[0].fill_between(steps, values.min(1), values.max(1), color=colour, alpha=0.2, linewidth=0)
    axes[0].set(xlabel="training batch", ylabel="gradient norm", yscale="log")
    axes[0].legend()
    axes[1].plot(list(gammas), list(gammas.values()), "o-", markersize=3.5, color="black")
    axes[1].set(xlabel="training batch", ylabel="γ", yscale="log")
    return figure


@styled
def latent_spaces(
    clouds: dict[str, Float[Tensor, "n d"]],
    labels: Float[Tensor, " n"],
    landscapes: dict[str, list[Float[Tensor, "levels grid"]]],
    grid: Float[Tensor, " grid"],
    label: str = "digit",
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
    label
        What the labels mean. A single label is not coloured, nor explained.
    """
    classes = sorted(set(labels.tolist()))
    figure, axes = plt.subplots(
        3, len(clouds), figsize=(3.3 * len(clouds), 6.4), height_ratios=(3, 1.5, 1.5), squeeze=False
    )
    for column, (name, cloud) in enumerate(clouds.items()):
        points, share = principal_plane(cloud)
        dots = axes[0, column].scatter(*points.T, c=labels % 10, s=7, cmap="tab10", vmin=-0.5, vmax=9.5)
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
    if 1 < len(classes) <= 10:
        figure.colorbar(dots, ax=axes[0, :], ticks=classes, label=label, shrink=0.9, pad=0.01)
    return figure


@styled
def overlaid(rows: dict[str, tuple[Float[Tensor, "n d"], dict[str, Float[Tensor, "m d"]]]]) -> Figure:
    """Clouds over a reference: a row a reference, a column a cloud, all on the reference's first two principal axes.

    Parameters
    ----------
    rows
        By the name of a row its reference, drawn in grey, and the clouds by their names, which are the titles of the first
        row; axes end where 99.8 % of the points of each kind do.
    """
    columns = len(next(iter(rows.values()))[1])
    figure, axes = plt.subplots(len(rows), columns, figsize=(3.3 * columns, 3.1 * len(rows)), squeeze=False)
    for i, (line, (name, (reference, clouds))) in enumerate(zip(axes, rows.items(), strict=True)):
        below, share = principal_plane(reference)
        placed = {title: principal_plane(reference, cloud)[0] for title, cloud in clouds.items()}
        ends = np.stack([np.quantile(points, (0.001, 0.999), axis=0) for points in (below, *placed.values())])
        lowest, highest = ends.min((0, 1)), ends.max((0, 1))
        margin = 0.05 * (highest - lowest)
        for axis, (title, points) in zip(line, placed.items(), strict=True):
            axis.scatter(*below.T, s=4, linewidths=0, color=COLOURS["data"], alpha=0.5)
            axis.scatter(*points.T, s=4, linewidths=0, color=COLOURS["topovae"], alpha=0.5)
            axis.set(title="" if i else title, xticks=[], yticks=[])
            axis.set_xlim(lowest[0] - margin[0], highest[0] + margin[0])
            axis.set_ylim(lowest[1] - margin[1], highest[1] + margin[1])
        line[0].set_ylabel(f"{name}\n{share:.0%} of the variance")
    dots = [plt.Line2D([], [], marker="o", ls="", ms=4, color=COLOURS[name]) for name in ("data", "topovae")]
    axes[0, 0].legend(dots, ["of the data", "drawn"])
    return figure


def principal_plane(
    cloud: Float[Tensor, "n d"], others: Float[Tensor, "m d"] | None = None
) -> tuple[Float[np.ndarray, "m 2"], float]:
    """Coordinates on the first two principal axes of a cloud, of it or of other points; and the share of its variance.

    The sign of an axis is arbitrary; it is fixed so that the largest coordinate of the cloud is positive.
    """
    points, others = (each.detach().double().cpu() for each in (cloud, cloud if others is None else others))
    pad = (0, max(0, 2 - points.shape[1]))  # a line is drawn as one
    centred, shown = (torch.nn.functional.pad(each - points.mean(0), pad) for each in (points, others))
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    placed = centred @ axes.T
    largest = placed.gather(0, placed.abs().argmax(0, keepdim=True))
    return (shown @ axes.T * largest.sign()).numpy(), float(values[:2].square().sum() / values.square().sum())


@styled
def made_points(rows: dict[str, tuple[Domain, Float[Tensor, "n d"]]]) -> Figure:
    """Points of a manifold side by side, each cloud as its manifold's view shows it."""
    figure, axes = plt.subplots(1, len(rows), figsize=(3.0 * len(rows), 3.0), squeeze=False, sharex=True, sharey=True)
    for axis, (name, (domain, points)) in zip(axes[0], rows.items(), strict=True):
        seen = domain.view(points)
        axis.scatter(*seen.T, s=3, linewidths=0, color=COLOURS.get(name, "black"))
        axis.set(title=NAMES.get(name, name), xticks=[], yticks=[], aspect="equal")
        axis.spines[:].set_visible(False)
    return figure


def made_items(rows: dict[str, tuple[Domain, Float[Tensor, "n ..."]]], columns: int = 10) -> Figure:
    """Items of one domain under one another, each row with its name; points as clouds side by side."""
    if any(domain.filtration is None for domain, _ in rows.values()):
        return made_points(rows)
    return item_rows({NAMES.get(name, name): (domain, items[:columns]) for name, (domain, items) in rows.items()})
