"""Persistence pairs of the flag filtration of a sparse graph in degrees 0 and 1, with coefficients in Z/2.

The facts of :mod:`topo_utils.topology._flag`, on lists of neighbours in place of rows of a matrix: an edge begins a bar
only if its ends have no earlier common neighbour, it ends a loop only if these fall apart, and any other edge is homologous
to two sides of an earlier triangle. An annotation is the list of the living loops that an edge lies on: when a loop has
died, the older ones that it is homologous to are put in its place, as late as a list is read. So work and memory go with
the edges, their triangles and the loops that they lie on, not with the square of the points.
"""

from __future__ import annotations

import numpy as np

from topo_utils.topology._compiled import compiled

_ROWS, _USED, _DEAD = range(3)  # numbers of rows, of entries of the pool, of dead loops


@compiled
def cycles(n, first, second, loops_too):
    """Edges that begin and end bars, by their positions.

    Parameters
    ----------
    n : int
        Number of vertices.
    first, second : (m,) arrays of int32
        Ends of the edges, in the order of the filtration; no edge is there twice.
    loops_too : bool
        Whether degree 1 is wanted.

    Returns
    -------
    forest : array of int32
        Edges of the minimum spanning forest, in order: the deaths of degree 0.
    births, deaths : arrays of int32
        The edge that begins each loop, in order, and the one that ends it; -1 for one that never ends.
    """
    m = len(first)
    if not loops_too:
        return _forest(n, first, second), np.empty(0, np.int32), np.empty(0, np.int32)
    starts, largest = _places(n, first, second)
    ends, neighbours, edges = starts.copy(), np.empty(2 * m, np.int32), np.empty(2 * m, np.int32)
    mark = np.zeros(n, np.int32)
    parents = np.arange(n)
    forest, births, trees, loops = np.empty(min(m, n), np.int32), np.empty(m, np.int32), 0, 0
    deaths = np.full(m, -1, np.int32)
    one, other = np.empty(m, np.int32), np.empty(m, np.int32)  # two sides that an edge is homologous to
    row = np.full(m, -1, np.int32)  # of its annotation; row 0 is empty and serves all edges that lie on no loop
    value = np.full(m + 1, -1, np.int32)  # of a dead loop: the row of the older ones that it is homologous to
    pool, spans = np.empty(1024, np.int32), np.zeros((512, 3), np.int64)
    counters = np.zeros(3, np.int64)
    counters[_ROWS] = 1
    parity, sum_of = np.zeros(m + 1, np.int8), np.empty(m + 1, np.int32)
    stack = np.empty(3 * m + 4, np.int32)
    place = np.zeros(n, np.bool_)  # whether a vertex is in the lune and not yet reached
    lune, at_first, at_second, queue = np.empty((4, largest + 1), np.int32)
    for edge in range(m):
        i, j = first[edge], second[edge]
        size = _lune(i, j, starts, ends, neighbours, edges, mark, lune, at_first, at_second)
        for v, u in ((i, j), (j, i)):
            neighbours[ends[v]], edges[ends[v]] = u, edge
            ends[v] += 1
        if size == 0:
            i, j = root(parents, i), root(parents, j)
            row[edge] = 0
            if i != j:
                parents[i] = j
                forest[trees] = edge
                trees += 1
            else:
                births[loops] = edge
                sum_of[0] = loops
                pool, spans, row[edge] = _new_row(sum_of, 1, pool, spans, counters)
                loops += 1
            continue
        one[edge], other[edge] = at_first[0], at_second[0]
        if size == 1 or loops == counters[_DEAD]:
            continue
        for k in range(size):
            place[lune[k]] = True
        rest = _reach(lune[0], size, starts, ends, neighbours, place, queue)
        for k in range(1, size):
            if rest == 0:
                break
            if not place[lune[k]]:
                continue
            rest = _reach(lune[k], rest, starts, ends, neighbours, place, queue)
            count = 0
            for side in (np.int32(edge), at_first[k], at_second[k]):
                if row[side] >= 0 and not _is_stale(row[side], value, pool, spans, counters):
                    continue
                pool, spans = _annotate(side, row, one, other, value, pool, spans, counters, parity, sum_of, stack)
            for side in (np.int32(edge), at_first[k], at_second[k]):
                count = _add(row[side], pool, spans, parity, sum_of, count)
            count = _settled(sum_of, count, parity)
            if count > 0:
                loop = _youngest_last(sum_of, count)
                deaths[loop] = edge
                counters[_DEAD] += 1
                pool, spans, value[loop] = _new_row(sum_of, count - 1, pool, spans, counters)
        for k in range(size):
            place[lune[k]] = False
    return forest[:trees], births[:loops], deaths[:loops]


@compiled
def _forest(n, first, second):
    """Edges of the minimum spanning forest, in order, by Kruskal's algorithm."""
    parents = np.arange(n)
    forest, trees = np.empty(min(len(first), n), np.int32), 0
    for edge in range(len(first)):
        i, j = root(parents, first[edge]), root(parents, second[edge])
        if i != j:
            parents[i] = j
            forest[trees] = edge
            trees += 1
    return forest[:trees]


@compiled
def _places(n, first, second):
    """Where the neighbours of each vertex begin in one list of all, and the largest number of them."""
    starts = np.zeros(n + 1, np.int64)
    for edge in range(len(first)):
        starts[first[edge] + 1] += 1
        starts[second[edge] + 1] += 1
    largest = starts.max()
    for v in range(n):
        starts[v + 1] += starts[v]
    return starts[:n], largest


@compiled
def root(parents, i):
    """Name of the component of i in a union-find forest, whose paths are halved on the way."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@compiled
def _lune(i, j, starts, ends, neighbours, edges, mark, lune, at_first, at_second):
    """Write the common neighbours of i and j, and the edges to them; returns how many there are."""
    swapped = ends[i] - starts[i] > ends[j] - starts[j]
    if swapped:
        i, j = j, i
    if ends[i] == starts[i]:
        return 0
    for at in range(starts[i], ends[i]):
        mark[neighbours[at]] = edges[at] + 1
    size = 0
    for at in range(starts[j], ends[j]):
        k = neighbours[at]
        lune[size], at_first[size], at_second[size] = k, mark[k] - 1, edges[at]
        size += mark[k] > 0  # no branch, which could not be foreseen
    for at in range(starts[i], ends[i]):
        mark[neighbours[at]] = 0
    if swapped:
        for k in range(size):
            at_first[k], at_second[k] = at_second[k], at_first[k]
    return size


@compiled
def _reach(start, rest, starts, ends, neighbours, place, queue):
    """Take out of the lune, of which so many are left, all that edges within it join to a vertex; returns the rest."""
    queue[0] = start
    place[start] = False
    head, tail = 0, 1
    while head < tail < rest:
        v = queue[head]
        head += 1
        for at in range(starts[v], ends[v]):
            u = neighbours[at]
            queue[tail] = u
            tail += place[u]
            place[u] = False
    return rest - tail


@compiled
def _annotate(edge, row, one, other, value, pool, spans, counters, parity, sum_of, stack):
    """Sum the annotation of an edge over the triangles that lead back to the loops' births, and note all on the way.

    The loops in it are alive afterwards.
    """
    stack[0] = edge
    depth = 1
    while depth > 0:
        edge = stack[depth - 1]
        if row[edge] >= 0:
            depth -= 1
            continue
        a, b = row[one[edge]], row[other[edge]]
        if a < 0:
            stack[depth] = one[edge]
            depth += 1
        if b < 0:
            stack[depth] = other[edge]
            depth += 1
        if a >= 0 and b >= 0:
            depth -= 1
            if a == 0 or b == 0:
                row[edge] = a + b
            elif a == b:
                row[edge] = 0
            else:
                if _is_stale(a, value, pool, spans, counters):
                    pool, spans = _refresh(a, value, pool, spans, counters, parity, sum_of, stack[depth:])
                if _is_stale(b, value, pool, spans, counters):
                    pool, spans = _refresh(b, value, pool, spans, counters, parity, sum_of, stack[depth:])
                count = _add(b, pool, spans, parity, sum_of, _add(a, pool, spans, parity, sum_of, 0))
                pool, spans, row[edge] = _new_row(sum_of, _settled(sum_of, count, parity), pool, spans, counters)
    if _is_stale(row[stack[0]], value, pool, spans, counters):
        pool, spans = _refresh(row[stack[0]], value, pool, spans, counters, parity, sum_of, stack)
    return pool, spans


@compiled
def _is_stale(row, value, pool, spans, counters):
    """Whether a row may hold dead loops; most are short, and soon looked through."""
    begin, end = spans[row, 0], spans[row, 1]
    if spans[row, 2] == counters[_DEAD]:
        return False
    if end - begin > 4:
        return True
    dead = 0
    for at in range(begin, end):
        dead += value[pool[at]] >= 0
    return dead > 0


@compiled
def _refresh(wanted, value, pool, spans, counters, parity, sum_of, stack):
    """Put older loops, which are alive, in the place of the dead ones of a row, and of the rows that these stand for."""
    stack[0] = wanted
    depth = 1
    while depth > 0:
        wanted = stack[depth - 1]
        begin, end, seen = spans[wanted]
        depth -= 1
        if seen == counters[_DEAD]:
            continue
        dead = False
        for at in range(begin, end):
            stands_for = value[pool[at]]
            if stands_for >= 0:
                dead = True
                if spans[stands_for, 2] != counters[_DEAD]:
                    stack[depth + 1] = stands_for
                    depth += 2
                    break
        else:
            if dead:
                count = 0
                for at in range(begin, end):
                    if value[pool[at]] < 0:
                        count = _toggle(pool[at], parity, sum_of, count)
                    else:
                        count = _add(value[pool[at]], pool, spans, parity, sum_of, count)
                count = _settled(sum_of, count, parity)
                if count > end - begin:
                    pool, begin = _reserved(pool, count, counters)
                pool[begin : begin + count] = sum_of[:count]
                spans[wanted, 0], spans[wanted, 1] = begin, begin + count
            spans[wanted, 2] = counters[_DEAD]
    return pool, spans


@compiled
def _toggle(loop, parity, sum_of, count):
    """Add a loop to the sum, or take it out again: its parity is 1 or 2."""
    if parity[loop] == 0:
        sum_of[count] = loop
        count += 1
        parity[loop] = 1
    else:
        parity[loop] = 3 - parity[loop]
    return count


@compiled
def _add(row, pool, spans, parity, sum_of, count):
    for at in range(spans[row, 0], spans[row, 1]):
        count = _toggle(pool[at], parity, sum_of, count)
    return count


@compiled
def _settled(sum_of, count, parity):
    """Leave in the sum what is there an odd number of times; returns its size."""
    size = 0
    for at in range(count):
        loop = sum_of[at]
        if parity[loop] == 1:
            sum_of[size] = loop
            size += 1
        parity[loop] = 0
    return size


@compiled
def _youngest_last(sum_of, count):
    """Move the youngest loop of a sum to its end, and return it."""
    youngest = 0
    for at in range(count):
        if sum_of[at] > sum_of[youngest]:
            youngest = at
    loop = sum_of[youngest]
    sum_of[youngest] = sum_of[count - 1]
    return loop


@compiled
def _new_row(sum_of, size, pool, spans, counters):
    """Keep a sum of loops that are alive; returns its row, 0 for none, and the tables, larger where they were full."""
    if size == 0:
        return pool, spans, np.int32(0)
    pool, begin = _reserved(pool, size, counters)
    pool[begin : begin + size] = sum_of[:size]
    row = counters[_ROWS]
    if row == len(spans):
        longer = np.zeros((2 * row, 3), spans.dtype)
        longer[:row] = spans
        spans = longer
    spans[row, 0], spans[row, 1], spans[row, 2] = begin, begin + size, counters[_DEAD]
    counters[_ROWS] += 1
    return pool, spans, np.int32(row)


@compiled
def _reserved(pool, size, counters):
    """Where so many entries of the pool are free, and the pool, larger where it was full."""
    begin = counters[_USED]
    if begin + size > len(pool):
        larger = np.empty(max(2 * len(pool), begin + size), pool.dtype)
        larger[:begin] = pool[:begin]
        pool = larger
    counters[_USED] += size
    return pool, begin
