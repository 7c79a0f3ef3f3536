"""L_topo of point clouds by landscapes, from points to gradient without a graph of tensors in between.

What :class:`TopologicalLoss` does step by step for any filtration is done here for points in a few compiled loops: the
gradient of the landscapes' distance goes to the births and deaths, from there to the critical edges, and along these to
their ends. No matrix of all pairs takes part in it, unless the mean distance does (a scale-free loss).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from topo_utils.topology import _landscape
from topo_utils.topology._autograd import differentiable_once
from topo_utils.topology._flag import pair


class Bars(NamedTuple):
    """Diagrams of point clouds with their critical edges; ``edges`` and ``points`` hold an entry a homology dimension.

    Attributes
    ----------
    distances
        ``(clouds, n, n)``.
    scales
        What lengths are divided by, ``(clouds,)``: the mean distances, or ones.
    scale_free
        Whether they are the mean distances.
    edges
        Flat indices of the critical edges of birth and death, ``(clouds, p, 2)``; -1 for none.
    points
        Births and deaths in units of the scale, ``(clouds, p, 2)``; 0 for padding and for what is left out.
    """

    distances: np.ndarray
    scales: np.ndarray
    scale_free: bool
    edges: list[np.ndarray]
    points: list[np.ndarray]

    def halves(self) -> tuple[Bars, Bars]:
        """The first and the second half of the clouds."""
        half = len(self.scales) // 2
        return tuple(
            Bars(
                self.distances[part],
                self.scales[part],
                self.scale_free,
                [each[part] for each in self.edges],
                [each[part] for each in self.points],
            )
            for part in (slice(half), slice(half, None))
        )


def bars(distances: Tensor, weights: Tensor, max_dimension: int, scales: Tensor | None, cap: bool) -> Bars:
    """Bars of clouds with these distances and edge weights, ``(clouds, n, n)``; endless ones are capped or left out."""
    lengths = distances.cpu().numpy()
    order = lengths if weights is distances else weights.cpu().numpy()
    units = np.ones(len(lengths), lengths.dtype) if scales is None else scales.cpu().numpy().ravel()
    ends = np.where(np.isfinite(order), order, 0).max((1, 2)) if cap else np.zeros(len(order), order.dtype)
    pairs = pair(order, max_dimension)
    points = [_values(lengths, edges, counts, units, ends) for edges, counts in pairs]
    return Bars(lengths, units, scales is not None, [edges for edges, _ in pairs], points)


def landscapes(found: Bars, grid: np.ndarray, levels: int | None) -> list[np.ndarray]:
    """Landscapes ``(clouds, grid, levels)`` of the bars, those levels that are not zero everywhere."""
    return [_landscape.landscapes(points, grid, _landscape.visible(points, grid, levels))[0] for points in found.points]


class LandscapeDistance(torch.autograd.Function):
    """Σ_h w_h Σ_k ∫ (λ_k - reference_k)² dt of point clouds ``(clouds, n, d)``, summed over the clouds."""

    @staticmethod
    def forward(ctx, cloud: Tensor, found: Bars, references: list[np.ndarray], grid, levels, weights) -> Tensor:
        total, gradient = 0.0, np.zeros(cloud.shape, found.distances.dtype)
        points, by_scale = cloud.detach().cpu().numpy(), np.zeros(len(cloud))
        for weight, edges, values, reference in zip(weights, found.edges, found.points, references, strict=False):
            seen = _landscape.visible(values, grid, levels)
            distances, by_bar = _landscape.squared_distances(values, grid, seen, reference)
            total += weight * float(distances.sum())
            _pull_ends(gradient, by_scale, weight * by_bar, points, found.distances, edges, found.scales)
        if found.scale_free:
            _pull_all(gradient, by_scale, points, found.distances)
        if not (math.isfinite(total) and np.isfinite(gradient).all()):
            raise ValueError(
                f"cloud: wanted lengths whose loss fits into {gradient.dtype}, got up to {found.distances.max():g}"
            )
        ctx.save_for_backward(torch.from_numpy(gradient).to(cloud.device))
        return cloud.new_full((), total)

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient: Tensor) -> tuple:
        return gradient * ctx.saved_tensors[0], None, None, None, None, None


@njit(cache=True, nogil=True)
def _values(distances, edges, counts, scales, ends):
    """Births and deaths of bars; those that never die end at ``ends``, and are left out where that is not after birth."""
    clouds, n, _ = distances.shape
    points = np.zeros(edges.shape, distances.dtype)
    for cloud in range(clouds):
        for bar in range(counts[cloud]):
            birth, death = edges[cloud, bar]
            born = distances[cloud, birth // n, birth % n] if birth >= 0 else distances.dtype.type(0)
            died = distances[cloud, death // n, death % n] if death >= 0 else ends[cloud]
            if born < died:
                points[cloud, bar, 0] = born / scales[cloud]
                points[cloud, bar, 1] = died / scales[cloud]
    return points


@njit(cache=True, nogil=True)
def _pull_ends(gradient, by_scale, by_bar, points, distances, edges, scales):
    """Add the gradients of births and deaths to those of the ends of their edges, and to those of the scales."""
    clouds, n, d = points.shape
    for cloud in range(clouds):
        for bar in range(edges.shape[1]):
            for side in range(2):
                edge, pull = edges[cloud, bar, side], by_bar[cloud, bar, side] / scales[cloud]
                if edge < 0 or pull == 0:
                    continue
                i, j = edge // n, edge % n
                length = distances[cloud, i, j]
                by_scale[cloud] -= pull * length / scales[cloud]
                if length > 0:
                    for axis in range(d):
                        step = pull * (points[cloud, i, axis] - points[cloud, j, axis]) / length
                        gradient[cloud, i, axis] += step
                        gradient[cloud, j, axis] -= step


@njit(cache=True, nogil=True)
def _pull_all(gradient, by_scale, points, distances):
    """Add the gradients of the mean distances to those of all points."""
    clouds, n, d = points.shape
    for cloud in range(clouds):
        share = 2 * by_scale[cloud] / (n * (n - 1))
        for i in range(n):
            for j in range(n):
                if distances[cloud, i, j] > 0:
                    pull = share / distances[cloud, i, j]
                    for axis in range(d):
                        gradient[cloud, i, axis] += pull * (points[cloud, i, axis] - points[cloud, j, axis])
