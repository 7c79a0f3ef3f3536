from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from topo_utils.topology import TopologicalLoss, pairwise_distances


@pytest.fixture
def clouds():
    return torch.randn(3, 24, 4), torch.randn(3, 24, 2)


OPTIONS = [
    {},
    {"scale_free": True},
    {"filtration": "knn", "k": 4},
    {"levels": 3},
    {"weights": (1, 0)},
    {"representation": "image"},
    {"representation": "image", "scale_free": True, "sigma": 2.0, "grid_size": 12},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_zero_with_zero_gradient_on_equal_clouds_and_symmetric(options, clouds):
    x, y = clouds
    loss = TopologicalLoss(**options).fit(x)
    same = x.clone().requires_grad_()
    value = loss(x, same)
    value.backward()
    assert value == 0
    assert not same.grad.any()
    assert loss(x, y) > 0
    assert torch.isclose(loss(x, y), loss(y, x))


def test_the_loss_is_the_integral_of_the_formula():
    """Two points at distance 2 against two at distance 4, by hand."""
    near, far = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    loss = TopologicalLoss(grid_size=2001).fit(far)
    # tents min(t, 2 - t) and min(t, 4 - t): they differ by 2t - 2 on [1, 2] and by 4 - t on [2, 4]
    assert loss(near, far).item() == pytest.approx(4 / 3 + 8 / 3, rel=1e-3)


def test_scale_free_ignores_size_and_the_plain_loss_does_not(clouds):
    x, _ = clouds
    assert TopologicalLoss(scale_free=True).fit(x)(x, 5 * x) < 1e-10
    assert TopologicalLoss().fit(5 * x)(x, 5 * x) > 0.1


def test_a_batch_is_the_mean_over_its_clouds(clouds):
    x, y = clouds
    loss = TopologicalLoss().fit(x)
    torch.testing.assert_close(loss(x, y), torch.stack([loss(a, b) for a, b in zip(x, y, strict=True)]).mean())


@pytest.mark.parametrize("options", OPTIONS)
def test_precomputed_references_give_the_same(options, clouds):
    x, y = clouds
    loss = TopologicalLoss(**options).fit(x)
    assert torch.equal(loss(loss.diagrams(x), y), loss(x, y))
    assert torch.equal(loss(loss.vectors(x), y), loss(x, y))


def test_the_loss_of_images_and_of_graphs():
    ring = torch.zeros(12, 12)
    ring[3:9, 3:9] = 1
    ring[5:7, 5:7] = 0
    disc = ring.clone()
    disc[5:7, 5:7] = 0.9
    loss = TopologicalLoss(filtration="superlevel").fit(ring)
    assert loss(ring, ring.roll(2, 0)) == 0
    assert loss(ring, disc) > 0.01
    weights = pairwise_distances(torch.randn(2, 10, 3))
    graph, rips = TopologicalLoss(filtration="graph").fit(weights), TopologicalLoss().fit(torch.randn(10, 3))
    assert graph(weights, weights) == 0
    assert graph(weights, 2 * weights) > 0
    assert rips.grid[0] == graph.grid[0] == 0


def test_threads_that_precompute_references_change_nothing(clouds):
    x, y = clouds
    loss = TopologicalLoss(scale_free=True).fit(x)
    with ThreadPoolExecutor(3) as pool:
        ahead = list(pool.map(loss.vectors, [x] * 6))
    assert all(torch.equal(loss(vectors, y), loss(x, y)) for vectors in ahead)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_free": True},
        {"levels": 3, "weights": (0.5, 20.0)},
        {"representation": "image", "scale_free": True},
    ],
)
def test_gradcheck(options):
    x, y = torch.randn(12, 3, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
    loss = TopologicalLoss(grid_size=16, **options).fit(x)
    assert torch.autograd.gradcheck(lambda cloud: loss(x, cloud), y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_free": True},
        {"levels": 3, "weights": (0.5, 20.0)},
        {"weights": (1, 0)},
        {"filtration": "knn", "k": 3},
    ],
)
def test_the_short_way_of_points_equals_the_way_through_diagrams(options, dtype):
    """Values and gradients of the compiled loops against autograd's, which differentiates each step."""
    x = torch.randn(2, 3, 30, 5, dtype=dtype)
    x[0, 0, 7] = x[0, 0, 3]
    y = (torch.randn(2, 3, 26, 2, dtype=dtype) + torch.tensor([3.0, -9.0], dtype=dtype)).requires_grad_()
    loss = TopologicalLoss(**options).fit(x)
    short, long = loss(x, y), loss(x, loss.diagrams(y))
    (by_short,), (by_long,) = torch.autograd.grad(3 * short, y), torch.autograd.grad(3 * long, y)
    assert short.dtype == long.dtype == by_short.dtype == dtype
    torch.testing.assert_close(short, long)
    torch.testing.assert_close(by_short, by_long, rtol=1e-3, atol=1e-5)
    assert by_short.abs().max() > 1e-3


def test_the_gradient_reaches_the_reference_too(clouds):
    x, y = clouds
    loss = TopologicalLoss().fit(x)
    x.requires_grad_()
    (by_reference,) = torch.autograd.grad(loss(x, y), x)
    (by_cloud,) = torch.autograd.grad(loss(y, x), x)
    torch.testing.assert_close(by_reference, by_cloud, rtol=1e-3, atol=1e-6)


def test_descent_turns_a_cloud_into_a_circle():
    angle = 2 * torch.pi * torch.arange(20) / 20
    wanted = torch.stack([angle.cos(), angle.sin()], 1)
    cloud = (0.5 * torch.randn(20, 2)).requires_grad_()
    loss = TopologicalLoss().fit(wanted)
    optimizer = torch.optim.Adam([cloud], lr=0.05)
    first = loss(wanted, cloud).item()
    for _ in range(150):
        optimizer.zero_grad()
        loss(wanted, cloud).backward()
        optimizer.step()
    assert loss(wanted, cloud).item() < 0.05 * first
    bars = loss.diagrams(cloud)[1].points
    assert (bars[:, 1] - bars[:, 0]).max() > 0.8


def test_duplicates_and_collapsed_clouds_give_no_nan():
    x = torch.randn(16, 3)
    for cloud in (torch.zeros(16, 2), torch.randn(4, 2).repeat(4, 1)):
        for scale_free in (False, True):
            leaf = cloud.clone().requires_grad_()
            loss = TopologicalLoss(scale_free=scale_free).fit(x)
            if cloud.any():
                value = loss(x, leaf)
            else:
                with pytest.warns(UserWarning, match="most bars are shorter than the first step of the grid"):
                    value = loss(x, leaf)
            value.backward()
            assert value.isfinite()
            assert leaf.grad.isfinite().all()


def test_it_works_under_autocast_and_no_grad(clouds):
    x, y = clouds
    loss = TopologicalLoss().fit(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(x, y), loss(x, y))
        assert loss(x, y.bfloat16()).dtype == torch.float32
    with torch.no_grad():
        assert not loss(x, y).requires_grad


def test_it_pickles_copies_and_saves_its_grid(clouds):
    x, y = clouds
    loss = TopologicalLoss(levels=4).fit(x)
    for twin in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert torch.equal(twin(x, y), loss(x, y))
    other = TopologicalLoss(levels=4)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(x, y), loss(x, y))


def test_the_grid_stays_where_fit_put_it(clouds):
    x, y = clouds
    loss = TopologicalLoss().fit(x)
    before = loss.grid.clone()
    with pytest.warns(UserWarning, match="most bars end beyond the grid"):
        loss(x, 100 * y)
    assert torch.equal(loss.grid, before)
    latest = max(diagram.points[..., 1].max() for diagram in loss.diagrams(x))
    assert loss.grid[-1] == pytest.approx(1.25 * float(latest))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filtration": "alpha"}, "filtration: wanted"),
        ({"filtration": "knn"}, "k: wanted a number"),
        ({"k": 3}, "k: wanted a number"),
        ({"levels": 0}, "levels: wanted"),
        ({"weights": (0, 0)}, "weights: wanted"),
        ({"weights": (-1, 1)}, "weights: wanted"),
        ({"grid_size": 1}, "grid_size: wanted"),
        ({"grid_size": 0}, "grid_size: wanted"),
        ({"representation": "barcode"}, "representation: wanted one of 'landscape', 'image'"),
        ({"representation": "image", "levels": 3}, "levels: wanted"),
        ({"filtration": "graph", "scale_free": True}, "scale_free: wanted"),
        ({"weights": (1.0, float("nan"))}, "weights: wanted"),
        ({"sigma": 0.0}, "sigma: wanted"),
    ],
)
def test_unknown_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TopologicalLoss(**options)


def test_wrong_use_is_named(clouds):
    x, y = clouds
    with pytest.raises(RuntimeError, match="call fit"):
        TopologicalLoss()(x, y)
    loss = TopologicalLoss().fit(x)
    with pytest.raises(ValueError, match="same batch shape"):
        loss(x[:2], y)
    with pytest.raises(ValueError, match=r"^cloud: wanted finite values, got nan at \(0, 0, 0\)"):
        loss(x, y * torch.nan)
    with pytest.raises(ValueError, match=r"^reference: wanted finite values"):
        loss(x * torch.nan, y)
    with pytest.raises(ValueError, match=r"^reference: wanted finite values"):
        loss(x[..., :1] * torch.nan, y)
    with pytest.raises(TypeError, match=r"^reference: wanted a torch tensor, got NoneType"):
        loss(None, y)
    with pytest.raises(ValueError, match=r"cloud: wanted lengths whose loss fits into float32"):
        TopologicalLoss().fit(1e14 * x)(1e14 * x, (1e14 * y).requires_grad_())
    with pytest.raises(ValueError, match=r"reference: wanted bars that a grid of torch.float32 can tell apart"):
        TopologicalLoss().fit(x.double() * 1e-60)
    with pytest.raises(ValueError, match="scale_free: wanted one of True, False, got 'no'"):
        TopologicalLoss(scale_free="no")
    with pytest.raises(TypeError, match="sigma: wanted a number, got '1'"):
        TopologicalLoss(sigma="1")
    with pytest.raises(ValueError, match="reference: wanted a cloud, or the list of its diagrams H0 and H1"):
        loss(TopologicalLoss(weights=(1, 0)).diagrams(x), y)
    with pytest.raises(ValueError, match=r"reference: wanted the shape \(\*batch, n, d\)"):
        loss(torch.randn(10), torch.randn(10))
    with pytest.raises(ValueError, match="wanted at least one cloud"):
        loss(x[:0], y[:0])
    with pytest.raises(ValueError, match="cloud: wanted values whose distances fit into"):
        loss(x, y * 1e30)
    with pytest.raises(TypeError, match="levels: wanted a whole number, got '3'"):
        TopologicalLoss(levels="3")
    with pytest.raises(ValueError, match="weights: wanted two numbers"):
        TopologicalLoss(weights="ab")
    with pytest.raises(ValueError, match="without a single bar"):
        TopologicalLoss().fit(torch.zeros(4, 2))


def test_the_package_stands_alone():
    """topology is importable with torch and numpy alone, so that it can be carried into another project."""
    program = (
        "import sys\n"
        "class Alone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'ripser', 'persim', 'gudhi', 'lightning', 'jaxtyping', 'pydantic', 'pandas'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Alone())\n"
        "import topo_utils.topology\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
