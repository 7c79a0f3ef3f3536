"""How well a VAE reproduces items, and how much of its latent space it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.models.vae import VAE

if TYPE_CHECKING:
    from jaxtyping import Float


@torch.no_grad()
def reconstruction(model: VAE, items: Float[Tensor, "n c h w"]) -> dict[str, float]:
    """Means over the items, from the posterior mean (no noise).

    Returns
    -------
    dict
        ``reconstruction_error``: ‖x - G(μ(x))‖² summed over the pixels; ``reconstruction_nats``: -log p(x|μ(x));
        ``kl``: D_KL(q(z|x) ‖ p(z)) in nats; ``active_units``: latent dimensions whose mean KL exceeds 0.01 nats
        (a count; the threshold after Burda et al., "Importance weighted autoencoders", ICLR 2016, section 5.2, there on
        the variance of μ).
    """
    posterior = model.encode(items)
    parameters = model.parameters_of(posterior.mean)
    return {
        "reconstruction_error": (model.likelihood.mean(parameters) - items).square().flatten(1).sum(1).mean().item(),
        "reconstruction_nats": model.likelihood.nats(parameters, items).mean().item(),
        "kl": posterior.kl().mean().item(),
        "active_units": int((posterior.kl_by_dimension().mean(0) > 0.01).sum()),
    }
