"""Out-of-distribution detection by the codes of a VAE, with -ELBO as control and F as the ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from topo_utils.datasets import Dataset
from topo_utils.evaluation import intervals
from topo_utils.evaluation.checks import check_items, check_same_kind
from topo_utils.models.features import Autoencoder, Identity, features_of
from topo_utils.seed import generator
from topo_utils.topology.checks import check_count, check_finite

if TYPE_CHECKING:
    from jaxtyping import Float

K = 10  # neighbours; fixed before any was tried
ITEMS = 1000  # of each set, at most


@torch.no_grad()
def ood_detection(
    model: nn.Module,
    train: Dataset,
    validation: Dataset,
    data: Dataset,
    outliers: Mapping[str, Float[Tensor, "n ..."]],
    features: Autoencoder | Identity,
    seed: int = 0,
    items: int = ITEMS,
) -> dict[str, float]:
    """How well several scores tell test items from outliers, which count as positive. Nothing is fitted to an outlier.

    The scores of a code μ(x): ``knn``, the mean distance to its ten nearest training codes; ``mahalanobis``, with the
    shrunken covariance of Ledoit and Wolf; ``prior``, -log p(μ(x)). As control ``elbo``: -ELBO at one code z ~ q(z|x), less
    what no model could do better, the entropy of grey pixels, lest it find the data set with more grey. ``features_knn``
    and ``features_mahalanobis`` of F(x): what F can do by itself is the ceiling of what a model can have from it.

    Parameters
    ----------
    model
        Has ``encode``, ``parameters_of``, ``likelihood`` and ``prior``; it is put into evaluation mode.
    train, validation, data
        What the model was trained on; what thresholds come from; the test items.
    outliers
        Items by the name of their set, of the shape of the data.
    features
        F. It must not have seen outliers either.
    items
        Most items of each set that are looked at.

    Returns
    -------
    dict
        For each set and score ``ood_<measure>_<score>_<set>`` with the measures ``auroc``, and the ends ``_low`` and
        ``_high`` of its 95 % interval over test items and outliers; ``aupr_out`` and ``aupr_in``,
        the average precision with outliers or test items as the positive ones, at equal numbers; ``fpr95``, the share of
        the outliers that score no higher than 95 % of the validation items do. Where the manifold is known
        ``ood_off_manifold_<set>``, the mean distance of the outliers from it.

    Raises
    ------
    TypeError, ValueError
        Items of another shape than the data, fewer than two of a set, fewer than eleven training items, or a set that is
        named "", "train" or "validation".
    """
    for other in (train, validation):
        check_same_kind(data, other)
    check_count("items", items, 2)
    if len(train) <= K or len(data) < 2:
        raise ValueError(f"train, data: wanted more than {K} and at least 2 items, got {len(train)} and {len(data)}")
    for name, each in outliers.items():
        if name in ("", "train", "validation"):
            raise ValueError(f"outliers: wanted a name of its own for each set, got {name!r}")
        check_items(f"outliers[{name!r}]", each, data.shape, least=2)
    model.eval()
    sets = {"train": train.items, "validation": validation.items, "": data.items, **outliers}
    sets = {name: each if name == "train" else _some(each, items, seed, name) for name, each in sets.items()}
    codes = {name: model.encode(each).mean for name, each in sets.items()}
    seen = {name: features_of(features, each) for name, each in sets.items()}
    scores = {
        "knn": _by_neighbours(codes),
        "mahalanobis": _by_covariance(codes),
        "prior": {name: -model.prior.log_prob(each) for name, each in codes.items() if name != "train"},
        "elbo": {name: negative_elbo(model, each, seed) for name, each in sets.items() if name != "train"},
        "features_knn": _by_neighbours(seen),
        "features_mahalanobis": _by_covariance(seen),
    }
    metrics = {}
    for name in outliers:
        for score, values in scores.items():
            measured = told_apart(*(values[each] for each in ("", name, "validation")))
            metrics |= {f"ood_{measure}_{score}_{name}": value for measure, value in measured.items()}
            metrics |= intervals.of_auroc(f"ood_auroc_{score}_{name}", values[""], values[name], seed)
        if (manifold := getattr(data.domain, "manifold", None)) is not None:
            metrics[f"ood_off_manifold_{name}"] = manifold.distance(sets[name]).mean().item()
    return metrics


def told_apart(
    inside: Float[Tensor, " n"], outside: Float[Tensor, " m"], validation: Float[Tensor, " v"]
) -> dict[str, float]:
    """What scores of test items, outliers and validation items say: ``auroc``, ``aupr_out``, ``aupr_in``, ``fpr95``.

    Raises
    ------
    ValueError
        A score is not a finite number.
    """
    for name, scores in (("inside", inside), ("outside", outside), ("validation", validation)):
        check_finite(name, scores)
    n = min(len(inside), len(outside))  # precision depends on the shares
    equal = np.concatenate([inside[:n].numpy(), outside[:n].numpy()])
    out = np.repeat([0, 1], n)
    return {
        "auroc": float(roc_auc_score(np.repeat([0, 1], [len(inside), len(outside)]), np.concatenate([inside, outside]))),
        "aupr_out": float(average_precision_score(out, equal)),
        "aupr_in": float(average_precision_score(1 - out, -equal)),
        "fpr95": (outside <= validation.quantile(0.95)).float().mean().item(),
    }


def negative_elbo(model: nn.Module, items: Float[Tensor, "n ..."], seed: int = 0) -> Float[Tensor, " n"]:
    """-ELBO of each item in nats at one code, less the least that its reconstruction term can be."""
    posterior = model.encode(items)
    z = posterior.sample(generator(seed, "elbo"))
    reconstruction = model.likelihood.nats(model.parameters_of(z), items) - model.likelihood.least_nats(items)
    return reconstruction + model.prior.kl(posterior, z)


def _some(items: Tensor, most: int, seed: int, name: str) -> Tensor:
    return items[torch.randperm(len(items), generator=generator(seed, "ood", name))[:most]]


def _by_neighbours(points: Mapping[str, Tensor]) -> dict[str, Float[Tensor, " n"]]:
    """Mean distance to the nearest training points."""
    nearest = NearestNeighbors(n_neighbors=K).fit(points["train"].numpy())
    return {
        name: torch.from_numpy(nearest.kneighbors(each.numpy())[0]).mean(1)
        for name, each in points.items()
        if name != "train"
    }


def _by_covariance(points: Mapping[str, Tensor]) -> dict[str, Float[Tensor, " n"]]:
    """Mahalanobis distance from the mean of the training points, squared."""
    fitted = LedoitWolf().fit(points["train"].double().numpy())
    return {
        name: torch.from_numpy(fitted.mahalanobis(each.double().numpy()))
        for name, each in points.items()
        if name != "train"
    }
