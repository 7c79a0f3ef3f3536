"""Diffusion models: the noise, denoised estimates and their topology, and masks with a wanted Betti number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from topo_utils.plots._style import COLOURS, NAMES, styled
from topo_utils.plots.topology import draw_diagram

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from topo_utils.datasets import Domain
    from topo_utils.topology import Diagram

RIGHT, WRONG = "#0072B2", "#D55E00"


@styled
def noise_levels(
    domain: Domain, rows: dict[str, Float[Tensor, "levels n ..."]], sigmas: list[float], highest: float | None = None
) -> Figure:
    """Items at several noise levels, a column a level and a row a kind; of points the whole cloud, of others one item.

    Parameters
    ----------
    domain
        That of the items.
    rows
        By name, items at each level; clouds of points have the frame of the first one, half as large again.
    sigmas
        Noise levels, in units of σ_data.
    highest
        Levels up to this one have a title in bold: there estimates are compared.
    """
    figure, axes = plt.subplots(len(rows), len(sigmas), figsize=(1.25 * len(sigmas) + 1.0, 1.25 * len(rows)), squeeze=False)
    for line, (name, levels) in zip(axes, rows.items(), strict=True):
        for axis, items in zip(line, levels, strict=True):
            _draw(axis, domain, items)
        _name(line[0], name)
    if domain.filtration is None:
        _frame(axes.flat, axes[0, 0], 1.5)
    for axis, sigma in zip(axes[0], sigmas, strict=True):
        weight = "bold" if highest is not None and sigma <= highest else "normal"
        axis.set_title(f"σ = {sigma:.3g} σ_data", size=8, weight=weight)
    return figure


@styled
def shape_against_noise(
    sigmas: list[float], curves: dict[str, list[float]], floor: float, highest: float, ylabel: str
) -> Figure:
    """A distance of clouds against the noise level, a colour a model; grey: where it is part of the loss.

    Parameters
    ----------
    sigmas
        Noise levels, in units of σ_data.
    curves
        For each model the distance at each of them.
    floor
        The distance of two clouds of data: a dashed line.
    highest
        Noise levels up to this one are shaded.
    ylabel
        What is measured.
    """
    figure, axis = plt.subplots(figsize=(5.4, 3.1))
    for model, values in curves.items():
        axis.plot(sigmas, values, "o-", markersize=3.5, color=COLOURS[model], label=NAMES[model])
    axis.axhline(floor, color=COLOURS["data"], linestyle="--", linewidth=1, label="two clouds of data")
    low = min(sigmas) / 1.2
    axis.axvspan(low, highest, color="0.92", zorder=0, label="compared in training")
    axis.set(xscale="log", yscale="log", xlabel="noise level σ / σ_data", ylabel=ylabel, xlim=(low, max(sigmas) * 1.2))
    axis.legend()
    return figure


@styled
def denoising_trajectory(domain: Domain, columns: dict[str, tuple[Float[Tensor, "n ..."], list[Diagram]]]) -> Figure:
    """Denoised estimates at some steps of the sampler, over the persistence diagrams of their cloud; the last is the data.

    Parameters
    ----------
    domain
        That of the items.
    columns
        By title, items and the diagrams of their features; all diagrams have the same axes.
    """
    figure, axes = plt.subplots(2, len(columns), figsize=(2.15 * len(columns), 4.0), height_ratios=(1, 1.25), squeeze=False)
    for (above, below), (title, (items, diagrams)) in zip(axes.T, columns.items(), strict=True):
        _draw(above, domain, items)
        above.set_title(title)
        draw_diagram(below, diagrams)
        below.legend(loc="lower right", fontsize=6.5)
    if domain.filtration is None:
        _frame(axes[0], axes[0, -1], 1.0)
    top = max(axis.get_ylim()[1] for axis in axes[1])
    for axis in axes[1]:
        axis.get_lines()[0].set_data([0, top], [0, top])  # the diagonal
        axis.set(xlim=(-0.03 * top, top), ylim=(0, top))
        axis.label_outer()
    return figure


@styled
def bars_kept(
    mask: Float[Tensor, "h w"],
    bars: Float[Tensor, "p 2"],
    columns: dict[str, tuple[Bool[Tensor, " p"], Float[Tensor, "h w"]]],
) -> Figure:
    """A grey mask, and for each wanted Betti number which of its bars are kept and where a loss pulls at its pixels.

    Parameters
    ----------
    mask
        Grey values in [0, 1].
    bars
        Grey values at which each bar is born and dies, birth above death.
    columns
        By title: which bars are kept, and the direction of descent on each pixel.
    """
    figure, axes = plt.subplots(2, len(columns) + 1, figsize=(2.0 * (len(columns) + 1) + 0.8, 3.9), height_ratios=(1, 1.3))
    axes[0, 0].set_axis_off()
    axes[1, 0].imshow(mask, vmin=0, vmax=1, interpolation="nearest")
    axes[1, 0].set_title("the mask")
    largest = max(float(direction.abs().max()) for _, direction in columns.values()) or 1.0
    for (above, below), (title, (kept, direction)) in zip(axes.T[1:], columns.items(), strict=True):
        for place, ((birth, death), keep) in enumerate(zip(bars.tolist(), kept.tolist(), strict=True)):
            above.plot([death, birth], [-place, -place], linewidth=4, color=RIGHT if keep else WRONG, solid_capstyle="butt")
        above.set(title=title, xlabel="grey value", yticks=[], xlim=(0, 1.02), ylim=(-len(bars) + 0.4, 0.6))
        shown = below.imshow(direction, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    handles = [
        Line2D([], [], color=RIGHT, linewidth=4, label="kept"),
        Line2D([], [], color=WRONG, linewidth=4, label="suppressed"),
    ]
    axes[0, 0].legend(handles=handles, loc="center right")
    for axis in axes[1]:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
    figure.colorbar(shown, ax=axes[1, -1], label="a step of descent", shrink=0.85)
    return figure


@styled
def masks_by_number(
    panels: dict[str, tuple[Float[Tensor, "n 1 h w"], Int[Tensor, " n"], Int[Tensor, " n"]]], symbol: str, columns: int = 6
) -> Figure:
    """Masks by the number that was wanted of them, a row a number; over each the number it has, in blue where they agree.

    Parameters
    ----------
    panels
        By model or title: masks, the wanted number of each, and the number counted.
    symbol
        Of the number, such as ``"β₀"``.
    columns
        Masks of each number, the first ones.
    """
    numbers = sorted({number for _, wanted, _ in panels.values() for number in wanted.tolist()})
    figure = plt.figure(figsize=((0.62 * columns + 0.5) * len(panels) + 0.2, 0.78 * len(numbers) + 0.5))
    parts = figure.subfigures(1, len(panels), squeeze=False)[0]
    for part, (title, (masks, wanted, counted)) in zip(parts, panels.items(), strict=True):
        part.suptitle(NAMES.get(title, title), size=10)
        for line, number in zip(part.subplots(len(numbers), columns, squeeze=False), numbers, strict=True):
            chosen = (wanted == number).nonzero().flatten()[:columns].tolist()
            for axis, index in zip(line, chosen, strict=False):
                axis.imshow(masks[index, 0].detach().cpu(), vmin=0, vmax=1, interpolation="nearest")
                found = int(counted[index])
                axis.set_title(str(found), size=7.5, pad=1.5, color=RIGHT if found == number else WRONG, weight="bold")
            for axis in line:
                axis.set(xticks=[], yticks=[])
                axis.grid(False)
                axis.spines[:].set_visible(True)
                axis.spines[:].set(color="0.8", linewidth=0.5)
            for axis in line[len(chosen) :]:
                axis.set_visible(False)
            _name(line[0], f"{symbol} = {number}")
    return figure


def _draw(axis: Axes, domain: Domain, items: Float[Tensor, "n ..."]) -> None:
    """The cloud when the items are points, else the first item."""
    if domain.filtration is None:
        axis.scatter(*domain.view(items).T, s=2, linewidths=0, color="black")
        axis.set(xticks=[], yticks=[], aspect="equal")
        axis.grid(False)
    else:
        domain.draw(axis, items[0])
    axis.spines[:].set_visible(False)


def _frame(axes: Iterable[Axes], like: Axes, zoom: float) -> None:
    """The limits of one panel, ``zoom`` times as wide, for all of them: a cloud that shrinks is seen to shrink."""
    (left, right), (low, high) = like.get_xlim(), like.get_ylim()
    x, y, width, height = (left + right) / 2, (low + high) / 2, zoom * (right - left) / 2, zoom * (high - low) / 2
    for axis in axes:
        axis.set(xlim=(x - width, x + width), ylim=(y - height, y + height))


def _name(axis: Axes, name: str) -> None:
    """Name of a row, on the left; not the axis label, which a domain may switch off."""
    axis.annotate(name, (0, 0.5), (-8, 0), xycoords="axes fraction", textcoords="offset points", ha="right", va="center")
