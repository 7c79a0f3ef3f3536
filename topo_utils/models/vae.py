"""The variational autoencoder (Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from topo_utils.models import networks
from topo_utils.models.priors import PRIORS, Aggregate, Prior
from topo_utils.topology.checks import check_count, check_option

if TYPE_CHECKING:
    from jaxtyping import Float


class Posterior(NamedTuple):
    """Mean and log variance of the diagonal Gaussian q(z|x), each ``(batch, latent)``."""

    mean: Float[Tensor, "batch latent"]
    log_variance: Float[Tensor, "batch latent"]

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "batch latent"]:
        """z = μ + σ ε (the reparametrisation trick), ε from a CPU generator, or from torch's global one."""
        if generator is None:
            noise = torch.randn_like(self.mean)
        else:
            noise = torch.randn(self.mean.shape, generator=generator).to(self.mean)
        return self.mean + torch.exp(self.log_variance / 2) * noise

    def log_prob(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, " batch"]:
        """log q(z|x) in nats, one code an item."""
        squares = (z - self.mean).square() * torch.exp(-self.log_variance)
        return -(squares + self.log_variance + math.log(2 * math.pi)).sum(1) / 2

    def kl(self) -> Float[Tensor, " batch"]:
        """D_KL(q(z|x) ‖ N(0, I)) in nats (Kingma & Welling 2014, appendix B)."""
        return self.kl_by_dimension().sum(1)

    def kl_by_dimension(self) -> Float[Tensor, "batch latent"]:
        """The same, not yet summed over the latent dimensions."""
        return (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance) / 2


class VAE(nn.Module):
    """VAE for the items of any domain; encoder, decoder and likelihood are the domain's (:mod:`networks`).

    Parameters
    ----------
    shape
        Shape of an item; the sides of images are multiples of four.
    latent_dimension
        Dimension of z.
    domain
        One of :data:`networks.DOMAINS`.
    width
        Channels of the first convolution; hidden layers are a multiple of it.
    prior
        Name of p(z), one of :data:`priors.PRIORS`.
    components
        Gaussians of a learned prior.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent_dimension: int,
        domain: str = "images",
        width: int = 32,
        prior: str = "standard",
        components: int = 50,
    ):
        super().__init__()
        self.shape, self.latent_dimension, self.domain = tuple(shape), latent_dimension, domain
        self.encoder = networks.encoder(domain, self.shape, width, 2 * latent_dimension)
        self.decoder = networks.decoder(domain, self.shape, width, latent_dimension)
        self.likelihood = networks.likelihood(domain, self.shape)
        check_option("prior", prior, tuple(PRIORS))
        check_count("components", components)
        self.prior = PRIORS[prior](self, components)

    def encode(self, x: Float[Tensor, "batch ..."]) -> Posterior:
        """Posterior of each item."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x: wanted items of shape (batch, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        return Posterior(*self.encoder(x).chunk(2, dim=1))

    def parameters_of(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch ..."]:
        """Parameters of p(x|z), as the likelihood takes them: log odds, logits or means."""
        if z.ndim != 2 or z.shape[1] != self.latent_dimension:
            raise ValueError(f"z: wanted codes of shape (batch, {self.latent_dimension}), got {tuple(z.shape)}")
        return self.decoder(z)

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch ..."]:
        """Expected item of each code: pixels, edges and categories as probabilities in [0, 1], coordinates as they are."""
        return self.likelihood.mean(self.parameters_of(z))

    def reconstruct(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """G(μ(x)), without noise."""
        return self.decode(self.encode(x).mean)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        generator: torch.Generator | None = None,
        condition: None = None,
        density: Prior | Aggregate | None = None,
    ) -> Float[Tensor, "count ..."]:
        """New items: mean items G(z) of codes z ~ p(z).

        Parameters
        ----------
        count
            Number of items.
        generator
            Gives the codes, drawn on its device: a CPU generator gives the same codes on every device. None: torch's global
            one.
        condition
            None: a VAE knows no classes.
        density
            Gives the codes in place of the model's own prior.

        Raises
        ------
        TypeError, ValueError
            A count below 1, or a condition.
        """
        check_count("count", count)
        if condition is not None:
            raise ValueError(f"condition: wanted None for a VAE, which knows no classes, got a {type(condition).__name__}")
        codes = (self.prior if density is None else density).sample(count, generator)
        return self.decode(codes.to(next(self.parameters()).device))

    def forward(
        self, x: Float[Tensor, "batch ..."]
    ) -> tuple[Posterior, Float[Tensor, "batch latent"], Float[Tensor, "batch ..."]]:
        """Posterior, a sample z of it, and the parameters of p(x|z)."""
        posterior = self.encode(x)
        z = posterior.sample()
        return posterior, z, self.parameters_of(z)
