from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from topo_utils.models.diffusion import Diffusion, ema
from topo_utils.models.unet import ResidualMLP
from topo_utils.seed import generator

MEAN = torch.tensor([3.0, -1.0, 0.5])
COVARIANCE = torch.tensor([[4.0, 1.2, 0.3], [1.2, 1.0, -0.2], [0.3, -0.2, 0.25]])


class OfGaussian(nn.Module):
    """The network F that makes ε̂ exact for N(c, C): ε̂ = σ (C + σ²)⁻¹ (x_t - c)."""

    def __init__(self, covariance, model):
        super().__init__()
        self.variances, self.axes = torch.linalg.eigh(covariance)
        self.deviation, self.sigma_data = model.deviation, model.sigma_data

    def forward(self, u, level, condition=None):
        sigma = self.sigma_data * (4 * level).exp()[:, None]
        norm = torch.hypot(sigma, self.deviation)
        noise = sigma * ((norm * u) @ self.axes / (self.variances + sigma**2)) @ self.axes.T
        return (norm * noise - sigma * u) / self.deviation


def points(count, *names):
    draws = torch.randn(count, 3, generator=generator(0, *names))
    return MEAN + draws @ torch.linalg.cholesky(COVARIANCE).T


@pytest.fixture(scope="module")
def exact():
    """The exact model of a Gaussian."""
    items = points(50_000, "data")
    model = Diffusion(nn.Identity(), (3,)).fit_scale(items)
    model.network = OfGaussian(items.T.cov(), model)
    return model


def two_circles(count, *names):
    """Points near two circles."""
    stream = generator(1, *names)
    angle = 2 * math.pi * torch.rand(count, generator=stream)
    centre = torch.where(torch.rand(count, generator=stream) < 0.5, -2.0, 2.0)
    circle = torch.stack([angle.cos() + centre, angle.sin()], dim=1)
    return circle + 0.05 * torch.randn(count, 2, generator=stream)


def energy_distance(a, b):
    """2 E‖a - b‖ - E‖a - a'‖ - E‖b - b'‖ (Székely & Rizzo 2013), 0 for equal distributions."""
    return (2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()).item()


def test_scale_is_that_of_the_data(exact):
    variances = torch.linalg.eigvalsh(COVARIANCE)
    torch.testing.assert_close(exact.centre, MEAN, atol=0.05, rtol=0)
    torch.testing.assert_close(exact.deviation, COVARIANCE.diag().sqrt(), atol=0, rtol=0.01)
    assert exact.sigma_data.item() == pytest.approx(variances.mean().sqrt().item(), rel=0.01)
    assert exact.sigma_min.item() == pytest.approx(0.02 * exact.sigma_data.item())
    assert exact.sigma_max.item() == pytest.approx(5 * variances.max().sqrt().item(), rel=0.01)


@pytest.mark.parametrize(
    ("sampler", "steps", "churn"), [("heun", 20, 0), ("euler", 200, 0), ("heun", 40, 20), ("euler", 300, 10)]
)
def test_samples_of_the_exact_model_have_the_datas_mean_and_covariance(exact, sampler, steps, churn):
    samples = exact.sample(20_000, generator(0, "sampling"), steps, sampler, churn)
    # standard errors: √(4 / 20,000) = 0.014 of the first mean, 4 √(2 / 20,000) = 0.04 of the first variance, which the
    # start from a Gaussian that is not quite the right one makes smaller by up to 1 / sigma_max² = 4 %
    torch.testing.assert_close(samples.mean(0), MEAN, atol=0.05, rtol=0)
    torch.testing.assert_close(samples.T.cov(), COVARIANCE, atol=0.05, rtol=0.06)


def test_orders_of_the_samplers(exact):
    def error(sampler, steps):
        return (exact.sample(500, generator(0, "order"), steps, sampler) - best).square().mean().sqrt().item()

    best = exact.sample(500, generator(0, "order"), 400)
    errors = {sampler: [error(sampler, steps) for steps in (10, 20, 40)] for sampler in ("heun", "euler")}
    assert all(heun < euler / 3 for heun, euler in zip(errors["heun"], errors["euler"], strict=True))
    assert errors["euler"][2] < 0.6 * errors["euler"][1] < 0.6**2 * errors["euler"][0]
    assert errors["heun"][2] < 0.3 * errors["heun"][1] < 0.3**2 * errors["heun"][0]


def test_more_churn_moves_the_samples_and_the_generator_decides_them(exact):
    def sample(seed, churn):
        return exact.sample(10, generator(seed), steps=5, churn=churn)

    assert torch.equal(sample(0, 0.0), sample(0, 0.0))
    assert torch.equal(sample(0, 3.0), sample(0, 3.0))
    assert not torch.equal(sample(0, 0.0), sample(1, 0.0))
    assert not torch.equal(sample(0, 0.0), sample(0, 3.0))
    torch.manual_seed(5)
    first = exact.sample(3)
    torch.manual_seed(5)
    assert torch.equal(exact.sample(3), first)


def test_trajectory_leads_from_the_mean_to_the_samples(exact):
    samples, trajectory = exact.sample(200, generator(0), steps=40, trajectory=True)
    assert trajectory.shape == (40, 200, 3)
    assert torch.equal(trajectory[-1], samples)  # the last step ends at σ = 0, where the denoised item is the item
    spread = trajectory.var(1).sum(1)
    assert spread[0] < 0.1 * spread[-1]
    assert (spread.diff() > -0.01).all()


def test_levels_fall_as_karras_et_al_say(exact):
    levels = exact.levels(10)
    assert levels[0].item() == pytest.approx(exact.sigma_max.item())
    assert levels[-2].item() == pytest.approx(exact.sigma_min.item())
    assert levels[-1] == 0
    steps = levels[:-1] ** (1 / 7)
    torch.testing.assert_close(steps.diff(), steps.diff().mean().expand(9), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["lognormal", "loguniform"])
def test_training_levels_have_their_distribution(schedule):
    model = Diffusion(nn.Identity(), (2,), schedule=schedule).fit_scale(7 * torch.randn(1000, 2))
    sigma = model.sample_sigma(50_000, generator(0))
    assert torch.equal(sigma, model.sample_sigma(50_000, generator(0)))
    assert model.sigma_min <= sigma.min() <= sigma.max() <= model.sigma_max
    logs = (sigma / model.sigma_data).log().double()
    low, high = [(limit / model.sigma_data).log().item() for limit in (model.sigma_min, model.sigma_max)]
    if schedule == "loguniform":
        expected = torch.distributions.Uniform(low, high).cdf(logs)
    else:
        normal = torch.distributions.Normal(0.0, 1.4)
        below, above = [normal.cdf(torch.tensor(limit)) for limit in (low, high)]
        expected = (normal.cdf(logs) - below) / (above - below)
    uniform = expected.sort().values
    assert (uniform - torch.linspace(0, 1, len(uniform))).abs().max() < 1.63 / math.sqrt(len(uniform))  # Kolmogorov, 1 %


def test_before_training_it_is_the_best_guess_from_each_coordinate_alone():
    deviation = torch.tensor([3.0, 1.0, 0.1, 0.0])
    items = 5 + deviation * torch.randn(20_000, 4)
    model = Diffusion(ResidualMLP((4,), width=8, blocks=1), (4,)).fit_scale(items)
    for sigma in (0.1, 3.0, 50.0):
        noise = torch.randn(20_000, 4)
        error = (model.loss_terms(items, torch.full((20_000,), sigma), noise).noise - noise).square().mean(0)
        expected = deviation**2 / (deviation**2 + sigma**2)  # variance of ε given x_t
        torch.testing.assert_close(error, expected, atol=1e-9, rtol=0.05)


@pytest.mark.parametrize("shape", [(4,), (2, 8, 8)])
def test_network_gets_and_owes_unit_variance_at_every_level(shape):
    class Listening(nn.Module):
        def forward(self, u, level, condition=None):
            self.u, self.level = u, level
            return torch.zeros_like(u)

    items = 5 + 3 * torch.randn(5000, *shape)
    model = Diffusion(Listening(), shape).fit_scale(items)
    for sigma in (0.1, 3.0, 50.0):
        terms = model.loss_terms(items, torch.full((5000,), sigma), torch.randn(items.shape))
        assert model.network.u.std().item() == pytest.approx(1, rel=0.03)
        torch.testing.assert_close(model.network.level, (torch.tensor(sigma) / model.sigma_data).log().expand(5000) / 4)
        owed = terms.error * (sigma**2 + 9) / 9  # what is missing in ε̂ is s F / √(σ² + s²)
        assert owed.mean().item() == pytest.approx(math.prod(shape), rel=0.05)


def test_images_are_scaled_by_channel_and_sampled_from_their_mean():
    items = torch.rand(200, 2, 4, 4) * torch.linspace(0, 1, 4) + torch.tensor([0.0, 5.0])[:, None, None]
    model = Diffusion(ResidualMLP((2, 4, 4), width=8, blocks=1), (2, 4, 4)).fit_scale(items)
    assert model.centre.shape == model.deviation.shape == (2, 1, 1)
    torch.testing.assert_close(model.centre.flatten(), items.mean((0, 2, 3)))
    torch.testing.assert_close(model.deviation.flatten(), items.transpose(0, 1).flatten(1).std(1, correction=0))
    torch.testing.assert_close(model.mean, items.mean(0))


def test_loss_terms_agree_with_each_other():
    torch.manual_seed(1)
    model = Diffusion(ResidualMLP((2, 3), width=8, blocks=1), (2, 3))
    nn.init.normal_(model.network.last[2].weight)
    x, noise, sigma = torch.randn(5, 2, 3), torch.randn(5, 2, 3), torch.rand(5) + 0.1
    terms = model.loss_terms(x, sigma, noise)
    x_t = x + sigma[:, None, None] * noise
    torch.testing.assert_close(terms.noise, model(x_t, sigma))
    torch.testing.assert_close(terms.denoised, model.denoised(x_t, sigma))
    torch.testing.assert_close(terms.denoised - x, sigma[:, None, None] * (noise - terms.noise))
    torch.testing.assert_close(terms.error, (noise - terms.noise).square().sum((1, 2)))
    torch.testing.assert_close(model.denoised(x_t, 0.3), model.denoised(x_t, torch.full((5,), 0.3)))
    gradients = torch.autograd.grad(terms.denoised.sum(), list(model.network.last[2].parameters()))
    assert all(gradient.any() for gradient in gradients)


def test_training_learns_two_circles():
    data, unseen = two_circles(10_000, "train"), two_circles(2000, "test")
    torch.manual_seed(0)
    model = Diffusion(ResidualMLP((2,), width=64, blocks=2), (2,)).fit_scale(data)

    def unseen_error():
        stream = generator(0, "error")
        return model.loss_terms(
            unseen, model.sample_sigma(2000, stream), torch.randn(2000, 2, generator=stream)
        ).error.mean()

    before = unseen_error().item()
    average, optimizer, stream = ema(model), torch.optim.Adam(model.parameters(), lr=2e-3), generator(0, "training")
    for _ in range(600):
        x = data[torch.randint(len(data), (128,), generator=stream)]
        error = model.loss_terms(x, model.sample_sigma(128, stream), torch.randn(x.shape, generator=stream)).error.mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        average.update_parameters(model)
    assert unseen_error().item() < 0.9 * before
    gaussian = data.mean(0) + torch.randn(2000, 2, generator=stream) @ torch.linalg.cholesky(data.T.cov()).T
    samples = average.module.sample(2000, generator(0, "sampling"))
    assert energy_distance(samples, unseen) < 0.15 * energy_distance(gaussian, unseen)


def test_average_follows_the_weights():
    model = nn.Linear(1, 1, bias=False)
    average, expected = ema(model, decay=0.6), None
    for n in range(20):
        nn.init.constant_(model.weight, float(n))
        average.update_parameters(model)
        decay = min(0.6, (1 + n) / (10 + n))
        expected = n if expected is None else decay * expected + (1 - decay) * n
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-6)
    again = ema(nn.Linear(1, 1, bias=False), decay=0.6)
    again.load_state_dict(average.state_dict())
    nn.init.constant_(model.weight, -1.0)
    for each in (average, again):
        each.update_parameters(model)
    assert torch.equal(again.module.weight, average.module.weight)
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_weights_and_scale_come_back_from_a_checkpoint():
    model = Diffusion(ResidualMLP((2,), width=8, blocks=1), (2,)).fit_scale(4 + 3 * torch.randn(100, 2))
    nn.init.normal_(model.network.last[2].weight)
    again = Diffusion(ResidualMLP((2,), width=8, blocks=1), (2,))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.sample(4, generator(0), steps=3), model.sample(4, generator(0), steps=3))


def test_wrong_arguments_are_named():
    model = Diffusion(ResidualMLP((3,), width=8, blocks=1, classes=2), (3,))
    x, sigma, classes = torch.randn(4, 3), torch.ones(4), torch.tensor([0, 1, 1, 0])
    model.loss_terms(x, sigma, x, classes)
    with pytest.raises(ValueError, match=r"x: wanted items of shape \(batch, 3\), got \(4, 2\)"):
        model.loss_terms(x[:, :2], sigma, x, classes)
    with pytest.raises(ValueError, match=r"noise: wanted the shape of x, \(4, 3\), got \(2, 3\)"):
        model.loss_terms(x, sigma, x[:2], classes)
    with pytest.raises(ValueError, match="x_t: wanted finite numbers, got NaN or infinity in item 2"):
        model.loss_terms(x.index_fill(0, torch.tensor([2]), math.nan), sigma, x, classes)
    with pytest.raises(ValueError, match=r"sigma: wanted noise levels above 0, got -1.0"):
        model.denoised(x, torch.tensor([1.0, 2.0, -1.0, 0.5]), classes)
    with pytest.raises(ValueError, match=r"sigma: wanted one noise level for each of 4 items, got shape \(2,\)"):
        model(x, sigma[:2], classes)
    with pytest.raises(ValueError, match=r"condition: wanted the class of each of 5 items, integers from 0 to 1, got None"):
        model.sample(5)
    with pytest.raises(ValueError, match="steps: wanted at least 1, got 0"):
        model.sample(4, steps=0, condition=classes)
    with pytest.raises(ValueError, match="count: wanted at least 1, got 0"):
        model.sample(0)
    with pytest.raises(ValueError, match="churn: wanted a number of at least 0, got -1"):
        model.sample(4, churn=-1, condition=classes)
    with pytest.raises(ValueError, match="sampler: wanted one of 'heun', 'euler', got 'ddim'"):
        model.sample(4, sampler="ddim", condition=classes)
    with pytest.raises(ValueError, match="schedule: wanted one of 'lognormal', 'loguniform', got 'cosine'"):
        Diffusion(nn.Identity(), (3,), schedule="cosine")
    with pytest.raises(ValueError, match="sigma_min, sigma_max: wanted 0 < sigma_min < sigma_max, got 2 and 1"):
        Diffusion(nn.Identity(), (3,), sigma_min=2, sigma_max=1)
    with pytest.raises(ValueError, match="items: wanted items that differ from each other, got 6 equal ones"):
        model.fit_scale(torch.ones(6, 3))
    with pytest.raises(ValueError, match="items: wanted finite numbers, got NaN or infinity in item 0"):
        model.fit_scale(torch.full((6, 3), math.inf))
    with pytest.raises(ValueError, match=r"decay: wanted a number in \[0, 1\), got 1"):
        ema(model, decay=1)
