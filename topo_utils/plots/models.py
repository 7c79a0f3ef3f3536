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


def principal_plane(cloud: Float[Tensor, "n d"]) -> tuple[np.ndarray, float]:
    """Coordinates ``(n, 2)`` on the first two principal axes, and the share of the variance that they hold.

    The sign of an axis is arbitrary; it is fixed so that the largest coordinate is positive.
    """
    centred = cloud.detach().double().cpu() - cloud.detach().double().cpu().mean(0)
    centred = torch.nn.functional.pad(centred, (0, max(0, 2 - centred.shape[1])))  # a line is drawn as one
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    points = left[:, :2] * values[:2]
    largest = points.gather(0, points.abs().argmax(0, keepdim=True))
    return (points * largest.sign()).numpy(), float(values[:2].square().sum() / values.square().sum())


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
