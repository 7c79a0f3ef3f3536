from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import kneighbors_graph

from topo_utils.topology import knn, pairwise_distances, rips

clouds = arrays.arrays(
    np.float64,
    st.tuples(st.integers(2, 30), st.integers(1, 5)),
    elements=st.floats(-100, 100, allow_subnormal=False),
)


@given(clouds)
def test_distances_are_scipys_symmetric_and_zero_on_the_diagonal(cloud):
    distances = pairwise_distances(torch.from_numpy(cloud))
    np.testing.assert_allclose(distances, cdist(cloud, cloud), rtol=1e-12, atol=1e-12)
    assert torch.equal(distances, distances.mT)
    assert not distances.diagonal().any()


def test_small_distances_between_far_away_points_are_not_cancelled():
    cloud = torch.full((40, 3), 1000.0)
    cloud[0, 0] += 0.25
    assert pairwise_distances(cloud)[0, 1] == 0.25


def test_the_gradient_at_equal_points_is_zero():
    cloud = torch.zeros(4, 2, requires_grad=True)
    pairwise_distances(cloud).sum().backward()
    assert torch.equal(cloud.grad, torch.zeros(4, 2))


def test_a_batch_is_a_loop_over_its_clouds():
    batch = torch.randn(3, 2, 10, 4)
    assert torch.equal(pairwise_distances(batch)[1, 1], pairwise_distances(batch[1, 1]))
    weights = knn(pairwise_distances(batch), 3)
    assert torch.equal(weights[2, 0], knn(pairwise_distances(batch[2, 0]), 3))


def test_rips_keeps_the_distances():
    distances = pairwise_distances(torch.randn(5, 2))
    assert torch.equal(rips(distances), distances)


@given(st.integers(2, 25).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1), st.integers(0, 10**6))))
def test_knn_is_scikit_learns_symmetrised_graph(case):
    n, k, seed = case
    cloud = np.random.default_rng(seed).normal(size=(n, 3))
    graph = kneighbors_graph(cloud, k).toarray() > 0
    weights = knn(pairwise_distances(torch.from_numpy(cloud)), k)
    edges = torch.isfinite(weights) & ~torch.eye(n, dtype=torch.bool)
    np.testing.assert_array_equal(edges, graph | graph.T)
    np.testing.assert_allclose(weights[edges], cdist(cloud, cloud)[edges.numpy()])


def test_knn_does_not_depend_on_the_order_of_tied_points():
    grid = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    order = torch.randperm(16)
    distances = pairwise_distances(grid)
    assert torch.equal(knn(distances, 2)[order][:, order], knn(distances[order][:, order], 2))


@pytest.mark.parametrize(
    ("cloud", "error", "message"),
    [
        (torch.randn(1, 3), ValueError, "at least 2 points"),
        (torch.randn(3), ValueError, "shape"),
        (torch.tensor([[0.0], [torch.nan]]), ValueError, "finite values, got nan at"),
        (torch.tensor([[0.0], [torch.inf]]), ValueError, "finite values, got inf at"),
        (torch.zeros(3, 2, dtype=torch.int64), TypeError, "float32 or float64"),
        ([[0.0], [1.0]], TypeError, "torch tensor, got list"),
    ],
)
def test_bad_clouds_are_named(cloud, error, message):
    with pytest.raises(error, match=message):
        pairwise_distances(cloud)


@pytest.mark.parametrize("filtration", [rips, lambda distances: knn(distances, 1)])
@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (torch.zeros(3, 4), r"shape \(\*batch, n, n\)"),
        (torch.tensor([[0.0, 1.0], [2.0, 0.0]]), "symmetric"),
        (torch.tensor([[0.0, -1.0], [-1.0, 0.0]]), "negative"),
        (torch.tensor([[1.0, 1.0], [1.0, 1.0]]), "zero diagonal"),
        (torch.tensor([[0.0, torch.nan], [torch.nan, 0.0]]), "NaN"),
        (torch.tensor([[0.0, torch.inf], [torch.inf, 0.0]]), "finite"),
    ],
)
def test_bad_distances_are_named(filtration, distances, message):
    with pytest.raises(ValueError, match=message):
        filtration(distances)


@pytest.mark.parametrize(
    ("k", "error", "message"),
    [
        (0, ValueError, "k: wanted 1 <= k < 3"),
        (3, ValueError, "k: wanted 1 <= k < 3"),
        (4, ValueError, "k: wanted 1 <= k < 3"),
        (2.0, TypeError, "k: wanted a whole number, got 2.0"),
        (True, TypeError, "k: wanted a whole number, got True"),
    ],
)
def test_k_out_of_range(k, error, message):
    with pytest.raises(error, match=message):
        knn(pairwise_distances(torch.randn(3, 2)), k)


def test_distances_that_overflow_are_no_missing_edges():
    with pytest.raises(ValueError, match=r"x: wanted values whose distances fit into torch.float32"):
        pairwise_distances(torch.tensor([[0.0], [3e19]]))


@given(clouds)
def test_the_gradient_is_that_of_the_naive_formula(cloud):
    x = torch.from_numpy(cloud).requires_grad_()
    y = x.detach().clone().requires_grad_()
    weights = torch.randn(len(x), len(x), dtype=torch.float64)
    (weights * pairwise_distances(x)).sum().backward()
    apart = torch.cdist(y, y, compute_mode="donot_use_mm_for_euclid_dist")
    (weights * apart).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-9, atol=1e-9)


def test_changes_in_place_and_second_derivatives_are_errors():
    x = torch.randn(5, 2, requires_grad=True)
    distances = pairwise_distances(x)
    with torch.no_grad():
        x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        distances.sum().backward()
    (gradient,) = torch.autograd.grad(pairwise_distances(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="wanted a first derivative"):
        gradient.square().sum().backward()
