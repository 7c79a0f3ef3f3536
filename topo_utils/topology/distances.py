"""Distances between persistence diagrams.

Conventions: a bar may be matched with a bar of the other diagram or with the diagonal. The bottleneck distance measures a
match by the maximum norm, the Wasserstein distances by the Euclidean norm (internal p = 2), so that the diagonal is at
(d - b) / √2 from a bar; gudhi's default is the maximum norm there too.

A bar that never dies is matched with a bar that never dies, at the distance of their births; where the diagrams differ in
the number of these, the distance is infinite.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.topology.checks import check_count, check_option
from topo_utils.topology.persistence import Diagram, check_diagram

if TYPE_CHECKING:
    from jaxtyping import Float


def bottleneck(x: Diagram, y: Diagram) -> float:
    """Bottleneck distance of two single diagrams, exact: the longest match of the best matching.

    Cohen-Steiner, Edelsbrunner & Harer, "Stability of persistence diagrams", Discrete Comput. Geom. 37, 2007. It is the
    least ε, by bisection among the lengths that a match can have, for which the bars longer than 2 ε find different
    partners within ε, those of ``x`` in ``y`` and those of ``y`` in ``x``; then one matching serves both (Mendelsohn &
    Dulmage, "Some generalizations of the problem of distinct representatives", Canad. J. Math. 10, 1958). The matchings
    are scipy's. (gudhi 3.13 misses some matchings: its distance, exact or not, is too large for about one pair in 200.)

    Raises
    ------
    TypeError, ValueError
        ``x`` or ``y`` is no diagram, or a batch.
    """
    (x, births), (y, others) = (_split(_single(name, each).detach().double()) for name, each in (("x", x), ("y", y)))
    if len(births) != len(others):
        return math.inf
    endless = (births.sort().values - others.sort().values.to(births)).abs()  # on a line, the order is an optimal matching
    lengths = (x[:, None] - y[None].to(x)).abs().amax(-1)
    halves = [(bars[:, 1] - bars[:, 0]) / 2 for bars in (x, y.to(x))]
    candidates = torch.cat([lengths.flatten(), *halves, endless, endless.new_zeros(1)]).unique()
    candidates = candidates[candidates >= endless.max().item() if len(endless) else slice(None)]
    low, high = 0, len(candidates) - 1  # the largest one serves: every bar reaches the diagonal
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if _suffices(lengths <= candidates[middle], *halves, candidates[middle]) else (middle + 1, high)
        )
    return float(candidates[low])


def wasserstein(x: Diagram, y: Diagram, order: int = 2) -> Float[Tensor, "*batch"]:
    """Wasserstein distance W_q = (min over matchings of Σ ‖bar - match‖₂^q)^(1/q), differentiable.

    The optimal matching is found by scipy's assignment solver and held fixed; the gradient runs through the matched
    bars (Carrière et al., "Optimizing persistent homology based functions", ICML 2021). It is zero at distance zero and
    at distance infinity. O((p + q)³) a cloud.

    Parameters
    ----------
    x, y
        Diagrams in the same batch shape; of two dtypes, the wider is computed in.
    order
        q, 1 or 2.

    Raises
    ------
    TypeError, ValueError
        ``x`` or ``y`` is no diagram, the batch shapes differ, or another order.
    """
    check_option("order", order, (1, 2))
    x, y = _comparable(x, y)
    distances = [_wasserstein(a, b, order) for a, b in zip(_clouds(x), _clouds(y), strict=True)]
    batch = x.mask.shape[:-1]
    return torch.stack(distances).reshape(batch) if distances else x.points.new_zeros(batch)


def sliced_wasserstein(x: Diagram, y: Diagram, directions: int = 50) -> Float[Tensor, "*batch"]:
    """Sliced Wasserstein distance: W_1 of the diagrams' projections on lines, the mean over the directions; differentiable.

    Carrière, Cuturi & Oudot, "Sliced Wasserstein kernel for persistence diagrams", ICML 2017, Definition 3.1, with its
    integral as a mean over equidistant directions of the half circle, as in persim (gudhi leaves one of them out). Each
    diagram is completed by the other's projections on the diagonal. O(directions · p log p) a cloud.

    Parameters
    ----------
    x, y
        Diagrams in the same batch shape, whose bars all end; of two dtypes, the wider is computed in.
    directions
        Number of equidistant directions on the half circle, at least 1.

    Raises
    ------
    TypeError, ValueError
        ``x`` or ``y`` is no such diagram, the batch shapes differ, or fewer directions.
    """
    check_count("directions", directions)
    first, second = (diagram.points for diagram in _comparable(x, y, endless=False))
    angles = math.pi * (torch.arange(directions, dtype=first.dtype, device=first.device) / directions - 0.5)
    lines = torch.stack([angles.cos(), angles.sin()])
    # padding is the point (0, 0) of both completed diagrams, which changes no distance
    with torch.autocast(first.device.type, enabled=False):
        left = torch.cat([first, _on_diagonal(second)], dim=-2) @ lines
        right = torch.cat([second, _on_diagonal(first)], dim=-2) @ lines
    return (left.sort(dim=-2).values - right.sort(dim=-2).values).abs().sum(-2).mean(-1)


def _wasserstein(x: Tensor, y: Tensor, order: int) -> Tensor:
    """Of two sets of bars ``(p, 2)`` and ``(q, 2)``."""
    (x, births), (y, others) = _split(x), _split(y)
    if len(births) != len(others):
        return torch.cat([births, others]).sum() * 0 + math.inf  # with a gradient, zero
    matched, alone = _match(x, y, order)
    lengths = [
        torch.linalg.vector_norm(x[matched[0]] - y[matched[1]], dim=-1),
        _to_diagonal(torch.cat([x[alone[0]], y[alone[1]]])),
        births.sort().values - others.sort().values,  # on a line, the order is an optimal matching
    ]
    return torch.linalg.vector_norm(torch.cat(lengths), ord=order)


def _suffices(near: Tensor, left: Tensor, right: Tensor, length: Tensor) -> bool:
    """Whether all bars that are farther than ``length`` from the diagonal, ``left`` and ``right``, find near partners."""
    from scipy.optimize import linear_sum_assignment  # here, so that this package imports without it

    for pairs in (near[left > length], near.mT[right > length]):
        missing = ~pairs.cpu().numpy()
        if len(missing) > missing.shape[1] or missing[linear_sum_assignment(missing)].any():
            return False
    return True


@torch.no_grad()
def _match(x: Tensor, y: Tensor, order: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Optimal matching of bars that end: indices of the matched bars of both, and of those that go to the diagonal."""
    from scipy.optimize import linear_sum_assignment  # here, so that this package imports without it

    p, q = len(x), len(y)
    costs = x.new_zeros(p + q, p + q, dtype=torch.float64)
    costs[:p, :q] = torch.linalg.vector_norm(x[:, None].double() - y[None].double(), dim=-1)
    costs[:p, q:] = _to_diagonal(x.double())[:, None]
    costs[p:, :q] = _to_diagonal(y.double())[None]
    rows, columns = map(torch.from_numpy, linear_sum_assignment(costs.pow(order).cpu().numpy()))
    left, right = rows < p, columns < q
    both = left & right
    return (rows[both], columns[both]), (rows[left & ~right], columns[right & ~left])


def _split(bars: Tensor) -> tuple[Tensor, Tensor]:
    """Bars that end, ``(p, 2)``, and the births of those that do not."""
    endless = bars[:, 1].isinf()
    return bars[~endless], bars[endless, 0]


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


def _comparable(x: Diagram, y: Diagram, endless: bool = True) -> tuple[Diagram, Diagram]:
    """Both in the wider of their dtypes, on the device of the first; raises unless they are in the same batch shape."""
    for name, diagram in (("x", x), ("y", y)):
        check_diagram(name, diagram, endless)
    batch, other = x.mask.shape[:-1], y.mask.shape[:-1]
    if batch != other:
        raise ValueError(f"x and y: wanted the same batch shape, got {tuple(batch)} and {tuple(other)}")
    dtype, device = torch.promote_types(x.points.dtype, y.points.dtype), x.points.device
    return tuple(Diagram(d.points.to(device, dtype), d.mask.to(device)) for d in (x, y))
