from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from topo_utils import evaluation, runs
from topo_utils.datasets import load
from topo_utils.models.diffusion import Diffusion
from topo_utils.models.features import Classifier
from topo_utils.models.unet import ResidualMLP, UNet
from topo_utils.models.vae import VAE, Posterior
from topo_utils.seed import generator


def test_frechet_distance_is_the_formula():
    real, generated = torch.randn(300, 4), 1.5 * torch.randn(200, 4) + 1
    x, y = real.double().numpy(), generated.double().numpy()
    root = sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    assert evaluation.frechet_distance(real, generated) == pytest.approx(expected, rel=1e-6)
    assert evaluation.frechet_distance(real, real) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_names_bad_features():
    good = torch.randn(5, 3)
    with pytest.raises(ValueError, match="generated: wanted at least 2 rows of 3 features"):
        evaluation.frechet_distance(good, torch.randn(5, 2))
    bad = good.clone()
    bad[2, 1] = torch.nan
    with pytest.raises(ValueError, match="real: wanted finite features, got 1"):
        evaluation.frechet_distance(bad, good)


def test_bottleneck_distances_of_equal_and_of_different_clouds():
    cloud = torch.randn(300, 2)
    same = evaluation.bottleneck_distances(cloud, torch.randn(300, 2), 40, 4)
    far = evaluation.bottleneck_distances(cloud, 5 * torch.randn(300, 2), 40, 4)
    assert same["bottleneck_h0_floor"] == far["bottleneck_h0_floor"]
    assert same["bottleneck_h0"] < 2 * same["bottleneck_h0_floor"]
    assert far["bottleneck_h0"] > 2 * same["bottleneck_h0"]
    with pytest.raises(ValueError, match="cloud_size: wanted at most half the 300"):
        evaluation.bottleneck_distances(cloud, cloud, 200)


def test_linear_paths_keep_their_ends():
    start, end = torch.randn(3, 4), torch.randn(3, 4)
    path = evaluation.linear_path(start, end, 5)
    assert path.shape == (3, 5, 4)
    torch.testing.assert_close(path[:, 0], start)
    torch.testing.assert_close(path[:, -1], end)
    torch.testing.assert_close(path[:, 2], (start + end) / 2)
    with pytest.raises(ValueError, match="steps: wanted at least 2"):
        evaluation.linear_path(start, end, 1)
    with pytest.raises(ValueError, match="same shape"):
        evaluation.linear_path(start, end[:2], 3)


class Cycle(VAE):
    """Decodes a code to an image that it encodes to the code plus ``error``."""

    error = 0.0

    def encode(self, x):
        return Posterior(x.flatten(1)[:, :4] + self.error, torch.zeros(len(x), 4))

    def parameters_of(self, z):
        return torch.logit(torch.nn.functional.pad(z, (0, 12), value=0.5).view(-1, 1, 4, 4))


def test_the_cycle_error_is_the_squared_distance_after_one_cycle():
    model, items = Cycle((1, 4, 4), 4), 0.2 + 0.6 * torch.rand(10, 1, 4, 4)
    assert evaluation.cycle_error(model, items) == pytest.approx(0, abs=1e-9)
    model.error = 0.05
    assert evaluation.cycle_error(model, items) == pytest.approx(4 * 0.05**2, rel=1e-4)
    with pytest.raises(ValueError, match="3 steps or more"):
        evaluation.cycle_error(model, items, steps=2)


DOMAIN_METRICS = {
    *("valid", "unique", "novel", "bond_error", "nearest_rmsd"),
    *("connected", "degree_distance", "clustering_distance", "off_manifold"),
}


def test_evaluate_gives_described_metrics_reproducibly(digits, features):
    data = load("digits", "test", limit=60)
    model, judge = VAE(data.shape, 5), Classifier(data.shape, 10).eval().requires_grad_(False)
    metrics = evaluation.evaluate(model, data, digits[0], features, judge)
    of_wanted_numbers = {name for name in runs.DESCRIPTIONS if name.startswith("betti_")}
    assert set(metrics) == set(runs.DESCRIPTIONS) - DOMAIN_METRICS - of_wanted_numbers
    assert len(set(runs.DESCRIPTIONS.values())) == len(runs.DESCRIPTIONS)
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics == evaluation.evaluate(model, data, digits[0], features, judge)


@pytest.mark.parametrize(
    ("name", "perfect", "bad"),
    [
        ("nci", {"valid": 1, "unique": 1, "novel": 1}, {"valid": 0, "unique": 0, "novel": 0}),
        ("adk", {"bond_error": 0.1}, {"bond_error": 3}),
        (
            "social",
            {"connected": 1, "degree_distance": 0, "clustering_distance": 0},
            {"connected": 0, "degree_distance": 2},
        ),
        ("torus", {"off_manifold": 0.05}, {"off_manifold": 0.3}),
    ],
)
def test_real_items_are_good_samples_and_noise_is_not(name, perfect, bad):
    """Real items that the training has not seen, against what a model makes that has learned nothing."""
    train, test = load(name, "train"), load(name, "test")
    good = evaluation.sample_quality(test.items[:60], test.take(torch.arange(min(60, len(test)))), train)
    made = evaluation.sample_quality(torch.zeros_like(test.items[:60]), test, train)
    assert set(good) == set(made) <= set(runs.DESCRIPTIONS)
    better = {"valid", "unique", "novel", "connected"}
    for key, value in perfect.items():
        assert good[key] == pytest.approx(value, abs=0.1 * (key not in better) + 1e-6)
    for key, value in bad.items():
        assert made[key] <= value if key in better else made[key] >= value


def test_domains_without_such_metrics_have_none(digits):
    assert evaluation.sample_quality(digits[1].items, digits[1], digits[0]) == {}


def test_samples_of_a_diffusion_model(digits):
    model = Diffusion(UNet((1, 28, 28), 8), (1, 28, 28)).fit_scale(digits[0].items)
    samples = evaluation.sample(model, 3, seed=1)
    assert samples.shape == (3, 1, 28, 28)
    assert torch.equal(samples, evaluation.sample(model, 3, seed=1))


def test_samples_are_of_the_classes_that_were_asked_for():
    model = Diffusion(ResidualMLP((8,), 16, classes=3), (8,)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    asked = torch.arange(502) % 3  # more than are made at once; their noise fills blocks of 16, which randn draws alike
    with torch.no_grad():
        at_once = model.sample(502, generator(1, "samples"), condition=asked)
    torch.testing.assert_close(evaluation.sample(model, 502, seed=1, condition=asked), at_once)
    with pytest.raises(ValueError, match=r"condition: wanted one class for each of 4 items .*, got \(502,\)"):
        evaluation.sample(model, 4, condition=asked)
    with pytest.raises(ValueError, match=r"condition: wanted one class .* for a VAE"):
        evaluation.sample(VAE((2,), 2, "points", 4), 4, condition=asked[:4])
    with pytest.raises(ValueError, match=r"condition: wanted one class .*got \[0, 1\] for a Diffusion"):
        evaluation.sample(model, 2, condition=[0, 1])
    with pytest.raises(ValueError, match="count: wanted"):
        evaluation.sample(model, 0)
