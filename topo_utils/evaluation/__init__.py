"""What a trained model is worth: every metric of the comparison table, from one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.datasets import Dataset
from topo_utils.evaluation.autoencoding import reconstruction
from topo_utils.evaluation.checks import check_items, check_same_kind
from topo_utils.evaluation.frechet import frechet_distance
from topo_utils.evaluation.interpolation import cycle_error, linear_path
from topo_utils.evaluation.masks import betti_scores
from topo_utils.evaluation.samples import sample, sample_quality
from topo_utils.evaluation.topology import bottleneck_distances
from topo_utils.models.features import Autoencoder, Classifier, Identity, features_of
from topo_utils.models.priors import Aggregate
from topo_utils.seed import generator

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = [
    "betti_scores",
    "bottleneck_distances",
    "cycle_error",
    "evaluate",
    "evaluate_samples",
    "frechet_distance",
    "linear_path",
    "reconstruction",
    "sample",
    "sample_quality",
]

COMPONENTS = 10  # Gaussians of the density that is fitted to the codes, as in Ghosh et al., ICLR 2020
CLOUD = 128  # features in a cloud of the bottleneck distances, where there are as many


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Dataset,
    train: Dataset,
    features: Autoencoder | Identity,
    judge: Classifier | None,
    seed: int = 0,
) -> dict[str, float]:
    """All metrics of a VAE, or another model with ``encode``, ``decode`` and ``sample``, on one split.

    As many samples are drawn as there are items: from the model's own prior; and, where it states a ``prior``, once more
    from a density fitted to the codes of the training items (:class:`~topo_utils.models.priors.Aggregate`): the names of
    those metrics end in ``_aggregate``. The model is put into evaluation mode. Names and meanings of the metrics are in
    :data:`topo_utils.metrics.METRICS`; errors are those of :func:`evaluate_samples`.
    """
    _check_data(data, train)
    model.eval()
    metrics = {
        **reconstruction(model, data.items, seed),
        "interpolation_cycle_error": cycle_error(model, data.items, seed=seed),
        **evaluate_samples(sample(model, len(data), seed), data, train, features, judge, seed),
    }
    if getattr(model, "prior", None) is None:
        return metrics
    density = Aggregate.fit(model, train.items, min(COMPONENTS, len(train) // 2), seed)
    fitted = evaluate_samples(sample(model, len(data), seed, density=density), data, train, features, judge, seed)
    of_samples = {name: value for name, value in fitted.items() if "_floor" not in name and not name.endswith("_n")}
    return metrics | {f"{name}_aggregate": value for name, value in of_samples.items()}


@torch.no_grad()
def evaluate_samples(
    samples: Float[Tensor, "m ..."],
    data: Dataset,
    train: Dataset,
    features: Autoencoder | Identity,
    judge: Classifier | None,
    seed: int = 0,
) -> dict[str, float]:
    """All metrics of generated items against one split; those of a judge only where there is one.

    Raises
    ------
    TypeError, ValueError
        Samples of another shape or type than the data, fewer than two, or with values that are not finite; fewer than four
        items of data; ``train`` of another kind than ``data``. Nothing has been computed then.
    """
    _check_data(data, train)
    check_items("samples", samples, data.shape, least=2)
    samples = samples.detach().cpu()
    metrics = sample_quality(samples, data, train)
    if judge is not None:
        metrics |= _frechet(features_of(judge, data.items), features_of(judge, samples), seed)
        metrics["confident_samples"] = (judge(samples).softmax(1).amax(1) >= 0.9).float().mean().item()
    clouds = features_of(features, data.items), features_of(features, samples)
    return metrics | bottleneck_distances(*clouds, min(CLOUD, len(data) // 2, len(samples)), seed=seed)


def _frechet(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], seed: int) -> dict[str, float]:
    """The distance of one half of the real features to as many samples, and the floor: to as many of the other half.

    The bias depends on n, which is the same on all sides. The halves are the same for all models.
    """
    n = min(len(real) // 2, len(generated))
    first, second = real[torch.randperm(len(real), generator=generator(seed, "frechet", "real"))[: 2 * n]].split(n)
    fake = generated[torch.randperm(len(generated), generator=generator(seed, "frechet", "generated"))[:n]]
    return {
        "frechet_classifier": frechet_distance(first, fake),
        "frechet_classifier_floor": frechet_distance(first, second),
        "frechet_classifier_n": n,
    }


def _check_data(data: Dataset, train: Dataset) -> None:
    check_same_kind(data, train)
    if len(data) < 4:
        raise ValueError(f"data: wanted at least 4 items, two for each half, got {len(data)}")
