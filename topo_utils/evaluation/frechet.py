"""Fréchet distance between two sets of features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

if TYPE_CHECKING:
    from jaxtyping import Float


class _Given(nn.Module):
    """In place of Inception: the features are there already."""

    def __init__(self, dimension: int):
        super().__init__()
        self.num_features = dimension

    def forward(self, features):
        return features


def frechet_distance(real: Float[torch.Tensor, "n d"], generated: Float[torch.Tensor, "m d"]) -> float:
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) between the Gaussians fitted to two sets of features, in float64.

    Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017, equation 6. It is called FID only with
    Inception's features; otherwise it is named after the network that gave them. It is biased by the sample size: compare
    only distances of equal n and m.

    Parameters
    ----------
    real, generated
        Features, finite; at least two rows, and as many columns in both.

    Raises
    ------
    ValueError
        The shapes do not fit, or a value is not finite.
    """
    for name, features in (("real", real), ("generated", generated)):
        if features.ndim != 2 or len(features) < 2 or features.shape[1] != real.shape[1]:
            raise ValueError(f"{name}: wanted at least 2 rows of {real.shape[-1]} features, got {tuple(features.shape)}")
        if not features.isfinite().all():
            raise ValueError(f"{name}: wanted finite features, got {int((~features.isfinite()).sum())} that are not")
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1])).set_dtype(torch.float64)
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    return metric.compute().item()
