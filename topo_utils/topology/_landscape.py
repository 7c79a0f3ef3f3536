"""Landscapes of batches of diagrams on a grid, and how far they are from others, in compiled loops.

At each grid point the tents of the bars that are alive are kept in descending order by insertion; nothing of the size of
all tents at all grid points is ever held. O(bars · grid · levels) at worst a cloud. The bars that end last come first,
those that end together as they are given, which is by birth: the bars of H0, born together, and loops that never die,
which end together, are so appended and never moved.
"""

from __future__ import annotations

import numpy as np

from topo_utils.topology._compiled import compiled


def visible(points: np.ndarray, grid: np.ndarray, levels: int | None) -> int:
    """Number of levels that are not zero everywhere, at most as many as are wanted."""
    alive = _most_alive(points, grid)
    return alive if levels is None else min(levels, alive)


@compiled
def _most_alive(points, grid):
    """Largest number of tents that are positive at one grid point, over all clouds ``(clouds, bars, 2)``."""
    most = 0
    for bars in points:
        changes = np.zeros(len(grid) + 1, np.int64)
        for birth, death in bars:
            first, last = np.searchsorted(grid, birth, side="right"), np.searchsorted(grid, death)
            if first < last:
                changes[first] += 1
                changes[last] -= 1
        alive = 0
        for change in changes:
            alive += change
            most = max(most, alive)
    return most


@compiled
def landscapes(points, grid, levels):
    """Values of the highest tents at each grid point, ``(clouds, grid, levels)``, and whose they are, -1 for none."""
    clouds = len(points)
    values = np.zeros((clouds, len(grid), levels), points.dtype)
    owners = np.full((clouds, len(grid), levels), -1, np.int32)
    for cloud in range(clouds):
        _fill(values[cloud], owners[cloud], points[cloud], grid)
    return values, owners


@compiled
def _fill(values, owners, bars, grid):
    levels = values.shape[1]
    alive = np.zeros(len(grid), np.int64)
    for bar in np.argsort(-bars[:, 1], kind="mergesort"):
        birth, death = bars[bar]
        for t in range(np.searchsorted(grid, birth, side="right"), np.searchsorted(grid, death)):
            tent = min(grid[t] - birth, death - grid[t])
            place = alive[t]
            if place == levels:
                if levels == 0 or tent <= values[t, levels - 1]:
                    continue
                place -= 1
            else:
                alive[t] += 1
            while place > 0 and values[t, place - 1] < tent:
                values[t, place] = values[t, place - 1]
                owners[t, place] = owners[t, place - 1]
                place -= 1
            values[t, place] = tent
            owners[t, place] = bar


@compiled
def spread(gradients, owners, points, grid):
    """Gradients with respect to births and deaths, given those with respect to the values of :func:`landscapes`."""
    by_bar = np.zeros_like(points)
    for cloud in range(len(points)):
        for t in range(len(grid)):
            for level in range(owners.shape[2]):
                bar = owners[cloud, t, level]
                if bar < 0:
                    break
                _pull(by_bar, points, cloud, bar, grid[t], gradients[cloud, t, level])
    return by_bar


@compiled
def _pull(by_bar, points, cloud, bar, t, gradient):
    """A tent falls with its birth while it rises, and rises with its death while it falls."""
    if 2 * t > points[cloud, bar, 0] + points[cloud, bar, 1]:
        by_bar[cloud, bar, 1] += gradient
    else:
        by_bar[cloud, bar, 0] -= gradient


@compiled
def squared_distances(points, grid, levels, reference, by_reference):
    """Σ_k ∫ (λ_k - reference_k)² dt of each cloud by the trapezoid rule, and its gradient in births and deaths.

    The reference is ``(clouds, grid, any number of levels)``; levels that either side lacks are zero. ``by_reference``
    takes the gradient in the reference, where it has its shape, and nothing where it has no clouds.
    """
    clouds, last = len(points), len(grid) - 1
    sums = np.zeros(clouds)
    by_bar = np.zeros_like(points)
    values = np.empty((len(grid), levels), points.dtype)
    owners = np.empty((len(grid), levels), np.int32)
    for cloud in range(clouds):
        values[:] = 0
        owners[:] = -1
        _fill(values, owners, points[cloud], grid)
        for t in range(len(grid)):
            weight = (grid[min(t + 1, last)] - grid[max(t - 1, 0)]) / 2
            total = 0.0
            for level in range(max(levels, reference.shape[2])):
                difference = values[t, level] if level < levels else points.dtype.type(0)
                if level < reference.shape[2]:
                    difference -= reference[cloud, t, level]
                    if len(by_reference):
                        by_reference[cloud, t, level] = -2 * weight * difference
                total += difference * difference
                if level < levels and owners[t, level] >= 0:
                    _pull(by_bar, points, cloud, owners[t, level], grid[t], 2 * weight * difference)
            sums[cloud] += weight * total
    return sums, by_bar
