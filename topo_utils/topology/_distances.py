"""Euclidean distances within clouds and their gradient, in compiled loops.

:func:`torch.cdist` wakes all threads for a cloud of a hundred points, which costs more than the distances do.
"""

from __future__ import annotations

import numpy as np

from topo_utils.topology._compiled import compiled


@compiled
def distances(points):
    """Distances ``(clouds, n, n)`` of points ``(clouds, n, d)``; squares are summed in the order of the coordinates."""
    clouds, n, d = points.shape
    lengths = np.zeros((clouds, n, n), points.dtype)
    coordinates = np.empty((d, n), points.dtype)
    for cloud in range(clouds):
        coordinates[:] = points[cloud].T
        for i in range(n):
            row = lengths[cloud, i]
            for axis in range(d):
                for j in range(n):
                    difference = coordinates[axis, j] - coordinates[axis, i]
                    row[j] += difference * difference
            for j in range(n):
                row[j] = np.sqrt(row[j])
    return lengths


@compiled
def pull(by_length, points, lengths):
    """Gradient in the points, given that in their distances; equal points do not pull at each other."""
    clouds, n, d = points.shape
    by_point = np.zeros_like(points)
    for cloud in range(clouds):
        for i in range(n):
            for j in range(n):
                if lengths[cloud, i, j] > 0:
                    strength = (by_length[cloud, i, j] + by_length[cloud, j, i]) / lengths[cloud, i, j]
                    for axis in range(d):
                        by_point[cloud, i, axis] += strength * (points[cloud, i, axis] - points[cloud, j, axis])
    return by_point


@compiled
def lengths(points, edges):
    """Lengths ``(m,)`` of edges ``(m, 2)`` between points ``(n, d)``; squares are summed as in :func:`distances`."""
    found = np.empty(len(edges), points.dtype)
    for edge in range(len(edges)):
        total = points.dtype.type(0)
        for axis in range(points.shape[1]):
            difference = points[edges[edge, 1], axis] - points[edges[edge, 0], axis]
            total += difference * difference
        found[edge] = np.sqrt(total)
    return found


@compiled
def pull_ends(by_length, points, edges, lengths):
    """Gradient in the points, given that in the lengths of edges; equal points do not pull at each other."""
    by_point = np.zeros_like(points)
    for edge in range(len(edges)):
        if lengths[edge] > 0 and by_length[edge] != 0:
            i, j = edges[edge]
            for axis in range(points.shape[1]):
                step = by_length[edge] / lengths[edge] * (points[i, axis] - points[j, axis])
                by_point[i, axis] += step
                by_point[j, axis] -= step
    return by_point
