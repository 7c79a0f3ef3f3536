from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from topo_utils.models.vae import VAE, Posterior


def test_kl_is_torchs():
    posterior = Posterior(torch.randn(5, 3), torch.randn(5, 3))
    normal = Normal(posterior.mean, (posterior.log_variance / 2).exp())
    torch.testing.assert_close(posterior.kl(), kl_divergence(normal, Normal(0.0, 1.0)).sum(1))


def test_samples_follow_the_posterior():
    posterior = Posterior(torch.full((20_000, 1), 2.0), torch.full((20_000, 1), 0.25).log())
    sample = posterior.sample()
    assert sample.mean().item() == pytest.approx(2, abs=0.02)
    assert sample.std().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 64, 64)])
def test_images_come_back_in_their_shape(shape):
    model = VAE(shape, 4)
    images = torch.rand(3, *shape)
    assert model.reconstruct(images).shape == images.shape
    assert ((model.decode(torch.randn(5, 4)) > 0) & (model.decode(torch.randn(5, 4)) < 1)).all()


@pytest.mark.parametrize(
    ("domain", "shape"),
    [("masks", (1, 28, 28)), ("molecules", (189,)), ("proteins", (20, 3)), ("graphs", (32, 32)), ("points", (3,))],
)
def test_items_of_every_domain_come_back_in_their_shape(domain, shape):
    model = VAE(shape, 4, domain, width=4)
    x = torch.rand(3, *shape)
    posterior, _, parameters = model(x)
    assert model.reconstruct(x).shape == x.shape
    assert model.likelihood.nats(parameters, x).shape == posterior.kl().shape == (3,)


def test_wrong_shapes_are_named():
    model = VAE((1, 28, 28), 4)
    with pytest.raises(ValueError, match=r"x: wanted items of shape \(batch, 1, 28, 28\), got \(2, 3, 28, 28\)"):
        model.encode(torch.rand(2, 3, 28, 28))
    with pytest.raises(ValueError, match=r"z: wanted codes of shape \(batch, 4\), got \(2, 5\)"):
        model.decode(torch.rand(2, 5))
    with pytest.raises(ValueError, match="multiples of 4"):
        VAE((1, 30, 28), 4)
