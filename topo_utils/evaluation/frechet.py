"""Fréchet distance between two sets of features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.evaluation.checks import check_features

if TYPE_CHECKING:
    from jaxtyping import Float


@torch.no_grad()
def frechet_distance(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"]) -> float:
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) of the Gaussians fitted to two sets of features, in float64; never negative.

    Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017, equation 6. It is called FID only with
    Inception's features; otherwise it is named after the network that gave them.

    **Biased by the number of features**: two sets of one distribution are at a distance above 0, which falls as n and m
    grow. So compare only distances of equal n and m, and with a floor of the same.

    Parameters
    ----------
    real, generated
        Features, finite; at least two rows, and as many columns in both.

    Raises
    ------
    TypeError, ValueError
        They are no such features (complex ones are none), or so large that their squares are no numbers.
    """
    check_features(real, generated)
    means, factors = zip(*(_gaussian(features.detach().cpu().double()) for features in (real, generated)), strict=True)
    squares = (means[0] - means[1]).square().sum() + sum(factor.square().sum() for factor in factors)
    if not squares.isfinite():
        raise ValueError("real, generated: wanted features whose squares are finite numbers, got larger ones")
    root = torch.linalg.svdvals(
        factors[0] @ factors[1].mT
    ).sum()  # tr (R₁ᵀR₁ R₂ᵀR₂)^½: no root of a matrix that is singular
    return max(0.0, (squares - 2 * root).item())  # rounding may leave less than 0


def _gaussian(features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "r d"]]:
    """Mean μ, and R with the covariance Σ = RᵀR."""
    mean = features.mean(0)
    return mean, torch.linalg.qr((features - mean) / math.sqrt(len(features) - 1), mode="r").R
