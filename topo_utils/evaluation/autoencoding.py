"""How well a model with an encoder reproduces items, and how much of its latent space it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.evaluation import intervals
from topo_utils.evaluation.checks import check_items
from topo_utils.seed import generator

if TYPE_CHECKING:
    from jaxtyping import Float


@torch.no_grad()
def reconstruction(model: nn.Module, items: Float[Tensor, "n ..."], seed: int = 0) -> dict[str, float]:
    """Means over the items, from the posterior mean (no noise).

    Parameters
    ----------
    model
        Has ``encode``, which gives a :class:`~topo_utils.models.vae.Posterior`, and ``decode``. A model that states a
        ``likelihood`` (None: it has none) has ``parameters_of`` too; one that states no ``prior`` has N(0, I).
    items
        At least one, finite.
    seed
        Of the codes at which the KL to a learned prior is estimated.

    Returns
    -------
    dict
        ``reconstruction_error``: ‖x - G(μ(x))‖² summed over the pixels, with the ends ``_low`` and ``_high`` of its 95 %
        interval over the items (:mod:`~topo_utils.evaluation.intervals`); ``reconstruction_nats``: -log p(x|μ(x)), where
        there is a likelihood; ``kl``: D_KL(q(z|x) ‖ p(z)) in nats; ``active_units``: latent dimensions whose mean KL to
        N(0, 1) is above 0.01 nats, whatever the prior (a count; the threshold after Burda et al., "Importance weighted
        autoencoders", ICLR 2016, section 5.2, there on the variance of μ).

    Raises
    ------
    TypeError, ValueError
        The items are not as described.
    """
    check_items("items", items, tuple(items.shape[1:]))
    posterior = model.encode(items)
    errors = (model.decode(posterior.mean) - items).square().flatten(1).sum(1)
    metrics = {"reconstruction_error": errors.mean().item(), **intervals.of_mean("reconstruction_error", errors, seed)}
    if getattr(model, "likelihood", None) is not None:
        nats = model.likelihood.nats(model.parameters_of(posterior.mean), items)
        metrics["reconstruction_nats"] = nats.mean().item()
    prior = getattr(model, "prior", None)
    kl = posterior.kl() if prior is None else prior.kl(posterior, posterior.sample(generator(seed, "kl")))
    return metrics | {
        "kl": kl.mean().item(),
        "active_units": int((posterior.kl_by_dimension().mean(0) > 0.01).sum()),
    }
