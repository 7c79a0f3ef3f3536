"""From a point cloud to edge weights: the filtration value at which each edge of a flag complex enters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from topo_utils.topology._autograd import differentiable_once, on_host
from topo_utils.topology.checks import (
    check_cloud,
    check_count,
    check_dtype,
    check_finite,
    check_floating,
    check_option,
    check_single_cloud,
    check_weights,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int


LOOKED_UP = 4096  # points whose neighbours are searched for at a time


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


class Graph(NamedTuple):
    """A weighted graph as the list of its edges: the flag filtration of many points with few edges.

    Attributes
    ----------
    edges
        Ends i < j of each edge, int64, ``(m, 2)``; each pair at most once.
    weights
        When each edge enters, finite and non-negative, ``(m,)``.
    points
        Number of points n; isolated ones count.
    """

    edges: Int[Tensor, "m 2"]
    weights: Float[Tensor, " m"]
    points: int


def check_graph(name: str, graph: Graph) -> None:
    """Raise unless ``graph`` is a :class:`Graph` of sound edges.

    Raises
    ------
    TypeError, ValueError
        It is no such graph; the message names the first edge that is not sound.
    """
    edges, weights, points = graph
    check_dtype(f"{name}.edges", edges, torch.int64)
    check_floating(f"{name}.weights", weights)
    check_count(f"{name}.points", points, least=2, below=2**31)
    if edges.ndim != 2 or edges.shape[1] != 2 or weights.shape != edges.shape[:1]:
        shapes = f"{tuple(edges.shape)} and {tuple(weights.shape)}"
        raise ValueError(f"{name}: wanted edges (m, 2) and weights (m,), got {shapes}")
    check_finite(f"{name}.weights", weights)
    if (weights < 0).any():
        raise ValueError(f"{name}.weights: wanted no negative edge weight, got {weights.min().item()}")
    first, second = edges.unbind(1)
    wrong = (first < 0) | (first >= second) | (second >= points)
    if wrong.any():
        at = int(wrong.nonzero()[0])
        raise ValueError(f"{name}.edges: wanted ends 0 <= i < j < {points}, got {edges[at].tolist()} at {at}")
    places = first * points + second
    if not (places[1:] > places[:-1]).all() and len(torch.unique(places)) < len(edges):
        raise ValueError(f"{name}.edges: wanted each pair at most once, got some twice")


def neighbour_graph(x: Float[Tensor, "n d"], k: int, progress: bool = False) -> Graph:
    """The graph of :func:`knn` without a matrix of all distances, for clouds of many points.

    Neighbours are found by scikit-learn, exactly, in float64; lengths are those of :func:`pairwise_distances`, to the last
    bit. The gradient goes to the ends of each edge.

    Parameters
    ----------
    x
        One cloud of n >= 2 points in R^d, finite, float32 or float64.
    k
        Number of neighbours, 1 <= k < n. Points tied with the k-th nearest count as near.
    progress
        Show how many points have their neighbours, and the time left.

    Returns
    -------
    Graph
        Edges in order of their ends, on the device of ``x``.

    Raises
    ------
    TypeError, ValueError
        ``x`` is not such a cloud, or k is out of range.

    Notes
    -----
    Takes O(n k) memory, where no more than a few points are tied; the search takes O(n log n) time in few dimensions and
    O(n^2) in many. Points are looked up some thousands at a time, between which it can be interrupted.
    """
    check_single_cloud("x", x)
    check_count("k", k, below=len(x))
    check_option("progress", progress, (True, False))
    edges = torch.from_numpy(_neighbours(_one(x), int(k), progress))
    weights = _Lengths.apply(x, edges)
    check_finite("x: distances", weights)
    return Graph(edges.to(x.device), weights, len(x))


def _neighbours(points: np.ndarray, k: int, progress: bool) -> np.ndarray:
    """Pairs i < j one of which is among the k nearest of the other, ``(m, 2)``, in order."""
    from sklearn.neighbors import NearestNeighbors  # here, so that this package imports without them
    from tqdm.auto import tqdm

    n = len(points)
    exact = points.astype(np.float64)
    search = NearestNeighbors(n_neighbors=min(k + 3, n)).fit(exact)
    pairs = []
    with tqdm(total=n, desc=f"{k} neighbours", unit=" points", disable=not progress) as bar:
        for start in range(0, n, LOOKED_UP):
            found = search.kneighbors(exact[start : start + LOOKED_UP], return_distance=False)
            pairs += _near(points, np.arange(start, start + len(found)), found, k)
            bar.update(len(found))
    both = np.sort(np.concatenate(pairs), axis=1)
    return np.stack(np.divmod(np.unique(both[:, 0] * n + both[:, 1]), n), 1)


def _near(points: np.ndarray, sources: np.ndarray, found: np.ndarray, k: int) -> list[np.ndarray]:
    """Pairs of a source and one of its k nearest points, which are among those found for it, or are tied with the last."""
    from topo_utils.topology import _distances

    n = len(points)
    others = found != sources[:, None]
    lengths = _distances.lengths(points, np.stack([np.repeat(sources, found.shape[1]), found.ravel()], 1))
    lengths = lengths.reshape(found.shape)
    radii = np.sort(np.where(others, lengths, np.inf), axis=1)[:, k - 1]
    near = others & (lengths <= radii[:, None])
    pairs = [np.stack([np.repeat(sources, near.sum(1)), found[near]], 1)]
    for at in np.flatnonzero((near | ~others).all(1)) if found.shape[1] < n else ():  # there may be more that are tied
        row = np.stack([np.full(n, sources[at]), np.arange(n)], 1)
        pairs.append(row[(_distances.lengths(points, row) <= radii[at]) & (row[:, 1] != sources[at])])
    return pairs


class _Lengths(torch.autograd.Function):
    """Lengths ``(m,)`` of edges ``(m, 2)`` between the points of a cloud ``(n, d)``."""

    @staticmethod
    def forward(ctx, x: Tensor, edges: Tensor) -> Tensor:
        from topo_utils.topology import _distances

        lengths = torch.from_numpy(_distances.lengths(_one(x), edges.numpy()))
        ctx.save_for_backward(x, lengths, edges)
        return lengths.to(x.device)

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient: Tensor) -> tuple:
        from topo_utils.topology import _distances

        x, lengths, edges = ctx.saved_tensors
        pulls = _distances.pull_ends(gradient.cpu().numpy(), _one(x), edges.numpy(), lengths.numpy())
        return torch.from_numpy(pulls).to(x.device), None


def _one(x: Tensor) -> np.ndarray:
    """A single cloud on the host."""
    return x.detach().contiguous().cpu().numpy()
