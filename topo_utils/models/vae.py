"""The variational autoencoder (Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from topo_utils.models.networks import conv_decoder, conv_encoder

if TYPE_CHECKING:
    from jaxtyping import Float


class Posterior(NamedTuple):
    """Mean and log variance of the diagonal Gaussian q(z|x), each ``(batch, latent)``."""

    mean: Float[Tensor, "batch latent"]
    log_variance: Float[Tensor, "batch latent"]

    def sample(self) -> Float[Tensor, "batch latent"]:
        """z = μ + σ ε with ε from torch's global generator (the reparametrisation trick)."""
        return self.mean + torch.exp(self.log_variance / 2) * torch.randn_like(self.mean)

    def kl(self) -> Float[Tensor, " batch"]:
        """D_KL(q(z|x) ‖ N(0, I)) in nats (Kingma & Welling 2014, appendix B)."""
        return self.kl_by_dimension().sum(1)

    def kl_by_dimension(self) -> Float[Tensor, "batch latent"]:
        """The same, not yet summed over the latent dimensions."""
        return (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance) / 2


class VAE(nn.Module):
    """Convolutional VAE for images with a Bernoulli likelihood a pixel.

    Grey values in [0, 1] are read as probabilities, so the reconstruction term is a cross-entropy in nats whose minimum is
    not zero; it ranks models but is no normalised likelihood of grey values.

    Parameters
    ----------
    shape
        Shape (channels, height, width) of an image; the sides are multiples of four.
    latent_dimension
        Dimension of z.
    width
        Channels of the first convolution.
    """

    def __init__(self, shape: tuple[int, int, int], latent_dimension: int, width: int = 32):
        super().__init__()
        self.shape, self.latent_dimension = tuple(shape), latent_dimension
        self.encoder = conv_encoder(shape, width, 2 * latent_dimension)
        self.decoder = conv_decoder(shape, width, latent_dimension)

    def encode(self, x: Float[Tensor, "batch c h w"]) -> Posterior:
        """Posterior of each image."""
        if x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x: wanted images of shape (batch, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        return Posterior(*self.encoder(x).chunk(2, dim=1))

    def logits(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch c h w"]:
        """Log odds of each pixel."""
        if z.ndim != 2 or z.shape[1] != self.latent_dimension:
            raise ValueError(f"z: wanted codes of shape (batch, {self.latent_dimension}), got {tuple(z.shape)}")
        return self.decoder(z)

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch c h w"]:
        """Mean image of each code, in [0, 1]."""
        return torch.sigmoid(self.logits(z))

    def reconstruct(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        """G(μ(x)), without noise."""
        return self.decode(self.encode(x).mean)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> tuple[Posterior, Float[Tensor, "batch c h w"]]:
        """Posterior, and logits of the reconstruction from one sample of it."""
        posterior = self.encode(x)
        return posterior, self.logits(posterior.sample())


def reconstruction_nats(logits: Float[Tensor, "batch c h w"], x: Float[Tensor, "batch c h w"]) -> Float[Tensor, " batch"]:
    """-log p(x|z) of the Bernoulli likelihood, summed over the pixels, in nats."""
    return binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
