"""A gradient of persistence has no derivative of its own: whoever asks for one, in whatever way, gets an error."""

from __future__ import annotations

import pytest
import torch

from topo_utils.topology import (
    BettiLoss,
    TopologicalLoss,
    betti_curve,
    landscape,
    pairwise_distances,
    persistence_image,
    persistent_homology,
    silhouette,
    sliced_wasserstein,
    smooth_betti_curve,
    wasserstein,
)
from topo_utils.topology.controls import CriticalEdgeMatching, DistanceMatching, EnergyDistance, NullReference

ANGLES = torch.linspace(0, 5.5, 12, dtype=torch.float64)
CIRCLE = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)  # so that there is a loop
REFERENCE = CIRCLE + 0.1 * torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
GRID = torch.linspace(0, 3, 16, dtype=torch.float64)


def graph(cloud):
    return (cloud[:, None] - cloud).square().sum(-1)


def loss_of(prepare=lambda cloud: cloud, **options):
    loss = TopologicalLoss(**options).double().fit(prepare(REFERENCE))
    return lambda cloud: loss(prepare(REFERENCE), prepare(cloud))


def loops(cloud):
    return persistent_homology(pairwise_distances(cloud))[1]


FUNCTIONS = {
    "landscapes": loss_of(),
    "components": loss_of(weights=(1.0, 0.0)),
    "scale-free": loss_of(scale_free=True),
    "knn": loss_of(filtration="knn", k=3),
    "graph": loss_of(graph, filtration="graph"),
    "sublevel": loss_of(graph, filtration="sublevel"),
    "images": loss_of(representation="image"),
    "null": lambda cloud: NullReference(TopologicalLoss(grid_size=64).double(), "gaussian").fit(REFERENCE)(
        REFERENCE, cloud
    ),
    "distances": lambda cloud: DistanceMatching()(REFERENCE, cloud),
    "critical-edges": lambda cloud: CriticalEdgeMatching(1, scale_free=True)(REFERENCE, cloud),
    "energy": lambda cloud: EnergyDistance()(REFERENCE, cloud),
    "betti": lambda cloud: BettiLoss("paper")(graph(cloud)[None, None] / 16, torch.tensor([2])),
    "pairwise": lambda cloud: pairwise_distances(cloud).square().sum(),
    "wasserstein": lambda cloud: wasserstein(loops(cloud), loops(REFERENCE)),
    "sliced": lambda cloud: sliced_wasserstein(loops(cloud), loops(REFERENCE)),
    "landscape": lambda cloud: landscape(loops(cloud), GRID).square().sum(),
    "image": lambda cloud: persistence_image(loops(cloud), GRID, GRID, 0.1).square().sum(),
    "silhouette": lambda cloud: silhouette(loops(cloud), GRID).square().sum(),
    "smooth betti": lambda cloud: smooth_betti_curve(loops(cloud), GRID, 0.1).square().sum(),
}
every = pytest.mark.parametrize("name", FUNCTIONS)


@pytest.fixture
def cloud():
    return 1.3 * CIRCLE + 0.1 * torch.randn(12, 2, dtype=torch.float64)


@every
def test_the_first_derivative_is_there(name, cloud):
    cloud.requires_grad_()
    (gradient,) = torch.autograd.grad(FUNCTIONS[name](cloud), cloud)
    assert gradient.isfinite().all()
    assert gradient.any()


def by_create_graph(function, cloud):
    cloud.requires_grad_()
    (gradient,) = torch.autograd.grad(function(cloud), cloud, create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), cloud)


def by_backward(function, cloud):
    cloud.requires_grad_()
    function(cloud).backward(create_graph=True)
    return torch.autograd.grad(cloud.grad.sum(), cloud)


@every
@pytest.mark.filterwarnings("ignore:Using backward\\(\\) with create_graph=True")
@pytest.mark.parametrize(
    "ask",
    [
        by_create_graph,
        by_backward,
        torch.autograd.functional.hessian,
        lambda function, cloud: torch.autograd.functional.hvp(function, cloud, torch.ones_like(cloud)),
        lambda function, cloud: torch.autograd.functional.vhp(function, cloud, torch.ones_like(cloud)),
    ],
    ids=["create_graph", "backward", "hessian", "hvp", "vhp"],
)
def test_the_second_is_an_error(name, ask, cloud):
    with pytest.raises(RuntimeError, match="wanted a first derivative"):
        ask(FUNCTIONS[name], cloud)


@every
@pytest.mark.parametrize(
    "ask",
    [
        lambda function, cloud: torch.func.grad(function)(cloud),
        lambda function, cloud: torch.func.hessian(function)(cloud),
        lambda function, cloud: torch.func.vjp(function, cloud),
        lambda function, cloud: torch.func.jvp(function, (cloud,), (cloud,)),
        lambda function, cloud: torch.func.vmap(function)(torch.stack([cloud, cloud])),
    ],
    ids=["grad", "hessian", "vjp", "jvp", "vmap"],
)
def test_transforms_of_functions_are_errors(name, ask, cloud):
    """Ours, and torch's own where the transform cannot be seen from the argument."""
    with pytest.raises((TypeError, RuntimeError), match=r"inside of torch\.func or torch\.compile|functorch transforms"):
        ask(FUNCTIONS[name], cloud)


def test_what_has_no_gradient_has_no_second_one(cloud):
    assert not betti_curve(loops(cloud.requires_grad_()), GRID).requires_grad


def test_a_gradient_with_a_graph_is_the_gradient(cloud):
    """Those who only add the gradients' graph to others, without asking for the derivative, get the same numbers."""
    cloud.requires_grad_()
    for function in FUNCTIONS.values():
        (plain,), (kept,) = (torch.autograd.grad(function(cloud), cloud, create_graph=each) for each in (False, True))
        assert torch.equal(plain, kept)
