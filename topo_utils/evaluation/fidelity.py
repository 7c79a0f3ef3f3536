"""How well generated items match real ones, seen through a network that never saw either."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.evaluation.checks import check_features
from topo_utils.evaluation.frechet import frechet_distance
from topo_utils.seed import generator
from topo_utils.topology.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Float

K = 5  # neighbours that make the radius of an item, as Naeem et al. have it
HALVINGS = 10  # over which the floor's spread is taken


@torch.no_grad()
def feature_distances(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], network: str = "classifier", seed: int = 0
) -> dict[str, float]:
    """Distances and shares of two sets of features, and what a perfect sampler scores at the same number of items.

    One half of the real features is compared with as many generated ones and, for the **floor**, with as many of the other
    half. The halves depend on the seed alone and are the same for all models.

    Parameters
    ----------
    real, generated
        Features of one network, finite; at least six and three.
    network
        Its name, which becomes part of the metrics' names; ``"inception"`` makes a Fréchet distance an FID.

    Returns
    -------
    dict
        ``frechet_<network>`` (:func:`~topo_utils.evaluation.frechet_distance`), or ``fid``; ``…_floor``; ``…_n``, the items
        on each side; ``…_floor_spread``, the standard deviation of the floor from one halving of the real features to
        another. ``kid_<network>`` (:func:`kernel_distance`), its ``…_standard_error``, and the same of its ``…_floor``.
        ``precision_<network>``, ``recall_<network>``, ``density_<network>`` and ``coverage_<network>``
        (:func:`neighbourhoods`) with a ``…_floor`` each.

    Raises
    ------
    TypeError, ValueError
        The features are not as described.
    """
    check_features(real, generated, least=3)
    if len(real) < 6:
        raise ValueError(f"real: wanted at least 6 rows, three for each half, got {len(real)}")
    n = min(len(real) // 2, len(generated))
    first, second = _halves(real, n, generator(seed, "frechet", "real"))
    fake = generated[torch.randperm(len(generated), generator=generator(seed, "frechet", "generated"))[:n]]
    frechet = "fid" if network == "inception" else f"frechet_{network}"
    stream = generator(seed, "frechet", "halvings")
    floors = torch.tensor([frechet_distance(*_halves(real, n, stream)) for _ in range(HALVINGS)])
    metrics = {
        frechet: frechet_distance(first, fake),
        f"{frechet}_floor": frechet_distance(first, second),
        f"{frechet}_floor_spread": floors.std().item(),
        f"{frechet}_n": n,
    }
    for suffix, other in (("", fake), ("_floor", second)):
        distance = kernel_distance(first, other)
        metrics |= dict(zip((f"kid_{network}{suffix}", f"kid_{network}{suffix}_standard_error"), distance, strict=True))
        shares = neighbourhoods(first, other, min(K, n - 1))
        metrics |= {f"{name}_{network}{suffix}": value for name, value in shares.items()}
    return metrics


def statistics_distances(real: dict[str, Tensor], generated: dict[str, Tensor], seed: int = 0) -> dict[str, float]:
    """MMD² of histograms of items, with the kernel exp(-TV² / 2) of their total variation; unbiased.

    The statistics of graphs of You et al., "GraphRNN", ICML 2018, with the kernel of Liao et al., NeurIPS 2019. What such a
    number is depends on the kernel and its bandwidth (O'Bray et al., ICLR 2022): both are fixed here, and the floor, one
    half of the data against the other, is beside it.

    Parameters
    ----------
    real, generated
        :meth:`~topo_utils.datasets.Domain.statistics` of items, ``(n, bins)`` and ``(m, bins)`` by name.

    Returns
    -------
    dict
        ``mmd_<name>``, its ``…_standard_error`` by the jackknife, and the same of the ``…_floor``, at equal numbers.
    """
    metrics = {}
    for name, values in real.items():
        n = min(len(values) // 2, len(generated[name]))
        first, second = _halves(values, n, generator(seed, "statistics", "real"))
        chosen = torch.randperm(len(generated[name]), generator=generator(seed, "statistics", "generated"))[:n]
        for suffix, other in (("", generated[name][chosen]), ("_floor", second)):
            distance = mmd(first.double(), other.double(), total_variation)
            metrics |= dict(zip((f"mmd_{name}{suffix}", f"mmd_{name}{suffix}_standard_error"), distance, strict=True))
    return metrics


def kernel_distance(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"]) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the kernel (x·y / d + 1)³, and its standard error.

    Unbiased, so that it may be negative. Bińkowski et al., "Demystifying MMD GANs", ICLR 2018, equation 4 and section 3:
    with Inception's features the KID. All pairs are used; the error is the jackknife's, over the items of both sides.

    Raises
    ------
    TypeError, ValueError
        The features are not finite, not of one dimension, or fewer than three.
    """
    check_features(real, generated, least=3)
    return mmd(real.double(), generated.double(), lambda x, y: (x @ y.mT / x.shape[1] + 1) ** 3)


def mmd(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], kernel: Callable[[Tensor, Tensor], Tensor]
) -> tuple[float, float]:
    """Squared maximum mean discrepancy over all pairs of different rows, and its standard error by the jackknife."""
    (alone, left), (other, right) = (_within(kernel(each, each)) for each in (x, y))
    between = kernel(x, y)
    value = alone + other - 2 * between.mean()
    errors = []
    for without, rest, pairs in ((left, other, between), (right, alone, between.mT)):
        n, m = pairs.shape
        replicates = without + rest - 2 * (pairs.sum() - pairs.sum(1)) / ((n - 1) * m)
        errors.append((n - 1) / n * (replicates - replicates.mean()).square().sum())
    return value.item(), sum(errors).sqrt().item()


def total_variation(x: Float[Tensor, "n bins"], y: Float[Tensor, "m bins"]) -> Float[Tensor, "n m"]:
    """exp(-TV² / 2) of distributions."""
    return torch.exp(-((torch.cdist(x, y, p=1) / 2) ** 2) / 2)


def neighbourhoods(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], k: int = K) -> dict[str, float]:
    """Precision, recall, density and coverage by balls around the items that reach to their k-th neighbour.

    Kynkäänniemi et al., "Improved precision and recall metric", NeurIPS 2019; Naeem et al., "Reliable fidelity and
    diversity metrics", ICML 2020, equations 2, 3, 5 and 6.

    Returns
    -------
    dict
        ``precision``: share of generated items in the ball of a real one; ``recall``: of real items in the ball of a
        generated one; ``density``: mean number of real balls that a generated item is in, over k; ``coverage``: share of
        real balls that hold a generated item.

    Raises
    ------
    TypeError, ValueError
        The features are not finite, not of one dimension, or not more than k.
    """
    check_count("k", k)
    check_features(real, generated, least=k + 1)
    between = torch.cdist(real.double(), generated.double(), compute_mode="donot_use_mm_for_euclid_dist")
    radius, other = (_reach(each.double(), k) for each in (real, generated))
    inside = between < radius[:, None]
    return {
        "precision": inside.any(0).double().mean().item(),
        "recall": (between < other).any(1).double().mean().item(),
        "density": inside.double().sum(0).mean().item() / k,
        "coverage": inside.any(1).double().mean().item(),
    }


def _halves(real: Tensor, n: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    return real[torch.randperm(len(real), generator=stream)[: 2 * n]].split(n)


def _within(values: Float[Tensor, "n n"]) -> tuple[Tensor, Float[Tensor, " n"]]:
    """Mean over the pairs of different items, and the same without each of them."""
    n, rows = len(values), values.sum(1) - values.diagonal()
    return rows.sum() / (n * (n - 1)), (rows.sum() - 2 * rows) / ((n - 1) * (n - 2))


def _reach(points: Tensor, k: int) -> Float[Tensor, " n"]:
    """Distance of each point to its k-th neighbour."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.kthvalue(k + 1, dim=1).values  # the nearest is the point itself
