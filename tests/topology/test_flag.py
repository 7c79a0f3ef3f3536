"""The pairs of ``_flag.pair`` against ripser (float32), gudhi (float64), scipy (degree 0) and the definition itself."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import gudhi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ripser import ripser
from scipy.spatial.distance import cdist

from topo_utils.topology._flag import pair

# --- oracles and helpers ----------------------------------------------------------------------------------------------


def by_ripser(weights):
    """Diagrams by ripser; edges at infinity are kept out by its threshold."""
    finite = weights[np.isfinite(weights)]
    if len(weights) == 1:
        return [np.array([[0.0, np.inf]], weights.dtype), np.empty((0, 2), weights.dtype)]
    diagrams = ripser(weights, distance_matrix=True, maxdim=1, thresh=float(finite.max()))["dgms"]
    return [tidy(diagram.astype(weights.dtype)) for diagram in diagrams]


def by_gudhi(weights):
    """Diagrams by gudhi, which computes in float64."""
    n = len(weights)
    tree = gudhi.SimplexTree()
    for i in range(n):
        tree.insert([i], 0.0)
        for j in range(i):
            if np.isfinite(weights[i, j]):
                tree.insert([i, j], float(weights[i, j]))
    tree.expansion(2)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    return [tidy(tree.persistence_intervals_in_dimension(d).reshape(-1, 2).astype(weights.dtype)) for d in (0, 1)]


def tidy(diagram):
    """Bars of positive length in lexicographic order."""
    diagram = diagram[diagram[:, 0] < diagram[:, 1]]
    return diagram[np.lexsort(diagram.T)] + 0.0


def diagrams(weights, dimension=1):
    """Diagrams of one cloud by `pair`, after a check of the form of its answer."""
    answer, critical = [], []
    n = len(weights)
    for d, (edges, counts) in enumerate(pair(weights[None], dimension)):
        assert edges.dtype == counts.dtype == np.int64
        assert edges.shape == (1, counts[0], 2)
        bars = edges[0]
        used = bars[bars >= 0]
        critical.append(bars[:, 1 - d][bars[:, 1 - d] >= 0])  # deaths of degree 0, births of degree 1
        assert (used // n < used % n).all()
        values = np.where(bars < 0, np.inf, weights.ravel()[bars])
        assert np.isfinite(values[bars >= 0]).all()
        if d == 0:
            assert (bars[:, 0] == -1).all()
            values[:, 0] = 0
            assert (values[1:, 1] >= values[:-1, 1]).all(), "in order of death"
        else:
            assert (bars[:, 0] >= 0).all()
            assert (np.diff(values[:, 0]) >= 0).all(), "in order of birth"
        assert (values[:, 0] < values[:, 1]).all()
        answer.append(tidy(values.astype(weights.dtype)))
    # one that ends a loop may end several, one for each further part of its lune
    critical.append(np.unique(bars[:, 1][bars[:, 1] >= 0]) if dimension else [])
    critical = np.concatenate(critical)
    assert len(np.unique(critical)) == len(critical), "an edge joins components, begins one loop or ends loops"
    return answer


def check(weights, oracle=None):
    weights = np.asarray(weights)
    oracle = oracle or (by_ripser if weights.dtype == np.float32 else by_gudhi)
    got, expected = diagrams(weights), oracle(weights)
    for d in (0, 1):
        np.testing.assert_array_equal(got[d], expected[d])
    np.testing.assert_array_equal(diagrams(weights, 0)[0], expected[0])
    return got


def distances(points, dtype=np.float32):
    weights = cdist(points, points).astype(dtype)
    np.fill_diagonal(weights, 0)
    return np.minimum(weights, weights.T)


def symmetric(values, n, dtype=np.float32, absent=0.0, rng=None):
    """Matrix with these values above the diagonal, some of them replaced by inf."""
    upper = np.triu_indices(n, 1)
    values = np.array(values, dtype)
    if absent:
        values[rng.random(len(values)) < absent] = np.inf
    weights = np.zeros((n, n), dtype)
    weights[upper] = values
    return weights + weights.T


def nearest_neighbours(weights, k):
    """The weights of the k-nearest-neighbour graph, inf elsewhere."""
    keep = weights <= np.sort(weights, axis=1)[:, [k]]
    return np.where(keep | keep.T, weights, np.inf).astype(weights.dtype)


def cycles(lengths, dtype=np.float32):
    """A wedge of cycles with these numbers of edges, each of another weight, at one vertex; no other edges."""
    n = 1 + sum(length - 1 for length in lengths)
    weights = np.full((n, n), np.inf, dtype)
    np.fill_diagonal(weights, 0)
    start = 1
    for c, length in enumerate(lengths):
        ring = [0, *range(start, start + length - 1)]
        start += length - 1
        for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
            weights[a, b] = weights[b, a] = 1 + c / 8
    return weights


def bipartite(a, b, rng):
    """Complete bipartite graph with (a - 1) (b - 1) loops alive at once; all other edges come later."""
    n = a + b
    weights = symmetric(2 + rng.random(n * (n - 1) // 2), n)
    weights[:a, a:] = rng.random((a, b)) + 0.5
    weights[a:, :a] = weights[:a, a:].T
    return weights


def figure_eight(n, rng):
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.c_[np.cos(angle) + np.where(rng.random(n) < 0.5, 1, -1), np.sin(angle)] + 0.03 * rng.normal(size=(n, 2))


def torus(n, rng):
    a, b = rng.uniform(0, 2 * np.pi, (2, n))
    return np.c_[(2 + np.cos(a)) * np.cos(b), (2 + np.cos(a)) * np.sin(b), np.sin(a)]


def circle(n, rng, noise=0.1):
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.c_[np.cos(angle), np.sin(angle)] + noise * rng.normal(size=(n, 2))


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 16, 63, 64, 65, 127, 128, 129, 200, 257])
@pytest.mark.parametrize("dimension", [1, 2, 3, 8, 16])
def test_gaussian_clouds(n, dimension):
    rng = np.random.default_rng(n * 100 + dimension)
    check(distances(rng.normal(size=(n, dimension))))


@pytest.mark.parametrize("shape", [circle, figure_eight, torus])
@pytest.mark.parametrize("n", [16, 50, 128, 200])
def test_shapes(shape, n):
    rng = np.random.default_rng(n)
    check(distances(shape(n, rng)))


def test_clusters():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 8))
    for n in (32, 100, 256):
        check(distances(centres[rng.integers(0, 8, n)] + 0.05 * rng.normal(size=(n, 8))))


@pytest.mark.parametrize("n", [512, 1024])
def test_large_clouds(n):
    rng = np.random.default_rng(n)
    check(distances(rng.normal(size=(n, 2))))


@pytest.mark.parametrize("sides", [(2, 2), (3, 3), (7, 8), (12, 12), (4, 4, 4), (2, 2, 2, 2, 2)])
@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "chebyshev", "hamming"])
def test_integer_grids(sides, metric):
    grid = np.stack(np.meshgrid(*map(np.arange, sides)), -1).reshape(-1, len(sides)).astype(float)
    weights = cdist(grid, grid, metric).astype(np.float32)
    check(weights)
    order = np.random.default_rng(0).permutation(len(grid))
    check(weights[np.ix_(order, order)])


def test_duplicate_points():
    rng = np.random.default_rng(3)
    points = circle(30, rng)
    check(distances(np.concatenate([points, points, points[:7]])))


def test_collinear_points():
    rng = np.random.default_rng(4)
    check(distances(np.sort(rng.normal(size=(60, 1)), axis=0)))
    check(distances(np.arange(40.0)[:, None]))


@pytest.mark.parametrize("n", [1, 2, 3, 64, 100])
def test_all_points_equal(n):
    (edges, counts), (loops, loop_counts) = pair(np.zeros((1, n, n), np.float32))
    assert edges.tolist() == [[[-1, -1]]]
    assert counts[0] == 1
    assert loops.shape == (1, 0, 2)
    assert loop_counts[0] == 0


@pytest.mark.parametrize("n", [3, 50])
def test_all_weights_equal(n):
    check(symmetric(np.ones(n * (n - 1) // 2), n))


def test_empty_batch_and_empty_cloud():
    for shape in [(0, 5, 5), (2, 0, 0)]:
        for edges, counts in pair(np.zeros(shape, np.float32)):
            assert edges.shape == (shape[0], 0, 2)
            assert counts.tolist() == [0] * shape[0]


def test_two_points():
    weights = np.array([[0, 2.5], [2.5, 0]], np.float32)
    (edges, counts), (_, loops) = pair(weights[None])
    assert edges.tolist() == [[[-1, 1], [-1, -1]]]
    assert counts.tolist() == [2]
    assert loops.tolist() == [0]
    weights[weights > 0] = np.inf
    (edges, counts), _ = pair(weights[None])
    assert (edges == -1).all()
    assert counts.tolist() == [2]


# --- graphs with absent edges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 4, 8])
@pytest.mark.parametrize("n", [20, 64, 150])
def test_nearest_neighbour_graphs(k, n):
    rng = np.random.default_rng(n + k)
    check(nearest_neighbours(distances(rng.normal(size=(n, 2))), k))


@pytest.mark.parametrize("absent", [0.3, 0.7, 0.95, 1.0])
def test_random_graphs_with_absent_edges(absent):
    rng = np.random.default_rng(int(100 * absent))
    for n in (5, 30, 80):
        weights = symmetric(rng.random(n * (n - 1) // 2), n, absent=absent, rng=rng)
        check(weights)


def test_cycle_that_never_dies():
    (_, _), (edges, counts) = pair(cycles([5])[None])
    assert counts.tolist() == [1]
    assert edges[0, 0, 1] == -1


# --- many live loops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [63, 64, 65, 128, 129, 300])
def test_wedge_of_cycles(number):
    bars = check(cycles([4 + c % 3 for c in range(number)]))[1]
    assert len(bars) == number
    assert np.isinf(bars[:, 1]).all()


@pytest.mark.parametrize(("a", "b"), [(9, 9), (10, 9), (12, 13), (25, 25), (30, 40)])
def test_many_loops_alive_at_once(a, b):
    rng = np.random.default_rng(a * b)
    bars = check(bipartite(a, b, rng))[1]
    alive = max((bars[:, 0] <= t).sum() - (bars[:, 1] <= t).sum() for t in bars[:, 0])
    assert alive == (a - 1) * (b - 1)


@pytest.mark.parametrize("n", [10, 64, 100, 200])
def test_random_weights_without_triangle_inequality(n):
    rng = np.random.default_rng(n)
    check(symmetric(rng.random(n * (n - 1) // 2), n))


@pytest.mark.parametrize("levels", [1, 2, 5, 30])
def test_random_weights_with_ties(levels):
    rng = np.random.default_rng(levels)
    for n in (8, 30, 70):
        check(symmetric(rng.integers(0, levels + 1, n * (n - 1) // 2), n))


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 60, 90])
def test_double_precision(n):
    rng = np.random.default_rng(n)
    check(distances(rng.normal(size=(n, 3)), np.float64))
    # differences far below single precision decide
    check(symmetric(1 + 1e-12 * rng.permutation(n * (n - 1) // 2), n, np.float64))
    check(symmetric(rng.random(n * (n - 1) // 2), n, np.float64, absent=0.6, rng=rng))


def test_double_precision_of_single_weights_gives_the_same_edges():
    rng = np.random.default_rng(8)
    weights = distances(rng.normal(size=(100, 4)))
    for single, double in zip(pair(weights[None]), pair(weights[None].astype(np.float64)), strict=True):
        for a, b in zip(single, double, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_negative_zeros_and_subnormals(dtype):
    rng = np.random.default_rng(9)
    tiny = np.finfo(dtype).smallest_subnormal
    for n in (6, 20, 40):
        values = (rng.integers(0, 40, n * (n - 1) // 2) * tiny).astype(dtype)
        weights = symmetric(values, n, dtype)
        weights[weights == 0] = -0.0
        check(weights, by_gudhi)


def test_huge_weights():
    rng = np.random.default_rng(10)
    largest = np.finfo(np.float32).max
    check(symmetric(largest * rng.random(190), 20, absent=0.3, rng=rng), by_gudhi)
    check(symmetric(np.exp2(rng.uniform(-120, 120, 1225)), 50), by_gudhi)


def test_loops_do_not_depend_on_the_order_of_the_points():
    rng = np.random.default_rng(11)
    weights = distances(rng.normal(size=(128, 5)))
    order = rng.permutation(128)
    for a, b in zip(diagrams(weights), diagrams(weights[np.ix_(order, order)].copy()), strict=True):
        np.testing.assert_array_equal(a, b)


# --- batches and threads ----------------------------------------------------------------------------------------------


def batch_of(count, n, seed):
    rng = np.random.default_rng(seed)
    return np.stack([distances(rng.normal(size=(n, 1 + c % 6))) for c in range(count)])


def assert_same(a, b):
    for (edges, counts), (other_edges, other_counts) in zip(a, b, strict=True):
        np.testing.assert_array_equal(edges, other_edges)
        np.testing.assert_array_equal(counts, other_counts)


@pytest.mark.parametrize("count", [2, 3, 17])
def test_batch_equals_single_clouds(count):
    batch = batch_of(count, 40, count)
    for degree, (edges, counts) in enumerate(pair(batch)):
        assert edges.shape[1] == counts.max()
        for c in range(count):
            single, single_counts = pair(batch[c : c + 1])[degree]
            assert counts[c] == single_counts[0]
            np.testing.assert_array_equal(edges[c, : counts[c]], single[0])
            assert (edges[c, counts[c] :] == -1).all()


def test_input_is_left_alone_and_need_not_be_contiguous():
    batch = batch_of(4, 30, 1)
    batch[0, 1, 2] = batch[0, 2, 1] = -0.0
    kept = batch.copy()
    expected = pair(batch)
    assert batch.tobytes() == kept.tobytes()
    wide = np.zeros((4, 60, 30), np.float32)
    wide[:, ::2] = batch
    assert_same(pair(wide[:, ::2]), expected)


def test_several_threads_at_once():
    batches = [batch_of(9, 32 + 8 * s, s) for s in range(6)]
    expected = [pair(batch) for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            for got, wanted in zip(pool.map(pair, batches), expected, strict=True):
                assert_same(got, wanted)


def test_after_a_fork():
    batch = batch_of(8, 40, 2)
    expected = pair(batch)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for got in pool.map(pair, [batch] * 4):
            assert_same(got, expected)


def test_nothing_is_compiled_at_import():
    code = (
        "from topo_utils.topology import _flag; from numba.core.dispatcher import Dispatcher as D;"
        "assert not any(f.signatures for f in vars(_flag).values() if isinstance(f, D))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- properties -------------------------------------------------------------------------------------------------------


@settings(max_examples=3000, deadline=None)
@given(st.integers(2, 14), st.integers(1, 12), st.sampled_from([0.0, 0.2, 0.6]), st.integers(0, 2**32 - 1))
def test_random_graphs_with_ties(n, levels, absent, seed):
    rng = np.random.default_rng(seed)
    check(symmetric(rng.integers(0, levels + 1, n * (n - 1) // 2), n, absent=absent, rng=rng))


@settings(max_examples=2000, deadline=None)
@given(st.integers(2, 40), st.integers(1, 6), st.sampled_from([0.0, 0.25, 1.0]), st.integers(0, 2**32 - 1))
def test_random_points(n, dimension, step, seed):
    points = np.random.default_rng(seed).normal(size=(n, dimension))
    check(distances(np.round(points / step) * step if step else points))


@settings(max_examples=1500, deadline=None)
@given(st.integers(2, 16), st.sampled_from([0.0, 0.5]), st.integers(0, 2**32 - 1))
def test_random_double_weights(n, absent, seed):
    rng = np.random.default_rng(seed)
    check(symmetric(rng.random(n * (n - 1) // 2).round(2), n, np.float64, absent=absent, rng=rng))
