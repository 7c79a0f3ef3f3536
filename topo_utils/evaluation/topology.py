"""Distances between the persistence diagrams of real and generated clouds."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.evaluation.checks import check_features
from topo_utils.seed import generator
from topo_utils.topology import (
    Diagram,
    bottleneck,
    landscape,
    neighbour_graph,
    pairwise_distances,
    persistent_homology,
    rips,
    sliced_wasserstein,
    wasserstein,
)
from topo_utils.topology.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Float


DISTANCES = {  # by the name that their metrics have
    "bottleneck": bottleneck,
    "wasserstein1": lambda x, y: wasserstein(x, y, 1).item(),
    "wasserstein2": lambda x, y: wasserstein(x, y, 2).item(),
}
HALVINGS, CLOUDS, GRID = 10, 30, 512  # of the energy form


@torch.no_grad()
def diagram_distances(
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "m d"],
    cloud_size: int = 128,
    draws: int = 100,
    seed: int = 0,
    floors: bool = True,
) -> dict[str, float]:
    """Distances of persistence diagrams, H0 and H1, between random clouds of real and of generated features; their floors.

    Bottleneck and Wasserstein distances of order 1 and 2, see :mod:`topo_utils.topology.distances`. Each draw takes two
    disjoint real clouds and one generated cloud, and compares the first real one with the other two.
    The real clouds depend on the real features and the seed alone: all models are measured by the same. The **floor** is
    the distance of the two real clouds: what a perfect sampler scores, in the mean. It is no lower bound, for samples of
    less variety than the data can have diagrams that are nearer to those of real clouds than real ones are to each other;
    :func:`landscape_energy` has no such flaw.

    A standard error is that of the mean over the draws, for these features: the standard deviation of the draws by √draws.
    That there are only so many features, of which the draws take overlapping clouds, and that a model was trained once, is
    not in it. The distance and its floor share real clouds, so that their difference is known better than either.

    Parameters
    ----------
    real, generated
        Features, finite, of one dimension.
    cloud_size
        Features in a cloud, from 2 to half the real ones and all the generated ones. The distances depend on it.
    draws
        Number of draws, at least 2.
    seed
        Of the streams that draw the real clouds and the generated ones.
    floors
        With the floors, which depend on the real features alone, and on the seed.

    Returns
    -------
    dict
        For ``bottleneck``, ``wasserstein1`` and ``wasserstein2`` in the place of ``<name>``, means over the draws:
        ``<name>_h0``, ``<name>_h1``, ``<name>_h0_floor``, ``<name>_h1_floor``; for each its ``..._standard_error``; and
        ``bottleneck_n``, the size of the clouds.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    _check(real, generated, cloud_size)
    check_count("draws", draws, 2)
    first, second = _drawn(len(real), 2 * cloud_size, draws, generator(seed, "bottleneck", "real")).split(cloud_size, dim=1)
    fake = _drawn(len(generated), cloud_size, draws, generator(seed, "bottleneck", "generated"))
    clouds = {"": generated[fake]} | ({"_floor": real[second]} if floors else {})
    metrics = {}
    for h, (diagrams, *others) in enumerate(zip(*map(_diagrams, (real[first], *clouds.values())), strict=True)):
        for (name, distance), (suffix, compared) in product(DISTANCES.items(), zip(clouds, others, strict=True)):
            pairs = zip(_single(diagrams), _single(compared), strict=True)
            distances = torch.tensor([distance(*pair) for pair in pairs], dtype=torch.float64)
            metrics[f"{name}_h{h}{suffix}"] = distances.mean().item()
            metrics[f"{name}_h{h}{suffix}_standard_error"] = distances.std().item() / math.sqrt(draws)
    return {**metrics, "bottleneck_n": cloud_size}


@torch.no_grad()
def landscape_energy(
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "m d"],
    cloud_size: int = 128,
    seed: int = 0,
    floors: bool = True,
) -> dict[str, float]:
    """The energy form 2 L(X, Y) - L(X, X') - L(Y, Y') of the squared distance of landscapes, H0 and H1; and its floor.

    Of independent clouds E‖λ_X - λ_Y‖² = Var λ_X + Var λ_Y + ‖E λ_X - E λ_Y‖²: clouds of one distribution are at a
    distance, and samples of little variety come below it. The energy form is 2 ‖E λ_X - E λ_Y‖², zero exactly where the
    mean landscapes agree (Székely & Rizzo, J. Stat. Plan. Inference 143, 2013, of energy distances). The estimate from n
    clouds of each is unbiased, and so may be negative.

    The real features are halved ten times; clouds of one half are compared with clouds of as many generated features, and,
    for the floor, with clouds of the other half. Clouds of one half have points in common, so that what is left of the
    variance by which halves differ makes even the floor positive.

    Returns
    -------
    dict
        ``landscape_energy_h0``, ``landscape_energy_h1``, the means over the halvings, their ``..._floor``, and for each the
        ``..._standard_error``, the standard deviation of the halvings by √10.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, see :func:`diagram_distances`.
    """
    _check(real, generated, cloud_size)
    size = min(len(real) // 2, len(generated))
    stream, other = generator(seed, "energy", "real"), generator(seed, "energy", "generated")
    found: dict[str, list[float]] = {}
    for _ in range(HALVINGS):
        halves = real[torch.randperm(len(real), generator=stream)[: 2 * size]].split(size)
        fake = generated[torch.randperm(len(generated), generator=other)[:size]]
        first, second = (half[_drawn(size, cloud_size, CLOUDS, stream)] for half in halves)
        clouds = {"": fake[_drawn(size, cloud_size, CLOUDS, other)]} | ({"_floor": second} if floors else {})
        for h, (wanted, *others) in enumerate(zip(*map(_diagrams, (first, *clouds.values())), strict=True)):
            for suffix, compared in zip(clouds, others, strict=True):
                found.setdefault(f"landscape_energy_h{h}{suffix}", []).append(_energy(*_curves(wanted, compared)))
    return _with_errors(found)


@torch.no_grad()
def graph_distances(
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "m d"],
    points: int = 5000,
    neighbours: int = 15,
    draws: int = 5,
    seed: int = 0,
) -> dict[str, float]:
    """Distances of the diagrams of thousands of real and generated features at once, by neighbour graphs; their floors.

    The clouds of :func:`diagram_distances` are small, and their floor is as large as the differences that are sought. Here
    each draw takes two disjoint sets of real features and one of generated ones, as large as can be, and compares the
    diagrams of their graphs by the sliced Wasserstein distance, a point. Bars that never die end where the last edge of
    the three graphs enters.

    Parameters
    ----------
    real, generated
        Features, finite, of one dimension.
    points
        Features in a graph, at most; no more than half the real ones and all the generated ones are taken.
    neighbours
        Of each point, see :func:`~topo_utils.topology.neighbour_graph`; fewer than there are points.
    draws
        Number of draws, at least 2.
    seed
        Of the streams that draw real and generated features.

    Returns
    -------
    dict
        ``graph_h0``, ``graph_h1``, their ``..._floor``, for each its ``..._standard_error`` (of draws from these features:
        where they are all taken, of how they are halved); and ``graph_n``, the number of points.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    check_features(real, generated)
    check_count("points", points, 2)
    check_count("draws", draws, 2)
    size = min(points, len(real) // 2, len(generated))
    check_count("neighbours", neighbours, below=max(size, 2))
    stream, other = generator(seed, "graphs", "real"), generator(seed, "graphs", "generated")
    found: dict[str, list[float]] = {}
    for _ in range(draws):
        first, second = real[_drawn(len(real), 2 * size, 1, stream)[0]].split(size)
        clouds = {"": generated[_drawn(len(generated), size, 1, other)[0]], "_floor": second}
        graphs = [neighbour_graph(cloud, neighbours) for cloud in (first, *clouds.values())]
        end = max(float(graph.weights.max()) for graph in graphs)
        wanted, *others = (persistent_homology(graph, essential="cap", end=end) for graph in graphs)
        for suffix, compared in zip(clouds, others, strict=True):
            for h, pair in enumerate(zip(wanted, compared, strict=True)):
                found.setdefault(f"graph_h{h}{suffix}", []).append(sliced_wasserstein(*pair).item() / size)
    return _with_errors(found) | {"graph_n": size}


def _with_errors(found: dict[str, list[float]]) -> dict[str, float]:
    """Means over the draws, and their standard errors."""
    values = {name: torch.tensor(each, dtype=torch.float64) for name, each in found.items()}
    errors = {f"{name}_standard_error": each.std().item() / math.sqrt(len(each)) for name, each in values.items()}
    return {name: each.mean().item() for name, each in values.items()} | errors


def _diagrams(clouds: Float[Tensor, "clouds n d"]) -> list[Diagram]:
    return persistent_homology(rips(pairwise_distances(clouds)))


def _curves(*diagrams: Diagram) -> list[Float[Tensor, "clouds values"]]:
    """Landscapes of batches on one grid that all bars lie in, scaled so that a plain sum of squares is an integral."""
    last = max(float(each.points.amax()) if each.points.numel() else 0.0 for each in diagrams)
    grid = torch.linspace(0, last or 1.0, GRID, dtype=torch.float64)
    levels = max(1, *(each.points.shape[-2] for each in diagrams))
    return [landscape(each, grid, levels).double().flatten(1) * grid[1].sqrt() for each in diagrams]


def _energy(x: Float[Tensor, "n values"], y: Float[Tensor, "m values"]) -> float:
    """2 E‖x - y‖² - E‖x - x'‖² - E‖y - y'‖² over all pairs of different rows."""
    apart = (x.mean(0) - y.mean(0)).square().sum()
    spreads = [(each - each.mean(0)).square_().sum() / (len(each) - 1) for each in (x, y)]
    return 2 * (apart - spreads[0] / len(x) - spreads[1] / len(y)).item()


def _check(real: Tensor, generated: Tensor, cloud_size: int) -> None:
    check_features(real, generated)
    check_count("cloud_size", cloud_size, 2)
    if len(real) < 2 * cloud_size or len(generated) < cloud_size:
        raise ValueError(
            f"cloud_size: wanted at most half the {len(real)} real and all the {len(generated)} generated features, "
            f"got {cloud_size}"
        )


def _drawn(count: int, size: int, draws: int, stream: torch.Generator) -> Tensor:
    """Indices of ``size`` of ``count`` things without repetition, ``(draws, size)``."""
    return torch.stack([torch.randperm(count, generator=stream)[:size] for _ in range(draws)])


def _single(diagrams: Diagram) -> list[Diagram]:
    """The diagrams of a batch, one by one."""
    return [Diagram(points, mask) for points, mask in zip(*diagrams, strict=True)]
