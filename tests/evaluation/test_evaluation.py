from __future__ import annotations

import math

import pytest
import torch

from topo_utils import evaluation
from topo_utils.datasets import load
from topo_utils.metrics import METRICS, described
from topo_utils.models.features import Classifier
from topo_utils.models.vae import VAE, Posterior


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
    with pytest.raises(ValueError, match="steps: wanted at least 3, got 2"):
        evaluation.cycle_error(model, items, steps=2)


def test_evaluate_gives_described_metrics_reproducibly(digits, features):
    data = load("digits", "test", limit=60)
    model, judge = VAE(data.shape, 5), Classifier(data.shape, 10).eval().requires_grad_(False)
    metrics = evaluation.evaluate(model, data, digits[0], features, judge)
    assert all(map(described, metrics))
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
    assert set(good) == set(made) <= set(METRICS)
    better = {"valid", "unique", "novel", "connected"}
    for key, value in perfect.items():
        assert good[key] == pytest.approx(value, abs=0.1 * (key not in better) + 1e-6)
    for key, value in bad.items():
        assert made[key] <= value if key in better else made[key] >= value
