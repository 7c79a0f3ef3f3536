"""What a trained model is worth: every metric of the comparison table, from one call."""

from __future__ import annotations

import torch

from topo_utils.datasets import Dataset
from topo_utils.evaluation.frechet import frechet_distance
from topo_utils.evaluation.interpolation import cycle_error, linear_path
from topo_utils.evaluation.reconstruction import reconstruction
from topo_utils.evaluation.topology import bottleneck_distances
from topo_utils.models.features import Autoencoder, Classifier
from topo_utils.models.vae import VAE
from topo_utils.seed import generator

__all__ = [
    "DESCRIPTIONS",
    "bottleneck_distances",
    "cycle_error",
    "evaluate",
    "frechet_distance",
    "linear_path",
    "reconstruction",
    "sample",
]

#: What each metric is, for tables.
DESCRIPTIONS = {
    "reconstruction_error": "reconstruction error, squared, per image (lower is better)",
    "reconstruction_nats": "reconstruction term, nats (lower)",
    "kl": "KL to the prior, nats",
    "active_units": "active latent dimensions",
    "interpolation_cycle_error": "cycle error on linear latent paths (lower)",
    "frechet_classifier": "Fréchet digit-classifier distance of samples (lower)",
    "frechet_classifier_floor": "… its floor: two halves of the real data",
    "confident_samples": "samples the judge is ≥ 90 % sure of, share",
    "bottleneck_h0": "bottleneck distance data-samples, H0 (lower)",
    "bottleneck_h0_floor": "… its floor: two clouds of real data, H0",
    "bottleneck_h1": "bottleneck distance data-samples, H1 (lower)",
    "bottleneck_h1_floor": "… its floor: two clouds of real data, H1",
}


@torch.no_grad()
def sample(model: VAE, count: int, seed: int = 0) -> torch.Tensor:
    """Mean images G(z) of ``count`` codes z ~ N(0, I), ``(count, channels, height, width)``."""
    return model.decode(torch.randn(count, model.latent_dimension, generator=generator(seed, "samples")))


@torch.no_grad()
def evaluate(model: VAE, data: Dataset, features: Autoencoder, judge: Classifier, seed: int = 0) -> dict[str, float]:
    """All metrics of a model on one split; keys and meanings in :data:`DESCRIPTIONS`.

    As many samples are drawn as there are items. The model is put into evaluation mode.
    """
    model.eval()
    samples = sample(model, len(data), seed)
    real_features, sample_features = judge.features(data.items), judge.features(samples)
    half = len(data) // 2
    cloud_size = min(128, len(data) // 2)
    return {
        **reconstruction(model, data.items),
        "interpolation_cycle_error": cycle_error(model, data.items, seed=seed),
        "frechet_classifier": frechet_distance(real_features, sample_features),
        "frechet_classifier_floor": frechet_distance(real_features[:half], real_features[half:]),
        "confident_samples": (judge(samples).softmax(1).amax(1) >= 0.9).float().mean().item(),
        **bottleneck_distances(features.features(data.items), features.features(samples), cloud_size, seed=seed),
    }
