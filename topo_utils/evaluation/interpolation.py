"""Interpolation in latent space."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.datasets import Dataset
from topo_utils.evaluation import intervals
from topo_utils.evaluation.checks import check_items, check_same_kind
from topo_utils.evaluation.geodesics import at_equal_lengths, geodesics, lengths, straight
from topo_utils.models.features import Autoencoder, Classifier, Identity, features_of
from topo_utils.seed import generator
from topo_utils.topology import TopologicalLoss
from topo_utils.topology.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Float


def linear_path(start: Float[Tensor, "n d"], end: Float[Tensor, "n d"], steps: int) -> Float[Tensor, "n steps d"]:
    """Straight lines from ``start`` to ``end``, both ends included; steps >= 2."""
    if start.shape != end.shape or start.ndim != 2:
        raise ValueError(f"start and end: wanted the same shape (n, d), got {tuple(start.shape)} and {tuple(end.shape)}")
    check_count("steps", steps, 2)
    t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    return start[:, None] * (1 - t) + end[:, None] * t


@torch.no_grad()
def cycle_error(model: nn.Module, items: Float[Tensor, "n ..."], pairs: int = 200, steps: int = 11, seed: int = 0) -> float:
    """Mean of ‖x_t - G(E(x_t))‖² over the inner points x_t of linear latent paths between random pairs of items.

    How far the decoded path is from what the model can reproduce. A model whose images are all alike scores well, so read
    it beside the reconstruction error.

    Parameters
    ----------
    model
        Has ``encode``, which gives a posterior with a ``mean``, and ``decode``.
    items
        Items to draw the ends from, at least two, finite.
    pairs
        Number of paths.
    steps
        Points a path, the ends included; at least three.

    Returns
    -------
    float
        Squared error summed over the pixels.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    check_items("items", items, tuple(items.shape[1:]), least=2)
    check_count("pairs", pairs)
    check_count("steps", steps, 3)
    starts, ends = _pairs(len(items), pairs, seed)
    codes = model.encode(items).mean
    path = linear_path(codes[starts], codes[ends], steps)[:, 1:-1]
    return _cycles(model, model.decode(path.flatten(0, 1))).mean().item()


PAIRS = 64  # paths, and points of the clouds that they make
STEPS = 9  # points a path at equal distances, the ends included
CLOUDS = 20  # of real items, for the mean landscape


@torch.no_grad()
def interpolation_quality(
    model: nn.Module,
    data: Dataset,
    train: Dataset,
    features: Autoencoder | Identity,
    judge: Classifier | None = None,
    seed: int = 0,
    pairs: int = PAIRS,
) -> dict[str, float]:
    """The Interpolation Quality Index and what keeps it honest, on linear and on geodesic latent paths.

    Paths join the codes μ(x), μ(x') of random pairs of items; the pairs depend on the seed alone. Both kinds are looked at
    where they divide the decoded curve into parts of equal length, and without their ends.

    Parameters
    ----------
    model
        Has ``encode``, which gives a posterior with a ``mean``, and ``decode``. It is put into evaluation mode.
    data
        Items to join, at least four.
    train
        Real items; with a judge, the nearest of them to a point of a path is sought in its features.
    features
        F, in which the shape of the paths is compared with that of the data.
    pairs
        Number of paths; fewer, where there are not twice as many items.

    Returns
    -------
    dict
        For ``linear`` and ``geodesic`` in the place of ``<kind>``:

        - ``iqi_<kind>``: the mean cycle error ‖x_t - G(μ(x_t))‖² over the model's own reconstruction error of these items,
          with the ends ``_low`` and ``_high`` of its 95 % interval over the paths, that error being given.
          A model whose images are all alike scores well, hence what follows;
        - ``path_<kind>_nearest``, with a judge: mean distance of x_t to the nearest training item in the judge's features,
          over what test items have (then 1 is as near as real ones);
        - ``path_<kind>_off_manifold``, where the manifold is known: mean distance from it;
        - ``path_<kind>_topological``: squared distance, H0 and H1 together, of the landscape of the cloud
          {F(x_t)} of all paths at one t from the mean landscape of real clouds of that size, scale-free, the mean over t;
          ``path_topological_floor``: the same of other real clouds;
        - ``path_length_ratio``: length of the geodesic over that of the line, in the data, the mean over the pairs.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    check_items("data", data.items, data.shape, least=4)
    check_same_kind(data, train)
    check_count("pairs", pairs, 2)
    model.eval()
    pairs = min(pairs, len(data) // 2)
    starts, ends = _pairs(len(data), pairs, seed)
    codes = model.encode(data.items).mean
    curves = {
        "linear": straight(codes[starts], codes[ends]),
        "geodesic": geodesics(model.decode, codes[starts], codes[ends]),
    }
    ratio = lengths(model.decode, curves["geodesic"]) / lengths(model.decode, curves["linear"])
    ends_of = data.items[torch.cat([starts, ends]).unique()]
    own = _cycles(model, ends_of).mean().clamp(min=torch.finfo(torch.float32).tiny)
    nearest = None if judge is None else _to_the_nearest(judge, data, train)
    shape, floor = _shape(data, features, pairs, seed)
    metrics = {"path_length_ratio": ratio.mean().item(), "path_topological_floor": floor}
    for kind, each in curves.items():
        inner = at_equal_lengths(model.decode, each, STEPS)[:, 1:-1].transpose(0, 1)  # a cloud of all paths at each t
        decoded = model.decode(inner.flatten(0, 1))
        cycles = _cycles(model, decoded).view(STEPS - 2, pairs).mean(0) / own
        metrics |= {f"iqi_{kind}": cycles.mean().item(), **intervals.of_mean(f"iqi_{kind}", cycles, seed)}
        if nearest is not None:
            metrics[f"path_{kind}_nearest"] = nearest(decoded)
        if (manifold := getattr(data.domain, "manifold", None)) is not None:
            metrics[f"path_{kind}_off_manifold"] = manifold.distance(decoded).mean().item()
        metrics[f"path_{kind}_topological"] = shape(features_of(features, decoded).view(STEPS - 2, pairs, -1))
    return metrics


def _pairs(count: int, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of pairs of different items."""
    stream = generator(seed, "interpolation")
    starts = torch.randint(count, (pairs,), generator=stream)
    return starts, (starts + torch.randint(1, count, (pairs,), generator=stream)) % count


def _cycles(model: nn.Module, items: Tensor) -> Float[Tensor, " n"]:
    """‖x - G(μ(x))‖²."""
    return (items - model.decode(model.encode(items).mean)).square().flatten(1).sum(1)


def _to_the_nearest(judge: Classifier, data: Dataset, train: Dataset) -> Callable[[Tensor], float]:
    """Mean distance of items to the nearest training item in the judge's features, that of the data's own items being 1."""
    known = features_of(judge, train.items)

    def distance(items: Tensor) -> float:
        return torch.cdist(features_of(judge, items), known).amin(1).mean().item()

    unit = distance(data.items)
    if not unit:
        raise ValueError("data: wanted other items than those of train, got only such as are there, too")
    return lambda items: distance(items) / unit


def _shape(
    data: Dataset, features: Autoencoder | Identity, size: int, seed: int
) -> tuple[Callable[[Float[Tensor, "clouds size d"]], float], float]:
    """What tells how far clouds are from the mean landscape of real ones, and the distance of other real clouds."""
    stream = generator(seed, "interpolation", "clouds")
    chosen = torch.stack([torch.randperm(len(data), generator=stream)[:size] for _ in range(2 * CLOUDS)])
    clouds, others = features_of(features, data.items)[chosen].split(CLOUDS)
    loss = TopologicalLoss(scale_free=True).fit(clouds)
    means = [vector.mean(0) for vector in loss.vectors(clouds)]

    def distance(points: Tensor) -> float:
        return loss([mean.expand(len(points), *mean.shape) for mean in means], points).item()

    return distance, distance(others)
