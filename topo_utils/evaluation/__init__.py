"""What a trained model is worth: every metric of the comparison table, from one call."""

from __future__ import annotations

import torch

from topo_utils.datasets import Dataset
from topo_utils.evaluation.frechet import frechet_distance
from topo_utils.evaluation.interpolation import cycle_error, linear_path
from topo_utils.evaluation.masks import betti_scores
from topo_utils.evaluation.reconstruction import reconstruction
from topo_utils.evaluation.samples import sample_quality
from topo_utils.evaluation.topology import bottleneck_distances
from topo_utils.models.diffusion import Diffusion
from topo_utils.models.features import Autoencoder, Classifier, Identity, features_of
from topo_utils.models.vae import VAE
from topo_utils.seed import generator
from topo_utils.topology.checks import check_count

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


@torch.no_grad()
def sample(
    model: VAE | Diffusion, count: int, seed: int = 0, condition: torch.Tensor | None = None, device: str = "cpu"
) -> torch.Tensor:
    """New items ``(count, ...)``: mean items G(z) of codes z ~ N(0, I), or what a diffusion model makes of noise.

    Parameters
    ----------
    condition
        Class of each item ``(count,)``, for a diffusion model that was made with classes.
    device
        Where they are made. Noise is drawn on the CPU, so that it is the same everywhere; items and model come back to it.

    Raises
    ------
    TypeError, ValueError
        A count below 1; a condition that the model does not take, or that is not one class for each item.
    """
    check_count("count", count)
    shape = getattr(condition, "shape", None)
    if condition is not None and (not isinstance(model, Diffusion) or shape != (count,)):
        raise ValueError(
            f"condition: wanted one class for each of {count} items of a diffusion model, "
            f"got {condition if shape is None else tuple(shape)} for a {type(model).__name__}"
        )
    stream = generator(seed, "samples")
    model.to(device)
    try:
        if not isinstance(model, Diffusion):
            return model.decode(torch.randn(count, model.latent_dimension, generator=stream).to(device)).cpu()
        made = []
        for part in torch.arange(count).split(500):
            asked = None if condition is None else condition[part].to(device)
            made.append(model.sample(len(part), stream, condition=asked).cpu())
        return torch.cat(made)
    finally:
        model.cpu()


@torch.no_grad()
def evaluate(
    model: VAE, data: Dataset, train: Dataset, features: Autoencoder | Identity, judge: Classifier | None, seed: int = 0
) -> dict[str, float]:
    """All metrics of a VAE on one split; keys and meanings in :data:`topo_utils.runs.DESCRIPTIONS`.

    As many samples are drawn as there are items. The model is put into evaluation mode.
    """
    model.eval()
    return {
        **reconstruction(model, data.items),
        "interpolation_cycle_error": cycle_error(model, data.items, seed=seed),
        **evaluate_samples(sample(model, len(data), seed), data, train, features, judge, seed),
    }


@torch.no_grad()
def evaluate_samples(
    samples: torch.Tensor,
    data: Dataset,
    train: Dataset,
    features: Autoencoder | Identity,
    judge: Classifier | None,
    seed: int = 0,
) -> dict[str, float]:
    """All metrics of generated items against one split; those of a judge only where there is one."""
    metrics = sample_quality(samples, data, train)
    if judge is not None:
        real_features, sample_features = features_of(judge, data.items), features_of(judge, samples)
        half = len(data) // 2
        metrics |= {
            "frechet_classifier": frechet_distance(real_features, sample_features),
            "frechet_classifier_floor": frechet_distance(real_features[:half], real_features[half:]),
            "confident_samples": (judge(samples).softmax(1).amax(1) >= 0.9).float().mean().item(),
        }
    clouds = features_of(features, data.items), features_of(features, samples)
    return metrics | bottleneck_distances(*clouds, min(128, len(data) // 2, len(samples)), seed=seed)
