"""Priors p(z) of a VAE: N(0, I), two that are learned with the model, and a density fitted to the codes afterwards.

Under N(0, I) samples mostly fall between the codes of the data: the divergence of the *aggregate posterior* E_x q(z|x) from
p(z) is a part of the KL term (Hoffman & Johnson, "ELBO surgery", 2016), and a fixed prior cannot make it small. A prior
that can take the shape of the codes can.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from topo_utils.seed import derive, generator
from topo_utils.topology.checks import check_count, check_finite

if TYPE_CHECKING:
    from jaxtyping import Float

    from topo_utils.models.vae import VAE, Posterior


class Gaussians(NamedTuple):
    """A mixture of diagonal Gaussians.

    Attributes
    ----------
    log_weights
        ``(k,)``; the weights add up to one.
    means, log_variances
        ``(k, d)``.
    """

    log_weights: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    log_variances: Float[Tensor, "k d"]

    def log_prob(self, z: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """log Σ_k w_k N(z; μ_k, σ_k²), in nats."""
        squares = (z[:, None] - self.means).square() * torch.exp(-self.log_variances)
        components = -(squares + self.log_variances + math.log(2 * math.pi)).sum(-1) / 2
        return torch.logsumexp(self.log_weights + components, 1)

    def sample(self, count: int, stream: torch.Generator | None) -> Float[Tensor, "count d"]:
        """Codes: first the component of each, then its place in it."""
        here = self.means.device
        drawn_on = here if stream is None else stream.device
        chosen = torch.multinomial(self.log_weights.exp().to(drawn_on), count, replacement=True, generator=stream).to(here)
        noise = torch.randn(count, self.means.shape[1], generator=stream, device=drawn_on).to(here)
        return self.means[chosen] + torch.exp(self.log_variances[chosen] / 2) * noise


class Prior(nn.Module):
    """What every prior of a VAE has. ``kl`` is estimated at the codes that were drawn, unless there is a closed form."""

    def begin(self, items: Float[Tensor, "n ..."]) -> None:
        """Take what is needed from the training items, before the first step."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """log p(z) in nats."""

    @abstractmethod
    def sample(self, count: int, stream: torch.Generator | None = None) -> Float[Tensor, "count d"]:
        """Codes z ~ p(z), drawn on the device of the stream; None: torch's global one."""

    def kl(self, posterior: Posterior, z: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """log q(z|x) - log p(z) in nats at one z ~ q(z|x) of each item: D_KL(q(z|x) ‖ p(z)) is its expectation."""
        return posterior.log_prob(z) - self.log_prob(z)


class Standard(Prior):
    """N(0, I), without a parameter."""

    def __init__(self, model: VAE, components: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(model.latent_dimension), persistent=False)

    def kl(self, posterior: Posterior, z: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """D_KL(q(z|x) ‖ N(0, I)) of each item in nats, in closed form: ``z`` is not looked at."""
        return posterior.kl()

    def log_prob(self, z: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        return -(z.square() + math.log(2 * math.pi)).sum(1) / 2

    def sample(self, count: int, stream: torch.Generator | None = None) -> Float[Tensor, "count d"]:
        drawn_on = self.mean.device if stream is None else stream.device
        return torch.randn(count, len(self.mean), generator=stream, device=drawn_on).to(self.mean)


class Learned(Prior):
    """A mixture of diagonal Gaussians that depends on learned parameters."""

    @abstractmethod
    def gaussians(self) -> Gaussians:
        """The mixture as it is now."""

    def log_prob(self, z: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        return self.gaussians().log_prob(z)

    def sample(self, count: int, stream: torch.Generator | None = None) -> Float[Tensor, "count d"]:
        return self.gaussians().sample(count, stream)


class Mixture(Learned):
    """Diagonal Gaussians whose weights, means and variances are learned; at first N(m_k, I) with m_k ~ N(0, I)."""

    def __init__(self, model: VAE, components: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, model.latent_dimension))
        self.log_variances = nn.Parameter(torch.zeros(components, model.latent_dimension))

    def gaussians(self) -> Gaussians:
        return Gaussians(self.logits.log_softmax(0), self.means, self.log_variances)


class Vamp(Learned):
    """The posteriors of learned pseudo-inputs, with equal weights.

    Tomczak & Welling, "VAE with a VampPrior", AISTATS 2018, equation 9. The pseudo-inputs start as training items; they are
    free, and not held in the range of an item.
    """

    def __init__(self, model: VAE, components: int):
        super().__init__()
        self.encode = model.encode  # a bound method: the model is no part of its own prior
        self.inputs = nn.Parameter(torch.zeros(components, *model.shape))

    @torch.no_grad()
    def begin(self, items: Float[Tensor, "n ..."]) -> None:
        """Start from training items, chosen by torch's global generator.

        Raises
        ------
        ValueError
            There are fewer of them than pseudo-inputs.
        """
        if len(items) < len(self.inputs):
            raise ValueError(f"prior_components: wanted at most the {len(items)} training items, got {len(self.inputs)}")
        self.inputs.copy_(items[torch.randperm(len(items))[: len(self.inputs)]])

    def gaussians(self) -> Gaussians:
        means, log_variances = self.encode(self.inputs)
        return Gaussians(means.new_full((len(means),), -math.log(len(means))), means, log_variances)


#: Priors by name; a new one is a class above, a line here, and its name among those of :class:`VAEConfig`.
PRIORS: dict[str, type[Prior]] = {"standard": Standard, "mixture": Mixture, "vamp": Vamp}


class Aggregate:
    """A density of the aggregate posterior E_x q(z|x), for sampling only: Gaussians with full covariances.

    The ex-post density estimation of Ghosh et al., "From variational to deterministic autoencoders", ICLR 2020, section 4,
    here of draws of q(z|x), by scikit-learn.
    """

    def __init__(self, fitted: GaussianMixture):
        self.fitted = fitted

    @classmethod
    @torch.no_grad()
    def fit(cls, model: VAE, items: Float[Tensor, "n ..."], components: int = 10, seed: int = 0) -> Aggregate:
        """Fit it to one draw of q(z|x) of each item.

        Raises
        ------
        TypeError, ValueError
            Fewer than one component, fewer items than two a component, or codes that are not finite.
        """
        check_count("components", components)
        if len(items) < 2 * components:
            raise ValueError(f"items: wanted at least {2 * components}, two for each component, got {len(items)}")
        codes = model.encode(items).sample(generator(seed, "aggregate")).cpu()
        check_finite("codes", codes)
        mixture = GaussianMixture(components, random_state=derive(seed, "aggregate") % 2**32, n_init=1)
        return cls(mixture.fit(codes.double().numpy()))

    def log_prob(self, z: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """log density of the codes in nats."""
        return torch.from_numpy(self.fitted.score_samples(z.detach().cpu().double().numpy())).to(z)

    def sample(self, count: int, stream: torch.Generator | None = None) -> Float[Tensor, "count d"]:
        """Codes, float32, on the CPU."""
        weights, means, covariances = (
            torch.from_numpy(each) for each in (self.fitted.weights_, self.fitted.means_, self.fitted.covariances_)
        )
        chosen = torch.multinomial(weights, count, replacement=True, generator=stream)
        noise = torch.randn(count, means.shape[1], 1, generator=stream, dtype=torch.float64)
        return (means[chosen] + (torch.linalg.cholesky(covariances)[chosen] @ noise)[..., 0]).float()
