"""An order of a graph's nodes that its form decides, and which graphs are the same."""

from __future__ import annotations

import networkx as nx
import numpy as np


def canonical_order(adjacency: np.ndarray) -> np.ndarray:
    """An order of the nodes that depends on the graph and, but for ties, not on the order in which its nodes are given.

    Nodes get colours: first their degrees, then refined by the colours of the neighbours until nothing changes
    (Weisfeiler & Leman, 1968). While two nodes still share a colour, one of them gets a new one and the refinement goes on.
    The order is breadth-first from the node of the highest colour; among new neighbours, higher colours come first.

    Which of the nodes that share a colour gets the new one is a tie that the given order breaks. Nearly always a symmetry
    of the graph exchanges them, and the matrix is the same either way; where nodes look the same to the refinement but are
    not, as in some regular graphs, it may differ.

    Parameters
    ----------
    adjacency
        Symmetric matrix of zeros and ones, ``(n, n)``, 1 <= n < 256, zero on the diagonal.

    Returns
    -------
    np.ndarray
        ``order``, ``(n,)``; ``adjacency[np.ix_(order, order)]`` is the matrix in this order.
    """
    ranks = np.argsort(-_discrete(adjacency))
    ranked = adjacency[np.ix_(ranks, ranks)] > 0
    met, order = np.zeros(len(ranks), dtype=bool), []
    while not met.all():  # once a component
        queue = [np.argmin(met)]
        met[queue] = True
        for node in queue:
            found = np.flatnonzero(ranked[node] & ~met)
            met[found] = True
            queue.extend(found)
        order.extend(queue)
    return ranks[order]


def canonical(adjacency: np.ndarray) -> np.ndarray:
    """The matrix in canonical order."""
    order = canonical_order(adjacency)
    return adjacency[np.ix_(order, order)]


def _discrete(adjacency: np.ndarray) -> np.ndarray:
    """Colours of the nodes, all different."""
    colours = _stable(adjacency)
    while colours.max() < len(colours) - 1:
        tied = np.flatnonzero(np.bincount(colours) > 1)[-1]
        one = np.flatnonzero(colours == tied)[0]
        colours[colours > tied] += 1
        colours[one] += 1
        colours = _stable(adjacency, colours)
    return colours


def _stable(adjacency: np.ndarray, colours: np.ndarray | None = None) -> np.ndarray:
    """The stable refinement of the colours 0, 1, ...; its numbers do not depend on the order of the nodes."""
    colours = np.zeros(len(adjacency), dtype=int) if colours is None else colours
    while True:
        views = _views(adjacency, colours)
        numbers = {view: number for number, view in enumerate(sorted(set(views)))}
        finer = np.array([numbers[view] for view in views])
        if finer.max() == colours.max():
            return finer
        colours = finer


def _views(adjacency: np.ndarray, colours: np.ndarray) -> list[bytes]:
    """What each node sees: its colour, then how many of its neighbours have each colour, the highest colour first."""
    counts = adjacency @ (colours[:, None] == np.arange(len(colours))[::-1]).astype(np.float32)
    return [view.tobytes() for view in np.column_stack([colours, counts]).astype(np.uint8)]


class IsomorphismClasses:
    """Numbers graphs so that two get the same number just when they are isomorphic: 0, 1, ... as they first come."""

    def __init__(self):
        self._alike: dict[bytes, list[tuple[int, np.ndarray]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def number(self, adjacency: np.ndarray) -> int:
        """Number of the class of this graph, which is a new class if it is isomorphic to none before."""
        alike = self._alike.setdefault(b"".join(sorted(_views(adjacency, _stable(adjacency)))), [])
        for number, other in alike:
            if np.array_equal(adjacency, other) or nx.is_isomorphic(*map(nx.from_numpy_array, (adjacency, other))):
                return number
        alike.append((self._count, adjacency))
        self._count += 1
        return self._count - 1
