"""Sparse graphs: bars and critical edges by lists of neighbours, against ripser and the dense kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ripser import ripser
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

from topo_utils.topology import Graph, TopologicalLoss, knn, neighbour_graph, pairwise_distances, persistent_homology
from topo_utils.topology._flag import _ABSENT, _pair_clouds, _pair_sparse


def random_graph(seed: int) -> Graph:
    """Several components, isolated points, hubs and, in two thirds, ties."""
    stream = np.random.default_rng(seed)
    n = int(stream.integers(3, 60))
    chance = np.full((n, n), stream.uniform(0.02, 0.5))
    hubs = stream.integers(0, n, 2)
    chance[hubs] = chance[:, hubs] = stream.uniform(0.3, 1.0)
    parts = stream.integers(0, stream.integers(1, 5), n)
    chance[parts[:, None] != parts] = 0
    edges = np.argwhere(np.triu(stream.random((n, n)) < chance, 1))
    levels = (0, 3, 40)[seed % 3]
    weights = stream.integers(0, levels, len(edges)) if levels else stream.random(len(edges))
    return Graph(torch.from_numpy(edges), torch.from_numpy(weights.astype(np.float32)), n)


def by_ripser(graph: Graph) -> list[list[list[float]]]:
    """Bars with a length, sorted; those that never die end at the largest weight, where they are born before."""
    (i, j), values = graph.edges.numpy().T, graph.weights.numpy()
    matrix = sparse.coo_matrix((np.tile(values, 2), (np.r_[i, j], np.r_[j, i])), shape=(graph.points,) * 2)
    end = float(values.max())
    found = [np.minimum(bars, end) for bars in ripser(matrix, distance_matrix=True, maxdim=1)["dgms"]]
    return [sorted(bar for bar in bars.tolist() if bar[0] < bar[1]) for bars in found]


@pytest.mark.parametrize("block", range(10))
def test_bars_equal_ripsers_to_the_last_bit(block):
    """Five hundred graphs in all: each alone, which is mostly full enough for a matrix, and among isolated points."""
    for seed in range(50 * block, 50 * block + 50):
        graph = random_graph(seed)
        if len(graph.edges):
            wanted = by_ripser(graph)
            for each in (graph, graph._replace(points=graph.points + 400)):
                ours = [sorted(bars.points.tolist()) for bars in persistent_homology(each, essential="cap")]
                isolated = [[0, end]] * (each.points - graph.points) if (end := float(graph.weights.max())) else []
                assert ours == [sorted(wanted[0] + isolated), wanted[1]], f"seed {seed}"


@given(st.integers(0, 10**6))
def test_critical_edges_equal_those_of_the_dense_kernel(seed):
    """The dense kernel, and the lists, on one matrix: the same edges, not only the same values."""
    stream = np.random.default_rng(seed)
    n = int(stream.integers(2, 40))
    weights = np.triu(stream.integers(0, 9, (n, n)).astype(np.float32), 1)
    weights[np.triu(stream.random((n, n)) < stream.uniform(0, 0.7), 1)] = np.inf
    weights += weights.T
    order, absent = weights.view(np.int32), _ABSENT[4]
    (components, counts), (loops, numbers) = _pair_clouds(order[None], absent, True)
    forest, births, deaths = _pair_sparse(order, absent, int(np.isfinite(weights).sum() - n) // 2, True)
    flat = [(each >> 16) * n + (each & 0xFFFF) if each >= 0 else -1 for each in forest]
    lasting = [edge for edge in flat if weights.ravel()[edge] > 0]
    assert components[0, : len(lasting), 1].tolist() == lasting
    assert counts[0] == n - len(flat) + len(lasting)
    pairs = [
        [(a >> 16) * n + (a & 0xFFFF), (b >> 16) * n + (b & 0xFFFF) if b >= 0 else -1]
        for a, b in zip(births, deaths, strict=True)
    ]
    pairs = [[a, b] for a, b in pairs if b < 0 or weights.ravel()[b] > weights.ravel()[a]]
    assert loops[0, : numbers[0]].tolist() == pairs


def test_edges_in_any_order_give_their_own_places():
    """By a matrix and by lists: bars are those of the sorted list, and their gradients go to the edges that they name."""
    graph = random_graph(5)
    for points in (graph.points, 400):
        shuffled = torch.randperm(len(graph.edges), generator=torch.Generator().manual_seed(0))
        weights = graph.weights[shuffled].double() + torch.rand(len(shuffled), dtype=torch.float64)
        weights.requires_grad_()
        edges = graph.edges[shuffled]

        def ends(w, edges=edges, points=points):
            return torch.cat([d.points.flatten() for d in persistent_homology(Graph(edges, w, points))])

        assert len(ends(weights)) > 10
        back = shuffled.argsort()
        assert torch.equal(ends(weights), ends(weights[back], edges[back]))
        assert torch.autograd.gradcheck(ends, weights)


def test_more_than_a_thousand_loops_alive_at_once():
    """A complete bipartite graph of 36 and 40 points has 35 · 39 loops; edges within a side kill them."""
    first, second = np.meshgrid(np.arange(36), np.arange(36, 76), indexing="ij")
    across = np.stack([first.ravel(), second.ravel()], 1)
    within = np.array([(i, i + 1) for i in range(35)])
    stream = np.random.default_rng(0)
    weights = np.r_[stream.random(len(across)), 1 + stream.random(len(within))].astype(np.float32)
    graph = Graph(torch.from_numpy(np.r_[across, within]), torch.from_numpy(weights), 400)
    alone = Graph(graph.edges[: len(across)], graph.weights[: len(across)], 400)
    born = persistent_homology(alone, essential="cap")[1]
    assert len(born.points) == 35 * 39 - 1, "all but the one that is born with the last edge"
    loops = persistent_homology(graph, essential="cap")[1].points
    assert sorted(loops.tolist()) == by_ripser(graph)[1]
    assert len(loops) > 1000


@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans())
def test_the_neighbour_graph_is_that_of_knn_with_its_gradient(seed, k, tied):
    stream = torch.Generator().manual_seed(seed)
    cloud = torch.randint(0, 4, (40, 2), generator=stream).float() if tied else torch.randn(40, 3, generator=stream)
    one, other = cloud.clone().requires_grad_(), cloud.clone().requires_grad_()
    graph = neighbour_graph(one, k)
    weights = knn(pairwise_distances(other), k)
    i, j = graph.edges.unbind(1)
    assert torch.equal(graph.weights, weights[i, j])
    assert len(i) == int((weights.isfinite().sum() - 40) / 2)
    for ours, theirs in zip(
        persistent_homology(graph, essential="cap"), persistent_homology(weights, essential="cap"), strict=True
    ):
        assert torch.equal(ours.points, theirs.points)
        ours.points.square().sum().backward(retain_graph=True)
        theirs.points.square().sum().backward(retain_graph=True)
    torch.testing.assert_close(one.grad, other.grad)


def test_neighbours_of_thousands_of_points_are_scikit_learns(capsys):
    cloud = np.random.default_rng(0).normal(size=(9_000, 2))  # more than are looked up at a time
    graph = neighbour_graph(torch.from_numpy(cloud), 5, progress=True)
    theirs = kneighbors_graph(cloud, 5)
    wanted = sparse.triu(theirs.maximum(theirs.T)).tocoo()
    assert sorted(map(tuple, graph.edges.tolist())) == sorted(zip(*map(np.ndarray.tolist, wanted.coords), strict=True))
    assert "9000/9000" in capsys.readouterr().err


def test_the_loss_of_a_graph_is_that_of_its_matrix():
    """Bars that end: for the others the loss of matrices has an end of its own."""
    clouds = torch.randn(2, 60, 2, generator=torch.Generator().manual_seed(0))
    loss = TopologicalLoss().fit(clouds)
    one, other = (clouds[1].clone().requires_grad_() for _ in range(2))
    wanted = loss.vectors(clouds[0])
    dense = loss(wanted, persistent_homology(knn(pairwise_distances(one), 6)))
    found = loss(wanted, persistent_homology(neighbour_graph(other, 6)))
    dense.backward()
    found.backward()
    assert found == dense > 0
    torch.testing.assert_close(other.grad, one.grad)


def test_many_points_need_no_matrix():
    """With a matrix it would take 3.6 GB."""
    stream = torch.Generator().manual_seed(0)
    angle = 6.2832 * torch.rand(30_000, generator=stream)
    circle = torch.stack([angle.cos(), angle.sin()], 1) + 0.02 * torch.randn(30_000, 2, generator=stream)
    graph = neighbour_graph(circle, 12)
    components = persistent_homology(graph, max_dimension=0)[0]
    forest = sparse.csgraph.minimum_spanning_tree(
        sparse.coo_matrix((graph.weights.double().numpy(), graph.edges.numpy().T), shape=(30_000,) * 2)
    )
    assert components.points[:, 1].tolist() == sorted(forest.data.tolist())
    assert len(persistent_homology(graph)[1].points) > 1000


@pytest.mark.parametrize(
    ("edges", "weights", "points", "message"),
    [
        (
            [[0, 1]],
            [1.0, 2.0],
            3,
            r"weights: wanted edges \(m, 2\) and weights \(m,\), got \(1, 2\) and \(2,\)",
        ),
        ([[1, 0]], [1.0], 3, r"edges: wanted ends 0 <= i < j < 3, got \[1, 0\] at 0"),
        ([[0, 1], [1, 1]], [1.0, 1.0], 3, r"edges: wanted ends .*, got \[1, 1\] at 1"),
        ([[0, 3]], [1.0], 3, r"edges: wanted ends"),
        ([[0, 1], [0, 1]], [1.0, 2.0], 3, "edges: wanted each pair at most once"),
        ([[0, 1]], [-1.0], 3, "weights: wanted no negative edge weight, got -1"),
        ([[0, 1]], [float("inf")], 3, "weights: wanted finite values, got inf"),
        ([[0, 1]], [float("nan")], 3, "weights: wanted finite values, got nan"),
        ([[0, 1]], [1.0], 1, "points: wanted"),
    ],
)
def test_bad_graphs_are_named(edges, weights, points, message):
    graph = Graph(torch.tensor(edges), torch.tensor(weights), points)
    with pytest.raises(ValueError, match=message):
        persistent_homology(graph)


def test_bad_clouds_and_numbers_of_neighbours_are_named():
    with pytest.raises(ValueError, match=r"x: wanted one cloud \(n, d\), got \(2, 5, 3\)"):
        neighbour_graph(torch.randn(2, 5, 3), 2)
    with pytest.raises(ValueError, match="progress: wanted one of True, False, got 'yes'"):
        neighbour_graph(torch.randn(5, 3), 2, progress="yes")
    with pytest.raises(ValueError, match="k: wanted 1 <= k < 5, got 5"):
        neighbour_graph(torch.randn(5, 3), 5)
    with pytest.raises(ValueError, match="backend: wanted one of 'flag', got 'ripser'"):
        persistent_homology(neighbour_graph(torch.randn(5, 3), 2), backend="ripser")
    with pytest.raises(TypeError, match=r"edges: wanted int64, got torch\.int32"):
        persistent_homology(Graph(torch.tensor([[0, 1]], dtype=torch.int32), torch.ones(1), 2))


def test_a_graph_without_edges_has_no_bars():
    graph = Graph(torch.empty(0, 2, dtype=torch.int64), torch.empty(0), 4)
    assert [len(each.points) for each in persistent_homology(graph)] == [0, 0]
