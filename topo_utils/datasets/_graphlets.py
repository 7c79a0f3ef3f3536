"""Places of the nodes of small graphs: how often each is where in a connected subgraph of two to four nodes."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

# places in connected graphs of at most four nodes, by the degrees of all nodes and of the one: Pržulj, Bioinformatics 23,
# 2007
ORBITS = {
    ((1, 1), 1): 0,
    ((1, 1, 2), 1): 1,
    ((1, 1, 2), 2): 2,
    ((2, 2, 2), 2): 3,
    ((1, 1, 2, 2), 1): 4,
    ((1, 1, 2, 2), 2): 5,
    ((1, 1, 1, 3), 1): 6,
    ((1, 1, 1, 3), 3): 7,
    ((2, 2, 2, 2), 2): 8,
    ((1, 2, 2, 3), 1): 9,
    ((1, 2, 2, 3), 2): 10,
    ((1, 2, 2, 3), 3): 11,
    ((2, 2, 3, 3), 2): 12,
    ((2, 2, 3, 3), 3): 13,
    ((3, 3, 3, 3), 3): 14,
}
COUNT = 15


def orbit_counts(adjacency: Bool[np.ndarray, "n n"]) -> Int[np.ndarray, "n 15"]:
    """How often each node is at each of the 15 places, counted over all induced connected subgraphs. O(n⁴)."""
    nodes = len(adjacency)
    counts = np.zeros((nodes, COUNT + 1), np.int64)  # the last one is for subgraphs that are not connected
    for size in (2, 3, 4):
        subsets = _subsets(nodes, size)
        code = np.zeros(len(subsets), np.int64)
        for bit, (i, j) in enumerate(combinations(range(size), 2)):
            code |= adjacency[subsets[:, i], subsets[:, j]].astype(np.int64) << bit
        for place, orbits in enumerate(_places(size).T):
            flat = np.bincount(subsets[:, place] * (COUNT + 1) + orbits[code], minlength=counts.size)
            counts += flat.reshape(counts.shape)
    return counts[:, :COUNT]


@cache
def _subsets(nodes: int, size: int) -> Int[np.ndarray, "subsets size"]:
    return np.array(list(combinations(range(nodes), size)), np.int64).reshape(-1, size)


@cache
def _places(size: int) -> Int[np.ndarray, "codes size"]:
    """Orbit of each node of each graph of that size, whose edges are the bits of a number."""
    pairs = list(combinations(range(size), 2))
    table = np.full((1 << len(pairs), size), COUNT)
    for code in range(len(table)):
        degrees = [0] * size
        for bit, (i, j) in enumerate(pairs):
            if code >> bit & 1:
                degrees[i] += 1
                degrees[j] += 1
        for place, degree in enumerate(degrees):
            table[code, place] = ORBITS.get((tuple(sorted(degrees)), degree), COUNT)
    return table
