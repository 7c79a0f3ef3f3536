from __future__ import annotations

import gudhi
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ripser import ripser
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.transform import Rotation

from topo_utils.topology import Graph, knn, pairwise_distances, persistent_homology


def bars(diagram):
    """Sorted bars of a single diagram."""
    dgm = diagram.points[diagram.mask].detach().numpy()
    assert (np.diff(dgm[:, 0]) >= 0).all(), "bars come in the order of birth"
    return dgm[np.lexsort((dgm[:, 1], dgm[:, 0]))]


def ripsers(weights, dimension):
    """Sorted finite bars of ripser, float32."""
    finite = weights[np.isfinite(weights)]
    threshold = np.inf if np.isfinite(weights).all() else finite.max()
    dgm = ripser(weights.astype(np.float32), maxdim=1, thresh=threshold, distance_matrix=True)["dgms"][dimension]
    dgm = dgm[np.isfinite(dgm[:, 1]) & (dgm[:, 1] > dgm[:, 0])].astype(np.float32)
    return dgm[np.lexsort((dgm[:, 1], dgm[:, 0]))]


def gudhis(weights, dimension):
    """Sorted finite bars of gudhi's simplex tree, float64."""
    tree = gudhi.SimplexTree.create_from_array(weights, max_filtration=weights[np.isfinite(weights)].max())
    tree.expansion(2)
    tree.compute_persistence()
    dgm = tree.persistence_intervals_in_dimension(dimension)
    dgm = dgm[np.isfinite(dgm[:, 1]) & (dgm[:, 1] > dgm[:, 0])]
    return dgm[np.lexsort((dgm[:, 1], dgm[:, 0]))] if len(dgm) else np.empty((0, 2))


def circle(n, noise=0.0):
    angle = 2 * torch.pi * torch.arange(n) / n
    return torch.stack([angle.cos(), angle.sin()], 1) + noise * torch.randn(n, 2)


random_clouds = st.tuples(
    st.integers(2, 40), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from(["normal", "grid", "few"])
)


def cloud_of(case):
    n, d, seed, kind = case
    stream = np.random.default_rng(seed)
    if kind == "grid":  # ties, duplicates
        return stream.integers(0, 4, (n, d)).astype(np.float32)
    if kind == "few":  # many equal points
        return stream.normal(size=(3, d)).astype(np.float32)[stream.integers(0, 3, n)]
    return stream.normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("backend", ["flag", "ripser"])
@settings(deadline=None, max_examples=150)
@given(case=random_clouds)
def test_diagrams_equal_ripsers_to_the_last_bit(backend, case):
    weights = pairwise_distances(torch.from_numpy(cloud_of(case)))
    for dimension, diagram in enumerate(persistent_homology(weights, backend=backend)):
        np.testing.assert_array_equal(bars(diagram), ripsers(weights.numpy(), dimension))


@settings(deadline=None, max_examples=75)
@given(random_clouds, st.integers(1, 5))
def test_diagrams_of_knn_graphs_in_pieces_equal_gudhis(case, k):
    cloud = torch.from_numpy(cloud_of(case))
    if k >= len(cloud):
        return
    weights = knn(pairwise_distances(cloud), k)
    for dimension, diagram in enumerate(persistent_homology(weights)):
        np.testing.assert_array_equal(bars(diagram), gudhis(weights.double().numpy(), dimension).astype(np.float32))


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 30), st.integers(0, 10**6))
def test_weights_need_no_triangle_inequality(n, seed):
    weights = np.random.default_rng(seed).random((n, n)).astype(np.float32)
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    for dimension, diagram in enumerate(persistent_homology(torch.from_numpy(weights))):
        np.testing.assert_array_equal(bars(diagram), ripsers(weights, dimension))


@settings(deadline=None, max_examples=50)
@given(random_clouds)
def test_h0_deaths_are_the_minimum_spanning_tree(case):
    weights = pairwise_distances(torch.from_numpy(cloud_of(case)).double())
    shifted = weights.numpy() + 1.0  # scipy's dense tree reads 0 as "no edge"
    np.fill_diagonal(shifted, 0)
    tree = np.sort(minimum_spanning_tree(shifted).data) - 1.0
    np.testing.assert_allclose(bars(persistent_homology(weights, 0)[0])[:, 1], tree[tree > 1e-12], atol=1e-9)


def test_betti_numbers_of_known_shapes():
    def long_bars(cloud, shortest):
        diagrams = persistent_homology(pairwise_distances(cloud))
        return [int(((bars(d)[:, 1] - bars(d)[:, 0]) > shortest).sum()) for d in diagrams]

    one, other = circle(40), circle(40) + torch.tensor([2.0, 0.0])
    assert long_bars(one, 0.5)[1] == 1
    assert long_bars(torch.cat([one, other]), 0.5)[1] == 2  # they touch: a figure eight
    assert long_bars(torch.cat([one, other + 10]), 5) == [1, 0]  # two pieces, so one long merge
    turns = 2 * torch.pi * torch.cartesian_prod(torch.arange(24), torch.arange(12)) / torch.tensor([24, 12])
    radius = 2 + 0.8 * turns[:, 1].cos()
    torus = torch.stack([radius * turns[:, 0].cos(), radius * turns[:, 0].sin(), 0.8 * turns[:, 1].sin()], 1)
    assert long_bars(torus, 0.6)[1] == 2


def test_ripser_gives_higher_dimensions_with_their_critical_edges():
    """The octahedron's sphere is born with its twelve edges and filled by a diagonal."""
    axes = torch.eye(3, dtype=torch.float64)
    cloud = torch.cat([axes, -axes]).requires_grad_()
    voids = persistent_homology(pairwise_distances(cloud), 2, backend="ripser")[2]
    torch.testing.assert_close(voids.points.detach(), torch.tensor([[2**0.5, 2.0]], dtype=torch.float64))
    assert torch.autograd.grad(voids.points[0, 1], cloud)[0].norm() > 0


@settings(deadline=None, max_examples=25)
@given(st.integers(5, 30), st.integers(0, 10**6))
def test_order_and_isometry_change_nothing_and_scaling_scales(n, seed):
    cloud = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 3)))
    rotation = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    moved = (cloud @ rotation + 5)[torch.randperm(n)]
    for dimension in (0, 1):
        expected = bars(persistent_homology(pairwise_distances(cloud))[dimension])
        np.testing.assert_allclose(bars(persistent_homology(pairwise_distances(moved))[dimension]), expected, atol=1e-9)
        np.testing.assert_allclose(
            bars(persistent_homology(pairwise_distances(4 * cloud))[dimension]), 4 * expected, atol=1e-9
        )


@settings(deadline=None, max_examples=25)
@given(st.integers(5, 30), st.floats(1e-4, 0.3), st.integers(0, 10**6))
def test_stability(n, size, seed):
    """Cohen-Steiner, Edelsbrunner & Harer 2007: the bottleneck distance is at most twice the largest displacement."""
    stream = np.random.default_rng(seed)
    cloud = stream.normal(size=(n, 2))
    shift = stream.normal(size=(n, 2))
    shift *= size / np.linalg.norm(shift, axis=1).max()
    before, after = (persistent_homology(pairwise_distances(torch.from_numpy(c))) for c in (cloud, cloud + shift))
    for one, other in zip(before, after, strict=True):
        assert gudhi.bottleneck_distance(bars(one), bars(other)) <= 2 * size + 1e-9


def test_a_batch_is_a_loop_over_its_clouds():
    batch = torch.randn(2, 3, 20, 2)
    together = persistent_homology(pairwise_distances(batch))
    for index in np.ndindex(2, 3):
        alone = persistent_homology(pairwise_distances(batch[index]))
        for dimension in (0, 1):
            np.testing.assert_array_equal(
                together[dimension].points[index][together[dimension].mask[index]].numpy(), bars(alone[dimension])
            )
    padding = together[1].points[~together[1].mask]
    assert not padding.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    diagrams = persistent_homology(pairwise_distances(torch.randn(10, 2, dtype=dtype)))
    assert all(diagram.points.dtype == dtype for diagram in diagrams)


def test_the_gradient_runs_to_the_critical_edges():
    weights = torch.tensor([[0.0, 1.0, 4.0], [1.0, 0.0, 2.0], [4.0, 2.0, 0.0]], requires_grad=True)
    persistent_homology(weights)[0].points[..., 1].sum().backward()
    assert torch.equal(weights.grad.nonzero(), torch.tensor([[0, 1], [1, 2]]))  # the tree, not the longest edge


@pytest.mark.parametrize("filtration", [lambda distances: distances, lambda distances: knn(distances, 4)])
def test_gradcheck(filtration):
    cloud = torch.randn(12, 3, dtype=torch.float64, requires_grad=True)

    def points(cloud):
        return torch.cat([d.points.flatten() for d in persistent_homology(filtration(pairwise_distances(cloud)))])

    assert torch.autograd.gradcheck(points, cloud)


def test_gradients_may_be_asked_for_in_a_batch():
    """As Jacobians are: each row is the gradient of one number."""
    weights = pairwise_distances(torch.randn(2, 12, 2, generator=torch.Generator().manual_seed(0))).requires_grad_()
    for diagram in persistent_homology(weights, essential="cap"):
        numbers = diagram.points[diagram.mask].flatten()
        rows = torch.eye(len(numbers))
        (batched,) = torch.autograd.grad(numbers, weights, rows, retain_graph=True, is_grads_batched=True)
        single = [torch.autograd.grad(numbers, weights, row, retain_graph=True)[0] for row in rows]
        assert torch.equal(batched, torch.stack(single))


def test_tied_bars_take_different_edges():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    weights = pairwise_distances(square).requires_grad_()
    persistent_homology(weights, 0)[0].points[..., 1].sum().backward()
    assert (weights.grad == 1).sum() == 3  # three merges, three edges of the four


def test_essential_bars_are_dropped_or_capped():
    pieces = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
    weights = knn(pairwise_distances(pieces), 1).requires_grad_()
    dropped, capped = (persistent_homology(weights, 0, essential=how)[0] for how in ("drop", "cap"))
    assert sorted(bars(dropped)[:, 1]) == [1, 2]
    assert sorted(bars(capped)[:, 1]) == [1, 2, 2, 2]
    (gradient,) = torch.autograd.grad(capped.points.sum(), weights)
    assert (gradient[2, 3], gradient[3, 2]) == (1, 0)  # the merge at 2, and nothing from the two caps


def test_edgeless_and_collapsed_clouds_have_no_bars():
    apart = torch.full((3, 3), torch.inf).fill_diagonal_(0)
    for weights in (apart, torch.zeros(3, 3)):
        assert [len(bars(diagram)) for diagram in persistent_homology(weights)] == [0, 0]
    assert [len(bars(diagram)) for diagram in persistent_homology(torch.tensor([[0.0, 2.0], [2.0, 0.0]]))] == [1, 0]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_dimension": 2}, "max_dimension: wanted 0 or 1"),
        ({"essential": "keep"}, "essential: wanted one of 'drop', 'cap'"),
        ({"backend": "magic"}, "backend: wanted one of"),
    ],
)
def test_unknown_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        persistent_homology(torch.zeros(3, 3), **option)


def test_bad_weights_are_named():
    with pytest.raises(ValueError, match="weights: wanted a symmetric matrix"):
        persistent_homology(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))


@pytest.mark.parametrize("sparse", [False, True])
def test_bars_that_never_die_end_where_it_is_said(sparse):
    """Two edges of a path, and a point apart: by hand."""
    matrix = torch.full((4, 4), torch.inf).fill_diagonal_(0)
    matrix[0, 1] = matrix[1, 0] = 1
    matrix[1, 2] = matrix[2, 1] = 3
    weights = Graph(torch.tensor([[0, 1], [1, 2]]), torch.tensor([1.0, 3.0]), 4) if sparse else matrix
    for end, deaths in ((None, [1, 3, 3, 3]), (5.0, [1, 3, 5, 5]), (2.0, [1, 2, 2, 3]), (0.0, [1, 3])):
        (components,) = persistent_homology(weights, max_dimension=0, essential="cap", end=end)
        assert sorted(components.points[:, 1].tolist()) == deaths
    with pytest.raises(ValueError, match="essential: wanted one of 'cap', got 'drop'"):
        persistent_homology(weights, end=2.0)
    with pytest.raises(ValueError, match="end: wanted a finite number >= 0, got -1"):
        persistent_homology(weights, essential="cap", end=-1)
