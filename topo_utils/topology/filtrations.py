"""From a point cloud to edge weights: the filtration value at which each edge of a flag complex enters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.topology._autograd import differentiable_once, on_host
from topo_utils.topology.checks import check_cloud, check_count, check_finite, check_weights

if TYPE_CHECKING:
    from jaxtyping import Float


def pairwise_distances(x: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch n n"]:
    """Euclidean distances between the points of each cloud.

    Exact differences are summed: the matrix-product shortcut that :func:`torch.cdist` takes above 25 points would leave
    a non-zero diagonal and cancel small distances. The gradient at distance zero (equal points) is zero, not NaN.

    Parameters
    ----------
    x
        Clouds of n >= 2 points in R^d, finite, float32 or float64.

    Returns
    -------
    Tensor
        Symmetric, zero on the diagonal, in the units of ``x``.

    Raises
    ------
    TypeError, ValueError
        ``x`` is not a floating tensor, has fewer than two points, or holds a value that is not finite, or so large that a
        distance is not.
    """
    return euclidean("x", x)


def euclidean(name: str, x: Tensor) -> Tensor:
    """:func:`pairwise_distances` of the argument ``name``."""
    check_cloud(name, x)
    if x.device.type == "cpu":
        distances = _Euclidean.apply(x)
    else:
        distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    if x.numel() and not math.isfinite(distances.detach().max().item()):
        raise ValueError(f"{name}: wanted values whose distances fit into {x.dtype}, got up to {x.abs().max():g}")
    return distances


class _Euclidean(torch.autograd.Function):
    """Distances of clouds on the CPU, ``(*batch, n, n)``."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        from topo_utils.topology import _distances  # here: numba takes a second to import

        lengths = torch.from_numpy(_distances.distances(on_host(x))).view(*x.shape[:-1], x.shape[-2])
        ctx.save_for_backward(x, lengths)
        return lengths

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient: Tensor) -> Tensor:
        from topo_utils.topology import _distances

        x, lengths = ctx.saved_tensors
        return torch.from_numpy(_distances.pull(on_host(gradient), on_host(x), on_host(lengths))).view(x.shape)


def rips(distances: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """Vietoris-Rips filtration: every edge enters at its length.

    Parameters
    ----------
    distances
        Symmetric, non-negative, zero on the diagonal, finite. The triangle inequality is not needed.

    Returns
    -------
    Tensor
        Edge weights of the flag filtration; here the distances themselves.

    Raises
    ------
    TypeError, ValueError
        ``distances`` is not such a matrix.
    """
    check_weights("distances", distances)
    check_finite("distances", distances)
    return distances


def knn(distances: Float[Tensor, "*batch n n"], k: int) -> Float[Tensor, "*batch n n"]:
    """Flag filtration of the symmetrised k-nearest-neighbour graph, each edge at its length (the proposal, section 2.3).

    An edge is kept when either end has the other among its k nearest; points tied with the k-th nearest count as near, so
    that the graph does not depend on the order of the points. The choice of neighbours carries no gradient.

    Parameters
    ----------
    distances
        As for :func:`rips`.
    k
        Number of neighbours, 1 <= k < n.

    Returns
    -------
    Tensor
        Edge weights, ``+inf`` where there is no edge.

    Raises
    ------
    TypeError, ValueError
        ``distances`` is not such a matrix, or k is out of range.
    """
    distances = rips(distances)
    n = distances.shape[-1]
    check_count("k", k, below=n)
    from topo_utils.topology import _weights  # here: numba takes a second to import

    far = torch.from_numpy(_weights.far(on_host(distances), int(k))).view(distances.shape).to(distances.device)
    return distances.masked_fill(far, torch.inf)
