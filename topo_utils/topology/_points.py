"""Births and deaths of point clouds and their mean distances, differentiable in the points.

The gradient goes from births and deaths to the critical edges, and along these to their ends: no matrix of all pairs takes
part in it. Only the mean distance has to pull at all pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from topo_utils.topology._autograd import differentiable_once, on_host
from topo_utils.topology._compiled import compiled
from topo_utils.topology._flag import pair


class Bars(NamedTuple):
    """Bars of point clouds; lists hold an entry a homology dimension.

    Attributes
    ----------
    distances
        ``(clouds, n, n)``.
    edges
        Flat indices of the critical edges of birth and death, ``(clouds, p, 2)``; -1 for none.
    values
        Births and deaths, ``(clouds, p, 2)``; padding is 0.
    """

    distances: np.ndarray
    edges: list[np.ndarray]
    values: list[np.ndarray]


def bars(distances: np.ndarray, weights: np.ndarray, max_dimension: int, ends: np.ndarray) -> Bars:
    """Bars of clouds with these distances and edge weights, ``(clouds, n, n)``.

    Bars that never die end at ``ends``, ``(clouds,)``; where that is not after their birth, they are left out.
    """
    found = [_kept(distances, edges, counts, ends) for edges, counts in pair(weights, max_dimension)]
    return Bars(distances, [edges for edges, _ in found], [values for _, values in found])


class BirthsAndDeaths(torch.autograd.Function):
    """Those of the bars of clouds ``(*batch, n, d)``: ``(*batch, p, 2)``, one tensor a homology dimension."""

    @staticmethod
    def forward(ctx, cloud: Tensor, found: Bars) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cloud)
        ctx.found = found
        return tuple(
            torch.from_numpy(each).to(cloud.device).view(*cloud.shape[:-2], *each.shape[1:]) for each in found.values
        )

    @staticmethod
    @differentiable_once
    def backward(ctx, *gradients: Tensor) -> tuple:
        (cloud,) = ctx.saved_tensors
        points = on_host(cloud)
        pulls = np.zeros_like(points)
        for edges, gradient in zip(ctx.found.edges, gradients, strict=True):
            _pull_ends(pulls, on_host(gradient), points, ctx.found.distances, edges)
        return torch.from_numpy(pulls).to(cloud.device).view(cloud.shape), None


class MeanDistance(torch.autograd.Function):
    """Mean over the pairs of different points of clouds ``(*batch, n, d)``, kept positive: ``(*batch, 1, 1)``."""

    @staticmethod
    def forward(ctx, cloud: Tensor, distances: np.ndarray) -> Tensor:
        ctx.save_for_backward(cloud)
        ctx.distances = distances
        n = distances.shape[-1]
        means = distances.sum((1, 2)) / distances.dtype.type(n * (n - 1))
        means = np.maximum(means, np.finfo(distances.dtype).tiny)  # a collapsed cloud gives zeros and not NaN
        return torch.from_numpy(means).to(cloud.device).view(*cloud.shape[:-2], 1, 1)

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient: Tensor) -> tuple:
        (cloud,) = ctx.saved_tensors
        pulls = _pull_all(on_host(gradient), on_host(cloud), ctx.distances)
        return torch.from_numpy(pulls).to(cloud.device).view(cloud.shape), None


@compiled
def _kept(distances, edges, counts, ends):
    """Critical edges, births and deaths of the bars that have a length, before the padding."""
    clouds, n, _ = distances.shape
    kept = np.full(edges.shape, -1, edges.dtype)
    values = np.zeros(edges.shape, distances.dtype)
    longest = 0
    for cloud in range(clouds):
        place = 0
        for bar in range(counts[cloud]):
            birth, death = edges[cloud, bar]
            born = distances[cloud, birth // n, birth % n] if birth >= 0 else distances.dtype.type(0)
            died = distances[cloud, death // n, death % n] if death >= 0 else ends[cloud]
            if born < died:
                kept[cloud, place] = edges[cloud, bar]
                values[cloud, place, 0] = born
                values[cloud, place, 1] = died
                place += 1
        longest = max(longest, place)
    return kept[:, :longest].copy(), values[:, :longest].copy()


@compiled
def _pull_ends(pulls, gradients, points, distances, edges):
    """Add the gradients of births and deaths to those of the ends of their edges."""
    clouds, n, d = points.shape
    for cloud in range(clouds):
        for bar in range(edges.shape[1]):
            for side in range(2):
                edge, gradient = edges[cloud, bar, side], gradients[cloud, bar, side]
                if edge < 0 or gradient == 0:
                    continue
                i, j = edge // n, edge % n
                length = distances[cloud, i, j]
                if length > 0:
                    for axis in range(d):
                        step = gradient * (points[cloud, i, axis] - points[cloud, j, axis]) / length
                        pulls[cloud, i, axis] += step
                        pulls[cloud, j, axis] -= step


@compiled
def _pull_all(gradients, points, distances):
    """Gradients of the mean distances in all points."""
    clouds, n, d = points.shape
    pulls = np.zeros_like(points)
    for cloud in range(clouds):
        share = 2 * gradients[cloud, 0, 0] / (n * (n - 1))
        if share == 0:
            continue
        for i in range(n):
            for j in range(n):
                if distances[cloud, i, j] > 0:
                    pull = share / distances[cloud, i, j]
                    for axis in range(d):
                        pulls[cloud, i, axis] += pull * (points[cloud, i, axis] - points[cloud, j, axis])
    return pulls
