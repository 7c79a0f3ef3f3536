from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.stats import norm

from topo_utils.topology import Diagram, TopologicalLoss, pairwise_distances

from ..training.landscape_loss import LandscapeLoss


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


def test_the_loss_of_persistence_images_is_that_of_the_formula():
    """Eight pixels from 0 to 1.25 times the latest death, and two σ more of births below; σ in pixels."""
    near, far = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    loss = TopologicalLoss(representation="image", grid_size=8, sigma=1.5, weights=(1, 0)).fit(far)
    pixel = 5 / 8
    sigma = 1.5 * pixel
    births, persistences = np.linspace(-2 * sigma, 5, 9), np.linspace(0, 5, 9)

    def image(death):
        x, y = (norm.cdf((edges - at) / sigma) for edges, at in ((births, 0), (persistences, death)))
        return death * np.outer(np.diff(x), np.diff(y))

    assert loss(near, far).item() == pytest.approx(np.square(image(2) - image(4)).sum(), rel=1e-5)


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


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_clouds_too_small_or_too_large_for_the_grid_are_warned_of(factor, clouds):
    x, y = clouds
    message = "most bars are shorter than the first step" if factor < 1 else "most bars end beyond the grid"
    with pytest.warns(UserWarning, match=message):
        TopologicalLoss().fit(x)(x, factor * y)
    TopologicalLoss(scale_free=True).fit(x)(x, factor * y)  # warnings are errors here


@pytest.mark.parametrize("options", [{}, {"filtration": "graph"}, {"filtration": "sublevel"}])
def test_a_loss_fitted_in_inference_mode_trains(options):
    x, y = (pairwise_distances(torch.randn(2, 12, 3)) for _ in range(2))
    with torch.inference_mode():
        loss = TopologicalLoss(**options).fit(x)
    leaf = y.clone().requires_grad_()
    loss(x, (leaf + leaf.mT) / 2).backward()
    assert leaf.grad.any()
    assert torch.equal(loss(x, y), TopologicalLoss(**options).fit(x)(x, y))


def test_the_first_loss_compiles_where_nothing_can_be_cached():
    """A container under any user id: the package is read-only, and the user has no home."""
    program = (
        "import numba.core.caching as caching, torch\n"
        "caching.CacheImpl._locator_classes = caching.FunctionCache._impl_class._locator_classes = []\n"
        "from topo_utils.topology import TopologicalLoss\n"
        "x = torch.randn(8, 2)\n"
        "assert TopologicalLoss(scale_free=True).fit(x)(x, x) == 0\n"
        "from topo_utils.topology import _points\n"
        "assert type(_points._kept._cache).__name__ == 'NullCache'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_free": True},
        {"levels": 3, "weights": (0.5, 20.0)},
        {"weights": (1.0, 0.0), "levels": 1},
        {"weights": (0.0, 3.0), "scale_free": True},
    ],
)
def test_values_and_gradients_are_those_of_plain_tensors_and_gudhis_pairs(options, dtype, tolerance):
    x = torch.randn(3, 30, 5, dtype=dtype)
    x[0, 7] = x[0, 3]
    y = (torch.randn(3, 26, 2, dtype=dtype) + torch.tensor([3.0, -9.0], dtype=dtype)).requires_grad_()
    loss, oracle = TopologicalLoss(**options).to(dtype).fit(x), LandscapeLoss(**{"weights": (1, 1), **options}).fit(x)
    got, wanted = loss(x, y), oracle(x, y)
    gradients = [torch.autograd.grad(3 * each, y)[0] for each in (got, wanted)]
    assert got.dtype == gradients[0].dtype == dtype
    torch.testing.assert_close(got, wanted.to(dtype), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)
    assert gradients[0].abs().max() > 1e-3


def test_bars_of_the_neighbour_graph_that_never_die_end_where_the_grid_ends():
    """A regular polygon and its two nearest neighbours: one component, one loop, born with the sides, and no triangle."""
    n = 10
    angles = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    polygon = torch.stack([angles.cos(), angles.sin()], 1)
    side = 2 * torch.sin(torch.tensor(torch.pi / n, dtype=torch.float64))
    loss = TopologicalLoss(filtration="knn", k=2, weights=(0.0, 1.0)).double()
    torch.testing.assert_close(loss.diagrams(polygon)[1].points, torch.tensor([[side, 2.0]], dtype=torch.float64))
    loss.fit(polygon)
    assert loss.grid[-1] == 2.5  # 1.25 times the diameter
    for size in (1.0, 0.5, 3.0):
        (bar,) = loss.diagrams(size * polygon)[1].points
        assert bar[0] == pytest.approx(size * side)
        assert bar[1] == 2.5
    cloud = (0.5 * polygon).requires_grad_()
    loss(polygon, cloud).backward()
    outward = (cloud.grad * polygon).sum(1)
    # all in the births: the tents min(t - birth, end - t) differ by half a side on the way up, (end - side) / 2 long
    assert outward.sum() < 0, "the smaller loop is born too early: it has to grow"
    loss = TopologicalLoss(filtration="knn", k=2, scale_free=True).double().fit(polygon)
    assert loss.diagrams(7 * polygon)[1].points[0, 1] == pytest.approx(float(loss.grid[-1]))


def test_bars_of_a_graph_that_never_die_end_where_the_grid_ends():
    """A square of four edges; the graph that it is compared with has the same loop with other weights."""
    square = torch.full((4, 4), torch.inf, dtype=torch.float64).fill_diagonal_(0)
    for i in range(4):
        square[i, (i + 1) % 4] = square[(i + 1) % 4, i] = i + 1
    loss = TopologicalLoss(filtration="graph").double().fit(square)
    assert loss.grids[1][-1] == 5
    components, loops = loss.diagrams(square)
    assert loops.points.tolist() == [[4, 5]]
    assert sorted(components.points[:, 1].tolist()) == [1, 2, 3, 5]


def test_the_gradient_of_loops_is_near_that_on_a_fine_grid():
    """Their bars are short: on the grid of the components, 128 points, the gradient would be 15 to 30 % off."""
    x, y = torch.randn(2, 64, 16, dtype=torch.float64), torch.randn(2, 64, 4, dtype=torch.float64, requires_grad=True)
    gradients = []
    for size in (None, 20000, 128):
        loss = TopologicalLoss(weights=(0.0, 1.0), scale_free=True, grid_size=size).double().fit(x)
        gradients.append(torch.autograd.grad(loss(x, y), y)[0])
    ours, exact, coarse = gradients
    assert (ours - exact).norm() < 0.06 * exact.norm()
    assert (coarse - exact).norm() > 0.1 * exact.norm()


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
    for cloud in (x.numpy(), x.tolist()):
        with pytest.raises(
            (TypeError, ValueError), match=r"^cloud: wanted a (torch tensor, got ndarray|cloud, or the list)"
        ):
            loss(x, cloud)
        with pytest.raises((TypeError, ValueError), match=r"^reference: wanted a (torch tensor, got ndarray|cloud, or)"):
            loss(cloud, y)
    for wrong in ((0.0, torch.nan), (0.0, torch.inf), (1.0, 0.5)):
        diagrams = [Diagram(torch.tensor([wrong]), torch.tensor([True]))] * 2
        with pytest.raises(ValueError, match=r"^cloud: wanted (numbers|bars that end|birth <= death)"):
            loss(loss.vectors(x[0]), diagrams)
        with pytest.raises(ValueError, match=r"^reference: wanted (numbers|bars that end|birth <= death)"):
            loss(diagrams, y[0])
    for vectors, message in (
        (TopologicalLoss(grid_size=64).fit(x).vectors(x), "vectors of H0 on this loss's grid of 128 values, got "),
        (loss.vectors(x)[:1], "vectors of 2 homology dimensions, got 1"),
        ([loss.vectors(x)[0] * torch.nan, loss.vectors(x)[1]], "finite values"),
    ):
        with pytest.raises(ValueError, match=f"^reference: wanted {message}"):
            loss(vectors, y)


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
