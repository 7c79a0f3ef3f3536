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
from matplotlib.figure import Figure
from torch import Tensor

from topo_utils.topology import Diagram

if TYPE_CHECKING:
    from jaxtyping import Float

STYLE = Path(__file__).with_name("style.mplstyle")
COLOURS = {"data": "#555555", "vae": "#0072B2", "beta-vae": "#009E73", "topovae": "#D55E00"}
NAMES = {"data": "data", "vae": "VAE", "beta-vae": "β-VAE", "topovae": "TopoVAE"}
DIMENSION_COLOURS = ("#0072B2", "#D55E00")
DIMENSION_NAMES = ("H0, components", "H1, loops")


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
        axis.scatter(births, deaths, s=14, color=DIMENSION_COLOURS[h], marker="os"[h], alpha=0.7, label=label, zorder=3)
    limit = 1.08 * max((float(d.points.detach().max()) for d in diagrams if d.points.numel()), default=1.0)
    axis.plot([0, limit], [0, limit], color="0.6", linewidth=0.8)
    axis.set(xlim=(-0.03 * limit, limit), ylim=(0, limit), xlabel="birth", ylabel="death", title="persistence diagram")
    axis.legend(loc="lower right")


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
