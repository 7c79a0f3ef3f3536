"""Persistence pairs of Vietoris-Rips and other flag filtrations in degrees 0 and 1, with coefficients in Z/2.

Three facts keep the work near the number of edges, where a reduction of the boundary matrix handles all triangles:

* An edge begins a bar only if its lune -- the earlier common neighbours of its ends -- is empty [1]_. Such edges
  are few and are found by comparing rows of the matrix, unsorted. Those that Kruskal's algorithm keeps end the bars
  of degree 0; the others are the candidates, each of which begins a loop.
* An edge ends a loop only if its lune falls apart: two vertices of the lune that are joined by earlier edges span,
  with the edge, tetrahedra through which one of the two triangles implies the other. Bitsets tell in a few words.
* Any other edge is homologous to two sides of a triangle that are both earlier. Followed back to the candidates,
  this gives its annotation [2]_ [3]_, the set of loops that it lies on; only edges next to a lune that falls apart
  ever need theirs. Two parts of a lune are two ways around, whose annotations add up to a relation, and a new
  relation ends the youngest loop left in it.

References
----------
.. [1] G. T. Toussaint, "The relative neighbourhood graph of a finite planar set", Pattern Recognition 12, 1980.
.. [2] V. de Silva, D. Morozov, M. Vejdemo-Johansson, "Dualities in persistent (co)homology", Inverse Problems 27,
   2011.
.. [3] J.-D. Boissonnat, T. K. Dey, C. Maria, "The compressed annotation matrix", ESA 2013.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numba.cpython.unsafe.numbers import leading_zeros, trailing_zeros

from topo_utils.topology._compiled import compiled
from topo_utils.topology._graph import cycles, root

_ONE = np.uint64(1)
_ABSENT = {4: np.int32(0x7F800000), 8: np.int64(0x7FF0000000000000)}  # infinity; bits are ordered as weights are
LARGEST = 1 << 16  # number of vertices: an edge is held as i << 16 | j
_SPARSE = 32  # where at most one entry in so many is an edge, lists of neighbours are faster than rows of the matrix
_DIGIT = 11  # bits a pass of the radix sort: its counters stay in the fastest cache


def pair(weights: np.ndarray, max_dimension: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    """Critical edges of the bars of flag filtrations, in degrees 0 and 1 over Z/2.

    Edges are ordered by weight, equal ones by flat index. Bars of length zero are left out.

    Parameters
    ----------
    weights : (batch, n, n) array of float32 or float64
        Symmetric and non-negative with a zero diagonal; ``inf`` marks an absent edge. ``n`` is at most 65536.
    max_dimension : {0, 1}
        The highest degree.

    Returns
    -------
    list of (edges, counts)
        A pair for each degree: ``edges`` of shape (batch, longest, 2) holds the flat indices ``i * n + j``, ``i < j``,
        of the edges of birth and death; -1 stands for a birth with a vertex, for a death that never comes and for
        padding. ``counts`` of shape (batch,) holds the number of bars. Those of degree 0 come in order of death,
        those of degree 1 in order of birth.

    Notes
    -----
    A cloud takes O(n^2) vectorised steps to find the lune-free edges, a sort of the m edges up to about the last
    death, and O(n / 64) word operations for nearly each of these. Clouds run in parallel.
    """
    absent = _ABSENT[weights.itemsize]
    order = np.ascontiguousarray(weights).view(absent.dtype)
    if order.min(initial=0) < 0:
        order = np.abs(weights, order="C").view(absent.dtype)  # a negative zero would come before the others
    alone = len(order) < 2 or (len(order) == 2 and order.shape[1] <= 200)  # to wake a thread costs as much as a small cloud
    workers = 1 if alone else _processors()
    if workers == 1:
        return list(_pair_clouds(order, absent, max_dimension > 0)[: max_dimension + 1])
    chunks = np.array_split(order, min(workers, len(order)))
    parts = _executor(os.getpid()).map(lambda chunk: _pair_clouds(chunk, absent, max_dimension > 0), chunks)
    return [_joined(degree) for degree in zip(*parts, strict=True)][: max_dimension + 1]


def order_of(places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Indices that put edges in the order of their weights, equal ones in that of their places, ``(m,)`` each."""
    by_place = np.arange(len(places)) if (places[1:] > places[:-1]).all() else np.argsort(places)
    bits = (weights[by_place] + 0).view(_ABSENT[weights.itemsize].dtype)  # a negative zero becomes a positive one
    return _sorted(bits, by_place, bits.max(initial=0))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _executor(process: int) -> ThreadPoolExecutor:
    """Threads of this process: those of the parent do not survive a fork."""
    return ThreadPoolExecutor(_processors(), thread_name_prefix=f"flag-{process}")


def _joined(parts: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Bars and numbers of bars of several ranges of clouds as those of one."""
    longest = max(edges.shape[1] for edges, _ in parts)
    edges = [np.pad(edges, ((0, 0), (0, longest - edges.shape[1]), (0, 0)), constant_values=-1) for edges, _ in parts]
    return np.concatenate(edges), np.concatenate([counts for _, counts in parts])


@compiled
def _pair_clouds(orders, absent, loops_too):
    """Bars of degree 0 and 1 of a range of clouds, given the bits of their weights, in the form that `pair` returns."""
    clouds, n, _ = orders.shape
    counts = np.zeros((2, clouds), np.int64)
    bars = np.full((clouds * n, 2), -1)
    loop_bars = np.empty((n, 2), np.int64)
    total = loop_total = 0
    for cloud in range(clouds):
        order = orders[cloud]
        present = _entries(order, absent)
        if _SPARSE * (present - n) < n * n:
            forest, candidates, deaths = _pair_sparse(order, absent, (present - n) // 2, loops_too)
        else:
            radius = _enclosing_radius(order, absent)
            forest, candidates = _spanning_forest(order, _lune_free_edges(order, radius, absent))
            deaths = forest[:0]
            if loops_too and len(candidates) > 0:
                deaths = _deaths(order, candidates, forest[0], radius)
        row = total
        for edge in forest:
            i, j = _ends(edge)
            if order[i, j] > 0:
                bars[row, 1] = i * n + j
                row += 1
        row += n - len(forest)
        counts[0, cloud] = row - total
        total = row
        if loop_total + len(deaths) > len(loop_bars):
            loop_bars = _enlarged(loop_bars, loop_total + len(deaths))
        row = loop_total
        for loop in range(len(deaths)):
            i, j = _ends(candidates[loop])
            a, b = _ends(deaths[loop])
            if deaths[loop] < 0 or order[i, j] < order[a, b]:
                loop_bars[row, 0] = i * n + j
                loop_bars[row, 1] = -1 if deaths[loop] < 0 else a * n + b
                row += 1
        counts[1, cloud] = row - loop_total
        loop_total = row
    return (_padded(bars, counts[0]), counts[0]), (_padded(loop_bars, counts[1]), counts[1])


@compiled
def _entries(order, absent):
    """Number of finite entries, those of the diagonal among them."""
    present = 0
    for i in range(len(order)):
        for j in range(len(order)):
            present += order[i, j] < absent
    return present


@compiled
def _pair_sparse(order, absent, count, loops_too):
    """Edges of the forest, those that begin loops and those that end them, as lists of neighbours give them."""
    low, high = order.dtype.type(-1), order.dtype.type(absent - 1)
    edges = _edges_between(order, low, high, count)
    first, second = np.empty(len(edges), np.int32), np.empty(len(edges), np.int32)
    for edge in range(len(edges)):
        first[edge], second[edge] = _ends(edges[edge])
    forest, births, deaths = cycles(len(order), first, second, loops_too)
    ends = np.full(len(deaths), -1)
    for loop in range(len(deaths)):
        if deaths[loop] >= 0:
            ends[loop] = edges[deaths[loop]]
    return edges[forest], edges[births], ends


@compiled
def _padded(bars, counts):
    """Bars of all clouds, one after the other, as one row a cloud."""
    edges = np.full((len(counts), counts.max() if len(counts) > 0 else 0, 2), -1)
    start = 0
    for cloud in range(len(counts)):
        edges[cloud, : counts[cloud]] = bars[start : start + counts[cloud]]
        start += counts[cloud]
    return edges


@compiled
def _ends(edge):
    return edge >> 16, edge & 0xFFFF


@compiled
def _enlarged(table, rows):
    """The table with room for at least so many rows, twice as many as before."""
    larger = np.empty((max(rows, 2 * len(table)), table.shape[1]), table.dtype)
    larger[: len(table)] = table
    return larger


@compiled
def _enclosing_radius(order, absent):
    """Least weight within which one vertex sees all others, or the greatest finite one: there every loop is dead."""
    radius = order.dtype.type(absent - 1)
    for i in range(len(order)):
        farthest = order[i, 0]
        for j in range(len(order)):
            farthest = max(farthest, order[i, j])
        radius = min(radius, farthest)
    return radius


@compiled
def _lune_free_edges(order, radius, absent):
    """Edges no longer than the radius whose ends have no earlier common neighbour, in order of flat index.

    A few near neighbours of either end lie in nearly every lune there is; what they leave open is tested in full.
    """
    n = len(order)
    still_open = np.empty((n, n), np.bool_)
    near = np.zeros(n + 4, np.int64)
    for i in range(n):
        reach = _fourth_nearest(order, i, absent)
        count = 0
        for k in range(n):
            near[count] = k
            count += order[i, k] <= reach
        _mark_open(still_open, order, i, near[0], near[1], near[2], near[3])
    edges = np.empty(n * (n - 1) // 2, np.int64)
    count = 0
    for i in range(n):
        for j in range(i + 1, n):
            if still_open[i, j] and still_open[j, i] and order[i, j] <= radius and _lune_is_empty(order, i, j):
                edges[count] = i << 16 | j
                count += 1
    return edges[:count]


@compiled
def _fourth_nearest(order, i, absent):
    reach = order[i, i]
    for _ in range(4):
        following = absent
        for k in range(len(order)):
            following = min(following, order[i, k] if order[i, k] > reach else absent)
        reach = following
    return reach


@compiled
def _mark_open(still_open, order, i, a, b, c, d):
    """Mark the edges at i whose lune holds none of a, b, c, d."""
    to_a, to_b, to_c, to_d = order[i, a], order[i, b], order[i, c], order[i, d]
    for j in range(len(order)):
        nearest = min(
            min(max(to_a, order[a, j]), max(to_b, order[b, j])), min(max(to_c, order[c, j]), max(to_d, order[d, j]))
        )
        still_open[i, j] = nearest >= order[i, j]


@compiled
def _lune_is_empty(order, i, j):
    weight = order[i, j]
    inside = 0
    for k in range(len(order)):
        inside += max(order[i, k], order[j, k]) <= weight
    return inside == 2 or not _holds_earlier_neighbour(order, i, j)  # the two are i and j


@compiled
def _holds_earlier_neighbour(order, i, j):
    """Whether some k is joined to i and j by earlier edges, where equal weights are ordered by flat index."""
    weight = order[i, j]
    for k in range(len(order)):
        if (order[i, k] < weight or (order[i, k] == weight and k < j)) and (
            order[j, k] < weight or (order[j, k] == weight and k < i)
        ):
            return True
    return False


@compiled
def _spanning_forest(order, edges):
    """Edges of the minimum spanning forest and the other edges, each in order, by Kruskal's algorithm."""
    values = np.empty(len(edges), order.dtype)
    longest = order.dtype.type(0)
    for t in range(len(edges)):
        i, j = _ends(edges[t])
        values[t] = order[i, j]
        longest = max(longest, values[t])
    parents = np.arange(len(order))
    forest, others = np.empty_like(edges), np.empty_like(edges)
    trees = 0
    for t, edge in enumerate(_sorted(values, edges, longest)):
        i, j = _ends(edge)
        i, j = root(parents, i), root(parents, j)
        if i != j:
            parents[i] = j
            forest[trees] = edge
            trees += 1
        else:
            others[t - trees] = edge
    return forest[:trees], others[: len(edges) - trees]


@compiled
def _sorted(values, edges, largest):
    """Edges in stable order of their values in 0 .. largest, by a radix sort, which overwrites both arrays."""
    bits = 1
    while largest >> bits:
        bits += 1
    passes = -(-bits // _DIGIT)
    digit = -(-bits // passes)
    mask = (1 << digit) - 1
    next_values, next_edges = np.empty_like(values), np.empty_like(edges)
    for shift in range(0, passes * digit, digit):
        places = np.zeros(mask + 2, np.uint32)
        for value in values:
            places[((value >> shift) & mask) + 1] += 1
        for d in range(mask):
            places[d + 1] += places[d]
        for t in range(len(values)):
            d = (values[t] >> shift) & mask
            place = places[d]
            places[d] = place + 1
            next_values[place], next_edges[place] = values[t], edges[t]
        values, next_values = next_values, values
        edges, next_edges = next_edges, edges
    return edges


@compiled
def _edges_between(order, low, high, most):
    """Edges longer than low and no longer than high, of which there are so many at most, in order."""
    n = len(order)
    values = np.empty(most + 1, order.dtype)
    edges = np.empty(len(values), np.int64)
    count = 0
    for i in range(n):
        for j in range(i + 1, n):
            values[count] = order[i, j] - low
            edges[count] = i << 16 | j
            count += (low < order[i, j]) & (order[i, j] <= high)
    return _sorted(values[:count], edges[:count], high - low)


@compiled
def _first_stop(order, last_birth, radius):
    """Weight by which most loops are dead: about half as many edges again as up to the last birth lie below."""
    stop = radius
    while stop > last_birth + 1 and 2 * _sampled_count(order, stop) > 3 * _sampled_count(order, last_birth):
        stop = order.dtype.type(last_birth + (stop - last_birth) // 2)
    return stop


@compiled
def _sampled_count(order, stop):
    count = 0
    for i in range(0, len(order), 8):
        for j in range(len(order)):
            count += order[i, j] <= stop
    return count


@compiled
def _deaths(order, candidates, shortest, radius):
    """Edge that ends the loop of each candidate, -1 for one that never ends.

    An entry of ``witness`` is the row of an edge's annotation, or ``~k`` while that is still to be summed from the two
    sides at the vertex k. Row 0 is zero and serves all edges that lie on no loop.
    """
    n = len(order)
    witness = np.zeros((n, n), np.int32)
    loops = len(candidates)
    annotations = np.zeros((2 * loops + 1, (loops + 63) // 64), np.uint64)
    for loop in range(loops):
        i, j = _ends(candidates[loop])
        annotations[loop + 1, loop >> 6] = _ONE << np.uint64(loop & 63)
        witness[i, j] = witness[j, i] = loop + 1
    rows = loops + 1
    relations = np.empty((loops, annotations.shape[1]), np.uint64)
    relation = np.empty(annotations.shape[1], np.uint64)
    deaths = np.full(loops, -1)
    stack = np.empty(n * n, np.int64)
    neighbours = np.zeros((n, (n + 63) // 64), np.uint64)
    joined, rest, part, frontier = np.empty((4, neighbours.shape[1]), np.uint64)
    born = dead = 0
    i, j = _ends(shortest)
    low = order.dtype.type(order[i, j] - 1)
    i, j = _ends(candidates[-1])
    high = _first_stop(order, order[i, j], radius)
    while low < radius and dead < loops:
        edges = _edges_between(order, low, high, n * (n - 1) // 2)
        position = 0
        while dead < loops:
            position, born, k = _advance(edges, position, born, dead, neighbours, witness, joined, rest, part, frontier)
            if k < 0:
                break
            edge = edges[position - 1]
            i, j = _ends(edge)
            while k >= 0:
                for a, b in ((i, j), (i, k), (j, k)):
                    while witness[a, b] < 0:
                        if rows == len(annotations):
                            annotations = _enlarged(annotations, rows)
                        rows = _annotate(a, b, witness, annotations, rows, stack)
                a, b, c = witness[i, j], witness[i, k], witness[j, k]
                for w in range(len(relation)):
                    relation[w] = annotations[a, w] ^ annotations[b, w] ^ annotations[c, w]
                youngest = _youngest(relation, relations, deaths)
                if youngest >= 0:
                    for w in range(len(relation)):
                        relations[youngest, w] = relation[w]
                    deaths[youngest] = edge
                    dead += 1
                k = _detached(joined, rest, part, frontier, neighbours)
        low, high = high, radius
    return deaths


@compiled
def _advance(edges, position, born, dead, neighbours, witness, joined, rest, part, frontier):
    """Insert edges up to the first whose lune falls apart while a loop is alive.

    Returns the number of edges inserted, the number of loops born and a vertex of the second part of the lune, -1 if
    no lune falls apart; ``joined`` and ``rest`` are left for the search for a third.
    """
    words = neighbours.shape[1]
    for t in range(position, len(edges)):
        i, j = _ends(edges[t])
        some = np.uint64(0)
        for w in range(words):
            joined[w] = neighbours[i, w] & neighbours[j, w]
            some |= joined[w]
        neighbours[i, j >> 6] |= _ONE << np.uint64(j & 63)
        neighbours[j, i >> 6] |= _ONE << np.uint64(i & 63)
        if some == 0:
            born += witness[i, j] != 0
        elif born > dead:
            k = _first(joined)
            witness[i, j] = witness[j, i] = ~k
            joined[k >> 6] ^= _ONE << np.uint64(k & 63)
            some = np.uint64(0)
            for w in range(words):
                rest[w] = joined[w] & ~neighbours[k, w]
                joined[w] ^= rest[w]
                some |= rest[w]
            if some != 0:
                joined[k >> 6] |= _ONE << np.uint64(k & 63)
                k = _detached(joined, rest, part, frontier, neighbours)
                if k >= 0:
                    return t + 1, born, k
    return len(edges), born, -1


@compiled
def _first(vertices):
    """Least vertex of a bitset, -1 for none."""
    for w in range(len(vertices)):
        if vertices[w] != 0:
            return w * 64 + np.int64(trailing_zeros(vertices[w]))
    return -1


@compiled
def _detached(joined, rest, part, frontier, neighbours):
    """Move parts of a lune from rest to joined up to the first that no edge joins: a vertex of it, -1 for none."""
    while True:
        first = k = _first(rest)
        if first < 0:
            return -1
        for w in range(len(rest)):
            part[w] = frontier[w] = 0
        part[k >> 6] = _ONE << np.uint64(k & 63)
        rest[k >> 6] ^= part[k >> 6]
        contact = np.uint64(0)
        while k >= 0 and contact == 0:
            for w in range(len(rest)):
                contact |= neighbours[k, w] & joined[w]
                reached = neighbours[k, w] & rest[w]
                rest[w] ^= reached
                part[w] |= reached
                frontier[w] |= reached
            k = _first(frontier)
            if k >= 0:
                frontier[k >> 6] ^= _ONE << np.uint64(k & 63)
        for w in range(len(rest)):
            joined[w] |= part[w]
        if contact == 0:
            return first


@compiled
def _annotate(i, j, witness, annotations, rows, stack):
    """Sum the annotation of an edge over the triangles that lead back to the candidates, and note all on the way.

    Returns the number of rows in use; when none is left, what has been summed is kept and the caller tries again.
    """
    stack[0] = i << 16 | j
    depth = 1
    while depth > 0:
        i, j = _ends(stack[depth - 1])
        k = ~np.int64(witness[i, j])
        if k < 0:
            depth -= 1
            continue
        one, other = witness[i, k], witness[j, k]
        if one < 0:
            stack[depth] = i << 16 | k
            depth += 1
        if other < 0:
            stack[depth] = j << 16 | k
            depth += 1
        if one >= 0 and other >= 0:
            row = one if other == 0 else other if one == 0 else 0
            if row == 0 and one != other:
                if rows == len(annotations):
                    break
                for w in range(annotations.shape[1]):
                    annotations[rows, w] = annotations[one, w] ^ annotations[other, w]
                row = rows
                rows += 1
            witness[i, j] = witness[j, i] = row
            depth -= 1
    return rows


@compiled
def _youngest(relation, relations, deaths):
    """Youngest live loop of a relation, -1 for none, after earlier relations have taken its dead loops away."""
    for w in range(len(relation) - 1, -1, -1):
        while relation[w] != 0:
            loop = w * 64 + 63 - np.int64(leading_zeros(relation[w]))
            if deaths[loop] < 0:
                return loop
            for v in range(w + 1):
                relation[v] ^= relations[loop, v]
    return -1
