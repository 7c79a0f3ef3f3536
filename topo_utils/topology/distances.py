"""Distances between persistence diagrams.

Conventions: a bar may be matched with a bar of the other diagram or with the diagonal. The bottleneck distance measures a
match by the maximum norm, the Wasserstein distances by the Euclidean norm (internal p = 2), so that the diagonal is at
(d - b) / √2 from a bar; gudhi's default is the maximum norm there too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.topology.checks import check_count
from topo_utils.topology.persistence import Diagram, check_diagram

if TYPE_CHECKING:
    from jaxtyping import Float


def bottleneck(x: Diagram, y: Diagram) -> float:
    """Bottleneck distance of two single diagrams, by persim: the longest match of the best matching.

    Cohen-Steiner, Edelsbrunner & Harer, "Stability of persistence diagrams", Discrete Comput. Geom. 37, 2007.

    Raises
    ------
    ValueError
        A diagram is a batch.
    """
    bars = [_single(name, diagram).detach().double().cpu().numpy() for name, diagram in (("x", x), ("y", y))]
    if not all(map(len, bars)):  # persim warns of empty diagrams; a lone diagram is matched with the diagonal
        return max((float((b[:, 1] - b[:, 0]).max()) / 2 for b in bars if len(b)), default=0.0)
    from persim import bottleneck as by_persim  # here, so that this package imports without it

    return float(by_persim(*bars))


def wasserstein(x: Diagram, y: Diagram, order: int = 2) -> Float[Tensor, "*batch"]:
    """Wasserstein distance W_q = (min over matchings of Σ ‖bar - match‖₂^q)^(1/q), differentiable.

    The optimal matching is found by scipy's assignment solver and held fixed; the gradient runs through the matched
    bars (Carrière et al., "Optimizing persistent homology based functions", ICML 2021). It is zero at distance zero.
    O((p + q)³) a cloud.

    Parameters
    ----------
    x, y
        Diagrams in the same batch shape.
    order
        q, 1 or 2.

    Raises
    ------
    ValueError
        Another order, or the batch shapes differ.
    """
    if order not in (1, 2):
        raise ValueError(f"order: wanted 1 or 2, got {order!r}")
    batch = _same_batch(x, y)
    clouds = zip(*(_clouds(diagram) for diagram in (x, y)), strict=True)
    distances = [_wasserstein(a, b, order) for a, b in clouds]
    return torch.stack(distances).reshape(batch) if distances else x.points.new_zeros(batch)


def sliced_wasserstein(x: Diagram, y: Diagram, directions: int = 50) -> Float[Tensor, "*batch"]:
    """Sliced Wasserstein distance: W_1 of the diagrams' projections on lines, the mean over the directions; differentiable.

    Carrière, Cuturi & Oudot, "Sliced Wasserstein kernel for persistence diagrams", ICML 2017, Definition 3.1, with its
    integral as a mean over equidistant directions of the half circle, as in persim (gudhi leaves one of them out). Each
    diagram is completed by the other's projections on the diagonal. O(directions · p log p) a cloud.

    Parameters
    ----------
    x, y
        Diagrams in the same batch shape.
    directions
        Number of equidistant directions on the half circle, at least 1.

    Raises
    ------
    ValueError
        Fewer directions, or the batch shapes differ.
    """
    check_count("directions", directions)
    _same_batch(x, y)
    first, second = x.points, y.points.to(x.points)
    angles = math.pi * (torch.arange(directions, dtype=first.dtype, device=first.device) / directions - 0.5)
    lines = torch.stack([angles.cos(), angles.sin()])
    # padding is the point (0, 0) of both completed diagrams, which changes no distance
    with torch.autocast(first.device.type, enabled=False):
        left = torch.cat([first, _on_diagonal(second)], dim=-2) @ lines
        right = torch.cat([second, _on_diagonal(first)], dim=-2) @ lines
    return (left.sort(dim=-2).values - right.sort(dim=-2).values).abs().sum(-2).mean(-1)


def _wasserstein(x: Tensor, y: Tensor, order: int) -> Tensor:
    """Of two sets of bars ``(p, 2)`` and ``(q, 2)``."""
    from scipy.optimize import linear_sum_assignment  # here, so that this package imports without it

    p, q = len(x), len(y)
    with torch.no_grad():
        costs = x.new_zeros(p + q, p + q, dtype=torch.float64)
        costs[:p, :q] = torch.linalg.vector_norm(x[:, None].double() - y[None].double(), dim=-1)
        costs[:p, q:] = _to_diagonal(x.double())[:, None]
        costs[p:, :q] = _to_diagonal(y.double())[None]
        rows, columns = map(torch.from_numpy, linear_sum_assignment(costs.pow(order).cpu().numpy()))
    both = (rows < p) & (columns < q)
    pairs = torch.linalg.vector_norm(x[rows[both]] - y[columns[both]], dim=-1)
    alone = _to_diagonal(torch.cat([x[rows[(rows < p) & (columns >= q)]], y[columns[(rows >= p) & (columns < q)]]]))
    return torch.linalg.vector_norm(torch.cat([pairs, alone]), ord=order)


def _to_diagonal(bars: Tensor) -> Tensor:
    return (bars[:, 1] - bars[:, 0]) / math.sqrt(2)


def _on_diagonal(bars: Tensor) -> Tensor:
    """Nearest points of the diagonal."""
    return bars.mean(-1, keepdim=True).expand_as(bars)


def _single(name: str, diagram: Diagram) -> Tensor:
    check_diagram(name, diagram)
    if diagram.mask.ndim != 1:
        raise ValueError(f"{name}: wanted a single diagram, got the batch shape {tuple(diagram.mask.shape[:-1])}")
    return diagram.points[diagram.mask]


def _clouds(diagram: Diagram) -> list[Tensor]:
    *batch, bars = diagram.mask.shape
    points, masks = diagram.points.reshape(math.prod(batch), bars, 2), diagram.mask.reshape(math.prod(batch), bars)
    return [cloud[mask] for cloud, mask in zip(points, masks, strict=True)]


def _same_batch(x: Diagram, y: Diagram) -> torch.Size:
    for name, diagram in (("x", x), ("y", y)):
        check_diagram(name, diagram)
    batch, other = x.mask.shape[:-1], y.mask.shape[:-1]
    if batch != other:
        raise ValueError(f"x and y: wanted the same batch shape, got {tuple(batch)} and {tuple(other)}")
    return batch
