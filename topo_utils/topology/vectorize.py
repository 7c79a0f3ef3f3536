"""From diagrams to vectors of fixed length: batched, and differentiable in births and deaths.

Whatever the representation, padding counts for nothing, dtype and device are the diagram's, and a diagram without bars
gives zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from topo_utils.topology._autograd import differentiable_once, on_host
from topo_utils.topology.checks import check_count, check_finite, check_floating, check_number, check_positive
from topo_utils.topology.persistence import Diagram, check_diagram

if TYPE_CHECKING:
    from jaxtyping import Float


def landscape(
    diagram: Diagram, grid: Float[Tensor, " grid"], levels: int | None = None
) -> Float[Tensor, "*batch levels grid"]:
    """Persistence landscapes on a grid: λ_k(t) is the k-th largest of max(0, min(t - b, d - t)) over the bars (b, d).

    Bubenik, "Statistical topological data analysis using persistence landscapes", JMLR 16, 2015, Definition 3; the tents
    have slope one, as in persim (gudhi's are √2 times as high). Computed on the CPU in compiled loops
    (:mod:`topo_utils.topology._landscape`), whose only large array is the result.

    Parameters
    ----------
    diagram
        Bars of one homology dimension, ``(*batch, p, 2)``.
    grid
        Values of t, at least two and increasing, in the units of the edge weights.
    levels
        Number K of levels; levels beyond the number of bars are zero. None: as many as the diagram holds bars.

    Raises
    ------
    TypeError, ValueError
        The grid is not such a sequence, or levels < 1.
    """
    _check_grid("grid", grid)
    check_diagram("diagram", diagram)
    if levels is not None:
        check_count("levels", levels)
    curves = landscape_on(diagram, grid.to(diagram.points), levels)
    levels = diagram.points.shape[-2] if levels is None else levels
    return torch.nn.functional.pad(curves, (0, 0, 0, levels - curves.shape[-2]))


def landscape_on(diagram: Diagram, grid: Tensor, levels: int | None) -> Tensor:
    """:func:`landscape` on a grid that is known to be sound, without levels that are zero everywhere."""
    return _Landscape.apply(diagram.points, grid, levels)


class _Landscape(torch.autograd.Function):
    """Values ``(*batch, levels, grid)`` of the highest tents. Each is linear in the birth or in the death of one bar."""

    @staticmethod
    def forward(ctx, points: Tensor, grid: Tensor, levels: int | None) -> Tensor:
        from topo_utils.topology import _landscape  # here: numba takes a second to import

        bars, t = on_host(points), grid.cpu().numpy()
        values, owners = _landscape.landscapes(bars, t, _landscape.visible(bars, t, levels))
        ctx.save_for_backward(points, grid)
        ctx.owners = owners
        return torch.from_numpy(values).to(points.device).view(*points.shape[:-2], *values.shape[1:]).mT

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        from topo_utils.topology import _landscape

        points, grid = ctx.saved_tensors
        by_bar = torch.from_numpy(_landscape.spread(on_host(gradient.mT), ctx.owners, on_host(points), grid.cpu().numpy()))
        return by_bar.to(points.device).view(points.shape), None, None


class LandscapeDistance(torch.autograd.Function):
    """Σ_k ∫ (λ_k - reference_k)² dt of the landscapes of bars ``(*batch, p, 2)``, references ``(*batch, levels, grid)``.

    By the trapezoid rule. No landscape is kept: the gradients are made on the way forward.
    """

    @staticmethod
    def forward(ctx, points: Tensor, reference: Tensor, grid: Tensor, levels: int | None) -> Tensor:
        from topo_utils.topology import _landscape

        bars, t, wanted = on_host(points), grid.cpu().numpy(), on_host(reference.mT.to(points.dtype))
        by_reference = np.zeros(wanted.shape if ctx.needs_input_grad[1] else (0, 0, 0), wanted.dtype)
        seen = _landscape.visible(bars, t, levels)
        sums, by_bar = _landscape.squared_distances(bars, t, seen, wanted, by_reference)
        result = torch.from_numpy(sums).to(points).view(points.shape[:-2])
        if not (result.isfinite().all() and np.isfinite(by_bar).all()):
            raise ValueError(f"cloud: wanted lengths whose loss fits into {bars.dtype}, got deaths up to {bars.max():g}")
        ctx.save_for_backward(points, reference)
        ctx.gradients = by_bar, by_reference
        return result

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient: Tensor) -> tuple:
        points, reference = ctx.saved_tensors
        by_bar, by_reference = (torch.from_numpy(each).to(gradient.device) for each in ctx.gradients)
        outer = gradient[..., None, None]
        to_reference = None
        if len(by_reference):
            to_reference = (outer * by_reference.view(*reference.mT.shape).mT).to(reference)
        return outer * by_bar.view(points.shape), to_reference, None, None


def landscape_norm(diagram: Diagram, other: Diagram | None = None) -> float:
    """Exact L² norm (Σ_k ∫ λ_k² dt)^½ of all levels of a landscape, or of the difference of two.

    Every level is linear between neighbouring breakpoints, which are births, deaths and the crossings (b_i + d_j) / 2 of
    two tents (Bubenik & Dłotko, J. Symb. Comput. 78, 2017). Between them the integral of a squared linear function is
    h (u² + uv + v²) / 3. O(p³ log p) and float64: an oracle for what a fixed grid leaves out, not for training.

    Parameters
    ----------
    diagram, other
        Single diagrams ``(p, 2)``.
    """
    diagrams = [d for d in (diagram, other) if d is not None]
    if any(d.mask.ndim != 1 for d in diagrams):
        raise ValueError(f"wanted single diagrams, got the batch shapes {[tuple(d.mask.shape[:-1]) for d in diagrams]}")
    bars = [Diagram(d.points[d.mask].detach().double(), d.mask[d.mask]) for d in diagrams]
    points = [d.points for d in bars if len(d.points)]
    if not points:
        return 0.0
    crossings = [((p[:, None, 0] + p[None, :, 1]) / 2).flatten() for p in points]
    breakpoints = torch.cat([*(p.flatten() for p in points), *crossings]).unique()
    levels = max(len(p) for p in points)
    values = landscape(bars[0], breakpoints, levels)
    if other is not None:
        values = values - landscape(bars[1], breakpoints, levels)
    u, v = values[:, :-1], values[:, 1:]
    return float(((u.square() + u * v + v.square()) / 3 * breakpoints.diff()).sum().sqrt())


def persistence_image(
    diagram: Diagram, birth_edges: Float[Tensor, " b"], persistence_edges: Float[Tensor, " p"], sigma: float
) -> Float[Tensor, "*batch births persistences"]:
    """Persistence images: a Gaussian at each (birth, persistence), weighted by its persistence, integrated over each pixel.

    Adams et al., "Persistence images", JMLR 18, 2017, Definition 1. The integral is exact, a product of differences of
    normal distribution functions, as in persim (whose ``sigma`` is σ²; gudhi samples at the pixel's centre instead).

    Parameters
    ----------
    diagram
        Bars of one homology dimension; they all end.
    birth_edges, persistence_edges
        Edges of the pixels, increasing; m + 1 edges make m pixels.
    sigma
        Standard deviation σ > 0 of the Gaussian, in the units of the edge weights.

    Raises
    ------
    TypeError, ValueError
        The diagram is not sound or has a bar that never dies, the edges are not such sequences, or σ is not positive.
    """
    check_diagram("diagram", diagram, endless=False)
    _check_grid("birth_edges", birth_edges)
    _check_grid("persistence_edges", persistence_edges)
    check_positive("sigma", sigma)
    births, deaths = diagram.points.unbind(-1)
    persistences = deaths - births  # zero for padding, which so has no weight
    columns = torch.special.ndtr((birth_edges.to(births) - births[..., None]) / sigma).diff(dim=-1)
    rows = torch.special.ndtr((persistence_edges.to(births) - persistences[..., None]) / sigma).diff(dim=-1)
    with torch.autocast(rows.device.type, enabled=False):
        return (columns * persistences[..., None]).mT @ rows


def silhouette(diagram: Diagram, grid: Float[Tensor, " grid"], power: float = 1.0) -> Float[Tensor, "*batch grid"]:
    """Power-weighted silhouettes: the mean of the tents, weighted by (d - b)^power.

    Chazal et al., "Stochastic convergence of persistence landscapes and silhouettes", SoCG 2014, section 4; tents of slope
    one (gudhi's are √2 times as high). A bar of length zero has no weight, whatever the power.

    Parameters
    ----------
    diagram
        Bars of one homology dimension; they all end.
    grid
        As for :func:`landscape`.
    power
        0 gives all bars the same weight; the larger, the more the longest bars count. Not negative.

    Raises
    ------
    TypeError, ValueError
        The diagram is not sound or has a bar that never dies, or the grid or the power is not such.
    """
    check_diagram("diagram", diagram, endless=False)
    _check_grid("grid", grid)
    check_number("power", power, least=0)
    births, deaths = diagram.points.unbind(-1)
    lengths = deaths - births
    there = lengths > 0
    logs = (power * lengths.where(there, 1).log()).where(there, torch.finfo(lengths.dtype).min)
    weights = logs.softmax(-1)  # of powers themselves, the sum may overflow or vanish
    return (weights[..., None] * _tents(births, deaths, grid.to(births))).sum(-2)


def betti_curve(diagram: Diagram, grid: Float[Tensor, " grid"]) -> Float[Tensor, "*batch grid"]:
    """Betti curves: the number of bars alive at t, born at or before t and dying after. A step function: no gradient.

    Umeda, "Time series classification via topological data analysis", Trans. JSAI 32, 2017. See
    :func:`smooth_betti_curve` for training. A bar that never dies counts from its birth on.

    Raises
    ------
    TypeError, ValueError
        The diagram is not sound, or the grid is not increasing.
    """
    check_diagram("diagram", diagram)
    _check_grid("grid", grid)
    births, deaths = diagram.points.detach()[..., None].unbind(-2)
    t = grid.to(births)
    return ((births <= t) & (t < deaths)).sum(-2).to(births.dtype)


def smooth_betti_curve(diagram: Diagram, grid: Float[Tensor, " grid"], width: float) -> Float[Tensor, "*batch grid"]:
    """Betti curves with both steps of a bar replaced by logistic ones: Σ s((t - b) / width) s((d - t) / width).

    Tends to :func:`betti_curve` as ``width`` goes to 0 (away from births and deaths); its gradient vanishes then. A bar
    that never dies has its first step only; one of length zero still counts, for a quarter at its birth.

    Parameters
    ----------
    diagram, grid
        As for :func:`landscape`.
    width
        Width of a step, positive, in the units of the edge weights.

    Raises
    ------
    TypeError, ValueError
        The diagram is not sound, the grid is not increasing, or the width is not positive.
    """
    check_diagram("diagram", diagram)
    _check_grid("grid", grid)
    check_positive("width", width)
    births, deaths = diagram.points[..., None].unbind(-2)
    t = grid.to(births)
    alive = torch.sigmoid((t - births) / width) * torch.sigmoid((deaths - t) / width)
    return alive.where(diagram.mask[..., None], 0).sum(-2)


def persistence_entropy(diagram: Diagram) -> Float[Tensor, "*batch"]:
    """Shannon entropy, in nats, of the bars' shares in the total persistence; log p for p equal bars.

    Atienza, González-Díaz & Rucco, "Persistent entropy for separating topological features from noise", J. Intell. Inf.
    Syst. 52, 2019, Definition 4. A bar of length zero has no share.

    Raises
    ------
    TypeError, ValueError
        The diagram is not sound, or has a bar that never dies.
    """
    check_diagram("diagram", diagram, endless=False)
    births, deaths = diagram.points.unbind(-1)
    lengths = deaths - births
    total = lengths.sum(-1, keepdim=True)
    shares = (lengths / total.where(total > 0, 1)).where(lengths > 0, 1)  # log 1 = 0, with a finite gradient
    return -(shares * shares.log()).sum(-1)


def _tents(births: Tensor, deaths: Tensor, grid: Tensor) -> Tensor:
    """max(0, min(t - b, d - t)) of each bar on the grid, ``(*batch, p, grid)``."""
    return torch.minimum(grid - births[..., None], deaths[..., None] - grid).clamp(min=0)


def _check_grid(name: str, grid: Tensor) -> None:
    check_floating(name, grid)
    if grid.ndim != 1 or len(grid) < 2:
        raise ValueError(f"{name}: wanted at least two increasing values, got the shape {tuple(grid.shape)}")
    check_finite(name, grid)
    if not (grid.diff() > 0).all():
        first = int((grid.diff() <= 0).nonzero()[0])
        raise ValueError(f"{name}: wanted at least two increasing values, got {grid[first]:g} before {grid[first + 1]:g}")
