from __future__ import annotations

import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.stats import energy_distance
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from topo_utils.topology import (
    CodeRegression,
    CriticalEdgeMatching,
    DistanceMatching,
    EnergyDistance,
    NullReference,
    TopologicalLoss,
    pairwise_distances,
)

LOSSES = [
    DistanceMatching(),
    DistanceMatching(scale_free=True),
    CriticalEdgeMatching(),
    CriticalEdgeMatching(1),
    CriticalEdgeMatching(1, scale_free=True),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_zero_for_equal_clouds_symmetric_and_batched(loss):
    x, y = torch.randn(3, 20, 4), torch.randn(3, 20, 2)
    assert loss(x, x.clone()) == 0
    torch.testing.assert_close(loss(x, y), loss(y, x))
    torch.testing.assert_close(loss(x, y), torch.stack([loss(a, b) for a, b in zip(x, y, strict=True)]).mean())
    assert torch.equal(loss.fit(x)(loss.prepare(x), y), loss(x, y))
    assert (loss(x, 3 * x) < 1e-10) == loss.scale_free


@pytest.mark.parametrize("loss", [*LOSSES, CodeRegression()])
def test_gradcheck(loss):
    x, y = torch.randn(9, 3, dtype=torch.float64), torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda cloud: loss(x, cloud), y)


def test_the_critical_edges_of_h0_are_the_minimum_spanning_tree():
    x, y = torch.randn(15, 4), torch.randn(15, 3)
    dx, dy = pairwise_distances(x), pairwise_distances(y)
    total = 0.0
    for distances in (dx, dy):
        i, j = minimum_spanning_tree(distances.double().numpy()).nonzero()
        total += (dx[i, j] - dy[i, j]).square().sum() / 2
    torch.testing.assert_close(CriticalEdgeMatching()(x, y), total / 15)


def test_loops_add_their_edges():
    angle = 2 * torch.pi * torch.arange(12) / 12
    circle = torch.stack([angle.cos(), 1.1 * angle.sin()], 1)
    assert (
        CriticalEdgeMatching(1).prepare(circle).critical.sum() == CriticalEdgeMatching().prepare(circle).critical.sum() + 2
    )


def test_the_regression_leaves_what_least_squares_leaves():
    x, y = torch.randn(2, 40, 5, dtype=torch.float64) + 7, torch.randn(2, 40, 3, dtype=torch.float64) * 5 - 2
    x = x + y @ torch.randn(3, 5, dtype=torch.float64)
    fits = [LinearRegression().fit(b, a).predict(b) for a, b in zip(x, y, strict=True)]
    left = [1 - r2_score(a, p, multioutput="variance_weighted") for a, p in zip(x, fits, strict=True)]
    loss = CodeRegression().fit(x)
    assert loss(loss.prepare(x), y).item() == pytest.approx(sum(left) / 2, rel=1e-4)
    assert 0.01 < loss(x, y) < 0.99
    assert loss(x, 1000 * y + 3).item() == pytest.approx(loss(x, y).item(), rel=1e-9)


def test_the_regression_of_an_affine_image_leaves_nothing_and_of_noise_nearly_all():
    x = torch.randn(2000, 4, dtype=torch.float64)
    assert CodeRegression()(x, x @ torch.randn(4, 4, dtype=torch.float64) + 2) < 1e-3
    assert CodeRegression()(x, torch.randn(2000, 4, dtype=torch.float64)).item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("thin", [0.0, 1.0])
def test_the_regression_has_a_gradient_where_the_cloud_is_flat(thin):
    x = torch.randn(9, 3, dtype=torch.float64)
    flat = torch.randn(9, 1, dtype=torch.float64) @ torch.ones(1, 4, dtype=torch.float64) * thin
    y = flat.requires_grad_()
    loss = CodeRegression()(x, y)
    assert loss <= 1
    assert torch.autograd.grad(loss, y)[0].isfinite().all()


def test_the_regression_names_what_it_cannot_compare():
    x = torch.randn(3, 9, 2)
    with pytest.raises(ValueError, match=r"as many clouds and points, got \(3, 9\) and \(3, 8\)"):
        CodeRegression()(x, x[:, :8])
    with pytest.raises(ValueError, match="reference: wanted points that are not all one"):
        CodeRegression()(torch.ones(9, 2), x[0])
    with pytest.raises(ValueError, match="cloud"):
        CodeRegression()(x, x.index_fill(0, torch.tensor(0), torch.nan))


def test_the_energy_distance_is_scipys_on_the_line():
    x, y = torch.randn(200, 1), 1 + torch.randn(150, 1)
    squared = energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    biased = EnergyDistance()(x, y)
    within = [
        pairwise_distances(cloud).sum() / (n * (n - 1)) - pairwise_distances(cloud).mean()
        for cloud, n in ((x, 200), (y, 150))
    ]
    assert (biased + sum(within)).item() == pytest.approx(squared, rel=1e-3)
    assert abs(EnergyDistance()(torch.randn(500, 2), torch.randn(500, 2)).item()) < 0.02


@pytest.mark.parametrize("kind", ["gaussian", "shuffled"])
def test_null_references_keep_moments_and_lose_the_shape(kind):
    angle = 2 * torch.pi * torch.arange(400) / 400
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    null = NullReference(TopologicalLoss(grid_size=512), kind).fit(circle)  # the points lie closely on a wide loop
    cloud = null.null(circle)
    torch.testing.assert_close(cloud.mean(0), circle.mean(0), atol=0.12, rtol=0)
    torch.testing.assert_close(cloud.T.cov(), circle.T.cov(), atol=0.12, rtol=0)
    assert torch.equal(cloud, null.null(circle)), "the same reference has the same null"
    assert null(circle, cloud) == 0
    assert null(circle, circle) > null.loss(circle, circle.flip(0))
    assert torch.equal(null(null.prepare(circle), circle), null(circle, circle))


def test_the_gaussian_null_has_the_covariance_of_its_reference():
    """That of a sample, with n - 1, which a large cloud would not tell from n."""
    four = torch.tensor([[0.0, 0.0], [2.0, 1.0], [0.0, 3.0], [-2.0, 0.0]])
    points = NullReference(TopologicalLoss(), "gaussian").null(four.expand(20_000, 4, 2)).flatten(0, 1)
    torch.testing.assert_close(points.T.cov(), torch.tensor([[8 / 3, 2 / 3], [2 / 3, 2.0]]), atol=0.06, rtol=0)


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="wanted as many clouds and points"):
        DistanceMatching()(torch.randn(8, 2), torch.randn(9, 2))
    with pytest.raises(ValueError, match="wanted clouds in one space"):
        EnergyDistance()(torch.randn(8, 2), torch.randn(8, 3))
    for loss in (DistanceMatching(), CriticalEdgeMatching(), EnergyDistance()):
        with pytest.raises(ValueError, match=r"^cloud: wanted finite values"):
            loss(torch.randn(8, 2), torch.full((8, 2), torch.nan))
        with pytest.raises(ValueError, match=r"^reference: wanted finite values"):
            loss(torch.full((8, 2), torch.nan), torch.randn(8, 2))
    with pytest.raises(ValueError, match="dimensions: wanted one of 0, 1"):
        CriticalEdgeMatching(2)
    with pytest.raises(ValueError, match="kind: wanted one of"):
        NullReference(TopologicalLoss(), "uniform")
    with pytest.raises(ValueError, match="reference: wanted at least one cloud"):
        EnergyDistance()(torch.zeros(0, 8, 2), torch.zeros(0, 8, 2))


@pytest.mark.parametrize(
    "loss", [DistanceMatching(), CriticalEdgeMatching(1), EnergyDistance()], ids=lambda x: type(x).__name__
)
def test_clouds_as_autocast_leaves_them(loss):
    x, y = torch.randn(2, 12, 3).bfloat16()
    assert loss(x, y) == loss(x.float(), y.float())
