"""What metrics say where the answer is known: of a perfect sampler, of an untrained model, and of F itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.datasets import Dataset
from topo_utils.models.features import Autoencoder, Identity
from topo_utils.models.likelihoods import Gaussian
from topo_utils.models.priors import Aggregate
from topo_utils.models.vae import Posterior
from topo_utils.seed import generator

if TYPE_CHECKING:
    from jaxtyping import Float


def perfect_samples(train: Dataset, count: int, seed: int = 0) -> Float[Tensor, "count ..."]:
    """Training items as samples: what the best generator would make, as far as train and test are of one distribution.

    Raises
    ------
    ValueError
        There are fewer training items.
    """
    return train.subset(count, seed).items


class InPlaceOfVAE(nn.Module):
    """F as a model: its codes are F(x), known almost for sure; its prior is the density fitted to those of training items.

    What F scores is a ceiling for a latent space that has F's geometry from L_topo alone.

    Parameters
    ----------
    features
        F.
    train
        Items to fit the prior to, at least 20.
    seed
        Of that fit.
    """

    log_variance = -12.0

    def __init__(self, features: Autoencoder | Identity, train: Dataset, seed: int = 0):
        super().__init__()
        self.of = features
        self.likelihood = getattr(features, "likelihood", None) or Gaussian(train.shape)
        self.prior = _FittedPrior(Aggregate.fit(self, train.items, min(10, len(train) // 2), seed))
        self.requires_grad_(False)

    def encode(self, x: Float[Tensor, "batch ..."]) -> Posterior:
        """F(x), with next to no variance."""
        mean = self.of.features(x)
        return Posterior(mean, torch.full_like(mean, self.log_variance))

    def parameters_of(self, z: Float[Tensor, "batch d"]) -> Float[Tensor, "batch ..."]:
        """What F's decoder makes of a code; points are the codes themselves."""
        decoder = getattr(self.of, "decoder", nn.Identity())
        return decoder(z * self.of.scale)

    def decode(self, z: Float[Tensor, "batch d"]) -> Float[Tensor, "batch ..."]:
        """The expected item."""
        return self.likelihood.mean(self.parameters_of(z))

    def reconstruct(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """As F does."""
        return self.decode(self.encode(x).mean)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        stream: torch.Generator | None = None,
        condition: None = None,
        density: Aggregate | None = None,
    ) -> Float[Tensor, "count ..."]:
        """Items of codes from the fitted density."""
        return self.decode((density or self.prior).sample(count, stream))


class _FittedPrior:
    """A fitted density with what a model asks of its prior."""

    def __init__(self, density: Aggregate):
        self.log_prob, self.sample = density.log_prob, density.sample

    def kl(self, posterior: Posterior, z: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        return posterior.log_prob(z) - self.log_prob(z)


def two_halves(data: Dataset, seed: int = 0) -> tuple[Dataset, Dataset]:
    """A random half of the data, and the other."""
    first, second = torch.randperm(len(data), generator=generator(seed, "two halves")).chunk(2)
    return data.take(first), data.take(second)
