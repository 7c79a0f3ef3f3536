"""What a trained model is worth: every metric of the comparison table, from one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.datasets import Dataset
from topo_utils.evaluation.attacks import attack_success
from topo_utils.evaluation.autoencoding import reconstruction
from topo_utils.evaluation.checks import check_items, check_same_kind
from topo_utils.evaluation.fidelity import feature_distances, kernel_distance, neighbourhoods, statistics_distances
from topo_utils.evaluation.frechet import frechet_distance
from topo_utils.evaluation.interpolation import cycle_error, interpolation_quality, linear_path
from topo_utils.evaluation.masks import betti_scores
from topo_utils.evaluation.neighbours import latent_quality, neighbourhoods_kept
from topo_utils.evaluation.ood import ood_detection
from topo_utils.evaluation.samples import sample, sample_quality
from topo_utils.evaluation.topology import diagram_distances, graph_distances, landscape_energy
from topo_utils.models.features import Autoencoder, Classifier, Identity, features_of
from topo_utils.models.inception import Inception
from topo_utils.models.priors import Aggregate

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = [
    "attack_success",
    "betti_scores",
    "cycle_error",
    "diagram_distances",
    "evaluate",
    "evaluate_samples",
    "feature_distances",
    "frechet_distance",
    "graph_distances",
    "interpolation_quality",
    "kernel_distance",
    "landscape_energy",
    "latent_quality",
    "linear_path",
    "neighbourhoods",
    "neighbourhoods_kept",
    "ood_detection",
    "reconstruction",
    "sample",
    "sample_quality",
    "statistics_distances",
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
    inception: Inception | None = None,
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
        **evaluate_samples(sample(model, len(data), seed), data, train, features, judge, seed, inception),
    }
    if getattr(model, "prior", None) is None:
        return metrics
    density = Aggregate.fit(model, train.items, min(COMPONENTS, len(train) // 2), seed)
    drawn = sample(model, len(data), seed, density=density)
    fitted = evaluate_samples(drawn, data, train, features, judge, seed, inception, floors=False)
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
    inception: Inception | None = None,
    floors: bool = True,
) -> dict[str, float]:
    """All metrics of generated items against one split; those of a judge only where there is one.

    Without ``floors`` those of the distances between diagrams are left out: they take half of the time and are the same for
    all samples.

    Raises
    ------
    TypeError, ValueError
        Samples of another shape or type than the data, fewer than three, or with values that are not finite; fewer than six
        items of data; ``train`` of another kind than ``data``. Nothing has been computed then.
    """
    _check_data(data, train)
    check_items("samples", samples, data.shape, least=3)
    samples = samples.detach().cpu()
    statistics = (data.domain.statistics(items) for items in (data.items, samples))
    metrics = sample_quality(samples, data, train) | statistics_distances(*statistics, seed)
    if judge is not None:
        metrics |= feature_distances(features_of(judge, data.items), features_of(judge, samples), seed=seed)
        metrics["confident_samples"] = (judge(samples).softmax(1).amax(1) >= 0.9).float().mean().item()
    if inception is not None:
        metrics |= feature_distances(features_of(inception, data.items), features_of(inception, samples), "inception", seed)
    clouds = features_of(features, data.items), features_of(features, samples)
    size = min(CLOUD, len(data) // 2, len(samples))
    metrics |= diagram_distances(*clouds, size, seed=seed, floors=floors)
    return metrics | landscape_energy(*clouds, size, seed=seed, floors=floors)


def _check_data(data: Dataset, train: Dataset) -> None:
    check_same_kind(data, train)
    if len(data) < 6:
        raise ValueError(f"data: wanted at least 6 items, three for each half, got {len(data)}")
