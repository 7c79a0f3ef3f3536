"""What of the data's neighbourhoods a latent space keeps: the measures of the topological autoencoders, and classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from topo_utils.datasets import Dataset
from topo_utils.evaluation.checks import check_same_kind
from topo_utils.seed import generator
from topo_utils.topology.checks import check_cloud, check_count

if TYPE_CHECKING:
    from jaxtyping import Float

K = 10  # neighbours
BANDWIDTHS = (1, 10, 100)  # σ of the densities, in percent
ITEMS = 1000  # at most, for distances between all


@torch.no_grad()
def latent_quality(model: nn.Module, data: Dataset, train: Dataset, seed: int = 0) -> dict[str, float]:
    """What codes μ(x) of at most 1,000 test items keep of their neighbourhoods and classes.

    Measures are those of :func:`neighbourhoods_kept`, and ``knn_accuracy``: how often the majority of the ten nearest
    training codes has the class of a test item. The accuracy is there where test items have several classes that training
    items have, too; the neighbourhoods, where there are more than 20 test items.

    Raises
    ------
    ValueError
        ``train`` of another kind than ``data``.
    """
    check_same_kind(data, train)
    model.eval()
    chosen = torch.randperm(len(data), generator=generator(seed, "neighbours"))[:ITEMS]
    x, codes = data.items[chosen].flatten(1), model.encode(data.items[chosen]).mean
    metrics = neighbourhoods_kept(x, codes) if len(x) > 2 * K else {}
    classes = set(data.labels.tolist())
    if len(classes) > 1 and classes <= set(train.labels.tolist()) and len(train) >= K:
        nearest = KNeighborsClassifier(K).fit(model.encode(train.items).mean.numpy(), train.labels.numpy())
        metrics["knn_accuracy"] = float(nearest.score(codes.numpy(), data.labels[chosen].numpy()))
    return metrics


@torch.no_grad()
def neighbourhoods_kept(x: Float[Tensor, "n d"], z: Float[Tensor, "n c"], k: int = K) -> dict[str, float]:
    """Measures of an embedding, as in section 5.1 and appendix A.2 of Moor et al., "Topological autoencoders", ICML 2020.

    Parameters
    ----------
    x, z
        Points and their codes, finite.
    k
        Neighbours, fewer than half the points.

    Returns
    -------
    dict
        ``trustworthiness`` and ``continuity`` (Venna & Kaski 2001; the latter is the former with the roles exchanged), 1 at
        best; ``mrre_data`` and ``mrre_latent``, the mean relative rank errors (Lee & Verleysen 2009) of the neighbours in
        the data and of those among the codes, 0 at best; ``density_kl_<percent>``, D_KL of the densities
        Σ_j exp(-d(i, j)² / σ), distances over their largest, of the data from that of the codes in nats, σ in percent.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    check_count("k", k)
    for name, points in (("x", x), ("z", z)):
        check_cloud(name, points)
    if x.ndim != 2 or z.ndim != 2 or len(x) != len(z) or len(x) <= 2 * k:
        raise ValueError(f"x and z: wanted as many rows, more than {2 * k}, got {tuple(x.shape)} and {tuple(z.shape)}")
    distances = [torch.cdist(each.double(), each.double()) for each in (x, z)]
    ranks = [each.fill_diagonal_(-1).argsort(dim=1, stable=True).argsort(1) for each in distances]  # 0 is the point itself
    for each in distances:
        each.fill_diagonal_(0)
    worst = len(x) * sum(abs(2 * j - len(x) - 1) / j for j in range(1, k + 1))
    return {
        "trustworthiness": float(trustworthiness(x.numpy(), z.numpy(), n_neighbors=k)),
        "continuity": float(trustworthiness(z.numpy(), x.numpy(), n_neighbors=k)),
        "mrre_data": _rank_error(*ranks, k) / worst,
        "mrre_latent": _rank_error(*ranks[::-1], k) / worst,
        **{f"density_kl_{percent}": _density_kl(*distances, percent / 100) for percent in BANDWIDTHS},
    }


def _rank_error(of: Tensor, other: Tensor, k: int) -> float:
    """Σ |ρ_ij - r_ij| / r_ij over the k neighbours j of each i by the ranks r, which have the rank ρ by the others."""
    near = (of >= 1) & (of <= k)
    return ((other - of).abs()[near] / of[near]).sum().item()


def _density_kl(data: Tensor, latent: Tensor, sigma: float) -> float:
    largest = (each.max().clamp(min=torch.finfo(each.dtype).tiny) for each in (data, latent))
    p, q = (torch.exp(-((each / most) ** 2) / sigma).sum(1) for each, most in zip((data, latent), largest, strict=True))
    p, q = p / p.sum(), q / q.sum()
    return (p * (p / q).log()).sum().item()
