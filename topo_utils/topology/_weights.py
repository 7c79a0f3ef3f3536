"""Edge weights in compiled loops: whether they are sound, which are those of near neighbours, those of critical cells.

A check in torch reads a matrix once for each thing that may be wrong with it, and a small matrix is read faster than a
torch function is called.
"""

from __future__ import annotations

import numpy as np

from topo_utils.topology._compiled import compiled

BLOCK = 16  # rows and columns that are compared with their mirror image at a time


@compiled
def are_sound(weights):
    """Whether matrices ``(clouds, n, n)`` are symmetric, zero on the diagonal, and hold no negative value and no NaN."""
    clouds, n, _ = weights.shape
    unlike = 0
    for cloud in range(clouds):
        each = weights[cloud]
        for top in range(0, n, BLOCK):
            for left in range(0, top + BLOCK, BLOCK):
                for i in range(top, min(top + BLOCK, n)):
                    for j in range(left, min(left + BLOCK, n)):
                        unlike += (each[i, j] != each[j, i]) | (not each[i, j] >= 0)
        for i in range(n):
            unlike += each[i, i] != 0
    return unlike == 0


@compiled
def far(distances, k):
    """Pairs neither of which has the other among its k nearest, ``(clouds, n, n)``; ties with the k-th are near."""
    clouds, n, _ = distances.shape
    radii = np.empty(n, distances.dtype)
    nearest = np.empty(k + 1, distances.dtype)
    pairs = np.empty(distances.shape, np.bool_)
    for cloud in range(clouds):
        for i in range(n):
            nearest[:] = np.inf  # the k nearest so far, and the point itself, the farthest last
            farthest = nearest[k]
            for length in distances[cloud, i]:
                if length < farthest:
                    at = k
                    while at > 0 and nearest[at - 1] > length:
                        nearest[at] = nearest[at - 1]
                        at -= 1
                    nearest[at] = length
                    farthest = nearest[k]
            radii[i] = farthest
        for i in range(n):
            for j in range(n):
                pairs[cloud, i, j] = distances[cloud, i, j] > max(radii[i], radii[j])
    return pairs


@compiled
def bars(values, cells, counts, cap, ends):
    """The bars that stay, without gaps, and their births and deaths.

    Parameters
    ----------
    values : (clouds, m) array
        Filtration values of the cells.
    cells : (clouds, p, 2) array of int64
        Critical cells of birth and death; -1 for a birth at 0, for a death that never comes, and for padding.
    counts : (clouds,) array of int64
        Numbers of bars.
    cap : bool
        Whether bars that never die end at ``ends``, where that is after their birth; else they are left out.
    ends : (clouds,) array

    Returns
    -------
    cells, points, mask : arrays ``(clouds, longest, 2)``, ``(clouds, longest, 2)`` and ``(clouds, longest)``
        Padding is -1, 0 and false.
    """
    clouds = len(values)
    kept = np.full(cells.shape, -1, np.int64)
    points = np.zeros(cells.shape, values.dtype)
    mask = np.zeros(cells.shape[:2], np.bool_)
    longest = 0
    for cloud in range(clouds):
        place = 0
        for bar in range(counts[cloud]):
            birth, death = cells[cloud, bar, 0], cells[cloud, bar, 1]
            born = values[cloud, birth] if birth >= 0 else values.dtype.type(0)
            if death < 0 and not (cap and born < ends[cloud]):
                continue
            kept[cloud, place, 0], kept[cloud, place, 1] = birth, death
            points[cloud, place, 0] = born
            points[cloud, place, 1] = values[cloud, death] if death >= 0 else ends[cloud]
            mask[cloud, place] = True
            place += 1
        longest = max(longest, place)
    return kept[:, :longest].copy(), points[:, :longest].copy(), mask[:, :longest].copy()


@compiled
def largest_finite(values):
    """Of each cloud ``(clouds, m)``, 0 where there is none above."""
    ends = np.zeros(len(values), values.dtype)
    for cloud in range(len(values)):
        for value in values[cloud]:
            if ends[cloud] < value < np.inf:
                ends[cloud] = value
    return ends
