"""Measures of an embedding: against scikit-learn, by hand, and at their ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.manifold import trustworthiness
from torch import nn

from topo_utils.datasets import from_tensors
from topo_utils.evaluation import latent_quality, neighbourhoods_kept
from topo_utils.metrics import metric
from topo_utils.models.vae import Posterior


def points(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def ranks(x):
    """Rank of j among the others of i by distance, from 1."""
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    found = np.zeros(distances.shape, int)
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        for place, j in enumerate(sorted(others, key=lambda j: distances[i, j])):
            found[i, j] = place + 1
    return found


def test_all_measures_by_hand():
    x, z, k = points(14, 3).double(), points(14, 2, 1).double(), 3
    found = neighbourhoods_kept(x, z, k)
    assert all(metric(name) for name in found)
    a, b = ranks(x.numpy()), ranks(z.numpy())
    total = 14 * sum(abs(2 * j - 14 - 1) / j for j in range(1, k + 1))
    pairs = [(i, j) for i in range(14) for j in range(14) if i != j]
    assert found["mrre_data"] == pytest.approx(sum(abs(a[p] - b[p]) / a[p] for p in pairs if a[p] <= k) / total)
    assert found["mrre_latent"] == pytest.approx(sum(abs(a[p] - b[p]) / b[p] for p in pairs if b[p] <= k) / total)
    penalty = 2 / (14 * k * (2 * 14 - 3 * k - 1))
    intruders = sum(a[p] - k for p in pairs if b[p] <= k < a[p])
    missing = sum(b[p] - k for p in pairs if a[p] <= k < b[p])
    assert found["trustworthiness"] == pytest.approx(1 - penalty * intruders)
    assert found["continuity"] == pytest.approx(1 - penalty * missing)
    for percent in (1, 10, 100):
        densities = []
        for each in (x, z):
            d = np.linalg.norm(each.numpy()[:, None] - each.numpy()[None], axis=-1)
            f = np.exp(-((d / d.max()) ** 2) / (percent / 100)).sum(1)
            densities.append(f / f.sum())
        wanted = sum(p * math.log(p / q) for p, q in zip(*densities, strict=True))
        assert found[f"density_kl_{percent}"] == pytest.approx(wanted)


@given(st.integers(0, 1000), st.integers(25, 60))
def test_they_are_those_of_scikit_learn_and_best_for_a_similarity(seed, n):
    x, z = points(n, 4, seed), points(n, 2, seed + 1)
    found = neighbourhoods_kept(x, z)
    assert found["trustworthiness"] == pytest.approx(trustworthiness(x.numpy(), z.numpy(), n_neighbors=10))
    best = neighbourhoods_kept(x.double(), 3 * x.double().flip(1) + 1)
    assert best["trustworthiness"] == best["continuity"] == 1
    assert best["mrre_data"] == best["mrre_latent"] == 0
    assert best["density_kl_10"] == pytest.approx(0, abs=1e-12)
    assert found["mrre_data"] > 0.1


def test_collapsed_codes_are_measured_too():
    found = neighbourhoods_kept(points(30, 3), torch.zeros(30, 2))
    assert all(math.isfinite(value) for value in found.values())
    assert found["density_kl_10"] > 0


class Halved(nn.Module):
    def encode(self, x):
        return Posterior(x / 2, torch.zeros_like(x))


def labelled(n, seed, classes=2, split="train"):
    x = points(n, 2, seed)
    labels = torch.arange(n) % classes
    return from_tensors(x + 20 * labels[:, None], "points", labels=labels, split=split)


def test_classes_that_are_far_apart_are_found_by_neighbours():
    found = latent_quality(Halved(), labelled(60, 1, split="test"), labelled(80, 0))
    assert found["knn_accuracy"] == 1
    assert found["trustworthiness"] == pytest.approx(1, abs=1e-3)
    mixed = from_tensors(points(400, 2, 3), "points", labels=torch.arange(400) % 2)
    other = from_tensors(points(400, 2, 4), "points", labels=torch.arange(400) % 2, split="test")
    assert latent_quality(Halved(), other, mixed)["knn_accuracy"] == pytest.approx(0.5, abs=0.1)


def test_no_accuracy_without_classes_that_were_seen():
    train = labelled(80, 0)
    assert "knn_accuracy" not in latent_quality(Halved(), labelled(60, 1, 3, "test"), train)
    assert "knn_accuracy" not in latent_quality(Halved(), labelled(60, 1, 1, "test"), train)


def test_at_most_a_thousand_items_are_looked_at():
    data = labelled(1500, 1, split="test")
    assert latent_quality(Halved(), data, labelled(80, 0), 1) == latent_quality(Halved(), data, labelled(80, 0), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((points(20, 2), points(20, 2)), "x and z: wanted as many rows, more than 20, got"),
        ((points(30, 2), points(29, 2)), "x and z"),
        ((points(30, 2) * torch.nan, points(30, 2)), "x: wanted finite"),
        ((points(30, 2), points(30, 2), 0), "k: wanted"),
    ],
)
def test_bad_points_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        neighbourhoods_kept(*arguments)
