from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.mixture import GaussianMixture
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from topo_utils.models.priors import PRIORS, Aggregate, Gaussians
from topo_utils.models.vae import VAE, Posterior

THREE = Gaussians(
    torch.tensor([0.2, 0.5, 0.3]).log(),
    torch.tensor([[-2.0, 0.0], [1.0, 3.0], [4.0, -1.0]]),
    torch.tensor([[0.0, -1.0], [0.5, 0.0], [-2.0, 1.0]]),
)


def model_with(prior, components=3, latent=2):
    torch.manual_seed(0)
    return VAE((2,), latent, "points", 4, prior, components)


def with_gaussians(gaussians):
    """A model whose learned mixture is this one."""
    model = model_with("mixture", *gaussians.means.shape)
    names = ("logits", "means", "log_variances")
    model.prior.load_state_dict(dict(zip(names, gaussians, strict=True)))
    return model


def test_the_density_of_a_mixture_is_torchs():
    z = torch.randn(50, 2) * 3
    components = Independent(Normal(THREE.means, (THREE.log_variances / 2).exp()), 1)
    torchs = MixtureSameFamily(Categorical(logits=THREE.log_weights), components)
    torch.testing.assert_close(THREE.log_prob(z), torchs.log_prob(z))
    torch.testing.assert_close(with_gaussians(THREE).prior.log_prob(z), torchs.log_prob(z))


@pytest.mark.parametrize("weight", [0.3, 0.5])
def test_the_kl_to_a_mixture_is_the_integral(weight):
    """In one dimension, of N(0.5, 0.6²) to two Gaussians; the mean over draws within four of its standard errors."""
    deviations, means, weights = (0.7, 1.5), (-1.0, 2.0), (weight, 1 - weight)
    prior = with_gaussians(
        Gaussians(torch.tensor(weights).log(), torch.tensor(means)[:, None], 2 * torch.tensor(deviations).log()[:, None])
    ).prior
    posterior = Posterior(torch.full((200_000, 1), 0.5), torch.full((200_000, 1), 2 * math.log(0.6)))
    found = prior.kl(posterior, posterior.sample())

    def density(z):
        return sum(w * norm.pdf(z, m, s) for w, m, s in zip(weights, means, deviations, strict=True))

    wanted, _ = quad(lambda z: norm.pdf(z, 0.5, 0.6) * (norm.logpdf(z, 0.5, 0.6) - np.log(density(z))), -6, 7)
    assert found.mean().item() == pytest.approx(wanted, abs=4 * found.std().item() / 200_000**0.5)
    assert found.std() > 0.1


def test_one_component_at_the_standard_normal_is_the_standard_prior():
    one = with_gaussians(Gaussians(torch.zeros(1), torch.zeros(1, 2), torch.zeros(1, 2)))
    standard = model_with("standard")
    z = torch.randn(20, 2)
    torch.testing.assert_close(one.prior.log_prob(z), standard.prior.log_prob(z))
    torch.testing.assert_close(one.prior.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(1))
    posterior = Posterior(torch.tensor([[1.0, -0.5]]).expand(100_000, 2), torch.tensor([[-1.0, 0.3]]).expand(100_000, 2))
    found = one.prior.kl(posterior, posterior.sample())
    wanted = standard.prior.kl(posterior, torch.full((100_000, 2), torch.nan))[0].item()  # closed: no draw is looked at
    assert found.mean().item() == pytest.approx(wanted, abs=4 * found.std().item() / 100_000**0.5)
    drawn = one.prior.sample(50_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.T.cov(), torch.eye(2), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.mean(0), torch.zeros(2), atol=0.03, rtol=0)


def test_samples_of_a_mixture_are_those_of_its_components():
    """Far apart: which component a code is of can be seen."""
    far = THREE._replace(means=100 * THREE.means)
    codes = with_gaussians(far).prior.sample(30_000, torch.Generator().manual_seed(0))
    of = torch.cdist(codes, far.means).argmin(1)
    shares = of.bincount(minlength=3) / len(codes)
    torch.testing.assert_close(shares, far.log_weights.exp(), atol=0.01, rtol=0)
    for k in range(3):
        torch.testing.assert_close(codes[of == k].mean(0), far.means[k], atol=0.1, rtol=0)
        torch.testing.assert_close(codes[of == k].var(0), far.log_variances[k].exp(), atol=0.0, rtol=0.1)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_seed_gives_the_same_items_and_each_prior_its_own(prior):
    model = model_with(prior).eval()
    first, again, other = (model.sample(8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (8, 2)
    torch.manual_seed(1)
    assert torch.equal(model.sample(8), first), "torch's global generator, when none is given"


def test_the_standard_prior_draws_what_it_always_drew():
    model = model_with("standard")
    wanted = torch.randn(8, 2, generator=torch.Generator().manual_seed(5))
    assert torch.equal(model.prior.sample(8, torch.Generator().manual_seed(5)), wanted)
    assert not [name for name in model.state_dict() if name.startswith("prior")]


def test_the_vamp_prior_is_of_the_posteriors_of_training_items():
    model, items = model_with("vamp"), torch.randn(40, 2)
    model.prior.begin(items)
    at = torch.cdist(model.prior.inputs, items).argmin(1)
    assert torch.equal(model.prior.inputs, items[at])
    assert len(at.unique()) == 3
    means, log_variances = model.encode(items[at])
    z = torch.randn(10, 2)
    each = [Normal(m, (v / 2).exp()).log_prob(z).sum(1).exp() for m, v in zip(means, log_variances, strict=True)]
    torch.testing.assert_close(model.prior.log_prob(z), (sum(each) / 3).log())
    with pytest.raises(ValueError, match="prior_components: wanted at most the 2 training items, got 3"):
        model.prior.begin(items[:2])


@pytest.mark.parametrize("make", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_vamp_prior_asks_the_copied_encoder(make):
    model = model_with("vamp")
    model.prior.begin(torch.randn(40, 2))
    before, z = model.prior.log_prob(torch.ones(1, 2)), torch.ones(1, 2)
    other = make(model)
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight.zero_()
    assert torch.equal(other.prior.log_prob(z), before)
    assert not torch.equal(model.prior.log_prob(z), before)


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_a_learned_prior_learns(prior):
    model = model_with(prior)
    model.prior.begin(torch.randn(40, 2))
    posterior, z, _ = model(torch.randn(16, 2))
    model.prior.kl(posterior, z).mean().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.prior.parameters())
    assert all(weight.grad is not None for weight in model.encoder.parameters())


class Given(VAE):
    """Codes are the items, with next to no noise."""

    def encode(self, x):
        return Posterior(x, torch.full_like(x, -30.0))


def test_the_aggregate_is_scikit_learns_and_draws_what_the_codes_are():
    angle = 2 * math.pi * torch.rand(3_000)
    codes = torch.stack([angle.cos(), angle.sin()], 1) * torch.tensor([3.0, 1.0]) + 5
    model = Given((2,), 2, "points", 4)
    density = Aggregate.fit(model, codes, 10, seed=3)
    assert isinstance(density.fitted, GaussianMixture)
    assert density.fitted.n_components == 10
    torch.testing.assert_close(
        density.log_prob(codes[:5]), torch.from_numpy(density.fitted.score_samples(codes[:5].double().numpy())).float()
    )
    drawn = density.sample(20_000, torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), codes.T.cov(), atol=0.1, rtol=0.05)
    nearest = torch.cdist(drawn[:2_000], codes).amin(1)
    assert nearest.mean() < 0.1, "on the loop, not in its middle"
    again = Aggregate.fit(model, codes, 10, seed=3).sample(20_000, torch.Generator().manual_seed(0))
    assert torch.equal(again, drawn)
    items = model.sample(4, torch.Generator().manual_seed(1), density=density)
    assert torch.equal(items, model.decode(density.sample(4, torch.Generator().manual_seed(1))))


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="prior: wanted one of 'standard', 'mixture', 'vamp', got 'normal'"):
        VAE((2,), 2, "points", 4, "normal")
    with pytest.raises(ValueError, match="components: wanted at least 1, got 0"):
        VAE((2,), 2, "points", 4, "mixture", 0)
    model = model_with("standard")
    with pytest.raises(ValueError, match="items: wanted at least 20, two for each component, got 19"):
        Aggregate.fit(model, torch.randn(19, 2))
    with pytest.raises(ValueError, match="codes: wanted finite values"):
        Aggregate.fit(Given((2,), 2, "points", 4), torch.full((40, 2), torch.inf))
